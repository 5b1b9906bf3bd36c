//! Tests: what stands behind `is`. A new one is a line in [`find`].

use super::arguments::Args;
use super::budget::{Error, Result, fail};
use super::evaluate::Machine;
use super::values::{Kind, Value};
use std::cmp::Ordering;

pub(crate) type Predicate = fn(&mut Machine<'_>, &Value, &Args) -> Result<bool>;

/// The test of a name.
pub(super) fn find(name: &str) -> Option<Predicate> {
    Some(match name {
        "defined" => |_, v, _| Ok(!matches!(v, Value::Undefined)),
        "undefined" => |_, v, _| Ok(matches!(v, Value::Undefined)),
        "none" => |_, v, _| Ok(matches!(v, Value::None)),
        "true" => |_, v, _| Ok(matches!(v, Value::Bool(true))),
        "false" => |_, v, _| Ok(matches!(v, Value::Bool(false))),
        "boolean" => |_, v, _| Ok(matches!(v, Value::Bool(_))),
        "integer" => |_, v, _| Ok(matches!(v, Value::Int(_))),
        "float" => |_, v, _| Ok(matches!(v, Value::Float(_))),
        "number" => |_, v, _| Ok(v.number().is_some()),
        "string" => |_, v, _| Ok(matches!(v, Value::Str(_))),
        "mapping" => |_, v, _| Ok(matches!(v, Value::Dict(_))),
        "sequence" => |_, v, _| {
            Ok(match v {
                Value::Seq(seq) => !matches!(seq.kind, Kind::View(_) | Kind::Iterator),
                Value::Str(_) | Value::Bytes(_) | Value::Dict(_) | Value::Undefined => true,
                _ => false,
            })
        },
        "iterable" => |_, v, _| {
            use Value::{Bytes, Dict, Loop, Seq, Str, Undefined};
            Ok(matches!(v, Str(_) | Bytes(_) | Seq(_) | Dict(_) | Loop(_) | Undefined))
        },
        "callable" => |_, v, _| {
            use Value::{Function, Joiner, Loop, Macro, Method, Undefined};
            Ok(matches!(v, Function(_) | Method(_) | Macro(_) | Loop(_) | Joiner(_) | Undefined))
        },
        "escaped" => |_, v, _| Ok(matches!(v, Value::Str(text) if text.safe)),
        "even" => |_, v, _| remainder(v, 2).map(|rest| rest == 0),
        "odd" => |_, v, _| remainder(v, 2).map(|rest| rest != 0),
        "divisibleby" => |_, v, args| {
            let [by] = args.take(["num"])?;
            remainder(v, super::arguments::integer(&by, 0)?).map(|rest| rest == 0)
        },
        "lower" => |m, v, _| cased(m, v, char::is_lowercase, char::is_uppercase),
        "upper" => |m, v, _| cased(m, v, char::is_uppercase, char::is_lowercase),
        "in" => |m, v, args| v.is_in(&other(args)?, &m.budget),
        "sameas" => |m, v, args| v.is_same(&other(args)?, &m.budget),
        "eq" | "equalto" | "==" => |m, v, args| v.equals(&other(args)?, &m.budget),
        "ne" | "!=" => |m, v, args| v.equals(&other(args)?, &m.budget).map(|same| !same),
        "lt" | "lessthan" | "<" => |m, v, args| Ok(v.order(&other(args)?, &m.budget)? == Ordering::Less),
        "le" | "<=" => |m, v, args| Ok(v.order(&other(args)?, &m.budget)? != Ordering::Greater),
        "gt" | "greaterthan" | ">" => |m, v, args| Ok(v.order(&other(args)?, &m.budget)? == Ordering::Greater),
        "ge" | ">=" => |m, v, args| Ok(v.order(&other(args)?, &m.budget)? != Ordering::Less),
        "filter" => |_, v, _| Ok(v.str().is_some_and(|name| super::filters::find(name).is_some())),
        "test" => |_, v, _| Ok(v.str().is_some_and(|name| find(name).is_some())),
        _ => return None,
    })
}

fn other(args: &Args) -> Result<Value> {
    let [other] = args.take(["other"])?;
    other.ok_or_else(|| Error::new("the test needs an argument"))
}

fn remainder(value: &Value, by: i64) -> Result<i64> {
    match value.integer().map(|n| n.checked_rem(by)) {
        Some(Some(rest)) => Ok(rest),
        Some(None) => fail("division by zero"),
        None => fail(format!("{} is no int", value.type_name())),
    }
}

/// Python's `islower` and `isupper` of the value as text.
fn cased(m: &Machine<'_>, value: &Value, is: fn(char) -> bool, is_not: fn(char) -> bool) -> Result<bool> {
    let text = value.to_text(&m.budget)?;
    let text = text.str().unwrap_or_default();
    m.budget.work(super::methods::reading(text))?;
    Ok(text.chars().any(is) && !text.chars().any(is_not))
}
