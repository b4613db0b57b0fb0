//! The URL of a PostgreSQL database.

use std::{fmt, path::PathBuf, str::FromStr};

use echoic_core::{escape, store::StoreLocation};
use thiserror::Error;
use tokio_postgres::{Config, config::SslMode};

/// The URL of a database: `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=…`. It is printed without the password and the
/// query.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    pub(super) config: Config,
    pub(super) verify: Verify,
    printed: String,
}

/// Whether the certificate of the server is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verify {
    /// It is not: `sslmode=disable`, `prefer`, `require`.
    Nothing,
    /// It and the name of the host are: `sslmode=verify-full`, against the roots in a file (`sslrootcert`) or those of the
    /// system.
    Full(Option<PathBuf>),
}

/// Error of an invalid URL. It does not contain the password.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UrlError {
    /// Neither the URL nor its query names a host.
    #[error("{0} names no host")]
    NoHost(String),
    /// An unknown TLS mode.
    #[error("invalid sslmode {0}: expected disable, prefer, require or verify-full")]
    SslMode(String),
    /// Another error.
    #[error("invalid URL {url}: {why}")]
    Other {
        /// The URL without the password and the query.
        url: String,
        /// The cause.
        why: String,
    },
}

impl PostgresUrl {
    /// Returns the location of the store, for messages.
    pub fn location(&self) -> StoreLocation {
        StoreLocation::Url(self.printed.clone())
    }

    /// Whether it contains a password.
    pub fn has_password(&self) -> bool {
        self.config.get_password().is_some()
    }

    /// Sets the password.
    pub fn set_password(&mut self, password: &str) {
        self.config.password(password);
    }

    /// Returns the first host, port, database and user, as far as they are known, for a search in a password file.
    pub fn login(&self) -> Login<'_> {
        use tokio_postgres::config::Host;
        let host = self.config.get_hosts().first().map(|host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        });
        Login {
            host: host.unwrap_or_default(),
            port: self.config.get_ports().first().copied().unwrap_or(5432),
            database: self.config.get_dbname().or_else(|| self.config.get_user()),
            user: self.config.get_user(),
        }
    }
}

/// What a password belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login<'a> {
    /// Name of the host, or the folder of its Unix socket.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Name of the database.
    pub database: Option<&'a str>,
    /// Name of the user.
    pub user: Option<&'a str>,
}

impl FromStr for PostgresUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let printed = without_secrets(text);
        let (base, query) = text.split_once('?').unwrap_or((text, ""));
        let (mut rest, mut mode, mut roots) = (Vec::new(), None, None);
        for option in query.split('&').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("sslmode", value)) => mode = Some(value),
                Some(("sslrootcert", value)) => roots = Some(PathBuf::from(value)),
                _ => rest.push(option),
            }
        }
        let other = |why: String| UrlError::Other {
            url: printed.clone(),
            why,
        };
        let plain = format!("{base}?{}", rest.join("&"));
        let plain = plain.strip_suffix('?').unwrap_or(&plain);
        let unreadable = || {
            other("expected postgres://USER:PASSWORD@HOST:PORT/DATABASE, with %, ? and @ in a password percent-encoded".to_owned())
        };
        if query.contains('@') && !base.contains('@') {
            // The question mark is in the password.
            return Err(unreadable());
        }
        // Its cause may quote a part of the URL, so it is not shown.
        let mut config: Config = plain.parse().map_err(|_| unreadable())?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(UrlError::NoHost(printed));
        }
        let (tls, verify) = match mode {
            None | Some("prefer") => (SslMode::Prefer, Verify::Nothing),
            Some("disable") => (SslMode::Disable, Verify::Nothing),
            Some("require") => (SslMode::Require, Verify::Nothing),
            Some("verify-full") => (SslMode::Require, Verify::Full(roots)),
            Some(unknown) => {
                return Err(UrlError::SslMode(
                    escape::text(unknown.as_bytes()).to_string(),
                ));
            }
        };
        config.ssl_mode(tls);
        Ok(Self {
            config,
            verify,
            printed,
        })
    }
}

/// Returns the URL without its password and its query, which may hold one too. Bytes that would change a terminal are escaped.
fn without_secrets(text: &str) -> String {
    let (base, query) = text.split_once('?').unwrap_or((text, ""));
    let Some((scheme, rest)) = base.split_once("://") else {
        return "postgres:".to_owned();
    };
    if query.contains('@') && !rest.contains('@') {
        // The question mark may be part of a password.
        return format!("{scheme}://");
    }
    // A password with an unencoded slash is no valid URL; nothing of it must be shown either.
    let (user, at_host) = match rest.rsplit_once('@') {
        Some((login, host)) => {
            let user = login.split_once(':').map_or(login, |(user, _)| user);
            (format!("{user}@"), host)
        }
        None => (String::new(), rest),
    };
    let printed = format!("{scheme}://{user}{at_host}");
    escape::text(printed.as_bytes()).to_string()
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.printed)
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresUrl({:?})", self.printed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_is_printed_without_its_secrets() {
        for (text, printed) in [
            (
                "postgres://me:secret@db:5433/echoic",
                "postgres://me@db:5433/echoic",
            ),
            ("postgresql://me@db/echoic", "postgresql://me@db/echoic"),
            ("postgres://me:sec/ret@db/echoic", "postgres://me@db/echoic"),
            ("postgres://db", "postgres://db"),
            (
                "postgres://me:se%40cret@db/e?password=secret&sslmode=require",
                "postgres://me@db/e",
            ),
            (
                "postgres://me@/echoic?host=/run/secret&sslmode=disable",
                "postgres://me@/echoic",
            ),
        ] {
            let url: PostgresUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), printed);
            assert_eq!(url.location().to_string(), printed);
            assert!(!format!("{url:?}").contains("secret"), "{url:?}");
        }
    }

    #[test]
    fn invalid_url_is_refused_without_its_secrets() {
        for (text, part) in [
            ("postgres:///echoic", "names no host"),
            ("postgres://me:secret@/echoic", "names no host"),
            ("postgres://", "names no host"),
            ("postgres://me:secret@db:port/echoic", "invalid URL"),
            ("postgres://me:sec?ret@db:5432/echoic", "invalid URL"),
            ("postgres://me:secret@db/e?color=red", "invalid URL"),
            ("postgres://me:secret@db/e?sslmode=maybe", "invalid sslmode"),
        ] {
            let why = text.parse::<PostgresUrl>().unwrap_err().to_string();
            assert!(why.contains(part), "{text}: {why}");
            assert!(!why.contains("sec"), "{why}");
        }
    }

    #[test]
    fn tls_mode_is_that_of_the_query() {
        let mode = |text: &str| {
            let url: PostgresUrl = format!("postgres://db/e{text}").parse().unwrap();
            (url.config.get_ssl_mode(), url.verify)
        };
        assert_eq!(mode(""), (SslMode::Prefer, Verify::Nothing));
        assert_eq!(
            mode("?sslmode=disable"),
            (SslMode::Disable, Verify::Nothing)
        );
        assert_eq!(
            mode("?sslmode=require"),
            (SslMode::Require, Verify::Nothing)
        );
        assert_eq!(
            mode("?sslmode=verify-full&sslrootcert=/a/ca.pem"),
            (SslMode::Require, Verify::Full(Some("/a/ca.pem".into())))
        );
    }
}
