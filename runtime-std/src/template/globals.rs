//! Functions that templates call by name.

use super::arguments::Args;
use super::budget::{Budget, Error, Result, fail};
use super::evaluate::Machine;
use super::values::{Cycler, Entries, Items, Joiner, Kind, Namespace, Value};
use std::cell::Cell;
use std::rc::Rc;

/// Items of a range, as in jinja2's sandbox.
const RANGE_MAX: i64 = 100_000;
/// Bytes of the form of a date.
const DATE_FORMAT_MAX: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Namespace,
    Dict,
    Range,
    Cycler,
    Joiner,
    /// transformers: ends the rendering with the template's own words.
    RaiseException,
    /// transformers: the date and time now.
    StrftimeNow,
}

impl Function {
    /// The function of a name.
    pub(super) fn find(name: &str) -> Option<Function> {
        Some(match name {
            "namespace" => Function::Namespace,
            "dict" => Function::Dict,
            "range" => Function::Range,
            "cycler" => Function::Cycler,
            "joiner" => Function::Joiner,
            "raise_exception" => Function::RaiseException,
            "strftime_now" => Function::StrftimeNow,
            _ => return None,
        })
    }

    pub(super) fn call(self, machine: &mut Machine<'_>, args: Args) -> Result<Value> {
        let budget = &machine.budget;
        match self {
            Function::Namespace => {
                let namespace = Namespace::new(budget)?;
                pairs(budget, args, |key, value| namespace.set(key, value, budget))?;
                Ok(Value::Namespace(namespace))
            }
            Function::Dict => {
                let mut entries = Entries::new(budget);
                pairs(budget, args, |key, value| entries.set(key, value))?;
                entries.finish()
            }
            Function::Range => range(machine, &args),
            Function::Cycler => {
                if args.positional.is_empty() {
                    return fail("a cycler needs items");
                }
                let items = Items::collect(budget, args.positional)?.seq(Kind::List)?;
                Ok(Value::Cycler(Rc::new(Cycler { items, at: Cell::new(0) })))
            }
            Function::Joiner => {
                let [separator] = args.take(["sep"])?;
                let separator = separator.map_or_else(|| Value::text(budget, ", "), Ok)?;
                separator.depth_around()?;
                Ok(Value::Joiner(Rc::new(Joiner { separator, used: Cell::new(false) })))
            }
            Function::RaiseException => {
                let [message] = args.take(["message"])?;
                let text = message.unwrap_or(Value::None).to_text(budget)?;
                fail(text.str().unwrap_or_default().to_owned())
            }
            Function::StrftimeNow => {
                let [format] = args.take(["format"])?;
                let format = format.as_ref().and_then(Value::str).filter(|f| f.len() <= DATE_FORMAT_MAX);
                let format = format.ok_or_else(|| Error::new("strftime_now: the format is missing or too long"))?;
                // A call of the C library, which looks after the time zone.
                budget.work(10_000)?;
                let text = crate::host::clock::local_time(format)
                    .ok_or_else(|| Error::new("strftime_now: the format is malformed"))?;
                Value::text(budget, &text)
            }
        }
    }
}

/// Hands `set` what `dict` makes of its first argument and of named ones.
fn pairs(budget: &Rc<Budget>, args: Args, mut set: impl FnMut(Value, Value) -> Result<()>) -> Result<()> {
    match args.positional.first() {
        None => {}
        Some(Value::Dict(dict)) => {
            dict.entries().iter().try_for_each(|(key, value)| set(key.clone(), value.clone()))?
        }
        Some(other) => {
            for item in other.iterated(budget)?.items() {
                let Value::Seq(pair) = item else { return fail("a pair of key and value is needed") };
                let [key, value] = pair.items() else { return fail("a pair of key and value is needed") };
                set(key.clone(), value.clone())?;
            }
        }
    }
    args.named.into_iter().try_for_each(|(name, value)| set(Value::text(budget, &name)?, value))
}

fn range(machine: &Machine<'_>, args: &Args) -> Result<Value> {
    let numbers: Option<Vec<i64>> = args.positional.iter().map(Value::integer).collect();
    let (start, stop, step) = match numbers.as_deref() {
        Some([stop]) => (0, *stop, 1),
        Some([start, stop]) => (*start, *stop, 1),
        Some([start, stop, step]) if *step != 0 => (*start, *stop, *step),
        _ => return fail("range takes one to three integers"),
    };
    let distance = if step > 0 { i128::from(stop) - i128::from(start) } else { i128::from(start) - i128::from(stop) };
    let n = (distance.max(0) + i128::from(step.unsigned_abs()) - 1) / i128::from(step.unsigned_abs());
    if n > i128::from(RANGE_MAX) {
        return Err(Error::exhausted("its range is too long"));
    }
    let numbers = (0..n as i64).map(|i| Value::Int(start.saturating_add(i.saturating_mul(step))));
    Items::collect(&machine.budget, numbers)?.finish(Kind::Range)
}
