//! Why a text is no amount.

use thiserror::Error;

use crate::escape;

/// Why a text is no amount: `invalid size 5x: unknown unit x; expected k, M, G or T`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid {what} {}: {why}{}", quoted(text), self.off())]
pub struct UnitError {
    what: &'static str,
    text: String,
    why: Why,
    can_be_off: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum Why {
    #[error("expected {0}")]
    Expected(&'static str),
    #[error("unknown unit {}; expected {expected}", quoted(unit))]
    Unit {
        unit: String,
        expected: &'static str,
    },
    #[error("the number is too large")]
    TooLarge,
    #[error("a fraction of one {0} is too small")]
    Fraction(&'static str),
    #[error("expected at least {least} and at most {most}")]
    Bounds { least: String, most: String },
}

impl Why {
    pub(super) fn unit(unit: &str, expected: &'static str) -> Self {
        let unit = unit.to_owned();
        Self::Unit { unit, expected }
    }
}

impl UnitError {
    pub(super) fn new(what: &'static str, text: &str, why: Why) -> Self {
        Self {
            what,
            text: text.to_owned(),
            why,
            can_be_off: false,
        }
    }

    /// The same error where `off` would have fitted too.
    pub(super) fn or_off(self) -> Self {
        Self {
            can_be_off: true,
            ..self
        }
    }

    fn off(&self) -> &'static str {
        match self.why {
            Why::Expected(_) | Why::Unit { .. } | Why::Bounds { .. } if self.can_be_off => {
                ", or off"
            }
            _ => "",
        }
    }
}

/// Typed text as errors show it: escaped, at most 40 characters, in quotes where its ends would not be seen.
pub fn quoted(text: &str) -> String {
    const CHARS_MAX: usize = 40;
    let shown = escape::text_up_to(text.as_bytes(), CHARS_MAX);
    if text.is_empty() || text.contains(char::is_whitespace) {
        format!("\"{shown}\"")
    } else {
        shown.to_string()
    }
}
