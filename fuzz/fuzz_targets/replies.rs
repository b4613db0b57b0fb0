//! The client prints every byte received exactly once, and counts at most one reply per request.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| echoic_fuzz::body("replies")(data));
