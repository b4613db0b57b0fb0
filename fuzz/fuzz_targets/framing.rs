//! The messages of a stream do not depend on how it is cut into reads, and splitting reverses framing.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| echoic_fuzz::body("framing")(data));
