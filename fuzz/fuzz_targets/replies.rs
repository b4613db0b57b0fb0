//! What a peer says is shown once and whole, however it is cut, and no more of it are replies than were asked for.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: (u8, u8, Vec<usize>, &[u8])| {
    let (number, sent, places, heard) = input;
    echoic_client::oracle::check_replies(echoic_fuzz::framing(number), sent % 8, heard, &places);
});
