//! Who holds an address: for the message that says it is in use.
//!
//! The tables of /proc are read here and not by the crate `procfs`: 0.18 cuts the name of a Unix socket at its first
//! space, does not tell which of them listen, and has no column of dropped datagrams (`udp.rs`).

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use echoic_core::{
    endpoint::{Endpoint, UnixName},
    event::Address,
};

/// What this process is called, where an endpoint is given twice.
pub(crate) const OURS: &str = "another endpoint of this same program";

/// The program that holds `address`, as `NAME (pid N)`, where this process may see it (proc(5)).
pub(crate) fn of(endpoint: &Endpoint, address: &Address) -> Option<String> {
    match address {
        Address::Net(addr) => of_address(endpoint, addr),
        Address::Unix(name) => of_name(name.as_ref()?),
    }
}

fn of_address(endpoint: &Endpoint, addr: &SocketAddr) -> Option<String> {
    let listens = matches!(endpoint, Endpoint::Tcp(_) | Endpoint::Fd(_));
    let protocol = if matches!(endpoint, Endpoint::Udp(_)) {
        "udp"
    } else {
        "tcp"
    };
    // What is open everywhere in IPv6 may hold the port in IPv4 as well, and the other way round.
    let families = if addr.is_ipv4() { ["", "6"] } else { ["6", ""] };
    let inode = families.iter().find_map(|family| {
        let table = fs::read_to_string(format!("/proc/net/{protocol}{family}")).ok()?;
        inode_at(&table, addr, listens)
    })?;
    holder(&inode, |_| true)
}

/// The table has names as they were given: one of a file may begin at the folder its owner was in.
fn of_name(name: &UnixName) -> Option<String> {
    let table = fs::read_to_string("/proc/net/unix").ok()?;
    let mut bound = names_in(&table);
    match name {
        UnixName::Abstract(name) => {
            let (inode, _) = bound.find(|(_, bound)| bound.strip_prefix('@') == Some(name))?;
            holder(inode, |_| true)
        }
        UnixName::Path(path) => {
            let file = fs::canonicalize(path).ok()?;
            let is_it = |process: &Path, bound: &str| {
                let here = process.join("cwd").join(bound);
                fs::canonicalize(here).is_ok_and(|there| there == file)
            };
            bound.find_map(|(inode, bound)| {
                let same_name = Path::new(bound).file_name() == path.file_name();
                same_name.then(|| holder(inode, |process| is_it(process, bound)))?
            })
        }
    }
}

/// Inode and name of each socket in /proc/net/unix that can be called by a name: one that listens, or of datagrams. A
/// connection has its listener's name too, and may have been given to another process.
fn names_in(table: &str) -> impl Iterator<Item = (&str, &str)> {
    const LISTENS: u32 = 1 << 16;
    const DATAGRAMS: &str = "0002";
    table.lines().skip(1).filter_map(|line| {
        // The name is the last and may have spaces in it.
        let mut rest = line;
        let mut field = || {
            let (field, after) = rest.trim_start().split_once(' ')?;
            rest = after;
            Some(field)
        };
        let [_, _, _, flags, kind, _, inode] = [(); 7].map(|()| field());
        let flags = u32::from_str_radix(flags?, 16).ok()?;
        (flags & LISTENS != 0 || kind? == DATAGRAMS).then_some((inode?, rest))
    })
}

/// The process that has the socket open and is it, as `NAME (pid N)`.
fn holder(inode: &str, is_it: impl Fn(&Path) -> bool) -> Option<String> {
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    for process in processes {
        let path = process.path();
        let Some(pid) = path
            .file_name()
            .and_then(|name| name.to_str()?.parse::<u32>().ok())
        else {
            continue;
        };
        if holds(&path, &wanted) && is_it(&path) {
            if pid == std::process::id() {
                return Some(format!("{OURS} (pid {pid})"));
            }
            let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", name.trim()));
        }
    }
    None
}

fn holds(process: &Path, wanted: &str) -> bool {
    let Ok(files) = fs::read_dir(process.join("fd")) else {
        return false;
    };
    files
        .flatten()
        .any(|file| fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == wanted))
}

/// The inode of the socket that is in the way of `addr` in a table of /proc/net: at its port, and at its address or
/// at all of them.
fn inode_at(table: &str, addr: &SocketAddr, listens: bool) -> Option<String> {
    const LISTEN: &str = "0A";
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(local), Some(state), Some(inode)) = (fields.get(1), fields.get(3), fields.get(9))
        else {
            continue;
        };
        let Some(local) = parse_address(local) else {
            continue;
        };
        let in_the_way = local.port() == addr.port()
            && (local.ip().is_unspecified()
                || addr.ip().is_unspecified()
                || local.ip() == addr.ip());
        if in_the_way && (!listens || *state == LISTEN) && *inode != "0" {
            return Some((*inode).to_owned());
        }
    }
    None
}

/// An address as the tables have it: 32 bits at a time in the order of this machine, in hexadecimal.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::with_capacity(16);
    for word in ip.as_bytes().chunks(8) {
        let word = u32::from_str_radix(str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let ip = match <[u8; 4]>::try_from(&*bytes) {
        Ok(four) => IpAddr::from(Ipv4Addr::from(four)),
        Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical(),
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    fn is_ours(endpoint: &str, at: SocketAddr) -> bool {
        let endpoint: Endpoint = endpoint.parse().unwrap();
        let ours = format!("(pid {})", std::process::id());
        of(&endpoint, &at.into()).is_some_and(|owner| owner.ends_with(&ours))
    }

    #[test]
    fn owner_is_found_by_address_and_port() {
        let held = TcpListener::bind("127.0.0.7:0").unwrap();
        let at = held.local_addr().unwrap();
        let port = at.port();
        assert!(is_ours(":0", at));
        assert!(is_ours(":0", SocketAddr::from(([0, 0, 0, 0], port))));
        assert!(
            !is_ours(":0", SocketAddr::from(([127, 0, 0, 6], port))),
            "that is another address"
        );
        let held = UdpSocket::bind("0.0.0.0:0").unwrap();
        let port = held.local_addr().unwrap().port();
        assert!(is_ours(
            "udp://:0",
            SocketAddr::from(([127, 0, 0, 1], port))
        ));
    }

    #[test]
    fn unix_listeners_are_found_and_connections_skipped() {
        let table = "\
Num       RefCount Protocol Flags    Type St Inode Path
0000000026cf54dc: 00000003 00000000 00000000 0001 03   631
000000007d9bddec: 00000002 00000000 00010000 0001 01 51697607 a b.sock
000000007038ebac: 00000003 00000000 00000000 0001 03 51697608 a b.sock
00000000c0ff9e6f: 00000002 00000000 00000000 0002 01    17 @held
";
        let found: Vec<_> = names_in(table).collect();
        assert_eq!(found, [("51697607", "a b.sock"), ("17", "@held")]);
    }

    #[test]
    fn owner_is_found_in_both_families() {
        let Ok(held) = TcpListener::bind("[::1]:0") else {
            return;
        };
        assert!(is_ours(":0", held.local_addr().unwrap()));
        // Python and the standard library open both at once, unless the system is told otherwise.
        let Ok(held) = TcpListener::bind("[::]:0") else {
            return;
        };
        let port = held.local_addr().unwrap().port();
        assert!(is_ours(":0", SocketAddr::from(([127, 0, 0, 1], port))));
    }
}
