//! The file against crashes, damage and full disks: a small session whose every write is recorded.

use super::format::{self, Kind, Owner, Refusal};
use super::load::{self, Contents};
use super::log::{Log, Rows, Store, Turn};
use crate::template::{Message, Role};
use std::io;
use std::ops::Range;
use trill::kv_cache::{KvPart, KvType};
use trill::session::StateKey;

/// What disks write at once.
const BLOCKS: [usize; 2] = [4096, 512];
const ROWS: usize = 4;
const HEAD_DIM: usize = 16;
/// Newest positions that the made-up cache has in q8.
const RING: usize = 6;

fn owner() -> Owner {
    let types = [KvType::Q4, KvType::F16];
    let state = StateKey { vocab: 1000, layers: 2, heads: 2, head_dim: HEAD_DIM, types, arithmetic: 7 };
    Owner { kind: Kind::Chat, model: [1; 32], conversation: [2; 32], state }
}

/// A text with a cache: what each position holds follows from the number that it got when it was read.
#[derive(Clone, Debug, Default, PartialEq)]
struct Text {
    tokens: Vec<u32>,
    after: Vec<u32>,
    numbers: Vec<u64>,
    held_from: usize,
    messages: Vec<Message>,
}

fn row(part: KvPart, row: usize, number: u64) -> Vec<u8> {
    let width = owner().row_bytes(part);
    let byte = |i: usize| ((number * 31 + row as u64 * 17 + i as u64 * 7 + part as u64) % 251) as u8;
    (0..width).map(byte).collect()
}

impl Rows for Text {
    fn each(&self, part: KvPart, range: Range<usize>, visit: &mut dyn FnMut(&[u8])) {
        for r in 0..ROWS {
            self.numbers[range.clone()].iter().for_each(|&number| visit(&row(part, r, number)));
        }
    }
}

impl Text {
    fn end(&self) -> usize {
        self.numbers.len()
    }

    fn held_from(&self) -> [usize; 2] {
        [self.held_from.max(self.end().saturating_sub(RING)), self.end()]
    }

    fn turn(&self, unchanged: usize, messages_kept: usize) -> Turn<'_> {
        Turn {
            unchanged,
            end: self.end(),
            kept_from: self.held_from(),
            exact_from: [self.held_from, 0],
            tokens: [&self.tokens, &self.after],
            messages_kept,
            messages: &self.messages,
            micros: 5,
        }
    }

    /// Whether a file holds this text.
    fn is(&self, contents: &Contents, bytes: &[u8]) -> bool {
        let tokens: Vec<u32> = self.tokens.iter().chain(&self.after).copied().collect();
        if contents.tokens != tokens || contents.end != self.end() || contents.messages != self.messages {
            return false;
        }
        let valid = self.held_from();
        assert_eq!(contents.exact_from(self.end()), [self.held_from, 0]);
        assert!(contents.recent_from(self.end()).iter().zip(valid).all(|(there, needed)| *there <= needed));
        KvPart::ALL.iter().all(|&part| {
            let first = owner().first().map(|n| n.min(self.end()));
            let from = [0, 0, valid[0], valid[1], 0, 0][part as usize];
            let end = [self.end(), self.end(), self.end(), self.end(), first[0], first[1]][part as usize];
            (0..ROWS).all(|r| {
                let want: Vec<u8> = self.numbers[from..end].iter().flat_map(|&n| row(part, r, n)).collect();
                let mut got = vec![0; want.len()];
                contents.fill(bytes, part, r, from..end, &mut got);
                got == want
            })
        })
    }
}

#[derive(Clone, Debug)]
enum Op {
    Write(u64, Vec<u8>),
    Sync,
    Cut(u64),
}

/// Records what is done to a file, and fails from step `room` on if there is such a step.
#[derive(Clone, Default)]
struct Recorder {
    ops: Vec<Op>,
    bytes: Vec<u8>,
    room: Option<usize>,
}

impl Recorder {
    fn step(&mut self, op: Op) -> io::Result<()> {
        let full = self.room.is_some_and(|room| self.ops.len() >= room);
        self.ops.push(op.clone());
        match op {
            // A full disk takes what there is room for.
            Op::Write(at, bytes) if full => apply(&mut self.bytes, &Op::Write(at, bytes[..bytes.len() / 2].to_vec())),
            op if !full => apply(&mut self.bytes, &op),
            _ => {}
        }
        if full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl Store for Recorder {
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.step(Op::Write(at, bytes.to_vec()))
    }
    fn sync(&mut self) -> io::Result<()> {
        self.step(Op::Sync)
    }
    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.step(Op::Cut(len))
    }
}

fn apply(file: &mut Vec<u8>, op: &Op) {
    match op {
        Op::Write(at, bytes) => {
            let (start, end) = (*at as usize, *at as usize + bytes.len());
            file.resize(file.len().max(end), 0);
            file[start..end].copy_from_slice(bytes);
        }
        Op::Cut(len) => file.resize(*len as usize, 0),
        Op::Sync => {}
    }
}

fn random(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*state >> 33) as usize
}

/// Steps of a conversation: positions kept, read anew, tokens not read, messages kept and said, whether it is synced.
const STEPS: [(usize, usize, usize, usize, usize, bool); 9] = [
    (0, 9, 0, 0, 0, false),
    (9, 3, 1, 0, 2, true),
    (12, 20, 0, 2, 2, true),
    (32, 4, 0, 4, 0, false),
    (34, 5, 0, 4, 2, true),
    // A part in the middle is read anew, and the ring has lost what was before.
    (20, 2, 0, 2, 2, true),
    (22, 0, 0, 2, 0, true),
    (18, 40, 0, 2, 0, false),
    (58, 3, 2, 2, 2, true),
];

/// A conversation and its file: the texts after each commit, with the number of writes done by then.
fn session(room: Option<usize>) -> (Recorder, Vec<(usize, Text)>) {
    let store = Recorder { room, ..Recorder::default() };
    let mut log = Log::new(store, owner(), 0x1234_5678_9abc);
    let (mut text, mut commits, mut number) = (Text::default(), vec![(0, Text::default())], 0);
    let mut done = log.start().and_then(|()| log.seal());
    for (keep, read, after, messages_kept, messages, sync) in STEPS {
        if done.is_err() {
            break;
        }
        if keep < text.end() {
            text.held_from = text.held_from()[0].min(keep);
        }
        text.numbers.truncate(keep);
        for _ in 0..read {
            number += 1;
            text.numbers.push(number);
        }
        text.tokens = text.numbers.iter().map(|n| (n * 7 % 1000) as u32).collect();
        text.after = vec![3; after];
        text.messages.truncate(messages_kept);
        for i in 0..messages {
            let role = if i % 2 == 0 { Role::User } else { Role::Assistant };
            text.messages.push(Message { role, content: format!("é {number}") });
        }
        done = log.append(&text.turn(keep, messages_kept), &text);
        if done.is_ok() {
            commits.push((log.store.ops.len(), text.clone()));
            done = if sync { log.seal() } else { Ok(()) };
        }
    }
    if done.is_err() {
        let _ = log.cut();
    }
    (log.store, commits)
}

/// What a file without holes holds.
fn read(bytes: &[u8]) -> Result<Contents, Refusal> {
    load::load(bytes, &owner(), &|from| (from < bytes.len()).then_some(from..bytes.len()))
}

/// The commit that a file ends with.
fn found(bytes: &[u8], commits: &[(usize, Text)]) -> Result<usize, Refusal> {
    let contents = read(bytes)?;
    let which = commits.iter().rposition(|(_, text)| text.is(&contents, bytes));
    Ok(which.expect("a file holds what was committed once"))
}

#[test]
fn every_commit_is_read_back() {
    let (store, commits) = session(None);
    assert_eq!(commits.len(), STEPS.len() + 1);
    let mut file = Vec::new();
    for (i, op) in store.ops.iter().enumerate() {
        apply(&mut file, op);
        if let Some(commit) = commits.iter().position(|(after, _)| *after == i + 1) {
            assert_eq!(found(&file, &commits), Ok(commit));
        }
    }
}

/// What may be on the disk after a power cut when `ops` were done: any mixture of what each block held since the last
/// sync, at any length that the file had since then.
fn after_power_cut(ops: &[Op], size: usize, state: &mut u64, visit: &mut dyn FnMut(&[u8])) {
    let safe = ops.iter().rposition(|op| matches!(op, Op::Sync)).map_or(0, |i| i + 1);
    let mut file = Vec::new();
    ops[..safe].iter().for_each(|op| apply(&mut file, op));
    let mut versions = vec![file.clone()];
    for op in &ops[safe..] {
        apply(&mut file, op);
        versions.push(file.clone());
    }
    let mut lengths: Vec<usize> = versions.iter().map(Vec::len).collect();
    lengths.dedup();
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let block = |version: &[u8], b: usize| {
        let mut bytes = vec![0; size];
        let there = version.get(b * size..).unwrap_or_default();
        let n = there.len().min(size);
        bytes[..n].copy_from_slice(&there[..n]);
        bytes
    };
    let mut choices: Vec<Vec<Vec<u8>>> = Vec::new();
    for b in 0..longest.div_ceil(size) {
        let mut all: Vec<Vec<u8>> = versions.iter().map(|v| block(v, b)).collect();
        all.dedup();
        choices.push(all);
    }
    let mixtures = choices.iter().map(Vec::len).fold(1, usize::saturating_mul);
    for which in 0..mixtures.min(256) {
        let mut rest = if mixtures <= 256 { which } else { random(state) };
        let mut bytes = Vec::new();
        for all in &choices {
            bytes.extend_from_slice(&all[rest % all.len()]);
            rest /= all.len();
        }
        for &length in &lengths {
            let mut file = bytes.clone();
            file.truncate(length);
            visit(&file);
        }
    }
}

#[test]
fn a_power_cut_leaves_a_whole_commit() {
    let (store, commits) = session(None);
    let (mut state, mut files) = (1, 0);
    // Before the first sync there is no file: it is put in its place whole.
    let first = store.ops.iter().position(|op| matches!(op, Op::Sync)).expect("a sync");
    for (done, size) in (first + 1..=store.ops.len()).flat_map(|done| BLOCKS.map(|size| (done, size))) {
        let ops = &store.ops[..done];
        let safe = ops.iter().rposition(|op| matches!(op, Op::Sync)).map_or(0, |i| i + 1);
        let committed = |writes: usize| commits.iter().rposition(|(after, _)| *after <= writes).expect("the first");
        after_power_cut(ops, size, &mut state, &mut |file| {
            let which = found(file, &commits).unwrap_or_else(|e| panic!("{e} after {done} writes"));
            assert!((committed(safe)..=committed(done)).contains(&which), "commit {which} after {done} writes");
            files += 1;
        });
    }
    println!("{files} files");
    assert!(files > 5000);
}

#[test]
fn a_file_that_was_cut_goes_on() {
    let (store, commits) = session(None);
    let mut newest = 0;
    for length in format::HEADER..=store.bytes.len() {
        let file = &store.bytes[..length];
        let which = found(file, &commits).unwrap_or_else(|e| panic!("{e} at {length}"));
        assert!(which == newest || which == newest + 1, "commit {which} at {length}");
        newest = which;
        if length % 97 != 0 {
            continue;
        }
        let contents = read(file).unwrap();
        let mut log = Log::new(Recorder { bytes: file.to_vec(), ..Recorder::default() }, owner(), contents.generation);
        log.go_on(&contents);
        log.cut().unwrap();
        let mut text = commits[which].1.clone();
        let (unchanged, kept) = (text.end(), text.messages.len());
        text.numbers.push(4242);
        text.tokens.push(1);
        log.append(&text.turn(unchanged, kept), &text).unwrap();
        log.seal().unwrap();
        let contents = read(&log.store.bytes).unwrap();
        assert!(text.is(&contents, &log.store.bytes), "cut at {length}");
    }
    assert_eq!(newest, commits.len() - 1);
    for length in 0..format::HEADER {
        assert!(found(&store.bytes[..length], &commits).is_err(), "{length}");
    }
}

#[test]
fn damage_is_refused() {
    let (store, commits) = session(None);
    let sealed = store.bytes.len() - format::SEAL;
    let mut state = 3;
    for at in 0..store.bytes.len() {
        let mut file = store.bytes.clone();
        file[at] ^= 1 << (random(&mut state) % 8);
        match found(&file, &commits) {
            Ok(which) => assert!(at >= sealed && which == commits.len() - 1, "a flip at {at}"),
            Err(refusal) => assert!(at < sealed, "a flip at {at}: {refusal}"),
        }
    }
    for _ in 0..2000 {
        let mut file = store.bytes.clone();
        for _ in 0..1 + random(&mut state) % 4 {
            let at = random(&mut state) % file.len();
            let length = (random(&mut state) % 600).min(file.len() - at);
            match random(&mut state) % 3 {
                0 => file[at..at + length].fill(0),
                1 => file.truncate(at.max(1)),
                _ => file.copy_within(at..at + length, random(&mut state) % (store.bytes.len() - length).min(at + 1)),
            }
        }
        // Either a whole commit or a refusal; nothing else, and no panic.
        let _ = found(&file, &commits);
    }
}

#[test]
fn a_full_disk_leaves_the_last_commit() {
    let (whole, _) = session(None);
    for room in 0..whole.ops.len() {
        let (store, commits) = session(Some(room));
        let result = found(&store.bytes, &commits);
        if room == 0 {
            assert!(result.is_err());
        } else {
            assert_eq!(result, Ok(commits.len() - 1), "room for {room} steps");
        }
    }
}

/// Changes the header and gives it a right checksum.
fn with_header(bytes: &[u8], change: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut file = bytes.to_vec();
    change(&mut file[..format::HEADER - 4]);
    let crc = super::crc32c::crc32c(0, &file[..format::HEADER - 4]);
    file[format::HEADER - 4..format::HEADER].copy_from_slice(&crc.to_le_bytes());
    file
}

#[test]
fn files_of_others_are_refused() {
    let (store, commits) = session(None);
    let refusal = |change: &dyn Fn(&mut [u8])| found(&with_header(&store.bytes, change), &commits).unwrap_err();
    assert_eq!(refusal(&|h| h[0] = b'G'), Refusal::NotASession);
    assert_eq!(refusal(&|h| h[8] = 2), Refusal::Newer(2));
    assert_eq!(refusal(&|h| h[8..12].fill(0)), Refusal::Damaged(0));
    assert_eq!(refusal(&|h| h[12..16].reverse()), Refusal::ByteOrder);
    assert_eq!(refusal(&|h| h[28] ^= 1), Refusal::Model);
    assert_eq!(refusal(&|h| h[44] = KvType::Q2 as u8), Refusal::Types([KvType::Q2 as u8, KvType::F16 as u8]));
    assert_eq!(refusal(&|h| h[48] ^= 1), Refusal::Arithmetic);
    assert_eq!(refusal(&|h| h[56] ^= 1), Refusal::Model);
    assert_eq!(refusal(&|h| h[24] ^= 1), Refusal::Kind(Kind::Text as u32));
    assert_eq!(refusal(&|h| h[88] ^= 1), Refusal::Conversation);
    // Another generation: none of the records fits, and no seal says that they should.
    let other = with_header(&store.bytes, |h| h[16] ^= 1);
    assert_eq!(read(&other).map(|c| c.tokens.len()), Ok(0));
    assert_eq!(found(b"", &commits), Err(Refusal::NotASession));
}

#[test]
fn a_shared_beginning_has_its_newest_rows() {
    let (store, commits) = session(None);
    let contents = read(&store.bytes).unwrap();
    let text = &commits[commits.len() - 1].1;
    for keep in 0..=text.end() {
        let [k, v] = contents.recent_from(keep);
        assert!(k <= keep && v == keep, "{keep}");
        for part in [KvPart::Keys, KvPart::Values, KvPart::RecentKeys] {
            let first = if part == KvPart::RecentKeys { k } else { 0 };
            let want: Vec<u8> = text.numbers[first..keep].iter().flat_map(|&n| row(part, 1, n)).collect();
            let mut got = vec![0; want.len()];
            contents.fill(&store.bytes, part, 1, first..keep, &mut got);
            assert!(got == want, "{part:?} {keep}");
        }
    }
}
