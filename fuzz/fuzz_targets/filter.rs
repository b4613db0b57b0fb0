//! Any text is a filter that prints as itself, or an error that says where; and its bounds lose nothing.
#![no_main]

use echoic_core::filter;

libfuzzer_sys::fuzz_target!(|input: (&str, &[u8], &[u8])| {
    let (text, request, reply) = input;
    filter::check(text, &echoic_fuzz::exchange(request, reply), 0);
});
