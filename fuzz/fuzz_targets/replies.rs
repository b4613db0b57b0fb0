//! What a peer says is shown once and whole, however it is cut, and no more of it are replies than were asked for.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| echoic_fuzz::body("replies")(data));
