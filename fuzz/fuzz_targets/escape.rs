//! Escaping removes all control characters, and unescaping returns the bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| echoic_fuzz::body("escape")(data));
