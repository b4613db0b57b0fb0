//! Reading the rows of a store file, whatever they contain, returns exchanges or an error, and terminates.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| echoic_fuzz::body("rows")(data));
