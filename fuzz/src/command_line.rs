//! Any arguments (between zero bytes): understood, with sizes inside the limits, or refused as wrong usage with a line;
//! and the same the second time.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use trill::limits::{BATCH_MAX, CONTEXT_MAX, THREADS_MAX};
use trill_std::fuzzing::{Understood, command_line};

pub fn run(input: &[u8]) {
    let arguments = || input.split(|&b| b == 0).map(|a| OsString::from_vec(a.to_vec())).collect::<Vec<_>>();
    let understood = command_line(arguments());
    match &understood {
        Ok(Understood::Text(text)) => assert!(!text.is_empty()),
        Ok(Understood::Command(name, sizes)) => {
            assert!(!name.is_empty());
            for (size, max) in sizes.iter().zip([CONTEXT_MAX, BATCH_MAX, THREADS_MAX]) {
                assert!(size.is_none_or(|n| (1..=max).contains(&n)), "{sizes:?}");
            }
        }
        Err(refusal) => assert!(refusal.code == 64 && !refusal.line.is_empty(), "{refusal:?}"),
    }
    assert_eq!(command_line(arguments()), understood);
}
