//! A stream in upper case is what `str::to_uppercase` says, however it is cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| echoic_fuzz::body("upper")(data));
