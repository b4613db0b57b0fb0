//! Addresses to listen on or to connect to, as typed on the command line.
//!
//! An [`Endpoint`] is parsed once, at the edge, and is valid from then on. It prints in the long form, which parses to
//! the same endpoint (property test below).

mod parse;

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

pub use parse::{EndpointError, InvalidOption};

/// An address to listen on or to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `tcp://HOST:PORT`, short `PORT`, `:PORT` or `HOST:PORT`.
    Tcp(HostPort),
    /// `udp://HOST:PORT`.
    Udp(HostPort),
    /// `unix:PATH`, short any text with a `/` in it; `unix:@NAME` in the abstract namespace. A stream socket.
    Unix(UnixName),
    /// `unixgram:PATH`, `unixgram:@NAME`: a datagram socket.
    Unixgram(UnixName),
    /// `tls://HOST:PORT`: TLS over TCP.
    Tls(HostPort),
    /// `fd:N`: a listening socket inherited from the parent process, such as systemd.
    Fd(u32),
}

/// `HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// The host. An empty one is [`Host::Loopback`], not every interface.
    pub host: Host,
    /// The port. When listening, 0 lets the system choose one; connecting to 0 is not possible.
    pub port: u16,
}

/// The host of an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// No host given: both loopback addresses, 127.0.0.1 and `::1`. Every interface must be requested explicitly
    /// ([`Host::Any`]), so that no service is exposed to the network by accident.
    Loopback,
    /// `*`: every interface, IPv4 and IPv6.
    Any,
    /// A literal address; IPv6 in brackets.
    Ip(IpAddr),
    /// An IPv6 address with its zone, `[fe80::1%eth0]`: link-local addresses are the same on every link, so the interface
    /// must be named, or its number (RFC 4007).
    Zoned(Ipv6Addr, String),
    /// A name to be resolved: letters, digits, `-`, `.` and `_`, at most 253 bytes (RFC 1035).
    Name(String),
}

/// The address of a Unix socket, at most 107 bytes (unix(7)).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UnixName {
    /// A path in the file system.
    Path(PathBuf),
    /// A name in Linux's abstract namespace. It disappears with its socket and has no permissions.
    Abstract(String),
}

/// An endpoint with options of its own: `tcp://:5000?frame=line`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The options after `?`. They have the names of the command line's flags and apply to this endpoint alone.
    pub options: Options,
}

/// `name=value` pairs after `?`, joined by `&`. In a value `%XX` is a byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options(pub Vec<(String, String)>);

/// `[NAME=]ENDPOINT` as `serve` accepts it: an endpoint and its service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The service named before `=`; `None` means the default service.
    pub service: Option<String>,
    /// The endpoint to listen on, with its options.
    pub located: Located,
}

/// How an endpoint transports bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// A stream, divided into messages by a framing.
    Stream,
    /// Datagrams, each of which is a message.
    Datagrams,
    /// Whole messages over a connection (WebSocket).
    Messages,
}

impl Endpoint {
    /// Returns the word before the colon, also used by `proto:` and `ep:` in filters.
    pub fn scheme(&self) -> &'static str {
        match self {
            Self::Tcp(_) => "tcp",
            Self::Udp(_) => "udp",
            Self::Unix(_) => "unix",
            Self::Unixgram(_) => "unixgram",
            Self::Tls(_) => "tls",
            Self::Fd(_) => "fd",
        }
    }

    /// Returns the host and port, if the endpoint has them.
    pub fn host_port(&self) -> Option<&HostPort> {
        match self {
            Self::Tcp(at) | Self::Udp(at) | Self::Tls(at) => Some(at),
            Self::Unix(_) | Self::Unixgram(_) | Self::Fd(_) => None,
        }
    }

    /// Returns how the endpoint transports bytes; `None` for an inherited socket, which must be queried.
    pub fn shape(&self) -> Option<Shape> {
        match self {
            Self::Tcp(_) | Self::Unix(_) | Self::Tls(_) => Some(Shape::Stream),
            Self::Udp(_) | Self::Unixgram(_) => Some(Shape::Datagrams),
            Self::Fd(_) => None,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme();
        match self {
            Self::Tcp(addr) | Self::Udp(addr) | Self::Tls(addr) => {
                write!(f, "{scheme}://{addr}")
            }
            Self::Unix(name) | Self::Unixgram(name) => {
                write!(f, "{scheme}:")?;
                name.write_encoded(f)
            }
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
            Host::Zoned(ip, zone) => write!(f, "[{ip}%{zone}]:{port}"),
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{port}"),
            Host::Ip(ip) => write!(f, "{ip}:{port}"),
            Host::Name(name) => write!(f, "{name}:{port}"),
        }
    }
}

impl From<SocketAddr> for HostPort {
    fn from(addr: SocketAddr) -> Self {
        let host = match addr {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => {
                Host::Zoned(*v6.ip(), v6.scope_id().to_string())
            }
            _ => Host::Ip(addr.ip()),
        };
        Self {
            host,
            port: addr.port(),
        }
    }
}

impl UnixName {
    /// Writes the name as part of an endpoint: `?`, which begins the options, `%` and bytes that are not UTF-8 are
    /// `%XX`.
    fn write_encoded(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = match self {
            Self::Path(path) => path.as_os_str().as_bytes(),
            Self::Abstract(name) => {
                f.write_str("@")?;
                name.as_bytes()
            }
        };
        for chunk in bytes.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '?' | '%' => write!(f, "%{:02X}", u32::from(character))?,
                    _ => write!(f, "{character}")?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "%{byte:02X}")?;
            }
        }
        Ok(())
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
    #[case("tls://:5443", "tls://:5443")]
    #[case("tls://[::1]:5443", "tls://[::1]:5443")]
    #[case("./x.sock", "unix:./x.sock")]
    #[case("unix:x.sock", "unix:x.sock")]
    #[case("unix:@echoic", "unix:@echoic")]
    #[case("unixgram:/run/x", "unixgram:/run/x")]
    #[case("fd:3", "fd:3")]
    #[case("[fe80::1%eth0]:7001", "tcp://[fe80::1%eth0]:7001")]
    #[case("udp://[fe80::1%3]:7", "udp://[fe80::1%3]:7")]
    #[case("unix:/tmp/a%3fb%3Dc", "unix:/tmp/a%3Fb=c")]
    #[case("./100%", "unix:./100%25")]
    #[case("unix:@a%25b", "unix:@a%25b")]
    #[case("unix:/%ff", "unix:/%FF")]
    fn short_endpoint_prints_in_long_form(#[case] short: &str, #[case] long: &str) {
        assert_eq!(short.parse::<Endpoint>().unwrap().to_string(), long);
    }

    #[rstest]
    #[case("", "empty")]
    #[case("localhost", "no port")]
    #[case("localhost:", "no port")]
    #[case("70000", "0 to 65535")]
    #[case("::1:5000", "must be in brackets: [::1]:PORT")]
    #[case("[::1:5000", "missing ]")]
    #[case("a b:5000", "invalid host \"a b\": expected a name")]
    #[case("010.0.0.1:5000", "a leading zero is octal to some programs")]
    #[case("127.0.0.01:5000", "a leading zero is octal to some programs")]
    #[case("host:http", "invalid port http: expected a number")]
    #[case("host:80x", "unexpected text \"x\" after the port")]
    #[case("ssl://:5000", "invalid scheme ssl: expected tcp://")]
    #[case("tls://", "no port")]
    #[case("unix:", "has no path")]
    #[case("unix:@", "has no name")]
    #[case("fd:x", "a number")]
    #[case("[fe80::1%]:7", "invalid host fe80::1%")]
    #[case("fe80::1%eth0:7", "must be in brackets: [fe80::1%eth0]:PORT")]
    #[case("unix:/a%00", "no zero byte")]
    #[case("unix:@%ff", "UTF-8")]
    #[case("tcp://:5000?frame=line", "options")]
    fn invalid_endpoint_is_rejected_with_a_reason(#[case] text: &str, #[case] why: &str) {
        let error = text.parse::<Endpoint>().unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
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
        assert!(
            message.contains("invalid port x: expected a number"),
            "{message}"
        );
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
            (any::<Ipv6Addr>(), "[a-z0-9.:_-]{1,15}").prop_map(|(ip, zone)| Host::Zoned(ip, zone)),
            "[a-z][a-z0-9.-]{0,20}".prop_map(Host::Name),
        ];
        let addr = (host, any::<u16>()).prop_map(|(host, port)| HostPort { host, port });
        let unix = prop_oneof![
            "[a-z./][a-z0-9./ ?%=&-]{0,50}".prop_map(|path| UnixName::Path(path.into())),
            "[a-z0-9./ @?%=&-]{1,50}".prop_map(UnixName::Abstract),
        ];
        prop_oneof![
            addr.clone().prop_map(Endpoint::Tcp),
            addr.clone().prop_map(Endpoint::Udp),
            addr.prop_map(Endpoint::Tls),
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
