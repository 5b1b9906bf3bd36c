//! From a file to a model that runs: open, measure, reserve, carve. Everything made here lives until the
//! program ends, because a process runs one model.

use crate::authentic;
use crate::exit::{Code, Failure, Outcome};
use crate::fence;
use crate::host::affinity::Cores;
use crate::host::clock::Stopwatch;
use crate::host::memory::{self, Arena, Block, Limits, Resident};
use crate::host::mmap::{self, ModelFile};
use crate::host::threads::Pool;
use crate::host::{allocations, cpu, signal};
use crate::models::{self, Source};
use crate::options::{Options, Verbosity};
use crate::plan::{Estimate, Plan};
use crate::report::progress::Progress;
use crate::session::{Keeper, Saved, State};
use crate::template::Message;
use std::ops::{ControlFlow, Range};
use std::path::PathBuf;
use trill::draft;
use trill::gguf::Gguf;
use trill::kernels::Kernels;
use trill::limits::{BATCH_MAX, GUESSES_MAX};
use trill::mem::Carver;
use trill::model::known::{self, Change, Repair};
use trill::model::{Hparams, Model};
use trill::session::{Session, SessionConfig};
use trill::tokenizer::{Tokenizer, TokenizerOptions};

/// Tokens of context if neither the user nor the model asks for less.
const CONTEXT_DEFAULT: usize = 4096;
/// Tokens read together from which on the time is worth noting.
const TIMED_TOKENS: usize = 8;
/// Rows of each matrix that every start looks at for damage: the first and one more.
const ROWS_LOOKED_AT: usize = 2;
/// Tokens guessed ahead, at most.
pub(crate) const DRAFT_TOKENS: usize = 3;
const _: () = assert!(DRAFT_TOKENS <= GUESSES_MAX);
/// Tokens read together by default: beyond this, reading gets no faster and memory grows.
const BATCH_DEFAULT: usize = 256;

/// A model file, parsed.
pub(crate) struct Opened {
    pub(crate) path: PathBuf,
    pub(crate) file: ModelFile,
    pub(crate) gguf: Gguf<'static>,
    /// Bytes of the index over the file.
    pub(crate) index_bytes: usize,
    /// What has to be put right in it.
    pub(crate) repairs: Vec<Repair<'static>>,
}

/// Opens and parses the model that the options name. Its bytes are mapped: [`load`] copies them where that is asked
/// for, once it is known that there is room.
pub(crate) fn open(options: &Options) -> Outcome<Opened> {
    let (path, file) = find(options)?;
    if authentic::is_asked_for(options) {
        file.must_be_whole().map_err(|f| f.about(&path))?;
        authentic::check(options, &path, file.bytes)?;
    }
    Opened::parse(options, path, file)
}

/// Maps the file that the options name.
pub(crate) fn find(options: &Options) -> Outcome<(PathBuf, ModelFile)> {
    match models::find(options.model.as_deref())? {
        Source::File(path) => {
            let file = mmap::open(&path)?;
            Ok((path, file))
        }
        Source::BuiltIn => {
            log::info!("no model is given: the tiny story model in this program is used; -m FILE names another");
            Ok((PathBuf::from("built-in-model"), ModelFile::in_program(models::built_in().unwrap_or_default())))
        }
    }
}

/// The same, for commands that read the weights but do not run the model: a copy is made at once if it is asked for.
pub(crate) fn open_to_read(options: &Options) -> Outcome<Opened> {
    let mut opened = open(options)?;
    if options.mmap {
        opened.file.must_be_whole().map_err(|f| f.about(&opened.path))?;
    } else {
        let copy = Block::reserve(opened.length()?).map_err(|f| f.about(&opened.path))?.leak();
        opened.copy(options, copy)?;
    }
    Ok(opened)
}

/// Runs `layout` twice: to measure, then over memory of exactly that size. If it cannot be had, nothing has
/// been loaded.
pub(crate) fn carve<T>(layout: impl Fn(&mut Carver<'static>) -> Outcome<T>) -> Outcome<T> {
    let mut measure = Carver::measure();
    layout(&mut measure)?;
    let memory = Arena::reserve(measure.used())?.leak();
    let mut carver = Carver::over(memory)?;
    let made = layout(&mut carver)?;
    assert_eq!(carver.used(), measure.used(), "the same layout code takes the same memory");
    Ok(made)
}

impl Opened {
    fn parse(options: &Options, path: PathBuf, mut file: ModelFile) -> Outcome<Opened> {
        let about = |failure: Failure| failure.about(&path);
        let parse = |file: &ModelFile| -> Outcome<trill::Result<(usize, Gguf<'static>)>> {
            let index_bytes = match Gguf::index_bytes(file.bytes) {
                Ok(bytes) => bytes,
                Err(e) => return Ok(Err(e.into())),
            };
            let index = Arena::reserve(index_bytes)?.leak();
            let gguf = Gguf::parse_start(file.bytes, file.length, options.i2s, &mut Carver::over(index)?);
            Ok(gguf.map(|gguf| (index_bytes, gguf)))
        };
        let (index_bytes, gguf) = loop {
            match parse(&file).map_err(about)? {
                // The metadata goes on after what is mapped.
                Err(trill::Error::Gguf(e)) if e.defect.is_short() && !file.is_whole() => {
                    file = file.longer().map_err(about)?;
                }
                parsed => break parsed.map_err(|e| about(e.into()))?,
            }
        };
        let repairs = known::repairs(&gguf).map_err(|e| about(e.into()))?.to_vec();
        Ok(Opened { path, file, gguf, index_bytes, repairs })
    }

    /// Bytes of the file.
    pub(crate) fn length(&self) -> Outcome<usize> {
        usize::try_from(self.file.length)
            .map_err(|_| Failure::new(Code::Memory, "is larger than this machine's address space").about(&self.path))
    }

    /// From now on the model is a copy in `memory`, which has the file's length.
    fn copy(&mut self, options: &Options, memory: &'static mut [u8]) -> Outcome {
        let file = self.file.copy(memory).map_err(|f| f.about(&self.path))?;
        // The file may have changed since it was mapped: what counts is what was copied.
        authentic::check(options, &self.path, file.bytes)?;
        *self = Opened::parse(options, std::mem::take(&mut self.path), file)?;
        Ok(())
    }

    /// The same bytes, parsed as other options say.
    pub(crate) fn again(&self, options: &Options) -> Outcome<Opened> {
        Opened::parse(options, self.path.clone(), ModelFile::in_program(self.file.bytes))
    }

    /// The vocabulary, put right where the file is known to be wrong.
    pub(crate) fn tokenizer(&self, carver: &mut Carver<'static>) -> Outcome<Tokenizer<'static>> {
        let pre = self.repairs.iter().find_map(|r| match r.change {
            Change::PreTokenizer(name) => Some(name),
            _ => None,
        });
        let ends = self.stop_tokens();
        let options = TokenizerOptions { pre_override: pre, extra_eog: &ends };
        Tokenizer::load(&self.gguf, options, carver).map_err(|e| Failure::from(e).about(&self.path))
    }

    /// Tokens that end an answer although the file does not say so.
    fn stop_tokens(&self) -> Vec<u32> {
        let tokens = self.gguf.array(trill::gguf::keys::tokenizer::TOKENS).ok().flatten();
        let texts = self.repairs.iter().filter_map(|r| match r.change {
            Change::StopToken(text) => Some(text),
            _ => None,
        });
        let position = |text: &str| tokens.and_then(|t| t.strings())?.position(|t| t == text.as_bytes());
        texts.filter_map(|text| u32::try_from(position(text)?).ok()).collect()
    }

    /// The chat template, put right where the file is known to be wrong.
    pub(crate) fn template(&self) -> Outcome<Option<&'static str>> {
        let repaired = self.repairs.iter().find_map(|r| match r.change {
            Change::ChatTemplate(text) => Some(text),
            _ => None,
        });
        match repaired {
            Some(text) => Ok(Some(text)),
            None => Ok(self.gguf.str(trill::gguf::keys::tokenizer::CHAT_TEMPLATE)?),
        }
    }

    /// The model's name, as the file or else the file's name gives it.
    pub(crate) fn title(&self) -> String {
        let named = self.gguf.str(trill::gguf::keys::NAME).ok().flatten();
        let file = self.path.file_stem().unwrap_or_default().to_string_lossy();
        named.map_or_else(|| file.into_owned(), str::to_owned)
    }

    pub(crate) fn hparams(&self) -> Outcome<Hparams> {
        Hparams::read(&self.gguf).map_err(|e| Failure::from(e).about(&self.path))
    }

    fn model(&self, carver: &mut Carver<'static>) -> Outcome<&'static Model<'static>> {
        let model = Model::load(&self.gguf, carver).map_err(|e| Failure::from(e).about(&self.path))?;
        Ok(Box::leak(Box::new(model)))
    }
}

/// Sizes of a session and the kernels it runs on.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) kernels: Kernels,
    pub(crate) config: SessionConfig,
}

impl Setup {
    /// What the options ask for, or else what suits the model and the machine.
    pub(crate) fn new(options: &Options, opened: &Opened, cores: &Cores, logit_rows: usize) -> Outcome<Setup> {
        let kernels = cpu::kernels()?;
        let context_train = opened.hparams()?.context_train;
        let context = options.context.unwrap_or_else(|| context_train.clamp(1, CONTEXT_DEFAULT));
        if context > context_train {
            log::warn!("the model was trained for {context_train} tokens of context, {context} are asked for");
        }
        let threads = options.threads.unwrap_or_else(|| crate::tune::threads(cores));
        let batch = options.batch.unwrap_or(BATCH_DEFAULT);
        if batch > BATCH_MAX {
            log::debug!("-b {batch}: more than {BATCH_MAX} at a time gain nothing, {BATCH_MAX} are used");
        }
        let (cache_k, cache_v) = (options.cache_k, options.cache_v);
        let config = SessionConfig { context, batch, threads, logit_rows, cache_k, cache_v };
        Ok(Setup { kernels, config })
    }
}

/// A model with a session and threads.
pub(crate) struct Machine {
    pub(crate) model: &'static Model<'static>,
    pub(crate) session: Session<'static, 'static>,
    pub(crate) pool: Pool,
    /// The tokens in the session, in order; only the first `session.position()` count.
    held: Vec<u32>,
    /// Keeps the session in a file, if one was asked for.
    pub(crate) keeper: Keeper,
    /// Microseconds that reading a token took at last; 0 before anything was read.
    read_micros: u32,
    verbosity: Verbosity,
    allocations_at_start: u64,
}

/// Loads the model and what `more` lays out beside it (tokenizer, sampler): measured first, refused if it does not fit,
/// then carved from one block of exactly that size. `logit_rows` positions' logits are computed together.
pub(crate) fn load<T>(
    options: &Options,
    opened: &mut Opened,
    logit_rows: usize,
    more: impl Fn(&Opened, &Model<'_>, &mut Carver<'static>) -> Outcome<T>,
) -> Outcome<(Machine, T)> {
    let cores = Cores::find();
    let setup = Setup::new(options, opened, &cores, logit_rows)?;
    let plan = make_plan(options, opened, &setup, &|model, carver| more(opened, model, carver).map(|_| ()))?;
    if !plan.copied {
        opened.file.must_be_whole().map_err(|f| f.about(&opened.path))?;
    }
    let memory = Arena::reserve(plan.arena).map_err(|f| f.about(&opened.path))?.leak();
    if options.mlock {
        memory::lock(memory);
    }
    let mut carver = Carver::over(memory)?;
    if plan.copied {
        let copy = carver.take(opened.length()?, 0)?;
        opened.copy(options, copy)?;
    } else if options.mlock {
        opened.file.lock();
    }
    opened.file.read_scattered(true);
    let model = opened.model(&mut carver)?;
    let clock = Stopwatch::start();
    let more = more(opened, model, &mut carver)?;
    let vocabulary_ms = 1e3 * clock.seconds();
    let mut session = Session::new(model, setup.kernels, setup.config, &mut carver)?;
    assert_eq!(carver.used(), plan.arena, "the same layout code takes the same memory");
    let clock = Stopwatch::start();
    model.check_weights(ROWS_LOOKED_AT).map_err(|e| Failure::from(e).about(&opened.path))?;
    opened.file.read_scattered(false);
    log::debug!("vocabulary ready in {vocabulary_ms:.0} ms, weights looked at in {:.0} ms", 1e3 * clock.seconds());
    session.set_stochastic_signs(options.stochastic_signs);
    session.set_skip(options.ffn_skip);
    // Threads inherit the fence of the one that starts them.
    fence::close(options)?;
    let pool = Pool::new(setup.config.threads, &cores);
    let held = Vec::with_capacity(session.capacity());
    let threads = trill::parallel::Executor::threads(&pool);
    log::debug!("{} kernels, {threads} threads, {} tokens of context", setup.kernels.name(), session.capacity());
    if let Some(Resident { file, .. }) = Resident::read() {
        log::debug!("pages of files touched by loading: {} ({file} bytes)", memory::size(file));
    }
    let machine = Machine {
        model,
        session,
        pool,
        held,
        keeper: Keeper::off(),
        read_micros: 0,
        verbosity: options.verbosity,
        allocations_at_start: 0,
    };
    Ok((machine, more))
}

/// The plan of what is about to be loaded, told, and refused if it does not fit.
fn make_plan(
    options: &Options,
    opened: &Opened,
    setup: &Setup,
    more: &dyn Fn(&Model<'_>, &mut Carver<'static>) -> Outcome,
) -> Outcome<Plan> {
    let estimate = Estimate::new(options, opened, more)?;
    let (plan, machine) = (estimate.plan(setup.config)?, Limits::read());
    estimate.check(&plan, &machine)?;
    if options.verbosity == Verbosity::Verbose {
        crate::commands::plan::table(&plan, &machine)
            .lines()
            .filter(|l| !l.is_empty())
            .for_each(|line| log::debug!("{line}"));
    } else if crate::host::is_terminal(2) {
        log::info!("{}", plan.line(&machine));
    }
    Ok(plan)
}

impl Machine {
    /// Makes the context begin as `tokens` do; returns how many of them need not be read. The last one must be: its
    /// logits are not kept.
    pub(crate) fn keep(&mut self, tokens: &[u32]) -> usize {
        let keep = self.session.truncate(self.shared(tokens).min(tokens.len().saturating_sub(1)));
        self.held.truncate(keep);
        keep
    }

    /// Reads `tokens` from the start of the context, except for what the session holds already, and returns
    /// the logits after the last one. At least one token must be given.
    pub(crate) fn read(&mut self, tokens: &[u32]) -> Outcome<&mut [f32]> {
        let keep = self.keep(tokens);
        let new = &tokens[keep..];
        self.held.extend_from_slice(new);
        let mut progress = Progress::new("reading the prompt", "tokens", new.len(), self.verbosity);
        let clock = Stopwatch::start();
        let logits = self.session.prefill(&self.pool, new, &mut |done| {
            progress.update(done);
            if signal::interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if new.len() >= TIMED_TOKENS {
            self.read_micros = (clock.seconds() / new.len() as f64 * 1e6) as u32;
        }
        Ok(logits)
    }

    /// Puts the first `keep` tokens of what was saved into the session, or somewhat fewer; returns how many.
    pub(crate) fn restore(&mut self, saved: &Saved, keep: usize) -> Outcome<usize> {
        let keep = saved.restore(&mut self.session, keep)?;
        self.held.clear();
        self.held.extend_from_slice(&saved.tokens()[..keep]);
        Ok(keep)
    }

    /// Saves the session, if it is kept. `after` are tokens of the text that it has not read yet, `messages` those of
    /// the conversation (absent: as they were); `durable`: so that it outlives a power cut.
    pub(crate) fn save(&mut self, after: &[u32], messages: Option<&[Message]>, durable: bool) {
        let held = &self.held[..self.session.position()];
        let state = State { session: &self.session, tokens: [held, after], messages, micros: self.read_micros };
        if self.keeper.save(&state, durable) {
            self.session.mark();
        }
    }

    /// Reads one more token and returns the logits after it.
    pub(crate) fn step(&mut self, token: u32) -> Outcome<&mut [f32]> {
        self.held.truncate(self.session.position());
        self.held.push(token);
        Ok(self.session.prefill(&self.pool, &[token], &mut |_| ControlFlow::Continue(()))?)
    }

    /// Reads `token` and a guess at what follows it, in one batch. `visit` gets the logits after each of them, in order,
    /// as long as it says true, and says whether the next guessed token is the one it chose; what was read beyond
    /// is forgotten. At most [`DRAFT_TOKENS`] may be guessed.
    pub(crate) fn step_ahead(
        &mut self,
        token: u32,
        guess: &[u32],
        visit: &mut dyn FnMut(usize, &mut [f32]) -> Outcome<bool>,
    ) -> Outcome {
        if guess.is_empty() {
            return visit(0, self.step(token)?).map(|_| ());
        }
        let before = self.session.position();
        self.held.truncate(before);
        self.held.push(token);
        self.held.extend_from_slice(guess);
        let mut failed = None;
        let right = self.session.verify(&self.pool, &self.held[before..], &mut |i, logits| {
            visit(i, logits).unwrap_or_else(|failure| {
                failed = Some(failure);
                false
            })
        })?;
        self.held.truncate(before + right);
        failed.map_or(Ok(()), Err)
    }

    /// A guess at what follows `token`, which comes after what the session holds: how many tokens of `guess` were
    /// filled.
    pub(crate) fn guess(&mut self, token: u32, guess: &mut [u32]) -> usize {
        self.held.truncate(self.session.position());
        self.held.push(token);
        draft::propose(&self.held, guess)
    }

    /// How many of `tokens` the session holds already, from the start on.
    pub(crate) fn shared(&self, tokens: &[u32]) -> usize {
        // After an interruption the session holds less than was asked for.
        let held = self.held.iter().take(self.session.position());
        held.zip(tokens).take_while(|(a, b)| a == b).count()
    }

    /// Tokens of context left.
    pub(crate) fn room(&self) -> usize {
        self.session.capacity() - self.session.position()
    }

    /// Forgets the tokens at the positions of `gap`; those after it move down, and nothing is read again.
    pub(crate) fn forget(&mut self, gap: Range<usize>) {
        self.held.truncate(self.session.position());
        let gap = gap.start.min(self.held.len())..gap.end.min(self.held.len());
        self.session.forget(gap.start, gap.len());
        self.held.drain(gap);
    }

    /// Forgets what does not begin as `tokens` do.
    pub(crate) fn keep_first(&mut self, tokens: &[u32]) {
        let keep = self.session.truncate(self.shared(tokens));
        self.held.truncate(keep);
    }

    /// Empties the context.
    pub(crate) fn clear(&mut self) {
        self.session.truncate(0);
        self.held.clear();
    }

    /// From here on no allocation is expected.
    pub(crate) fn start_counting(&mut self) {
        if self.verbosity == Verbosity::Verbose {
            self.pool.wait_for_all();
        }
        self.allocations_at_start = allocations::count();
    }

    /// Says with `-v` what the run took.
    pub(crate) fn stop_counting(&self) {
        let count = allocations::count() - self.allocations_at_start;
        log::debug!("allocs since load: {count}");
        if let Some(Resident { peak, .. }) = Resident::read() {
            log::debug!("peak memory beyond files: {} ({peak} bytes)", memory::size(peak));
        }
    }
}
