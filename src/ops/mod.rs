//! The layers' operations over a team: safe code that cuts work into tiles and calls kernels.

mod linear;
mod rows;
mod screen;
mod skip;

pub(crate) use linear::{ActBuffer, linear, multiply};
pub(crate) use rows::for_rows;
pub(crate) use screen::{HeadParts, ScreenBuffer, Workers, screen};
pub(crate) use skip::{Chosen, chosen_rows, has_columns_apart, has_rows_apart, nonzero_columns};
