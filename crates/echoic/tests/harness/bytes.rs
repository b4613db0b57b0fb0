//! What may be on a terminal, and what may not.

/// Fails if anything in `shown` would be obeyed by a terminal rather than shown, but for colours.
#[track_caller]
pub(crate) fn assert_safe_to_show(shown: &[u8]) {
    let text = str::from_utf8(shown).expect("what is shown is UTF-8");
    let text = plain(text);
    let obeyed = |c: &char| {
        matches!(c, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' if !"\r\n".contains(*c))
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let found: Vec<char> = text.chars().filter(obeyed).collect();
    assert!(found.is_empty(), "{found:?} in {text:?}");
}

/// The text without its colours: ESC, `[`, digits and semicolons, `m`.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain += before;
        let end = after.find(|c: char| c != ';' && !c.is_ascii_digit());
        match end.map(|end| after.split_at(end)) {
            Some((_, colour)) if colour.starts_with('m') => rest = &colour[1..],
            _ => {
                plain += "\x1b[";
                rest = after;
            }
        }
    }
    plain + rest
}

/// How often a byte occurs.
pub(crate) fn count_of(byte: u8, bytes: &[u8]) -> usize {
    bytes.iter().filter(|b| **b == byte).count()
}
