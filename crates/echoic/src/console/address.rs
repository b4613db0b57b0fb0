//! The value of `--console`.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use echoic_core::units::quoted;

/// Whether and where to serve the web console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConsoleChoice {
    /// At this address; it is an error if it is taken. Port 0 picks a free one.
    At(SocketAddr),
    /// Not at all.
    Off,
}

/// The address of the console unless an option names another.
pub(crate) const DEFAULT_ADDRESS: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// The port of the console unless an option names another, or another process has it.
pub(crate) const DEFAULT_PORT: u16 = 8007;

impl FromStr for ConsoleChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let invalid = |why: &str| format!("invalid address {}: {why}", quoted(text));
        let expected = "expected a port, 127.0.0.1:PORT, [::1]:PORT or off";
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        let Ok(port) = port.parse() else {
            return Err(invalid(expected));
        };
        let ip = match host {
            "" | "localhost" => IpAddr::V4(DEFAULT_ADDRESS),
            "*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            _ => match host
                .strip_prefix('[')
                .and_then(|host| host.strip_suffix(']'))
            {
                Some(ip) => ip.parse::<Ipv6Addr>().map(IpAddr::V6),
                None => host.parse::<Ipv4Addr>().map(IpAddr::V4),
            }
            .map_err(|_| invalid(expected))?,
        };
        if !ip.is_loopback() {
            return Err(invalid(&format!(
                "the console has no TLS yet, so it listens on loopback only; reach it from another machine with \
                 ssh -L {port}:127.0.0.1:{port} HOST"
            )));
        }
        Ok(Self::At(SocketAddr::new(ip, port)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn console_is_a_loopback_address_or_off() {
        let at = |text: &str| Ok(ConsoleChoice::At(text.parse().unwrap()));
        for (text, expected) in [
            ("off", Ok(ConsoleChoice::Off)),
            ("8007", at("127.0.0.1:8007")),
            (":0", at("127.0.0.1:0")),
            ("localhost:1", at("127.0.0.1:1")),
            ("127.0.0.9:8007", at("127.0.0.9:8007")),
            ("[::1]:8007", at("[::1]:8007")),
        ] {
            assert_eq!(text.parse(), expected, "{text}");
        }
    }

    #[test]
    fn other_addresses_are_refused_and_the_error_names_a_tunnel() {
        for text in ["*:8007", "0.0.0.0:8007", "192.168.1.5:8007", "[::]:8007"] {
            let error = text.parse::<ConsoleChoice>().unwrap_err();
            assert!(error.contains("ssh -L 8007:127.0.0.1:8007"), "{error}");
        }
        for text in [
            "",
            "on",
            "localhost",
            "127.0.0.1",
            "::1:8007",
            "host:8007",
            "8007x",
        ] {
            let error = text.parse::<ConsoleChoice>().unwrap_err();
            assert!(error.contains("expected a port"), "{error}");
        }
    }
}
