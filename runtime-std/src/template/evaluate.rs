//! Expressions to values.

use super::arguments::{ARGUMENTS_MAX, Args};
use super::arithmetic;
use super::budget::{Budget, Charge, Error, Result, fail};
use super::methods;
use super::syntax::{Arguments, Arithmetic, Comparison, Expr, Name, Program, Step};
use super::values::{Entries, Items, Kind, Loop, MacroRef, Value, Writer};
use std::cmp::Ordering;
use std::rc::Rc;

/// A rendering.
pub(crate) struct Machine<'t> {
    pub(super) program: &'t Program,
    pub(super) budget: Rc<Budget>,
    pub(super) scopes: Vec<Scope>,
    /// The scope that is being worked in, an index of `scopes`.
    pub(super) current: usize,
    /// Scopes made so far.
    pub(super) serial: u32,
    pub(super) out: Writer,
    /// Blocks and macros whose text is caught.
    pub(super) captures: usize,
}

/// Variables.
pub(super) struct Scope {
    pub(super) serial: u32,
    pub(super) parent: Option<usize>,
    pub(super) variables: Vec<(Name, Value)>,
    pub(super) charge: Charge,
}

impl<'t> Machine<'t> {
    pub(super) fn new(program: &'t Program, budget: Rc<Budget>) -> Machine<'t> {
        let out = Writer::new(&budget);
        Machine { program, budget, scopes: Vec::new(), current: 0, serial: 0, out, captures: 0 }
    }

    /// The value of a name; undefined if it has none.
    pub(super) fn variable(&self, name: Name) -> Result<Value> {
        let mut at = Some(self.current);
        while let Some(scope) = at.and_then(|at| self.scopes.get(at)) {
            self.budget.work(1 + scope.variables.len() / 4)?;
            if let Some((_, value)) = scope.variables.iter().find(|(n, _)| *n == name) {
                return Ok(value.clone());
            }
            at = scope.parent;
        }
        let function = self.program.globals.get(name as usize).copied().flatten();
        Ok(function.map_or(Value::Undefined, Value::Function))
    }

    pub(super) fn name(&self, name: Name) -> &'t str {
        self.program.names.get(name as usize).map_or("", |n| n)
    }

    pub(super) fn evaluate(&mut self, expr: &'t Expr) -> Result<Value> {
        self.budget.enter()?;
        let value = match expr {
            Expr::Const(value) => Ok(value.clone()),
            Expr::Name(name) => self.variable(*name),
            Expr::Steps(first, steps) => self.steps(first, steps),
            Expr::List(items) => self.items(items, Kind::List),
            Expr::Tuple(items) => self.items(items, Kind::Tuple),
            Expr::Dict(entries) => self.dict(entries),
            Expr::Sign(minus, inner) => self.evaluate(inner).and_then(|v| arithmetic::signed(*minus, &v)),
            Expr::Not(odd, inner) => self.evaluate(inner).map(|v| Value::Bool(v.is_true() != *odd)),
            Expr::Arithmetic(first, rest) => self.arithmetic(first, rest),
            Expr::Concat(parts) => self.concat(parts),
            Expr::Compare(first, rest) => self.compare(first, rest),
            Expr::And(parts) => self.logic(parts, false),
            Expr::Or(parts) => self.logic(parts, true),
            Expr::If(arms, otherwise) => self.choice(arms, otherwise.as_deref()),
        };
        self.budget.leave();
        value
    }

    #[inline(never)]
    fn items(&mut self, exprs: &'t [Expr], kind: Kind) -> Result<Value> {
        let mut items = Items::new(&self.budget);
        for expr in exprs {
            items.push(self.evaluate(expr)?)?;
        }
        items.finish(kind)
    }

    #[inline(never)]
    fn dict(&mut self, exprs: &'t [(Expr, Expr)]) -> Result<Value> {
        let mut entries = Entries::new(&self.budget);
        for (key, value) in exprs {
            let key = self.evaluate(key)?;
            entries.set(key, self.evaluate(value)?)?;
        }
        entries.finish()
    }

    #[inline(never)]
    fn arithmetic(&mut self, first: &'t Expr, rest: &'t [(Arithmetic, Expr)]) -> Result<Value> {
        let mut value = self.evaluate(first)?;
        for (op, expr) in rest {
            let right = self.evaluate(expr)?;
            value = match arithmetic::apply(*op, &value, &right, &self.budget) {
                Err(error) if matches!(value, Value::Undefined) => return Err(self.undefined(first).unwrap_or(error)),
                Err(error) if matches!(right, Value::Undefined) => return Err(self.undefined(expr).unwrap_or(error)),
                result => result?,
            };
        }
        Ok(value)
    }

    /// The error of an undefined name, if `expr` is one.
    fn undefined(&self, expr: &Expr) -> Option<Error> {
        match expr {
            Expr::Name(name) => Some(Error::new(format!("{:?} is undefined", self.name(*name)))),
            Expr::Steps(_, steps) => match steps.last() {
                Some(Step::Attribute(name)) => Some(Error::new(format!("{:?} is undefined", name.str()?))),
                _ => None,
            },
            _ => None,
        }
    }

    #[inline(never)]
    fn concat(&mut self, parts: &'t [Expr]) -> Result<Value> {
        let mut out = Writer::new(&self.budget);
        for part in parts {
            self.evaluate(part)?.show(&mut out)?;
        }
        Ok(out.finish())
    }

    #[inline(never)]
    fn compare(&mut self, first: &'t Expr, rest: &'t [(Comparison, Expr)]) -> Result<Value> {
        let mut left = self.evaluate(first)?;
        for (op, expr) in rest {
            let right = self.evaluate(expr)?;
            let budget = &self.budget;
            let holds = match op {
                Comparison::Equal => left.equals(&right, budget)?,
                Comparison::Unequal => !left.equals(&right, budget)?,
                Comparison::In => left.is_in(&right, budget)?,
                Comparison::NotIn => !left.is_in(&right, budget)?,
                Comparison::Less => left.order(&right, budget)? == Ordering::Less,
                Comparison::LessOrEqual => left.order(&right, budget)? != Ordering::Greater,
                Comparison::Greater => left.order(&right, budget)? == Ordering::Greater,
                Comparison::GreaterOrEqual => left.order(&right, budget)? != Ordering::Less,
            };
            if !holds {
                return Ok(Value::Bool(false));
            }
            left = right;
        }
        Ok(Value::Bool(true))
    }

    /// The first part whose truth is `until`, or the last.
    #[inline(never)]
    fn logic(&mut self, parts: &'t [Expr], until: bool) -> Result<Value> {
        let mut value = Value::Undefined;
        for part in parts {
            value = self.evaluate(part)?;
            if value.is_true() == until {
                break;
            }
        }
        Ok(value)
    }

    #[inline(never)]
    fn choice(&mut self, arms: &'t [(Expr, Expr)], otherwise: Option<&'t Expr>) -> Result<Value> {
        for (condition, value) in arms {
            if self.evaluate(condition)?.is_true() {
                return self.evaluate(value);
            }
        }
        otherwise.map_or(Ok(Value::Undefined), |expr| self.evaluate(expr))
    }

    #[inline(never)]
    pub(super) fn steps(&mut self, first: &'t Expr, steps: &'t [Step]) -> Result<Value> {
        let mut value = self.evaluate(first)?;
        let undefined = matches!(value, Value::Undefined);
        for (i, step) in steps.iter().enumerate() {
            self.budget.work(super::budget::STEP)?;
            let before = i.checked_sub(1).and_then(|i| steps.get(i));
            value = match self.step(value, step, steps.get(i + 1), before) {
                Err(error) if undefined && i == 0 && error.is_of_undefined() => {
                    return Err(self.undefined(first).unwrap_or(error));
                }
                result => result?,
            };
        }
        Ok(value)
    }

    fn step(&mut self, value: Value, step: &'t Step, next: Option<&Step>, before: Option<&Step>) -> Result<Value> {
        match step {
            Step::Attribute(name) => self.attribute(&value, name, matches!(next, Some(Step::Call(_)))),
            Step::Item(index) => {
                let index = self.evaluate(index)?;
                self.item(&value, &index)
            }
            Step::Slice(bounds) => self.slice(&value, bounds),
            Step::Call(arguments) => {
                let arguments = self.arguments(arguments)?;
                match (&value, before) {
                    (Value::Undefined, Some(Step::Attribute(name))) => {
                        fail(format!("there is no method {:?}", name.str().unwrap_or_default()))
                    }
                    _ => self.call(&value, arguments),
                }
            }
            Step::Filter(name, filter, arguments) => {
                let Some(filter) = filter else { return fail(format!("there is no filter {name:?}")) };
                let arguments = self.arguments(arguments)?;
                filter(self, value, arguments)
            }
            Step::Test(name, test, arguments, negated) => {
                let Some(test) = test else { return fail(format!("there is no test {name:?}")) };
                let arguments = self.arguments(arguments)?;
                Ok(Value::Bool(test(self, &value, &arguments)? != *negated))
            }
        }
    }

    /// The text or value that filters make of `value`.
    pub(super) fn filtered(&mut self, value: Value, steps: &'t [Step]) -> Result<Value> {
        steps.iter().try_fold(value, |value, step| self.step(value, step, None, None))
    }

    #[inline(never)]
    pub(super) fn arguments(&mut self, arguments: &'t Arguments) -> Result<Args> {
        let mut args = Args::default();
        for expr in &arguments.positional {
            args.positional.push(self.evaluate(expr)?);
        }
        if let Some(more) = &arguments.more {
            let more = self.evaluate(more)?.iterated(&self.budget)?;
            if more.items().len() > ARGUMENTS_MAX {
                return fail("too many arguments");
            }
            args.positional.extend_from_slice(more.items());
        }
        for (name, expr) in &arguments.named {
            args.named.push((name.clone(), self.evaluate(expr)?));
        }
        if let Some(more) = &arguments.more_named {
            let Value::Dict(more) = self.evaluate(more)? else { return fail("a dict is needed after **") };
            if more.entries().len() > ARGUMENTS_MAX {
                return fail("too many arguments");
            }
            for (name, value) in more.entries() {
                self.budget.work(name.str().unwrap_or_default().len())?;
                args.named.push((name.str().unwrap_or_default().into(), value.clone()));
            }
        }
        Ok(args)
    }

    /// `value.name`, as jinja2 looks it up: a method of the type, then an item. `called`: a call follows.
    pub(super) fn attribute(&mut self, value: &Value, name: &Value, called: bool) -> Result<Value> {
        let text = name.str().unwrap_or_default();
        if let Some(method) = methods::find(value, text) {
            if !called {
                value.depth_around()?;
            }
            return Ok(Value::Method(Rc::new((value.clone(), method))));
        }
        match value {
            Value::Undefined => Err(Error::undefined(text)),
            Value::Dict(dict) if !methods::changes_dict(text) => {
                Ok(dict.get(name, &self.budget)?.cloned().unwrap_or(Value::Undefined))
            }
            Value::Namespace(namespace) => Ok(namespace.get(name, &self.budget)?.unwrap_or(Value::Undefined)),
            Value::Loop(l) => Ok(loop_attribute(l, text)),
            Value::Macro(MacroRef { index, .. }) if text == "name" => {
                let name = self.program.macros.get(*index as usize).map_or("", |m| self.name(m.name));
                Value::text(&self.budget, name)
            }
            Value::Cycler(cycler) if text == "current" => {
                Ok(cycler.items.items().get(cycler.at.get()).cloned().unwrap_or(Value::Undefined))
            }
            _ => Ok(Value::Undefined),
        }
    }

    /// `value[index]`, as jinja2 looks it up: an item, then an attribute.
    pub(super) fn item(&mut self, value: &Value, index: &Value) -> Result<Value> {
        if let Value::Undefined = value {
            return Err(Error::undefined(index.str().unwrap_or("...")));
        }
        if let Some(item) = arithmetic::item(value, index, &self.budget)? {
            return Ok(item);
        }
        match (value, index) {
            (Value::Dict(_), Value::Str(name)) if methods::find(value, name.as_str()).is_none() => Ok(Value::Undefined),
            (_, Value::Str(_)) => self.attribute(value, index, false),
            _ => Ok(Value::Undefined),
        }
    }

    fn slice(&mut self, value: &Value, bounds: &'t [Option<Expr>; 3]) -> Result<Value> {
        let mut numbers = [None; 3];
        for (number, bound) in numbers.iter_mut().zip(bounds) {
            let Some(bound) = bound else { continue };
            let bound = self.evaluate(bound)?;
            *number = match (&bound, bound.integer()) {
                (Value::None, _) => None,
                (_, Some(n)) => Some(n),
                _ => return fail(format!("the bound of a slice is {}", bound.type_name())),
            };
        }
        match value {
            Value::Undefined => Err(Error::undefined("...")),
            _ => Ok(arithmetic::slice(value, numbers, &self.budget)?.unwrap_or(Value::Undefined)),
        }
    }

    /// Calls a value.
    pub(super) fn call(&mut self, callee: &Value, args: Args) -> Result<Value> {
        match callee {
            Value::Function(function) => function.call(self, args),
            Value::Method(method) => (method.1.0)(self, &method.0, args),
            Value::Macro(place) => self.call_macro(*place, args),
            Value::Loop(l) => self.call_loop(l, args),
            Value::Joiner(joiner) => {
                let used = joiner.used.replace(true);
                if used { Ok(joiner.separator.clone()) } else { Value::text(&self.budget, "") }
            }
            Value::Undefined => Err(Error::undefined("what is called")),
            other => fail(format!("{} cannot be called", other.type_name())),
        }
    }
}

/// What a template can ask of a loop.
fn loop_attribute(l: &Loop, name: &str) -> Value {
    let (index, len) = (l.index.get(), l.items.items().len());
    let int = |n: usize| i64::try_from(n).map_or(Value::Undefined, Value::Int);
    let at = |i: Option<usize>| i.and_then(|i| l.items.items().get(i)).cloned().unwrap_or(Value::Undefined);
    match name {
        "index" => int(index + 1),
        "index0" => int(index),
        "revindex" => int(len.saturating_sub(index)),
        "revindex0" => int(len.saturating_sub(index + 1)),
        "first" => Value::Bool(index == 0),
        "last" => Value::Bool(index + 1 == len),
        "length" => int(len),
        "depth" => int(l.depth + 1),
        "depth0" => int(l.depth),
        "previtem" => at(index.checked_sub(1)),
        "nextitem" => at(index.checked_add(1)),
        _ => Value::Undefined,
    }
}
