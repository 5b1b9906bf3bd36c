//! Warnings and notes on standard error.

use crate::options::Verbosity;
use log::{Level, LevelFilter, Log, Metadata, Record};

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, about: &Metadata<'_>) -> bool {
        about.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let kind = if record.level() <= Level::Warn { "warning: " } else { "" };
            crate::terminal::tell!("trill: {kind}{}", record.args());
        }
    }

    fn flush(&self) {}
}

/// From now on `log::warn!` and, with `-v`, `log::debug!` are shown. `log::info!` is what every user should
/// know unless quiet was asked for.
pub(crate) fn start(verbosity: Verbosity) {
    static SINK: Stderr = Stderr;
    log::set_max_level(match verbosity {
        Verbosity::Quiet => LevelFilter::Error,
        Verbosity::Normal => LevelFilter::Info,
        Verbosity::Verbose => LevelFilter::Debug,
    });
    // Fails only if a sink is set already, and then it is this one.
    let _ = log::set_logger(&SINK);
}
