//! The service `lower` agrees with `str::to_lowercase` for a message, and character by character for a stream.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| echoic_fuzz::body("lower")(data));
