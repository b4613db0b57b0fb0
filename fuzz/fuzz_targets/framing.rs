//! However a stream is cut into reads, its messages are the same; and what is framed comes out as it went in.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| echoic_fuzz::body("framing")(data));
