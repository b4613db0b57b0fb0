//! The cookie of a session.

use std::fmt;

use axum::http::{HeaderMap, HeaderValue, header};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::token::Token;

/// The cookie of a session, for one token and one port.
///
/// A browser sends it to every port of the host, so that others see it, and echoic may record it. So it has a hash of the token:
/// the token cannot be computed from it, it is no Bearer token, and it is another one for each port. It is the same after a
/// restart with the same token and port.
pub(crate) struct SessionCookie {
    name: String,
    value: String,
}

impl SessionCookie {
    pub(crate) fn new(port: u16, token: &Token) -> Self {
        // What is hashed differs from every other hash of the token, since it begins with what it is for. Only this one value is
        // accepted, so that longer texts that begin the same, whose hash could be computed from this one, lead nowhere.
        let hash = Sha256::new()
            .chain_update(format!("echoic console session, port {port}, token "))
            .chain_update(token.as_str())
            .finalize();
        Self {
            name: format!("echoic-{port}"),
            value: BASE64_URL_SAFE_NO_PAD.encode(hash),
        }
    }

    /// Returns the value of Set-Cookie. Only paths of the API get the cookie: the page and its files need none.
    pub(crate) fn to_header(&self) -> Option<HeaderValue> {
        let Self { name, value } = self;
        let cookie = format!("{name}={value}; HttpOnly; SameSite=Strict; Path=/api/v1");
        HeaderValue::from_str(&cookie).ok()
    }

    /// Whether a request has the cookie. Takes the same time wherever a wrong one differs.
    pub(crate) fn is_in(&self, headers: &HeaderMap) -> bool {
        let all = headers.get_all(header::COOKIE).into_iter();
        let mut pairs = all
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='));
        pairs.any(|(name, value)| {
            name == self.name && value.as_bytes().ct_eq(self.value.as_bytes()).into()
        })
    }
}

impl fmt::Debug for SessionCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionCookie({}=…)", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_depends_on_token_and_port_alone() {
        let token: Token = "a-token-of-the-tests".parse().unwrap();
        let other: Token = "another-token-of-the-tests".parse().unwrap();
        let cookie = SessionCookie::new(8007, &token);
        assert_eq!(cookie.value, SessionCookie::new(8007, &token).value);
        assert_ne!(cookie.value, SessionCookie::new(8008, &token).value);
        assert_ne!(cookie.value, SessionCookie::new(8007, &other).value);
        assert_eq!(cookie.value.len(), 43);
        assert!(!format!("{cookie:?}").contains(&cookie.value));
    }
}
