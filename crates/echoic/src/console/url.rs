//! The URL of the console.

use std::net::{IpAddr, SocketAddr};

/// Returns the host and port by which a browser finds the console and its certificate valid: `names` are those of the certificate.
pub(super) fn authority(bound: SocketAddr, names: &[String]) -> String {
    let ip = bound.ip();
    let is_named = |host: &str| names.iter().any(|name| name == host);
    if is_named(&ip.to_string()) {
        return bound.to_string();
    }
    let port = bound.port();
    if ip.is_loopback() {
        return if is_named("localhost") {
            format!("localhost:{port}")
        } else {
            bound.to_string()
        };
    }
    let is_elsewhere = |name: &&String| {
        let is_loopback = |ip: IpAddr| ip.is_loopback();
        !name.contains('*') && *name != "localhost" && !name.parse().is_ok_and(is_loopback)
    };
    let is_host_name = |name: &&String| name.parse::<IpAddr>().is_err();
    let mut usable = names.iter().filter(is_elsewhere);
    let name = usable.clone().find(is_host_name).or_else(|| usable.next());
    match name.map(|name| (name, name.parse())) {
        Some((_, Ok(ip))) => SocketAddr::new(ip, port).to_string(),
        Some((name, Err(_))) => format!("{name}:{port}"),
        None => bound.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authority_is_the_address_or_a_name_of_the_certificate() {
        for (bound, names, expected) in [
            ("127.0.0.1:1", "localhost 127.0.0.1", "127.0.0.1:1"),
            ("127.0.0.1:1", "db.example localhost", "localhost:1"),
            ("127.0.0.1:1", "db.example", "127.0.0.1:1"),
            ("[::1]:1", "::1", "[::1]:1"),
            (
                "0.0.0.0:1",
                "localhost 127.0.0.1 192.0.2.1 db.example",
                "db.example:1",
            ),
            ("0.0.0.0:1", "localhost ::1 2001:db8::1", "[2001:db8::1]:1"),
            ("0.0.0.0:1", "*.example", "0.0.0.0:1"),
            ("192.0.2.1:1", "db.example 192.0.2.1", "192.0.2.1:1"),
            ("192.0.2.1:1", "db.example", "db.example:1"),
            ("192.0.2.1:1", "", "192.0.2.1:1"),
        ] {
            let names: Vec<String> = names.split_whitespace().map(str::to_owned).collect();
            assert_eq!(
                authority(bound.parse().unwrap(), &names),
                expected,
                "{bound} {names:?}"
            );
        }
    }
}
