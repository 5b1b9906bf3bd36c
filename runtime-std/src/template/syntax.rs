//! The syntax tree. Chains that a parser usually nests to the left (`1+1+1`, `a.b.c`, `x|f|g`, `elif`) are flat here:
//! how deep a tree is depends on brackets and blocks alone, and the parser counts those.

use super::budget::Budget;
use super::filters::Filter;
use super::globals::Function;
use super::predicates::Predicate;
use super::values::Value;
use std::rc::Rc;

/// A name, as an index of [`Program::names`].
pub(super) type Name = u32;

/// Names that the evaluator itself sets, at their indices.
pub(super) const LOOP: Name = 0;
pub(super) const CALLER: Name = 1;
pub(super) const VARARGS: Name = 2;
pub(super) const KWARGS: Name = 3;
pub(super) const RESERVED: [&str; 4] = ["loop", "caller", "varargs", "kwargs"];

/// A parsed template.
pub(super) struct Program {
    pub(super) names: Vec<Rc<str>>,
    /// What each name means where nothing else has been set.
    pub(super) globals: Vec<Option<Function>>,
    pub(super) body: Body,
    pub(super) macros: Vec<Macro>,
    pub(super) loops: Vec<For>,
    /// What the constants are charged to.
    pub(super) _budget: Rc<Budget>,
}

pub(super) type Body = Vec<Statement>;

pub(super) struct Statement {
    pub(super) line: usize,
    pub(super) kind: StatementKind,
}

pub(super) enum StatementKind {
    Text(String),
    Print(Expr),
    If {
        arms: Vec<(Expr, Body)>,
        otherwise: Body,
    },
    /// An index of [`Program::loops`].
    For(usize),
    Set(Target, Expr),
    SetBlock(Target, Vec<Step>, Body),
    /// Sets a name to a macro, an index of [`Program::macros`].
    Macro(Name, usize),
    /// Calls with the macro as `caller`.
    Call(Expr, usize),
    Filter(Vec<Step>, Body),
    With(Vec<(Target, Expr)>, Body),
    /// Statements with variables of their own.
    Scope(Body),
    Break,
    Continue,
}

pub(super) struct For {
    pub(super) target: Target,
    pub(super) items: Expr,
    pub(super) condition: Option<Expr>,
    pub(super) recursive: bool,
    pub(super) body: Body,
    pub(super) otherwise: Body,
}

pub(super) struct Macro {
    pub(super) name: Name,
    /// Parameters and what they are where nothing is given.
    pub(super) parameters: Vec<(Name, Option<Expr>)>,
    /// Whether the body names `varargs` and `kwargs`, and so takes more arguments.
    pub(super) takes_varargs: bool,
    pub(super) takes_kwargs: bool,
    pub(super) body: Body,
}

/// What is assigned to.
pub(super) enum Target {
    Name(Name),
    /// A member of a namespace.
    Member(Name, Value),
    Several(Vec<Target>),
}

pub(super) enum Expr {
    Const(Value),
    Name(Name),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    /// A sign before a number; true is minus.
    Sign(bool, Box<Expr>),
    /// Whether the truth is turned round: an odd number of `not`.
    Not(bool, Box<Expr>),
    /// Operators of one precedence, from the left.
    Arithmetic(Box<Expr>, Vec<(Arithmetic, Expr)>),
    Concat(Vec<Expr>),
    Compare(Box<Expr>, Vec<(Comparison, Expr)>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    /// Pairs of condition and value, and what is left.
    If(Vec<(Expr, Expr)>, Option<Box<Expr>>),
    Steps(Box<Expr>, Vec<Step>),
}

/// Something done to the value before it.
pub(super) enum Step {
    Attribute(Value),
    Item(Expr),
    Slice(Box<[Option<Expr>; 3]>),
    Call(Arguments),
    Filter(Rc<str>, Option<Filter>, Arguments),
    /// True: `is not`.
    Test(Rc<str>, Option<Predicate>, Arguments, bool),
}

#[derive(Default)]
pub(super) struct Arguments {
    pub(super) positional: Vec<Expr>,
    pub(super) named: Vec<(Rc<str>, Expr)>,
    /// After `*` and `**`.
    pub(super) more: Option<Box<Expr>>,
    pub(super) more_named: Option<Box<Expr>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Remainder,
    Power,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    NotIn,
}
