//! Sessions on disk: a text or a conversation outlives the program, with the cache of keys and values, so that
//! nothing of it is read again.
//!
//! - `format.rs`: the bytes. `load.rs` reads and verifies them, `log.rs` appends to them, `file.rs` is the file.
//! - `identity.rs`: whom a file belongs to. `place.rs`: where it lies if nobody says.
//!
//! A record is appended after a prompt was read (left to the system to write out) and after every answer (then
//! synced: one `fdatasync` a turn). Where that fails, the text goes on without being saved, and one line says so.

mod crc32c;
mod file;
mod format;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod identity;
mod load;
mod log;
mod place;
#[cfg(test)]
mod tests;

pub(crate) use format::Owner;
pub(crate) use log::BUFFER_BYTES;
pub(crate) use place::{automatic, folder};

use crate::exit::reason;
use crate::host::clock::fresh_seed;
use crate::host::{files, mmap};
use crate::template::Message;
use file::{Found, Locked};
use load::Contents;
use log::{Log, Rows, Turn};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use trill::kv_cache::KvPart;
use trill::session::Session;

/// A file is written anew when it is longer than twice what its state needs, and this.
const SLACK_BYTES: u64 = 1 << 20;

impl Rows for Session<'_, '_> {
    fn each(&self, part: KvPart, range: Range<usize>, visit: &mut dyn FnMut(&[u8])) {
        self.export(part, range, visit);
    }
}

/// What a file held when it was opened.
pub(crate) struct Saved {
    contents: Contents,
    map: memmap2::Mmap,
}

impl Saved {
    /// The tokens of the text; those from [`Saved::end`] on are not in the cache.
    pub(crate) fn tokens(&self) -> &[u32] {
        &self.contents.tokens
    }

    /// Positions in the cache.
    pub(crate) fn end(&self) -> usize {
        self.contents.end
    }

    pub(crate) fn messages(&self) -> &[Message] {
        &self.contents.messages
    }

    /// How many of `tokens`, from the start on, need not be read again. The last one must: its logits are not kept.
    pub(crate) fn shared(&self, tokens: &[u32]) -> usize {
        let held = self.contents.tokens.iter().take(self.contents.end);
        let same = held.zip(tokens).take_while(|(a, b)| a == b).count();
        same.min(tokens.len().saturating_sub(1))
    }

    /// Puts the first `keep` positions into `session`, or as many of them as it can go on from with the same bits; returns
    /// how many.
    pub(crate) fn restore(&self, session: &mut Session<'_, '_>, keep: usize) -> trill::Result<usize> {
        let contents = &self.contents;
        let keep = contents.whole(keep);
        let (kept, exact) = (contents.recent_from(keep), contents.exact_from(keep));
        session.import(&contents.tokens[..keep], kept, exact, &mut |part, row, positions, out| {
            contents.fill(&self.map, part, row, positions, out);
        })
    }

    /// The line that says what was saved by restoring `keep` tokens.
    pub(crate) fn line(&self, keep: usize) -> String {
        let seconds = keep as f64 * f64::from(self.contents.micros) / 1e6;
        match seconds {
            s if s < 0.05 => format!("restored {keep} tokens"),
            s if s < 10.0 => format!("restored {keep} tokens, saved {s:.1} s"),
            s => format!("restored {keep} tokens, saved {s:.0} s"),
        }
    }
}

/// Keeps a session in a file, or does not.
pub(crate) struct Keeper(Option<Open>);

struct Open {
    log: Log<Locked>,
    path: PathBuf,
    /// The messages in the file.
    messages: Vec<Message>,
    micros: u32,
    /// Length from which on the file is written anew if that makes it half as long.
    limit: u64,
}

/// What a session has to save.
pub(crate) struct State<'a> {
    pub(crate) session: &'a Session<'static, 'static>,
    /// The text in two parts; its first tokens are those in the session.
    pub(crate) tokens: [&'a [u32]; 2],
    /// Absent: those of the last time.
    pub(crate) messages: Option<&'a [Message]>,
    /// Microseconds that reading a token took; 0 if it is not known.
    pub(crate) micros: u32,
}

impl Keeper {
    /// Keeps nothing.
    pub(crate) fn off() -> Keeper {
        Keeper(None)
    }

    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Opens the file at `path`, or makes it. One that cannot be used is left as it is: that is told, and nothing
    /// is kept. `what` is what starts then, `capacity` how many tokens the context has room for.
    pub(crate) fn open(path: &Path, owner: Owner, capacity: usize, what: &str) -> (Keeper, Option<Saved>) {
        match Open::new(path, owner, capacity) {
            Ok((open, saved)) => (Keeper(Some(open)), saved),
            Err(why) => {
                ::log::warn!("{} {why}: {what} starts fresh and is not saved", path.display());
                (Keeper::off(), None)
            }
        }
    }

    /// Saves what is not in the file yet; `durable`: so that it outlives a power cut. True if the file has it now.
    pub(crate) fn save(&mut self, state: &State<'_>, durable: bool) -> bool {
        let Some(open) = &mut self.0 else { return false };
        let done = open.save(state, durable);
        self.told(done)
    }

    /// Empties the file for another text of `owner`'s.
    pub(crate) fn start_anew(&mut self, owner: Owner) {
        if let Some(open) = &mut self.0 {
            open.log.owner = owner;
            open.messages.clear();
            let done = rewrite(&mut open.log, None);
            self.told(done);
        }
    }

    /// After a failure the last whole commit stands, and nothing more is saved.
    fn told(&mut self, done: io::Result<()>) -> bool {
        if let (Err(error), Some(mut open)) = (&done, self.0.take_if(|_| done.is_err())) {
            let _ = open.log.cut();
            ::log::warn!("{}: {}: from here on nothing is saved", open.path.display(), reason(error));
        }
        done.is_ok()
    }
}

fn fresh_generation() -> u64 {
    fresh_seed() << 32 | fresh_seed()
}

impl Open {
    fn new(path: &Path, owner: Owner, capacity: usize) -> Result<(Open, Option<Saved>), String> {
        let cannot = |e: io::Error| match e.kind() {
            io::ErrorKind::WouldBlock => "is in use by another trill".to_owned(),
            _ => format!("cannot be used ({})", reason(&e)),
        };
        let new = |log| Open { log, path: path.to_owned(), messages: Vec::new(), micros: 0, limit: SLACK_BYTES };
        let store = loop {
            match Locked::open(path).map_err(|refused| cannot(refused.into()))? {
                Found::File(store) => break store,
                Found::Nothing(target) => {
                    let made = Locked::create(&target).and_then(|store| fresh(store, owner.clone(), None));
                    let made = made.and_then(|mut log| log.store.publish().map(|()| log));
                    match made {
                        // Another process was quicker: its file is the one that is there.
                        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                        made => return Ok((new(made.map_err(cannot)?), None)),
                    }
                }
            }
        };
        // What is said is nothing for a file that somebody else laid ready.
        if !store.is_own().map_err(cannot)? {
            return Err("is another user's, and is left as it is".to_owned());
        }
        let length = store.file().metadata().map_err(cannot)?.len();
        if length == 0 {
            // What `mktemp` makes, or `touch`: nothing is lost in it.
            let mut open = new(Log::new(store, owner, fresh_generation()));
            rewrite(&mut open.log, None).map_err(cannot)?;
            return Ok((open, None));
        }
        if length > owner.longest(capacity) {
            // Looked at first, so that something else is not told to need more context.
            let mut start = [0; format::HEADER];
            let read = store.file().read_at(&mut start, 0).map_err(cannot)?;
            owner.accept(&start[..read]).map_err(|refusal| format!("{refusal}, and is left as it is"))?;
            return Err(format!(
                "is longer than what {capacity} tokens of context take, and is left as it is (-c gives more)"
            ));
        }
        let map = mmap::map(store.file()).map_err(cannot)?;
        let data = |from| files::next_data(store.file(), from, length);
        let contents = load::load(&map, &owner, &data).map_err(|refusal| format!("{refusal}, and is left as it is"))?;
        if store.make_private().map_err(cannot)? {
            ::log::debug!("{}: others could read it; from now on only you can", path.display());
        }
        let mut open = new(Log::new(store, owner, contents.generation));
        open.log.go_on(&contents);
        if contents.committed < length {
            open.log.cut().map_err(cannot)?;
        }
        open.messages.clone_from(&contents.messages);
        open.micros = contents.micros;
        Ok((open, Some(Saved { contents, map })))
    }

    fn save(&mut self, state: &State<'_>, durable: bool) -> io::Result<()> {
        let held = |part| state.session.held(part).start;
        if state.micros > 0 {
            self.micros = state.micros;
        }
        let messages = state.messages.unwrap_or(&self.messages);
        let turn = Turn {
            unchanged: state.session.unchanged(),
            end: state.session.position(),
            kept_from: [held(KvPart::RecentKeys), held(KvPart::RecentValues)],
            exact_from: state.session.exact_from(),
            tokens: state.tokens,
            messages_kept: messages.iter().zip(&self.messages).take_while(|(a, b)| a == b).count(),
            messages,
            micros: self.micros,
        };
        self.log.append(&turn, state.session)?;
        if durable {
            self.log.seal()?;
            tidy(&mut self.log, &mut self.limit, &turn, state.session);
        }
        if let Some(messages) = state.messages {
            self.messages = messages.to_vec();
        }
        Ok(())
    }
}

/// Writes the file anew if most of it is of no use any more.
fn tidy(log: &mut Log<Locked>, limit: &mut u64, turn: &Turn<'_>, session: &Session<'_, '_>) {
    if log.committed > (*limit).max(2 * log.live_bytes(turn) + SLACK_BYTES) {
        // What is there is whole: if there is no room for another one, it goes on growing.
        *limit = match rewrite(log, Some((turn, session))) {
            Ok(()) => SLACK_BYTES,
            Err(_) => 2 * log.committed,
        };
    }
}

/// Puts a new file in the place of the old one, with only what `turn` holds.
fn rewrite(log: &mut Log<Locked>, turn: Option<(&Turn<'_>, &Session<'_, '_>)>) -> io::Result<()> {
    let mut new = fresh(log.store.beside()?, log.owner.clone(), turn)?;
    new.store.replace(&log.store)?;
    *log = new;
    Ok(())
}

/// The log of a file that holds only what `turn` does.
fn fresh(store: Locked, owner: Owner, turn: Option<(&Turn<'_>, &Session<'_, '_>)>) -> io::Result<Log<Locked>> {
    let mut new = Log::new(store, owner, fresh_generation());
    new.start()?;
    if let Some((turn, session)) = turn {
        new.append(&Turn { unchanged: 0, messages_kept: 0, ..*turn }, session)?;
    }
    new.seal()?;
    Ok(new)
}
