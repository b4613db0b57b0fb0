//! However a stream is cut into reads, its messages are the same; and what is framed comes out as it went in.
#![no_main]

use echoic_core::framing::{Framing, oracle};

libfuzzer_sys::fuzz_target!(|input: (u8, Vec<usize>, u8, &[u8])| {
    let (number, places, max, data) = input;
    let framing = echoic_fuzz::framing(number);
    if framing != Framing::Chunk {
        oracle::cuts_change_nothing(framing, max.into(), data, &places);
        let bodies: Vec<Vec<u8>> = match framing {
            Framing::Fixed(n) => data.chunks_exact(n.get() as usize).map(<[u8]>::to_vec).collect(),
            _ => data.chunks(usize::from(max % 7) + 1).map(<[u8]>::to_vec).collect(),
        };
        oracle::join_then_split(framing, &bodies, &places);
    }
});
