//! The password of a console.

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;

/// The password of a console: whoever has it may read the record and use the server, as with the token. It is not held, only its
/// hash is. `Debug` prints neither.
#[derive(Clone)]
pub struct Password([u8; 32]);

/// Error of a password that is too short, or that no form can send. The message does not quote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "invalid password: expected {CHARACTERS_MIN} characters or more, at most {BYTES_MAX} bytes, and no control characters"
)]
pub struct InvalidPassword;

/// Fewest characters. With the limit of wrong passwords (`login.rs`) a random one of 8 letters lasts for thousands of years.
const CHARACTERS_MIN: usize = 8;

/// Most bytes: so many fit into the body of a login, however JSON escapes them.
const BYTES_MAX: usize = 512;

impl Password {
    /// Whether `candidate` is this password. Takes the same time wherever the two differ, and whichever is longer.
    pub(crate) fn matches(&self, candidate: &[u8]) -> bool {
        let candidate: [u8; 32] = Sha256::digest(candidate).into();
        self.0.ct_eq(&candidate).into()
    }

    /// Returns what a session depends on, so that it ends with its password.
    pub(crate) fn hash(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for Password {
    type Err = InvalidPassword;

    fn from_str(text: &str) -> Result<Self, InvalidPassword> {
        let is_long = text.chars().count() >= CHARACTERS_MIN;
        (is_long && text.len() <= BYTES_MAX && !text.contains(char::is_control))
            .then(|| Self(Sha256::digest(text).into()))
            .ok_or(InvalidPassword)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_matches_itself_alone() {
        let password: Password = "größer als acht".parse().unwrap();
        assert!(password.matches("größer als acht".as_bytes()));
        for other in ["", "größer als ach", "größer als acht ", "Größer als acht"] {
            assert!(!password.matches(other.as_bytes()), "{other}");
        }
        assert_eq!(format!("{password:?}"), "Password(…)");
    }

    #[test]
    fn password_is_refused_if_short_long_or_with_a_control() {
        let long = "x".repeat(513);
        for text in [
            "",
            "seven77",
            "ééééééé",
            "12345678\n",
            "tab\tpassword",
            &long,
        ] {
            assert_eq!(
                text.parse::<Password>().err(),
                Some(InvalidPassword),
                "{text}"
            );
        }
        for text in ["12345678", "éééééééé", &long[1..]] {
            assert!(text.parse::<Password>().is_ok(), "{text}");
        }
    }
}
