//! The terminal: a line editor, and text that cannot drive it.

mod editor;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod keys;
mod line;
mod raw;
mod safe;
mod screen;
mod width;

pub(crate) use editor::{Reader, Typed};
pub(crate) use raw::{Mode, restore};
pub(crate) use safe::neutralise;
pub(crate) use screen::Screen;
