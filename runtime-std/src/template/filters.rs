//! Filters: what stands behind `|`. A new one is a line in [`find`] and, if it is longer than that, a function below.
//! Arguments are taken with their names in jinja2's order; everything that costs time or memory is charged by what is
//! called ([`Writer`], [`Items`], the methods of texts), or by hand before it is done.

use super::arguments::{Args, flag, integer, text};
use super::arithmetic;
use super::budget::{Error, Result, fail};
use super::evaluate::Machine;
use super::methods;
use super::sequences as seq;
use super::syntax::Arithmetic;
use super::values::{Kind, Value, Writer};

pub(crate) type Filter = fn(&mut Machine<'_>, Value, Args) -> Result<Value>;

/// Bytes of a number that is read from text.
const DIGITS_MAX: usize = 1000;

/// The filter of a name.
pub(super) fn find(name: &str) -> Option<Filter> {
    Some(match name {
        // Any value.
        "default" | "d" => |m, v, args| {
            let [other, boolean] = args.take(["default_value", "boolean"])?;
            let absent = matches!(v, Value::Undefined) || flag(&boolean, false) && !v.is_true();
            if absent { other.map_or_else(|| Value::text(&m.budget, ""), Ok) } else { Ok(v) }
        },
        "string" => |m, v, _| v.to_text(&m.budget),
        "tojson" => super::json::tojson,
        "length" | "count" => |_, v, _| Ok(Value::Int(i64::try_from(v.length()?).unwrap_or(i64::MAX))),
        "attr" => |m, v, args| {
            let [name] = args.take(["name"])?;
            // Members only, no items.
            match (&v, name) {
                (Value::Dict(_), Some(name)) if methods::find(&v, name.str().unwrap_or_default()).is_none() => {
                    Ok(Value::Undefined)
                }
                (_, Some(name)) => m.attribute(&v, &name, false),
                _ => fail("attr needs a name"),
            }
        },
        // Numbers.
        "abs" => |_, v, _| match v {
            Value::Float(x) => Ok(Value::Float(x.abs())),
            v => arithmetic::signed(v.integer().is_some_and(|n| n < 0), &v),
        },
        "int" => int,
        "float" => |m, v, args| {
            let [default] = args.take(["default"])?;
            Ok(float(m, &v)?.map_or(default.unwrap_or(Value::Float(0.0)), Value::Float))
        },
        "round" => round,
        // Text.
        "upper" => |m, v, _| on_text(m, &v, methods::upper),
        "lower" => |m, v, _| on_text(m, &v, methods::lower),
        "capitalize" => |m, v, _| on_text(m, &v, methods::capitalize),
        "title" => |m, v, _| on_text(m, &v, title),
        "trim" => |m, v, args| {
            let [set] = args.take(["chars"])?;
            let v = v.to_text(&m.budget)?;
            let set = super::arguments::text_or_none(&set)?;
            let subject = v.str().unwrap_or_default();
            let rest = methods::trimmed(&m.budget, subject, set, (true, true))?;
            if rest.len() == subject.len() { Ok(v.clone()) } else { Value::text(&m.budget, rest) }
        },
        "center" => |m, v, args| {
            let [width] = args.take(["width"])?;
            let width = integer(&width, 80)?;
            on_text(m, &v, |budget, text| methods::center(budget, text, width, ' '))
        },
        "replace" => |m, v, args| {
            let [old, new, count] = args.take(["old", "new", "count"])?;
            let argument = |value: Option<Value>| value.unwrap_or(Value::Undefined).to_text(&m.budget);
            let (old, new) = (argument(old)?, argument(new)?);
            let count = match &count {
                Some(Value::None) => -1,
                count => integer(count, -1)?,
            };
            let v = v.to_text(&m.budget)?;
            let [text, old, new] = [&v, &old, &new].map(|v| v.str().unwrap_or_default());
            methods::replaced(&m.budget, text, old, new, count)
        },
        "indent" => indent,
        "truncate" => truncate,
        "wordcount" => |m, v, _| {
            let text = v.to_text(&m.budget)?;
            let text = text.str().unwrap_or_default();
            m.budget.work(methods::reading(text))?;
            let words = text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| !w.is_empty());
            Ok(Value::Int(i64::try_from(words.count()).unwrap_or(i64::MAX)))
        },
        "escape" | "e" => |m, v, _| if matches!(&v, Value::Str(text) if text.safe) { Ok(v) } else { escape(m, &v) },
        "forceescape" => |m, v, _| escape(m, &v),
        "safe" => |m, v, _| {
            let (text, mut out) = (v.to_text(&m.budget)?, Writer::new(&m.budget));
            out.push_str(text.str().unwrap_or_default())?;
            Ok(out.finish_safe())
        },
        "urlencode" => urlencode,
        "format" => super::format::filter,
        // Lists.
        "list" => |m, v, _| seq::of_kind(m, &v, Kind::List),
        "items" => |m, v, _| match v {
            Value::Undefined => Value::list(&m.budget, []),
            v => methods::items(&m.budget, &v, Kind::Iterator),
        },
        "first" => |m, v, _| Ok(v.iterated(&m.budget)?.items().first().cloned().unwrap_or(Value::Undefined)),
        "last" => |m, v, _| Ok(v.iterated(&m.budget)?.items().last().cloned().unwrap_or(Value::Undefined)),
        "join" => |m, v, args| {
            let [separator, attribute] = args.take(["d", "attribute"])?;
            let items = seq::attributes(m, &v, attribute)?;
            let separator = separator.unwrap_or(Value::Undefined).to_text(&m.budget)?;
            methods::joined(&m.budget, items.items(), separator.str().unwrap_or_default())
        },
        "reverse" => seq::reverse,
        "sort" => seq::sort,
        "dictsort" => seq::dictsort,
        "unique" => seq::unique,
        "min" => |m, v, args| seq::extreme(m, &v, &args, false),
        "max" => |m, v, args| seq::extreme(m, &v, &args, true),
        "sum" => |m, v, args| {
            let [attribute, start] = args.take(["attribute", "start"])?;
            let items = seq::attributes(m, &v, attribute)?;
            let add = |sum: Value, item: &Value| {
                m.budget.work(super::budget::STEP)?;
                if let Value::Str(_) = sum {
                    return fail("sum adds no strings");
                }
                arithmetic::apply(Arithmetic::Add, &sum, item, &m.budget)
            };
            items.items().iter().try_fold(start.unwrap_or(Value::Int(0)), add)
        },
        "map" => seq::map,
        "select" => |m, v, args| seq::select(m, &v, args, false, true),
        "reject" => |m, v, args| seq::select(m, &v, args, false, false),
        "selectattr" => |m, v, args| seq::select(m, &v, args, true, true),
        "rejectattr" => |m, v, args| seq::select(m, &v, args, true, false),
        "groupby" => seq::groupby,
        "batch" => seq::batch,
        "slice" => seq::slice,
        _ => return None,
    })
}

/// What `make` makes of the value as text.
fn on_text(
    m: &Machine<'_>,
    value: &Value,
    make: impl FnOnce(&std::rc::Rc<super::budget::Budget>, &str) -> Result<Value>,
) -> Result<Value> {
    let text = value.to_text(&m.budget)?;
    let text = text.str().unwrap_or_default();
    m.budget.work(methods::reading(text))?;
    make(&m.budget, text)
}

/// The value as a float, if it can be read as one.
fn float(m: &Machine<'_>, value: &Value) -> Result<Option<f64>> {
    let Some(text) = value.str() else { return Ok(value.number()) };
    Ok(digits(m, text)?.and_then(|digits| digits.parse().ok()))
}

/// A number's text without spaces around it and underscores in it; `None` if it is too long for one.
fn digits(m: &Machine<'_>, text: &str) -> Result<Option<String>> {
    m.budget.work(text.len())?;
    let text = text.trim_matches(super::lexer::is_space);
    Ok((text.len() <= DIGITS_MAX).then(|| text.replace('_', "").to_ascii_lowercase()))
}

fn int(m: &mut Machine<'_>, value: Value, args: Args) -> Result<Value> {
    let [default, base] = args.take(["default", "base"])?;
    let base = integer(&base, 10)?;
    let read = match &value {
        Value::Str(text) => {
            let text = digits(m, text.as_str())?.unwrap_or_default();
            let radix = u32::try_from(base).ok().filter(|r| (2..=36).contains(r)).unwrap_or(10);
            let prefix = match radix {
                16 => "0x",
                8 => "0o",
                2 => "0b",
                _ => "",
            };
            i64::from_str_radix(text.strip_prefix(prefix).unwrap_or(&text), radix).ok()
        }
        other => other.integer(),
    };
    if let Some(n) = read {
        return Ok(Value::Int(n));
    }
    match float(m, &value)?.filter(|x| x.is_finite()) {
        Some(x) => super::format::whole(x).map(Value::Int),
        None => Ok(default.unwrap_or(Value::Int(0))),
    }
}

fn round(m: &mut Machine<'_>, value: Value, args: Args) -> Result<Value> {
    let [precision, method] = args.take(["precision", "method"])?;
    m.budget.work(super::budget::DECIMALS)?;
    let (precision, method) = (integer(&precision, 0)?, text(&method, "common")?);
    let x = value.number().ok_or_else(|| Error::new(format!("{} cannot be rounded", value.type_name())))?;
    if method == "common"
        && let Some(n) = value.integer()
        && precision >= 0
    {
        return Ok(Value::Int(n));
    }
    let precision = i32::try_from(precision.clamp(-300, 300)).unwrap_or(0);
    let scale = 10f64.powi(precision);
    Ok(Value::Float(match method {
        "ceil" => (x * scale).ceil() / scale,
        "floor" => (x * scale).floor() / scale,
        // Of the decimal digits, as Python: 2.675 is a little less than that, and 0.5 goes to the even side.
        "common" if precision >= 0 => {
            let digits = usize::try_from(precision).unwrap_or(0);
            format!("{x:.digits$}").parse().unwrap_or(x)
        }
        "common" => {
            let rounded = (x * scale).round_ties_even() / scale;
            return Ok(match value {
                Value::Float(_) => Value::Float(rounded),
                _ => Value::Int(super::format::whole(rounded)?),
            });
        }
        _ => return fail("round knows common, ceil and floor"),
    }))
}

fn title(budget: &std::rc::Rc<super::budget::Budget>, text: &str) -> Result<Value> {
    let mut starts = true;
    methods::mapped(budget, text, |c, out| {
        let is_end = super::lexer::is_space(c) || matches!(c, '-' | '(' | '{' | '[' | '<');
        match std::mem::replace(&mut starts, is_end) {
            true => c.to_uppercase().try_for_each(|c| out.push(c)),
            false => c.to_lowercase().try_for_each(|c| out.push(c)),
        }
    })
}

fn indent(m: &mut Machine<'_>, value: Value, args: Args) -> Result<Value> {
    let [width, first, blank] = args.take(["width", "first", "blank"])?;
    let spaces;
    let margin = match &width {
        Some(Value::Str(text)) => text.as_str(),
        width => {
            let mut out = Writer::new(&m.budget);
            out.repeat(" ", usize::try_from(integer(width, 4)?).unwrap_or(0))?;
            spaces = out.finish();
            spaces.str().unwrap_or_default()
        }
    };
    let (first, blank) = (flag(&first, false), flag(&blank, false));
    let subject = value.to_text(&m.budget)?;
    let subject = subject.str().unwrap_or_default();
    m.budget.work(methods::reading(subject))?;
    let mut out = Writer::new(&m.budget);
    let ends_open = subject.is_empty() || subject.ends_with('\n');
    // jinja2 adds a newline and then splits into lines: an empty last line is a line too.
    let lines = methods::lines(subject).map(|(line, _)| line).chain(ends_open.then_some(""));
    for (i, line) in lines.enumerate() {
        out.push_str(if i > 0 { "\n" } else { "" })?;
        let indented = if i == 0 { first } else { blank || !line.is_empty() };
        out.push_str(if indented { margin } else { "" })?;
        out.push_str(line)?;
    }
    Ok(out.finish())
}

fn truncate(m: &mut Machine<'_>, value: Value, args: Args) -> Result<Value> {
    let [length, killwords, end, leeway] = args.take(["length", "killwords", "end", "leeway"])?;
    let (length, leeway, end) = (integer(&length, 255)?, integer(&leeway, 5)?, text(&end, "...")?);
    let subject = value.to_text(&m.budget)?;
    let chars = i64::try_from(subject.length()?).unwrap_or(i64::MAX);
    if chars <= length.saturating_add(leeway) {
        return Ok(subject);
    }
    let kept = length.saturating_sub(i64::try_from(end.chars().count()).unwrap_or(0));
    if kept < 0 {
        return fail("truncate: the end is longer than the length");
    }
    let cut = arithmetic::slice(&subject, [None, Some(kept), None], &m.budget)?.unwrap_or(Value::Undefined);
    let text = cut.str().unwrap_or_default();
    let kept = if flag(&killwords, false) { text } else { text.rsplit_once(' ').map_or(text, |(words, _)| words) };
    let mut out = Writer::new(&m.budget);
    out.push_str(kept)?;
    out.push_str(end)?;
    Ok(out.finish())
}

/// `text` with the characters of HTML spelled out, as markupsafe does it.
pub(super) fn escaped(text: &str, out: &mut Writer) -> Result<()> {
    text.chars().try_for_each(|c| match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '\'' => out.push_str("&#39;"),
        '"' => out.push_str("&#34;"),
        c => out.push(c),
    })
}

fn escape(m: &Machine<'_>, value: &Value) -> Result<Value> {
    let (text, mut out) = (value.to_text(&m.budget)?, Writer::new(&m.budget));
    escaped(text.str().unwrap_or_default(), &mut out)?;
    Ok(out.finish_safe())
}

fn urlencode(m: &mut Machine<'_>, value: Value, _: Args) -> Result<Value> {
    let mut out = Writer::new(&m.budget);
    let pairs = match &value {
        Value::Dict(_) => methods::items(&m.budget, &value, Kind::List)?,
        Value::Seq(_) => value.clone(),
        other => {
            percent_encoded(other.to_text(&m.budget)?.str().unwrap_or_default(), "/", &mut out)?;
            return Ok(out.finish());
        }
    };
    for (i, pair) in pairs.iterated(&m.budget)?.items().iter().enumerate() {
        let pair = pair.iterated(&m.budget)?;
        let [key, value] = pair.items() else { return fail("urlencode takes pairs") };
        out.push_str(if i > 0 { "&" } else { "" })?;
        for (part, before) in [(key, ""), (value, "=")] {
            out.push_str(before)?;
            percent_encoded(part.to_text(&m.budget)?.str().unwrap_or_default(), "", &mut out)?;
        }
    }
    Ok(out.finish())
}

fn percent_encoded(text: &str, plain: &str, out: &mut Writer) -> Result<()> {
    text.bytes().try_for_each(|b| match char::from(b) {
        c if c.is_ascii_alphanumeric() || "_.-~".contains(c) || plain.contains(c) => out.push(c),
        ' ' if plain.is_empty() => out.push('+'),
        _ => out.push_str(&format!("%{b:02X}")),
    })
}
