//! Tokens to the syntax tree. Statements here, expressions in `expressions.rs`.
//!
//! Follows jinja2's `parser.py`, with what transformers adds: loop controls and `{% generation %}`.

use super::budget::{Budget, Error, Result, fail};
use super::globals::Function;
use super::lexer::{Lexer, Token};
use super::syntax::{Body, Expr, For, Macro, Name, Program, RESERVED, Statement, StatementKind, Step, Target};
use super::values::Value;
use std::collections::HashMap;
use std::rc::Rc;

/// Expressions and blocks inside each other.
const DEPTH_MAX: usize = 200;
/// Nodes of a tree. Published templates have up to 4,000.
const NODES_MAX: usize = 16_000;

pub(super) struct Parser<'s> {
    pub(super) lexer: Lexer<'s>,
    pub(super) token: Token<'s>,
    pub(super) budget: Rc<Budget>,
    names: Vec<Rc<str>>,
    indices: HashMap<&'s str, Name>,
    macros: Vec<Macro>,
    loops: Vec<For>,
    depth: usize,
    nodes: usize,
    /// For the macro being read: whether `varargs` and `kwargs` were named.
    more_arguments: (bool, bool),
}

/// Parses `source`, which is `lexer::normalised`.
pub(super) fn parse(source: &str) -> Result<Program> {
    let budget = Budget::for_rendering(source.len(), 0);
    let mut parser = Parser {
        lexer: Lexer::new(source),
        token: Token::End,
        budget: budget.clone(),
        names: RESERVED.iter().map(|n| Rc::from(*n)).collect(),
        indices: RESERVED.iter().zip(0..).map(|(n, i)| (*n, i)).collect(),
        macros: Vec::new(),
        loops: Vec::new(),
        depth: 0,
        nodes: 0,
        more_arguments: (false, false),
    };
    let body = parser.advance().and_then(|()| parser.body(&[]));
    let body = body.map_err(|e| e.at(parser.lexer.line()))?;
    let Parser { names, macros, loops, .. } = parser;
    let globals = names.iter().map(|name| Function::find(name)).collect();
    Ok(Program { names, globals, body, macros, loops, _budget: budget })
}

impl<'s> Parser<'s> {
    pub(super) fn advance(&mut self) -> Result<()> {
        self.token = self.lexer.next()?;
        Ok(())
    }

    /// Counts one more node of the tree.
    pub(super) fn node(&mut self) -> Result<()> {
        self.nodes += 1;
        if self.nodes > NODES_MAX { Err(Error::exhausted("it is too large")) } else { Ok(()) }
    }

    /// Runs `parse` one level deeper.
    pub(super) fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= DEPTH_MAX {
            return Err(Error::exhausted("it nests too deeply"));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    pub(super) fn is_op(&self, op: &str) -> bool {
        matches!(self.token, Token::Op(o) if o == op)
    }

    pub(super) fn is_name(&self, name: &str) -> bool {
        matches!(self.token, Token::Name(n) if n == name)
    }

    /// Goes on if this operator is there.
    pub(super) fn take_op(&mut self, op: &str) -> Result<bool> {
        let found = self.is_op(op);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    pub(super) fn take_name(&mut self, name: &str) -> Result<bool> {
        let found = self.is_name(name);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    pub(super) fn expect_op(&mut self, op: &str) -> Result<()> {
        if self.take_op(op)? { Ok(()) } else { self.unexpected(&format!("{op:?}")) }
    }

    /// The name that must be there.
    pub(super) fn name(&mut self) -> Result<&'s str> {
        match self.token {
            Token::Name(name) => {
                self.advance()?;
                Ok(name)
            }
            _ => self.unexpected("a name"),
        }
    }

    pub(super) fn unexpected<T>(&self, wanted: &str) -> Result<T> {
        let found = match &self.token {
            Token::End => "the end of the template".to_owned(),
            Token::Text(_) => "text".to_owned(),
            Token::BlockStart | Token::VariableStart => "the start of a tag".to_owned(),
            Token::BlockEnd | Token::VariableEnd => "the end of the tag".to_owned(),
            Token::Name(name) => format!("{:?}", name.chars().take(40).collect::<String>()),
            Token::Str(_) => "a string".to_owned(),
            Token::Int(_) | Token::Float(_) => "a number".to_owned(),
            Token::Op(op) => format!("{op:?}"),
        };
        fail(format!("{wanted} expected, not {found}"))
    }

    /// The index of a name.
    pub(super) fn intern(&mut self, name: &'s str) -> Name {
        match name {
            "varargs" => self.more_arguments.0 = true,
            "kwargs" => self.more_arguments.1 = true,
            _ => {}
        }
        let names = &mut self.names;
        *self.indices.entry(name).or_insert_with(|| {
            names.push(name.into());
            // There are not more names than nodes.
            (names.len() - 1) as Name
        })
    }

    pub(super) fn constant(&self, text: &str) -> Result<Value> {
        Value::text(&self.budget, text)
    }

    /// Statements up to a block of one of the names `ends`, on whose name the parser then stands; without any, up to
    /// the end.
    fn body(&mut self, ends: &[&str]) -> Result<Body> {
        self.deeper(|p| p.statements(ends))
    }

    fn statements(&mut self, ends: &[&str]) -> Result<Body> {
        let mut body = Body::new();
        loop {
            self.node()?;
            let line = self.lexer.line();
            let kind = match self.token {
                Token::End if ends.is_empty() => return Ok(body),
                Token::End => return fail(format!("{:?} is missing", ends.last().copied().unwrap_or_default())),
                Token::Text(text) => {
                    let kind = StatementKind::Text(text.to_owned());
                    self.advance()?;
                    kind
                }
                Token::VariableStart => {
                    self.advance()?;
                    let expr = self.tuple()?;
                    if self.token != Token::VariableEnd {
                        return self.unexpected("the end of the tag");
                    }
                    self.advance()?;
                    StatementKind::Print(expr)
                }
                Token::BlockStart => {
                    self.advance()?;
                    if let Token::Name(name) = self.token
                        && ends.contains(&name)
                    {
                        return Ok(body);
                    }
                    let keyword = self.name()?;
                    let kind = self.statement(keyword)?;
                    if self.token != Token::BlockEnd {
                        return self.unexpected("the end of the tag");
                    }
                    self.advance()?;
                    kind
                }
                _ => return self.unexpected("text"),
            };
            body.push(Statement { line, kind });
        }
    }

    /// Statements between the end of this tag and a block of the name `end`.
    fn block(&mut self, end: &str) -> Result<Body> {
        let body = self.inner(&[end])?;
        self.advance()?;
        Ok(body)
    }

    /// The same up to one of several names, which is left to be read.
    fn inner(&mut self, ends: &[&str]) -> Result<Body> {
        self.take_op(":")?;
        if self.token != Token::BlockEnd {
            return self.unexpected("the end of the tag");
        }
        self.advance()?;
        self.body(ends)
    }

    fn statement(&mut self, keyword: &str) -> Result<StatementKind> {
        Ok(match keyword {
            "if" => self.if_block()?,
            "for" => self.for_block()?,
            "set" => self.set()?,
            "macro" => {
                let name = self.name()?;
                let name = self.intern(name);
                let index = self.macro_of(name, "endmacro")?;
                StatementKind::Macro(name, index)
            }
            "call" => {
                // The parameters of the caller come before what is called.
                let index = self.macros.len();
                self.macros.push(self.empty_macro());
                let parameters = if self.is_op("(") { self.parameters()? } else { Vec::new() };
                let call = self.expression()?;
                let outer = std::mem::take(&mut self.more_arguments);
                let body = self.block("endcall")?;
                self.fill_macro(index, parameters, body, outer);
                StatementKind::Call(call, index)
            }
            "filter" => {
                let mut steps = vec![self.filter()?];
                while self.take_op("|")? {
                    steps.push(self.filter()?);
                }
                StatementKind::Filter(steps, self.block("endfilter")?)
            }
            "with" => {
                let mut values = Vec::new();
                while self.token != Token::BlockEnd && !self.is_op(":") {
                    if !values.is_empty() {
                        self.expect_op(",")?;
                    }
                    let target = self.target(false)?;
                    self.expect_op("=")?;
                    values.push((target, self.expression()?));
                }
                StatementKind::With(values, self.block("endwith")?)
            }
            // For training: which text is the model's.
            "generation" => StatementKind::Scope(self.block("endgeneration")?),
            "autoescape" => {
                self.expression()?;
                StatementKind::Scope(self.block("endautoescape")?)
            }
            "break" => StatementKind::Break,
            "continue" => StatementKind::Continue,
            other => return fail(format!("there is no tag {:?}", other.chars().take(40).collect::<String>())),
        })
    }

    fn if_block(&mut self) -> Result<StatementKind> {
        let (mut arms, mut otherwise) = (Vec::new(), Body::new());
        loop {
            let condition = self.tuple_of(Self::expression)?;
            let body = self.inner(&["elif", "else", "endif"])?;
            arms.push((condition, body));
            if self.take_name("elif")? {
                continue;
            }
            if self.take_name("else")? {
                otherwise = self.inner(&["endif"])?;
            }
            self.advance()?;
            return Ok(StatementKind::If { arms, otherwise });
        }
    }

    fn for_block(&mut self) -> Result<StatementKind> {
        let target = self.target(false)?;
        if !self.take_name("in")? {
            return self.unexpected("\"in\"");
        }
        // Here an `if` is the loop's own.
        let items = self.tuple_of(Self::alternatives)?;
        let condition = if self.take_name("if")? { Some(self.expression()?) } else { None };
        let recursive = self.take_name("recursive")?;
        let body = self.inner(&["else", "endfor"])?;
        let otherwise = if self.take_name("else")? { self.inner(&["endfor"])? } else { Body::new() };
        self.advance()?;
        self.loops.push(For { target, items, condition, recursive, body, otherwise });
        Ok(StatementKind::For(self.loops.len() - 1))
    }

    fn set(&mut self) -> Result<StatementKind> {
        let target = self.target(true)?;
        if self.take_op("=")? {
            return Ok(StatementKind::Set(target, self.tuple()?));
        }
        let mut steps = Vec::new();
        while self.take_op("|")? {
            steps.push(self.filter()?);
        }
        Ok(StatementKind::SetBlock(target, steps, self.block("endset")?))
    }

    /// What is assigned to; with `members`, also `namespace.member`.
    fn target(&mut self, members: bool) -> Result<Target> {
        let mut targets = vec![self.one_target(members)?];
        let mut several = false;
        while self.take_op(",")? {
            several = true;
            if self.is_name("in") || self.is_op("=") || self.token == Token::BlockEnd {
                break;
            }
            targets.push(self.one_target(members)?);
        }
        match targets.pop() {
            Some(only) if !several => Ok(only),
            last => {
                targets.extend(last);
                Ok(Target::Several(targets))
            }
        }
    }

    fn one_target(&mut self, members: bool) -> Result<Target> {
        self.node()?;
        if self.take_op("(")? {
            let target = self.deeper(|p| p.target(members))?;
            self.expect_op(")")?;
            return Ok(target);
        }
        let text = self.name()?;
        if matches!(text, "true" | "false" | "none" | "True" | "False" | "None" | "not" | "and" | "or" | "in" | "is") {
            return fail(format!("{text:?} cannot be set"));
        }
        let name = self.intern(text);
        if members && self.take_op(".")? {
            let member = self.name()?;
            return Ok(Target::Member(name, self.constant(member)?));
        }
        Ok(Target::Name(name))
    }

    fn parameters(&mut self) -> Result<Vec<(Name, Option<Expr>)>> {
        self.expect_op("(")?;
        let mut parameters = Vec::new();
        while !self.take_op(")")? {
            if !parameters.is_empty() {
                self.expect_op(",")?;
            }
            self.node()?;
            let name = self.name()?;
            let name = self.intern(name);
            let default = if self.take_op("=")? { Some(self.expression()?) } else { None };
            parameters.push((name, default));
        }
        Ok(parameters)
    }

    fn macro_of(&mut self, name: Name, end: &str) -> Result<usize> {
        let index = self.macros.len();
        self.macros.push(Macro { name, ..self.empty_macro() });
        let parameters = self.parameters()?;
        let outer = std::mem::take(&mut self.more_arguments);
        let body = self.block(end)?;
        self.fill_macro(index, parameters, body, outer);
        Ok(index)
    }

    fn empty_macro(&self) -> Macro {
        let name = super::syntax::CALLER;
        Macro { name, parameters: Vec::new(), takes_varargs: false, takes_kwargs: false, body: Body::new() }
    }

    fn fill_macro(&mut self, index: usize, parameters: Vec<(Name, Option<Expr>)>, body: Body, outer: (bool, bool)) {
        let (takes_varargs, takes_kwargs) = std::mem::replace(&mut self.more_arguments, outer);
        if let Some(place) = self.macros.get_mut(index) {
            *place = Macro { name: place.name, parameters, takes_varargs, takes_kwargs, body };
        }
    }

    /// A filter's name and arguments.
    pub(super) fn filter(&mut self) -> Result<Step> {
        self.node()?;
        let name = self.dotted()?;
        let arguments = if self.is_op("(") { self.arguments()? } else { Default::default() };
        let filter = super::filters::find(&name);
        Ok(Step::Filter(name.into(), filter, arguments))
    }

    pub(super) fn dotted(&mut self) -> Result<String> {
        let mut name = self.name()?.to_owned();
        while self.take_op(".")? {
            name.push('.');
            name.push_str(self.name()?);
        }
        Ok(name)
    }
}
