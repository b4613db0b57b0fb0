//! Which output is safe on a terminal.

/// Returns the characters of `shown` that a terminal would execute rather than display, except colours.
pub(crate) fn obeyed(shown: &[u8]) -> Vec<char> {
    let text = plain(str::from_utf8(shown).expect("what is shown is UTF-8"));
    let obeyed = |c: &char| {
        matches!(c, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' if !"\r\n".contains(*c))
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().filter(obeyed).collect()
}

/// Removes the colours: ESC, `[`, digits and semicolons, `m`.
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
