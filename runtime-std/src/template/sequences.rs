//! Filters on lists.

use super::arguments::{Args, flag, integer, text};
use super::budget::{Error, Result, fail};
use super::compare::sorted;
use super::evaluate::Machine;
use super::methods;
use super::values::{Items, Kind, Seq, Value};
use std::rc::Rc;

/// The items of any value as a list of this kind.
pub(super) fn of_kind(m: &Machine<'_>, value: &Value, kind: Kind) -> Result<Value> {
    let items = value.iterated(&m.budget)?;
    if items.kind == kind {
        return Ok(Value::Seq(items));
    }
    Items::collect(&m.budget, items.items().iter().cloned())?.finish(kind)
}

/// The value of `a.b.0` in `value`.
fn path(m: &mut Machine<'_>, value: &Value, attribute: &Value) -> Result<Value> {
    let Some(names) = attribute.str() else { return m.item(value, attribute) };
    m.budget.work(names.len())?;
    let mut value = value.clone();
    for name in names.split('.') {
        let key = match name.parse::<i64>() {
            Ok(index) if name.starts_with(|c: char| c.is_ascii_digit()) => Value::Int(index),
            _ => Value::text(&m.budget, name)?,
        };
        value = m.item(&value, &key)?;
    }
    Ok(value)
}

/// The items of a value, or an attribute of each.
pub(super) fn attributes(m: &mut Machine<'_>, value: &Value, attribute: Option<Value>) -> Result<Rc<Seq>> {
    let items = value.iterated(&m.budget)?;
    let Some(attribute) = attribute.filter(|a| !matches!(a, Value::None)) else { return Ok(items) };
    let mut found = Items::new(&m.budget);
    for item in items.items() {
        found.push(path(m, item, &attribute)?)?;
    }
    found.seq(Kind::List)
}

/// A value without its case, if it is text.
fn folded(m: &Machine<'_>, value: &Value, case_sensitive: bool) -> Result<Value> {
    match value.str() {
        Some(text) if !case_sensitive => methods::lower(&m.budget, text),
        _ => Ok(value.clone()),
    }
}

/// What items are sorted and told apart by.
fn keys(m: &mut Machine<'_>, value: &Value, attribute: Option<Value>, case_sensitive: bool) -> Result<Rc<Seq>> {
    let found = attributes(m, value, attribute)?;
    let mut keys = Items::new(&m.budget);
    for item in found.items() {
        keys.push(folded(m, item, case_sensitive)?)?;
    }
    keys.seq(Kind::List)
}

/// The items in the order of their keys.
fn ordered(m: &Machine<'_>, items: &[Value], keys: &[Value], reverse: bool) -> Result<Items> {
    let order = sorted(keys.len(), &mut |a, b| {
        let (Some(a), Some(b)) = (keys.get(a), keys.get(b)) else { return Ok(false) };
        m.budget.work(super::budget::STEP / 4)?;
        let order = a.order(b, &m.budget)?;
        Ok(if reverse { order.is_gt() } else { order.is_lt() })
    })?;
    Items::collect(&m.budget, order.iter().filter_map(|i| items.get(*i).cloned()))
}

pub(super) fn sort(m: &mut Machine<'_>, value: Value, args: Args) -> Result<Value> {
    let [reverse, case_sensitive, attribute] = args.take(["reverse", "case_sensitive", "attribute"])?;
    let items = value.iterated(&m.budget)?;
    let keys = keys(m, &value, attribute, flag(&case_sensitive, false))?;
    ordered(m, items.items(), keys.items(), flag(&reverse, false))?.finish(Kind::List)
}

pub(super) fn dictsort(m: &mut Machine<'_>, value: Value, args: Args) -> Result<Value> {
    let [case_sensitive, by, reverse] = args.take(["case_sensitive", "by", "reverse"])?;
    let pairs = methods::items(&m.budget, &value, Kind::List)?;
    let by = match text(&by, "key")? {
        "key" => 0,
        "value" => 1,
        _ => return fail("dictsort: by is \"key\" or \"value\""),
    };
    let keys = keys(m, &pairs, Some(Value::Int(by)), flag(&case_sensitive, false))?;
    let pairs = pairs.iterated(&m.budget)?;
    ordered(m, pairs.items(), keys.items(), flag(&reverse, false))?.finish(Kind::List)
}

pub(super) fn unique(m: &mut Machine<'_>, value: Value, args: Args) -> Result<Value> {
    let [case_sensitive, attribute] = args.take(["case_sensitive", "attribute"])?;
    let items = value.iterated(&m.budget)?;
    let keys = keys(m, &value, attribute, flag(&case_sensitive, false))?;
    let (mut seen, mut kept) = (Vec::new(), Items::new(&m.budget));
    for (item, key) in items.items().iter().zip(keys.items()) {
        let mut known = false;
        for other in &seen {
            known = key.equals(other, &m.budget)?;
            if known {
                break;
            }
        }
        if !known {
            seen.push(key.clone());
            kept.push(item.clone())?;
        }
    }
    kept.finish(Kind::Iterator)
}

/// The smallest or the largest item.
pub(super) fn extreme(m: &mut Machine<'_>, value: &Value, args: &Args, largest: bool) -> Result<Value> {
    let [case_sensitive, attribute] = args.take(["case_sensitive", "attribute"])?;
    let items = value.iterated(&m.budget)?;
    let keys = keys(m, value, attribute, flag(&case_sensitive, false))?;
    let mut best: Option<(&Value, &Value)> = None;
    for (item, key) in items.items().iter().zip(keys.items()) {
        let better = match best {
            None => true,
            Some((_, than)) => {
                let order = key.order(than, &m.budget)?;
                if largest { order.is_gt() } else { order.is_lt() }
            }
        };
        if better {
            best = Some((item, key));
        }
    }
    Ok(best.map_or(Value::Undefined, |(item, _)| item.clone()))
}

pub(super) fn reverse(m: &mut Machine<'_>, value: Value, _: Args) -> Result<Value> {
    if let Value::Str(_) = value {
        let reversed = super::arithmetic::slice(&value, [None, None, Some(-1)], &m.budget)?;
        return Ok(reversed.unwrap_or(Value::Undefined));
    }
    let items = value.iterated(&m.budget)?;
    Items::collect(&m.budget, items.items().iter().rev().cloned())?.finish(Kind::Iterator)
}

/// As jinja2 does it here: what is false, none among it, has no items.
fn iterated_if_true(m: &Machine<'_>, value: &Value) -> Result<Rc<Seq>> {
    if value.is_true() { value.iterated(&m.budget) } else { Items::new(&m.budget).seq(Kind::List) }
}

pub(super) fn map(m: &mut Machine<'_>, value: Value, mut args: Args) -> Result<Value> {
    let items = iterated_if_true(m, &value)?;
    let mut mapped = Items::new(&m.budget);
    if args.positional.is_empty() {
        let default = args.named.iter().position(|(n, _)| &**n == "default").map(|at| args.named.swap_remove(at).1);
        let [attribute] = args.take(["attribute"])?;
        let attribute = attribute.ok_or_else(|| Error::new("map needs a filter or an attribute"))?;
        for item in items.items() {
            let found = path(m, item, &attribute)?;
            let absent = matches!(found, Value::Undefined);
            mapped.push(default.clone().filter(|_| absent).unwrap_or(found))?;
        }
    } else {
        let (name, rest) = args.split_first().ok_or_else(|| Error::new("map needs a filter"))?;
        let filter = name.str().and_then(super::filters::find);
        let filter = filter.ok_or_else(|| Error::new("map: there is no such filter"))?;
        // A filter inside a filter: that can go on.
        m.budget.enter()?;
        for item in items.items() {
            m.budget.work(super::budget::STEP + rest.positional.len() * 8)?;
            mapped.push(filter(m, item.clone(), rest.copy())?)?;
        }
        m.budget.leave();
    }
    mapped.finish(Kind::Iterator)
}

/// The items for which a test is `wanted`; with `by_attribute`, the test of an attribute.
pub(super) fn select(
    m: &mut Machine<'_>,
    value: &Value,
    mut args: Args,
    by_attribute: bool,
    wanted: bool,
) -> Result<Value> {
    let items = iterated_if_true(m, value)?;
    let mut attribute = None;
    if by_attribute {
        let (first, rest) = args.split_first().ok_or_else(|| Error::new("an attribute is needed"))?;
        (attribute, args) = (Some(first), rest);
    }
    let mut test = None;
    let mut rest = Args::default();
    if let Some((name, more)) = args.split_first() {
        let found = name.str().and_then(super::predicates::find);
        test = Some(found.ok_or_else(|| Error::new("there is no such test"))?);
        rest = more;
    }
    let mut kept = Items::new(&m.budget);
    for item in items.items() {
        m.budget.work(super::budget::STEP + rest.positional.len() * 8)?;
        let tested = match &attribute {
            Some(attribute) => path(m, item, attribute)?,
            None => item.clone(),
        };
        let holds = match test {
            Some(test) => test(m, &tested, &rest)?,
            None => tested.is_true(),
        };
        if holds == wanted {
            kept.push(item.clone())?;
        }
    }
    kept.finish(Kind::Iterator)
}

pub(super) fn groupby(m: &mut Machine<'_>, value: Value, args: Args) -> Result<Value> {
    let [attribute, default, case_sensitive] = args.take(["attribute", "default", "case_sensitive"])?;
    let attribute = attribute.ok_or_else(|| Error::new("groupby needs an attribute"))?;
    let case_sensitive = flag(&case_sensitive, false);
    let items = value.iterated(&m.budget)?;
    // Triples of what is compared, what is shown, and the item.
    let (mut triples, mut keys) = (Items::new(&m.budget), Items::new(&m.budget));
    for item in items.items() {
        let found = match (path(m, item, &attribute)?, &default) {
            (Value::Undefined, Some(default)) => default.clone(),
            (found, _) => found,
        };
        let key = folded(m, &found, case_sensitive)?;
        keys.push(key.clone())?;
        triples.push(Value::tuple(&m.budget, [key, found, item.clone()])?)?;
    }
    let (triples, keys) = (triples.seq(Kind::List)?, keys.seq(Kind::List)?);
    let triples = ordered(m, triples.items(), keys.items(), false)?.seq(Kind::List)?;
    let mut groups = Items::new(&m.budget);
    let mut group: Option<(Value, Value, Items)> = None;
    for triple in triples.items() {
        let Value::Seq(triple) = triple else { continue };
        let [key, found, item] = triple.items() else { continue };
        let same = match &group {
            Some((of, ..)) => of.equals(key, &m.budget)?,
            None => false,
        };
        if !same {
            if let Some((_, found, items)) = group.take() {
                groups.push(Value::tuple(&m.budget, [found, items.finish(Kind::List)?])?)?;
            }
            group = Some((key.clone(), found.clone(), Items::new(&m.budget)));
        }
        if let Some((_, _, items)) = &mut group {
            items.push(item.clone())?;
        }
    }
    if let Some((_, found, items)) = group.take() {
        groups.push(Value::tuple(&m.budget, [found, items.finish(Kind::List)?])?)?;
    }
    groups.finish(Kind::List)
}

pub(super) fn batch(m: &mut Machine<'_>, value: Value, args: Args) -> Result<Value> {
    let [size, fill] = args.take(["linecount", "fill_with"])?;
    let size = usize::try_from(integer(&size, 0)?).ok().filter(|n| *n > 0);
    let size = size.ok_or_else(|| Error::new("batch needs a size"))?;
    let items = value.iterated(&m.budget)?;
    let mut batches = Items::new(&m.budget);
    for batch in items.items().chunks(size) {
        let mut list = Items::collect(&m.budget, batch.iter().cloned())?;
        if let Some(fill) = fill.as_ref().filter(|f| !matches!(f, Value::None)) {
            list.extend((batch.len()..size).map(|_| fill.clone()))?;
        }
        batches.push(list.finish(Kind::List)?)?;
    }
    batches.finish(Kind::Iterator)
}

pub(super) fn slice(m: &mut Machine<'_>, value: Value, args: Args) -> Result<Value> {
    let [slices, fill] = args.take(["slices", "fill_with"])?;
    let n = usize::try_from(integer(&slices, 0)?).ok().filter(|n| *n > 0);
    let n = n.ok_or_else(|| Error::new("slice needs a number"))?;
    let items = value.iterated(&m.budget)?;
    let (each, longer) = (items.items().len() / n, items.items().len() % n);
    let mut rest = items.items();
    let mut parts = Items::new(&m.budget);
    for i in 0..n {
        let (part, after) = rest.split_at((each + usize::from(i < longer)).min(rest.len()));
        rest = after;
        let mut list = Items::collect(&m.budget, part.iter().cloned())?;
        if let Some(fill) = fill.as_ref().filter(|f| !matches!(f, Value::None))
            && i >= longer
        {
            list.push(fill.clone())?;
        }
        parts.push(list.finish(Kind::List)?)?;
    }
    parts.finish(Kind::Iterator)
}
