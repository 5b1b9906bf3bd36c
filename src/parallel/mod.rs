//! A team of threads. The shell lends threads through [`Executor`]; one [`with_team`] covers a whole
//! forward pass. Inside it the leader walks the model as plain sequential code and hands out loops;
//! the other threads wait for them. A loop is a row of jobs claimed a run at a time, so a slow core simply
//! claims fewer, and a thread that the system has not scheduled is not waited for: the leader only waits
//! for jobs that were claimed. That is what keeps an oversubscribed machine from collapsing.
//!
//! Results never depend on which thread ran a job.
//!
//! - `team.rs`: the protocol. Every job is claimed once, by whomever; every thread that helps is given a number of
//!   its own. So an executor may be written without `unsafe` and by anybody: a wrong one makes the team slow, stops it
//!   for ever or ends it with a panic, and never lends one place of memory to two threads.
//! - `tiles.rs`: matrices split among the jobs of a loop.
//! - `sync.rs`: core's atomics, or those of the model checker.
//!
//! Room rules: unsafe code only lends the leader's closure to the team and splits matrices into tiles.
#![allow(unsafe_code)]

mod sync;
mod team;
mod tiles;

pub use team::{Team, with_team};
pub use tiles::{Place, Rows4, Tiling};

/// Threads, as the shell lends them.
///
/// Memory safety does not rest on any of this being kept: see the room's head.
pub trait Executor: Sync {
    /// How many threads `run` uses, the caller's included. A team has at least 1 and at most
    /// [`crate::limits::THREADS_MAX`]; it asks once.
    fn threads(&self) -> usize;
    /// Calls `leader` on the calling thread, and beside it `helper` on each other thread, once. Returns when all
    /// calls have returned; `helper` does so soon after `leader`. It need not be called where a thread is not ready
    /// before `leader` returns, and must not be called on the calling thread before that: it would wait for ever.
    fn run(&self, leader: &mut dyn FnMut(), helper: &(dyn Fn() + Sync));
    /// Called in waiting loops with the number of rounds waited: spin first, yield later.
    fn relax(&self, spins: u32) {
        let _ = spins;
        sync::spin_loop();
    }
}

/// The caller's thread alone.
pub struct Serial;

impl Executor for Serial {
    fn threads(&self) -> usize {
        1
    }
    fn run(&self, leader: &mut dyn FnMut(), _: &(dyn Fn() + Sync)) {
        leader();
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
