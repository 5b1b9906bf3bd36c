//! The bytes of a session file (`docs/sessions.md` has them as tables). Everything is little-endian, on every
//! machine, and every part starts at a multiple of 16 bytes.
//!
//! A header says whom the file belongs to. After it come records, one for each time something was saved: a header,
//! tokens, messages, rows of the cache, and a commit with the checksum of all of it and, through it, of every record
//! before. A seal follows where everything before it is known to be on the disk.

use super::crc32c::crc32c;
use trill::kv_cache::{KvPart, KvType};
use trill::session::StateKey;

pub(super) const MAGIC: [u8; 8] = *b"\x89trillS\n";
pub(super) const VERSION: u32 = 1;
const BYTE_ORDER: u32 = 0x0403_0201;
/// Bytes of the header.
pub(super) const HEADER: usize = 128;
/// Bytes of a record before its tokens.
pub(super) const RECORD: usize = 80;
/// Bytes of a commit.
pub(super) const COMMIT: usize = 16;
/// Bytes of a seal.
pub(super) const SEAL: usize = 32;
/// Bytes that ids and messages take for a token, generously.
const TEXT_OF_TOKEN: usize = 64;
/// See [`Owner::longest`].
const LONGEST_FACTOR: u64 = 8;
/// See [`Owner::longest`].
const LONGEST_LEAST: u64 = 64 << 20;
/// Every part starts at a multiple of this.
pub(super) const ALIGN: usize = 16;

const RECORD_MAGIC: u32 = u32::from_le_bytes(*b"TURN");
const COMMIT_MAGIC: u32 = u32::from_le_bytes(*b"DONE");
const SEAL_MAGIC: u32 = u32::from_le_bytes(*b"SEAL");

/// Fields one after the other.
struct Out<const N: usize> {
    bytes: [u8; N],
    at: usize,
}

impl<const N: usize> Out<N> {
    fn new() -> Self {
        Out { bytes: [0; N], at: 0 }
    }

    fn bytes(mut self, field: &[u8]) -> Self {
        self.bytes[self.at..][..field.len()].copy_from_slice(field);
        self.at += field.len();
        self
    }

    fn u32(self, field: u32) -> Self {
        self.bytes(&field.to_le_bytes())
    }

    fn u64(self, field: u64) -> Self {
        self.bytes(&field.to_le_bytes())
    }

    /// The last field: the checksum of those before.
    fn checked(self, seed: u32) -> [u8; N] {
        assert_eq!(self.at, N - 4);
        let crc = crc32c(seed, &self.bytes[..N - 4]);
        self.u32(crc).bytes
    }
}

/// Reads what [`Out`] wrote.
struct In<'b>(&'b [u8]);

impl<'b> In<'b> {
    /// The `N` bytes at `at`, if their checksum is right.
    fn checked<const N: usize>(bytes: &'b [u8], at: usize, seed: u32) -> Option<In<'b>> {
        let (fields, crc) = bytes.get(at..)?.get(..N)?.split_last_chunk::<4>()?;
        (crc32c(seed, fields) == u32::from_le_bytes(*crc)).then_some(In(fields))
    }

    fn bytes(&mut self, n: usize) -> Option<&'b [u8]> {
        let (field, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(field)
    }

    fn u32(&mut self) -> Option<u32> {
        self.bytes(4)?.as_array().map(|b| u32::from_le_bytes(*b))
    }

    fn u64(&mut self) -> Option<u64> {
        self.bytes(8)?.as_array().map(|b| u64::from_le_bytes(*b))
    }

    fn size(&mut self) -> Option<usize> {
        usize::try_from(self.u32()?).ok()
    }
}

/// What a file is a record of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Kind {
    /// A text that is continued.
    Text,
    /// A conversation: messages beside the tokens.
    Chat,
}

/// Whom a file belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(super) kind: Kind,
    /// See `identity::model`.
    pub(super) model: [u8; 32],
    /// Hash of the template and the system message; zero for a text.
    pub(super) conversation: [u8; 32],
    pub(super) state: StateKey,
}

/// Why a file is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    NotASession,
    Newer(u32),
    ByteOrder,
    /// At this byte.
    Damaged(usize),
    Model,
    Arithmetic,
    Types([u8; 2]),
    Kind(u32),
    Conversation,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = |id: u8| KvType::ALL.get(usize::from(id)).map_or("unknown", |t| t.name());
        match *self {
            Refusal::NotASession => f.write_str("is no session file"),
            Refusal::Newer(version) => write!(f, "has version {version} of the format, from a newer trill"),
            Refusal::ByteOrder => f.write_str("was written in another byte order"),
            Refusal::Damaged(at) => write!(f, "is damaged at byte {at}"),
            Refusal::Model => f.write_str("belongs to another model"),
            Refusal::Arithmetic => f.write_str("holds keys and values that are computed in another way here"),
            Refusal::Types([k, v]) => {
                let ids = |t: KvType| (t.of_both().0 as u8, t.of_both().1 as u8);
                match KvType::ALL.into_iter().find(|&t| ids(t) == (k, v)) {
                    Some(both) => write!(f, "was saved with --cache-type {}", both.name()),
                    None => write!(f, "was saved with --cache-type-k {} --cache-type-v {}", name(k), name(v)),
                }
            }
            Refusal::Kind(kind) if kind == Kind::Text as u32 => f.write_str("holds a text, not a conversation"),
            Refusal::Kind(_) => f.write_str("holds a conversation, for trill chat"),
            Refusal::Conversation => f.write_str("has another system message or chat template"),
        }
    }
}

fn narrow(n: usize) -> u32 {
    u32::try_from(n).expect("limits keep sizes of models and contexts small")
}

impl Owner {
    /// Bytes of one head's row of a position.
    pub(super) fn row_bytes(&self, part: KvPart) -> usize {
        let ty = match part {
            KvPart::Keys => self.state.types[0],
            KvPart::Values => self.state.types[1],
            KvPart::RecentKeys | KvPart::RecentValues | KvPart::FirstKeys | KvPart::FirstValues => KvType::EXACT,
        };
        ty.row_bytes(self.state.head_dim)
    }

    /// How many positions at the start have rows in the parts of the first ones (keys, values).
    pub(super) fn first(&self) -> [usize; 2] {
        self.state.types.map(KvType::first)
    }

    /// Rows of a position.
    pub(super) fn rows(&self) -> usize {
        self.state.layers * self.state.heads
    }

    /// Bytes of the longest file that is read with a context of `capacity` tokens. A file is written anew when most of
    /// it is of no use, so that it has at most a few times what the whole context takes; this is more than twice that,
    /// for files of a longer context. What is beyond it takes time for nothing.
    pub(super) fn longest(&self, capacity: usize) -> u64 {
        let rows: usize = KvPart::ALL.iter().map(|&part| self.row_bytes(part)).sum();
        let position = (rows * self.rows() + TEXT_OF_TOKEN) as u64;
        LONGEST_FACTOR * capacity as u64 * position + LONGEST_LEAST
    }

    pub(super) fn header(&self, generation: u64) -> [u8; HEADER] {
        let s = &self.state;
        Out::<HEADER>::new()
            .bytes(&MAGIC)
            .u32(VERSION)
            .u32(BYTE_ORDER)
            .u64(generation)
            .u32(self.kind as u32)
            .u32(narrow(s.vocab))
            .u32(narrow(s.layers))
            .u32(narrow(s.heads))
            .u32(narrow(s.head_dim))
            .bytes(&[s.types[0] as u8, s.types[1] as u8, 0, 0])
            .u64(s.arithmetic)
            .bytes(&self.model)
            .bytes(&self.conversation)
            .u32(0)
            .checked(0)
    }

    /// The generation of the file that starts with `bytes`, if it is this owner's.
    pub(super) fn accept(&self, bytes: &[u8]) -> Result<u64, Refusal> {
        if bytes.get(..MAGIC.len()) != Some(&MAGIC) {
            return Err(Refusal::NotASession);
        }
        let word = |at: usize| bytes.get(at..at + 4)?.as_array().map(|b| u32::from_le_bytes(*b));
        let (version, order) = (word(8).ok_or(Refusal::Damaged(0))?, word(12).ok_or(Refusal::Damaged(0))?);
        if order == BYTE_ORDER.swap_bytes() {
            return Err(Refusal::ByteOrder);
        }
        if version > VERSION {
            return Err(Refusal::Newer(version));
        }
        let fields = In::checked::<HEADER>(bytes, 0, 0).filter(|_| version == VERSION && order == BYTE_ORDER);
        let mut fields = fields.ok_or(Refusal::Damaged(0))?;
        self.compare(&mut fields).ok_or(Refusal::Damaged(0))?
    }

    /// Compares what the header says after its first 16 bytes.
    fn compare(&self, fields: &mut In<'_>) -> Option<Result<u64, Refusal>> {
        let s = &self.state;
        fields.bytes(16)?;
        let (generation, kind) = (fields.u64()?, fields.u32()?);
        let shape = [fields.size()?, fields.size()?, fields.size()?, fields.size()?];
        let types = fields.bytes(4)?;
        let (arithmetic, model, conversation) = (fields.u64()?, fields.bytes(32)?, fields.bytes(32)?);
        let differs = if model != self.model || shape != [s.vocab, s.layers, s.heads, s.head_dim] {
            Refusal::Model
        } else if types != [s.types[0] as u8, s.types[1] as u8, 0, 0] {
            Refusal::Types([types[0], types[1]])
        } else if arithmetic != s.arithmetic {
            Refusal::Arithmetic
        } else if kind != self.kind as u32 {
            Refusal::Kind(kind)
        } else if conversation != self.conversation {
            Refusal::Conversation
        } else {
            return Some(Ok(generation));
        };
        Some(Err(differs))
    }
}

/// Checksums of a file's parts start from its generation, so that parts of an older file never fit.
pub(super) fn seed(generation: u64) -> u32 {
    crc32c(0, &generation.to_le_bytes())
}

/// What a record says about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// Number of the record in the file, from 1.
    pub(super) sequence: u32,
    /// Where it starts in the file.
    pub(super) at: u64,
    /// Positions that stay of what records before it hold.
    pub(super) from: usize,
    /// Positions in the cache after it.
    pub(super) end: usize,
    /// Tokens after it: those from `end` on are not in the cache yet.
    pub(super) tokens: usize,
    /// First position of the newest rows in this record (keys, values).
    pub(super) recent_from: [usize; 2],
    /// Newest positions before this one are read from their packed copies: see `trill::session::Session::exact_from`.
    pub(super) exact_from: [usize; 2],
    /// Messages that stay of those before it.
    pub(super) messages_kept: usize,
    /// Messages after it.
    pub(super) messages: usize,
    /// Bytes of the messages in this record.
    pub(super) text_bytes: usize,
    /// Microseconds that reading a token took.
    pub(super) micros: u32,
    /// Checksum of the commit before; of the header for the first record.
    pub(super) previous: u32,
    /// Bytes from the end of these fields to the commit.
    pub(super) payload: u64,
}

impl Record {
    pub(super) fn encode(&self, seed: u32) -> [u8; RECORD] {
        Out::<RECORD>::new()
            .u32(RECORD_MAGIC)
            .u32(self.sequence)
            .u64(self.at)
            .u32(narrow(self.from))
            .u32(narrow(self.end))
            .u32(narrow(self.tokens))
            .u32(narrow(self.recent_from[0]))
            .u32(narrow(self.recent_from[1]))
            .u32(narrow(self.exact_from[0]))
            .u32(narrow(self.exact_from[1]))
            .u32(narrow(self.messages_kept))
            .u32(narrow(self.messages))
            .u32(narrow(self.text_bytes))
            .u32(self.micros)
            .u32(self.previous)
            .u64(self.payload)
            .u32(0)
            .checked(seed)
    }

    /// The record at byte `at`, if there is one.
    pub(super) fn decode(bytes: &[u8], at: usize, seed: u32) -> Option<Record> {
        let mut f = In::checked::<RECORD>(bytes, at, seed)?;
        if f.u32()? != RECORD_MAGIC {
            return None;
        }
        let record = Record {
            sequence: f.u32()?,
            at: f.u64()?,
            from: f.size()?,
            end: f.size()?,
            tokens: f.size()?,
            recent_from: [f.size()?, f.size()?],
            exact_from: [f.size()?, f.size()?],
            messages_kept: f.size()?,
            messages: f.size()?,
            text_bytes: f.size()?,
            micros: f.u32()?,
            previous: f.u32()?,
            payload: f.u64()?,
        };
        (record.at == at as u64).then_some(record)
    }

    /// The positions of `part`'s rows in this record; `first` as the owner has it.
    pub(super) fn range(&self, part: KvPart, first: [usize; 2]) -> std::ops::Range<usize> {
        match part {
            KvPart::Keys | KvPart::Values => self.from..self.end,
            KvPart::RecentKeys => self.recent_from[0]..self.end,
            KvPart::RecentValues => self.recent_from[1]..self.end,
            KvPart::FirstKeys => self.from.min(first[0])..self.end.min(first[0]),
            KvPart::FirstValues => self.from.min(first[1])..self.end.min(first[1]),
        }
    }

    /// Bytes of tokens and messages, and of each part's rows; `None` if they do not make sense.
    pub(super) fn sizes(&self, owner: &Owner) -> Option<([usize; 2], [usize; KvPart::ALL.len()])> {
        let ordered = self.from <= self.end
            && self.end <= self.tokens
            && self.recent_from.iter().chain(&self.exact_from).all(|&p| p <= self.end)
            && self.messages_kept <= self.messages;
        if !ordered {
            return None;
        }
        let mut rows = [0; KvPart::ALL.len()];
        for (size, part) in rows.iter_mut().zip(KvPart::ALL) {
            let positions = self.range(part, owner.first()).len();
            *size = positions.checked_mul(owner.rows())?.checked_mul(owner.row_bytes(part))?;
        }
        Some(([(self.tokens - self.from).checked_mul(4)?, self.text_bytes], rows))
    }

    /// What `payload` must be.
    pub(super) fn payload_bytes(&self, owner: &Owner) -> Option<u64> {
        let (texts, rows) = self.sizes(owner)?;
        let all = texts.iter().chain(&rows).try_fold(0usize, |sum, &n| sum.checked_add(n))?;
        u64::try_from(all.checked_next_multiple_of(ALIGN)?).ok()
    }
}

/// The checksum of a commit begins with the record's fields without their own checksum: with it, all fields would
/// give the same.
pub(super) fn record_crc(header: &[u8], seed: u32) -> u32 {
    crc32c(seed, header.get(..RECORD - 4).unwrap_or_default())
}

/// The commit of record `sequence`, whose bytes have this checksum.
pub(super) fn commit(sequence: u32, checksum: u32, seed: u32) -> [u8; COMMIT] {
    Out::<COMMIT>::new().u32(COMMIT_MAGIC).u32(sequence).u32(checksum).checked(seed)
}

/// Everything before byte `at` is on the disk; the last commit is that of record `sequence`.
pub(super) fn seal(sequence: u32, at: u64, generation: u64, checksum: u32) -> [u8; SEAL] {
    let fields = Out::<SEAL>::new().u32(SEAL_MAGIC).u32(sequence).u64(at).u64(generation).u32(checksum);
    fields.checked(seed(generation))
}

/// Whether a seal of this file stands at byte `at`, whatever it seals.
pub(super) fn is_seal(bytes: &[u8], at: usize, generation: u64) -> bool {
    let sealed = || {
        let mut f = In::checked::<SEAL>(bytes, at, seed(generation))?;
        let (magic, _) = (f.u32()?, f.u32()?);
        Some(magic == SEAL_MAGIC && f.u64()? == at as u64 && f.u64()? == generation)
    };
    // Cheap before dear: this is asked for every place of a damaged file.
    bytes.get(at..at + 4) == Some(&SEAL_MAGIC.to_le_bytes()) && sealed() == Some(true)
}
