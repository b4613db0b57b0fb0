//! The value of `--console`.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use echoic_core::{endpoint::Options, units::quoted};

/// Whether and where to serve the web console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ConsoleChoice {
    /// At this address; it is an error if it is taken. Port 0 picks a free one.
    At(ConsoleAddress),
    /// Not at all.
    Off,
}

/// Where the console listens. Beyond loopback it has TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConsoleAddress {
    at: SocketAddr,
    tls: Option<TlsFiles>,
}

/// The files of a certificate and its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// The address of the console unless an option names another.
pub(crate) const DEFAULT_ADDRESS: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// The port of the console unless an option names another, or another process has it.
pub(crate) const DEFAULT_PORT: u16 = 8007;

impl ConsoleAddress {
    /// Where the socket is.
    pub(crate) fn socket(&self) -> SocketAddr {
        self.at
    }

    /// Its certificate, for TLS.
    pub(crate) fn tls(&self) -> Option<&TlsFiles> {
        self.tls.as_ref()
    }

    /// Whether other machines can reach it.
    pub(crate) fn is_beyond_loopback(&self) -> bool {
        !self.at.ip().is_loopback()
    }
}

/// Names the way to a console on loopback from another machine.
pub(crate) fn tunnel(port: u16) -> String {
    format!("leave it on loopback and reach it with ssh -L {port}:127.0.0.1:{port} HOST")
}

impl FromStr for ConsoleChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let invalid = |why: String| format!("invalid address {}: {why}", quoted(text));
        let (address, options) = text.split_once('?').unwrap_or((text, ""));
        let expected =
            "expected a port, 127.0.0.1:PORT, [::1]:PORT, 'ADDR:PORT?cert=FILE&key=FILE' or off";
        let at = socket(address).ok_or_else(|| invalid(expected.to_owned()))?;
        let tls = tls(options).map_err(invalid)?;
        let address = ConsoleAddress { at, tls };
        if address.is_beyond_loopback() && address.tls.is_none() {
            return Err(invalid(format!(
                "beyond loopback the console needs TLS and a password: add ?cert=FILE&key=FILE, and set ECHOIC_PASSWORD; or {}",
                tunnel(at.port())
            )));
        }
        Ok(Self::At(address))
    }
}

fn socket(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let ip = match host {
        "" | "localhost" => IpAddr::V4(DEFAULT_ADDRESS),
        "*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        _ => match host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
        {
            Some(ip) => ip.parse().map(Ipv6Addr::into).ok()?,
            None => host.parse().map(Ipv4Addr::into).ok()?,
        },
    };
    Some(SocketAddr::new(ip, port.parse().ok()?))
}

/// Parses the options: the files for TLS, both or none.
fn tls(options: &str) -> Result<Option<TlsFiles>, String> {
    let options: Options = options
        .parse()
        .map_err(|error: echoic_core::endpoint::InvalidOption| error.to_string())?;
    let (mut certificate, mut key) = (None, None);
    for (name, value) in options.0 {
        let file = match name.as_str() {
            "cert" => &mut certificate,
            "key" => &mut key,
            _ => {
                let name = quoted(&name);
                return Err(format!("unknown option {name}: expected cert and key"));
            }
        };
        if value.is_empty() {
            return Err(format!("?{name}= is empty; expected a file"));
        }
        *file = Some(PathBuf::from(value));
    }
    match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Some(TlsFiles { certificate, key })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(
            "?cert= is given and ?key= is not: add key=FILE, the private key of the certificate (it may be in the same file)"
                .to_owned(),
        ),
        (None, Some(_)) => Err(
            "?key= is given and ?cert= is not: add cert=FILE, the certificate of the key (it may be in the same file)"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, tls: Option<(&str, &str)>) -> ConsoleChoice {
        ConsoleChoice::At(ConsoleAddress {
            at: text.parse().unwrap(),
            tls: tls.map(|(certificate, key)| TlsFiles {
                certificate: certificate.into(),
                key: key.into(),
            }),
        })
    }

    #[test]
    fn console_is_a_loopback_address_an_address_with_a_certificate_or_off() {
        let files = Some(("c.pem", "k.pem"));
        for (text, expected) in [
            ("off", ConsoleChoice::Off),
            ("8007", at("127.0.0.1:8007", None)),
            (":0", at("127.0.0.1:0", None)),
            ("localhost:1", at("127.0.0.1:1", None)),
            ("127.0.0.9:8007", at("127.0.0.9:8007", None)),
            ("[::1]:8007", at("[::1]:8007", None)),
            (":8007?cert=c.pem&key=k.pem", at("127.0.0.1:8007", files)),
            ("*:8007?cert=c.pem&key=k.pem", at("0.0.0.0:8007", files)),
            ("[::]:1?key=k.pem&cert=c.pem", at("[::]:1", files)),
            ("192.0.2.1:1?cert=c.pem&key=k.pem", at("192.0.2.1:1", files)),
            (
                "*:1?cert=a%26b.pem&key=%2fc=d?.pem",
                at("0.0.0.0:1", Some(("a&b.pem", "/c=d?.pem"))),
            ),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn address_beyond_loopback_without_a_certificate_is_refused_and_a_tunnel_named() {
        for text in [
            "*:8007",
            "0.0.0.0:8007",
            "192.168.1.5:8007",
            "[::]:8007",
            "*:8007?",
        ] {
            let error = text.parse::<ConsoleChoice>().unwrap_err();
            for part in [
                "?cert=FILE&key=FILE",
                "ECHOIC_PASSWORD",
                "ssh -L 8007:127.0.0.1:8007",
            ] {
                assert!(error.contains(part), "{error}");
            }
        }
    }

    #[test]
    fn other_values_are_refused_with_what_is_wrong() {
        let expected = "expected a port";
        for (text, why) in [
            ("", expected),
            ("on", expected),
            ("localhost", expected),
            ("127.0.0.1", expected),
            ("::1:8007", expected),
            ("host:8007", expected),
            ("8007x", expected),
            ("?cert=a&key=b", expected),
            ("*:8007?cert=c.pem", "?cert= is given and ?key= is not"),
            ("8007?cert=c.pem", "?cert= is given and ?key= is not"),
            ("*:8007?key=k.pem", "?key= is given and ?cert= is not"),
            ("*:8007?cert=&key=k.pem", "?cert= is empty"),
            (
                "*:8007?cert=a&key=b&alpn=h2",
                "unknown option alpn: expected cert and key",
            ),
            ("*:8007?cert", "invalid option cert: expected name=value"),
        ] {
            let error = text.parse::<ConsoleChoice>().unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
