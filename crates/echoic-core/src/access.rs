//! Access control by source address: `--allow` and `--deny`.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use thiserror::Error;

use crate::{event::Address, units::quoted};

/// A network: an address and a prefix length. A single address is a network whose prefix is the whole address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(IpNet);

/// Error from parsing a [`Network`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid network {}: expected an address, or a network like 10.0.0.0/8 or fe80::/10", quoted(.0))]
pub struct NetworkError(String);

/// The networks that may connect and those that may not. With both lists empty, every peer is admitted. A denied
/// network is rejected even if it is allowed too. If any network is allowed, all others are rejected. Peers on Unix
/// sockets are always admitted: the permissions of the socket file decide there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessList {
    /// If not empty, only these networks are admitted.
    pub allow: Vec<Network>,
    /// Networks that are never admitted.
    pub deny: Vec<Network>,
}

impl Network {
    /// Whether `ip` is in the network. An IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2) counts as the IPv4
    /// address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.contains(&ip.to_canonical())
    }
}

impl AccessList {
    /// Whether a connection or datagram from `peer` is admitted.
    pub fn admits(&self, peer: &Address) -> bool {
        let Address::Net(addr) = peer else {
            return true;
        };
        let is_in =
            |networks: &[Network]| networks.iter().any(|network| network.contains(addr.ip()));
        !is_in(&self.deny) && (self.allow.is_empty() || is_in(&self.allow))
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let address = || text.parse::<IpAddr>().map(IpNet::from);
        let network = text.parse::<IpNet>().or_else(|_| address());
        network.map(Self).map_err(|_| NetworkError(text.to_owned()))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn admits(allow: &[&str], deny: &[&str], peer: &str) -> bool {
        let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let access = AccessList {
            allow: networks(allow),
            deny: networks(deny),
        };
        access.admits(&Address::Net(format!("{peer}:1").parse().unwrap()))
    }

    #[test]
    fn deny_overrides_allow_and_allow_excludes_the_rest() {
        assert!(admits(&[], &[], "8.8.8.8"));
        assert!(admits(&["127.0.0.0/8"], &[], "127.1.2.3"));
        assert!(!admits(&["127.0.0.0/8"], &[], "128.0.0.1"));
        assert!(!admits(&["127.0.0.0/8"], &["127.0.0.2"], "127.0.0.2"));
        assert!(admits(&["0.0.0.0/0"], &[], "1.2.3.4") && !admits(&["0.0.0.0/0"], &[], "[::1]"));
        assert!(admits(&["::/0"], &[], "[::1]"));
        assert!(
            !admits(&[], &["127.0.0.1"], "[::ffff:127.0.0.1]"),
            "an IPv4-mapped address is the IPv4 address"
        );
        assert!(
            AccessList {
                allow: vec!["::1".parse().unwrap()],
                deny: vec![]
            }
            .admits(&Address::Unix(None))
        );
    }

    #[test]
    fn network_is_as_wide_as_its_prefix_says() {
        for (network, inside, outside) in [
            ("2001:db8::/32", "[2001:db8:ffff:ffff::1]", "[2001:db9::1]"),
            ("2001:db8::/48", "[2001:db8:0:ffff::1]", "[2001:db8:1::1]"),
            (
                "2001:db8::/64",
                "[2001:db8::ffff:0:0:1]",
                "[2001:db8:0:1::1]",
            ),
            ("2001:db8::/127", "[2001:db8::1]", "[2001:db8::2]"),
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            ("10.0.0.0/31", "10.0.0.1", "10.0.0.2"),
        ] {
            assert!(!admits(&[], &[network], inside), "{inside} is denied");
            assert!(admits(&[], &[network], outside), "{outside} is not denied");
            assert!(admits(&[network], &[], inside), "{inside} is allowed");
            assert!(
                !admits(&[network], &[], outside),
                "{outside} is not allowed"
            );
        }
    }

    /// The oracle: two addresses are in one network if nothing is left of their difference behind the prefix.
    fn share_a_prefix(one: IpAddr, other: IpAddr, bits: u8) -> bool {
        let (difference, width) = match (one, other) {
            (IpAddr::V4(one), IpAddr::V4(other)) => ((one.to_bits() ^ other.to_bits()).into(), 32),
            (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits(), 128),
            _ => return false,
        };
        let behind = width - u32::from(bits);
        behind == 128 || difference >> behind == 0_u128
    }

    /// Returns `ip` with one bit changed, counted from the first.
    fn flipped(ip: IpAddr, bit: u8) -> IpAddr {
        match ip {
            IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() ^ (1 << (31 - bit % 32))).into(),
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() ^ (1 << (127 - bit))).into(),
        }
    }

    #[test]
    fn invalid_network_is_rejected() {
        for text in ["", "host", "1.2.3.4/33", "::1/129", "1.2.3.4/-1", "1.2.3/8"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn parse_and_print_are_inverse(base in any::<IpAddr>(), bits in 0_u8..=128) {
            let bits = if base.is_ipv4() { bits.min(32) } else { bits };
            let network = Network(IpNet::new(base, bits).unwrap());
            prop_assert_eq!(network.to_string().parse(), Ok(network));
            prop_assert!(base.to_canonical() != base || network.contains(base));
        }

        #[test]
        fn network_contains_what_shares_its_prefix(
            base in any::<IpAddr>(), bits in 0_u8..=128, bit in 0_u8..128, far in any::<IpAddr>(),
        ) {
            let bits = if base.is_ipv4() { bits.min(32) } else { bits };
            let network: Network = format!("{base}/{bits}").parse().unwrap();
            for ip in [base, flipped(base, bit), flipped(base, bits.saturating_sub(1)), flipped(base, bits.min(127)), far] {
                // An IPv4-mapped address counts as an IPv4 address.
                if ip.to_canonical() == ip {
                    prop_assert_eq!(network.contains(ip), share_a_prefix(base, ip, bits), "{} in {}", ip, network);
                }
            }
        }
    }
}
