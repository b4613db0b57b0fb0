//! The names and addresses of this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::ifaddrs::getifaddrs;
use rustix::system::uname;

/// Addresses that a certificate gets; a machine with containers may have hundreds.
const ADDRESSES_MAX: usize = 32;

/// Returns the names and addresses by which this machine may be reached: those of loopback first.
pub(super) fn names() -> Vec<String> {
    let mut names = vec!["localhost".to_owned()];
    let host = uname().nodename().to_string_lossy().to_ascii_lowercase();
    if is_host_name(&host) {
        names.push(host);
    }
    names.push(Ipv4Addr::LOCALHOST.to_string());
    names.push(Ipv6Addr::LOCALHOST.to_string());
    let mut addresses = addresses();
    addresses.sort_unstable();
    addresses.dedup();
    names.extend(
        addresses
            .iter()
            .take(ADDRESSES_MAX)
            .map(ToString::to_string),
    );
    names
}

/// Returns the addresses of the interfaces but those of loopback, and those that mean another machine on each link.
fn addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = getifaddrs() else {
        return Vec::new();
    };
    let addresses = interfaces.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|at| IpAddr::V4(at.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|at| IpAddr::V6(at.ip())))
    });
    let is_own = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
    };
    addresses.filter(is_own).collect()
}

/// Whether it can stand in a certificate: labels of letters, digits and hyphens.
fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text != "localhost" && text.len() <= 253 && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_comes_first_and_names_are_valid() {
        let names = names();
        assert_eq!(names[0], "localhost");
        assert!(names.contains(&"127.0.0.1".to_owned()) && names.contains(&"::1".to_owned()));
        assert!(is_host_name("web-1.example") && !is_host_name("a b") && !is_host_name("-a"));
    }
}
