//! Chat templates: the Jinja text in the model file turns a conversation into the text the model was trained on.
//!
//! The template comes from a stranger. So this is an interpreter of our own that is small and counts: parsing and
//! rendering charge all they do (steps, bytes compared, copied, searched and held, depth, output) to a [`budget`], and
//! values cannot form cycles ([`values`]). What users say cannot smuggle special tokens in either (see [`Part`]).
//!
//! The language is jinja2's as Hugging Face's `apply_chat_template` sets it up (`trim_blocks`, `lstrip_blocks`, loop
//! controls, an immutable sandbox); `tests/oracle/templates.py` compares the two. A template's way: `lexer`, `parser` and
//! `expressions` make a tree (`syntax`), `execute` runs its statements and `evaluate` its expressions.

mod arguments;
mod arithmetic;
mod budget;
mod compare;
mod evaluate;
mod execute;
mod expressions;
mod filters;
mod format;
mod globals;
mod json;
mod lexer;
mod methods;
mod parser;
mod predicates;
mod sequences;
mod show;
mod syntax;
#[cfg(test)]
mod tests;
mod values;

use crate::exit::{Code, Failure, Outcome};
use budget::{Budget, Error};
use evaluate::Machine;
use std::rc::Rc;
use syntax::Program;
use values::{Entries, Value};

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) role: Role,
    pub(crate) content: String,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    System,
    User,
    Assistant,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

/// A piece of a rendered conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part<'r> {
    /// Special tokens written in it count.
    Template(&'r str),
    /// Text of a message that spells a special token: it stays text.
    Quoted(&'r str),
}

/// Around quoted text while the template is rendered: two scalars that Unicode reserves for such use and
/// that no text contains.
const QUOTE: [char; 2] = ['\u{fdd0}', '\u{fdd1}'];

/// The form of a model's conversations.
pub(crate) struct Template {
    program: Program,
    bos: String,
    eos: String,
    /// The value of `enable_thinking`, the switch that Qwen3's, SmolLM3's and Hunyuan's templates have.
    thinking: Option<bool>,
}

/// Templates for models that bring none.
pub(crate) mod fallback {
    /// Qwen's and many others' form.
    pub(crate) const CHATML: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n\
        {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    /// For models that know no special tokens at all.
    pub(crate) const PLAIN: &str = "{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}\n\n\
        {% elif m.role == 'user' %}User: {{ m.content }}\n{% else %}Assistant: {{ m.content }}\n{% endif %}\
        {% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}";
    /// What ends an answer in the plain form.
    pub(crate) const PLAIN_STOP: &str = "\nUser:";
}

/// Why there is no text of a conversation.
#[derive(Debug)]
pub(crate) struct Refused {
    /// The template is broken or hostile: no conversation will do.
    pub(crate) always: bool,
    pub(crate) failure: Failure,
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Failure {
        refused.failure
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Refused {
        let failure = Failure::new(Code::Data, format!("the model's chat template cannot be used: {error}"))
            .remedy("trill run does without it");
        Refused { always: error.exhausted, failure }
    }
}

impl Template {
    /// Parses `source`; `bos` and `eos` are the texts of those tokens, which templates may use.
    pub(crate) fn new(source: &str, bos: &str, eos: &str) -> Outcome<Template> {
        if source.len() > trill::limits::TEMPLATE_BYTES_MAX {
            return Err(Failure::new(Code::Data, format!("the chat template has {} bytes", source.len())));
        }
        let program = parser::parse(&lexer::normalised(source)).map_err(|e| Refused::from(e).failure)?;
        Ok(Template { program, bos: bos.to_owned(), eos: eos.to_owned(), thinking: None })
    }

    /// Turns thinking on or off in templates that have the switch.
    pub(crate) fn set_thinking(&mut self, thinking: bool) {
        self.thinking = Some(thinking);
    }

    /// The text of a conversation; with `answer`, up to where the assistant's next message starts. `special`
    /// says whether a text spells a special token.
    pub(crate) fn render(
        &self,
        messages: &[Message],
        answer: bool,
        special: &dyn Fn(&str) -> bool,
    ) -> Result<Rendered, Refused> {
        let bytes = messages.iter().map(|m| m.content.len()).sum();
        let budget = Budget::for_rendering(bytes, messages.len());
        let text = |text: &str| Value::text(&budget, text);
        let mut said = Vec::with_capacity(messages.len());
        for message in messages {
            let mut entries = Entries::new(&budget);
            entries.set(text("role")?, text(message.role.name())?)?;
            entries.set(text("content")?, text(&quoted(&message.content, special))?)?;
            said.push(entries.finish()?);
        }
        let mut context = vec![
            ("messages", Value::list(&budget, said)?),
            ("add_generation_prompt", Value::Bool(answer)),
            // As `apply_chat_template` hands them over where there are none.
            ("tools", Value::None),
            ("documents", Value::None),
            ("bos_token", text(&self.bos)?),
            ("eos_token", text(&self.eos)?),
        ];
        // Templates tell "not defined" from "off".
        context.extend(self.thinking.map(|thinking| ("enable_thinking", Value::Bool(thinking))));
        Ok(Rendered(self.render_with(budget.clone(), &context)?))
    }

    /// Renders with any variables.
    fn render_with(&self, budget: Rc<Budget>, context: &[(&str, Value)]) -> Result<String, Error> {
        Machine::new(&self.program, budget).run(context)
    }
}

/// A rendered conversation.
pub(crate) struct Rendered(String);

impl Rendered {
    /// The text in pieces.
    pub(crate) fn parts(&self) -> Vec<Part<'_>> {
        let mut parts = Vec::new();
        for (i, piece) in self.0.split(QUOTE).enumerate() {
            match piece {
                "" => {}
                piece if i % 2 == 0 => parts.push(Part::Template(piece)),
                piece => parts.push(Part::Quoted(piece)),
            }
        }
        parts
    }

    pub(crate) fn starts_with(&self, text: &str) -> bool {
        self.0.starts_with(text)
    }

    /// What follows the last occurrence of `text`.
    pub(crate) fn after<'s>(&'s self, text: &str) -> Option<&'s str> {
        self.0.rfind(text).map(|at| &self.0[at + text.len()..])
    }
}

/// Marks a message that spells a special token. Spaces around it stay outside the marks, because templates
/// trim messages.
fn quoted(content: &str, special: &dyn Fn(&str) -> bool) -> String {
    let clean: String = content.chars().filter(|c| !QUOTE.contains(c)).collect();
    let inner = clean.trim();
    if inner.is_empty() || !special(inner) {
        return clean;
    }
    let start = clean.len() - clean.trim_start().len();
    format!("{}{}{inner}{}{}", &clean[..start], QUOTE[0], QUOTE[1], &clean[start + inner.len()..])
}
