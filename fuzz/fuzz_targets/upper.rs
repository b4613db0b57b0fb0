//! The service `upper` agrees with `str::to_uppercase`, however the stream is cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| echoic_fuzz::body("upper")(data));
