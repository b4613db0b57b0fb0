//! Text that is safe within a drawing.

/// Text for XML and HTML, between tags and within attributes. What XML cannot hold in any form (controls) is replaced.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(sanitize(c)),
        }
    }
    safe
}

/// Text for a label, cut to a length that leaves the chart in the picture.
pub(crate) fn label(text: &str) -> String {
    let mut sanitized: String = text.chars().take(LABEL_CHARS_MAX).collect();
    if text.chars().nth(LABEL_CHARS_MAX).is_some() {
        sanitized.push('…');
    }
    sanitized
}

const LABEL_CHARS_MAX: usize = 60;

/// Controls, and what turns text around, show as a replacement character.
fn sanitize(c: char) -> char {
    let turns = matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let no_xml = matches!(c, '\u{fffe}' | '\u{ffff}');
    if c == '\n' || !(c.is_control() || turns || no_xml) {
        c
    } else {
        char::REPLACEMENT_CHARACTER
    }
}
