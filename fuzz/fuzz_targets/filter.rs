//! Any text is a filter that prints as itself, or an error that says where; and its bounds lose nothing.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| echoic_fuzz::body("filter")(data));
