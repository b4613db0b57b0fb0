//! Values of `peer:`: addresses, networks, and addresses with a port.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use ipnet::IpNet;

/// A value of `peer:`, such as `10.0.0.0/8`, `::1`, `127.0.0.1:40000` or `[::1]:40000`.
///
/// IPv4-mapped IPv6 addresses (RFC 4291, section 2.5.5.2), which a dual-stack socket reports, count as IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    /// The network; bits past the prefix are zero.
    network: IpNet,
    port: Option<u16>,
}

impl Peer {
    /// Parses one value.
    pub fn new(text: &str) -> Option<Self> {
        if let Some((address, prefix)) = text.split_once('/') {
            let is_number = !prefix.is_empty() && prefix.bytes().all(|b| b.is_ascii_digit());
            return Self::network(
                address.parse().ok()?,
                prefix.parse().ok().filter(|_| is_number)?,
            );
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            let port = Some(address.port());
            return Self::host(address.ip()).map(|host| Self { port, ..host });
        }
        let bare = text
            .strip_prefix('[')
            .and_then(|inside| inside.strip_suffix(']'));
        match bare {
            Some(inside) => Self::host(IpAddr::V6(inside.parse().ok()?)),
            None => Self::host(text.parse().ok()?),
        }
    }

    fn host(address: IpAddr) -> Option<Self> {
        Self::network(address, if address.is_ipv4() { 32 } else { 128 })
    }

    fn network(address: IpAddr, prefix: u8) -> Option<Self> {
        let (network, prefix) = match (address, address.to_canonical()) {
            (IpAddr::V6(_), IpAddr::V4(mapped)) if (96..=128).contains(&prefix) => {
                (IpAddr::V4(mapped), prefix - 96)
            }
            _ => (address, prefix),
        };
        let network = IpNet::new(network, prefix).ok()?.trunc();
        Some(Self {
            network,
            port: None,
        })
    }

    /// Returns the first address of the network, or the single address.
    pub fn address(&self) -> IpAddr {
        self.network.addr()
    }

    /// Returns the prefix length: 32 or 128 for a single address.
    pub fn prefix(&self) -> u8 {
        self.network.prefix_len()
    }

    /// Returns the port, if one was given.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Whether the network and the port, if given, match `addr`.
    pub fn contains(&self, addr: SocketAddr) -> bool {
        self.network.contains(&addr.ip().to_canonical())
            && self.port.is_none_or(|port| port == addr.port())
    }

    fn is_host(&self) -> bool {
        self.network.prefix_len() == self.network.max_prefix_len()
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}", SocketAddr::new(self.address(), port)),
            None if self.is_host() => write!(f, "{}", self.address()),
            None => write!(f, "{}", self.network),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("127.0.0.1", "127.0.0.1:1", true)]
    #[case("127.0.0.1", "127.0.0.2:1", false)]
    #[case("127.0.0.1:5", "127.0.0.1:5", true)]
    #[case("127.0.0.1:5", "127.0.0.1:6", false)]
    #[case("10.1.2.3/8", "10.200.0.1:9", true)]
    #[case("10.0.0.0/8", "11.0.0.1:9", false)]
    #[case("0.0.0.0/0", "255.1.1.1:9", true)]
    #[case("0.0.0.0/0", "[::1]:9", false)]
    #[case("::/0", "[fe80::1]:9", true)]
    #[case("[::1]:4000", "[::1]:4000", true)]
    #[case("::1", "[::1]:4000", true)]
    #[case("127.0.0.0/8", "[::ffff:127.0.0.1]:4", true)]
    #[case("::ffff:127.0.0.1", "127.0.0.1:4", true)]
    #[case("::ffff:127.0.0.0/104", "127.9.9.9:4", true)]
    fn peer_filter_matches_addresses(
        #[case] item: &str,
        #[case] addr: SocketAddr,
        #[case] is_match: bool,
    ) {
        assert_eq!(Peer::new(item).unwrap().contains(addr), is_match);
    }

    #[rstest]
    fn invalid_peer_filter_is_rejected(
        #[values(
            "",
            "localhost",
            "10.",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "1.2.3.4:",
            "1.2.3.4:70000",
            "[1.2.3.4]",
            "10.0.0.0/8:5000",
            "::ffff:1.2.3.4/129"
        )]
        item: &str,
    ) {
        assert_eq!(Peer::new(item), None);
    }

    proptest! {
        #[test]
        fn parse_and_print_are_inverse(address: IpAddr, prefix in 0..=128_u8, port: Option<u16>) {
            let network = Peer::new(&format!("{address}/{prefix}"));
            let host = Peer::new(&address.to_string()).map(|host| Peer { port, ..host });
            for peer in network.into_iter().chain(host) {
                prop_assert_eq!(Peer::new(&peer.to_string()), Some(peer));
            }
        }

        #[test]
        fn network_contains_its_own_addresses(address: IpAddr, prefix in 0..=32_u8, port: u16) {
            let peer = Peer::new(&format!("{address}/{prefix}")).unwrap();
            prop_assert!(peer.contains(SocketAddr::new(address, port)) || address.to_canonical() != address);
        }
    }
}
