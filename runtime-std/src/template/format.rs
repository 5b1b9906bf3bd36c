//! Python's two ways to put values into text: `'%s' % x` and `'{}'.format(x)`.

use super::arguments::Args;
use super::budget::{Error, Result, fail};
use super::evaluate::Machine;
use super::values::{Kind, Value, Writer};
use std::iter::Peekable;
use std::rc::Rc;
use std::str::Chars;

/// Digits behind the point.
const PRECISION_MAX: usize = 300;

/// How a value is laid out.
#[derive(Default)]
struct Layout {
    fill: Option<char>,
    /// `<`, `>`, `^` or `=`.
    align: Option<char>,
    /// `+` or a space where there is no minus.
    sign: Option<char>,
    alternate: bool,
    grouping: Option<char>,
    width: usize,
    precision: Option<usize>,
    kind: Option<char>,
}

fn malformed() -> Error {
    Error::new("a format is malformed")
}

/// A number in a format.
fn count(chars: &mut Peekable<Chars<'_>>) -> Result<Option<usize>> {
    let mut n = None;
    while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
        chars.next();
        n = Some(
            n.unwrap_or(0usize).checked_mul(10).and_then(|n| n.checked_add(digit as usize)).ok_or_else(malformed)?,
        );
    }
    Ok(n)
}

/// `format % values`, into `out`.
pub(super) fn percent(format: &str, values: &Value, out: &mut Writer) -> Result<()> {
    out.budget().work(format.len())?;
    let several = match values {
        Value::Seq(seq) if seq.kind == Kind::Tuple => Some(seq.items()),
        _ => None,
    };
    let mut given = several.unwrap_or(std::slice::from_ref(values)).iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c)?;
            continue;
        }
        let mut named = None;
        if chars.next_if_eq(&'(').is_some() {
            let name: String = chars.by_ref().take_while(|c| *c != ')').collect();
            let Value::Dict(dict) = values else { return fail("the format needs a dict") };
            let key = Value::text(out.budget(), &name)?;
            let value = dict.get(&key, out.budget())?.cloned();
            named = Some(value.ok_or_else(|| Error::new("the format names a key that is not there"))?);
        }
        let mut layout = Layout::default();
        while let Some(flag) = chars.next_if(|c| matches!(c, '#' | '0' | '-' | ' ' | '+')) {
            match flag {
                '#' => layout.alternate = true,
                '0' => layout.fill = Some('0'),
                '-' => layout.align = Some('<'),
                sign => layout.sign = Some(if layout.sign == Some('+') { '+' } else { sign }),
            }
        }
        let mut next = || {
            named.clone().or_else(|| given.next().cloned()).ok_or_else(|| Error::new("the format needs more values"))
        };
        let mut star = |chars: &mut Peekable<Chars<'_>>| -> Result<Option<usize>> {
            if chars.next_if_eq(&'*').is_none() {
                return count(chars);
            }
            let n = next()?.integer().and_then(|n| usize::try_from(n).ok());
            n.map(Some).ok_or_else(malformed)
        };
        layout.width = star(&mut chars)?.unwrap_or(0);
        if chars.next_if_eq(&'.').is_some() {
            layout.precision = Some(star(&mut chars)?.unwrap_or(0));
        }
        while chars.next_if(|c| matches!(c, 'h' | 'l' | 'L')).is_some() {}
        let kind = chars.next().ok_or_else(malformed)?;
        if kind == '%' {
            out.push('%')?;
            continue;
        }
        let value = next()?;
        let budget = out.budget().clone();
        let mut text = Writer::new(&budget);
        match kind {
            's' | 'a' => value.show(&mut text)?,
            'r' => value.represent(&mut text)?,
            'c' => match &value {
                Value::Str(text_of) if text_of.chars()? == 1 => text.push_str(text_of.as_str())?,
                other => {
                    let scalar = other.integer().and_then(|n| u32::try_from(n).ok()).and_then(char::from_u32);
                    text.push(scalar.ok_or_else(malformed)?)?;
                }
            },
            'd' | 'i' | 'u' | 'x' | 'X' | 'o' | 'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
                if layout.fill == Some('0') && layout.align.is_none() {
                    layout.align = Some('=');
                } else if layout.align == Some('<') {
                    layout.fill = None;
                }
                layout.align = layout.align.or(Some('>'));
                let value = match (kind, &value) {
                    ('d' | 'i' | 'u', Value::Float(x)) => Value::Int(whole(*x)?),
                    _ => value,
                };
                layout.kind = Some(if matches!(kind, 'i' | 'u') { 'd' } else { kind });
                lay_out(&value, &layout, out)?;
                continue;
            }
            _ => return Err(malformed()),
        }
        // Strings stand to the right here, and are cut like those of `format`.
        let align = layout.align.or(Some('>'));
        let layout = Layout { align, fill: None, kind: Some('s'), ..layout };
        lay_out(&text.finish(), &layout, out)?;
    }
    if given.next().is_some() && !matches!(values, Value::Dict(_)) {
        return fail("the format takes fewer values");
    }
    Ok(())
}

/// A float without its fraction.
pub(super) fn whole(x: f64) -> Result<i64> {
    let x = x.trunc();
    // The bounds are powers of two, exact as floats.
    if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&x) {
        Ok(x as i64)
    } else {
        fail("a number is too large")
    }
}

/// `format.format(...)`.
pub(super) fn braces(machine: &mut Machine<'_>, format: &str, args: &Args) -> Result<Value> {
    let budget = machine.budget.clone();
    budget.work(format.len())?;
    let mut out = Writer::new(&budget);
    let mut chars = format.chars().peekable();
    let mut automatic = 0;
    while let Some(c) = chars.next() {
        match c {
            '{' if chars.next_if_eq(&'{').is_some() => out.push('{')?,
            '}' if chars.next_if_eq(&'}').is_some() => out.push('}')?,
            '}' => return Err(malformed()),
            '{' => {
                let (mut inside, mut closed) = (String::new(), false);
                for c in chars.by_ref() {
                    match c {
                        '}' => {
                            closed = true;
                            break;
                        }
                        '{' => return fail("formats inside formats are not supported"),
                        c => inside.push(c),
                    }
                }
                if !closed {
                    return Err(malformed());
                }
                let (field, layout) = inside.split_once(':').unwrap_or((&inside, ""));
                let (field, conversion) = match field.split_once('!') {
                    Some((field, conversion)) => (field, Some(conversion)),
                    None => (field, None),
                };
                let mut value = field_of(machine, field, args, &mut automatic)?;
                match conversion {
                    None => {}
                    Some("s") => value = value.to_text(&budget)?,
                    Some("r") => {
                        let mut text = Writer::new(&budget);
                        value.represent(&mut text)?;
                        value = text.finish();
                    }
                    Some(_) => return Err(malformed()),
                }
                lay_out(&value, &parsed(layout)?, &mut out)?;
            }
            c => out.push(c)?,
        }
    }
    Ok(out.finish())
}

/// The value that `0`, `name`, `name.member[key]` or nothing stands for.
fn field_of(machine: &mut Machine<'_>, field: &str, args: &Args, automatic: &mut usize) -> Result<Value> {
    let end = field.find(['.', '[']).unwrap_or(field.len());
    let (first, mut rest) = field.split_at(end);
    let absent = || Error::new("the format names a value that is not there");
    machine.budget.work(args.named.len() + field.len())?;
    let mut value = if first.is_empty() {
        *automatic += 1;
        args.positional.get(*automatic - 1).cloned().ok_or_else(absent)?
    } else if let Ok(index) = first.parse::<usize>() {
        args.positional.get(index).cloned().ok_or_else(absent)?
    } else {
        args.named.iter().find(|(n, _)| **n == *first).map(|(_, v)| v.clone()).ok_or_else(absent)?
    };
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let (name, behind) = after.split_at(end);
            let name = Value::text(&machine.budget, name)?;
            value = machine.attribute(&value, &name, false)?;
            rest = behind;
        } else {
            let (key, behind) = rest.strip_prefix('[').and_then(|r| r.split_once(']')).ok_or_else(malformed)?;
            let key = match key.parse() {
                Ok(index) => Value::Int(index),
                Err(_) => Value::text(&machine.budget, key)?,
            };
            value = machine.item(&value, &key)?;
            rest = behind;
        }
    }
    Ok(value)
}

/// What stands behind the colon.
fn parsed(text: &str) -> Result<Layout> {
    let mut layout = Layout::default();
    let mut chars = text.chars().peekable();
    let mut ahead = text.chars();
    let is_align = |c: Option<char>| c.filter(|c| matches!(c, '<' | '>' | '^' | '='));
    let (first, second) = (ahead.next(), ahead.next());
    if is_align(second).is_some() {
        (layout.fill, layout.align) = (first, second);
        chars.nth(1);
    } else if is_align(first).is_some() {
        layout.align = first;
        chars.next();
    }
    layout.sign = chars.next_if(|c| matches!(c, '+' | '-' | ' ')).filter(|c| *c != '-');
    layout.alternate = chars.next_if_eq(&'#').is_some();
    if chars.next_if_eq(&'0').is_some() && layout.align.is_none() {
        (layout.fill, layout.align) = (Some('0'), Some('='));
    }
    layout.width = count(&mut chars)?.unwrap_or(0);
    layout.grouping = chars.next_if(|c| matches!(c, ',' | '_'));
    if chars.next_if_eq(&'.').is_some() {
        layout.precision = Some(count(&mut chars)?.ok_or_else(malformed)?);
    }
    layout.kind = chars.next();
    if chars.next().is_some() { Err(malformed()) } else { Ok(layout) }
}

fn lay_out(value: &Value, layout: &Layout, out: &mut Writer) -> Result<()> {
    let budget = out.budget().clone();
    let number = match (layout.kind, value) {
        (None, Value::Int(_) | Value::Float(_)) => true,
        (None | Some('s'), _) => false,
        (Some(_), Value::Int(_) | Value::Float(_) | Value::Bool(_)) => true,
        (Some(kind), _) => return fail(format!("the format {kind:?} does not go with {}", value.type_name())),
    };
    let (sign, digits) = if number {
        // Exact decimal digits take long division.
        budget.work(if matches!(value, Value::Float(_)) { super::budget::DECIMALS } else { super::budget::STEP })?;
        let (minus, digits) = digits_of(value, layout)?;
        let sign = if minus { "-".to_owned() } else { layout.sign.map(String::from).unwrap_or_default() };
        (sign, grouped(digits, layout))
    } else {
        (String::new(), String::new())
    };
    let shown;
    let mut body = digits.as_str();
    if !number {
        shown = value.to_text(&budget)?;
        body = shown.str().unwrap_or_default();
        if let Some(max) = layout.precision {
            budget.work(body.len())?;
            body = body.char_indices().nth(max).and_then(|(at, _)| body.get(..at)).unwrap_or(body);
        }
    }
    budget.work(body.len())?;
    let missing = layout.width.saturating_sub(body.chars().count() + sign.len());
    let align = layout.align.unwrap_or(if number { '>' } else { '<' });
    let fill = layout.fill.unwrap_or(' ').to_string();
    let (before, after) = match align {
        '<' => (0, missing),
        '^' => (missing / 2, missing - missing / 2),
        _ => (missing, 0),
    };
    if align == '=' {
        out.push_str(&sign)?;
        out.repeat(&fill, before)?;
    } else {
        out.repeat(&fill, before)?;
        out.push_str(&sign)?;
    }
    out.push_str(body)?;
    out.repeat(&fill, after)
}

/// Whether a number is negative, and its digits without a sign.
fn digits_of(value: &Value, layout: &Layout) -> Result<(bool, String)> {
    if let (Some(n), Some('d' | 'x' | 'X' | 'o' | 'b' | 'n') | None) = (value.integer(), layout.kind) {
        let (n, minus) = (n.unsigned_abs(), n < 0);
        let prefix = |p: &'static str| if layout.alternate { p } else { "" };
        let digits = match layout.kind {
            Some('x') => format!("{}{n:x}", prefix("0x")),
            Some('X') => format!("{}{n:X}", prefix("0X")),
            Some('o') => format!("{}{n:o}", prefix("0o")),
            Some('b') => format!("{}{n:b}", prefix("0b")),
            _ => n.to_string(),
        };
        // `%.3d` has at least three digits.
        let least = layout.precision.unwrap_or(0).min(PRECISION_MAX);
        return Ok((minus, format!("{digits:0>least$}")));
    }
    let x = value.number().ok_or_else(malformed)?;
    let (minus, x) = (x.is_sign_negative() && !x.is_nan(), x.abs());
    let precision = layout.precision.unwrap_or(6);
    if precision > PRECISION_MAX {
        return fail("a format asks for too many digits");
    }
    if !x.is_finite() {
        return Ok((minus, if x.is_nan() { "nan".into() } else { "inf".into() }));
    }
    let digits = match layout.kind {
        None if layout.precision.is_none() => super::show::float(x),
        Some('f' | 'F') => format!("{x:.precision$}"),
        Some('%') => format!("{:.precision$}%", x * 100.0),
        Some(kind @ ('e' | 'E')) => exponential(x, precision, kind == 'E'),
        None | Some('g' | 'G' | 'n') => general(x, precision.max(1), layout),
        _ => return Err(malformed()),
    };
    Ok((minus, digits))
}

fn exponential(x: f64, precision: usize, upper: bool) -> String {
    let text = format!("{x:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let n: i32 = exponent.parse().unwrap_or(0);
    let (e, sign) = (if upper { 'E' } else { 'e' }, if n < 0 { '-' } else { '+' });
    format!("{mantissa}{e}{sign}{:02}", n.unsigned_abs())
}

/// So many digits in all, without zeros at the end.
fn general(x: f64, digits: usize, layout: &Layout) -> String {
    let rounded = format!("{x:.0$e}", digits - 1);
    let exponent: i32 = rounded.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    let trimmed = |text: &str| -> String {
        if layout.alternate || !text.contains('.') {
            text.to_owned()
        } else {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    };
    let last = i32::try_from(digits).unwrap_or(i32::MAX);
    if (-4..last).contains(&exponent) {
        let behind = usize::try_from(last - 1 - exponent).unwrap_or(0);
        let text = trimmed(&format!("{x:.behind$}"));
        return if layout.kind.is_none() && !text.contains('.') { text + ".0" } else { text };
    }
    let text = exponential(x, digits - 1, layout.kind == Some('G'));
    let at = text.find(['e', 'E']).unwrap_or(text.len());
    let (mantissa, tail) = text.split_at(at);
    trimmed(mantissa) + tail
}

/// Digits with separators between thousands.
fn grouped(digits: String, layout: &Layout) -> String {
    let Some(separator) = layout.grouping else { return digits };
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let (whole, rest) = digits.split_at(end);
    let mut out = String::new();
    for (i, c) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            out.push(separator);
        }
        out.push(c);
    }
    out + rest
}

/// The filter `format`: `text % values`.
pub(super) fn filter(machine: &mut Machine<'_>, value: Value, args: Args) -> Result<Value> {
    let budget: Rc<_> = machine.budget.clone();
    let format = value.to_text(&budget)?;
    let values = if args.named.is_empty() {
        Value::tuple(&budget, args.positional)?
    } else {
        let mut entries = super::values::Entries::new(&budget);
        for (name, value) in args.named {
            entries.set(Value::text(&budget, &name)?, value)?;
        }
        entries.finish()?
    };
    let mut out = Writer::new(&budget);
    percent(format.str().unwrap_or_default(), &values, &mut out)?;
    Ok(out.finish())
}
