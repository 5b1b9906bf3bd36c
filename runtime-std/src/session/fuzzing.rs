//! Session files for `fuzz/`: an example, the checksums put right after damage, and everything a file goes through.

use super::crc32c::crc32c;
use super::format::{self, COMMIT, HEADER, Kind, Owner, RECORD, Record, SEAL};
use super::load;
use super::log::{Log, Rows, Store, Turn};
use crate::template::{Message, Role};
use std::io;
use std::ops::Range;
use trill::kv_cache::{KvPart, KvType};
use trill::limits::CONTEXT_MAX;
use trill::session::StateKey;

const GENERATION: u64 = 0x1234_5678_9abc;
/// Bytes that mending adds to one record at most.
const PADDING_MAX: usize = 64 << 10;

/// Whom the files here belong to: one head of four values, keys packed and values not.
fn owner() -> Owner {
    let types = [KvType::Q4, KvType::F16];
    let state = StateKey { vocab: 100, layers: 1, heads: 1, head_dim: 4, types, arithmetic: 7 };
    Owner { kind: Kind::Chat, model: [1; 32], conversation: [2; 32], state }
}

/// A file in memory.
struct Memory(Vec<u8>);

impl Store for Memory {
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let start = at as usize;
        self.0.resize(self.0.len().max(start + bytes.len()), 0);
        self.0[start..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.0.resize(len as usize, 0);
        Ok(())
    }
}

/// Rows that say where they belong.
struct Pattern;

impl Rows for Pattern {
    fn each(&self, part: KvPart, range: Range<usize>, visit: &mut dyn FnMut(&[u8])) {
        let owner = owner();
        let row = |position: usize| vec![(position as u8).wrapping_mul(6) + part as u8; owner.row_bytes(part)];
        (0..owner.rows()).for_each(|_| range.clone().for_each(|position| visit(&row(position))));
    }
}

fn append(log: &mut Log<Memory>, tokens: [&[u32]; 2], unchanged: usize, kept: usize, messages: &[Message]) {
    let end = tokens[0].len();
    let turn = Turn {
        unchanged,
        end,
        kept_from: [end; 2],
        exact_from: [0; 2],
        tokens,
        messages_kept: kept,
        messages,
        micros: 5,
    };
    log.append(&turn, &Pattern).and_then(|()| log.seal()).expect("memory takes everything");
}

pub(crate) fn example(turns: usize) -> Vec<u8> {
    let mut log = Log::new(Memory(Vec::new()), owner(), GENERATION);
    log.start().and_then(|()| log.seal()).expect("memory takes everything");
    let (mut tokens, mut messages) = (Vec::new(), Vec::new());
    for turn in 0..turns {
        // Every third turn takes back a token of the one before.
        let kept = tokens.len() - usize::from(turn % 3 == 2);
        tokens.truncate(kept);
        tokens.extend((0..3).map(|i| (turn * 7 + i) as u32));
        let said = messages.len();
        messages.push(Message { role: Role::User, content: format!("é {turn}") });
        append(&mut log, [&tokens, &[3][..turn % 2]], kept, said, &messages);
    }
    log.store.0
}

/// Where a record or a seal starts next, from byte `at` on.
fn next_part(bytes: &[u8], at: usize) -> usize {
    let marks = [&Record::default().encode(0)[..4], &format::seal(0, 0, 0, 0)[..4]].map(<[u8]>::to_vec);
    let from = bytes.get(at..).unwrap_or_default();
    from.windows(4).position(|w| marks.iter().any(|m| w == m)).map_or(bytes.len(), |i| at + i)
}

/// The fields of the record at byte `at`, checksum or not.
fn fields(bytes: &[u8], at: usize) -> Option<Record> {
    let mut header: [u8; RECORD] = *bytes.get(at..)?.first_chunk()?;
    header[8..16].copy_from_slice(&(at as u64).to_le_bytes());
    let crc = crc32c(0, &header[..RECORD - 4]);
    header[RECORD - 4..].copy_from_slice(&crc.to_le_bytes());
    let mut file = vec![0; at];
    file.extend(header);
    Record::decode(&file, at, 0)
}

pub(crate) fn mend(bytes: &mut Vec<u8>) {
    let (owner, mut sequence) = (owner(), 0u32);
    let generation = bytes.get(16..24).and_then(|b| b.as_array()).map_or(GENERATION, |b| u64::from_le_bytes(*b));
    let seed = format::seed(generation);
    let mut out = owner.header(generation).to_vec();
    let mut checksum = crc32c(0, &out);
    let mut at = next_part(bytes, HEADER);
    while at < bytes.len() {
        let next = next_part(bytes, at + 4);
        let Some(mut record) = fields(bytes, at) else {
            out.extend(format::seal(sequence, out.len() as u64, generation, checksum));
            // What is left after the last part stays as it is.
            out.extend(bytes.get(at + SEAL..next).unwrap_or_default());
            at = next;
            continue;
        };
        sequence = sequence.wrapping_add(1);
        (record.sequence, record.at, record.previous) = (sequence, out.len() as u64, checksum);
        let payload = record.payload_bytes(&owner).and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        let there = bytes.get(at + RECORD..next.saturating_sub(COMMIT)).unwrap_or_default();
        if payload > there.len() + PADDING_MAX {
            break;
        }
        record.payload = payload as u64;
        let header = record.encode(seed);
        let mut held = there[..there.len().min(payload)].to_vec();
        held.resize(payload, 0);
        checksum = crc32c(format::record_crc(&header, seed), &held);
        out.extend(header);
        out.extend(held);
        out.extend(format::commit(sequence, checksum, seed));
        at = next;
    }
    *bytes = out;
}

/// A file without holes.
fn all_of(bytes: &[u8]) -> impl Fn(usize) -> Option<Range<usize>> {
    let len = bytes.len();
    move |from| (from < len).then_some(from..len)
}

/// Loads a file, copies every row out of it that a session would ask for, and appends a turn to it: the file must then
/// hold what it held, and the turn. Gives the numbers of tokens and records found.
pub(crate) fn read(bytes: &[u8]) -> Result<(usize, u32), String> {
    let owner = owner();
    let contents = load::load(bytes, &owner, &all_of(bytes)).map_err(|refusal| refusal.to_string())?;
    assert!(contents.end <= contents.tokens.len() && contents.end <= CONTEXT_MAX);
    assert!(contents.committed <= bytes.len() as u64);
    assert!(contents.tokens.iter().all(|&t| (t as usize) < owner.state.vocab));
    for keep in [0, contents.end / 2, contents.end] {
        let keep = contents.whole(keep);
        let recent = contents.recent_from(keep);
        let first = owner.first().map(|n| n.min(keep));
        for part in KvPart::ALL {
            let range = match part {
                KvPart::Keys | KvPart::Values => 0..keep,
                KvPart::RecentKeys => recent[0]..keep,
                KvPart::RecentValues => recent[1]..keep,
                KvPart::FirstKeys => 0..first[0],
                KvPart::FirstValues => 0..first[1],
            };
            let mut out = vec![0; range.len() * owner.row_bytes(part)];
            (0..owner.rows()).for_each(|row| contents.fill(bytes, part, row, range.clone(), &mut out));
        }
    }
    let mut log = Log::new(Memory(bytes.to_vec()), owner.clone(), contents.generation);
    log.go_on(&contents);
    log.cut().expect("memory takes everything");
    let (read, after) = contents.tokens.split_at(contents.end);
    let tokens = [read, &[7]].concat();
    let mut messages = contents.messages.clone();
    messages.push(Message { role: Role::Assistant, content: "more".to_owned() });
    if tokens.len() <= CONTEXT_MAX {
        append(&mut log, [&tokens, after], contents.end, messages.len() - 1, &messages);
        let again = load::load(&log.store.0, &owner, &all_of(&log.store.0)).expect("what was appended is read");
        assert_eq!((&again.tokens, again.end), (&[&tokens, after].concat(), tokens.len()));
        assert!(again.messages == messages && again.sequence == contents.sequence.wrapping_add(1));
        assert_eq!(again.committed, log.store.0.len() as u64);
    }
    Ok((contents.tokens.len(), contents.sequence))
}
