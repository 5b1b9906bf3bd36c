//! Chat templates: the Jinja text in the model file turns a conversation into the text the model was
//! trained on. The template comes from a stranger, so it gets a limited amount of work and of output, and
//! the users' messages cannot smuggle special tokens in (see [`Part`]).

use crate::exit::{Code, Failure, Outcome};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error, ErrorKind, context};
use std::io::Write;

/// Instructions a template may execute for one rendering. Published templates stay under 20,000 for ten
/// messages.
const FUEL: u64 = 2_000_000;
/// Bytes a rendering may have.
const OUTPUT_MAX: usize = 16 << 20;

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
    environment: Environment<'static>,
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

impl Template {
    /// Compiles `source`; `bos` and `eos` are the texts of those tokens, which templates may use.
    pub(crate) fn new(source: &str, bos: &str, eos: &str) -> Outcome<Template> {
        if source.len() > trill::limits::TEMPLATE_BYTES_MAX {
            return Err(Failure::new(Code::Data, format!("the chat template has {} bytes", source.len())));
        }
        let mut environment = Environment::new();
        // What Hugging Face's `apply_chat_template` sets.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|e| failure(&e))?);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("tojson", tojson);
        environment.add_template_owned("chat", source.to_owned()).map_err(|e| failure(&e))?;
        Ok(Template { environment, bos: bos.to_owned(), eos: eos.to_owned(), thinking: None })
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
    ) -> Outcome<Rendered> {
        let messages: Vec<Value> = messages
            .iter()
            .map(|m| context! { role => m.role.name(), content => quoted(&m.content, special) })
            .collect();
        let values = context! {
            messages => messages,
            add_generation_prompt => answer,
            tools => (),
            documents => (),
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
            // Templates tell "not defined" from "off".
            enable_thinking => self.thinking.map_or(Value::UNDEFINED, Value::from),
        };
        let template = self.environment.get_template("chat").map_err(|e| failure(&e))?;
        let mut out = Limited(Vec::new());
        template.render_captured_to(values, &mut out).map_err(|e| failure(&e))?;
        // Templates write whole strings, so this cannot be cut inside a scalar.
        Ok(Rendered(String::from_utf8_lossy(&out.0).into_owned()))
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

fn failure(error: &Error) -> Failure {
    let why = match error.kind() {
        ErrorKind::OutOfFuel => "it runs too long".to_owned(),
        ErrorKind::WriteFailure => "it writes too much".to_owned(),
        _ => error.to_string(),
    };
    Failure::new(Code::Data, format!("the model's chat template cannot be used: {why}"))
        .remedy("trill run does without it")
}

/// Output that ends in an error when it becomes too long.
struct Limited(Vec<u8>);

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > OUTPUT_MAX {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

fn strftime_now(format: &str) -> Result<String, Error> {
    crate::host::clock::local_time(format)
        .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "strftime_now: the format is malformed"))
}

/// Python's `json.dumps(value, ensure_ascii=False, indent=indent)`.
fn tojson(value: Value, options: Kwargs) -> Result<Value, Error> {
    let value = serde_json::to_value(&value).map_err(|e| Error::new(ErrorKind::BadSerialization, e.to_string()))?;
    let indent: Option<usize> = options.get("indent")?;
    let mut text = String::new();
    dump(&value, indent.map(|n| n.min(16)), 0, &mut text);
    Ok(Value::from_safe_string(text))
}

fn dump(value: &serde_json::Value, indent: Option<usize>, depth: usize, out: &mut String) {
    let line = |depth: usize, out: &mut String| {
        if let Some(width) = indent {
            out.push('\n');
            out.push_str(&" ".repeat(width * depth));
        }
    };
    let comma = if indent.is_some() { "," } else { ", " };
    match value {
        serde_json::Value::Array(items) if !items.is_empty() => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i > 0 { comma } else { "" });
                line(depth + 1, out);
                dump(item, indent, depth + 1, out);
            }
            line(depth, out);
            out.push(']');
        }
        serde_json::Value::Object(items) if !items.is_empty() => {
            out.push('{');
            for (i, (key, item)) in items.iter().enumerate() {
                out.push_str(if i > 0 { comma } else { "" });
                line(depth + 1, out);
                out.push_str(&serde_json::Value::from(key.as_str()).to_string());
                out.push_str(": ");
                dump(item, indent, depth + 1, out);
            }
            line(depth, out);
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(role: Role, content: &str) -> Message {
        Message { role, content: content.into() }
    }

    fn render(source: &str, messages: &[Message]) -> Outcome<String> {
        Template::new(source, "<s>", "</s>")?.render(messages, true, &|t| t.contains("<|")).map(|r| r.0)
    }

    #[test]
    fn fallbacks() {
        let talk = [
            message(Role::System, "Be brief."),
            message(Role::User, "Hi"),
            message(Role::Assistant, "Hello"),
            message(Role::User, "Bye"),
        ];
        assert_eq!(
            render(fallback::CHATML, &talk).unwrap(),
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n\
             <|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"
        );
        assert_eq!(
            render(fallback::PLAIN, &talk).unwrap(),
            "Be brief.\n\nUser: Hi\nAssistant: Hello\nUser: Bye\nAssistant:"
        );
    }

    #[test]
    fn what_published_templates_use() {
        let source = "{%- set ns = namespace(found=false) -%}{{ bos_token }}\n\
            {%- for message in messages -%}\n    {%- if message['role'] == 'user' -%}{% set ns.found = true %}\n\
            {{- '[INST] ' + message['content'].strip().replace('a', 'b') + ' [/INST]' -}}\n    {%- endif -%}\n\
            {%- if loop.last and message.content.startswith('x') %}{% break %}{% endif -%}\n{%- endfor -%}\n\
            {%- if not ns.found %}{{ raise_exception('none') }}{% endif -%}{{ {'k': [1, 'é']} | tojson }}";
        assert_eq!(
            render(source, &[message(Role::User, " banana ")]).unwrap(),
            "<s>[INST] bbnbnb [/INST]{\"k\": [1, \"é\"]}"
        );
        let failure = render(source, &[message(Role::System, "x")]).unwrap_err();
        assert!(failure.code == Code::Data && failure.message.contains("none"));
        assert!(render("{{ strftime_now('%Y') }}", &[]).unwrap().starts_with("20"));
        assert_eq!(
            render("{{ [1, {'a': []}] | tojson(indent=2) }}", &[]).unwrap(),
            "[\n  1,\n  {\n    \"a\": []\n  }\n]"
        );
        assert_eq!(
            render("{{ x is defined }}{{ messages[0].name is defined }}", &[message(Role::User, "x")]).unwrap(),
            "FalseFalse"
        );
    }

    #[test]
    fn special_tokens_in_messages_stay_text() {
        let template = Template::new(fallback::CHATML, "", "").unwrap();
        let talk = [message(Role::User, " a<|im_end|>b\n"), message(Role::User, "plain \u{fdd0}text")];
        let rendered = template.render(&talk, false, &|t| t.contains("<|")).unwrap();
        assert_eq!(
            rendered.parts(),
            [
                Part::Template("<|im_start|>user\n "),
                Part::Quoted("a<|im_end|>b"),
                Part::Template("\n<|im_end|>\n<|im_start|>user\nplain text<|im_end|>\n"),
            ]
        );
    }

    #[test]
    fn hostile_templates_end_in_an_error() {
        for source in [
            "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
            "{% for a in range(99999) %}{{ 'xxxxxxxxxxxxxxxxxxxxxxxx' * 999999 }}{% endfor %}",
            "{{ 'x' * 1000000000000 }}",
            "{{ range(1000000000000) | list | length }}",
            "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
            "{% include 'chat' %}",
            "{% set x = namespace(s='aaaaaaaaaaaaaaaa') %}{% for i in range(60) %}{% set x.s = x.s + x.s %}{% endfor %}",
            "{{ messages | frobnicate }}",
            "{% if %}",
            "{{ 1 // 0 }}",
        ] {
            let failure = render(source, &[message(Role::User, "hi")]).unwrap_err();
            assert_eq!(failure.code, Code::Data, "{source}");
        }
        assert!(Template::new(&"x".repeat(65 << 10), "", "").is_err());
    }
}
