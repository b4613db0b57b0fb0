//! Tests of escaping: no control or invisible character remains, and no byte is lost.

use echoic_core::escape::{check, parse, python, python_up_to, text, text_up_to};
use proptest::prelude::*;
use rstest::rstest;

#[rstest]
#[case(b"hello", "hello")]
#[case(b"hello\r\n", r"hello\r\n")]
#[case(b"a\tb\\n", r"a\tb\\n")]
#[case(b"\x1b[2J\x00\x7f", r"\x1b[2J\x00\x7f")]
#[case("straße 世界 ❤\u{fe0f}".as_bytes(), "straße 世界 ❤\u{fe0f}")]
#[case(b"\xc3\xc3\xa9\xff", r"\xc3é\xff")]
#[case("\u{9b}31m \u{202e}evil".as_bytes(), r"\u{9b}31m \u{202e}evil")]
#[case("a\u{200b}b\u{2028}c\u{feff}\u{ad}".as_bytes(), r"a\u{200b}b\u{2028}c\u{feff}\u{ad}")]
#[case("\u{e0041}\u{10ffff}".as_bytes(), r"\u{e0041}\u{10ffff}")]
#[case(
    b"\x1b]8;;http://evil\x07\x1b]52;c;AA==\x9c",
    r"\x1b]8;;http://evil\x07\x1b]52;c;AA==\x9c"
)]
fn bytes_are_escaped_as_expected(#[case] bytes: &[u8], #[case] escaped: &str) {
    assert_eq!(text(bytes).to_string(), escaped);
    check(bytes);
}

/// Whether it is a control or format character, by ranges independent of those in the code.
fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[test]
fn escaped_output_has_no_control_or_format_characters() {
    for byte in 0..=255_u8 {
        for bytes in [
            &[byte][..],
            &[b'a', byte, b'b'],
            &[0xe2, byte],
            &[0xc2, byte],
        ] {
            check(bytes);
            assert!(
                !text(bytes).to_string().chars().any(is_hostile),
                "{bytes:?}"
            );
        }
    }
    for c in '\0'..=char::MAX {
        let escaped = text(c.encode_utf8(&mut [0; 4]).as_bytes()).to_string();
        assert!(
            !escaped.chars().any(is_hostile),
            "{c:?} is escaped as {escaped:?}"
        );
        assert_eq!(parse(&escaped).unwrap(), c.to_string().as_bytes());
        assert!(
            !is_hostile(c) || escaped.is_ascii() && escaped.starts_with('\\'),
            "{c:?} is escaped as {escaped:?}"
        );
    }
}

#[test]
fn common_scripts_are_not_escaped() {
    for plain in [
        "Ünïcödé ŁÓDŹ",
        "Привет",
        "γειά",
        "こんにちは",
        "안녕",
        "مرحبا",
        "नमस्ते",
        "שלום",
        "👍🏽",
    ] {
        assert_eq!(text(plain.as_bytes()).to_string(), plain);
    }
}

#[test]
fn truncated_text_ends_with_the_remaining_size() {
    let long = [b'x'; 2048];
    assert_eq!(
        text_up_to(&long, 100).to_string(),
        format!("{}…(+1.9 KiB)", "x".repeat(100))
    );
    assert_eq!(text_up_to(b"ab\x1b", 5).to_string(), "ab…(+1 B)");
    assert_eq!(text_up_to(b"ab\x1b", 6).to_string(), r"ab\x1b");
    assert_eq!(text_up_to(b"abc", 0).to_string(), "…(+3 B)");
    assert_eq!(text_up_to(b"", 0).to_string(), "");
    assert_eq!(python_up_to(b"hello", 3).to_string(), "b'hel'…(+2 B)");
}

#[rstest]
#[case(b"hello\n", r"b'hello\n'")]
#[case(b"it's", r#"b"it's""#)]
#[case(b"'\"", r#"b'\'"'"#)]
#[case(b"\"", r#"b'"'"#)]
#[case(b"\\\t\r\x00\x7f\xff", r"b'\\\t\r\x00\x7f\xff'")]
fn bytes_print_as_a_python_literal(#[case] bytes: &[u8], #[case] literal: &str) {
    assert_eq!(python(bytes).to_string(), literal);
}

#[rstest]
#[case(r"a\d", 1)]
#[case(r"\x1", 0)]
#[case(r"\x+1", 0)]
#[case(r"ab\u{d800}", 2)]
#[case(r"\u{}", 0)]
#[case(r"\u{+41}", 0)]
#[case("\\", 0)]
#[case(r"\xé", 0)]
fn invalid_escape_is_rejected(#[case] escaped: &str, #[case] at: usize) {
    assert_eq!(parse(escaped).unwrap_err().at, at);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn escaped_bytes_round_trip(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        check(&bytes);
    }

    #[test]
    fn escaped_text_round_trips(text in any::<String>()) {
        check(text.as_bytes());
    }

    #[test]
    fn unescaping_any_text_never_panics(text in r"([a-z\\{}é0-9]|\\u|\\x){0,20}") {
        let _ = parse(&text);
    }
}
