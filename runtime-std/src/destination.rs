//! Where a command's output goes: never over its input, and over another file only if the user says so.

use crate::exit::{Code, Failure, Outcome};
use crate::host::files::{Identity, Target};
use crate::host::is_terminal;
use crate::options::Options;
use crate::terminal;
use std::path::Path;
use std::sync::Arc;

/// An output that may be written.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    pub(crate) target: Arc<Target>,
    /// Whether a file that has the name may be replaced.
    pub(crate) replace: bool,
}

impl Destination {
    /// Looks `output` up. It must be no file of `inputs`, and if there is a file, `--force` or an answer at the terminal
    /// must say that it may be replaced.
    pub(crate) fn find(options: &Options, output: &Path, inputs: &[Identity]) -> Outcome<Destination> {
        let target = Target::find(output).map_err(|refused| refused.creating(output))?;
        let Some(there) = target.identity() else {
            return Ok(Destination { target: Arc::new(target), replace: options.force });
        };
        if inputs.contains(&there) {
            return Err(Failure::usage("IN and OUT are the same file").remedy("give OUT another name"));
        }
        if options.force || agreed(options, output)? {
            return Ok(Destination { target: Arc::new(target), replace: true });
        }
        Err(exists(output))
    }
}

/// The failure where OUT is there already.
pub(crate) fn exists(output: &Path) -> Failure {
    Failure::new(Code::CannotCreate, "is there already")
        .remedy("add --force to overwrite it, or give OUT another name")
        .about(output)
}

/// Asks whether the file may be overwritten, if somebody sits at the terminal.
fn agreed(options: &Options, output: &Path) -> Outcome<bool> {
    if options.json || !(is_terminal(0) && is_terminal(2)) {
        return Ok(false);
    }
    let name = output.display().to_string().replace(['\n', '\r'], " ");
    terminal::show(&format!("{name} is there already; overwrite it? [y/N] "));
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    read.map_err(|e| Failure::new(Code::Io, format!("standard input: {}", crate::exit::reason(&e))))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
