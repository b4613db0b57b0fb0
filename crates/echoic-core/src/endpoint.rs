//! A place to listen or to dial, always something one can type.
//!
//! [`Endpoint`] is parsed once, at the edge; whatever holds one holds a valid one. Printing gives the long
//! form, and parsing what was printed gives the same endpoint back (a property test below).

use std::{fmt, net::IpAddr, str::FromStr};

use thiserror::Error;

/// A place to listen or to dial.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `tcp://HOST:PORT`, short `PORT`, `:PORT` or `HOST:PORT`.
    Tcp(HostPort),
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
    /// No host given: both loopbacks, 127.0.0.1 and `::1`. A service opened to the world by accident is
    /// the worse surprise, so everywhere has to be asked for ([`Host::Any`]).
    Loopback,
    /// `*`: every interface, both families.
    Any,
    /// A literal address; IPv6 in brackets.
    Ip(IpAddr),
    /// A name the resolver is asked for; letters, digits, `-`, `.` and `_`, at most 253 bytes (RFC 1035).
    Name(String),
}

/// `[NAME=]ENDPOINT` as `serve` takes it: which service answers there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The service named before `=`; none means the default.
    pub service: Option<String>,
    /// Where it listens.
    pub endpoint: Endpoint,
}

/// Why a text is no endpoint. The text itself is part of the message, quoted, so that the reader sees which.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text:?} is no endpoint: {why}")]
pub struct EndpointError {
    text: String,
    why: Why,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
enum Why {
    #[error("it is empty; write a port like 5000, or HOST:PORT")]
    Empty,
    #[error("it has no port; write HOST:PORT, for example localhost:5000")]
    NoPort,
    #[error("{0:?} is no port; a port is a number from 0 to 65535")]
    Port(String),
    #[error("{0:?} is no host name or address")]
    Host(String),
    #[error("an IPv6 address stands in brackets: [{}]:PORT", .0.escape_debug())]
    Unbracketed(String),
    #[error("the bracket is not closed; write [ADDRESS]:PORT")]
    Bracket,
    #[error("{}:// is not spoken here; tcp:// is", .0.escape_debug())]
    Scheme(String),
    #[error("nothing may follow the port; {0:?} is left over")]
    Left(String),
}

impl Endpoint {
    /// The word before `://`, also used for `proto:` and `ep:` in filters.
    pub fn scheme(&self) -> &'static str {
        match self {
            Self::Tcp(_) => "tcp",
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        parse(text).map_err(|why| EndpointError {
            text: text.to_owned(),
            why,
        })
    }
}

impl FromStr for Served {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let is_name = |name: &str| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        match text.split_once('=') {
            Some((name, rest)) if is_name(name) => Ok(Self {
                service: Some(name.to_owned()),
                endpoint: rest.parse()?,
            }),
            _ => Ok(Self {
                service: None,
                endpoint: text.parse()?,
            }),
        }
    }
}

fn parse(text: &str) -> Result<Endpoint, Why> {
    if text.is_empty() {
        return Err(Why::Empty);
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        return match scheme {
            "tcp" => Ok(Endpoint::Tcp(HostPort::parse(rest)?)),
            _ => Err(Why::Scheme(scheme.to_owned())),
        };
    }
    if let Some(path) = text
        .strip_prefix("unix:")
        .or_else(|| text.contains('/').then_some(text))
    {
        return Err(if path.is_empty() {
            Why::Empty
        } else {
            Why::Scheme("unix".to_owned())
        });
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(Endpoint::Tcp(HostPort {
            host: Host::Loopback,
            port: port(text)?,
        }));
    }
    Ok(Endpoint::Tcp(HostPort::parse(text)?))
}

impl HostPort {
    fn parse(text: &str) -> Result<Self, Why> {
        if let Some(rest) = text.strip_prefix('[') {
            let (inside, after) = rest.split_once(']').ok_or(Why::Bracket)?;
            let ip = inside.parse().map_err(|_| Why::Host(inside.to_owned()))?;
            let digits = after.strip_prefix(':').ok_or(Why::NoPort)?;
            return Ok(Self {
                host: Host::Ip(IpAddr::V6(ip)),
                port: port(digits)?,
            });
        }
        let (host, digits) = text.rsplit_once(':').ok_or(Why::NoPort)?;
        if host.contains(':') {
            return Err(Why::Unbracketed(host.to_owned()));
        }
        Ok(Self {
            host: Host::parse(host)?,
            port: port(digits)?,
        })
    }
}

impl Host {
    fn parse(text: &str) -> Result<Self, Why> {
        let label = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        match text {
            "" => Ok(Self::Loopback),
            "*" => Ok(Self::Any),
            _ => match text.parse() {
                Ok(ip) => Ok(Self::Ip(ip)),
                Err(_)
                    if text.len() <= 253 && text.bytes().all(label) && !text.starts_with('-') =>
                {
                    Ok(Self::Name(text.to_owned()))
                }
                Err(_) => Err(Why::Host(text.to_owned())),
            },
        }
    }
}

fn port(digits: &str) -> Result<u16, Why> {
    if digits.is_empty() {
        return Err(Why::NoPort);
    }
    let number: String = digits.chars().take_while(char::is_ascii_digit).collect();
    if number.is_empty() {
        return Err(Why::Port(digits.to_owned()));
    }
    if number.len() < digits.len() {
        return Err(Why::Left(digits[number.len()..].to_owned()));
    }
    number.parse().map_err(|_| Why::Port(number))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(at) => write!(f, "tcp://{at}"),
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
    fn short_forms_print_long(#[case] short: &str, #[case] long: &str) {
        assert_eq!(short.parse::<Endpoint>().unwrap().to_string(), long);
    }

    #[rstest]
    #[case("", "empty")]
    #[case("localhost", "no port")]
    #[case("localhost:", "no port")]
    #[case("70000", "0 to 65535")]
    #[case("::1:5000", "brackets: [::1]")]
    #[case("[::1:5000", "not closed")]
    #[case("a b:5000", "no host name")]
    #[case("host:http", "no port; a port is a number")]
    #[case("host:80/path", "unix:// is not spoken")]
    #[case("host:80x", "left over")]
    #[case("udp://:5000", "udp:// is not spoken")]
    #[case("./x.sock", "unix:// is not spoken")]
    #[case("a\x1b://b", r"a\u{1b}:// is not spoken")]
    #[case("a\n:b:1", r"brackets: [a\n:b]")]
    fn a_bad_one_says_why(#[case] text: &str, #[case] why: &str) {
        let said = text.parse::<Endpoint>().unwrap_err().to_string();
        assert!(said.contains(why), "{said}");
    }

    #[test]
    fn a_name_before_the_equals_sign_is_the_service() {
        let served: Served = "greet=:12345".parse().unwrap();
        assert_eq!(served.service.as_deref(), Some("greet"));
        assert_eq!(served.endpoint.to_string(), "tcp://:12345");
        assert_eq!("5000".parse::<Served>().unwrap().service, None);
    }

    fn endpoints() -> impl Strategy<Value = Endpoint> {
        let host = prop_oneof![
            Just(Host::Loopback),
            Just(Host::Any),
            any::<IpAddr>().prop_map(Host::Ip),
            "[a-z][a-z0-9.-]{0,20}".prop_map(Host::Name),
        ];
        (host, any::<u16>()).prop_map(|(host, port)| Endpoint::Tcp(HostPort { host, port }))
    }

    proptest! {
        #[test]
        fn parse_and_print_are_inverse(endpoint in endpoints()) {
            prop_assert_eq!(endpoint.to_string().parse::<Endpoint>().unwrap(), endpoint);
        }

        #[test]
        fn any_text_parses_or_says_why_on_one_line(text in r"(?s).{0,60}|[\x00-\x7f]{0,9}(://|:)[\x00-\x7f]{0,9}") {
            match text.parse::<Endpoint>() {
                Ok(endpoint) => prop_assert_eq!(endpoint.to_string().parse(), Ok(endpoint)),
                Err(error) => prop_assert!(!error.to_string().contains(char::is_control), "{error:?}"),
            }
        }
    }
}
