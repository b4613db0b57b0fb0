//! The cookie of a session.

use std::fmt;

use axum::http::{HeaderMap, HeaderValue, header};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::ConsoleConfig;

/// The cookie of a session, for one token, one password and one port.
///
/// A browser sends it to every port of the host, so that others see it, and echoic may record it. So it has a hash of the token:
/// the token cannot be computed from it, it is no Bearer token, and it is another one for each port. It is the same after a
/// restart with the same token, password and port. A password cannot be guessed from it by who has not the token too.
pub(crate) struct SessionCookie {
    name: String,
    value: String,
    /// For TLS: a browser then sends it over nothing else.
    is_secure: bool,
}

impl SessionCookie {
    pub(crate) fn new(port: u16, config: &ConsoleConfig) -> Self {
        // What is hashed differs from every other hash of the token, since it begins with what it is for. Only this one value is
        // accepted, so that longer texts that begin the same, whose hash could be computed from this one, lead nowhere.
        let hash = Sha256::new()
            .chain_update(format!("echoic console session, port {port}, token "))
            .chain_update(config.token.as_str());
        let hash = match &config.password {
            Some(password) => hash
                .chain_update(", password ")
                .chain_update(password.hash()),
            None => hash,
        }
        .finalize();
        Self {
            name: format!("echoic-{port}"),
            value: BASE64_URL_SAFE_NO_PAD.encode(hash),
            is_secure: config.tls.is_some(),
        }
    }

    /// Returns the value of Set-Cookie. Only paths of the API get the cookie: the page and its files need none.
    pub(crate) fn to_header(&self) -> Option<HeaderValue> {
        let Self { name, value, .. } = self;
        let secure = if self.is_secure { "; Secure" } else { "" };
        let cookie = format!("{name}={value}; HttpOnly{secure}; SameSite=Strict; Path=/api/v1");
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
    use crate::config::StoreDescription;

    fn cookie(port: u16, token: &str, password: Option<&str>) -> SessionCookie {
        let config = ConsoleConfig {
            token: token.parse().unwrap(),
            password: password.map(|password| password.parse().unwrap()),
            tls: None,
            readonly: false,
            version: "",
            store: StoreDescription::default(),
            limits: Vec::new(),
        };
        SessionCookie::new(port, &config)
    }

    #[test]
    fn value_depends_on_token_password_and_port_alone() {
        let token = "a-token-of-the-tests";
        let one = cookie(8007, token, None);
        assert_eq!(one.value, cookie(8007, token, None).value);
        assert_eq!(one.value.len(), 43);
        let mut values = vec![
            one.value.clone(),
            cookie(8008, token, None).value,
            cookie(8007, "another-token-of-the-tests", None).value,
            cookie(8007, token, Some("password")).value,
            cookie(8007, token, Some("passwort")).value,
        ];
        values.sort();
        values.dedup();
        assert_eq!(values.len(), 5);
        assert!(!format!("{one:?}").contains(&one.value));
    }
}
