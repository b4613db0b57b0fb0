//! The parser of endpoints.

use std::{ffi::OsString, net::IpAddr, os::unix::ffi::OsStringExt, str::FromStr};

use thiserror::Error;

use crate::units::quoted;

use super::{Endpoint, Host, HostPort, Located, Options, Served, UnixName};

/// Error from parsing an endpoint. The message quotes the text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid endpoint {}: {why}", quoted(text))]
pub struct EndpointError {
    text: String,
    why: Why,
}

impl EndpointError {
    /// Returns the service before the endpoint, if the error is that it has an argument.
    pub fn service_with_argument(&self) -> Option<&str> {
        match &self.why {
            Why::Argument(service) => Some(service),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
enum Why {
    #[error("it is empty; expected a port, for example 5000, or HOST:PORT")]
    Empty,
    #[error("it has no port; expected HOST:PORT, for example localhost:5000")]
    NoPort,
    #[error("invalid port {}: expected a number from 0 to 65535", quoted(.0))]
    Port(String),
    #[error("invalid host {}: expected a name or an address", quoted(.0))]
    Host(String),
    #[error("an IPv6 address must be in brackets: [{}]:PORT", .0.escape_debug())]
    Unbracketed(String),
    #[error(
        "invalid host {0}: a number with a leading zero is octal to some programs; leave the zero out"
    )]
    LeadingZero(String),
    #[error("missing ]; expected [ADDRESS]:PORT")]
    Bracket,
    #[error("invalid scheme {}: expected tcp://, udp://, tls://, unix:, unixgram: or fd:", .0.escape_debug())]
    Scheme(String),
    #[error("unexpected text {0:?} after the port")]
    Trailing(String),
    #[error("it has no path; expected unix:PATH, or unix:@NAME for the abstract namespace")]
    NoPath,
    #[error("it has no name after the @")]
    NoName,
    #[error("the name of an abstract socket must be UTF-8")]
    NotUtf8,
    #[error("the name of a Unix socket has at most {UNIX_NAME_MAX} bytes, and no zero byte")]
    UnixName,
    #[error("expected fd: and a number, the descriptor of an inherited socket")]
    Fd,
    #[error("invalid option {}: expected name=value, for example ?frame=line; in the path of a Unix socket, write %3F for ?", quoted(.0))]
    Option(String),
    #[error(
        "options (?name=value) are not allowed here; in the path of a Unix socket, write %3F for ?"
    )]
    Options,
    #[error("the service before an endpoint takes no argument, but {0:?} has one")]
    Argument(String),
}

/// Size of `sun_path`, less the zero byte that ends a path or begins an abstract name (unix(7)).
const UNIX_NAME_MAX: usize = 107;

/// Adds `text` to the error.
fn with_text<T>(text: &str, parsed: Result<T, Why>) -> Result<T, EndpointError> {
    parsed.map_err(|why| EndpointError {
        text: text.to_owned(),
        why,
    })
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let parsed = if text.contains('?') {
            Err(Why::Options)
        } else {
            parse_endpoint(text)
        };
        with_text(text, parsed)
    }
}

impl FromStr for Located {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        with_text(text, parse_located(text))
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
                located: rest.parse()?,
            }),
            _ => {
                let located =
                    text.parse()
                        .map_err(|error| match service_with_argument(text, is_name) {
                            Some(service) => EndpointError {
                                text: text.to_owned(),
                                why: Why::Argument(service.to_owned()),
                            },
                            None => error,
                        })?;
                Ok(Self {
                    service: None,
                    located,
                })
            }
        }
    }
}

/// Finds a service with an argument before the endpoint: `greet:hallo` in `greet:hallo=:5000`.
fn service_with_argument(text: &str, is_name: impl Fn(&str) -> bool) -> Option<&str> {
    let (service, _) = text.split_once('=')?;
    let (name, _) = service.split_once(':')?;
    (is_name(name) && !service.contains(['/', '?'])).then_some(service)
}

fn parse_located(text: &str) -> Result<Located, Why> {
    let (address, options) = text.split_once('?').unwrap_or((text, ""));
    let options: Result<Options, InvalidOption> = options.parse();
    let options = options.map_err(|InvalidOption(pair)| Why::Option(pair))?;
    Ok(Located {
        endpoint: parse_endpoint(address)?,
        options,
    })
}

/// Error of a part of [`Options`] that is no `name=value`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid option {}: expected name=value", quoted(.0))]
pub struct InvalidOption(String);

impl FromStr for Options {
    type Err = InvalidOption;

    /// Parses what follows `?`.
    fn from_str(text: &str) -> Result<Self, InvalidOption> {
        let mut pairs = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value).filter(|_| pair.contains('=') && !name.is_empty());
            let value = value.ok_or_else(|| InvalidOption(pair.to_owned()))?;
            pairs.push((name.to_owned(), value));
        }
        Ok(Self(pairs))
    }
}

/// Decodes `%XX` to bytes; `None` if it is malformed or the result is not UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        bytes.push(hex_pair(rest)?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}

fn parse_endpoint(text: &str) -> Result<Endpoint, Why> {
    if text.is_empty() {
        return Err(Why::Empty);
    }
    if let Some(name) = text.strip_prefix("unix:") {
        return Ok(Endpoint::Unix(unix_name(name)?));
    }
    if let Some(name) = text.strip_prefix("unixgram:") {
        return Ok(Endpoint::Unixgram(unix_name(name)?));
    }
    if let Some(number) = text.strip_prefix("fd:") {
        return number.parse().map(Endpoint::Fd).map_err(|_| Why::Fd);
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        return match scheme {
            "tcp" => Ok(Endpoint::Tcp(host_port(rest)?)),
            "udp" => Ok(Endpoint::Udp(host_port(rest)?)),
            "tls" => Ok(Endpoint::Tls(host_port(rest)?)),
            _ => Err(Why::Scheme(scheme.to_owned())),
        };
    }
    if text.contains('/') {
        return Ok(Endpoint::Unix(unix_name(text)?));
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(Endpoint::Tcp(HostPort {
            host: Host::Loopback,
            port: port(text)?,
        }));
    }
    Ok(Endpoint::Tcp(host_port(text)?))
}

fn unix_name(text: &str) -> Result<UnixName, Why> {
    let name = text.strip_prefix('@');
    let bytes = decode_lenient(name.unwrap_or(text));
    if bytes.len() > UNIX_NAME_MAX || bytes.contains(&0) {
        return Err(Why::UnixName);
    }
    match name {
        Some("") => Err(Why::NoName),
        Some(_) => String::from_utf8(bytes)
            .map(UnixName::Abstract)
            .map_err(|_| Why::NotUtf8),
        None if text.is_empty() => Err(Why::NoPath),
        None => Ok(UnixName::Path(OsString::from_vec(bytes).into())),
    }
}

/// Decodes `%XX` to bytes; a `%` that no two hexadecimal digits follow stands for itself.
fn decode_lenient(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (*first, hex_pair(tail)) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            (byte, _) => bytes.push(byte),
        }
    }
    bytes
}

/// Returns the byte that the first two hexadecimal digits are.
fn hex_pair(text: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (high, low) = (digit(*text.first()?)?, digit(*text.get(1)?)?);
    Some((high * 16 + low) as u8)
}

fn host_port(text: &str) -> Result<HostPort, Why> {
    if let Some(rest) = text.strip_prefix('[') {
        let (inside, after) = rest.split_once(']').ok_or(Why::Bracket)?;
        let invalid = || Why::Host(inside.to_owned());
        let host = match inside.split_once('%') {
            Some((ip, zone)) if is_zone(zone) => {
                Host::Zoned(ip.parse().map_err(|_| invalid())?, zone.to_owned())
            }
            Some(_) => return Err(invalid()),
            None => Host::Ip(IpAddr::V6(inside.parse().map_err(|_| invalid())?)),
        };
        let digits = after.strip_prefix(':').ok_or(Why::NoPort)?;
        return Ok(HostPort {
            host,
            port: port(digits)?,
        });
    }
    let (name, digits) = text.rsplit_once(':').ok_or(Why::NoPort)?;
    if name.contains(':') {
        return Err(Why::Unbracketed(name.to_owned()));
    }
    Ok(HostPort {
        host: host(name)?,
        port: port(digits)?,
    })
}

/// Whether `text` may be the name of an interface (at most 15 bytes on Linux) or its number.
fn is_zone(text: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':');
    (1..=15).contains(&text.len()) && text.bytes().all(is_part)
}

fn host(text: &str) -> Result<Host, Why> {
    let label = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    match text {
        "" => Ok(Host::Loopback),
        "*" => Ok(Host::Any),
        _ => match text.parse() {
            Ok(ip) => Ok(Host::Ip(ip)),
            Err(_) if has_leading_zero(text) => Err(Why::LeadingZero(text.to_owned())),
            Err(_) if text.len() <= 253 && text.bytes().all(label) && !text.starts_with('-') => {
                Ok(Host::Name(text.to_owned()))
            }
            Err(_) => Err(Why::Host(text.to_owned())),
        },
    }
}

/// Returns whether `text` has the form of an IPv4 address with a leading zero. getaddrinfo(3) reads 010.0.0.1 as 8.0.0.1,
/// and other programs read it as 10.0.0.1 (RFC 6943, 3.1.1).
fn has_leading_zero(text: &str) -> bool {
    let is_number = |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_digit());
    text.split('.').all(is_number) && text.split('.').any(|n| n.len() > 1 && n.starts_with('0'))
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
        return Err(Why::Trailing(digits[number.len()..].to_owned()));
    }
    number.parse().map_err(|_| Why::Port(number))
}
