//! Appends records to a session file. Every byte goes through [`Store`], so that tests can see, lose and reorder
//! what was written.

use super::crc32c::crc32c;
use super::format::{self, ALIGN, HEADER, Owner, Record};
use super::load::Contents;
use crate::template::Message;
use std::io;
use std::ops::Range;
use trill::kv_cache::KvPart;

/// Bytes written to the system at a time.
pub(crate) const BUFFER_BYTES: usize = 64 << 10;

/// A file, as far as a log needs it.
pub(super) trait Store {
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Returns when everything written is on the disk.
    fn sync(&mut self) -> io::Result<()>;
    /// Drops everything from byte `len` on.
    fn cut(&mut self, len: u64) -> io::Result<()>;
}

/// Where rows come from: `trill::session::Session::export`.
pub(super) trait Rows {
    fn each(&self, part: KvPart, range: Range<usize>, visit: &mut dyn FnMut(&[u8]));
}

/// What there is to save.
#[derive(Clone, Copy)]
pub(super) struct Turn<'a> {
    /// Positions that are as the file has them.
    pub(super) unchanged: usize,
    /// Positions in the cache.
    pub(super) end: usize,
    /// First of the newest positions whose rows the file must have (keys, values).
    pub(super) kept_from: [usize; 2],
    /// As in [`Record`].
    pub(super) exact_from: [usize; 2],
    /// The whole text, in two parts: its first `end` tokens are in the cache.
    pub(super) tokens: [&'a [u32]; 2],
    /// Messages that are as the file has them, and all of them.
    pub(super) messages_kept: usize,
    pub(super) messages: &'a [Message],
    /// Microseconds that reading a token takes.
    pub(super) micros: u32,
}

/// A session file being written.
pub(super) struct Log<S> {
    pub(super) store: S,
    pub(super) owner: Owner,
    pub(super) generation: u64,
    /// Length of the file up to its last commit or seal.
    pub(super) committed: u64,
    /// Positions in the file.
    pub(super) end: usize,
    /// From where on, up to `end`, the file has newest rows (keys, values).
    pub(super) recent_from: [usize; 2],
    pub(super) sequence: u32,
    pub(super) checksum: u32,
    buffer: Vec<u8>,
    /// Where the buffer's bytes go.
    at: u64,
    crc: u32,
}

impl<S: Store> Log<S> {
    /// A log that goes on where the file's state says.
    pub(super) fn new(store: S, owner: Owner, generation: u64) -> Self {
        let header = owner.header(generation);
        Log {
            store,
            owner,
            generation,
            committed: HEADER as u64,
            end: 0,
            recent_from: [0; 2],
            sequence: 0,
            checksum: crc32c(0, &header),
            buffer: Vec::with_capacity(BUFFER_BYTES),
            at: 0,
            crc: 0,
        }
    }

    /// Goes on after what was loaded from the same file.
    pub(super) fn go_on(&mut self, contents: &Contents) {
        self.committed = contents.committed;
        self.end = contents.end;
        self.recent_from = contents.recent_from(contents.end);
        (self.sequence, self.checksum) = (contents.sequence, contents.checksum);
    }

    /// Bytes of rows that a file must have for `turn`: nearly all of it.
    pub(super) fn live_bytes(&self, turn: &Turn<'_>) -> u64 {
        let (end, held, first) = (turn.end, turn.kept_from, self.owner.first());
        let recent = held.map(|from| end.saturating_sub(from));
        let positions = [end, end, recent[0], recent[1], end.min(first[0]), end.min(first[1])];
        let rows = KvPart::ALL
            .iter()
            .zip(positions)
            .map(|(&part, positions)| positions as u64 * (self.owner.rows() * self.owner.row_bytes(part)) as u64);
        rows.sum()
    }

    /// Writes the header of a file that is empty.
    pub(super) fn start(&mut self) -> io::Result<()> {
        let header = self.owner.header(self.generation);
        self.store.write_at(0, &header)
    }

    /// Appends a record: first what it holds, then, in a write of its own, the commit.
    pub(super) fn append(&mut self, turn: &Turn<'_>, rows: &dyn Rows) -> io::Result<()> {
        let from = turn.unchanged.min(self.end).min(turn.end);
        let recent_from = [0, 1].map(|i| self.recent_to_write(i, from, turn.kept_from[i]));
        let fresh = &turn.messages[turn.messages_kept.min(turn.messages.len())..];
        let seed = format::seed(self.generation);
        let mut record = Record {
            sequence: self.sequence.wrapping_add(1),
            at: self.committed,
            from,
            end: turn.end,
            tokens: turn.tokens.iter().map(|t| t.len()).sum(),
            recent_from,
            exact_from: turn.exact_from,
            messages_kept: turn.messages_kept,
            messages: turn.messages.len(),
            text_bytes: fresh.iter().map(|m| 5 + m.content.len()).sum(),
            micros: turn.micros,
            previous: self.checksum,
            payload: 0,
        };
        let too_large = || io::Error::from(io::ErrorKind::FileTooLarge);
        record.payload = record.payload_bytes(&self.owner).ok_or_else(too_large)?;
        (self.at, self.crc) = (self.committed, seed);
        self.buffer.clear();
        let header = record.encode(seed);
        self.put(&header)?;
        self.crc = format::record_crc(&header, seed);
        for id in turn.tokens.iter().copied().flatten().skip(from) {
            self.put(&id.to_le_bytes())?;
        }
        for message in fresh {
            let length = u32::try_from(message.content.len()).map_err(|_| too_large())?;
            self.put(&[message.role as u8])?;
            self.put(&length.to_le_bytes())?;
            self.put(message.content.as_bytes())?;
        }
        for part in KvPart::ALL {
            let mut done = Ok(());
            rows.each(part, record.range(part, self.owner.first()), &mut |bytes| {
                if done.is_ok() {
                    done = self.put(bytes);
                }
            });
            done?;
        }
        let written = self.at + self.buffer.len() as u64;
        self.put(&[0; ALIGN][..(written.next_multiple_of(ALIGN as u64) - written) as usize])?;
        self.flush()?;
        let commit = format::commit(record.sequence, self.crc, seed);
        self.store.write_at(self.at, &commit)?;
        self.committed = self.at + commit.len() as u64;
        (self.sequence, self.checksum, self.end) = (record.sequence, self.crc, turn.end);
        self.recent_from = [0, 1].map(|i| self.recent_after(i, from, recent_from[i]));
        Ok(())
    }

    /// Makes sure that what was appended outlives a power cut, and says so in the file.
    pub(super) fn seal(&mut self) -> io::Result<()> {
        self.store.sync()?;
        let seal = format::seal(self.sequence, self.committed, self.generation, self.checksum);
        self.store.write_at(self.committed, &seal)?;
        self.committed += seal.len() as u64;
        Ok(())
    }

    /// Drops what was written after the last commit: after a failure, and what a crash left.
    pub(super) fn cut(&mut self) -> io::Result<()> {
        self.store.cut(self.committed)?;
        self.store.sync()
    }

    /// First of the newest rows that a record must hold, when those from `held` on must be in the file and positions
    /// before `from` stay.
    fn recent_to_write(&self, i: usize, from: usize, held: usize) -> usize {
        if held < from && self.recent_from[i] <= held { from } else { held }
    }

    /// From where on the file has newest rows without a gap, after a record that has them from `written` on.
    fn recent_after(&self, i: usize, from: usize, written: usize) -> usize {
        if written == from { self.recent_from[i].min(from) } else { written }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.crc = crc32c(self.crc, bytes);
        let mut rest = bytes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(BUFFER_BYTES - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            rest = later;
            if self.buffer.len() == BUFFER_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.store.write_at(self.at, &self.buffer)?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
