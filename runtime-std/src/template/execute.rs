//! Statements, loops and macros.

use super::arguments::Args;
use super::budget::{Result, fail};
use super::evaluate::{Machine, Scope};
use super::syntax::{self, Body, For, Name, Statement, StatementKind, Target};
use super::values::{Items, Kind, Loop, MacroRef, Value, Writer};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// What comes after a statement.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Next,
    Break,
    Continue,
}

/// Bytes of a variable.
const VARIABLE: usize = 2 * size_of::<(Name, Value)>();

impl<'t> Machine<'t> {
    /// Renders the program with these variables.
    pub(super) fn run(mut self, context: &[(&str, Value)]) -> Result<String> {
        self.scoped(None, |m| {
            for (name, value) in context {
                let name = m.program.names.iter().zip(0..).find(|(n, _)| &***n == *name);
                if let Some((_, name)) = name {
                    m.set(name, value.clone())?;
                }
            }
            m.body(&m.program.body)
        })?;
        Ok(self.out.into_string())
    }

    /// Runs `work` in a new scope inside `parent`.
    fn scoped<T>(&mut self, parent: Option<usize>, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let mut charge = self.budget.charge();
        charge.resize(0)?;
        self.serial = self.serial.wrapping_add(1);
        let (outer, new) = (self.current, self.scopes.len());
        self.scopes.push(Scope { serial: self.serial, parent, variables: Vec::new(), charge });
        self.current = new;
        let done = work(self);
        self.scopes.truncate(new);
        self.current = outer;
        done
    }

    /// What `work` writes.
    fn caught(&mut self, work: impl FnOnce(&mut Self) -> Result<Flow>) -> Result<Value> {
        let outer = std::mem::replace(&mut self.out, Writer::new(&self.budget));
        self.captures += 1;
        let done = work(self);
        self.captures -= 1;
        let inner = std::mem::replace(&mut self.out, outer);
        done?;
        Ok(inner.finish())
    }

    fn write(&mut self, text: &str) -> Result<()> {
        if self.captures == 0 {
            self.budget.output(text.len())?;
        }
        self.out.push_str(text)
    }

    fn print(&mut self, value: &Value) -> Result<()> {
        if let Some(text) = value.str() {
            return self.write(text);
        }
        let mut text = Writer::new(&self.budget);
        value.show(&mut text)?;
        self.write(text.as_str())
    }

    /// Sets a variable of this scope.
    fn set(&mut self, name: Name, value: Value) -> Result<()> {
        let Some(scope) = self.scopes.get_mut(self.current) else { return fail("no scope") };
        self.budget.work(1 + scope.variables.len() / 4)?;
        if let Some((_, place)) = scope.variables.iter_mut().find(|(n, _)| *n == name) {
            *place = value;
            return Ok(());
        }
        scope.charge.resize((scope.variables.len() + 1) * VARIABLE)?;
        scope.variables.push((name, value));
        Ok(())
    }

    fn assign(&mut self, target: &'t Target, value: Value) -> Result<()> {
        match target {
            Target::Name(name) => self.set(*name, value),
            Target::Member(name, member) => match self.variable(*name)? {
                Value::Namespace(namespace) => namespace.set(member.clone(), value, &self.budget),
                other => fail(format!("a member of {} cannot be set, only of a namespace", other.type_name())),
            },
            Target::Several(targets) => {
                let items = value.iterated(&self.budget)?;
                if items.items().len() != targets.len() {
                    return fail(format!("{} values for {} names", items.items().len(), targets.len()));
                }
                targets.iter().zip(items.items()).try_for_each(|(target, item)| self.assign(target, item.clone()))
            }
        }
    }

    fn body(&mut self, body: &'t Body) -> Result<Flow> {
        self.budget.enter()?;
        let mut flow = Flow::Next;
        for statement in body {
            flow = self.statement(statement).map_err(|e| e.at(statement.line))?;
            if flow != Flow::Next {
                break;
            }
        }
        self.budget.leave();
        Ok(flow)
    }

    fn statement(&mut self, statement: &'t Statement) -> Result<Flow> {
        match &statement.kind {
            StatementKind::Text(text) => self.write(text)?,
            StatementKind::Print(expr) => {
                let value = self.evaluate(expr)?;
                self.print(&value)?;
            }
            StatementKind::If { arms, otherwise } => {
                for (condition, body) in arms {
                    if self.evaluate(condition)?.is_true() {
                        return self.body(body);
                    }
                }
                return self.body(otherwise);
            }
            StatementKind::For(index) => {
                let items = match self.program.loops.get(*index) {
                    Some(node) => self.evaluate(&node.items)?,
                    None => Value::Undefined,
                };
                self.for_loop(*index, &items, 0)?;
            }
            StatementKind::Set(target, expr) => {
                let value = self.evaluate(expr)?;
                self.assign(target, value)?;
            }
            StatementKind::SetBlock(target, steps, body) => {
                let value = self.caught_filtered(steps, body)?;
                self.assign(target, value)?;
            }
            StatementKind::Filter(steps, body) => {
                let value = self.caught_filtered(steps, body)?;
                self.print(&value)?;
            }
            StatementKind::Macro(name, index) => {
                let value = self.macro_value(*index);
                self.set(*name, value)?;
            }
            StatementKind::Call(call, caller) => return self.call_block(call, *caller),
            StatementKind::With(values, body) => return self.with(values, body),
            StatementKind::Scope(body) => return self.scoped(Some(self.current), |m| m.body(body)),
            StatementKind::Break => return Ok(Flow::Break),
            StatementKind::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    #[inline(never)]
    fn caught_filtered(&mut self, steps: &'t [syntax::Step], body: &'t Body) -> Result<Value> {
        let text = self.caught(|m| m.scoped(Some(m.current), |m| m.body(body)))?;
        self.filtered(text, steps)
    }

    #[inline(never)]
    fn with(&mut self, values: &'t [(Target, syntax::Expr)], body: &'t Body) -> Result<Flow> {
        let mut evaluated = Vec::with_capacity(values.len());
        for (target, expr) in values {
            evaluated.push((target, self.evaluate(expr)?));
        }
        self.scoped(Some(self.current), |m| {
            evaluated.into_iter().try_for_each(|(target, value)| m.assign(target, value))?;
            m.body(body)
        })
    }

    #[inline(never)]
    fn for_loop(&mut self, index: usize, items: &Value, depth: usize) -> Result<()> {
        let program = self.program;
        let Some(node) = program.loops.get(index) else { return Ok(()) };
        let mut items = items.iterated(&self.budget)?;
        if node.condition.is_some() {
            items = self.chosen(node, &items)?;
        }
        if items.items().is_empty() {
            self.scoped(Some(self.current), |m| m.body(&node.otherwise))?;
            return Ok(());
        }
        Value::Seq(items.clone()).depth_around()?;
        let count = items.items().len();
        let (index0, changed) = (Cell::new(0), RefCell::new(None));
        let value = Rc::new(Loop { node: index, items, index: index0, depth, changed });
        for i in 0..count {
            value.index.set(i);
            let item = value.items.items().get(i).cloned().unwrap_or(Value::Undefined);
            let flow = self.scoped(Some(self.current), |m| {
                m.set(syntax::LOOP, Value::Loop(value.clone()))?;
                m.assign(&node.target, item)?;
                m.body(&node.body)
            })?;
            if flow == Flow::Break {
                break;
            }
        }
        Ok(())
    }

    /// The items that a loop's condition lets through.
    #[inline(never)]
    fn chosen(&mut self, node: &'t For, items: &Rc<super::values::Seq>) -> Result<Rc<super::values::Seq>> {
        let mut chosen = Items::new(&self.budget);
        for item in items.items() {
            let holds = self.scoped(Some(self.current), |m| {
                m.assign(&node.target, item.clone())?;
                node.condition.as_ref().map_or(Ok(Value::Bool(true)), |condition| m.evaluate(condition))
            })?;
            if holds.is_true() {
                chosen.push(item.clone())?;
            }
        }
        chosen.seq(Kind::List)
    }

    /// Runs a recursive loop inside itself.
    pub(super) fn call_loop(&mut self, l: &Rc<Loop>, args: Args) -> Result<Value> {
        let [items] = args.take(["iterable"])?;
        if !self.program.loops.get(l.node).is_some_and(|node| node.recursive) {
            return fail("this loop is not recursive");
        }
        let (items, node, depth) = (items.unwrap_or(Value::Undefined), l.node, l.depth + 1);
        self.caught(|m| m.for_loop(node, &items, depth).map(|()| Flow::Next))
    }

    /// A macro that is defined here.
    fn macro_value(&self, index: usize) -> Value {
        let serial = self.scopes.get(self.current).map_or(0, |scope| scope.serial);
        // Indices of nodes and of scopes that the budgets of source and memory allow.
        Value::Macro(MacroRef { index: index as u32, scope: self.current as u32, serial })
    }

    #[inline(never)]
    fn call_block(&mut self, call: &'t syntax::Expr, caller: usize) -> Result<Flow> {
        let caller = self.macro_value(caller);
        let called = match call {
            syntax::Expr::Steps(first, steps) => match steps.split_last() {
                Some((syntax::Step::Call(arguments), before)) => Some((self.steps(first, before)?, arguments)),
                _ => None,
            },
            _ => None,
        };
        let Some((callee, arguments)) = called else { return fail("call needs the call of a macro") };
        let mut args = self.arguments(arguments)?;
        args.named.push((syntax::RESERVED[syntax::CALLER as usize].into(), caller));
        let value = self.call(&callee, args)?;
        self.print(&value)?;
        Ok(Flow::Next)
    }

    #[inline(never)]
    pub(super) fn call_macro(&mut self, place: MacroRef, args: Args) -> Result<Value> {
        let program = self.program;
        let Some(node) = program.macros.get(place.index as usize) else { return fail("no such macro") };
        let scope = place.scope as usize;
        if self.scopes.get(scope).is_none_or(|s| s.serial != place.serial) {
            return fail(format!("the macro {:?} is called outside of where it was defined", self.name(node.name)));
        }
        let outer = self.current;
        self.caught(|m| {
            m.scoped(Some(scope), |m| {
                m.bind(node, args)?;
                m.body(&node.body)
            })
        })
        .inspect(|_| debug_assert_eq!(self.current, outer))
    }

    /// Sets the parameters of a macro.
    fn bind(&mut self, node: &'t syntax::Macro, args: Args) -> Result<()> {
        let mut positional = args.positional.into_iter();
        let mut named = args.named;
        for (parameter, default) in &node.parameters {
            let name = self.name(*parameter);
            self.budget.work(named.len())?;
            let by_name = named.iter().position(|(n, _)| **n == *name);
            let value = match (positional.next(), by_name) {
                (Some(_), Some(_)) => return fail(format!("the argument {name:?} is given twice")),
                (Some(value), None) => value,
                (None, Some(at)) => named.swap_remove(at).1,
                (None, None) => match default {
                    Some(default) => self.evaluate(default)?,
                    None => Value::Undefined,
                },
            };
            self.set(*parameter, value)?;
        }
        if let Some(at) = named.iter().position(|(n, _)| **n == *self.name(syntax::CALLER)) {
            let (_, caller) = named.swap_remove(at);
            self.set(syntax::CALLER, caller)?;
        }
        let more = Value::tuple(&self.budget, positional)?;
        if node.takes_varargs {
            self.set(syntax::VARARGS, more)?;
        } else if more.is_true() {
            return fail(format!("the macro {:?} takes fewer arguments", self.name(node.name)));
        }
        if node.takes_kwargs {
            let mut entries = super::values::Entries::new(&self.budget);
            for (name, value) in named {
                entries.set(Value::text(&self.budget, &name)?, value)?;
            }
            self.set(syntax::KWARGS, entries.finish()?)?;
        } else if let Some((name, _)) = named.first() {
            return fail(format!("the macro {:?} takes no argument {name:?}", self.name(node.name)));
        }
        Ok(())
    }
}
