//! The parser's half for expressions: precedence climbing, so that an expression without brackets costs a few frames
//! of stack, however long it is.

use super::budget::{Result, fail};
use super::lexer::Token;
use super::parser::Parser;
use super::syntax::{Arguments, Arithmetic, Comparison, Expr, Step};
use super::values::Value;

/// Precedence of operators in jinja2: `~` binds more tightly than `+`.
mod level {
    pub(super) const OR: u8 = 1;
    pub(super) const AND: u8 = 2;
    pub(super) const NOT: u8 = 3;
    pub(super) const COMPARE: u8 = 4;
    pub(super) const ADD: u8 = 5;
    pub(super) const CONCAT: u8 = 6;
    pub(super) const MULTIPLY: u8 = 7;
    pub(super) const POWER: u8 = 8;
}

enum Operator {
    Or,
    And,
    Compare(Comparison),
    Arithmetic(Arithmetic),
    Concat,
}

impl<'s> Parser<'s> {
    /// An expression, or several with commas: a tuple.
    pub(super) fn tuple(&mut self) -> Result<Expr> {
        self.tuple_of(Self::expression)
    }

    pub(super) fn tuple_of(&mut self, element: fn(&mut Self) -> Result<Expr>) -> Result<Expr> {
        let first = element(self)?;
        if !self.is_op(",") {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.take_op(",")? {
            if self.tuple_ends() {
                break;
            }
            items.push(element(self)?);
        }
        Ok(Expr::Tuple(items))
    }

    fn tuple_ends(&self) -> bool {
        matches!(self.token, Token::VariableEnd | Token::BlockEnd | Token::Op(")" | "]"))
    }

    /// An expression with `if` and `else`.
    pub(super) fn expression(&mut self) -> Result<Expr> {
        let mut value = self.alternatives()?;
        let mut arms = Vec::new();
        while self.take_name("if")? {
            self.node()?;
            let condition = self.alternatives()?;
            arms.push((condition, value));
            if !self.take_name("else")? {
                return Ok(Expr::If(arms, None));
            }
            value = self.alternatives()?;
        }
        Ok(if arms.is_empty() { value } else { Expr::If(arms, Some(Box::new(value))) })
    }

    /// An expression without `if`.
    pub(super) fn alternatives(&mut self) -> Result<Expr> {
        self.binary(level::OR)
    }

    fn binary(&mut self, min: u8) -> Result<Expr> {
        self.deeper(|p| p.operators(min))
    }

    /// Operators of precedence `min` and above.
    fn operators(&mut self, min: u8) -> Result<Expr> {
        let mut left = if min <= level::NOT && self.is_name("not") { self.negation()? } else { self.unary()? };
        // The level of the chain that is being made here; one in brackets is a value by itself.
        let mut chain = None;
        while let Some((operator, level)) = self.operator() {
            if level < min {
                break;
            }
            self.node()?;
            if matches!(operator, Operator::Compare(Comparison::NotIn)) {
                self.advance()?;
                if !self.is_name("in") {
                    return self.unexpected("\"in\"");
                }
            }
            self.advance()?;
            let right = self.binary(level + 1)?;
            left = joined(left, operator, right, chain == Some(level));
            chain = Some(level);
        }
        Ok(left)
    }

    fn negation(&mut self) -> Result<Expr> {
        let mut odd = false;
        while self.take_name("not")? {
            odd = !odd;
        }
        self.node()?;
        Ok(Expr::Not(odd, Box::new(self.binary(level::COMPARE)?)))
    }

    fn operator(&self) -> Option<(Operator, u8)> {
        use {Arithmetic as A, Comparison as C, Operator as O};
        Some(match self.token {
            Token::Name("or") => (O::Or, level::OR),
            Token::Name("and") => (O::And, level::AND),
            Token::Name("in") => (O::Compare(C::In), level::COMPARE),
            Token::Name("not") => (O::Compare(C::NotIn), level::COMPARE),
            Token::Op(op) => match op {
                "==" => (O::Compare(C::Equal), level::COMPARE),
                "!=" => (O::Compare(C::Unequal), level::COMPARE),
                "<" => (O::Compare(C::Less), level::COMPARE),
                "<=" => (O::Compare(C::LessOrEqual), level::COMPARE),
                ">" => (O::Compare(C::Greater), level::COMPARE),
                ">=" => (O::Compare(C::GreaterOrEqual), level::COMPARE),
                "+" => (O::Arithmetic(A::Add), level::ADD),
                "-" => (O::Arithmetic(A::Subtract), level::ADD),
                "~" => (O::Concat, level::CONCAT),
                "*" => (O::Arithmetic(A::Multiply), level::MULTIPLY),
                "/" => (O::Arithmetic(A::Divide), level::MULTIPLY),
                "//" => (O::Arithmetic(A::FloorDivide), level::MULTIPLY),
                "%" => (O::Arithmetic(A::Remainder), level::MULTIPLY),
                "**" => (O::Arithmetic(A::Power), level::POWER),
                _ => return None,
            },
            _ => return None,
        })
    }

    /// A value with signs before it and filters, tests and calls behind.
    fn unary(&mut self) -> Result<Expr> {
        self.node()?;
        let (mut signed, mut minus) = (false, false);
        while self.is_op("-") || self.is_op("+") {
            minus ^= self.is_op("-");
            signed = true;
            self.advance()?;
        }
        let value = self.primary()?;
        let mut steps = Vec::new();
        self.postfix(&mut steps)?;
        let mut value = with_steps(value, &mut steps);
        if signed {
            value = Expr::Sign(minus, Box::new(value));
        }
        loop {
            if self.take_op("|")? {
                steps.push(self.filter()?);
            } else if self.take_name("is")? {
                steps.push(self.test()?);
            } else if self.is_op("(") {
                self.node()?;
                steps.push(Step::Call(self.arguments()?));
            } else {
                break;
            }
        }
        if let Expr::Steps(_, before) = &mut value {
            before.append(&mut steps);
        }
        Ok(with_steps(value, &mut steps))
    }

    /// Members, items and calls.
    fn postfix(&mut self, steps: &mut Vec<Step>) -> Result<()> {
        loop {
            let step = if self.take_op(".")? {
                match self.token {
                    Token::Name(name) => {
                        self.advance()?;
                        Step::Attribute(self.constant(name)?)
                    }
                    Token::Int(index) => {
                        self.advance()?;
                        Step::Item(Expr::Const(Value::Int(index)))
                    }
                    _ => return self.unexpected("a name"),
                }
            } else if self.take_op("[")? {
                self.subscript()?
            } else if self.is_op("(") {
                Step::Call(self.arguments()?)
            } else {
                return Ok(());
            };
            self.node()?;
            steps.push(step);
        }
    }

    fn subscript(&mut self) -> Result<Step> {
        let mut parts = [None, None, None];
        let (mut colons, mut item) = (0, None);
        while !self.is_op("]") {
            if self.take_op(":")? {
                colons += 1;
                continue;
            }
            match parts.get_mut(colons) {
                Some(part @ None) => *part = Some(self.expression()?),
                _ => return self.unexpected("\"]\""),
            }
            if self.is_op(",") && colons == 0 {
                let mut items: Vec<Expr> = parts[0].take().into_iter().collect();
                while self.take_op(",")? {
                    if !self.is_op("]") {
                        items.push(self.expression()?);
                    }
                }
                item = Some(Expr::Tuple(items));
                break;
            }
        }
        self.expect_op("]")?;
        if let Some(item) = item {
            return Ok(Step::Item(item));
        }
        match parts {
            [Some(item), None, None] if colons == 0 => Ok(Step::Item(item)),
            [None, ..] if colons == 0 => fail("an index is missing"),
            parts => Ok(Step::Slice(Box::new(parts))),
        }
    }

    fn test(&mut self) -> Result<Step> {
        self.node()?;
        let negated = self.take_name("not")?;
        let name = self.dotted()?;
        let mut arguments = Arguments::default();
        if self.is_op("(") {
            arguments = self.arguments()?;
        } else {
            let starts = match &self.token {
                Token::Name(name) => !matches!(*name, "else" | "or" | "and" | "is" | "if" | "in" | "not" | "recursive"),
                Token::Str(_) | Token::Int(_) | Token::Float(_) | Token::Op("[" | "{") => true,
                _ => false,
            };
            if starts {
                let value = self.primary()?;
                let mut steps = Vec::new();
                self.postfix(&mut steps)?;
                arguments.positional.push(with_steps(value, &mut steps));
            }
        }
        let test = super::predicates::find(&name);
        Ok(Step::Test(name.into(), test, arguments, negated))
    }

    pub(super) fn arguments(&mut self) -> Result<Arguments> {
        self.deeper(Self::call_arguments)
    }

    fn call_arguments(&mut self) -> Result<Arguments> {
        let mut arguments = Arguments::default();
        let mut first = true;
        self.expect_op("(")?;
        while !self.take_op(")")? {
            if !std::mem::take(&mut first) {
                self.expect_op(",")?;
                if self.take_op(")")? {
                    break;
                }
            }
            self.node()?;
            if self.take_op("**")? {
                arguments.more_named = Some(Box::new(self.expression()?));
            } else if self.take_op("*")? {
                arguments.more = Some(Box::new(self.expression()?));
            } else if let Token::Name(name) = self.token
                && self.lexer.assigns()
            {
                self.advance()?;
                self.advance()?;
                arguments.named.push((name.into(), self.expression()?));
            } else if arguments.named.is_empty() {
                arguments.positional.push(self.expression()?);
            } else {
                return fail("a plain argument stands behind a named one");
            }
        }
        Ok(arguments)
    }

    fn primary(&mut self) -> Result<Expr> {
        let value = match &mut self.token {
            Token::Name(name) => {
                let name = *name;
                self.advance()?;
                return Ok(match name {
                    "true" | "True" => Expr::Const(Value::Bool(true)),
                    "false" | "False" => Expr::Const(Value::Bool(false)),
                    "none" | "None" => Expr::Const(Value::None),
                    "not" | "and" | "or" | "in" | "is" | "if" | "else" => {
                        return fail(format!("{name:?} stands alone"));
                    }
                    _ => Expr::Name(self.intern(name)),
                });
            }
            Token::Str(text) => {
                let mut text = std::mem::take(text);
                self.advance()?;
                // Strings side by side are one.
                while let Token::Str(more) = &self.token {
                    text.push_str(more);
                    self.advance()?;
                }
                return Ok(Expr::Const(self.constant(&text)?));
            }
            Token::Int(n) => Value::Int(*n),
            Token::Float(x) => Value::Float(*x),
            Token::Op("(") => {
                self.advance()?;
                let inner = if self.is_op(")") { Expr::Tuple(Vec::new()) } else { self.tuple()? };
                self.expect_op(")")?;
                return Ok(inner);
            }
            Token::Op("[") => {
                self.advance()?;
                let mut items = Vec::new();
                while !self.take_op("]")? {
                    if !items.is_empty() {
                        self.expect_op(",")?;
                        if self.take_op("]")? {
                            break;
                        }
                    }
                    items.push(self.expression()?);
                }
                return Ok(Expr::List(items));
            }
            Token::Op("{") => {
                self.advance()?;
                let mut items = Vec::new();
                while !self.take_op("}")? {
                    if !items.is_empty() {
                        self.expect_op(",")?;
                        if self.take_op("}")? {
                            break;
                        }
                    }
                    let key = self.expression()?;
                    self.expect_op(":")?;
                    items.push((key, self.expression()?));
                }
                return Ok(Expr::Dict(items));
            }
            _ => return self.unexpected("a value"),
        };
        self.advance()?;
        Ok(Expr::Const(value))
    }
}

fn with_steps(value: Expr, steps: &mut Vec<Step>) -> Expr {
    if steps.is_empty() { value } else { Expr::Steps(Box::new(value), std::mem::take(steps)) }
}

/// An operation behind those of the same precedence, if `left` is a chain of them that goes on.
fn joined(left: Expr, operator: Operator, right: Expr, goes_on: bool) -> Expr {
    match (left, operator) {
        (Expr::Or(mut all), Operator::Or) if goes_on => {
            all.push(right);
            Expr::Or(all)
        }
        (Expr::And(mut all), Operator::And) if goes_on => {
            all.push(right);
            Expr::And(all)
        }
        (Expr::Concat(mut all), Operator::Concat) if goes_on => {
            all.push(right);
            Expr::Concat(all)
        }
        (Expr::Arithmetic(first, mut rest), Operator::Arithmetic(op)) if goes_on => {
            rest.push((op, right));
            Expr::Arithmetic(first, rest)
        }
        (Expr::Compare(first, mut rest), Operator::Compare(op)) if goes_on => {
            rest.push((op, right));
            Expr::Compare(first, rest)
        }
        (left, Operator::Or) => Expr::Or(vec![left, right]),
        (left, Operator::And) => Expr::And(vec![left, right]),
        (left, Operator::Concat) => Expr::Concat(vec![left, right]),
        (left, Operator::Arithmetic(op)) => Expr::Arithmetic(Box::new(left), vec![(op, right)]),
        (left, Operator::Compare(op)) => Expr::Compare(Box::new(left), vec![(op, right)]),
    }
}
