//! `trill`, the program: the library beside it does everything.

use std::process::ExitCode;

fn main() -> ExitCode {
    trill_std::main()
}
