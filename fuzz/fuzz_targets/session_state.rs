#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| trill_fuzz::session_state::run(input));
