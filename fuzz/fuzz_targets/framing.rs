//! However a stream is cut into reads, its lines are the same.
#![no_main]

use echoic_core::framing::{Framing, oracle};

libfuzzer_sys::fuzz_target!(|input: (Vec<usize>, u8, &[u8])| {
    let (places, max, data) = input;
    oracle::cuts_change_nothing(Framing::Line, max.into(), data, &places);
});
