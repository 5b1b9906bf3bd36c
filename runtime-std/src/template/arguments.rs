//! Arguments of calls, filters and tests, evaluated.

use super::budget::{Result, fail};
use super::values::Value;
use std::rc::Rc;

/// Arguments that `*` may add.
pub(super) const ARGUMENTS_MAX: usize = 1000;

#[derive(Default)]
pub(crate) struct Args {
    pub(super) positional: Vec<Value>,
    pub(super) named: Vec<(Rc<str>, Value)>,
}

impl Args {
    /// The arguments of a function with these parameters, in their order; `None` for those not given.
    pub(super) fn take<const N: usize>(&self, names: [&str; N]) -> Result<[Option<Value>; N]> {
        let mut taken = [const { None }; N];
        if self.positional.len() > N {
            return fail(format!("{} arguments are given where {N} are known", self.positional.len()));
        }
        for (place, value) in taken.iter_mut().zip(&self.positional) {
            *place = Some(value.clone());
        }
        for (name, value) in &self.named {
            let place = names.iter().position(|n| **n == **name).and_then(|i| taken.get_mut(i));
            match place {
                Some(place @ None) => *place = Some(value.clone()),
                Some(_) => return fail(format!("the argument {name:?} is given twice")),
                None => return fail(format!("there is no argument {name:?}")),
            }
        }
        Ok(taken)
    }

    /// These arguments without the first, and the first.
    pub(super) fn split_first(mut self) -> Option<(Value, Args)> {
        if self.positional.is_empty() {
            return None;
        }
        let first = self.positional.remove(0);
        Some((first, self))
    }

    pub(super) fn copy(&self) -> Args {
        Args { positional: self.positional.clone(), named: self.named.clone() }
    }
}

/// An optional integer.
pub(super) fn integer(value: &Option<Value>, absent: i64) -> Result<i64> {
    match value {
        None => Ok(absent),
        Some(value) => match value.integer() {
            Some(n) => Ok(n),
            None => fail(format!("an int is needed, not {}", value.type_name())),
        },
    }
}

/// An optional text.
pub(super) fn text<'v>(value: &'v Option<Value>, absent: &'v str) -> Result<&'v str> {
    match value {
        None => Ok(absent),
        Some(value) => match value.str() {
            Some(text) => Ok(text),
            None => fail(format!("a string is needed, not {}", value.type_name())),
        },
    }
}

/// An optional text that may also be none.
pub(super) fn text_or_none(value: &Option<Value>) -> Result<Option<&str>> {
    match value {
        None | Some(Value::None) => Ok(None),
        given => text(given, "").map(Some),
    }
}

pub(super) fn flag(value: &Option<Value>, absent: bool) -> bool {
    value.as_ref().map_or(absent, Value::is_true)
}
