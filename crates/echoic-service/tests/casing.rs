//! Upper-casing: every character against the standard library, and every text against itself in other pieces.

use echoic_service::casing::oracle::{check_cuts, check_upper_stream, reference};
use echoic_service::casing::{Upper, upper};
use proptest::collection::vec;
use proptest::prelude::*;
use rstest::rstest;

fn upper_whole(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    upper(bytes, &mut out);
    out
}

/// Returns the output of each push, then that of `finish`.
fn upper_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let mut upper = Upper::default();
    let mut outs = Vec::new();
    for piece in pieces {
        let mut out = Vec::new();
        upper.push(piece, &mut out);
        outs.push(out);
    }
    let mut out = Vec::new();
    upper.finish(&mut out);
    outs.push(out);
    outs
}

/// Difficult texts: growing and shrinking characters, characters of all lengths, and invalid UTF-8.
const CORPUS: &[&[u8]] = &[
    b"hello, world",
    "straße".as_bytes(),
    "ŉı ſ ǰ ΐ ΰ ᾷ ﬃ և ɐ".as_bytes(),
    "Σίσυφος, ὈΔΥΣΣΕΎΣ ᾳ".as_bytes(),
    "ёжик Ёж ѣ".as_bytes(),
    "mañana 人人生而自由 a\u{308}".as_bytes(),
    "a𐐨b👍🏽c𞤢\u{10ffff}".as_bytes(),
    b"a\xffb\xc3\x28c\xe2\x82d\xf0\x9f\x91e\xc3",
    b"\xe2\x82\xc3\x9f\xf0\x90\x90\xf0\x90\x90\xa8\x80z",
    b"\xed\xa0\x80\xc0\xaf\xf4\x90\x80\x80\xf8\x88\x80",
];

#[test]
fn every_character_maps_alone_and_among_others() {
    let (mut out, mut text) = (Vec::new(), String::new());
    for char in '\0'..=char::MAX {
        let expected: String = char.to_uppercase().collect();
        text.clear();
        text.push(char);
        out.clear();
        upper(text.as_bytes(), &mut out);
        assert_eq!(out, expected.as_bytes(), "{char:?} alone");

        text.push_str("å, and nine more");
        out.clear();
        upper(text.as_bytes(), &mut out);
        assert_eq!(
            out.strip_suffix("Å, AND NINE MORE".as_bytes()),
            Some(expected.as_bytes()),
            "{char:?} before others"
        );
    }
}

#[test]
fn d04_every_character_may_be_cut_at_every_byte() {
    for char in '\u{80}'..=char::MAX {
        let mut utf8 = [0; 4];
        let utf8 = char.encode_utf8(&mut utf8).as_bytes();
        let expected: String = char.to_uppercase().collect();
        for cut in 1..utf8.len() {
            let (mut upper, mut out) = (Upper::default(), Vec::new());
            upper.push(&utf8[..cut], &mut out);
            assert_eq!(
                (upper.held(), &*out),
                (&utf8[..cut], &b""[..]),
                "{char:?} cut at {cut}"
            );
            upper.push(&utf8[cut..], &mut out);
            assert_eq!(
                (upper.held(), &*out),
                (&b""[..], expected.as_bytes()),
                "{char:?} cut at {cut}"
            );
        }
    }
}

#[test]
fn every_text_maps_in_any_three_pieces() {
    for text in CORPUS {
        for second in 0..=text.len() {
            for first in 0..=second {
                check_cuts(text, &[first as u8, (second - first) as u8, u8::MAX]);
            }
        }
    }
}

/// All combinations of four bytes at the edges of UTF-8's table, followed by a letter that has to be mapped.
#[test]
fn utf8_edge_byte_mixes_map_in_any_pieces() {
    const EDGES: [u8; 20] = [
        b'a', 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xed, 0xef,
        0xf0, 0xf1, 0xf4, 0xf5, 0xff,
    ];
    for a in EDGES {
        for b in EDGES {
            for c in EDGES {
                for d in EDGES {
                    check_cuts(&[a, b, c, d, b'z'], &[2, 1, 2]);
                }
            }
        }
    }
}

#[test]
fn sharp_s_maps_byte_by_byte() {
    let outs = upper_pieces("straße".as_bytes().chunks(1));
    let outs: Vec<_> = outs
        .iter()
        .map(|out| str::from_utf8(out).expect("ASCII"))
        .collect();
    assert_eq!(outs, ["S", "T", "R", "A", "", "SS", "E", ""]);
}

/// Mapping each read by itself, as a tutorial would, gives a wrong result: so the checks above can fail.
#[test]
fn stateless_mapper_fails_on_cut_characters() {
    let naive: Vec<u8> = "straße".as_bytes().chunks(1).flat_map(reference).collect();
    assert_ne!(naive, reference("straße".as_bytes()));
    assert_eq!(reference("straße".as_bytes()), b"STRASSE");
}

#[rstest]
#[case::lone_continuation(b"a\x80b", b"A\x80B")]
#[case::two_byte_overlong_slash(b"a\xc0\xafb", b"A\xc0\xafB")]
#[case::two_byte_overlong_letter(b"\xc1\xa1", b"\xc1\xa1")]
#[case::three_byte_overlong_letter(b"\xe0\x81\xa1", b"\xe0\x81\xa1")]
#[case::three_byte_overlong_accent(b"\xe0\x83\xa9", b"\xe0\x83\xa9")]
#[case::four_byte_overlong(b"\xf0\x80\x81\xa1", b"\xf0\x80\x81\xa1")]
#[case::first_surrogate(b"a\xed\xa0\x80b", b"A\xed\xa0\x80B")]
#[case::surrogate_pair(b"\xed\xa0\x81\xed\xb0\xa8", b"\xed\xa0\x81\xed\xb0\xa8")]
#[case::past_the_last_character(b"\xf4\x90\x80\x80a", b"\xf4\x90\x80\x80A")]
#[case::five_bytes(b"\xf8\x88\x80\x80\x80a", b"\xf8\x88\x80\x80\x80A")]
#[case::never_in_utf8(b"a\xfe\xffb", b"A\xfe\xffB")]
#[case::two_bytes_cut_by_a_letter(b"\xc3a", b"\xc3A")]
#[case::three_bytes_cut_by_a_letter(b"\xe1\xbea", b"\xe1\xbeA")]
#[case::four_bytes_cut_by_a_letter(b"\xf0\x90\x90a", b"\xf0\x90\x90A")]
#[case::cut_by_a_character(b"\xf0\x90\x90\xc3\xa9", b"\xf0\x90\x90\xc3\x89")]
#[case::two_bytes_cut_by_the_end(b"a\xc3", b"A\xc3")]
#[case::three_bytes_cut_by_the_end(b"a\xe1\xbe", b"A\xe1\xbe")]
#[case::four_bytes_cut_by_the_end(b"a\xf0\x90\x90", b"A\xf0\x90\x90")]
#[case::latin_1(b"caf\xe9 cr\xe8me", b"CAF\xe9 CR\xe8ME")]
fn invalid_utf8_passes_unchanged(#[case] bytes: &[u8], #[case] expected: &[u8]) {
    assert_eq!(upper_whole(bytes), expected);
    for length in 1..=4 {
        assert_eq!(
            upper_pieces(bytes.chunks(length)).concat(),
            expected,
            "in pieces of {length}"
        );
    }
}

#[rstest]
#[case::one_becomes_three_characters("ΐ", "Ι\u{308}\u{301}")]
#[case::grows_by_half("ŉ", "ʼN")]
#[case::shrinks("ıſ", "IS")]
#[case::two_bytes_become_three("ɐ", "Ɐ")]
#[case::ligature("ﬃ", "FFI")]
#[case::no_rule_of_a_language("istanbul ıi", "ISTANBUL II")]
#[case::final_sigma("οδος", "ΟΔΟΣ")]
#[case::four_bytes("𐐨", "𐐀")]
#[case::title_case("ǅ", "Ǆ")]
#[case::no_case("人 א 👍", "人 א 👍")]
fn known_special_cases_map_correctly(#[case] lower: &str, #[case] upper: &str) {
    assert_eq!(str::from_utf8(&upper_whole(lower.as_bytes())), Ok(upper));
}

#[test]
fn mapper_can_be_reused_after_finish() {
    let (mut upper, mut out) = (Upper::default(), Vec::new());
    upper.push(b"a\xc3", &mut out);
    upper.finish(&mut out);
    upper.push(b"\x9fb", &mut out);
    upper.finish(&mut out);
    upper.finish(&mut out);
    assert_eq!(out, b"A\xc3\x9fB");
}

#[test]
fn incomplete_input_produces_no_output() {
    let (mut upper, mut out) = (Upper::default(), Vec::new());
    upper.push(b"", &mut out);
    upper.push(b"\xe2\x82", &mut out);
    upper.push(b"", &mut out);
    assert_eq!((upper.held(), &*out), (&b"\xe2\x82"[..], &b""[..]));
}

/// Texts around the block size of the mapper, with each kind of character at the edge.
#[test]
fn long_texts_map_at_every_length_near_a_block() {
    for edge in ["x", "é", "ΐ", "ქ", "人", "𐐨", "\u{10ffff}"] {
        for lead in 1000..1050 {
            let text = [
                "é",
                &"a".repeat(lead),
                edge,
                &"b".repeat(1030),
                edge,
                &"é".repeat(600),
                "c",
            ]
            .concat();
            assert_eq!(
                upper_whole(text.as_bytes()),
                text.to_uppercase().as_bytes(),
                "{edge} after {lead}"
            );
        }
        for lead in 1015..1030 {
            check_cuts(
                &[&b"a".repeat(lead), edge.as_bytes(), b"\xff\xe2\x82"].concat(),
                &[255, 1, 200],
            );
        }
    }
}

#[test]
fn fastest_growing_character_maps_in_bulk() {
    let text = "ΐ".repeat(40_000);
    let out = upper_whole(text.as_bytes());
    assert_eq!(out.len(), text.len() * 3);
    assert_eq!(out, text.to_uppercase().as_bytes());
}

/// Bytes as peers send them: parts in one script, single characters of any script, and invalid or cut ones.
fn peer_bytes() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        4 => "[ -~]{0,40}".prop_map(String::into_bytes),
        4 => "[a-zß-ÿ ]{0,20}".prop_map(String::into_bytes),
        3 => "[\u{80}-\u{7ff}]{0,12}".prop_map(String::into_bytes),
        3 => "[\u{800}-\u{ffff}]{0,8}".prop_map(String::into_bytes),
        2 => "\\PC{0,8}".prop_map(String::into_bytes),
        2 => any::<char>().prop_flat_map(|char| {
            let utf8 = char.to_string().into_bytes();
            (0..=utf8.len()).prop_map(move |len| utf8[..len].to_vec())
        }),
        1 => vec(any::<u8>(), 0..6),
        1 => vec(0x80u8.., 0..6),
    ];
    vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn upper_does_not_depend_on_cuts(text in peer_bytes(), cuts in vec(0u8..20, 0..12)) {
        check_cuts(&text, &cuts);
    }

    #[test]
    fn upper_of_arbitrary_bytes_does_not_depend_on_cuts(data in vec(any::<u8>(), 0..200)) {
        check_upper_stream(&data);
    }

    #[test]
    fn upper_matches_std_on_any_text(text in "\\PC{0,80}") {
        prop_assert_eq!(upper_whole(text.as_bytes()), text.to_uppercase().into_bytes());
    }
}
