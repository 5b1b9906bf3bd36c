//! Reads a session file: every record is verified before anything of it is used.

use super::crc32c::crc32c;
use super::format::{self, COMMIT, HEADER, Owner, RECORD, Record, Refusal, SEAL};
use crate::template::{Message, Role};
use std::ops::Range;
use trill::kv_cache::{KvPart, KvType};
use trill::limits::CONTEXT_MAX;

/// Rows of one record.
#[derive(Clone, Debug)]
struct Segment {
    record: Record,
    /// Positions of it that no later record replaces end here.
    live: usize,
    /// Where each part's rows start in the file.
    at: [usize; KvPart::ALL.len()],
}

/// The state that a file ends with.
#[derive(Clone, Debug)]
pub(super) struct Contents {
    pub(super) generation: u64,
    /// The text; the first `end` of its tokens are in the cache.
    pub(super) tokens: Vec<u32>,
    pub(super) end: usize,
    pub(super) messages: Vec<Message>,
    pub(super) micros: u32,
    /// Length of the file up to its last commit or seal.
    pub(super) committed: u64,
    pub(super) sequence: u32,
    pub(super) checksum: u32,
    segments: Vec<Segment>,
    rows: usize,
    types: [KvType; 2],
    /// See [`Owner::first`].
    first: [usize; 2],
    row_bytes: [usize; KvPart::ALL.len()],
}

/// Reads `bytes`. A record that was cut off, or whose blocks never all reached the disk, ends it: the state is that of
/// the commit before. Damage to what was once safely on the disk is an error. `data` says where, from a byte on, the
/// file has bytes that were written: a hole in it may be larger than the disk.
pub(super) fn load(
    bytes: &[u8],
    owner: &Owner,
    data: &dyn Fn(usize) -> Option<Range<usize>>,
) -> Result<Contents, Refusal> {
    let generation = owner.accept(bytes)?;
    let mut contents = Contents {
        generation,
        tokens: Vec::new(),
        end: 0,
        messages: Vec::new(),
        micros: 0,
        committed: HEADER as u64,
        sequence: 0,
        checksum: crc32c(0, &bytes[..HEADER]),
        segments: Vec::new(),
        rows: owner.rows(),
        row_bytes: KvPart::ALL.map(|part| owner.row_bytes(part)),
        types: owner.state.types,
        first: owner.first(),
    };
    let mut at = HEADER;
    while at < bytes.len() {
        let seal = format::seal(contents.sequence, at as u64, generation, contents.checksum);
        let next = match bytes.get(at..at + SEAL) {
            Some(there) if there == seal => Some(at + SEAL),
            _ => contents.take(bytes, at, owner),
        };
        match next {
            Some(next) => at = next,
            None => break,
        }
    }
    // A later seal says that what could not be read had been whole.
    let mut from = at;
    while let Some(written) = data(from) {
        let places = written.start - written.start % format::ALIGN..written.end.min(bytes.len());
        if places.step_by(format::ALIGN).any(|place| place >= at && format::is_seal(bytes, place, generation)) {
            return Err(Refusal::Damaged(at));
        }
        from = written.end;
    }
    contents.committed = at as u64;
    Ok(contents)
}

impl Contents {
    /// Takes the record at byte `at` in and gives the place after it; `None` leaves everything as it was.
    fn take(&mut self, bytes: &[u8], at: usize, owner: &Owner) -> Option<usize> {
        let seed = format::seed(self.generation);
        let record = Record::decode(bytes, at, seed)?;
        let follows = record.sequence == self.sequence.wrapping_add(1) && record.previous == self.checksum;
        let fits = record.from <= self.end
            && record.messages_kept <= self.messages.len()
            && record.end <= CONTEXT_MAX
            && record.payload_bytes(owner) == Some(record.payload);
        if !follows || !fits {
            return None;
        }
        let end = at.checked_add(RECORD)?.checked_add(usize::try_from(record.payload).ok()?)?;
        let (header, payload) = bytes.get(at..end)?.split_at_checked(RECORD)?;
        let checksum = crc32c(format::record_crc(header, seed), payload);
        if bytes.get(end..end.checked_add(COMMIT)?)? != format::commit(record.sequence, checksum, seed) {
            return None;
        }
        let ([token_bytes, text_bytes], row_sizes) = record.sizes(owner)?;
        let (tokens, rest) = payload.split_at_checked(token_bytes)?;
        let tokens: Vec<u32> = tokens.as_chunks::<4>().0.iter().map(|t| u32::from_le_bytes(*t)).collect();
        if tokens.iter().any(|&t| t as usize >= owner.state.vocab) {
            return None;
        }
        let messages = messages(rest.get(..text_bytes)?, record.messages - record.messages_kept)?;
        let mut starts = [0; KvPart::ALL.len()];
        let mut start = at + RECORD + token_bytes + text_bytes;
        for (place, size) in starts.iter_mut().zip(row_sizes) {
            *place = start;
            start += size;
        }
        self.tokens.truncate(record.from);
        self.tokens.extend(tokens);
        self.messages.truncate(record.messages_kept);
        self.messages.extend(messages);
        self.segments.iter_mut().for_each(|s| s.live = s.live.min(record.from));
        self.end = record.end;
        (self.sequence, self.checksum, self.micros) = (record.sequence, checksum, record.micros);
        self.segments.push(Segment { live: record.end, at: starts, record });
        Some(end + COMMIT)
    }

    /// From where on, up to position `keep`, the file has newest rows without a gap (keys, values).
    pub(super) fn recent_from(&self, keep: usize) -> [usize; 2] {
        [KvPart::RecentKeys, KvPart::RecentValues].map(|part| {
            let mut from = keep;
            for segment in self.segments.iter().rev() {
                let held = segment.record.range(part, self.first).start..segment.live.min(keep);
                if held.is_empty() || held.start >= from {
                    continue;
                }
                if held.end < from {
                    break;
                }
                from = held.start;
            }
            from
        })
    }

    /// What [`trill::session::Session::import`] calls `exact_from`, for a text of `keep` positions.
    pub(super) fn exact_from(&self, keep: usize) -> [usize; 2] {
        let last = self.segments.iter().rev().find(|segment| segment.record.from < keep);
        last.map_or([0; 2], |segment| segment.record.exact_from.map(|from| from.min(keep)))
    }

    /// The last place at or before position `keep` from which the text goes on with the bits it would have had: the file has
    /// the newest rows that are needed there. A text from which something was taken out goes on at its end alone.
    pub(super) fn whole(&self, keep: usize) -> usize {
        let is_whole = |&at: &usize| {
            let exact_from = self.exact_from(at);
            let there = self.recent_from(at).into_iter().zip(exact_from).zip(self.types);
            (at == self.end || exact_from == [0; 2])
                && there.into_iter().all(|((kept, exact), ty)| kept <= ty.needed_from(at, exact))
        };
        let saved = self.segments.iter().map(|segment| segment.live.min(keep));
        let first = self.types.iter().map(|ty| ty.first()).filter(|&n| n > 0).min().unwrap_or(keep);
        saved.chain([keep]).filter(is_whole).max().unwrap_or(0).max(keep.min(first))
    }

    /// Copies the rows of `positions` in one row of `part` to `out`.
    pub(super) fn fill(&self, bytes: &[u8], part: KvPart, row: usize, positions: Range<usize>, out: &mut [u8]) {
        let width = self.row_bytes[part as usize];
        assert!(row < self.rows && out.len() == positions.len() * width);
        for segment in &self.segments {
            let here = segment.record.range(part, self.first);
            let shared = here.start.max(positions.start)..segment.live.min(positions.end);
            if shared.is_empty() {
                continue;
            }
            let from = segment.at[part as usize] + (row * here.len() + shared.start - here.start) * width;
            let to = (shared.start - positions.start) * width;
            let length = shared.len() * width;
            out[to..to + length].copy_from_slice(&bytes[from..from + length]);
        }
    }
}

/// Exactly `count` messages in all of `bytes`: role, length, text.
fn messages(mut bytes: &[u8], count: usize) -> Option<Vec<Message>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (role, rest) = bytes.split_first()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (text, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        let role = [Role::System, Role::User, Role::Assistant].into_iter().find(|r| *r as u8 == *role)?;
        all.push(Message { role, content: std::str::from_utf8(text).ok()?.to_owned() });
        bytes = rest;
    }
    (all.len() == count).then_some(all)
}
