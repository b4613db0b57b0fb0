//! The value of `--health`.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use echoic_core::units::quoted;

/// Whether and where to serve the routes of health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HealthAddress {
    /// At this address. Port 0 picks a free one.
    At(SocketAddr),
    /// Not at all.
    Off,
}

const EXPECTED: &str =
    "expected a port (this machine only), IP:PORT, '*:PORT' (every interface) or off";

impl FromStr for HealthAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let invalid = || format!("invalid address {}: {EXPECTED}", quoted(text));
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        let port = port.parse().map_err(|_| invalid())?;
        let ip = match host {
            "" | "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            "*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            _ => match host
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'))
            {
                Some(ip) => ip.parse::<Ipv6Addr>().map(IpAddr::V6),
                None => host.parse::<Ipv4Addr>().map(IpAddr::V4),
            }
            .map_err(|_| invalid())?,
        };
        Ok(Self::At(SocketAddr::new(ip, port)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_is_on_loopback_unless_the_address_says_otherwise() {
        let at = |text: &str| Ok(HealthAddress::At(text.parse().unwrap()));
        for (text, expected) in [
            ("off", Ok(HealthAddress::Off)),
            ("8008", at("127.0.0.1:8008")),
            (":0", at("127.0.0.1:0")),
            ("localhost:1", at("127.0.0.1:1")),
            ("[::1]:8008", at("[::1]:8008")),
            ("*:8008", at("0.0.0.0:8008")),
            ("0.0.0.0:8008", at("0.0.0.0:8008")),
            ("[::]:8008", at("[::]:8008")),
            ("192.168.1.5:8008", at("192.168.1.5:8008")),
        ] {
            assert_eq!(text.parse(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "on",
            "localhost",
            "127.0.0.1",
            "::1:8008",
            "host:8008",
            "8008x",
            "99999",
        ] {
            let error = text.parse::<HealthAddress>().unwrap_err();
            assert!(error.contains(EXPECTED), "{error}");
        }
    }
}
