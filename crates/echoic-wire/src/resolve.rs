//! Names to addresses, with a deadline.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use echoic_core::endpoint::{Host, HostPort};
use thiserror::Error;
use tokio::{net::lookup_host, runtime::Handle, time};

/// A name that led nowhere.
#[derive(Debug, Error)]
pub enum ResolveError {
    /// The resolver's answer was no.
    #[error("{host} could not be resolved: {source}")]
    Failed {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// The resolver said nothing in time.
    #[error("{host} could not be resolved: the resolver gave no answer within {timeout:?}")]
    TimedOut {
        /// The name.
        host: String,
        /// How long was waited.
        timeout: Duration,
    },
}

/// This machine's own name (gethostname(2)): to be shown, so that one of several servers can be told from the others.
/// It is no address to listen on.
///
/// # Errors
/// Of the system; and a name that is no UTF-8.
pub fn host_name() -> io::Result<String> {
    dns_lookup::get_hostname()
}

/// The addresses of `at`, in the order in which they are to be tried. Never empty.
///
/// A name is asked of the system (getaddrinfo(3)), so the answer is what other programs get too: hosts file,
/// resolver configuration and all. No host is both loopbacks, IPv4 first, since the tutorial's servers listen
/// on 127.0.0.1; `*` is every address of both families, which only makes sense for listening.
pub async fn resolve(at: &HostPort, timeout: Duration) -> Result<Vec<SocketAddr>, ResolveError> {
    resolve_with_timers(None, at, timeout).await
}

/// The same by the timers of another runtime than the one this is called on, if one is given.
pub(crate) async fn resolve_with_timers(
    timers: Option<&Handle>,
    at: &HostPort,
    timeout: Duration,
) -> Result<Vec<SocketAddr>, ResolveError> {
    match &at.host {
        Host::Name(name) => lookup_name(timers, name, at.port, timeout).await,
        host => Ok(literal_addresses(host, at.port)),
    }
}

/// The addresses of what is no name.
pub(crate) fn literal_addresses(host: &Host, port: u16) -> Vec<SocketAddr> {
    let both = |v4: Ipv4Addr, v6: Ipv6Addr| vec![IpAddr::V4(v4), IpAddr::V6(v6)];
    let ips = match host {
        Host::Loopback => both(Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST),
        Host::Any => both(Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED),
        Host::Ip(ip) => vec![*ip],
        Host::Name(_) => vec![],
    };
    ips.into_iter()
        .map(|ip| SocketAddr::new(ip, port))
        .collect()
}

async fn lookup_name(
    timers: Option<&Handle>,
    name: &str,
    port: u16,
    timeout: Duration,
) -> Result<Vec<SocketAddr>, ResolveError> {
    let failed = |source| ResolveError::Failed {
        host: name.to_owned(),
        source,
    };
    let looking = {
        let _theirs = timers.map(Handle::enter);
        time::timeout(timeout, lookup_host((name, port)))
    };
    let found = looking
        .await
        .map_err(|_| ResolveError::TimedOut {
            host: name.to_owned(),
            timeout,
        })?
        .map_err(failed)?;
    let mut addrs: Vec<SocketAddr> = Vec::new();
    for addr in found {
        if !addrs.contains(&addr) {
            addrs.push(addr);
        }
    }
    if addrs.is_empty() {
        return Err(failed(io::Error::new(
            io::ErrorKind::NotFound,
            "the name has no address",
        )));
    }
    Ok(addrs)
}

#[cfg(test)]
mod tests {
    use echoic_core::endpoint::Endpoint;

    use super::*;

    async fn resolved(text: &str) -> Result<Vec<String>, ResolveError> {
        let Endpoint::Tcp(at) = text.parse().unwrap() else {
            unreachable!()
        };
        let addrs = resolve(&at, Duration::from_secs(5)).await?;
        Ok(addrs.iter().map(ToString::to_string).collect())
    }

    #[tokio::test]
    async fn empty_host_is_both_loopbacks_and_star_is_every_interface() {
        assert_eq!(resolved(":7").await.unwrap(), ["127.0.0.1:7", "[::1]:7"]);
        assert_eq!(resolved("*:7").await.unwrap(), ["0.0.0.0:7", "[::]:7"]);
        assert_eq!(resolved("[::1]:7").await.unwrap(), ["[::1]:7"]);
        assert!(
            resolved("localhost:7")
                .await
                .unwrap()
                .contains(&"127.0.0.1:7".to_owned())
        );
    }

    #[tokio::test]
    async fn unresolved_name_is_in_the_error() {
        let error = resolved("no-such-host.invalid:7").await.unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("no-such-host.invalid could not be resolved"),
            "{error}"
        );
    }
}
