//! The layers' operations over a team: safe code that cuts work into tiles and calls kernels.

mod linear;
mod rows;
mod screen;

pub(crate) use linear::{ActBuffer, linear};
pub(crate) use rows::for_rows;
pub(crate) use screen::{HeadParts, ScreenBuffer, Workers, screen};
