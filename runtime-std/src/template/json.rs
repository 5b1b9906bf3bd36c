//! The filter `tojson`, as transformers defines it: Python's `json.dumps`.

use super::arguments::{Args, flag};
use super::budget::{Result, fail};
use super::compare::sorted;
use super::evaluate::Machine;
use super::values::{Kind, Value, Writer};

/// Spaces of a level; Python has no limit, and no one a use for more.
const INDENT_MAX: usize = 64;

struct Style {
    indent: Option<String>,
    /// Between items, and between a key and its value.
    comma: String,
    colon: String,
    ascii: bool,
    sort: bool,
}

pub(super) fn tojson(machine: &mut Machine<'_>, value: Value, args: Args) -> Result<Value> {
    let [ascii, indent, separators, sort] = args.take(["ensure_ascii", "indent", "separators", "sort_keys"])?;
    let indent = match &indent {
        None | Some(Value::None) => None,
        Some(Value::Str(text)) if text.as_str().len() <= INDENT_MAX => Some(text.as_str().to_owned()),
        Some(other) => match other.integer().map(|n| usize::try_from(n).unwrap_or(0)) {
            Some(n @ 0..=INDENT_MAX) => Some(" ".repeat(n)),
            _ => return fail("tojson: the indent is too large"),
        },
    };
    let comma = if indent.is_some() { "," } else { ", " };
    let (comma, colon) = match &separators {
        None | Some(Value::None) => (comma.to_owned(), ": ".to_owned()),
        Some(Value::Seq(pair)) => match pair.items() {
            [Value::Str(comma), Value::Str(colon)] => (comma.as_str().to_owned(), colon.as_str().to_owned()),
            _ => return fail("tojson: separators are two strings"),
        },
        Some(_) => return fail("tojson: separators are two strings"),
    };
    let style = Style { indent, comma, colon, ascii: flag(&ascii, false), sort: flag(&sort, false) };
    let mut out = Writer::new(&machine.budget);
    dump(&value, &style, 0, &mut out)?;
    Ok(out.finish())
}

fn dump(value: &Value, style: &Style, depth: usize, out: &mut Writer) -> Result<()> {
    let line = |depth: usize, out: &mut Writer| match &style.indent {
        None => Ok(()),
        Some(indent) => {
            out.push('\n')?;
            out.repeat(indent, depth)
        }
    };
    match value {
        Value::None => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Int(n) => out.push_str(&n.to_string()),
        Value::Float(x) => out.push_str(&number(*x)),
        Value::Str(text) => string(text.as_str(), style.ascii, out),
        Value::Seq(seq) if matches!(seq.kind, Kind::List | Kind::Tuple) => {
            if seq.items().is_empty() {
                return out.push_str("[]");
            }
            out.push('[')?;
            for (i, item) in seq.items().iter().enumerate() {
                out.push_str(if i > 0 { &style.comma } else { "" })?;
                line(depth + 1, out)?;
                dump(item, style, depth + 1, out)?;
            }
            line(depth, out)?;
            out.push(']')
        }
        Value::Dict(dict) => {
            let entries = dict.entries();
            if entries.is_empty() {
                return out.push_str("{}");
            }
            let budget = out.budget().clone();
            let mut order: Vec<usize> = (0..entries.len()).collect();
            if style.sort {
                order = sorted(entries.len(), &mut |a, b| match (entries.get(a), entries.get(b)) {
                    (Some((a, _)), Some((b, _))) => Ok(a.order(b, &budget)?.is_lt()),
                    _ => Ok(false),
                })?;
            }
            out.push('{')?;
            for (i, (key, item)) in order.iter().filter_map(|i| entries.get(*i)).enumerate() {
                out.push_str(if i > 0 { &style.comma } else { "" })?;
                line(depth + 1, out)?;
                match key {
                    Value::Str(text) => string(text.as_str(), style.ascii, out)?,
                    Value::None | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
                        out.push('"')?;
                        dump(key, style, depth, out)?;
                        out.push('"')?;
                    }
                    other => return fail(format!("tojson: {} is no key", other.type_name())),
                }
                out.push_str(&style.colon)?;
                dump(item, style, depth + 1, out)?;
            }
            line(depth, out)?;
            out.push('}')
        }
        other => fail(format!("tojson: {} has no form in JSON", other.type_name())),
    }
}

fn number(x: f64) -> String {
    if x.is_nan() {
        return "NaN".into();
    }
    if x.is_infinite() {
        return if x > 0.0 { "Infinity".into() } else { "-Infinity".into() };
    }
    super::show::float(x)
}

fn string(text: &str, ascii: bool, out: &mut Writer) -> Result<()> {
    out.push('"')?;
    let mut plain = 0;
    for (at, c) in text.char_indices() {
        if !matches!(c, '"' | '\\' | '\0'..='\u{1f}') && (c.is_ascii() || !ascii) {
            continue;
        }
        out.push_str(text.get(plain..at).unwrap_or_default())?;
        plain = at + c.len_utf8();
        match c {
            '"' => out.push_str("\\\"")?,
            '\\' => out.push_str("\\\\")?,
            '\n' => out.push_str("\\n")?,
            '\r' => out.push_str("\\r")?,
            '\t' => out.push_str("\\t")?,
            '\u{8}' => out.push_str("\\b")?,
            '\u{c}' => out.push_str("\\f")?,
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"))?;
                }
            }
        }
    }
    out.push_str(text.get(plain..).unwrap_or_default())?;
    out.push('"')
}
