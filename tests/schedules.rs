//! One text, whatever the way: however a text is cut into prompts, batches and guesses, interrupted, taken back, saved and
//! restored, every logit has the bits that reading it token by token gives.
//!
//! A script says what happens to a text: tokens are read, some are forgotten in the middle (the context slides), some are
//! taken back (an answer is asked for again). The plainest way does just that, one token at a time. A schedule does the same
//! with detours of its own, at random, and its logits are compared with the plainest ones wherever it has any.
//!
//! `SCHEDULES=N` sets how many there are for each model and pair of cache types, `SCHEDULES_SEED=S` which: a failure prints
//! both. Texts are more than four times as long as every window of the cache.

// What several test programs share; no one needs all of it.
#[allow(dead_code)]
mod common;

use common::memory::Memory;
use common::random::Random;
use common::{cpu, tiny_model};
use std::ops::{ControlFlow, Range};
use trill::error::Error;
use trill::gguf::Gguf;
use trill::kernels::{CANDIDATES, Kernels, select};
use trill::kv_cache::{KvPart, KvType};
use trill::limits::GUESSES_MAX;
use trill::mem::Carver;
use trill::model::Model;
use trill::parallel::Serial;
use trill::session::{Session, SessionConfig};

const CONTEXT: usize = 448;
const BATCHES: [usize; 8] = [1, 2, 3, 7, 16, 32, 64, 256];
const TYPES: [(KvType, KvType); 6] = [
    (KvType::F16, KvType::F16),
    (KvType::Q8, KvType::Q8),
    (KvType::Q4, KvType::Q4),
    (KvType::Q3, KvType::Q2),
    (KvType::Q4, KvType::F16),
    (KvType::Q8, KvType::Q2),
];

#[derive(Clone, Copy, Debug)]
enum Event {
    /// So many tokens more.
    Read(usize),
    /// The context slides: so many positions go, from a position on.
    Forget(usize, usize),
    /// So many of the last tokens are taken back.
    Back(usize),
}

/// A text that slides never, once or twice.
fn script(random: &mut Random, slides: usize) -> Vec<Event> {
    let mut events = vec![];
    let mut held = 0;
    let read = |events: &mut Vec<Event>, held: &mut usize, n: usize| {
        events.push(Event::Read(n));
        *held += n;
    };
    read(&mut events, &mut held, 300 + random.below(CONTEXT - 300));
    for _ in 0..slides {
        let keep = random.below(100);
        // Sometimes nearly everything, so that the newest positions lie where the first ones were.
        let most = if random.one_in(4) { held - keep } else { 150 };
        let gap = 1 + random.below(most);
        events.push(Event::Forget(keep, gap));
        held -= gap;
        let room = CONTEXT - held;
        read(&mut events, &mut held, random.below(room) + 1);
    }
    for _ in 0..2 {
        let most = if random.one_in(2) { 12 } else { held };
        let back = 1 + random.below(most.min(held));
        events.push(Event::Back(back));
        held -= back;
        let room = (CONTEXT - held).min(120);
        read(&mut events, &mut held, 1 + random.below(room));
    }
    events
}

fn bits(logits: &[f32]) -> u64 {
    logits.iter().fold(0xcbf2_9ce4_8422_2325, |h, v| (h ^ u64::from(v.to_bits())).wrapping_mul(0x0000_0100_0000_01b3))
}

/// A session and what it holds.
struct Text<'m, 's> {
    session: Session<'m, 's>,
    held: Vec<u32>,
}

impl Text<'_, '_> {
    fn read(&mut self, tokens: &[u32]) -> u64 {
        self.held.extend(tokens);
        bits(self.session.prefill(&Serial, tokens, &mut |_| ControlFlow::Continue(())).unwrap())
    }

    /// As a shell does: what the session cannot go on from is read again.
    fn back_to(&mut self, len: usize, mut again: impl FnMut(&mut Self, &[u32])) -> usize {
        let left = self.session.truncate(len);
        assert!(left <= len && self.session.position() == left);
        let missing = self.held[left..len].to_vec();
        self.held.truncate(left);
        again(self, &missing);
        left
    }

    fn forget(&mut self, keep: usize, gap: usize) {
        self.session.forget(keep, gap);
        self.held.drain(keep..keep + gap);
    }
}

/// A model with memory for sessions.
struct Bench<'m> {
    model: &'m Model<'m>,
    types: (KvType, KvType),
}

impl<'m> Bench<'m> {
    fn session<'s>(&self, kernels: Kernels, batch: usize, memory: &'s mut Memory) -> Text<'m, 's> {
        let (cache_k, cache_v) = self.types;
        let config = SessionConfig { context: CONTEXT, batch, threads: 1, logit_rows: 3, cache_k, cache_v };
        let mut carver = memory.carver(Session::plan(self.model, config).unwrap().total());
        Text { session: Session::new(self.model, kernels, config, &mut carver).unwrap(), held: vec![] }
    }

    /// The tokens that a script reads, and the bits of the logits after each, one at a time; where the session stood after
    /// tokens were taken back.
    fn plainest(&self, script: &[Event], kernels: Kernels, random: &mut Random) -> (Vec<u32>, Vec<u64>, Vec<usize>) {
        let mut memory = Memory::default();
        let mut text = self.session(kernels, 1, &mut memory);
        let (mut tokens, mut all, mut left) = (vec![], vec![], vec![]);
        for &event in script {
            match event {
                Event::Read(n) => {
                    for _ in 0..n {
                        // Repetitive, as texts are.
                        let most = if random.one_in(3) { self.model.hparams.n_vocab - 3 } else { 20 };
                        let id = 3 + random.below(most) as u32;
                        tokens.push(id);
                        all.push(text.read(&[id]));
                    }
                }
                Event::Forget(keep, gap) => text.forget(keep, gap),
                Event::Back(n) => {
                    let len = text.held.len() - n;
                    left.push(text.back_to(len, |text, missing| {
                        for &id in missing {
                            text.read(&[id]);
                        }
                    }));
                }
            }
        }
        (tokens, all, left)
    }

    /// Does the same in a way of its own; returns what was different.
    fn schedule(
        &self,
        script: &[Event],
        (tokens, want, landed): (&[u32], &[u64], &[usize]),
        kernels: Kernels,
        random: &mut Random,
    ) -> Result<(), String> {
        let batch = BATCHES[random.below(BATCHES.len())];
        let (mut here, mut there) = (Memory::default(), Memory::default());
        let (mut text, mut other) = (self.session(kernels, batch, &mut here), self.session(kernels, batch, &mut there));
        let (mut done, mut slid, mut landed) = (0, false, landed.iter());
        for &event in script {
            match event {
                Event::Read(n) => {
                    let end = done + n;
                    while done < end {
                        let ahead = &tokens[done..end];
                        let what = random.below(10);
                        match what {
                            0..4 => {
                                let n = 1 + random.below(ahead.len().min(if what == 0 { ahead.len() } else { 40 }));
                                let got = interrupted(&mut text, &ahead[..n], random);
                                done += n;
                                same(got, want[done - 1], &format!("reading up to token {done}, -b {batch}"))?;
                            }
                            4..8 => {
                                let (right, told) = guessed(&mut text, ahead, self.model.hparams.n_vocab, random);
                                for (i, got) in told.into_iter().enumerate() {
                                    same(got, want[done + i], &format!("guess {i} after token {done}, -b {batch}"))?;
                                }
                                done += right;
                            }
                            8 if !slid => {
                                // Taken back and read again: the state is that of the text.
                                let len = random.below(text.held.len() + 1);
                                let again = text.held[len..].to_vec();
                                text.back_to(len, |text, missing| cut(text, missing, random));
                                cut(&mut text, &again, random);
                            }
                            _ => {
                                let keep =
                                    text.held.len() - if slid { 0 } else { random.below(text.held.len() + 1) / 2 };
                                restore(&text, &mut other, keep);
                                let missing = text.held[other.held.len()..].to_vec();
                                assert!(!slid || missing.is_empty());
                                cut(&mut other, &missing, random);
                                std::mem::swap(&mut text, &mut other);
                            }
                        }
                    }
                }
                Event::Forget(keep, gap) => {
                    text.forget(keep, gap);
                    slid = true;
                }
                Event::Back(n) => {
                    let len = text.held.len() - n;
                    let left = text.back_to(len, |text, missing| cut(text, missing, random));
                    let plain = landed.next().copied();
                    if slid && plain != Some(left) {
                        return Err(format!("taking {n} back left {left} positions, the plainest way {plain:?}"));
                    }
                }
            }
        }
        Ok(())
    }
}

fn same(got: u64, want: u64, what: &str) -> Result<(), String> {
    if got == want { Ok(()) } else { Err(format!("other bits after {what}")) }
}

/// Reads tokens in prompts of random lengths.
fn cut(text: &mut Text<'_, '_>, mut tokens: &[u32], random: &mut Random) {
    while !tokens.is_empty() {
        let (now, later) = tokens.split_at(1 + random.below(tokens.len()));
        interrupted(text, now, random);
        tokens = later;
    }
}

/// Reads tokens as one prompt that may be interrupted anywhere, and goes on from where the session then stands.
fn interrupted(text: &mut Text<'_, '_>, tokens: &[u32], random: &mut Random) -> u64 {
    let start = text.held.len();
    text.held.extend(tokens);
    let mut calls = if random.one_in(3) { random.below(60) } else { usize::MAX };
    loop {
        let from = text.session.position();
        assert!(from >= start);
        let read = text.session.prefill(&Serial, &text.held[from..], &mut |_| {
            calls = calls.wrapping_sub(1);
            if calls == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match read {
            Ok(logits) => return bits(logits),
            Err(Error::Interrupted) => calls = usize::MAX,
            Err(e) => panic!("{e}"),
        }
    }
}

/// Reads a token with guesses behind it, of which some are right; how many tokens stay, and the bits after each.
fn guessed(text: &mut Text<'_, '_>, ahead: &[u32], vocab: usize, random: &mut Random) -> (usize, Vec<u64>) {
    let most = GUESSES_MAX.min(CONTEXT - text.held.len() - 1);
    let guesses = random.below(most + 1);
    let right = random.below(guesses + 1).min(ahead.len() - 1);
    let mut tokens = ahead[..1 + right].to_vec();
    tokens.extend((right..guesses).map(|_| random.below(vocab) as u32));
    let mut told = vec![];
    let stay = text
        .session
        .verify(&Serial, &tokens, &mut |i, logits| {
            told.push(bits(logits));
            i < right
        })
        .unwrap();
    assert_eq!(stay, right + 1);
    text.held.extend(&tokens[..stay]);
    (stay, told)
}

/// Saves a text and restores the first `keep` positions of it, or fewer, in another session.
fn restore(from: &Text<'_, '_>, to: &mut Text<'_, '_>, keep: usize) {
    let held = |part| from.session.held(part);
    let parts = KvPart::ALL.map(|part| {
        let mut bytes = vec![];
        from.session.export(part, held(part), &mut |rows| bytes.extend_from_slice(rows));
        bytes
    });
    let recent = [KvPart::RecentKeys, KvPart::RecentValues].map(|part| held(part).start);
    let fill = &mut |part: KvPart, row: usize, positions: Range<usize>, out: &mut [u8]| {
        let there = held(part);
        let at = (row * there.len() + positions.start - there.start) * from.session.part_row_bytes(part);
        out.copy_from_slice(&parts[part as usize][at..][..out.len()]);
    };
    let left = to.session.import(&from.held[..keep], recent, from.session.exact_from(), fill).unwrap();
    assert!(left <= keep && to.session.state_key() == from.session.state_key());
    to.held = from.held[..left].to_vec();
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().map_or(default, |v| v.parse().unwrap_or_else(|_| panic!("{name}={v} is no number")))
}

/// Random schedules of a model, for each pair of cache types `default` or `SCHEDULES`.
fn check(name: &str, bytes: &[u8], default: usize) {
    let (count, seed) = (number("SCHEDULES", default), number("SCHEDULES_SEED", 1));
    let mut index = Memory::default();
    let gguf = Gguf::parse(bytes, &mut index.carver(Gguf::index_bytes(bytes).unwrap())).unwrap();
    let mut measure = Carver::measure();
    Model::load(&gguf, &mut measure).unwrap();
    let mut weights = Memory::default();
    let model = Model::load(&gguf, &mut weights.carver(measure.used())).unwrap();
    let levels: Vec<Kernels> =
        CANDIDATES.iter().filter_map(|c| select(&cpu::features(), Some(c.name())).ok()).collect();
    let best = levels[0];
    let (mut wrong, mut all) = (vec![], 0);
    for (t, &types) in TYPES.iter().enumerate() {
        let bench = Bench { model: &model, types };
        let mut plainest = None;
        for i in 0..count {
            let random = &mut Random::new((seed * 1_000_003 + i * 31 + t) as u64);
            // The plainest way is dear: several schedules share it.
            if i % 8 == 0 || plainest.is_none() {
                let events = script(random, [0, 1, 2][i / 8 % 3]);
                let plain = bench.plainest(&events, best, random);
                plainest = Some((events, plain));
            }
            let Some((events, (tokens, bits, left))) = &plainest else { continue };
            // The others are slower; `tests/kernels.rs` compares each step.
            let kernels = if random.one_in(8) { levels[random.below(levels.len())] } else { best };
            all += 1;
            if let Err(what) = bench.schedule(events, (tokens, bits, left), kernels, random) {
                wrong.push(format!("{name} {types:?} {} SCHEDULES_SEED={seed} schedule {i}: {what}", kernels.name()));
            }
        }
    }
    println!("{name}: {all} schedules, {} different", wrong.len());
    assert!(
        all > 0 && wrong.is_empty(),
        "{} of {all} differ, the first ones:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(12)].join("\n")
    );
}

#[test]
fn stories_have_one_text() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/stories-bitnet-I2_S.gguf");
    check("stories", &std::fs::read(path).unwrap(), 6);
}

/// Keys with biases, norms of heads, a sliding window of the model's own.
#[test]
fn other_families_have_one_text() {
    for arch in ["qwen2", "qwen3", "gemma3", "hunyuan-dense"] {
        check(arch, &tiny_model::layers(arch, 6, |file| file.u32("gemma3.attention.sliding_window", 48)), 6);
    }
}

/// SmolLM2 is there when `make test` names it.
#[test]
fn smollm2_has_one_text() {
    let Some(path) = std::env::var_os("TRILL_TEST_MODEL") else {
        println!("skipped: TRILL_TEST_MODEL names no model");
        return;
    };
    check("SmolLM2", &std::fs::read(path).unwrap(), 1);
}
