//! Escaping and shortening of texts in a chart.

/// Escapes text for XML and HTML, in content and in attributes. Characters that XML cannot represent (controls) are
/// replaced.
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

/// Shortens text for a label, so that it leaves space for the chart.
pub(crate) fn label(text: &str) -> String {
    let mut sanitized: String = text.chars().take(LABEL_CHARS_MAX).collect();
    if text.chars().nth(LABEL_CHARS_MAX).is_some() {
        sanitized.push('…');
    }
    sanitized
}

const LABEL_CHARS_MAX: usize = 60;

/// Replaces controls, and characters that change the direction of text.
fn sanitize(c: char) -> char {
    let is_bidi = matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let is_noncharacter = matches!(c, '\u{fffe}' | '\u{ffff}');
    if c == '\n' || !(c.is_control() || is_bidi || is_noncharacter) {
        c
    } else {
        char::REPLACEMENT_CHARACTER
    }
}
