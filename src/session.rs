//! The only door for shells.
