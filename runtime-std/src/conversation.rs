//! A conversation in the form its model was trained on: messages to tokens, and what ends an answer.

use crate::engine::Opened;
use crate::exit::Outcome;
use crate::generate::encode;
use crate::template::{Message, Part, Role, Template, fallback};
use sha2::{Digest, Sha256};
use trill::tokenizer::{EncodeOptions, Kind, Tokenizer};

/// What has been said, and how to put it to the model.
pub(crate) struct Conversation {
    template: Template,
    bos: String,
    system: Option<String>,
    messages: Vec<Message>,
    /// Hash of the template and of what it may write.
    form: [u8; 32],
    /// What was said before the first of them, in short.
    note: Option<String>,
    /// Text that ends an answer; empty where a token does.
    pub(crate) stop_text: &'static str,
    /// The token with which the template ends an answer, if it is one.
    pub(crate) stop_token: Option<u32>,
}

impl Conversation {
    /// An empty conversation in the form of the model's template, or of a common one if it has none.
    pub(crate) fn new(opened: &Opened, tokenizer: &Tokenizer<'_>, system: Option<String>) -> Outcome<Conversation> {
        let text = |id: Option<u32>| {
            let bytes = id.and_then(|id| tokenizer.token_bytes(id)).unwrap_or_default();
            String::from_utf8_lossy(bytes).into_owned()
        };
        let chatml = [&b"<|im_start|>"[..], b"<|im_end|>"].iter().all(|t| tokenizer.find(t).is_some());
        let (source, stop_text) = match opened.template()? {
            Some(source) => (source, ""),
            None if chatml => {
                log::info!("the model brings no chat template: ChatML is used");
                (fallback::CHATML, "")
            }
            None => {
                log::info!("the model brings no chat template: plain User: and Assistant: lines are used");
                (fallback::PLAIN, fallback::PLAIN_STOP)
            }
        };
        let bos = text(tokenizer.bos());
        let eos = text(tokenizer.eos());
        let template = Template::new(source, &bos, &eos)?;
        let form = hash(&[source, &bos, &eos]);
        let (messages, note) = (Vec::new(), None);
        let mut new = Conversation { template, bos, system, messages, form, note, stop_text, stop_token: None };
        new.stop_token = new.turn_end(tokenizer)?;
        Ok(new)
    }

    /// Asks the model to think, or not to, before it answers, where its template has a switch.
    pub(crate) fn thinking(mut self, think: Option<bool>) -> Conversation {
        if let Some(think) = think {
            self.template.set_thinking(think);
            let mut hash = Sha256::new_with_prefix(self.form);
            hash.update([u8::from(think)]);
            self.form = hash.finalize().into();
        }
        self
    }

    /// The special token that the template puts behind an answer.
    fn turn_end(&self, tokenizer: &Tokenizer<'_>) -> Outcome<Option<u32>> {
        const ANSWER: &str = "trill-answer";
        let message = |role, content: &str| Message { role, content: content.to_owned() };
        let talk = [message(Role::User, "a"), message(Role::Assistant, ANSWER)];
        let rendered = match self.template.render(&talk, false, &|_| false) {
            Ok(rendered) => rendered,
            Err(refused) if refused.always => return Err(refused.failure),
            // A template that refuses this conversation tells nothing, and then the vocabulary's ends must do.
            Err(_) => return Ok(None),
        };
        let Some(rest) = rendered.after(ANSWER).map(str::trim_start) else { return Ok(None) };
        let mut ids = Vec::new();
        let options = EncodeOptions { add_bos: false, parse_special: true };
        if encode(tokenizer, rest.as_bytes(), options, &mut ids).is_err() {
            return Ok(None);
        }
        let ends = |&id: &u32| matches!(tokenizer.kind(id), Some(Kind::Control | Kind::UserDefined));
        Ok(ids.first().copied().filter(ends))
    }

    /// A hash of what every conversation of this form begins with: the template and the system message.
    pub(crate) fn form(&self) -> [u8; 32] {
        let mut hash = Sha256::new_with_prefix(self.form);
        if let Some(system) = &self.system {
            hash.update(system);
        }
        hash.update([u8::from(self.system.is_some())]);
        hash.finalize().into()
    }

    /// All that is needed to go on another time: the messages, before them the note, if there is one, as a system
    /// message.
    pub(crate) fn kept(&self) -> Vec<Message> {
        let note = self.note.iter().map(|text| Message { role: Role::System, content: text.clone() });
        note.chain(self.messages.iter().cloned()).collect()
    }

    /// Goes on where another conversation of this form ended.
    pub(crate) fn resume(&mut self, kept: &[Message]) {
        let note = kept.first().filter(|m| m.role == Role::System);
        self.note = note.map(|m| m.content.clone());
        self.messages = kept[usize::from(note.is_some())..].to_vec();
    }

    /// What was said.
    pub(crate) fn messages(&self) -> &[Message] {
        &self.messages
    }

    pub(crate) fn push(&mut self, role: Role, content: String) {
        self.messages.push(Message { role, content });
    }

    /// Takes back the last message.
    pub(crate) fn pop(&mut self) -> Option<Message> {
        self.messages.pop()
    }

    /// Forgets everything but the system message.
    pub(crate) fn clear(&mut self) {
        self.messages.clear();
        self.note = None;
    }

    /// Old turns, a question and its answer each, that could be forgotten.
    pub(crate) fn old_turns(&self) -> usize {
        self.messages.len().saturating_sub(1) / 2
    }

    /// Forgets the oldest `turns`.
    pub(crate) fn forget(&mut self, turns: usize) {
        self.messages.drain(..(2 * turns).min(self.messages.len()));
    }

    /// Puts `note` in the place of the oldest `turns`.
    pub(crate) fn condense(&mut self, turns: usize, note: String) {
        self.forget(turns);
        self.note = Some(note);
    }

    /// The tokens of the oldest `turns` followed by the question `ask`, up to where its answer starts.
    pub(crate) fn tokens_asking(&self, tokenizer: &Tokenizer<'_>, turns: usize, ask: &str) -> Outcome<Vec<u32>> {
        let mut messages = self.messages.get(..2 * turns).unwrap_or_default().to_vec();
        messages.push(Message { role: Role::User, content: ask.to_owned() });
        self.render(tokenizer, messages)
    }

    /// What every conversation with this system message begins with, before anything is said.
    pub(crate) fn opening(&self, tokenizer: &Tokenizer<'_>) -> Outcome<Vec<u32>> {
        let (mut a, b) = (self.tokens_asking(tokenizer, 0, "a")?, self.tokens_asking(tokenizer, 0, "b")?);
        a.truncate(a.iter().zip(&b).take_while(|(a, b)| a == b).count());
        Ok(a)
    }

    /// Starts anew with another system message; an empty one means none.
    pub(crate) fn set_system(&mut self, text: &str) {
        self.system = (!text.is_empty()).then(|| text.to_owned());
        self.clear();
    }

    /// The tokens of the whole conversation, up to where the next answer starts.
    pub(crate) fn tokens(&self, tokenizer: &Tokenizer<'_>) -> Outcome<Vec<u32>> {
        self.tokens_without(tokenizer, 0)
    }

    /// The same without the oldest `turns`.
    pub(crate) fn tokens_without(&self, tokenizer: &Tokenizer<'_>, turns: usize) -> Outcome<Vec<u32>> {
        self.render(tokenizer, self.messages.get(2 * turns..).unwrap_or_default().to_vec())
    }

    fn render(&self, tokenizer: &Tokenizer<'_>, mut messages: Vec<Message>) -> Outcome<Vec<u32>> {
        if let (Some(note), Some(first)) = (&self.note, messages.first_mut()) {
            first.content = format!("(What we said before, in short: {note})\n\n{}", first.content);
        }
        let system = self.system.iter().map(|text| Message { role: Role::System, content: text.clone() });
        let messages: Vec<Message> = system.chain(messages).collect();
        let rendered = self.template.render(&messages, true, &|text| spells_special(tokenizer, text))?;
        // A template that writes the beginning token itself must not get a second one.
        let mut add_bos = tokenizer.add_bos() && (self.bos.is_empty() || !rendered.starts_with(&self.bos));
        let mut ids = Vec::new();
        for part in rendered.parts() {
            let (text, parse_special) = match part {
                Part::Template(text) => (text, true),
                Part::Quoted(text) => (text, false),
            };
            encode(tokenizer, text.as_bytes(), EncodeOptions { add_bos, parse_special }, &mut ids)?;
            add_bos = false;
        }
        Ok(ids)
    }
}

/// A hash of texts, none of which can be taken for part of another.
fn hash(texts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    hash.finalize().into()
}

/// Whether a text would yield special tokens if they were looked for in it.
fn spells_special(tokenizer: &Tokenizer<'_>, text: &str) -> bool {
    let ids = |parse_special| {
        let mut ids = Vec::new();
        encode(tokenizer, text.as_bytes(), EncodeOptions { add_bos: false, parse_special }, &mut ids).map(|()| ids)
    };
    ids(true) != ids(false)
}
