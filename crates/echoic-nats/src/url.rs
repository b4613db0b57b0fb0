//! The URL of a subject or a stream: `nats://HOST:PORT/NAME`, with several hosts if they are a cluster.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use thiserror::Error;
use url::Url;

/// Longest name of a subject or a stream, in bytes.
const NAME_BYTES_MAX: usize = 200;

/// The port of NATS.
const PORT: u16 = 4222;

/// Most hosts of a URL. A client learns the others of a cluster from the one that it reaches.
const HOSTS_MAX: usize = 16;

/// A NATS server or cluster, with the subject or stream that is meant there:
/// `nats://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]...]/NAME[?replicas=N][&ca=FILE]`. Printed without user, password and options.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct NatsUrl {
    /// `HOST:PORT` of each.
    hosts: Vec<String>,
    login: Option<Login>,
    name: String,
    options: Options,
}

/// What stands after the `?`.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct Options {
    replicas: Option<usize>,
    ca: Option<PathBuf>,
}

/// What the server is given to admit us.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum Login {
    /// `nats://TOKEN@HOST`.
    Token(String),
    /// `nats://USER:PASSWORD@HOST`.
    Password(String, String),
}

/// Why a text is no such URL. The message does not repeat the text, which may contain a password.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid NATS URL: {0}; expected nats://HOST:PORT/NAME")]
pub struct NatsUrlError(String);

impl NatsUrl {
    /// Returns the name after the host: a subject or a stream.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the servers without the name: `nats://HOST:PORT,HOST:PORT`.
    pub fn server(&self) -> String {
        format!("nats://{}", self.hosts.join(","))
    }

    /// Returns on how many nodes of a cluster the stream is to be kept, if the URL says so. A subject has none.
    pub fn replicas(&self) -> Option<usize> {
        self.options.replicas
    }

    /// The file with the certificates of issuers that are trusted beside the system's. With it the connection is over TLS.
    pub(crate) fn ca(&self) -> Option<&Path> {
        self.options.ca.as_deref()
    }

    /// Each server with a URL of its own.
    pub(crate) fn servers(&self) -> impl Iterator<Item = String> {
        self.hosts.iter().map(|host| format!("nats://{host}"))
    }

    pub(crate) fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }
}

impl FromStr for NatsUrl {
    type Err = NatsUrlError;

    fn from_str(text: &str) -> Result<Self, NatsUrlError> {
        let error = |why: &str| NatsUrlError(why.to_owned());
        let rest = text.strip_prefix("nats://");
        let rest = rest.ok_or_else(|| error("it does not begin with nats://"))?;
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (format!("{login}@"), hosts),
            None => (String::new(), authority),
        };
        // The first host stands for all in what the parts have in common.
        let urls = hosts.split(',').map(|host| {
            let url = Url::parse(&format!("nats://{login}{host}{path}"));
            url.map_err(|why| NatsUrlError(why.to_string()))
        });
        let urls = urls.collect::<Result<Vec<_>, _>>()?;
        if urls.len() > HOSTS_MAX {
            return Err(error("it has more than 16 hosts"));
        }
        let hosts = urls.iter().map(|url| {
            let host = url.host_str().filter(|host| !host.is_empty());
            let host = host.ok_or_else(|| error("the host is missing"))?;
            Ok(format!("{host}:{}", url.port().unwrap_or(PORT)))
        });
        let hosts = hosts.collect::<Result<Vec<_>, _>>()?;
        let url = &urls[0];
        let name = url.path().trim_start_matches('/').to_owned();
        check_name(&name).map_err(|why| NatsUrlError(why.to_owned()))?;
        Ok(Self {
            hosts,
            login: login_of(url)?,
            name,
            options: options_of(url)?,
        })
    }
}

/// Reads user and password, or the token.
fn login_of(url: &Url) -> Result<Option<Login>, NatsUrlError> {
    let decoded = |text: &str| {
        let why = || NatsUrlError("a % is not followed by two digits".to_owned());
        decode(text).ok_or_else(why)
    };
    Ok(match (url.username(), url.password()) {
        ("", None) => None,
        (token, None) => Some(Login::Token(decoded(token)?)),
        (user, Some(password)) => Some(Login::Password(decoded(user)?, decoded(password)?)),
    })
}

/// Reads the options.
fn options_of(url: &Url) -> Result<Options, NatsUrlError> {
    let error = |why: &str| Err(NatsUrlError(why.to_owned()));
    if url.fragment().is_some() {
        return error("it has a #");
    }
    let mut options = Options::default();
    for option in url.query().into_iter().flat_map(|query| query.split('&')) {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        match (key, value.parse()) {
            // What JetStream can do.
            ("replicas", Ok(replicas @ 1..=5)) => options.replicas = Some(replicas),
            ("replicas", _) => return error("replicas is not a number from 1 to 5"),
            ("ca", _) => match decode(value).filter(|path| !path.is_empty()) {
                Some(path) => options.ca = Some(path.into()),
                None => return error("ca is not the path of a file"),
            },
            ("creds" | "nkey" | "seed", _) => {
                return error(
                    "credentials files and nkeys are not supported: put user and password, or a token, before the host",
                );
            }
            _ => return error("its options are ?replicas=N and ?ca=FILE"),
        }
    }
    Ok(options)
}

/// Checks that a name can be a subject of its own, and a part of one: words of letters, digits, `-` and `_`, with dots between.
fn check_name(name: &str) -> Result<(), &'static str> {
    let is_word = |word: &str| {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !word.is_empty() && word.bytes().all(is_part)
    };
    if name.is_empty() {
        return Err("the name after the host is missing");
    }
    if name.len() > NAME_BYTES_MAX {
        return Err("the name after the host is longer than 200 characters");
    }
    if !name.split('.').all(is_word) {
        return Err("the name after the host is not letters, digits, - and _, with dots between");
    }
    Ok(())
}

/// Replaces `%NN`.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    bytes.extend_from_slice(parts.next()?.as_bytes());
    for part in parts {
        let byte = u8::from_str_radix(part.get(..2)?, 16).ok()?;
        bytes.push(byte);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

/// A NATS server without a subject or a stream: `nats://[USER:PASSWORD@]HOST[:PORT][?ca=FILE]`. Printed without user, password and
/// options.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NatsServer(NatsUrl);

/// Why a text is no such URL. The message does not repeat the text, which may contain a password.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid NATS URL: {0}; expected nats://HOST:PORT")]
pub struct NatsServerError(String);

impl NatsServer {
    /// Returns the URL to connect to.
    pub fn url(&self) -> &NatsUrl {
        &self.0
    }
}

impl FromStr for NatsServer {
    type Err = NatsServerError;

    fn from_str(text: &str) -> Result<Self, NatsServerError> {
        let (text, options) = text.split_at(text.find('?').unwrap_or(text.len()));
        let text = text.strip_suffix('/').unwrap_or(text);
        let host = text.strip_prefix("nats://").unwrap_or(text);
        if host.contains('/') {
            let why = "a name after the host has no use here";
            return Err(NatsServerError(why.to_owned()));
        }
        let url = format!("{text}/echoic{options}").parse();
        let url: NatsUrl = url.map_err(|NatsUrlError(why)| NatsServerError(why))?;
        if url.replicas().is_some() {
            let why = "a server without a name has no replicas";
            return Err(NatsServerError(why.to_owned()));
        }
        Ok(Self(url))
    }
}

impl fmt::Display for NatsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.server())
    }
}

impl fmt::Display for NatsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.server(), self.name)
    }
}

impl fmt::Debug for NatsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_names_server_and_subject() {
        for (text, printed) in [
            ("nats://db:4300/upper", "nats://db:4300/upper"),
            ("nats://db/a.b-c_1", "nats://db:4222/a.b-c_1"),
            ("nats://[::1]:9/x", "nats://[::1]:9/x"),
            ("nats://a,b:7,[::1]/x", "nats://a:4222,b:7,[::1]:4222/x"),
            ("nats://db/x?replicas=3", "nats://db:4222/x"),
        ] {
            assert_eq!(text.parse::<NatsUrl>().unwrap().to_string(), printed);
        }
    }

    #[test]
    fn url_of_a_cluster_has_hosts_and_replicas() {
        let url: NatsUrl = "nats://me:a,b%2C@h1,h2:2/x?replicas=3".parse().unwrap();
        assert_eq!(url.replicas(), Some(3));
        let servers: Vec<_> = url.servers().collect();
        assert_eq!(servers, ["nats://h1:4222", "nats://h2:2"]);
        assert!(url.login() == Some(&Login::Password("me".into(), "a,b,".into())));
        assert_eq!("nats://h1/x".parse::<NatsUrl>().unwrap().replicas(), None);
        let url: NatsUrl = "nats://h1/x?replicas=1&ca=/a%20b.pem".parse().unwrap();
        assert_eq!(url.ca(), Some(Path::new("/a b.pem")));
        let server: NatsServer = "nats://h1:1/?ca=b.pem".parse().unwrap();
        assert_eq!(server.url().ca(), Some(Path::new("b.pem")));
        assert_eq!(server.to_string(), "nats://h1:1");
    }

    #[test]
    fn login_is_read_and_never_printed() {
        let url: NatsUrl = "nats://me:p%40ss%2F@db:1/x".parse().unwrap();
        let login = Login::Password("me".into(), "p@ss/".into());
        assert!(url.login() == Some(&login));
        assert_eq!(format!("{url} {url:?}"), "nats://db:1/x nats://db:1/x");
        let url: NatsUrl = "nats://secret@db:1/x".parse().unwrap();
        assert!(url.login() == Some(&Login::Token("secret".into())));
        for wrong in [
            "nats://me:hidden@/x",
            "nats://me:hidden@db/",
            "nats://me:hidden@db/a b",
            "nats://me:hidden@db:x/a",
            "nats://me:hidden%@db/a",
            "nats://me:hidden@db,/a",
            "nats://me:hidden@db,db2:x/a",
            "nats://me:hidden@db/a?replicas=x",
        ] {
            let error = wrong.parse::<NatsUrl>().unwrap_err().to_string();
            assert!(!error.contains("hidden"), "{error}");
        }
    }

    #[test]
    fn server_has_a_host_and_no_name() {
        for text in ["nats://db", "nats://db/", "nats://me:hidden@db:4222"] {
            let server: NatsServer = text.parse().unwrap();
            assert_eq!(server.to_string(), "nats://db:4222");
        }
        for (text, why) in [
            ("nats://", "host"),
            ("nats://hidden@db/x", "no use here"),
            ("db:4222", "begin with nats://"),
            ("nats://hidden@db?x", "its options are"),
            ("nats://hidden@db?replicas=3", "has no replicas"),
        ] {
            let error = text.parse::<NatsServer>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
            assert!(error.ends_with("expected nats://HOST:PORT"), "{error}");
            assert!(!error.contains("hidden"), "{error}");
        }
    }

    #[test]
    fn url_without_host_or_name_is_refused() {
        for (text, why) in [
            ("nats://", "host"),
            ("nats:///x", "host"),
            ("nats://db", "the name after the host is missing"),
            ("nats://db/", "the name after the host is missing"),
            ("nats://db/a/b", "letters, digits"),
            ("nats://db/a..b", "letters, digits"),
            ("nats://db/>", "letters, digits"),
            ("nats://db,/x", "host"),
            ("nats://db/x?y", "its options are ?replicas=N and ?ca=FILE"),
            ("nats://db/x?ca=", "ca is not the path of a file"),
            ("nats://db/x?creds=f", "nkeys are not supported: put user"),
            (
                "nats://db/x?replicas=6",
                "replicas is not a number from 1 to 5",
            ),
            (
                "nats://db/x?replicas=0",
                "replicas is not a number from 1 to 5",
            ),
            ("nats://db/x#y", "it has a #"),
            ("http://db/x", "begin with nats://"),
        ] {
            let error = text.parse::<NatsUrl>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
            assert!(error.ends_with("expected nats://HOST:PORT/NAME"), "{error}");
        }
    }
}
