//! Datagrams that go round in a circle are noticed exactly when a list would notice them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| echoic_fuzz::body("breaker")(data));
