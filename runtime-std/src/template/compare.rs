//! Equality and order of values, as Python has them.

use super::budget::{Budget, Result, fail};
use super::values::{Kind, Value};
use std::cmp::Ordering;
use std::rc::Rc;

/// Work of one comparison, beside that of the bytes compared.
const COMPARISON: usize = 4;

impl Value {
    pub(super) fn equals(&self, other: &Value, budget: &Budget) -> Result<bool> {
        budget.work(COMPARISON)?;
        Ok(match (self, other) {
            (Value::Undefined, Value::Undefined) | (Value::None, Value::None) => true,
            (Value::Str(a), Value::Str(b)) | (Value::Bytes(a), Value::Bytes(b)) => {
                Rc::ptr_eq(a, b) || {
                    let (a, b) = (a.as_str(), b.as_str());
                    a.len() == b.len() && {
                        budget.work(a.len() / 4)?;
                        a == b
                    }
                }
            }
            (Value::Seq(a), Value::Seq(b)) => {
                let lists = a.kind == b.kind && matches!(a.kind, Kind::List | Kind::Tuple | Kind::Range);
                Rc::ptr_eq(a, b)
                    || (lists && a.items().len() == b.items().len() && {
                        let mut same = true;
                        for (a, b) in a.items().iter().zip(b.items()) {
                            same = a.equals(b, budget)?;
                            if !same {
                                break;
                            }
                        }
                        same
                    })
            }
            (Value::Dict(a), Value::Dict(b)) => {
                Rc::ptr_eq(a, b)
                    || (a.entries().len() == b.entries().len() && {
                        let mut same = true;
                        for (key, value) in a.entries() {
                            same = match b.get(key, budget)? {
                                Some(other) => value.equals(other, budget)?,
                                None => false,
                            };
                            if !same {
                                break;
                            }
                        }
                        same
                    })
            }
            (Value::Namespace(a), Value::Namespace(b)) => Rc::ptr_eq(a, b),
            (Value::Loop(a), Value::Loop(b)) => Rc::ptr_eq(a, b),
            (Value::Cycler(a), Value::Cycler(b)) => Rc::ptr_eq(a, b),
            (Value::Joiner(a), Value::Joiner(b)) => Rc::ptr_eq(a, b),
            (Value::Macro(a), Value::Macro(b)) => a == b,
            (Value::Function(a), Value::Function(b)) => a == b,
            _ => match (self.integer(), other.integer()) {
                (Some(a), Some(b)) => a == b,
                _ => matches!((self.number(), other.number()), (Some(a), Some(b)) if a == b),
            },
        })
    }

    /// The order of two values; an error if they have none.
    pub(super) fn order(&self, other: &Value, budget: &Budget) -> Result<Ordering> {
        budget.work(COMPARISON)?;
        match (self, other) {
            (Value::Str(a), Value::Str(b)) | (Value::Bytes(a), Value::Bytes(b)) => {
                let (a, b) = (a.as_str(), b.as_str());
                budget.work(a.len().min(b.len()) / 4)?;
                return Ok(a.cmp(b));
            }
            (Value::Seq(a), Value::Seq(b)) if a.kind == b.kind && matches!(a.kind, Kind::List | Kind::Tuple) => {
                for (a, b) in a.items().iter().zip(b.items()) {
                    if !a.equals(b, budget)? {
                        return a.order(b, budget);
                    }
                }
                return Ok(a.items().len().cmp(&b.items().len()));
            }
            _ => {}
        }
        if let (Some(a), Some(b)) = (self.integer(), other.integer()) {
            return Ok(a.cmp(&b));
        }
        match (self.number(), other.number()) {
            // Python says of NaN that it is neither less nor more; here it is more, so that sorting ends.
            (Some(a), Some(b)) => Ok(a.partial_cmp(&b).unwrap_or(Ordering::Greater)),
            _ => fail(format!("{} and {} have no order", self.type_name(), other.type_name())),
        }
    }

    /// Whether it is the same thing, not only an equal one.
    pub(super) fn is_same(&self, other: &Value, budget: &Budget) -> Result<bool> {
        Ok(match (self, other) {
            (Value::Str(a), Value::Str(b)) => Rc::ptr_eq(a, b) || a.as_str().len() < 2 && a.as_str() == b.as_str(),
            (Value::Seq(a), Value::Seq(b)) => Rc::ptr_eq(a, b),
            (Value::Dict(a), Value::Dict(b)) => Rc::ptr_eq(a, b),
            (Value::Bool(_), Value::Bool(_)) | (Value::Int(_), Value::Int(_)) => self.equals(other, budget)?,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other) && self.equals(other, budget)?,
        })
    }

    pub(super) fn check_hashable(&self) -> Result<()> {
        match self {
            Value::Dict(_) => fail("a dict cannot be a key"),
            Value::Seq(seq) if seq.kind != Kind::Tuple => fail("a list cannot be a key"),
            Value::Seq(seq) => seq.items().iter().try_for_each(Value::check_hashable),
            _ => Ok(()),
        }
    }

    /// `self in container`.
    pub(super) fn is_in(&self, container: &Value, budget: &Rc<Budget>) -> Result<bool> {
        match container {
            Value::Str(text) => match self.str() {
                Some(part) => {
                    budget.work(text.as_str().len() + part.len())?;
                    Ok(text.as_str().contains(part))
                }
                None => fail(format!("{} cannot be in a string", self.type_name())),
            },
            Value::Dict(dict) => {
                self.check_hashable()?;
                Ok(dict.get(self, budget)?.is_some())
            }
            _ => {
                let items = container.iterated(budget)?;
                for item in items.items() {
                    if self.equals(item, budget)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }
}

/// The indices below `n` in the order of what they stand for, equal ones as they are. Not the library's sort: that one
/// wants an order without contradictions, and comparing may fail.
pub(super) fn sorted(n: usize, less: &mut dyn FnMut(usize, usize) -> Result<bool>) -> Result<Vec<usize>> {
    let mut order: Vec<usize> = (0..n).collect();
    let mut width = 1;
    while width < n {
        let mut merged = Vec::with_capacity(n);
        for pair in order.chunks(2 * width) {
            let (mut a, mut b) = pair.split_at(width.min(pair.len()));
            while let ([x, a_rest @ ..], [y, b_rest @ ..]) = (a, b) {
                if less(*y, *x)? {
                    merged.push(*y);
                    b = b_rest;
                } else {
                    merged.push(*x);
                    a = a_rest;
                }
            }
            merged.extend_from_slice(a);
            merged.extend_from_slice(b);
        }
        order = merged;
        width *= 2;
    }
    Ok(order)
}
