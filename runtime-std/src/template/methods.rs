//! Methods of Python's types. A new one is a line in the table of its type.

use super::arguments::{Args, integer, text, text_or_none};
use super::budget::{Budget, Charge, Error, Result, fail};
use super::evaluate::Machine;
use super::lexer::is_space;
use super::show::is_printable;
use super::values::{Items, Kind, Loop, Text, Value, Writer};
use std::rc::Rc;

/// A method, which is called with the value it belongs to.
#[derive(Clone, Copy)]
pub(crate) struct Method(pub(super) fn(&mut Machine<'_>, &Value, Args) -> Result<Value>);

/// Methods of dictionaries that change them: the sandbox of jinja2 has none of them.
pub(super) fn changes_dict(name: &str) -> bool {
    matches!(name, "clear" | "pop" | "popitem" | "setdefault" | "update")
}

/// The method of a value's type with this name.
pub(super) fn find(value: &Value, name: &str) -> Option<Method> {
    match value {
        Value::Str(_) => of_strings(name),
        Value::Bytes(_) if name == "decode" => Some(Method(|_, v, _| match v {
            Value::Bytes(text) => Ok(Value::Str(text.clone())),
            _ => fail("bytes are needed"),
        })),
        Value::Dict(_) => of_dicts(name),
        Value::Seq(seq) if matches!(seq.kind, Kind::List | Kind::Tuple | Kind::Range) => of_lists(name),
        Value::Loop(_) => of_loops(name),
        Value::Cycler(_) => of_cyclers(name),
        _ => None,
    }
}

fn of_dicts(name: &str) -> Option<Method> {
    Some(Method(match name {
        "get" => |m, v, args| {
            let [key, default] = args.take(["key", "default"])?;
            let (Value::Dict(dict), Some(key)) = (v, key) else { return fail("get needs a key") };
            key.check_hashable()?;
            Ok(dict.get(&key, &m.budget)?.cloned().or(default).unwrap_or(Value::None))
        },
        "items" => |m, v, _| items(&m.budget, v, Kind::View("dict_items")),
        "keys" => |m, v, _| {
            let keys = v.iterated(&m.budget)?;
            Items::collect(&m.budget, keys.items().iter().cloned())?.finish(Kind::View("dict_keys"))
        },
        "values" => |m, v, _| {
            let Value::Dict(dict) = v else { return fail("a dict is needed") };
            let values = dict.entries().iter().map(|(_, value)| value.clone());
            Items::collect(&m.budget, values)?.finish(Kind::View("dict_values"))
        },
        // Nothing can change either of them.
        "copy" => |_, v, _| Ok(v.clone()),
        _ => return None,
    }))
}

/// Pairs of key and value.
pub(super) fn items(budget: &Rc<Budget>, value: &Value, kind: Kind) -> Result<Value> {
    let Value::Dict(dict) = value else { return fail("a dict is needed") };
    let mut pairs = Items::new(budget);
    for (key, value) in dict.entries() {
        pairs.push(Value::tuple(budget, [key.clone(), value.clone()])?)?;
    }
    pairs.finish(kind)
}

fn of_lists(name: &str) -> Option<Method> {
    Some(Method(match name {
        "count" => |m, v, args| {
            let ([wanted], list) = (args.take(["value"])?, v.iterated(&m.budget)?);
            let wanted = wanted.unwrap_or(Value::Undefined);
            let mut n = 0;
            for item in list.items() {
                n += i64::from(item.equals(&wanted, &m.budget)?);
            }
            Ok(Value::Int(n))
        },
        "index" => |m, v, args| {
            let ([wanted], list) = (args.take(["value"])?, v.iterated(&m.budget)?);
            let wanted = wanted.unwrap_or(Value::Undefined);
            for (i, item) in list.items().iter().enumerate() {
                if item.equals(&wanted, &m.budget)? {
                    return number(i);
                }
            }
            fail("the value is not in the list")
        },
        "copy" => |_, v, _| Ok(v.clone()),
        _ => return None,
    }))
}

fn of_loops(name: &str) -> Option<Method> {
    fn the(value: &Value) -> Result<&Rc<Loop>> {
        if let Value::Loop(l) = value { Ok(l) } else { fail("a loop is needed") }
    }
    Some(Method(match name {
        "cycle" => |_, v, args| {
            let index = the(v)?.index.get().checked_rem(args.positional.len());
            let item = index.and_then(|at| args.positional.get(at)).cloned();
            item.ok_or_else(|| Error::new("a cycle needs items"))
        },
        "changed" => |m, v, args| {
            let now = Value::tuple(&m.budget, args.positional)?;
            if now.changes() {
                return fail("loop.changed takes no namespace, loop, cycler or joiner");
            }
            let before = the(v)?.changed.replace(Some(now.clone()));
            Ok(Value::Bool(match before {
                Some(before) => !before.equals(&now, &m.budget)?,
                None => true,
            }))
        },
        _ => return None,
    }))
}

fn of_cyclers(name: &str) -> Option<Method> {
    Some(Method(match name {
        "next" => |_, v, _| {
            let Value::Cycler(cycler) = v else { return fail("a cycler is needed") };
            let (at, len) = (cycler.at.get(), cycler.items.items().len());
            cycler.at.set((at + 1).checked_rem(len).unwrap_or(0));
            Ok(cycler.items.items().get(at).cloned().unwrap_or(Value::Undefined))
        },
        "reset" => |_, v, _| {
            if let Value::Cycler(cycler) = v {
                cycler.at.set(0);
            }
            Ok(Value::None)
        },
        _ => return None,
    }))
}

fn number(n: usize) -> Result<Value> {
    i64::try_from(n).map(Value::Int).map_err(|_| Error::new("a number is too large"))
}

/// The text a method belongs to, once its bytes are charged.
fn own<'v>(m: &Machine<'_>, value: &'v Value) -> Result<&'v Text> {
    let Value::Str(text) = value else { return fail("a string is needed") };
    m.budget.work(reading(text.as_str()))?;
    Ok(text)
}

/// Work of looking at each scalar of a text: those beyond ASCII are looked up in tables.
pub(super) fn reading(text: &str) -> usize {
    text.len().saturating_mul(if text.is_ascii() { 2 } else { 6 })
}

/// A text made scalar by scalar.
pub(super) fn mapped(
    budget: &Rc<Budget>,
    text: &str,
    mut map: impl FnMut(char, &mut Writer) -> Result<()>,
) -> Result<Value> {
    let mut out = Writer::new(budget);
    text.chars().try_for_each(|c| map(c, &mut out))?;
    Ok(out.finish())
}

pub(super) fn upper(budget: &Rc<Budget>, text: &str) -> Result<Value> {
    mapped(budget, text, |c, out| c.to_uppercase().try_for_each(|c| out.push(c)))
}

pub(super) fn lower(budget: &Rc<Budget>, text: &str) -> Result<Value> {
    mapped(budget, text, |c, out| c.to_lowercase().try_for_each(|c| out.push(c)))
}

pub(super) fn capitalize(budget: &Rc<Budget>, text: &str) -> Result<Value> {
    let mut first = true;
    mapped(budget, text, |c, out| {
        if std::mem::take(&mut first) {
            c.to_uppercase().try_for_each(|c| out.push(c))
        } else {
            c.to_lowercase().try_for_each(|c| out.push(c))
        }
    })
}

/// `text` in the middle of `width` scalars, as Python puts it.
pub(super) fn center(budget: &Rc<Budget>, text: &str, width: i64, fill: char) -> Result<Value> {
    let len = text.chars().count();
    let width = usize::try_from(width).unwrap_or(0);
    let missing = width.saturating_sub(len);
    let left = missing / 2 + (missing & width & 1);
    padded(budget, text, left, missing - left, fill)
}

fn padded(budget: &Rc<Budget>, text: &str, before: usize, after: usize, fill: char) -> Result<Value> {
    let (mut out, fill) = (Writer::new(budget), fill.to_string());
    out.repeat(&fill, before)?;
    out.push_str(text)?;
    out.repeat(&fill, after)?;
    Ok(out.finish())
}

/// `text` without scalars of `set` (spaces, if there is none) at its beginning and end.
pub(super) fn trimmed<'t>(
    budget: &Budget,
    text: &'t str,
    set: Option<&str>,
    (start, end): (bool, bool),
) -> Result<&'t str> {
    // Each scalar at an end is looked up in the set, and that is charged before.
    let mut charged = Ok(());
    let mut is = |c: char| {
        let Some(set) = set else { return is_space(c) };
        charged = budget.work(set.len());
        charged.is_ok() && set.contains(c)
    };
    let after = if start { text.trim_start_matches(&mut is) } else { text };
    let rest = if end { trim_end(after, &mut is) } else { after };
    charged?;
    budget.work(text.len() - rest.len())?;
    Ok(rest)
}

fn trim_end<'t>(text: &'t str, is: &mut dyn FnMut(char) -> bool) -> &'t str {
    let end = text.char_indices().rev().find(|(_, c)| !is(*c)).map_or(0, |(at, c)| at + c.len_utf8());
    text.get(..end).unwrap_or_default()
}

/// Pieces between separators, or between spaces, at most `max` cuts from the left or right.
fn split(m: &Machine<'_>, value: &Value, args: &Args, from_right: bool) -> Result<Value> {
    let [separator, max] = args.take(["sep", "maxsplit"])?;
    let subject = own(m, value)?.as_str();
    let max = usize::try_from(integer(&max, -1)?).unwrap_or(usize::MAX);
    let mut pieces: Vec<&str> = Vec::new();
    // The references are counted while they are there.
    let mut held = m.budget.charge();
    match text_or_none(&separator)? {
        Some("") => return fail("the separator is empty"),
        Some(separator) => {
            m.budget.work(separator.len())?;
            let mut rest = subject;
            while pieces.len() < max {
                let at = if from_right { rest.rfind(separator) } else { rest.find(separator) };
                let Some(at) = at else { break };
                let (before, after) = (rest.get(..at), rest.get(at + separator.len()..));
                let (piece, more) = if from_right { (after, before) } else { (before, after) };
                keep(&mut pieces, &mut held, piece.unwrap_or_default())?;
                rest = more.unwrap_or_default();
            }
            keep(&mut pieces, &mut held, rest)?;
        }
        None => {
            let trim = |text| trimmed(&m.budget, text, None, (true, true));
            let mut rest =
                if from_right { subject.trim_end_matches(is_space) } else { subject.trim_start_matches(is_space) };
            while pieces.len() < max && !rest.is_empty() {
                let at = if from_right { rest.rfind(is_space) } else { rest.find(is_space) };
                let Some(at) = at else { break };
                let space = rest.get(at..).and_then(|t| t.chars().next()).map_or(1, char::len_utf8);
                let (before, after) = (rest.get(..at).unwrap_or_default(), rest.get(at + space..).unwrap_or_default());
                let (piece, more) = if from_right { (after, before) } else { (before, after) };
                keep(&mut pieces, &mut held, piece)?;
                rest = if from_right { more.trim_end_matches(is_space) } else { more.trim_start_matches(is_space) };
            }
            if pieces.len() < max && !rest.is_empty() {
                keep(&mut pieces, &mut held, trim(rest)?)?;
            } else if !rest.is_empty() {
                keep(&mut pieces, &mut held, if from_right { rest.trim_end_matches(is_space) } else { rest })?;
            }
        }
    }
    if from_right {
        pieces.reverse();
    }
    let mut items = Items::new(&m.budget);
    for piece in pieces {
        items.push(Value::text(&m.budget, piece)?)?;
    }
    items.finish(Kind::List)
}

fn keep<'t>(pieces: &mut Vec<&'t str>, held: &mut Charge, piece: &'t str) -> Result<()> {
    pieces.push(piece);
    held.resize(pieces.capacity() * size_of::<&str>())
}

/// Where Python ends a line.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let ends = ['\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}'];
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let at = rest.find(ends).unwrap_or(rest.len());
        let (line, after) = rest.split_at(at);
        let len = if after.starts_with("\r\n") { 2 } else { after.chars().next().map_or(0, char::len_utf8) };
        let (end, after) = after.split_at(len);
        rest = after;
        Some((line, end))
    })
}

/// `text` with `old` replaced by `new`, at most `max` times.
pub(super) fn replaced(budget: &Rc<Budget>, text: &str, old: &str, new: &str, max: i64) -> Result<Value> {
    budget.work(text.len() + old.len())?;
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    let (mut out, mut from) = (Writer::new(budget), 0);
    for (at, found) in text.match_indices(old).take(max) {
        out.push_str(text.get(from..at).unwrap_or_default())?;
        out.push_str(new)?;
        from = at + found.len();
    }
    out.push_str(text.get(from..).unwrap_or_default())?;
    Ok(out.finish())
}

/// `parts` as text, `separator` between them.
pub(super) fn joined(budget: &Rc<Budget>, parts: &[Value], separator: &str) -> Result<Value> {
    let mut out = Writer::new(budget);
    for (i, part) in parts.iter().enumerate() {
        out.push_str(if i > 0 { separator } else { "" })?;
        part.show(&mut out)?;
    }
    Ok(out.finish())
}

/// The piece of a text between two scalars, and the scalar it begins with.
fn window<'v>(text: &'v Text, start: &Option<Value>, end: &Option<Value>) -> Result<(&'v str, usize)> {
    let len = i64::try_from(text.chars()?).unwrap_or(i64::MAX);
    let place = |value: &Option<Value>, absent: i64| -> Result<usize> {
        let n = match value {
            Some(Value::None) => absent,
            value => integer(value, absent)?,
        };
        Ok(usize::try_from(if n < 0 { n.saturating_add(len) } else { n.min(len) }).unwrap_or(0))
    };
    let (start, end) = (place(start, 0)?, place(end, len)?);
    let (from, to) = (text.offset(start)?, text.offset(end)?);
    Ok((text.as_str().get(from..to).unwrap_or_default(), start))
}

/// `find`, `rfind`, `index`, `rindex`: the scalar at which a text is found.
fn search(m: &Machine<'_>, value: &Value, args: &Args, from_right: bool) -> Result<Option<usize>> {
    let [wanted, start, end] = args.take(["sub", "start", "end"])?;
    let (piece, first) = window(own(m, value)?, &start, &end)?;
    let wanted = text(&wanted, "")?;
    m.budget.work(wanted.len())?;
    let at = if from_right { piece.rfind(wanted) } else { piece.find(wanted) };
    Ok(at.map(|at| first + piece.get(..at).unwrap_or_default().chars().count()))
}

/// `startswith` and `endswith`, which take one text or a tuple.
fn affix(m: &Machine<'_>, value: &Value, args: &Args, at_end: bool) -> Result<Value> {
    let [affix, start, end] = args.take(["affix", "start", "end"])?;
    let (piece, _) = window(own(m, value)?, &start, &end)?;
    let fits = |affix: &Value| match affix.str() {
        Some(affix) if at_end => Ok(piece.ends_with(affix)),
        Some(affix) => Ok(piece.starts_with(affix)),
        None => fail("a string is needed"),
    };
    match &affix {
        Some(Value::Seq(seq)) if seq.kind == Kind::Tuple => {
            m.budget.work(seq.items().len().saturating_mul(piece.len().min(64)))?;
            for affix in seq.items() {
                m.budget.work(affix.str().unwrap_or_default().len())?;
                if fits(affix)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        Some(affix) => fits(affix).map(Value::Bool),
        None => fail("a string is needed"),
    }
}

/// Whether there is a scalar and every one is so.
fn all(m: &Machine<'_>, value: &Value, is: fn(char) -> bool) -> Result<Value> {
    let text = own(m, value)?.as_str();
    Ok(Value::Bool(!text.is_empty() && text.chars().all(is)))
}

/// Whether there is a scalar that `is`, and none that is not.
fn case(m: &Machine<'_>, value: &Value, is: fn(char) -> bool, is_not: fn(char) -> bool) -> Result<Value> {
    let text = own(m, value)?.as_str();
    Ok(Value::Bool(text.chars().any(is) && !text.chars().any(is_not)))
}

/// Fills up to a width: spaces before and after by the share of them that goes before.
fn justified(m: &Machine<'_>, value: &Value, args: &Args, before: bool) -> Result<Value> {
    let [width, fill] = args.take(["width", "fillchar"])?;
    let subject = own(m, value)?;
    let missing = usize::try_from(integer(&width, 0)?).unwrap_or(0).saturating_sub(subject.chars()?);
    let fill = text(&fill, " ")?.chars().next().unwrap_or(' ');
    let (left, right) = if before { (missing, 0) } else { (0, missing) };
    padded(&m.budget, subject.as_str(), left, right, fill)
}

fn of_strings(name: &str) -> Option<Method> {
    Some(Method(match name {
        "strip" => |m, v, args| strip(m, v, &args, (true, true)),
        "lstrip" => |m, v, args| strip(m, v, &args, (true, false)),
        "rstrip" => |m, v, args| strip(m, v, &args, (false, true)),
        "split" => |m, v, args| split(m, v, &args, false),
        "rsplit" => |m, v, args| split(m, v, &args, true),
        "splitlines" => |m, v, args| {
            let [keep] = args.take(["keepends"])?;
            let (keep, mut items) = (super::arguments::flag(&keep, false), Items::new(&m.budget));
            for (line, end) in lines(own(m, v)?.as_str()) {
                let mut text = Writer::new(&m.budget);
                text.push_str(line)?;
                text.push_str(if keep { end } else { "" })?;
                items.push(text.finish())?;
            }
            items.finish(Kind::List)
        },
        "partition" => |m, v, args| partition(m, v, &args, false),
        "rpartition" => |m, v, args| partition(m, v, &args, true),
        "startswith" => |m, v, args| affix(m, v, &args, false),
        "endswith" => |m, v, args| affix(m, v, &args, true),
        "removeprefix" => |m, v, args| {
            let [prefix] = args.take(["prefix"])?;
            let subject = own(m, v)?.as_str();
            Value::text(&m.budget, subject.strip_prefix(text(&prefix, "")?).unwrap_or(subject))
        },
        "removesuffix" => |m, v, args| {
            let [suffix] = args.take(["suffix"])?;
            let subject = own(m, v)?.as_str();
            Value::text(&m.budget, subject.strip_suffix(text(&suffix, "")?).unwrap_or(subject))
        },
        "replace" => |m, v, args| {
            let [old, new, count] = args.take(["old", "new", "count"])?;
            let subject = own(m, v)?.as_str();
            replaced(&m.budget, subject, text(&old, "")?, text(&new, "")?, integer(&count, -1)?)
        },
        "join" => |m, v, args| {
            let [parts] = args.take(["iterable"])?;
            let parts = parts.unwrap_or(Value::None).iterated(&m.budget)?;
            if let Some(other) = parts.items().iter().find(|part| part.str().is_none()) {
                return fail(format!("join takes strings, not {}", other.type_name()));
            }
            joined(&m.budget, parts.items(), own(m, v)?.as_str())
        },
        "find" => |m, v, args| search(m, v, &args, false)?.map_or(Ok(Value::Int(-1)), number),
        "rfind" => |m, v, args| search(m, v, &args, true)?.map_or(Ok(Value::Int(-1)), number),
        "index" => |m, v, args| search(m, v, &args, false)?.map_or_else(|| fail("the text is not there"), number),
        "rindex" => |m, v, args| search(m, v, &args, true)?.map_or_else(|| fail("the text is not there"), number),
        "count" => |m, v, args| {
            let [wanted, start, end] = args.take(["sub", "start", "end"])?;
            let (piece, _) = window(own(m, v)?, &start, &end)?;
            number(piece.matches(text(&wanted, "")?).count())
        },
        "upper" => |m, v, _| upper(&m.budget, own(m, v)?.as_str()),
        "lower" | "casefold" => |m, v, _| lower(&m.budget, own(m, v)?.as_str()),
        "capitalize" => |m, v, _| capitalize(&m.budget, own(m, v)?.as_str()),
        "swapcase" => |m, v, _| {
            mapped(&m.budget, own(m, v)?.as_str(), |c, out| match c.is_uppercase() {
                true => c.to_lowercase().try_for_each(|c| out.push(c)),
                false => c.to_uppercase().try_for_each(|c| out.push(c)),
            })
        },
        "title" => |m, v, _| {
            let mut inside = false;
            mapped(&m.budget, own(m, v)?.as_str(), |c, out| {
                let starts = !std::mem::replace(&mut inside, c.is_alphabetic());
                match starts {
                    true => c.to_uppercase().try_for_each(|c| out.push(c)),
                    false => c.to_lowercase().try_for_each(|c| out.push(c)),
                }
            })
        },
        "center" => |m, v, args| {
            let [width, fill] = args.take(["width", "fillchar"])?;
            let fill = text(&fill, " ")?.chars().next().unwrap_or(' ');
            center(&m.budget, own(m, v)?.as_str(), integer(&width, 0)?, fill)
        },
        "ljust" => |m, v, args| justified(m, v, &args, false),
        "rjust" => |m, v, args| justified(m, v, &args, true),
        "zfill" => |m, v, args| {
            let [width] = args.take(["width"])?;
            let subject = own(m, v)?;
            let missing = usize::try_from(integer(&width, 0)?).unwrap_or(0).saturating_sub(subject.chars()?);
            let sign = subject.as_str().len() - subject.as_str().trim_start_matches(['+', '-']).len();
            let (sign, digits) = subject.as_str().split_at(sign.min(1));
            let mut out = Writer::new(&m.budget);
            out.push_str(sign)?;
            out.repeat("0", missing)?;
            out.push_str(digits)?;
            Ok(out.finish())
        },
        "expandtabs" => |m, v, args| {
            let [size] = args.take(["tabsize"])?;
            let (size, mut column) = (usize::try_from(integer(&size, 8)?).unwrap_or(0), 0usize);
            mapped(&m.budget, own(m, v)?.as_str(), |c, out| {
                if c == '\t' {
                    let n = size - column.checked_rem(size).unwrap_or(0);
                    column += n;
                    return out.repeat(" ", n);
                }
                column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
                out.push(c)
            })
        },
        "format" => |m, v, args| {
            let subject = own(m, v)?;
            super::format::braces(m, subject.as_str(), &args)
        },
        "encode" => |m, v, args| {
            let [encoding, _] = args.take(["encoding", "errors"])?;
            let subject = own(m, v)?;
            match text(&encoding, "utf-8")?.to_ascii_lowercase().as_str() {
                "utf-8" | "utf8" => {}
                "ascii" if subject.is_ascii() => {}
                _ => return fail("encode knows UTF-8 only"),
            }
            let mut out = Writer::new(&m.budget);
            out.push_str(subject.as_str())?;
            Ok(out.finish_bytes())
        },
        "isalnum" => |m, v, _| all(m, v, char::is_alphanumeric),
        "isalpha" => |m, v, _| all(m, v, char::is_alphabetic),
        "isascii" => |m, v, _| Ok(Value::Bool(own(m, v)?.is_ascii())),
        "isdigit" | "isdecimal" => |m, v, _| {
            use unicode_general_category::{GeneralCategory, get_general_category};
            all(m, v, |c| get_general_category(c) == GeneralCategory::DecimalNumber)
        },
        "isnumeric" => |m, v, _| all(m, v, char::is_numeric),
        "isspace" => |m, v, _| all(m, v, is_space),
        "isprintable" => |m, v, _| Ok(Value::Bool(own(m, v)?.as_str().chars().all(is_printable))),
        "islower" => |m, v, _| case(m, v, char::is_lowercase, char::is_uppercase),
        "isupper" => |m, v, _| case(m, v, char::is_uppercase, char::is_lowercase),
        "isidentifier" => |m, v, _| {
            let text = own(m, v)?.as_str();
            let word = |c: char| c.is_alphanumeric() || c == '_';
            Ok(Value::Bool(!text.is_empty() && text.chars().all(word) && !text.starts_with(char::is_numeric)))
        },
        _ => return None,
    }))
}

fn strip(m: &Machine<'_>, value: &Value, args: &Args, ends: (bool, bool)) -> Result<Value> {
    let [set] = args.take(["chars"])?;
    let Value::Str(subject) = value else { return fail("a string is needed") };
    let rest = trimmed(&m.budget, subject.as_str(), text_or_none(&set)?, ends)?;
    if rest.len() == subject.as_str().len() { Ok(value.clone()) } else { Value::text(&m.budget, rest) }
}

fn partition(m: &Machine<'_>, value: &Value, args: &Args, from_right: bool) -> Result<Value> {
    let [separator] = args.take(["sep"])?;
    let separator = text(&separator, "")?;
    if separator.is_empty() {
        return fail("the separator is empty");
    }
    let subject = own(m, value)?.as_str();
    m.budget.work(separator.len())?;
    let parts = match if from_right { subject.rsplit_once(separator) } else { subject.split_once(separator) } {
        Some((before, after)) => [before, separator, after],
        None if from_right => ["", "", subject],
        None => [subject, "", ""],
    };
    let mut items = Items::new(&m.budget);
    for part in parts {
        items.push(Value::text(&m.budget, part)?)?;
    }
    items.finish(Kind::Tuple)
}
