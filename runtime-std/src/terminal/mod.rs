//! The terminal, and all that is printed: standard output in `screen`, standard error in `message`, nothing anywhere else
//! (`tests/printing.rs`). Text of strangers cannot drive a terminal (`safe`); a line editor.

mod class;
mod editor;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod keys;
mod line;
mod message;
mod raw;
mod safe;
mod screen;
mod width;

pub(crate) use editor::{Reader, Typed};
pub(crate) use message::{Control, Drawing, show, tell, tell_json, tell_line};
pub(crate) use raw::{Mode, restore};
#[cfg(feature = "fuzzing")]
pub(crate) use safe::neutralise;
pub(crate) use safe::neutralise_line;
pub(crate) use screen::Screen;
