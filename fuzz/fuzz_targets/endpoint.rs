//! Any text is an endpoint that prints as itself, or an error of one line.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| echoic_fuzz::check_endpoint(text));
