//! `trill bench`: prefill and decode speed, measured as llama-bench does: neither tokenizing nor sampling
//! counts, and a warm-up comes first.

use super::Command;
use crate::engine::{self, Machine};
use crate::exit::Outcome;
use crate::host::clock::Stopwatch;
use crate::host::memory;
use crate::options::{Options, Verbosity};
use crate::report::{json, text};
use serde_json::json;
use trill::parallel::Executor;

pub(crate) const BENCH: Command = Command {
    name: "bench",
    summary: "measures how fast a model reads and writes",
    usage: "bench -m MODEL [-p TOKENS] [-n TOKENS] [-d TOKENS] [-t THREADS] [-r REPETITIONS] [--json]",
    notes: "pp is prefill (reading a prompt), tg is text generation; both in tokens per second.",
    bit: 1 << 2,
    takes_model: true,
    operands: &[],
    run,
};

struct Test {
    name: String,
    per_second: Vec<f64>,
}

fn run(options: &Options) -> Outcome {
    let mut opened = engine::open(options)?;
    // Room for the longer test, and the model's own limit does not matter to speed.
    let depth = options.bench_depth;
    let longest = depth + options.bench_prompt.max(options.bench_generate).max(1);
    let options = &Options { context: Some(options.context.unwrap_or(longest).max(longest)), ..options.clone() };
    let (mut machine, ()) = engine::load(options, &mut opened, 1, |_, _, _| Ok(()))?;
    let ids = tokens(&machine, longest);
    let (before, prompt) = (&ids[..depth], &ids[..depth + options.bench_prompt]);
    let generate = &ids[depth..depth + options.bench_generate];
    let (mut pp, mut tg) = (Vec::with_capacity(options.repetitions), Vec::with_capacity(options.repetitions));
    let mut plain = Vec::with_capacity(options.repetitions);
    let compare = options.verbosity == Verbosity::Verbose;
    machine.session.set_top(options.head_screen.then_some(1));
    warm_up(&mut machine, prompt, before)?;
    machine.start_counting();
    for _ in 0..if options.bench_prompt > 0 { options.repetitions } else { 0 } {
        pp.push(seconds(&mut machine, before, &mut |m| m.read(prompt).map(drop))?);
    }
    for _ in 0..if options.bench_generate > 0 { options.repetitions } else { 0 } {
        tg.push(seconds(&mut machine, before, &mut |m| generate.iter().try_for_each(|&id| m.step(id).map(drop)))?);
        if compare {
            plain.push(plain_read(&machine, options.head_screen));
        }
    }
    machine.stop_counting();
    say_roofline(&machine, &plain, tg.iter().map(|s| s / generate.len().max(1) as f64).collect());
    let tests: Vec<Test> =
        [Test::new("pp", options.bench_prompt, depth, &pp), Test::new("tg", options.bench_generate, depth, &tg)]
            .into_iter()
            .flatten()
            .collect();
    let threads = machine.pool.threads();
    let kernels = crate::host::cpu::kernels()?.name();
    if options.json {
        return json::print(&report(&tests, depth, threads, kernels));
    }
    let size = memory::size(opened.file.bytes.len() as u64);
    let mut rows = vec![["model", "size", "threads", "kernels", "test", "tokens/s"].map(String::from).to_vec()];
    for test in &tests {
        let (mean, stddev) = json::mean_stddev(&test.per_second);
        let model = opened.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let speed = format!("{mean:.2} ± {stddev:.2}");
        rows.push(vec![model, size.clone(), threads.to_string(), kernels.into(), test.name.clone(), speed]);
    }
    text::print(&text::table(&rows, &[1, 2, 5]))
}

impl Test {
    fn new(kind: &str, n: usize, depth: usize, seconds: &[f64]) -> Option<Test> {
        let per_second = seconds.iter().map(|s| n as f64 / s).collect();
        let at = if depth > 0 { format!(" @ d{depth}") } else { String::new() };
        (n > 0).then(|| Test { name: format!("{kind}{n}{at}"), per_second })
    }
}

/// Seconds that reading the bytes of a decode step takes when nothing is computed: the fastest of a few times.
fn plain_read(machine: &Machine, sketched: bool) -> f64 {
    let once = |_| {
        let clock = Stopwatch::start();
        std::hint::black_box(machine.model.read_weights(&machine.pool, sketched));
        clock.seconds()
    };
    (0..3).map(once).fold(f64::INFINITY, f64::min)
}

/// Says with `-v` what a token must stream from memory, by part: the floor of its time. `plain` holds the seconds of
/// plain reads of the same bytes, `decode` those of a token, in turns.
fn say_roofline(machine: &Machine, plain: &[f64], decode: Vec<f64>) {
    let (bytes, seen) = (machine.model.stream_bytes(), machine.session.screening());
    let mb = |n: usize| n as f64 / 1e6;
    log::debug!(
        "bytes a token streams: attention {:.1} MB, feed-forward {:.1} MB, head {:.1} MB (its sketch {:.1} MB)",
        mb(bytes.attention),
        mb(bytes.feed_forward),
        mb(bytes.head),
        mb(bytes.sketch)
    );
    if seen.tokens > 0 {
        let share = 100.0 * seen.rows as f64 / (seen.tokens * machine.model.hparams.n_vocab) as f64;
        log::debug!(
            "head screened for {} tokens: {share:.2} % of its rows read, the whole head for {} tokens",
            seen.tokens,
            seen.whole
        );
    }
    let streamed = bytes.attention + bytes.feed_forward + if seen.tokens > 0 { bytes.sketch } else { bytes.head };
    if let (Some(plain), Some(decode)) = (median(plain.to_vec()), median(decode)) {
        let speed = |seconds: f64| streamed as f64 / seconds / 1e9;
        log::debug!(
            "{:.1} MB a token: a plain read of them takes {:.2} ms ({:.1} GB/s), a token {:.2} ms ({:.1} GB/s, {:.0} %)",
            mb(streamed),
            1e3 * plain,
            speed(plain),
            1e3 * decode,
            speed(decode),
            100.0 * plain / decode
        );
    }
    say_skipping(machine);
}

/// Says what share of the up and down matrices was read, of all layers and of each.
fn say_skipping(machine: &Machine) {
    let (layers, width) = (machine.session.skipping(), machine.model.hparams.n_ff);
    let tokens = layers.first().map_or(0, |l| l.tokens);
    if tokens == 0 {
        return;
    }
    let share = |read: usize, of: usize| 100.0 * read as f64 / (of * tokens * width) as f64;
    let (rows, columns) = layers.iter().fold((0, 0), |(r, c), l| (r + l.rows, c + l.columns));
    log::debug!(
        "feed-forward of {tokens} tokens: {:.1} % of the up rows and {:.1} % of the down columns read",
        share(rows, layers.len()),
        share(columns, layers.len())
    );
    let each: Vec<_> =
        layers.iter().map(|l| l.shares()).map(|(up, down)| format!("{:.0}/{:.0}", 100.0 * up, 100.0 * down)).collect();
    log::debug!("positive gates / inputs of down that are not 0, by layer, %: {}", each.join(" "));
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// `n` tokens spread over the vocabulary, the same in every run.
fn tokens(machine: &Machine, n: usize) -> Vec<u32> {
    let vocab = machine.model.hparams.n_vocab.max(1) as u64;
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        u32::try_from(state % vocab).unwrap_or(0)
    };
    (0..n).map(|_| next()).collect()
}

/// Everything once, so that the file's pages are in memory and the caches are warm.
fn warm_up(machine: &mut Machine, prompt: &[u32], before: &[u32]) -> Outcome {
    if prompt.len() > before.len() {
        machine.read(prompt)?;
    }
    rewind(machine, before)?;
    machine.step(0).map(drop)
}

/// Back to where the context holds `before` and nothing else. What of it is there is not read again, but for its last
/// token.
fn rewind(machine: &mut Machine, before: &[u32]) -> Outcome {
    if before.is_empty() {
        machine.clear();
        return Ok(());
    }
    machine.read(before).map(drop)
}

/// Seconds that `test` takes when the context holds `before`.
fn seconds(machine: &mut Machine, before: &[u32], test: &mut dyn FnMut(&mut Machine) -> Outcome) -> Outcome<f64> {
    rewind(machine, before)?;
    let clock = Stopwatch::start();
    test(machine)?;
    let seconds = clock.seconds().max(1e-9);
    crate::generate::stop_if_interrupted()?;
    Ok(seconds)
}

fn report(tests: &[Test], depth: usize, threads: usize, kernels: &str) -> serde_json::Value {
    let entry = |test: &Test| {
        json!({
            "test": test.name,
            "depth": depth,
            "threads": threads,
            "kernels": kernels,
            "tokens_per_second": json::samples(&test.per_second),
        })
    };
    tests.iter().map(entry).collect()
}
