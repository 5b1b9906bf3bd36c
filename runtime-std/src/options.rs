//! What was asked for, checked.

use crate::commands::{BENCH, LOGITS, RUN, VERIFY};
use crate::exit::{Failure, Outcome};
use crate::fence::Sandbox;
use crate::full_context::Policy;
use crate::models::{self, Source};
use crate::pack::{Head, target::Target};
use std::ffi::OsString;
use std::path::PathBuf;
use trill::gguf::I2sLayout;
use trill::kv_cache::KvType;
use trill::quant::QuantType;
use trill::sampler::SamplerConfig;

/// How much goes to standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verbosity {
    /// Errors only.
    Quiet,
    /// Warnings and what the user should know.
    Normal,
    /// Timings and choices made.
    Verbose,
}

/// Everything that can be asked for, checked.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) command: &'static str,
    pub(crate) model: Option<PathBuf>,
    /// Absent: the model's own, at most 4096.
    pub(crate) context: Option<usize>,
    pub(crate) threads: Option<usize>,
    pub(crate) batch: Option<usize>,
    pub(crate) cache_k: KvType,
    pub(crate) cache_v: KvType,
    /// Seed of random signs of activations, for true-binary weights; absent: the sign as it is.
    pub(crate) stochastic_signs: Option<u64>,
    pub(crate) mlock: bool,
    pub(crate) mmap: bool,
    pub(crate) i2s: I2sLayout,
    /// The SHA-256 that the model must have, in lower-case hexadecimal.
    pub(crate) sha256: Option<String>,
    /// The minisign key, or its file, by which the model must be signed.
    pub(crate) key: Option<OsString>,
    /// Absent: beside the model.
    pub(crate) signature: Option<PathBuf>,
    /// What is refused once the model is loaded.
    pub(crate) sandbox: Sandbox,
    pub(crate) json: bool,
    pub(crate) verbosity: Verbosity,
    pub(crate) prompt: Option<String>,
    /// Print the prompt before what follows it.
    pub(crate) echo: bool,
    pub(crate) file: Option<PathBuf>,
    pub(crate) system: Option<String>,
    pub(crate) chat: bool,
    /// Whether the model is to think before it answers, where its template has a switch; absent: as the template says.
    pub(crate) think: Option<bool>,
    pub(crate) escapes: bool,
    /// The file that keeps the session.
    pub(crate) session: Option<PathBuf>,
    /// Keep nothing, not even of conversations at a terminal.
    pub(crate) no_session: bool,
    /// Absent: until the model ends its text or the context is full.
    pub(crate) predict: Option<usize>,
    pub(crate) seed: Option<u64>,
    /// How tokens are chosen; the seed is set when it is known.
    pub(crate) sampling: SamplerConfig,
    pub(crate) ignore_eos: bool,
    /// When the context is full. Absent: a conversation slides, a text stops.
    pub(crate) context_policy: Option<Policy>,
    /// Tokens of the prompt that sliding keeps; absent: the beginning-of-text token, or all that a template writes.
    pub(crate) keep: Option<i64>,
    /// Leave weights unread that a squared ReLU multiplies by zero.
    pub(crate) ffn_skip: bool,
    /// Read the rows of the output head that a sketch leaves over, where the model has one.
    pub(crate) head_screen: bool,
    /// Guess tokens ahead where that is faster.
    pub(crate) draft: bool,
    pub(crate) tokens: Vec<u32>,
    pub(crate) all: bool,
    pub(crate) jsonl: bool,
    pub(crate) no_bos: bool,
    pub(crate) parse_special: bool,
    pub(crate) weights: bool,
    /// Words without a flag after the model.
    pub(crate) operands: Vec<OsString>,
    /// Name of the pre-tokenizer that a converted model is to have.
    pub(crate) pre: Option<String>,
    pub(crate) group_size: Option<usize>,
    /// One type for every matrix.
    pub(crate) pure: bool,
    /// Overwrite OUT; quantize: also write a type that spoils the weights.
    pub(crate) force: bool,
    pub(crate) output_type: Option<QuantType>,
    pub(crate) embedding_type: Option<QuantType>,
    /// Absent: int8 rows, if that makes it smaller.
    pub(crate) pack_head: Option<Head>,
    /// Absent: this machine.
    pub(crate) pack_for: Option<Target>,
    pub(crate) no_sketch: bool,
    pub(crate) repetitions: usize,
    pub(crate) bench_prompt: usize,
    pub(crate) bench_generate: usize,
    pub(crate) bench_depth: usize,
    /// Layers asked to go to a GPU.
    pub(crate) gpu_layers: i64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            command: "",
            model: None,
            context: None,
            threads: None,
            batch: None,
            cache_k: KvType::F16,
            cache_v: KvType::F16,
            stochastic_signs: None,
            mlock: false,
            mmap: true,
            i2s: I2sLayout::X86,
            sha256: None,
            key: None,
            signature: None,
            sandbox: Sandbox::On,
            json: false,
            verbosity: Verbosity::Normal,
            prompt: None,
            echo: false,
            file: None,
            system: None,
            chat: false,
            think: None,
            escapes: false,
            session: None,
            no_session: false,
            predict: None,
            seed: None,
            sampling: SamplerConfig::default(),
            ignore_eos: false,
            context_policy: None,
            keep: None,
            ffn_skip: true,
            head_screen: true,
            draft: true,
            tokens: Vec::new(),
            all: false,
            jsonl: false,
            no_bos: false,
            parse_special: false,
            weights: false,
            operands: Vec::new(),
            pre: None,
            group_size: None,
            pure: false,
            force: false,
            output_type: None,
            embedding_type: None,
            pack_head: None,
            pack_for: None,
            no_sketch: false,
            repetitions: 5,
            bench_prompt: 512,
            bench_generate: 128,
            bench_depth: 0,
            gpu_layers: 0,
        }
    }
}

impl Options {
    /// What no single flag can know.
    pub(crate) fn check(&self) -> Outcome {
        if self.command == RUN.name && self.prompt.is_some() && self.file.is_some() {
            return Err(Failure::usage("-p and -f both give the text").remedy("leave one out"));
        }
        if self.command == RUN.name && self.context_policy == Some(Policy::Summarise) {
            return Err(
                Failure::usage("--context-policy summarise is for conversations").remedy("use slide, or trill chat")
            );
        }
        if self.command == LOGITS.name && self.tokens.is_empty() {
            return Err(Failure::usage("no tokens given").remedy("add --tokens 1,2,3 (trill tokenize makes them)"));
        }
        if self.session.is_some() && self.no_session {
            return Err(Failure::usage("--session and --no-session contradict each other").remedy("leave one out"));
        }
        if self.signature.is_some() && self.key.is_none() {
            let flag = if self.command == VERIFY.name { "--key" } else { "--require-signature" };
            return Err(Failure::usage("--signature needs the key it is to be by").remedy(format!("add {flag} KEY")));
        }
        if self.session.is_some() && self.all {
            return Err(Failure::usage("--all computes every position").remedy("leave --session out"));
        }
        if self.command == BENCH.name && self.bench_prompt == 0 && self.bench_generate == 0 {
            return Err(Failure::usage("-p 0 -n 0 leaves nothing to measure"));
        }
        Ok(())
    }

    /// The text of `-p`.
    pub(crate) fn prompt_text(&self) -> Option<String> {
        self.prompt.as_deref().map(|text| self.read_escapes(text))
    }

    /// The system message of `-sys`.
    pub(crate) fn system_text(&self) -> Option<String> {
        self.system.as_deref().map(|text| self.read_escapes(text))
    }

    fn read_escapes(&self, text: &str) -> String {
        if self.escapes { crate::input::unescape(text) } else { text.to_owned() }
    }

    /// What `trill` without any argument does where it does not start a conversation but holds a model: it tells a story.
    pub(crate) fn story() -> Option<Options> {
        matches!(models::find(None), Ok(Source::BuiltIn)).then(|| Options {
            command: RUN.name,
            prompt: Some(models::OPENING.to_owned()),
            echo: true,
            ..Options::default()
        })
    }

    /// Whether `trill` without any argument starts a conversation: on a terminal, with a model at hand.
    pub(crate) fn talks_by_default(&self) -> bool {
        crate::host::is_terminal(0) && crate::host::is_terminal(1) && matches!(models::find(None), Ok(Source::File(_)))
    }
}
