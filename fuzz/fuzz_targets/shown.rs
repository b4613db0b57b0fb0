//! Nothing a peer sends reaches a terminal unescaped, and what is shown leads back to the bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| echoic_fuzz::body("shown")(data));
