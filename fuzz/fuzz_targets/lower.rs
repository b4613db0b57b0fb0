//! Lower case is what std says: of a message as a whole, of a stream character by character, however it is cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: (Vec<usize>, &[u8])| {
    let (places, text) = input;
    echoic_service::lower::oracle::check(text, &places);
});
