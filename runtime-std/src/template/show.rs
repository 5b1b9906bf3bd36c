//! Values as text: Python's `str()` and `repr()`.

use super::budget::Result;
use super::values::{Kind, Value, Writer};
use std::rc::Rc;

impl Value {
    /// `str(value)`, into `out`.
    pub(super) fn show(&self, out: &mut Writer) -> Result<()> {
        match self {
            Value::Undefined => Ok(()),
            Value::Str(text) => out.push_str(text.as_str()),
            _ => self.represent(out),
        }
    }

    /// `str(value)` as a value, without a copy if it is text.
    pub(super) fn to_text(&self, budget: &Rc<super::budget::Budget>) -> Result<Value> {
        if let Value::Str(_) = self {
            return Ok(self.clone());
        }
        let mut out = Writer::new(budget);
        self.show(&mut out)?;
        Ok(out.finish())
    }

    /// `repr(value)`, into `out`.
    pub(super) fn represent(&self, out: &mut Writer) -> Result<()> {
        out.budget().work(4)?;
        match self {
            Value::Undefined => out.push_str("Undefined"),
            Value::None => out.push_str("None"),
            Value::Bool(true) => out.push_str("True"),
            Value::Bool(false) => out.push_str("False"),
            Value::Int(n) => out.push_str(&n.to_string()),
            Value::Float(x) => out.push_str(&float(*x)),
            Value::Str(text) => quoted(text.as_str(), false, out),
            Value::Bytes(text) => {
                out.push('b')?;
                quoted(text.as_str(), true, out)
            }
            Value::Seq(seq) => {
                let (open, close) = match seq.kind {
                    Kind::List => ("[".to_owned(), "]"),
                    Kind::Tuple => ("(".to_owned(), if seq.items().len() == 1 { ",)" } else { ")" }),
                    Kind::View(name) => (format!("{name}(["), "])"),
                    Kind::Range => {
                        // Only its numbers are kept.
                        let number = |v: Option<&Value>| v.and_then(Value::integer).unwrap_or(0);
                        let first = number(seq.items().first());
                        let step = seq.items().get(1).map_or(1, |second| number(Some(second)).saturating_sub(first));
                        let end = seq.items().last().map_or(0, |last| number(Some(last)).saturating_add(step));
                        let step = if step == 1 { String::new() } else { format!(", {step}") };
                        return out.push_str(&format!("range({first}, {end}{step})"));
                    }
                    Kind::Iterator => return out.push_str("<generator object>"),
                };
                out.push_str(&open)?;
                for (i, item) in seq.items().iter().enumerate() {
                    out.push_str(if i > 0 { ", " } else { "" })?;
                    item.represent(out)?;
                }
                out.push_str(close)
            }
            Value::Dict(dict) => dict_of(dict.entries(), out),
            Value::Namespace(namespace) => {
                out.push_str("<Namespace ")?;
                dict_of(&namespace.entries(), out)?;
                out.push_str(">")
            }
            Value::Loop(l) => out.push_str(&format!("<LoopContext {}/{}>", l.index.get() + 1, l.items.items().len())),
            Value::Macro(_) => out.push_str("<Macro>"),
            Value::Function(_) | Value::Method(_) => out.push_str("<function>"),
            Value::Cycler(_) => out.push_str("<Cycler>"),
            Value::Joiner(_) => out.push_str("<Joiner>"),
        }
    }
}

fn dict_of(entries: &[(Value, Value)], out: &mut Writer) -> Result<()> {
    out.push('{')?;
    for (i, (key, value)) in entries.iter().enumerate() {
        out.push_str(if i > 0 { ", " } else { "" })?;
        key.represent(out)?;
        out.push_str(": ")?;
        value.represent(out)?;
    }
    out.push('}')
}

/// Python's `repr` of a float: the shortest digits that give it back, an exponent below 1e-4 and from 1e16 on.
pub(super) fn float(x: f64) -> String {
    if x.is_nan() {
        return "nan".into();
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let scientific = format!("{x:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if x != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs());
    }
    let plain = format!("{x}");
    if plain.contains('.') { plain } else { plain + ".0" }
}

/// Python's `repr` of a string or, with `bytes`, of its bytes.
fn quoted(text: &str, bytes: bool, out: &mut Writer) -> Result<()> {
    out.budget().work(super::methods::reading(text))?;
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote)?;
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n")?,
            '\r' => out.push_str("\\r")?,
            '\t' => out.push_str("\\t")?,
            '\\' => out.push_str("\\\\")?,
            c if c == quote => {
                out.push('\\')?;
                out.push(c)?;
            }
            ' '..='~' => out.push(c)?,
            c if bytes => {
                for b in c.encode_utf8(&mut [0; 4]).bytes() {
                    out.push_str(&format!("\\x{b:02x}"))?;
                }
            }
            c if is_printable(c) => out.push(c)?,
            c => match u32::from(c) {
                code @ 0..=0xff => out.push_str(&format!("\\x{code:02x}"))?,
                code @ 0x100..=0xffff => out.push_str(&format!("\\u{code:04x}"))?,
                code => out.push_str(&format!("\\U{code:08x}"))?,
            },
        }
    }
    out.push(quote)
}

/// Python's `str.isprintable` of a scalar: no separator but the space, no control, format or unassigned one.
pub(super) fn is_printable(c: char) -> bool {
    use unicode_general_category::{GeneralCategory as G, get_general_category};
    c == ' '
        || !matches!(
            get_general_category(c),
            G::Control
                | G::Format
                | G::Surrogate
                | G::PrivateUse
                | G::Unassigned
                | G::LineSeparator
                | G::ParagraphSeparator
                | G::SpaceSeparator
        )
}
