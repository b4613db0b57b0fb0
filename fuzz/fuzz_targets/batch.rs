//! Bytes of another process are a sound batch of events, or refused.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| echoic_fuzz::body("batch")(data));
