//! What a template computes with: Python's values, as far as chat templates see them.
//!
//! Values are trees behind `Rc` and never change. Only namespaces, loops, cyclers and joiners do, and none of those can
//! be put into one: so nothing can hold itself, and with the depth of lists and dictionaries bounded where they are
//! made, nothing that walks a value can run out of stack.

use super::budget::{Budget, Charge, Error, Result, STEP, fail};
use super::globals::Function;
use super::methods::Method;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Lists and dictionaries inside each other.
const DEPTH_MAX: u16 = 100;

#[derive(Clone)]
pub(crate) enum Value {
    Undefined,
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Rc<Text>),
    /// What `encode` makes: the bytes of a text.
    Bytes(Rc<Text>),
    Seq(Rc<Seq>),
    Dict(Rc<Dict>),
    Namespace(Rc<Namespace>),
    Loop(Rc<Loop>),
    Cycler(Rc<Cycler>),
    Joiner(Rc<Joiner>),
    Macro(MacroRef),
    Function(Function),
    Method(Rc<(Value, Method)>),
}

pub(crate) struct Text {
    text: String,
    ascii: bool,
    /// What the filter `safe` says, which Python's `Markup` remembers.
    pub(super) safe: bool,
    charge: Charge,
}

/// The kinds of Python's sequences and iterators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    List,
    Tuple,
    /// What `items()` and the like give, under its name: it has a length, but no items by index.
    View(&'static str),
    Range,
    /// Has no length either.
    Iterator,
}

pub(crate) struct Seq {
    pub(super) kind: Kind,
    items: Vec<Value>,
    depth: u16,
    changes: bool,
    _charge: Charge,
}

/// In order of insertion.
pub(crate) struct Dict {
    entries: Vec<(Value, Value)>,
    depth: u16,
    changes: bool,
    _charge: Charge,
}

pub(crate) struct Namespace(RefCell<Vec<(Value, Value)>>, RefCell<Charge>);

/// What a loop calls `loop`.
pub(crate) struct Loop {
    /// An index of the program's loops.
    pub(super) node: usize,
    pub(super) items: Rc<Seq>,
    pub(super) index: Cell<usize>,
    pub(super) depth: usize,
    pub(super) changed: RefCell<Option<Value>>,
}

pub(crate) struct Cycler {
    pub(super) items: Rc<Seq>,
    pub(super) at: Cell<usize>,
}

pub(crate) struct Joiner {
    pub(super) separator: Value,
    pub(super) used: Cell<bool>,
}

/// A macro holds no values, only where its variables are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct MacroRef {
    /// An index of the program's macros.
    pub(super) index: u32,
    /// The scope it was defined in: where it is on the stack, and which one it was.
    pub(super) scope: u32,
    pub(super) serial: u32,
}

impl Text {
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    pub(super) fn is_ascii(&self) -> bool {
        self.ascii
    }

    fn budget(&self) -> &Rc<Budget> {
        self.charge.budget()
    }

    /// Scalars in it.
    pub(super) fn chars(&self) -> Result<usize> {
        if self.ascii {
            return Ok(self.text.len());
        }
        self.budget().work(self.text.len())?;
        Ok(self.text.chars().count())
    }

    /// The byte at which scalar `n` starts, or the end.
    pub(super) fn offset(&self, n: usize) -> Result<usize> {
        if self.ascii {
            return Ok(n.min(self.text.len()));
        }
        self.budget().work(self.text.len())?;
        Ok(self.text.char_indices().nth(n).map_or(self.text.len(), |(at, _)| at))
    }
}

impl Seq {
    pub(super) fn items(&self) -> &[Value] {
        &self.items
    }
}

impl Dict {
    pub(super) fn entries(&self) -> &[(Value, Value)] {
        &self.entries
    }

    pub(super) fn get(&self, key: &Value, budget: &Budget) -> Result<Option<&Value>> {
        find(&self.entries, key, budget)
    }
}

fn find<'e>(entries: &'e [(Value, Value)], key: &Value, budget: &Budget) -> Result<Option<&'e Value>> {
    for (k, value) in entries {
        if k.equals(key, budget)? {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

impl Namespace {
    pub(super) fn new(budget: &Rc<Budget>) -> Result<Rc<Namespace>> {
        let mut charge = budget.charge();
        charge.resize(0)?;
        Ok(Rc::new(Namespace(RefCell::new(Vec::new()), RefCell::new(charge))))
    }

    pub(super) fn get(&self, name: &Value, budget: &Budget) -> Result<Option<Value>> {
        Ok(find(&self.0.borrow(), name, budget)?.cloned())
    }

    pub(super) fn set(&self, name: Value, value: Value, budget: &Budget) -> Result<()> {
        if value.changes() {
            return fail("a namespace cannot hold a namespace, a loop, a cycler or a joiner");
        }
        let mut entries = self.0.borrow_mut();
        for (key, place) in entries.iter_mut() {
            if key.equals(&name, budget)? {
                *place = value;
                return Ok(());
            }
        }
        self.1.borrow_mut().resize((entries.len() + 1) * 2 * size_of::<(Value, Value)>())?;
        entries.push((name, value));
        Ok(())
    }

    pub(super) fn entries(&self) -> Vec<(Value, Value)> {
        self.0.borrow().clone()
    }
}

impl Value {
    /// A copy of `text`.
    pub(crate) fn text(budget: &Rc<Budget>, text: &str) -> Result<Value> {
        let mut out = Writer::new(budget);
        out.push_str(text)?;
        Ok(out.finish())
    }

    pub(crate) fn tuple(budget: &Rc<Budget>, items: impl IntoIterator<Item = Value>) -> Result<Value> {
        Items::collect(budget, items)?.finish(Kind::Tuple)
    }

    pub(crate) fn list(budget: &Rc<Budget>, items: impl IntoIterator<Item = Value>) -> Result<Value> {
        Items::collect(budget, items)?.finish(Kind::List)
    }

    pub(super) fn str(&self) -> Option<&str> {
        match self {
            Value::Str(text) => Some(text.as_str()),
            _ => None,
        }
    }

    /// How deep lists and dictionaries go in it.
    fn depth(&self) -> u16 {
        match self {
            Value::Seq(seq) => seq.depth,
            Value::Dict(dict) => dict.depth,
            Value::Loop(l) => 1 + l.items.depth,
            Value::Cycler(cycler) => 1 + cycler.items.depth,
            Value::Joiner(joiner) => 1 + joiner.separator.depth(),
            Value::Method(method) => 1 + method.0.depth(),
            Value::Namespace(_) => 1,
            _ => 0,
        }
    }

    /// Whether something in it can change.
    pub(super) fn changes(&self) -> bool {
        match self {
            Value::Seq(seq) => seq.changes,
            Value::Dict(dict) => dict.changes,
            Value::Method(method) => method.0.changes(),
            Value::Namespace(_) | Value::Loop(_) | Value::Cycler(_) | Value::Joiner(_) => true,
            _ => false,
        }
    }

    /// The depth of a value that holds this one.
    pub(super) fn depth_around(&self) -> Result<u16> {
        match self.depth() {
            DEPTH_MAX.. => Err(Error::exhausted("its values nest too deeply")),
            depth => Ok(depth + 1),
        }
    }

    pub(super) fn is_true(&self) -> bool {
        match self {
            Value::Undefined | Value::None => false,
            Value::Bool(b) => *b,
            Value::Int(n) => *n != 0,
            Value::Float(x) => *x != 0.0,
            Value::Str(text) | Value::Bytes(text) => !text.text.is_empty(),
            Value::Seq(seq) => seq.kind == Kind::Iterator || !seq.items.is_empty(),
            Value::Dict(dict) => !dict.entries.is_empty(),
            _ => true,
        }
    }

    /// What Python calls its type.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Value::Undefined => "an undefined value",
            Value::None => "none",
            Value::Bool(_) => "a bool",
            Value::Int(_) => "an int",
            Value::Float(_) => "a float",
            Value::Str(_) => "a string",
            Value::Bytes(_) => "bytes",
            Value::Seq(seq) => match seq.kind {
                Kind::List => "a list",
                Kind::Tuple => "a tuple",
                Kind::View(_) => "a view of a dict",
                Kind::Range => "a range",
                Kind::Iterator => "an iterator",
            },
            Value::Dict(_) => "a dict",
            Value::Namespace(_) => "a namespace",
            Value::Loop(_) => "a loop",
            Value::Cycler(_) => "a cycler",
            Value::Joiner(_) => "a joiner",
            Value::Macro(_) => "a macro",
            Value::Function(_) | Value::Method(_) => "a function",
        }
    }

    /// An integer, true and false among them.
    pub(super) fn integer(&self) -> Option<i64> {
        match self {
            Value::Int(n) => Some(*n),
            Value::Bool(b) => Some(i64::from(*b)),
            _ => None,
        }
    }

    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Value::Float(x) => Some(*x),
            _ => self.integer().map(|n| n as f64),
        }
    }

    /// What a loop over it sees.
    pub(super) fn iterated(&self, budget: &Rc<Budget>) -> Result<Rc<Seq>> {
        let mut items = Items::new(budget);
        match self {
            Value::Seq(seq) => return Ok(seq.clone()),
            Value::Undefined => {}
            Value::Dict(dict) => items.extend(dict.entries.iter().map(|(key, _)| key.clone()))?,
            Value::Str(text) => {
                for c in text.text.chars() {
                    items.push(Value::text(budget, c.encode_utf8(&mut [0; 4]))?)?;
                }
            }
            Value::Bytes(text) => items.extend(text.text.bytes().map(|b| Value::Int(b.into())))?,
            Value::Loop(l) => items.extend(l.items.items.iter().skip(l.index.get() + 1).cloned())?,
            other => return fail(format!("{} cannot be iterated over", other.type_name())),
        }
        items.seq(Kind::List)
    }

    /// The number of its items.
    pub(super) fn length(&self) -> Result<usize> {
        match self {
            Value::Undefined => Ok(0),
            Value::Str(text) => text.chars(),
            Value::Bytes(text) => Ok(text.text.len()),
            Value::Seq(seq) if seq.kind != Kind::Iterator => Ok(seq.items.len()),
            Value::Dict(dict) => Ok(dict.entries.len()),
            Value::Loop(l) => Ok(l.items.items.len()),
            other => fail(format!("{} has no length", other.type_name())),
        }
    }
}

/// A list in the making.
pub(super) struct Items {
    items: Vec<Value>,
    depth: u16,
    changes: bool,
    charge: Charge,
}

impl Items {
    pub(super) fn new(budget: &Rc<Budget>) -> Items {
        Items { items: Vec::new(), depth: 1, changes: false, charge: budget.charge() }
    }

    pub(super) fn collect(budget: &Rc<Budget>, items: impl IntoIterator<Item = Value>) -> Result<Items> {
        let mut new = Items::new(budget);
        new.extend(items)?;
        Ok(new)
    }

    pub(super) fn extend(&mut self, items: impl IntoIterator<Item = Value>) -> Result<()> {
        items.into_iter().try_for_each(|item| self.push(item))
    }

    pub(super) fn push(&mut self, item: Value) -> Result<()> {
        // A value is two words and is counted when it goes.
        self.charge.budget().work(STEP / 4)?;
        self.depth = self.depth.max(item.depth_around()?);
        self.changes |= item.changes();
        if self.items.len() == self.items.capacity() {
            let capacity = (self.items.capacity() * 2).max(4);
            self.charge.resize(capacity * size_of::<Value>())?;
            self.items.reserve_exact(capacity - self.items.len());
        }
        self.items.push(item);
        Ok(())
    }

    pub(super) fn seq(mut self, kind: Kind) -> Result<Rc<Seq>> {
        self.charge.resize(self.items.capacity() * size_of::<Value>())?;
        let Items { items, depth, changes, charge } = self;
        Ok(Rc::new(Seq { kind, items, depth, changes, _charge: charge }))
    }

    pub(super) fn finish(self, kind: Kind) -> Result<Value> {
        Ok(Value::Seq(self.seq(kind)?))
    }
}

/// A dictionary in the making.
pub(crate) struct Entries {
    entries: Vec<(Value, Value)>,
    depth: u16,
    changes: bool,
    charge: Charge,
}

impl Entries {
    pub(crate) fn new(budget: &Rc<Budget>) -> Entries {
        Entries { entries: Vec::new(), depth: 1, changes: false, charge: budget.charge() }
    }

    /// Sets `key` to `value`.
    pub(crate) fn set(&mut self, key: Value, value: Value) -> Result<()> {
        let budget = self.charge.budget().clone();
        key.check_hashable()?;
        self.depth = self.depth.max(key.depth_around()?).max(value.depth_around()?);
        self.changes |= value.changes() | key.changes();
        for (k, place) in &mut self.entries {
            if k.equals(&key, &budget)? {
                *place = value;
                return Ok(());
            }
        }
        if self.entries.len() == self.entries.capacity() {
            let capacity = (self.entries.capacity() * 2).max(4);
            self.charge.resize(capacity * size_of::<(Value, Value)>())?;
            self.entries.reserve_exact(capacity - self.entries.len());
        }
        self.entries.push((key, value));
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<Value> {
        self.charge.resize(self.entries.capacity() * size_of::<(Value, Value)>())?;
        let Entries { entries, depth, changes, charge } = self;
        Ok(Value::Dict(Rc::new(Dict { entries, depth, changes, _charge: charge })))
    }
}

/// Text in the making: everything that makes text writes it here.
pub(super) struct Writer {
    text: String,
    charge: Charge,
}

impl Writer {
    pub(super) fn new(budget: &Rc<Budget>) -> Writer {
        Writer { text: String::new(), charge: budget.charge() }
    }

    pub(super) fn budget(&self) -> &Rc<Budget> {
        self.charge.budget()
    }

    pub(super) fn push_str(&mut self, text: &str) -> Result<()> {
        self.charge.budget().work(text.len() + 1)?;
        self.reserve(text.len())?;
        self.text.push_str(text);
        Ok(())
    }

    pub(super) fn push(&mut self, c: char) -> Result<()> {
        self.push_str(c.encode_utf8(&mut [0; 4]))
    }

    pub(super) fn repeat(&mut self, text: &str, n: usize) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        self.reserve(text.len().saturating_mul(n))?;
        (0..n).try_for_each(|_| self.push_str(text))
    }

    /// Makes room for so many bytes more.
    fn reserve(&mut self, more: usize) -> Result<()> {
        let len = self.text.len().saturating_add(more);
        if len > self.text.capacity() {
            let capacity = if self.text.is_empty() { len } else { len.max(self.text.capacity().saturating_mul(2)) };
            self.charge.resize(capacity)?;
            self.text.reserve_exact(capacity - self.text.len());
        }
        Ok(())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    pub(super) fn into_string(self) -> String {
        self.text
    }

    /// The text and what holds its bytes.
    fn into_text(self) -> Rc<Text> {
        let Writer { text, charge } = self;
        Rc::new(Text { ascii: text.is_ascii(), safe: false, text, charge })
    }

    pub(super) fn finish(mut self) -> Value {
        // Even an empty text is an object; if that much is not left, the next one says so.
        if self.text.is_empty() {
            let _ = self.charge.resize(0);
        }
        Value::Str(self.into_text())
    }

    pub(super) fn finish_bytes(self) -> Value {
        Value::Bytes(self.into_text())
    }

    pub(super) fn finish_safe(self) -> Value {
        let Writer { text, charge } = self;
        Value::Str(Rc::new(Text { ascii: text.is_ascii(), safe: true, text, charge }))
    }
}
