//! The hosts that a console answers as.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use axum::http::{HeaderMap, header};
use echoic_wire::TlsServer;

/// The address of ours that a connection has reached, as an extension of its requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReachedAt(pub(crate) IpAddr);

/// The values of Host that a console accepts: the names of loopback, the address that the client has reached, and with TLS the names
/// of the certificate. A host that an attacker has resolve to this machine is none of them.
#[derive(Debug)]
pub(crate) struct Hosts {
    bound: SocketAddr,
    tls: Option<Arc<TlsServer>>,
}

impl Hosts {
    pub(crate) fn new(bound: SocketAddr, tls: Option<Arc<TlsServer>>) -> Self {
        Self { bound, tls }
    }

    /// Whether the value of Host is one of them.
    pub(crate) fn accept(&self, host: &str, reached: Option<ReachedAt>) -> bool {
        let Some(name) = self.name_in(host) else {
            return false;
        };
        let ip = ip_of(name);
        let is_address = ip.is_some_and(|ip| {
            let is_reached = reached.is_some_and(|ReachedAt(at)| at == ip);
            let is_bound = self.bound.ip() == ip && !ip.is_unspecified();
            is_reached || is_bound || ["127.0.0.1", "::1"].iter().any(|own| own.parse() == Ok(ip))
        });
        is_address || name == "localhost" || self.certificate_has(name, ip)
    }

    /// Whether a request reached this console over TLS, under a name that is not that of the client's own machine. Browsers are to
    /// use TLS with such a name from then on.
    pub(crate) fn is_remote_tls(&self, headers: &HeaderMap, reached: Option<ReachedAt>) -> bool {
        let host = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        let is_remote = |host: &str| {
            let name = self.name_in(host).unwrap_or_default();
            let is_local = name == "localhost" || name.ends_with(".localhost");
            !is_local && !ip_of(name).is_some_and(|ip| ip.is_loopback())
        };
        self.tls.is_some() && host.is_some_and(|host| self.accept(host, reached) && is_remote(host))
    }

    /// Returns what the URL of this console and its Origin begin with.
    pub(crate) fn scheme(&self) -> &'static str {
        match self.tls {
            None => "http://",
            Some(_) => "https://",
        }
    }

    /// Returns a host that is accepted, for messages.
    pub(crate) fn example(&self) -> String {
        let port = self.bound.port();
        if self.bound.ip().is_unspecified() {
            let names = self.tls.as_ref().map(|tls| tls.certificate().names);
            let name = names.and_then(|names| names.into_iter().next());
            return format!("{}:{port}", name.as_deref().unwrap_or("localhost"));
        }
        self.bound.to_string()
    }

    /// Returns the name in a value of Host with our port. Browsers leave out the default port.
    fn name_in<'a>(&self, host: &'a str) -> Option<&'a str> {
        let port = self.bound.port();
        let default = if self.tls.is_some() { 443 } else { 80 };
        let named = host.strip_suffix(&port.to_string());
        match named.and_then(|rest| rest.strip_suffix(':')) {
            Some(name) => Some(name),
            None => (port == default).then_some(host),
        }
    }

    fn certificate_has(&self, name: &str, ip: Option<IpAddr>) -> bool {
        let names = self.tls.as_ref().map(|tls| tls.certificate().names);
        names.unwrap_or_default().iter().any(|own| match ip {
            Some(ip) => own.parse() == Ok(ip),
            None => covers(own, name),
        })
    }
}

/// Whether a name of a certificate covers a host name: `*` is one label, the first one (RFC 9525, section 6.3).
fn covers(own: &str, name: &str) -> bool {
    match own.strip_prefix("*.") {
        Some(parent) => name.split_once('.').is_some_and(|(label, rest)| {
            !label.is_empty() && !parent.is_empty() && rest.eq_ignore_ascii_case(parent)
        }),
        None => !own.is_empty() && own.eq_ignore_ascii_case(name),
    }
}

/// Returns the address that a host in a URL is, if it is one: an IPv6 address stands in brackets.
fn ip_of(name: &str) -> Option<IpAddr> {
    match name.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse().ok().map(Ipv6Addr::into),
        None => name.parse().ok().filter(IpAddr::is_ipv4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(bound: &str) -> Hosts {
        Hosts::new(bound.parse().unwrap(), None)
    }

    #[test]
    fn hosts_are_those_of_the_port_and_the_address() {
        let on_every = hosts("0.0.0.0:8007");
        assert!(!on_every.accept("0.0.0.0:8007", None));
        let hosts = hosts("127.0.0.9:8007");
        for (host, expected) in [
            ("localhost:8007", true),
            ("127.0.0.1:8007", true),
            ("127.0.0.9:8007", true),
            ("[::1]:8007", true),
            ("127.0.0.9", false),
            ("127.0.0.9:08007", false),
            ("127.0.0.9:8008", false),
            ("127.0.0.8:8007", false),
            ("::1:8007", false),
            ("0.0.0.0:8007", false),
            ("evil.example:8007", false),
            (":8007", false),
            ("", false),
        ] {
            assert_eq!(hosts.accept(host, None), expected, "{host}");
        }
        let reached = Some(ReachedAt("192.0.2.1".parse().unwrap()));
        assert!(hosts.accept("192.0.2.1:8007", reached));
        assert!(!hosts.accept("192.0.2.2:8007", reached));
    }

    #[test]
    fn default_port_may_be_left_out() {
        let hosts = hosts("127.0.0.1:80");
        assert!(hosts.accept("localhost", None) && hosts.accept("localhost:80", None));
        assert!(hosts.accept("[::1]", None) && !hosts.accept("localhost:8", None));
    }

    #[test]
    fn wildcard_of_a_certificate_is_one_label() {
        for (own, name, expected) in [
            ("db.example", "db.example", true),
            ("db.example", "DB.Example", true),
            ("*.example", "a.example", true),
            ("*.example", "a.b.example", false),
            ("*.example", ".example", false),
            ("*.example", "example", false),
            ("*.", "a.", false),
            ("", "", false),
        ] {
            assert_eq!(covers(own, name), expected, "{own} {name}");
        }
    }
}
