//! The breaker of datagram loops detects the same loops as a plain list of datagrams.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| echoic_fuzz::body("breaker")(data));
