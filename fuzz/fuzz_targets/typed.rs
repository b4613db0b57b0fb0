//! Any text is an endpoint, a framing, a size, a network, ... that prints and parses back, or an error of one line.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| echoic_fuzz::body("typed")(data));
