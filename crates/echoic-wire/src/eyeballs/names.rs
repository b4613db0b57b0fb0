//! What the system's resolver says of a name, one family at a time.

use std::{fmt, io, net::SocketAddr, thread, time::Duration};

use dns_lookup::{AddrInfoHints, LookupError, LookupErrorKind, SockType, getaddrinfo};
use socket2::Domain;
use tokio::{sync::oneshot, time};

use super::Family;
use crate::explain::{Call, Explain};

/// Why a name has no address of a family, as far as getaddrinfo(3) tells.
#[derive(Debug)]
pub enum LookupFailure {
    /// There is no such name (`EAI_NONAME`).
    NoName,
    /// The name is there, and has no address of this family (`EAI_NODATA`, `EAI_ADDRFAMILY`).
    NoAddress(Family),
    /// The resolver failed, or got no answer from those it asked, and may do better later (`EAI_AGAIN`).
    TryAgain,
    /// The resolver has said nothing yet, and was waited for no longer.
    TimedOut,
    /// Anything else.
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

/// Asks the system for the addresses of `name` in one family, as other programs would: hosts file, resolver
/// configuration and all. Never gives an empty list.
///
/// getaddrinfo(3) cannot be called off and may take half a minute, so it runs on a thread that nobody waits for, not
/// even at the end of the program: whoever stops waiting here is free at once.
pub async fn lookup_family(
    name: &str,
    port: u16,
    family: Family,
    timeout: Duration,
    explain: Option<&Explain>,
) -> Result<Vec<SocketAddr>, LookupFailure> {
    let (tell, told) = oneshot::channel();
    let host = name.to_owned();
    let asked = thread::Builder::new()
        .name("resolve".into())
        .spawn(move || {
            // If nobody waits any more, nobody needs to know.
            let _ = tell.send(ask(&host, port, family));
        });
    let found = match asked {
        Ok(_) => match time::timeout(timeout, told).await {
            Ok(Ok(found)) => found,
            Ok(Err(_)) => Err(LookupFailure::Failed(io::Error::other(
                "the resolver broke down",
            ))),
            Err(_) => Err(LookupFailure::TimedOut),
        },
        Err(error) => Err(LookupFailure::Failed(error)),
    };
    if let Some(explain) = explain {
        let why = found
            .as_ref()
            .map_err(|missing| io::Error::other(format!("{missing} ({family})")));
        let result = why.as_ref().map(|addrs| addrs.as_slice());
        explain.report(Call::Resolve { host: name, result });
    }
    found
}

fn ask(name: &str, port: u16, family: Family) -> Result<Vec<SocketAddr>, LookupFailure> {
    let domain = match family {
        Family::V6 => Domain::IPV6,
        Family::V4 => Domain::IPV4,
    };
    let hints = AddrInfoHints {
        address: domain.into(),
        socktype: SockType::Stream.into(),
        ..AddrInfoHints::default()
    };
    let found =
        getaddrinfo(Some(name), None, Some(hints)).map_err(|error| missing(error, family))?;
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

/// glibc's word for a name that only has addresses of another family (netdb.h).
const EAI_ADDRFAMILY: i32 = -9;

fn missing(error: LookupError, family: Family) -> LookupFailure {
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
    async fn literal_address_of_the_other_family_is_not_found() {
        let missing = lookup_family("127.0.0.1", 7, Family::V6, SOON, None)
            .await
            .unwrap_err();
        assert!(
            matches!(missing, LookupFailure::NoAddress(Family::V6)),
            "{missing:?}"
        );
    }

    #[tokio::test]
    async fn unresolvable_name_is_missing() {
        let missing = lookup_family("no-such-host.invalid", 7, Family::V4, SOON, None)
            .await
            .unwrap_err();
        // On a machine without a network the resolver cannot know.
        assert!(
            matches!(
                missing,
                LookupFailure::NoName | LookupFailure::NoAddress(_) | LookupFailure::TryAgain
            ),
            "{missing:?}"
        );
    }
}
