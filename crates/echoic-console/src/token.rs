//! The secret of a console.

use std::{fmt, str::FromStr};

use subtle::ConstantTimeEq;
use thiserror::Error;

/// The secret of a console: whoever has it may read the record and use the server. `Debug` does not print it.
#[derive(Clone)]
pub struct Token(String);

/// Error of a token that is too short to be a secret, or does not fit into a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("invalid token: expected {MIN} to {MAX} letters, digits, - or _, and no others")]
pub struct InvalidToken;

/// Fewest characters: so many that guesses over a network lead nowhere (92 bits for a random token).
const MIN: usize = 16;

/// Most characters.
const MAX: usize = 128;

impl Token {
    /// Returns a random token of 128 bits.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(format!("{:032x}", u128::from_be_bytes(bytes))))
    }

    /// Returns its text, for the URL of the page.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `candidate` is this token. Takes the same time wherever the two differ.
    pub(crate) fn matches(&self, candidate: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(candidate).into()
    }
}

impl FromStr for Token {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        ((MIN..=MAX).contains(&text.len()) && text.bytes().all(is_safe))
            .then(|| Self(text.to_owned()))
            .ok_or(InvalidToken)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_token_is_valid_and_new_each_time() {
        let [one, other] = [(); 2].map(|()| Token::random().unwrap());
        assert!(one.as_str().parse::<Token>().is_ok());
        assert_ne!(one.as_str(), other.as_str());
        assert!(one.matches(one.as_str().as_bytes()));
        assert!(!one.matches(other.as_str().as_bytes()));
        assert!(!one.matches(b""));
        assert!(!format!("{one:?}").contains(one.as_str()));
    }

    #[test]
    fn token_is_refused_if_short_or_unsafe_in_a_url() {
        for text in [
            "",
            "short",
            "fifteen-letters",
            "sixteen letters!",
            "semicolon;semicolon",
            "ümlautümlautümlaut",
        ] {
            assert_eq!(text.parse::<Token>().err(), Some(InvalidToken), "{text}");
        }
    }
}
