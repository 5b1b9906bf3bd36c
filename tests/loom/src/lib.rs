//! The rooms of the core that the team is made of, with loom's atomics in place of core's (`src/parallel/sync.rs`).
#![cfg(loom)]
#![allow(dead_code, unused_imports)] // most of `mem` is for others

#[path = "../../../src/limits.rs"]
mod limits;
#[path = "../../../src/mem/mod.rs"]
mod mem;
#[cfg(test)]
mod models;
#[path = "../../../src/parallel/mod.rs"]
mod parallel;
