//! Lower case is what std says: of a message as a whole, of a stream character by character, however it is cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| echoic_fuzz::body("lower")(data));
