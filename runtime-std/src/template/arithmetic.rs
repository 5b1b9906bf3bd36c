//! Python's operators on values.

use super::budget::{Budget, Error, Result, fail};
use super::filters::escaped;
use super::syntax::Arithmetic;
use super::values::{Items, Kind, Value, Writer};
use std::rc::Rc;

pub(super) fn apply(op: Arithmetic, a: &Value, b: &Value, budget: &Rc<Budget>) -> Result<Value> {
    match (op, a, b) {
        (Arithmetic::Add, Value::Str(x), Value::Str(y)) => {
            let mut out = Writer::new(budget);
            // As Python's Markup: what is not safe yet is escaped when it is joined with what is.
            for text in [x, y] {
                if text.safe == (x.safe || y.safe) {
                    out.push_str(text.as_str())?;
                } else {
                    escaped(text.as_str(), &mut out)?;
                }
            }
            return Ok(if x.safe || y.safe { out.finish_safe() } else { out.finish() });
        }
        (Arithmetic::Add, Value::Seq(x), Value::Seq(y))
            if x.kind == y.kind && matches!(x.kind, Kind::List | Kind::Tuple) =>
        {
            return Items::collect(budget, x.items().iter().chain(y.items()).cloned())?.finish(x.kind);
        }
        (Arithmetic::Multiply, Value::Str(text), n) | (Arithmetic::Multiply, n, Value::Str(text)) => {
            if let Some(n) = n.integer() {
                let mut out = Writer::new(budget);
                out.repeat(text.as_str(), usize::try_from(n).unwrap_or(0))?;
                return Ok(out.finish());
            }
        }
        (Arithmetic::Multiply, Value::Seq(seq), n) | (Arithmetic::Multiply, n, Value::Seq(seq))
            if matches!(seq.kind, Kind::List | Kind::Tuple) =>
        {
            if let Some(n) = n.integer() {
                let n = if seq.items().is_empty() { 0 } else { n };
                let mut items = Items::new(budget);
                for _ in 0..n {
                    items.extend(seq.items().iter().cloned())?;
                }
                return items.finish(seq.kind);
            }
        }
        (Arithmetic::Remainder, Value::Str(text), _) => {
            let mut out = Writer::new(budget);
            super::format::percent(text.as_str(), b, &mut out)?;
            return Ok(out.finish());
        }
        _ => {}
    }
    if let (Some(x), Some(y)) = (a.integer(), b.integer()) {
        return integers(op, x, y);
    }
    if let (Some(x), Some(y)) = (a.number(), b.number()) {
        return floats(op, x, y);
    }
    fail(format!("{} and {} do not go with this operator", a.type_name(), b.type_name()))
}

fn integers(op: Arithmetic, x: i64, y: i64) -> Result<Value> {
    let result = match op {
        Arithmetic::Add => x.checked_add(y),
        Arithmetic::Subtract => x.checked_sub(y),
        Arithmetic::Multiply => x.checked_mul(y),
        Arithmetic::Divide => return floats(op, x as f64, y as f64),
        Arithmetic::FloorDivide | Arithmetic::Remainder if y == 0 => return fail("division by zero"),
        Arithmetic::FloorDivide => x
            .checked_div(y)
            .and_then(|q| if x.wrapping_rem(y) != 0 && (x < 0) != (y < 0) { q.checked_sub(1) } else { Some(q) }),
        Arithmetic::Remainder => {
            let rest = x.wrapping_rem(y);
            if rest != 0 && (rest < 0) != (y < 0) { rest.checked_add(y) } else { Some(rest) }
        }
        Arithmetic::Power => match u32::try_from(y) {
            Ok(y) => x.checked_pow(y),
            Err(_) if y < 0 => return floats(op, x as f64, y as f64),
            Err(_) => None,
        },
    };
    result.map(Value::Int).ok_or_else(|| Error::new("a number is too large"))
}

fn floats(op: Arithmetic, x: f64, y: f64) -> Result<Value> {
    if y == 0.0 && matches!(op, Arithmetic::Divide | Arithmetic::FloorDivide | Arithmetic::Remainder) {
        return fail("division by zero");
    }
    Ok(Value::Float(match op {
        Arithmetic::Add => x + y,
        Arithmetic::Subtract => x - y,
        Arithmetic::Multiply => x * y,
        Arithmetic::Divide => x / y,
        Arithmetic::FloorDivide => (x / y).floor(),
        Arithmetic::Remainder => {
            let rest = x % y;
            if rest != 0.0 && (rest < 0.0) != (y < 0.0) { rest + y } else { rest }
        }
        Arithmetic::Power => x.powf(y),
    }))
}

/// `+value` or `-value`.
pub(super) fn signed(minus: bool, value: &Value) -> Result<Value> {
    match (value, value.integer()) {
        (_, Some(n)) if minus => n.checked_neg().map(Value::Int).ok_or_else(|| Error::new("a number is too large")),
        (_, Some(n)) => Ok(Value::Int(n)),
        (Value::Float(x), _) => Ok(Value::Float(if minus { -x } else { *x })),
        _ => fail(format!("{} has no sign", value.type_name())),
    }
}

/// `value[index]`; `None` if there is no such item.
pub(super) fn item(value: &Value, index: &Value, budget: &Rc<Budget>) -> Result<Option<Value>> {
    if let Value::Dict(dict) = value {
        if index.check_hashable().is_err() {
            return Ok(None);
        }
        return Ok(dict.get(index, budget)?.cloned());
    }
    let Some(index) = index.integer() else { return Ok(None) };
    let place = |len: usize| -> Option<usize> {
        let len = i64::try_from(len).ok()?;
        usize::try_from(if index < 0 { index.checked_add(len)? } else { index }).ok().filter(|at| (*at as i64) < len)
    };
    match value {
        Value::Seq(seq) if !matches!(seq.kind, Kind::View(_) | Kind::Iterator) => {
            Ok(place(seq.items().len()).and_then(|at| seq.items().get(at)).cloned())
        }
        Value::Bytes(text) => Ok(place(text.as_str().len())
            .and_then(|at| text.as_str().as_bytes().get(at))
            .map(|b| Value::Int((*b).into()))),
        Value::Str(text) => {
            let Some(at) = place(text.chars()?) else { return Ok(None) };
            let from = text.offset(at)?;
            let found = text.as_str().get(from..).and_then(|t| t.chars().next());
            found.map(|c| Value::text(budget, c.encode_utf8(&mut [0; 4]))).transpose()
        }
        _ => Ok(None),
    }
}

/// `value[start:stop:step]`; `None` for a value that has no slices.
pub(super) fn slice(value: &Value, bounds: [Option<i64>; 3], budget: &Rc<Budget>) -> Result<Option<Value>> {
    let len = match value {
        Value::Str(text) => text.chars()?,
        Value::Bytes(text) => text.as_str().len(),
        Value::Seq(seq) if !matches!(seq.kind, Kind::View(_) | Kind::Iterator) => seq.items().len(),
        _ => return Ok(None),
    };
    let step = bounds[2].unwrap_or(1);
    if step == 0 {
        return fail("the step of a slice is zero");
    }
    let len = i64::try_from(len).map_err(|_| Error::new("a number is too large"))?;
    let (low, high) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let place = |bound: Option<i64>, absent: i64| match bound {
        None => absent,
        Some(n) if n < 0 => n.saturating_add(len).clamp(low, high),
        Some(n) => n.clamp(low, high),
    };
    let (start, stop) = if step > 0 {
        (place(bounds[0], low), place(bounds[1], high))
    } else {
        (place(bounds[0], high), place(bounds[1], low))
    };
    let mut at = start;
    let mut indices = std::iter::from_fn(move || {
        let here = at;
        at = at.saturating_add(step);
        let inside = if step > 0 { here < stop } else { here > stop };
        if inside { usize::try_from(here).ok() } else { None }
    });
    match value {
        Value::Str(text) if step == 1 => {
            let from = text.offset(usize::try_from(start).unwrap_or(0))?;
            let to = text.offset(usize::try_from(stop).unwrap_or(0))?;
            Value::text(budget, text.as_str().get(from..to).unwrap_or_default()).map(Some)
        }
        Value::Str(text) => {
            let mut out = Writer::new(budget);
            // Four bytes for each scalar while they are picked.
            let mut held = budget.charge();
            held.resize(4 * text.chars()?)?;
            let chars: Vec<char> = text.as_str().chars().collect();
            indices.try_for_each(|i| chars.get(i).map_or(Ok(()), |c| out.push(*c)))?;
            Ok(Some(out.finish()))
        }
        Value::Bytes(_) => fail("bytes cannot be sliced here"),
        Value::Seq(seq) => {
            let kind = if seq.kind == Kind::Tuple { Kind::Tuple } else { Kind::List };
            let items = indices.filter_map(|i| seq.items().get(i).cloned());
            Items::collect(budget, items)?.finish(kind).map(Some)
        }
        _ => Ok(None),
    }
}
