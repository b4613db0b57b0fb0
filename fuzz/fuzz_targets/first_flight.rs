//! Any first bytes of a client: a TLS server refuses them with a reason, and the same however they are cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| echoic_fuzz::body("first_flight")(data));
