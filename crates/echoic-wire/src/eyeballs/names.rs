//! Name lookup by the system's resolver, one address family at a time.

use std::{
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    thread,
    time::Duration,
};

use dns_lookup::{AddrInfoHints, LookupError, LookupErrorKind, SockType, getaddrinfo};
use socket2::Domain;
use tokio::{sync::oneshot, time};

use super::Family;
use crate::{
    explain::{Call, Explain},
    resolve::is_localhost,
};

/// Reasons why a lookup found no address of a family, as far as getaddrinfo(3) reports them.
#[derive(Debug)]
pub enum LookupFailure {
    /// The name does not exist (`EAI_NONAME`).
    NoName,
    /// The name exists and has no address of this family (`EAI_NODATA`, `EAI_ADDRFAMILY`).
    NoAddress(Family),
    /// The resolver failed temporarily, or got no answer from its servers (`EAI_AGAIN`).
    TryAgain,
    /// The resolver did not answer in time.
    TimedOut,
    /// Any other error.
    Failed(io::Error),
}

impl fmt::Display for LookupFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoName => f.write_str("no such name"),
            Self::NoAddress(family) => write!(f, "no {family} address"),
            Self::TryAgain => f.write_str("the resolver failed or got no answer"),
            Self::TimedOut => f.write_str("no answer from the resolver"),
            Self::Failed(error) => write!(f, "{error}"),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V6 => "IPv6",
            Self::V4 => "IPv4",
        })
    }
}

/// Resolves `name` in one address family by the system, so that hosts file and resolver configuration apply as for
/// other programs. Never returns an empty list.
///
/// getaddrinfo(3) cannot be cancelled and may take half a minute. It runs on a detached thread, which a timeout or the
/// end of the program does not wait for.
pub async fn lookup_family(
    name: &str,
    port: u16,
    family: Family,
    timeout: Duration,
    explain: Option<&Explain>,
) -> Result<Vec<SocketAddr>, LookupFailure> {
    let (sender, receiver) = oneshot::channel();
    let host = name.to_owned();
    let spawned = thread::Builder::new()
        .name("resolve".into())
        .spawn(move || {
            // Fails if the lookup has timed out or was dropped.
            let _ = sender.send(getaddrinfo_family(&host, port, family));
        });
    let found = match spawned {
        Ok(_) => match time::timeout(timeout, receiver).await {
            Ok(Ok(found)) => found,
            Ok(Err(_)) => Err(LookupFailure::Failed(io::Error::other(
                "the resolver thread panicked",
            ))),
            Err(_) => Err(LookupFailure::TimedOut),
        },
        Err(error) => Err(LookupFailure::Failed(error)),
    };
    let found = found.or_else(|failure| loopback(name, port, family).ok_or(failure));
    if let Some(explain) = explain {
        let found_or_text = found
            .as_ref()
            .map_err(|failure| io::Error::other(format!("{failure} ({family})")));
        let result = found_or_text.as_ref().map(|addrs| addrs.as_slice());
        explain.report(Call::Resolve { host: name, result });
    }
    found
}

/// Returns the loopback address of a name that [`is_localhost`] and for which the system has no address.
fn loopback(name: &str, port: u16, family: Family) -> Option<Vec<SocketAddr>> {
    let ip = match family {
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
    };
    is_localhost(name).then(|| vec![SocketAddr::new(ip, port)])
}

fn getaddrinfo_family(
    name: &str,
    port: u16,
    family: Family,
) -> Result<Vec<SocketAddr>, LookupFailure> {
    let domain = match family {
        Family::V6 => Domain::IPV6,
        Family::V4 => Domain::IPV4,
    };
    let hints = AddrInfoHints {
        address: domain.into(),
        socktype: SockType::Stream.into(),
        ..AddrInfoHints::default()
    };
    let found = getaddrinfo(Some(name), None, Some(hints))
        .map_err(|error| lookup_failure(error, family))?;
    let mut addrs: Vec<SocketAddr> = Vec::new();
    for info in found {
        let mut addr = info.map_err(LookupFailure::Failed)?.sockaddr;
        addr.set_port(port);
        if !addrs.contains(&addr) {
            addrs.push(addr);
        }
    }
    if addrs.is_empty() {
        Err(LookupFailure::NoAddress(family))
    } else {
        Ok(addrs)
    }
}

/// The name has only addresses of another family (glibc, netdb.h).
const EAI_ADDRFAMILY: i32 = -9;

fn lookup_failure(error: LookupError, family: Family) -> LookupFailure {
    match error.kind() {
        LookupErrorKind::NoName => LookupFailure::NoName,
        LookupErrorKind::NoData => LookupFailure::NoAddress(family),
        LookupErrorKind::Again => LookupFailure::TryAgain,
        _ if error.error_num() == EAI_ADDRFAMILY => LookupFailure::NoAddress(family),
        _ => LookupFailure::Failed(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn local_name_resolves_in_the_requested_family() {
        let found = lookup_family("localhost", 7, Family::V4, SOON, None)
            .await
            .unwrap();
        assert_eq!(found, [SocketAddr::from(([127, 0, 0, 1], 7))]);
    }

    #[tokio::test]
    async fn name_below_localhost_is_the_loopback_of_each_family() {
        for (family, expected) in [(Family::V4, "127.0.0.1:7"), (Family::V6, "[::1]:7")] {
            let found = lookup_family("app.localhost", 7, family, SOON, None)
                .await
                .unwrap();
            assert_eq!(found, [expected.parse().unwrap()]);
        }
    }

    #[tokio::test]
    async fn literal_address_of_the_other_family_is_not_found() {
        let failure = lookup_family("127.0.0.1", 7, Family::V6, SOON, None)
            .await
            .unwrap_err();
        assert!(
            matches!(failure, LookupFailure::NoAddress(Family::V6)),
            "{failure:?}"
        );
    }

    #[tokio::test]
    async fn unresolvable_name_is_missing() {
        let failure = lookup_family("no-such-host.invalid", 7, Family::V4, SOON, None)
            .await
            .unwrap_err();
        // Without a network the resolver fails temporarily.
        assert!(
            matches!(
                failure,
                LookupFailure::NoName | LookupFailure::NoAddress(_) | LookupFailure::TryAgain
            ),
            "{failure:?}"
        );
    }
}
