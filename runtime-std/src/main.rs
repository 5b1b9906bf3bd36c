//! The std shell of trill.
fn main() {}
