//! A session file, its checksums mended where the first byte is odd, so that what lies behind them is reached: it is
//! refused, or every token is in range, every row can be read, and it can be written on.

use trill_std::fuzzing::{mend_session_file, session_file};

pub fn run(input: &[u8]) {
    let Some((mend, file)) = input.split_first() else { return };
    let mut file = file.to_vec();
    if mend % 2 == 1 {
        mend_session_file(&mut file);
    }
    let found = session_file(&file);
    assert_eq!(session_file(&file), found);
    if let Err(line) = found {
        assert!(!line.is_empty());
    }
}
