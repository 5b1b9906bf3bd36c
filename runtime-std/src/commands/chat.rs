//! `trill chat`: a conversation, typed, or read from a file one message a line.

use super::Command;
use crate::conversation::Conversation;
use crate::engine::{self, Machine, Opened};
use crate::exit::{Code, Failure, Outcome};
use crate::full_context::{Policy, Window};
use crate::generate::{self, Ask, Stop, Summary, Voice};
use crate::host::clock::Stopwatch;
use crate::host::{is_terminal, signal};
use crate::input;
use crate::options::{Options, Verbosity};
use crate::session::{self, Keeper, Owner};
use crate::template::Role;
use crate::terminal::{self, Mode, Reader, Screen, Typed};
use std::path::PathBuf;

pub(crate) const CHAT: Command = Command {
    name: "chat",
    summary: "holds a conversation",
    usage: "chat -m MODEL [-sys TEXT] [-p FIRST-MESSAGE] [-f FILE] [flags]",
    notes: "Type /help for its commands. Ctrl-C ends an answer; Ctrl-D, or Ctrl-C twice, ends the conversation.\n\
            With -f, or without a terminal, each line of the input is a message.\n\
            A conversation at a terminal is kept and goes on next time (docs/sessions.md); --no-session keeps nothing.",
    bit: 1,
    takes_model: true,
    operands: &[],
    run,
};

const HELP: &str = "\
/new           starts a new conversation; the old one is forgotten, also where it was kept (/clear is the same)
/system TEXT   starts anew with this system message (none without TEXT)
/regen         answers the last message again
/stats         speed of the last answer, and how full the context is
/quit          ends (so does Ctrl-D)
Ctrl-C ends an answer. Alt-Enter, or a backslash at the end of a line, starts a new line.
";

/// What the model is asked for when the oldest turns become a note.
const CONDENSE: &str = "Summarise our conversation so far for yourself in at most 60 words: names, facts, numbers, decisions, \
                        open questions. Only the summary.";

/// Bytes of an answer kept before more memory is asked for.
const ANSWER_BYTES: usize = 64 << 10;

/// Where messages come from.
enum Source {
    Typed(Box<Reader>),
    Lines(std::vec::IntoIter<String>),
}

struct Chat<'o> {
    options: &'o Options,
    opened: Opened,
    machine: Machine,
    voice: Voice,
    conversation: Conversation,
    screen: Screen,
    most: Option<usize>,
    policy: Policy,
    last: Option<Summary>,
    /// Somebody sits at the terminal: mistakes are told and the conversation goes on.
    interactive: bool,
}

fn run(options: &Options) -> Outcome {
    let mut source = match &options.file {
        Some(path) => Source::Lines(lines(input::file(path)?)?),
        None => Source::Typed(Box::new(Reader::new())),
    };
    let mut opened = engine::open(options)?;
    let (machine, voice) = generate::load(options, &mut opened)?;
    let conversation = Conversation::new(&opened, &voice.tokenizer, options.system_text())?.thinking(options.think);
    let interactive = matches!(source, Source::Typed(_)) && is_terminal(0);
    let policy = options.context_policy.unwrap_or(Policy::Slide);
    let (screen, most) = (Screen::text(), options.predict);
    let mut chat =
        Chat { options, opened, machine, voice, conversation, screen, most, policy, last: None, interactive };
    signal::catch_interrupts();
    if interactive && options.verbosity != Verbosity::Quiet {
        terminal::tell!("{}; /help lists the commands", chat.opened.title());
    }
    chat.resume()?;
    let mut next = options.prompt_text();
    loop {
        let Some(message) = next.take().map_or_else(|| source.next(), |m| Ok(Some(m)))? else { return Ok(()) };
        signal::forget_interrupts();
        chat.hear(&message)?;
    }
}

/// The messages of a file: its lines, except for empty ones.
fn lines(bytes: Vec<u8>) -> Outcome<std::vec::IntoIter<String>> {
    let text = input::utf8(bytes)?;
    let messages: Vec<String> = text.lines().filter(|l| !l.trim().is_empty()).map(str::to_owned).collect();
    Ok(messages.into_iter())
}

impl Source {
    /// The next message; `None` at the end.
    fn next(&mut self) -> Outcome<Option<String>> {
        let reader = match self {
            Source::Lines(lines) => return Ok(lines.next()),
            Source::Typed(reader) => reader,
        };
        let (mut message, mut warned) = (String::new(), false);
        loop {
            match reader.read(if message.is_empty() { "> " } else { "  " }) {
                Typed::Line(line) => {
                    warned = false;
                    if let Some(start) = line.strip_suffix('\\') {
                        message.push_str(start);
                        message.push('\n');
                        continue;
                    }
                    message.push_str(&line);
                    if !message.trim().is_empty() {
                        return Ok(Some(message));
                    }
                    message.clear();
                }
                Typed::End => return Ok(None),
                Typed::Interrupt if warned || signal::ending().is_some() => {
                    return Err(Failure::new(Code::Interrupted, ""));
                }
                Typed::Interrupt => {
                    terminal::tell!("Ctrl-C again, or Ctrl-D, ends the conversation");
                    signal::forget_interrupts();
                    message.clear();
                    warned = true;
                }
            }
        }
    }
}

impl Chat<'_> {
    fn owner(&self) -> Owner {
        Owner::chat(self.options, &self.opened, self.machine.session.state_key(), self.conversation.form())
    }

    /// The file that keeps this conversation: that of `--session`, else at a terminal one of its own.
    fn place(&self, owner: &Owner) -> Option<PathBuf> {
        if self.options.session.is_some() || self.options.no_session || !self.interactive {
            return self.options.session.clone();
        }
        let (path, others) = session::automatic(&self.opened.path, owner)?;
        if others {
            log::info!("a new conversation: those kept have another system message, template or cache type");
        }
        Some(path)
    }

    /// Goes on with the conversation that was kept, if there is one.
    fn resume(&mut self) -> Outcome {
        let owner = self.owner();
        let Some(path) = self.place(&owner) else { return Ok(()) };
        let capacity = self.machine.session.capacity();
        let (keeper, saved) = Keeper::open(&path, owner, capacity, "the conversation");
        if let Some(saved) = saved.as_ref().filter(|saved| saved.end() > capacity) {
            let (path, end) = (path.display(), saved.end());
            log::warn!("{path} holds {end} tokens: the conversation starts fresh and is not saved; -c {end} has room");
            return Ok(());
        }
        self.machine.keeper = keeper;
        let Some(saved) = saved.filter(|saved| saved.end() > 0) else { return Ok(()) };
        let clock = Stopwatch::start();
        let restored = self.machine.restore(&saved, saved.end())?;
        self.conversation.resume(saved.messages());
        log::debug!("the session came back in {:.3} s", clock.seconds());
        let (messages, new) = match self.conversation.messages().len() {
            0 => (String::new(), ""),
            n if self.interactive => (format!("; the conversation of {n} messages goes on"), ", /new starts another"),
            n => (format!("; the conversation of {n} messages goes on"), ""),
        };
        log::info!("{}{messages}{new}", saved.line(restored));
        self.show_last();
        Ok(())
    }

    /// Shows at a terminal where the conversation stands.
    fn show_last(&self) {
        if !self.interactive || self.options.verbosity == Verbosity::Quiet {
            return;
        }
        let messages = self.conversation.messages();
        for message in &messages[messages.len().saturating_sub(2)..] {
            let mark = if message.role == Role::User { "> " } else { "" };
            terminal::show(&format!("{mark}{}\n", message.content));
        }
    }

    /// The conversation was cleared: also where it is kept.
    fn start_anew(&mut self) {
        if self.machine.keeper.is_on() {
            let owner = self.owner();
            if self.options.session.is_none()
                && let Some((path, _)) = session::automatic(&self.opened.path, &owner)
            {
                // Another system message has another file; this one's lock must be free before it is opened again.
                self.machine.keeper = Keeper::off();
                let capacity = self.machine.session.capacity();
                self.machine.keeper = Keeper::open(&path, owner.clone(), capacity, "the conversation").0;
            }
            self.machine.keeper.start_anew(owner);
            // A template that refuses such a conversation has no beginning worth keeping.
            let opening = self.conversation.opening(&self.voice.tokenizer).unwrap_or_default();
            self.machine.keep_first(&opening);
            self.machine.save(&[], Some(&[]), true);
        }
    }

    /// A message, or a command typed at the terminal.
    fn hear(&mut self, message: &str) -> Outcome {
        let command = message.trim();
        if self.interactive && command.starts_with('/') {
            return match self.command(command) {
                Ok(true) => Err(Failure::new(Code::Done, "")),
                Ok(false) => Ok(()),
                Err(failure) => self.survive(failure),
            };
        }
        self.conversation.push(Role::User, message.to_owned());
        self.reply().or_else(|failure| self.survive(failure))
    }

    /// At a terminal, an error about the conversation is told and the conversation goes on.
    fn survive(&mut self, failure: Failure) -> Outcome {
        if self.interactive && failure.code == Code::Data {
            failure.report(false);
            return Ok(());
        }
        Err(failure)
    }

    /// True if the conversation ends.
    fn command(&mut self, line: &str) -> Outcome<bool> {
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match name {
            "/quit" | "/exit" | "/bye" => return Ok(true),
            "/help" | "/?" => terminal::show(HELP),
            "/new" | "/clear" => {
                self.conversation.clear();
                self.start_anew();
                terminal::tell!("a new conversation starts");
            }
            "/system" => {
                self.conversation.set_system(rest.trim());
                self.start_anew();
                terminal::tell!("a new conversation starts");
            }
            "/regen" => match self.conversation.pop() {
                Some(message) if message.role == Role::Assistant => self.reply()?,
                other => {
                    if let Some(message) = other {
                        self.conversation.push(message.role, message.content);
                    }
                    terminal::tell!("there is no answer to give again");
                }
            },
            "/stats" => self.stats(),
            _ => terminal::tell!("unknown command {name}; /help lists them"),
        }
        Ok(false)
    }

    fn stats(&self) {
        if let Some(summary) = &self.last {
            terminal::tell!("{}", summary.line());
        }
        let session = &self.machine.session;
        terminal::tell!("the context holds {} of {} tokens", session.position(), session.capacity());
    }

    /// Answers the last message. If that fails, the message is taken back.
    fn reply(&mut self) -> Outcome {
        let answered = self.answer();
        if answered.is_err() {
            self.conversation.pop();
        }
        let (text, summary) = answered?;
        self.last = Some(summary);
        if summary.stop == Stop::Interrupted && text.is_empty() {
            self.conversation.pop();
        } else {
            self.conversation.push(Role::Assistant, text);
        }
        self.machine.save(&[], Some(&self.conversation.kept()), true);
        log::debug!("{}", summary.line());
        let capacity = self.machine.session.capacity();
        match summary.stop {
            Stop::Context => log::warn!(
                "the answer is cut: the context of {capacity} tokens is full; /new starts anew, -c gives more, \
                 --context-policy slide forgets the oldest turns"
            ),
            Stop::Interrupted if !self.interactive || signal::ending().is_some() => {
                return Err(Failure::new(Code::Interrupted, ""));
            }
            Stop::Interrupted => terminal::tell!("(stopped)"),
            Stop::End | Stop::Limit => {}
        }
        Ok(())
    }

    /// Makes room for an answer if there is too little, as the policy says. Returns the tokens to answer.
    fn make_room(&mut self) -> Outcome<Vec<u32>> {
        let tokens = self.conversation.tokens(&self.voice.tokenizer)?;
        let capacity = self.machine.session.capacity();
        let reserve = self.most.unwrap_or(capacity).min(capacity / 4);
        if self.policy == Policy::Stop || self.conversation.old_turns() == 0 || tokens.len() + reserve <= capacity {
            return Ok(tokens);
        }
        let (mut turns, mut rest) = (0, tokens.clone());
        while turns < self.conversation.old_turns() && rest.len() > capacity / 2 {
            turns += 1;
            rest = self.conversation.tokens_without(&self.voice.tokenizer, turns)?;
        }
        if self.policy == Policy::Summarise
            && let Some(note) = self.condense(turns, capacity / 8)?
        {
            self.conversation.condense(turns, note);
            log::info!(
                "the context of {capacity} tokens is nearly full: the oldest {turns} turns are a short note from now on (--context-policy)"
            );
            return self.conversation.tokens(&self.voice.tokenizer);
        }
        self.conversation.forget(turns);
        let (keep, gap) = gap(&tokens, &rest);
        // What the session holds beyond the gap stays there; if the template writes it otherwise now, it is read again.
        if gap > 0 && self.machine.shared(&tokens) > keep + gap {
            self.machine.forget(keep..keep + gap);
        }
        log::info!(
            "the context of {capacity} tokens is nearly full: the oldest {turns} turns are forgotten (--context-policy)"
        );
        Ok(rest)
    }

    /// What the model makes of the oldest `turns`, in at most `most` tokens; `None` if it does not come to an end.
    fn condense(&mut self, turns: usize, most: usize) -> Outcome<Option<String>> {
        let tokens = self.conversation.tokens_asking(&self.voice.tokenizer, turns, CONDENSE)?;
        if tokens.len() + most > self.machine.session.capacity() {
            return Ok(None);
        }
        let mut ask = Ask {
            prompt: &tokens,
            most: Some(most),
            ignore_eos: false,
            stop_text: self.conversation.stop_text,
            stop_token: self.conversation.stop_token,
            at_start: self.voice.ends_special(&tokens),
            window: None,
        };
        let mut note = String::new();
        let summary = self.voice.answer(&mut self.machine, &mut ask, &mut |piece| {
            note.push_str(piece);
            Ok(())
        })?;
        log::debug!("note: {}", note.trim());
        let usable = matches!(summary.stop, Stop::End | Stop::Limit) && !note.trim().is_empty();
        Ok(usable.then(|| note.trim().to_owned()))
    }

    /// What may be forgotten while the answer to `tokens` is written.
    fn window(&self, tokens: &[u32]) -> Outcome<Option<Window>> {
        let capacity = self.machine.session.capacity();
        if self.policy == Policy::Stop || self.most.is_some_and(|most| tokens.len() + most <= capacity) {
            return Ok(None);
        }
        let mut window = Window { keep: tokens.len(), turns: Vec::new(), answer: tokens.len() };
        for turns in 1..=self.conversation.old_turns() {
            let rest = self.conversation.tokens_without(&self.voice.tokenizer, turns)?;
            let (keep, gap) = gap(tokens, &rest);
            if gap == 0 || !window.turns.is_empty() && keep != window.keep {
                break;
            }
            window.keep = keep;
            window.turns.push(keep + gap);
        }
        Ok(Some(window))
    }

    fn answer(&mut self) -> Outcome<(String, Summary)> {
        let tokens = self.make_room()?;
        let mut ask = Ask {
            prompt: &tokens,
            most: self.most,
            ignore_eos: false,
            stop_text: self.conversation.stop_text,
            stop_token: self.conversation.stop_token,
            at_start: self.voice.ends_special(&tokens),
            window: self.window(&tokens)?,
        };
        let mut text = String::with_capacity(ANSWER_BYTES);
        let _silent = if self.interactive { Mode::silent() } else { None };
        let screen = &mut self.screen;
        self.machine.start_counting();
        let summary = self.voice.answer(&mut self.machine, &mut ask, &mut |piece| {
            // Space before an answer belongs to the form of the conversation.
            let piece = if text.is_empty() { piece.trim_start() } else { piece };
            text.push_str(piece);
            if piece.is_empty() { Ok(()) } else { screen.say(piece) }
        })?;
        self.machine.stop_counting();
        if text.is_empty() {
            self.screen.say("\n")?
        } else {
            self.screen.end_line()?
        }
        Ok((text, summary))
    }
}

/// The tokens of `whole` that `rest` lacks, if it lacks one run of them: where it starts, and its length; otherwise 0.
fn gap(whole: &[u32], rest: &[u32]) -> (usize, usize) {
    let keep = whole.iter().zip(rest).take_while(|(a, b)| a == b).count();
    let gap = whole.len().saturating_sub(rest.len());
    let same = whole.get(keep + gap..).is_some_and(|after| rest.get(keep..) == Some(after));
    (keep, if same { gap } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps() {
        assert_eq!(gap(&[1, 2, 3, 4, 5], &[1, 2, 5]), (2, 2));
        assert_eq!(gap(&[1, 2, 3, 4, 5], &[1, 2, 6]).1, 0);
        assert_eq!(gap(&[1, 2], &[1, 2]), (2, 0));
        assert_eq!(gap(&[1], &[1, 2]).1, 0);
        // The turns start alike: what both have in common at the start stays.
        assert_eq!(gap(&[9, 7, 1, 7, 2, 7, 3], &[9, 7, 2, 7, 3]), (2, 2));
    }
}
