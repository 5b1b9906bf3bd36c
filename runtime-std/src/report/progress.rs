//! How far a long task has come: on standard error, once it takes over a second.

use crate::host::clock::Stopwatch;
use crate::host::is_terminal;
use crate::options::Verbosity;
use crate::terminal::{self, Control, Drawing};

/// Seconds before anything is shown, and between two lines.
const INTERVAL: f64 = 1.0;
/// Seconds between two updates of the same line on a terminal.
const REDRAW: f64 = 0.1;

#[derive(Clone, Copy, PartialEq)]
enum Style {
    Silent,
    /// One line, drawn again and again.
    Redraw,
    /// A line now and then.
    Lines,
}

/// Progress of one task of `total` steps.
pub(crate) struct Progress {
    what: &'static str,
    unit: &'static str,
    total: usize,
    clock: Stopwatch,
    shown_at: f64,
    style: Style,
    drawn: bool,
}

impl Progress {
    pub(crate) fn new(what: &'static str, unit: &'static str, total: usize, verbosity: Verbosity) -> Self {
        let style = match verbosity {
            Verbosity::Quiet => Style::Silent,
            _ if is_terminal(2) => Style::Redraw,
            Verbosity::Normal => Style::Silent,
            Verbosity::Verbose => Style::Lines,
        };
        Progress { what, unit, total, clock: Stopwatch::start(), shown_at: 0.0, style, drawn: false }
    }

    /// `done` steps are done.
    pub(crate) fn update(&mut self, done: usize) {
        let now = self.clock.seconds();
        let wait = if self.drawn && self.style == Style::Redraw { REDRAW } else { INTERVAL };
        if self.style == Style::Silent || now - self.shown_at < wait || done == 0 || done >= self.total {
            return;
        }
        (self.shown_at, self.drawn) = (now, true);
        let (what, unit, total) = (self.what, self.unit, self.total);
        let percent = done as u128 * 100 / total as u128;
        let left = now / done as f64 * (total - done) as f64;
        match self.style {
            Style::Redraw => {
                let line = format_args!("{what}: {done} of {total} {unit}, {percent} %, {} left", Span(left));
                Drawing::new().control(Control::Return).text(line).control(Control::ClearRow);
            }
            _ => terminal::tell!("trill: {what}: {done} of {total} {unit}, {percent} %, {} left", Span(left)),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn && self.style == Style::Redraw {
            Drawing::new().control(Control::Return).control(Control::ClearRow);
        }
    }
}

/// Seconds for people. Shown while a model runs: nothing is allocated for it.
struct Span(f64);

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let whole = self.0.ceil() as u64;
        match whole {
            0..60 => write!(f, "{whole} s"),
            60..3600 => write!(f, "{} min {} s", whole / 60, whole % 60),
            _ => write!(f, "{} h {} min", whole / 3600, whole % 3600 / 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        let texts = [0.2, 61.0, 7260.0].map(|seconds| Span(seconds).to_string());
        assert_eq!(texts, ["1 s", "1 min 1 s", "2 h 1 min"]);
    }
}
