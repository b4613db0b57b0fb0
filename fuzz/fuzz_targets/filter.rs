//! Any text is a filter that prints and parses back, or an error with a position; its bounds lose no match.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| echoic_fuzz::body("filter")(data));
