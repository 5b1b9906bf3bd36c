//! `trill run`: completes a text.

use super::Command;
use crate::conversation::Conversation;
use crate::engine::{self, Machine, Opened};
use crate::exit::{Code, Failure, Outcome};
use crate::full_context::{Policy, Window};
use crate::generate::{self, Ask, Stop, Summary, Voice, encode};
use crate::host::clock::Stopwatch;
use crate::host::signal;
use crate::input;
use crate::options::Options;
use crate::report::json;
use crate::session::{Keeper, Owner, Saved};
use crate::template::Role;
use crate::terminal::Screen;
use serde_json::json;
use trill::tokenizer::{EncodeOptions, Tokenizer};

pub(crate) const RUN: Command = Command {
    name: "run",
    summary: "continues a text",
    usage: "run -m MODEL [-p TEXT | -f FILE] [-n TOKENS] [flags] [< TEXT]",
    notes: "Prints the continuation only. --json: text, token_ids, stop_reason (stop, length, context, interrupted)\n\
            and timings. --temp 0 is reproducible; so is any run with the same --seed.\n\
            With --session and no text, the saved text goes on.",
    bit: 1 << 1,
    takes_model: false,
    operands: &[],
    run,
};

/// Bytes of text collected for `--json` before more memory is asked for.
const TEXT_BYTES: usize = 64 << 10;

fn run(options: &Options) -> Outcome {
    let text = input::text(options)?;
    let clock = Stopwatch::start();
    let mut opened = engine::open(options)?;
    let (mut machine, mut voice) = generate::load(options, &mut opened)?;
    let saved = open_session(options, &opened, &mut machine);
    let (tokens, conversation) = if options.chat {
        let mut conversation =
            Conversation::new(&opened, &voice.tokenizer, options.system_text())?.thinking(options.think);
        conversation.push(Role::User, input::utf8(text)?);
        (conversation.tokens(&voice.tokenizer)?, Some(conversation))
    } else {
        let before = saved.as_ref().filter(|_| text.is_empty()).map(Saved::tokens);
        match before {
            Some(before) if !before.is_empty() => (before.to_vec(), None),
            _ => (plain(options, &voice.tokenizer, &text)?, None),
        }
    };
    if let Some(saved) = &saved {
        restore(saved, &tokens, &mut machine)?;
    }
    drop(saved);
    log::debug!("loaded in {:.2} s, {} tokens to read", clock.seconds(), tokens.len());
    signal::catch_interrupts();
    let mut ask = Ask {
        prompt: &tokens,
        most: options.predict,
        ignore_eos: options.ignore_eos,
        stop_text: conversation.as_ref().map_or("", |c| c.stop_text),
        stop_token: conversation.as_ref().and_then(|c| c.stop_token),
        at_start: voice.ends_special(&tokens),
        window: window(options, &voice, &tokens),
    };
    let mut screen = Screen::text();
    if let (true, Some(prompt)) = (options.echo, options.prompt_text()) {
        screen.say(&prompt)?;
    }
    let mut text = String::with_capacity(if options.json { TEXT_BYTES } else { 0 });
    machine.start_counting();
    let summary = voice.answer(&mut machine, &mut ask, &mut |piece| {
        if options.json {
            text.push_str(piece);
            return Ok(());
        }
        screen.say(piece)
    })?;
    machine.stop_counting();
    let read = (machine.session.position() + summary.forgotten).checked_sub(tokens.len());
    machine.save(read.and_then(|n| voice.answer.get(n..)).unwrap_or_default(), None, true);
    if options.json {
        json::print(&report(&text, &voice, &summary))?;
    } else if crate::host::is_terminal(1) {
        screen.end_line()?;
    } else {
        screen.finish()?;
    }
    log::debug!("{}", summary.line());
    end(summary.stop, machine.session.capacity())
}

/// Opens the file of `--session`; what it holds is not in the machine yet.
pub(super) fn open_session(options: &Options, opened: &Opened, machine: &mut Machine) -> Option<Saved> {
    let path = options.session.as_deref()?;
    let owner = Owner::text(options, opened, machine.session.state_key());
    let (keeper, saved) = Keeper::open(path, owner, machine.session.capacity(), "the text");
    machine.keeper = keeper;
    saved
}

/// Restores what `tokens` and a saved text have in common.
pub(super) fn restore(saved: &Saved, tokens: &[u32], machine: &mut Machine) -> Outcome {
    let clock = Stopwatch::start();
    let keep = machine.restore(saved, saved.shared(tokens))?;
    log::debug!("the session came back in {:.3} s", clock.seconds());
    if keep > 0 {
        log::info!("{}", saved.line(keep));
    } else if saved.end() > 0 {
        log::info!("restored 0 tokens: the saved text begins otherwise, and this one takes its place");
    }
    Ok(())
}

/// What may be forgotten when the context is full, if that is asked for.
fn window(options: &Options, voice: &Voice, tokens: &[u32]) -> Option<Window> {
    if options.context_policy != Some(Policy::Slide) {
        return None;
    }
    let starts = tokens.first().copied().filter(|&id| voice.tokenizer.bos() == Some(id));
    let keep = match options.keep {
        Some(keep) => usize::try_from(keep).unwrap_or(tokens.len()).min(tokens.len()),
        None if options.chat => tokens.len(),
        None => usize::from(starts.is_some()),
    };
    // A text that continues another has no start of its own: all of it after `keep` is alike.
    Some(Window { keep, turns: Vec::new(), answer: keep })
}

/// The tokens of a text that is continued as it stands.
fn plain(options: &Options, tokenizer: &Tokenizer<'_>, text: &[u8]) -> Outcome<Vec<u32>> {
    let mut tokens = Vec::new();
    if let Some(system) = &options.system {
        log::warn!("-sys {system}: only --chat and trill chat have a system message");
    }
    let how = EncodeOptions { add_bos: tokenizer.add_bos(), parse_special: options.parse_special };
    encode(tokenizer, text, how, &mut tokens)?;
    if tokens.is_empty() {
        // A text from nothing starts where the model's texts start.
        let start = tokenizer.bos().or(tokenizer.eos());
        tokens.push(start.ok_or_else(|| Failure::usage("there is no text to continue").remedy("give one with -p"))?);
    }
    Ok(tokens)
}

fn report(text: &str, voice: &Voice, summary: &Summary) -> serde_json::Value {
    json!({
        "text": text,
        "token_ids": voice.answer,
        "stop_reason": summary.stop.name(),
        "timings": summary.json(),
    })
}

/// What the user should know about how it ended.
fn end(stop: Stop, capacity: usize) -> Outcome {
    match stop {
        Stop::Interrupted => Err(Failure::new(Code::Interrupted, "")),
        Stop::Context => {
            log::warn!(
                "stopped: the context of {capacity} tokens is full; -c gives more, --context-policy slide forgets the oldest"
            );
            Ok(())
        }
        Stop::End | Stop::Limit => Ok(()),
    }
}
