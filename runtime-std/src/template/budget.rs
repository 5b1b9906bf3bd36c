//! What one template may use. Parsing and rendering charge everything they do to one [`Budget`] before they do it, so
//! a template ends in an error where another would fill the memory or run for hours.

use std::borrow::Cow;
use std::cell::Cell;
use std::rc::Rc;

/// Why a template ends early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Error {
    /// The budget is used up: another conversation will not help.
    pub(crate) exhausted: bool,
    undefined: bool,
    message: Cow<'static, str>,
    /// Line of the template, counted from 1; 0 if not known.
    line: usize,
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// Bytes of a message that are kept: templates write messages too.
const MESSAGE_MAX: usize = 400;

impl Error {
    pub(super) fn new(message: impl Into<Cow<'static, str>>) -> Error {
        let mut message = message.into();
        if message.len() > MESSAGE_MAX {
            let end = message.floor_char_boundary(MESSAGE_MAX);
            message = format!("{}...", message.get(..end).unwrap_or_default()).into();
        }
        Error { exhausted: false, undefined: false, message, line: 0 }
    }

    pub(super) fn exhausted(what: &'static str) -> Error {
        Error { exhausted: true, undefined: false, message: what.into(), line: 0 }
    }

    /// Something undefined is used.
    pub(super) fn undefined(name: &str) -> Error {
        let name: String = name.chars().take(60).collect();
        Error { undefined: true, ..Error::new(format!("an undefined value has no {name:?}")) }
    }

    pub(super) fn is_of_undefined(&self) -> bool {
        self.undefined
    }

    /// Says where it happened, unless that is known.
    #[must_use]
    pub(super) fn at(mut self, line: usize) -> Error {
        if self.line == 0 {
            self.line = line;
        }
        self
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        if self.line > 0 {
            write!(f, " (line {})", self.line)?;
        }
        Ok(())
    }
}

/// A template has an error of its own.
pub(super) fn fail<T>(message: impl Into<Cow<'static, str>>) -> Result<T> {
    Err(Error::new(message))
}

/// Work of one step of the evaluator, where one is that of a byte copied or compared.
pub(super) const STEP: usize = 40;
/// Work of writing a float with a wanted number of digits.
pub(super) const DECIMALS: usize = 2000;
/// Calls of the evaluator inside each other: they fit into 1 MiB of stack in a debug build (`tests.rs` tries it).
const DEPTH_MAX: usize = 400;
/// Bytes of a value on the heap beside what it holds: counts, lengths, the allocator's own.
const OBJECT: usize = 96;

/// What is left.
pub(crate) struct Budget {
    work: Cell<usize>,
    /// Bytes that more values may have.
    memory: Cell<usize>,
    /// Bytes that may still be written.
    output: Cell<usize>,
    depth: Cell<usize>,
}

impl Budget {
    /// For a rendering whose conversation has so many bytes in so many messages. Published templates need less than
    /// 1 % of the fixed part for ten messages.
    pub(super) fn for_rendering(bytes: usize, messages: usize) -> Rc<Budget> {
        let given = bytes.saturating_add(messages.saturating_mul(1 << 10));
        Rc::new(Budget {
            work: Cell::new(given.saturating_mul(64).saturating_add(24_000_000)),
            memory: Cell::new(given.saturating_mul(16).saturating_add(2 << 20)),
            output: Cell::new(given.saturating_mul(8).saturating_add(1 << 20)),
            depth: Cell::new(0),
        })
    }

    /// Charges so much work.
    pub(super) fn work(&self, amount: usize) -> Result<()> {
        match self.work.get().checked_sub(amount) {
            Some(left) => self.work.set(left),
            None => return Err(Error::exhausted("it runs too long")),
        }
        Ok(())
    }

    /// Charges bytes of the rendering.
    pub(super) fn output(&self, bytes: usize) -> Result<()> {
        match self.output.get().checked_sub(bytes) {
            Some(left) => self.output.set(left),
            None => return Err(Error::exhausted("it writes too much")),
        }
        Ok(())
    }

    /// Holds no bytes yet, for something new on the heap.
    pub(super) fn charge(self: &Rc<Self>) -> Charge {
        Charge { budget: self.clone(), bytes: 0 }
    }

    /// Goes one call deeper; [`Budget::leave`] comes back.
    pub(super) fn enter(&self) -> Result<()> {
        self.work(STEP)?;
        if self.depth.get() >= DEPTH_MAX {
            return Err(Error::exhausted("it nests too deeply"));
        }
        self.depth.set(self.depth.get() + 1);
        Ok(())
    }

    pub(super) fn leave(&self) {
        self.depth.set(self.depth.get().saturating_sub(1));
    }
}

/// Bytes held by one value, given back when it is dropped.
pub(crate) struct Charge {
    budget: Rc<Budget>,
    bytes: usize,
}

impl Charge {
    /// Holds `bytes` in all.
    pub(super) fn resize(&mut self, bytes: usize) -> Result<()> {
        // The allocator has work too.
        self.budget.work(STEP / 2)?;
        let bytes = bytes.saturating_add(OBJECT);
        let memory = self.budget.memory.get().saturating_add(self.bytes);
        match memory.checked_sub(bytes) {
            Some(left) => self.budget.memory.set(left),
            None => return Err(Error::exhausted("it needs too much memory")),
        }
        self.bytes = bytes;
        Ok(())
    }

    pub(super) fn budget(&self) -> &Rc<Budget> {
        &self.budget
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.memory.set(self.budget.memory.get().saturating_add(self.bytes));
    }
}
