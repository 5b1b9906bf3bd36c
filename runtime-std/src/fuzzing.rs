//! The rooms of the shell that bytes from outside reach, for the targets in `fuzz/`: one function each. Nothing here is
//! part of a release; what a function promises is asserted by its target.

use crate::exit::{Failure, Outcome};
use crate::template::{Message, Role, Template};
use crate::{cli, session, terminal};
use std::ffi::OsString;
use std::path::Path;
use trill::kernels::{CANDIDATES, Kernels, select};

/// Why a room refused its input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The exit code.
    pub code: u8,
    /// The line for people.
    pub line: String,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Refusal { code: failure.code as u8, line: failure.message }
    }
}

/// Every kernel level of this CPU, the scalar one last.
pub fn kernels() -> Vec<Kernels> {
    let features = crate::host::cpu::features();
    CANDIDATES.iter().filter_map(|c| select(&features, Some(c.name())).ok()).collect()
}

/// Seconds that this process has run for.
pub fn cpu_seconds() -> f64 {
    crate::host::clock::cpu_seconds()
}

/// Renders a template with messages by `system`, `user` and `assistant` in turn. A message that holds `<|` counts as
/// one that spells a special token. Returns the text in pieces, with whether each is the template's own.
///
/// # Errors
/// What the program would say of the template.
pub fn template(source: &str, messages: &[&str]) -> Result<Vec<(bool, String)>, Refusal> {
    let roles = [Role::System, Role::User, Role::Assistant].into_iter().cycle();
    let messages: Vec<Message> =
        messages.iter().zip(roles).map(|(content, role)| Message { role, content: (*content).to_owned() }).collect();
    let template = Template::new(source, "<s>", "</s>")?;
    let rendered = template.render(&messages, true, &|text| text.contains("<|")).map_err(Failure::from)?;
    let parts = rendered.parts().into_iter().map(|part| match part {
        crate::template::Part::Template(text) => (true, text.to_owned()),
        crate::template::Part::Quoted(text) => (false, text.to_owned()),
    });
    Ok(parts.collect())
}

/// A command line that was understood.
#[derive(Clone, Debug, PartialEq)]
pub enum Understood {
    /// Text to print.
    Text(String),
    /// A command with the sizes asked for: context, batch, threads.
    Command(&'static str, [Option<usize>; 3]),
}

/// Reads the arguments of the program.
///
/// # Errors
/// What the program would say of them.
pub fn command_line(arguments: Vec<OsString>) -> Result<Understood, Refusal> {
    Ok(match cli::parse(arguments)? {
        cli::Request::Print(text) => Understood::Text(text),
        cli::Request::Run(command, options) => {
            Understood::Command(command.name, [options.context, options.batch, options.threads])
        }
    })
}

/// What a terminal is shown of `text`.
pub fn neutralise(text: &str) -> String {
    terminal::neutralise(text)
}

/// See the terminal's own function: types `bytes`, and calls `drawn` after each key with the text before the cursor, the
/// text after it, and what the terminal is sent.
pub fn keys(bytes: &[u8], prompt: &str, width: usize, drawn: &mut dyn FnMut(&str, &str, &str)) {
    terminal::fuzzing::keys(bytes, prompt, width, drawn);
}

/// A sound session file, for seeds: records of a conversation of several turns.
pub fn session_file_example(turns: usize) -> Vec<u8> {
    session::fuzzing::example(turns)
}

/// Puts right every checksum, link and length of a session file, so that its fields are looked at.
pub fn mend_session_file(bytes: &mut Vec<u8>) {
    session::fuzzing::mend(bytes);
}

/// Reads a session file, and goes on writing it. Returns how many tokens and records it held.
///
/// # Errors
/// What the program would say of it.
pub fn session_file(bytes: &[u8]) -> Result<(usize, u32), String> {
    session::fuzzing::read(bytes)
}

/// Makes a GGUF file at `to` of a Hugging Face folder, as `trill convert` does.
///
/// # Errors
/// What the program would say of the folder.
pub fn hf_folder(folder: &Path, to: &Path) -> Result<(), Refusal> {
    let convert = || -> Outcome {
        let arguments = ["convert".into(), folder.into(), to.into(), "-q".into(), "-t".into(), "1".into()];
        match cli::parse(arguments.to_vec())? {
            cli::Request::Run(command, options) => (command.run)(&options),
            cli::Request::Print(_) => Ok(()),
        }
    };
    Ok(convert()?)
}
