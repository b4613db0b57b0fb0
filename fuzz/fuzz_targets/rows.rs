//! Whatever is in the rows of a file, reading it gives exchanges or an error, and an end.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| echoic_fuzz::body("rows")(data));
