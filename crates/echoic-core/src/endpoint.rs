//! A place to listen or to dial, always something one can type.
//!
//! An [`Endpoint`] is parsed once, at the edge; whatever holds one holds a valid one. Printing gives the long form, and
//! parsing what was printed gives the same endpoint back (a property test below).

mod parse;

use std::{fmt, net::IpAddr, path::PathBuf};

pub use parse::EndpointError;

/// A place to listen or to dial.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `tcp://HOST:PORT`, short `PORT`, `:PORT` or `HOST:PORT`.
    Tcp(HostPort),
    /// `udp://HOST:PORT`.
    Udp(HostPort),
    /// `unix:PATH`, short any text with a `/` in it; `unix:@NAME` in the abstract namespace. A stream.
    Unix(UnixName),
    /// `unixgram:PATH`, `unixgram:@NAME`: whole messages.
    Unixgram(UnixName),
    /// `fd:N`: a listening socket that was handed to this process, by systemd or a parent.
    Fd(u32),
}

/// The two halves of an internet address as people write it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// Where; what an empty host means is [`Host::Loopback`], not "everywhere".
    pub host: Host,
    /// 0 lets the system pick one when listening; nothing can be dialled at 0.
    pub port: u16,
}

/// The host half of an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// No host given: both loopbacks, 127.0.0.1 and `::1`. A service opened to the world by accident is the worse
    /// surprise, so everywhere has to be asked for ([`Host::Any`]).
    Loopback,
    /// `*`: every interface, both families.
    Any,
    /// A literal address; IPv6 in brackets.
    Ip(IpAddr),
    /// A name the resolver is asked for; letters, digits, `-`, `.` and `_`, at most 253 bytes (RFC 1035).
    Name(String),
}

/// Where a Unix socket is, at most 107 bytes (unix(7)).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UnixName {
    /// In the file system.
    Path(PathBuf),
    /// In Linux's abstract namespace: gone with its socket, and without permissions.
    Abstract(String),
}

/// An endpoint with its own options: `tcp://:5000?frame=line`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The place.
    pub endpoint: Endpoint,
    /// What is said after `?`: the words of the command line's `--options`, for this endpoint alone.
    pub options: Options,
}

/// `name=value` pairs after `?`, joined by `&`; in a value `%XX` is a byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options(pub Vec<(String, String)>);

/// `[NAME=]ENDPOINT` as `serve` takes it: which service answers there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The service named before `=`; none means the default.
    pub service: Option<String>,
    /// Where it listens.
    pub located: Located,
}

/// How bytes travel, whatever the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// A stream, divided into messages by a framing.
    Stream,
    /// Datagrams: one is one whole message.
    Datagrams,
    /// Whole messages over a connection that has an end (WebSocket).
    Messages,
}

impl Endpoint {
    /// The word before the colon, also used for `proto:` and `ep:` in filters.
    pub fn scheme(&self) -> &'static str {
        match self {
            Self::Tcp(_) => "tcp",
            Self::Udp(_) => "udp",
            Self::Unix(_) => "unix",
            Self::Unixgram(_) => "unixgram",
            Self::Fd(_) => "fd",
        }
    }

    /// How bytes travel there; an inherited socket has to be asked.
    pub fn shape(&self) -> Option<Shape> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => Some(Shape::Stream),
            Self::Udp(_) | Self::Unixgram(_) => Some(Shape::Datagrams),
            Self::Fd(_) => None,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme();
        match self {
            Self::Tcp(at) | Self::Udp(at) => write!(f, "{scheme}://{at}"),
            Self::Unix(name) | Self::Unixgram(name) => write!(f, "{scheme}:{name}"),
            Self::Fd(number) => write!(f, "{scheme}:{number}"),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        match host {
            Host::Loopback => write!(f, ":{port}"),
            Host::Any => write!(f, "*:{port}"),
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{port}"),
            Host::Ip(ip) => write!(f, "{ip}:{port}"),
            Host::Name(name) => write!(f, "{name}:{port}"),
        }
    }
}

impl fmt::Display for UnixName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Abstract(name) => write!(f, "@{name}"),
        }
    }
}

impl fmt::Display for Located {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.endpoint, self.options)
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, value)) in self.0.iter().enumerate() {
            write!(f, "{}{name}=", if i == 0 { '?' } else { '&' })?;
            for byte in value.bytes() {
                match byte {
                    b'&' | b'%' | b'?' | 0..=b' ' | 0x7f.. => write!(f, "%{byte:02X}")?,
                    _ => write!(f, "{}", char::from(byte))?,
                }
            }
        }
        Ok(())
    }
}

impl From<Endpoint> for Located {
    fn from(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            options: Options::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("5000", "tcp://:5000")]
    #[case(":5000", "tcp://:5000")]
    #[case("*:5000", "tcp://*:5000")]
    #[case("localhost:80", "tcp://localhost:80")]
    #[case("127.0.0.1:0", "tcp://127.0.0.1:0")]
    #[case("[::1]:7", "tcp://[::1]:7")]
    #[case("tcp://db.test:5432", "tcp://db.test:5432")]
    #[case("udp://:5000", "udp://:5000")]
    #[case("./x.sock", "unix:./x.sock")]
    #[case("unix:x.sock", "unix:x.sock")]
    #[case("unix:@echoic", "unix:@echoic")]
    #[case("unixgram:/run/x", "unixgram:/run/x")]
    #[case("fd:3", "fd:3")]
    fn short_endpoint_prints_in_long_form(#[case] short: &str, #[case] long: &str) {
        assert_eq!(short.parse::<Endpoint>().unwrap().to_string(), long);
    }

    #[rstest]
    #[case("", "empty")]
    #[case("localhost", "no port")]
    #[case("localhost:", "no port")]
    #[case("70000", "0 to 65535")]
    #[case("::1:5000", "brackets: [::1]")]
    #[case("[::1:5000", "not closed")]
    #[case("a b:5000", "invalid host \"a b\": expected a name")]
    #[case("host:http", "invalid port http: expected a number")]
    #[case("host:80x", "left over")]
    #[case("tls://:5000", "invalid scheme tls: expected tcp://")]
    #[case("unix:", "has no path")]
    #[case("unix:@", "has no name")]
    #[case("fd:x", "a number")]
    #[case("tcp://:5000?frame=line", "options")]
    fn invalid_endpoint_is_rejected_with_a_reason(#[case] text: &str, #[case] why: &str) {
        let said = text.parse::<Endpoint>().unwrap_err().to_string();
        assert!(said.contains(why), "{said}");
    }

    #[test]
    fn unix_path_is_limited_to_107_bytes() {
        let name = |len: usize| format!("unix:/{}", "x".repeat(len - 1)).parse::<Endpoint>();
        assert!(name(107).is_ok());
        assert!(name(108).unwrap_err().to_string().contains("107"));
    }

    #[test]
    fn service_name_precedes_the_equals_sign() {
        let served: Served = "greet=:12345?frame=line&idle-timeout=5s".parse().unwrap();
        assert_eq!(served.service.as_deref(), Some("greet"));
        assert_eq!(
            served.located.to_string(),
            "tcp://:12345?frame=line&idle-timeout=5s"
        );
        let error = "greet:hallo=:5000".parse::<Served>().unwrap_err();
        assert_eq!(error.service_with_argument(), Some("greet:hallo"));
        let error = "tcp://:x?frame=line".parse::<Served>().unwrap_err();
        let message = error.to_string();
        assert!(message.contains("invalid port x: expected a number"), "{message}");
        let served: Served = "5000?as=a=b%26".parse().unwrap();
        assert_eq!(served.service, None);
        assert_eq!(
            served.located.options.0,
            [("as".to_owned(), "a=b&".to_owned())]
        );
    }

    fn endpoints() -> impl Strategy<Value = Endpoint> {
        let host = prop_oneof![
            Just(Host::Loopback),
            Just(Host::Any),
            any::<IpAddr>().prop_map(Host::Ip),
            "[a-z][a-z0-9.-]{0,20}".prop_map(Host::Name),
        ];
        let at = (host, any::<u16>()).prop_map(|(host, port)| HostPort { host, port });
        let unix = prop_oneof![
            "[a-z./][a-z0-9./ -]{0,50}".prop_map(|path| UnixName::Path(path.into())),
            "[a-z0-9./ @-]{1,50}".prop_map(UnixName::Abstract),
        ];
        prop_oneof![
            at.clone().prop_map(Endpoint::Tcp),
            at.prop_map(Endpoint::Udp),
            unix.clone().prop_map(Endpoint::Unix),
            unix.prop_map(Endpoint::Unixgram),
            any::<u32>().prop_map(Endpoint::Fd),
        ]
    }

    proptest! {
        #[test]
        fn parse_and_print_are_inverse(endpoint in endpoints()) {
            prop_assert_eq!(endpoint.to_string().parse::<Endpoint>().unwrap(), endpoint);
        }

        #[test]
        fn parse_and_print_are_inverse_with_options(
            endpoint in endpoints(),
            options in prop::collection::vec(("[a-z][a-z-]{0,9}", ".{0,9}"), 0..4),
        ) {
            let located = Located { endpoint, options: Options(options) };
            prop_assert_eq!(located.to_string().parse::<Located>().unwrap(), located);
        }

        #[test]
        fn any_text_parses_or_gives_a_one_line_error(text in "(?s)(.{0,60}|.{0,9}(://|:[:a]|\\?).{0,9})") {
            match text.parse::<Located>() {
                Ok(located) => prop_assert_eq!(located.to_string().parse(), Ok(located)),
                Err(error) => prop_assert!(!error.to_string().contains(char::is_control)),
            }
        }
    }
}
