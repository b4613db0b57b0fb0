//! Names to addresses, with a deadline.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    time::Duration,
};

use echoic_core::endpoint::{Host, HostPort};
use thiserror::Error;
use tokio::{net::lookup_host, runtime::Handle, time};

/// Reasons why a name was not resolved.
#[derive(Debug, Error)]
pub enum ResolveError {
    /// The resolver returned an error or no address.
    #[error("{host} could not be resolved: {source}")]
    Failed {
        /// The name.
        host: String,
        /// The resolver's error.
        source: io::Error,
    },
    /// The resolver did not answer in time.
    #[error("{host} could not be resolved: the resolver gave no answer within {timeout:?}")]
    TimedOut {
        /// The name.
        host: String,
        /// The limit that was exceeded.
        timeout: Duration,
    },
}

/// Returns this machine's name (gethostname(2)), for display: it distinguishes several servers. Do not listen on it.
///
/// # Errors
///
/// Those of the system, and a name that is not UTF-8.
pub fn host_name() -> io::Result<String> {
    dns_lookup::get_hostname()
}

/// Returns the addresses of `target`, in the order in which to try them. Never empty.
///
/// A name is resolved by the system (getaddrinfo(3)), so hosts file and resolver configuration apply as for other
/// programs. An empty host is both loopbacks, IPv4 first, since the tutorial's servers listen on 127.0.0.1. `*` is the
/// unspecified address of both families, which only makes sense for listening.
pub async fn resolve(
    target: &HostPort,
    timeout: Duration,
) -> Result<Vec<SocketAddr>, ResolveError> {
    resolve_with_timers(None, target, timeout).await
}

/// As [`resolve`], with the timers of another runtime if `timers` is given.
pub(crate) async fn resolve_with_timers(
    timers: Option<&Handle>,
    target: &HostPort,
    timeout: Duration,
) -> Result<Vec<SocketAddr>, ResolveError> {
    match &target.host {
        Host::Name(name) => lookup_name(timers, name, target.port, timeout).await,
        Host::Zoned(ip, zone) if interface_number(zone).is_none() => Err(ResolveError::Failed {
            host: format!("{ip}%{zone}"),
            source: io::Error::new(
                io::ErrorKind::NotFound,
                format!("this machine has no interface {zone}; `ip link` lists them"),
            ),
        }),
        host => Ok(literal_addresses(host, target.port)),
    }
}

/// Returns the number of an interface, which may be written as such (`if_nametoindex(3)`).
fn interface_number(zone: &str) -> Option<u32> {
    match zone.parse() {
        Ok(number) => Some(number),
        Err(_) => nix::net::if_::if_nametoindex(zone).ok(),
    }
}

/// Returns the addresses of a host that is not a name; none if the zone is no interface of this machine.
pub(crate) fn literal_addresses(host: &Host, port: u16) -> Vec<SocketAddr> {
    let both = |v4: Ipv4Addr, v6: Ipv6Addr| vec![IpAddr::V4(v4), IpAddr::V6(v6)];
    let ips = match host {
        Host::Loopback => both(Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST),
        Host::Any => both(Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED),
        Host::Ip(ip) => vec![*ip],
        Host::Zoned(ip, zone) => {
            let number = interface_number(zone);
            let addr = number.map(|number| SocketAddrV6::new(*ip, port, 0, number).into());
            return addr.into_iter().collect();
        }
        Host::Name(_) => vec![],
    };
    ips.into_iter()
        .map(|ip| SocketAddr::new(ip, port))
        .collect()
}

/// Returns whether `name` is `localhost` or a name below it. Both are the loopbacks if the system has no address for them:
/// a container may have no hosts file, and glibc knows no names below localhost (RFC 6761, 6.3).
pub(crate) fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let label = name.rsplit('.').next().unwrap_or(name);
    label.eq_ignore_ascii_case("localhost")
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
    let lookup = {
        let _entered = timers.map(Handle::enter);
        time::timeout(timeout, lookup_host((name, port)))
    };
    let found = lookup
        .await
        .map_err(|_| ResolveError::TimedOut {
            host: name.to_owned(),
            timeout,
        })
        .and_then(|found| found.map_err(failed));
    let found = match found {
        Err(_) if is_localhost(name) => return Ok(literal_addresses(&Host::Loopback, port)),
        found => found?,
    };
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

    async fn resolve_tcp(text: &str) -> Result<Vec<String>, ResolveError> {
        let Endpoint::Tcp(target) = text.parse().unwrap() else {
            unreachable!()
        };
        let addrs = resolve(&target, Duration::from_secs(5)).await?;
        Ok(addrs.iter().map(ToString::to_string).collect())
    }

    #[tokio::test]
    async fn empty_host_is_both_loopbacks_and_star_is_every_interface() {
        assert_eq!(resolve_tcp(":7").await.unwrap(), ["127.0.0.1:7", "[::1]:7"]);
        assert_eq!(resolve_tcp("*:7").await.unwrap(), ["0.0.0.0:7", "[::]:7"]);
        assert_eq!(resolve_tcp("[::1]:7").await.unwrap(), ["[::1]:7"]);
        assert!(
            resolve_tcp("localhost:7")
                .await
                .unwrap()
                .contains(&"127.0.0.1:7".to_owned())
        );
    }

    #[tokio::test]
    async fn names_below_localhost_are_the_loopbacks() {
        for name in ["app.localhost:7", "a.b.LocalHost.:7"] {
            let found = resolve_tcp(name).await.unwrap();
            assert!(
                found.contains(&"127.0.0.1:7".to_owned()),
                "{name}: {found:?}"
            );
        }
        for name in [
            "localhost.example",
            "notlocalhost",
            "localhost.localdomain",
            "",
        ] {
            assert!(!is_localhost(name), "{name}");
        }
    }

    #[tokio::test]
    async fn unresolved_name_is_in_the_error() {
        let error = resolve_tcp("no-such-host.invalid:7").await.unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("no-such-host.invalid could not be resolved"),
            "{error}"
        );
    }
}
