//! The specification of upper-casing, shared by property tests and the fuzz target.

use super::{Upper, upper};

/// Upper-cases by the definition: valid parts by [`str::to_uppercase`], invalid ones unchanged.
pub fn reference(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in bytes.utf8_chunks() {
        out.extend_from_slice(chunk.valid().to_uppercase().as_bytes());
        out.extend_from_slice(chunk.invalid());
    }
    out
}

/// Upper-cases `text` in one piece, byte by byte, and in pieces of the lengths `cuts` (repeated until the text ends; a
/// piece may be empty), and compares each result with [`reference`].
///
/// # Panics
///
/// If a result differs, or if the held bytes are not the unfinished character at the end.
pub fn check_cuts(text: &[u8], cuts: &[u8]) {
    let expected = reference(text);
    let before = b"before ";

    let mut whole = before.to_vec();
    upper(text, &mut whole);
    assert_eq!(
        whole.strip_prefix(before),
        Some(&*expected),
        "in one piece: {text:x?}"
    );

    // The added length 1 ensures progress.
    for cuts in [&[][..], cuts] {
        let mut cuts = cuts.iter().chain([&1]).cycle().copied();
        let (mut upper, mut out) = (Upper::default(), before.to_vec());
        let mut rest = text;
        while !rest.is_empty() {
            let cut = cuts.next().map_or(1, usize::from).min(rest.len());
            let (piece, after) = rest.split_at(cut);
            upper.push(piece, &mut out);
            rest = after;
            check_held(upper.held(), &text[..text.len() - rest.len()]);
        }
        upper.finish(&mut out);
        assert_eq!(upper.held(), b"", "after the end: {text:x?}");
        assert_eq!(
            out.strip_prefix(before),
            Some(&*expected),
            "in pieces: {text:x?}"
        );
    }
}

/// The body of a fuzz target. The first byte is the number of piece lengths (0 to 15); the lengths follow, then the
/// text.
///
/// # Panics
///
/// As [`check_cuts`].
pub fn check_upper_stream(data: &[u8]) {
    let Some((&count, data)) = data.split_first() else {
        return check_cuts(&[], &[]);
    };
    let (cuts, text) = data.split_at(usize::from(count % 16).min(data.len()));
    check_cuts(text, cuts);
}

/// Checks that `held` is exactly the unfinished character at the end of `seen`. Holding more would delay a reply,
/// holding less would break the character.
fn check_held(held: &[u8], seen: &[u8]) {
    let unfinished = (1..=seen.len().min(3))
        .map(|len| &seen[seen.len() - len..])
        .find(|tail| {
            str::from_utf8(tail).is_err_and(|e| e.valid_up_to() == 0 && e.error_len().is_none())
        });
    assert_eq!(held, unfinished.unwrap_or_default(), "held after {seen:x?}");
}
