//! The error from parsing amounts.

use thiserror::Error;

use crate::escape;

/// Error from parsing an amount: `invalid size 5x: unknown unit x; expected k, M, G or T`.
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
    #[error("expected no fraction of a {0}")]
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

    /// Returns the same error for an argument that may also be `off`.
    pub(super) fn or_off(self) -> Self {
        Self {
            can_be_off: true,
            ..self
        }
    }

    /// Returns the end of the message if `off` is allowed.
    fn off(&self) -> &'static str {
        match self.why {
            Why::Expected(_) | Why::Unit { .. } | Why::Bounds { .. } if self.can_be_off => {
                ", or off"
            }
            _ => "",
        }
    }
}

/// Formats text from the command line for an error: escaped, at most 40 characters, in quotes if it is empty or
/// contains whitespace.
pub fn quoted(text: &str) -> String {
    const CHARS_MAX: usize = 40;
    let escaped = escape::text_up_to(text.as_bytes(), CHARS_MAX);
    if text.is_empty() || text.contains(char::is_whitespace) {
        format!("\"{escaped}\"")
    } else {
        escaped.to_string()
    }
}
