//! The owner of an address, for the error "address in use".
//!
//! This file reads the tables of /proc itself. The crate `procfs` 0.18 cuts the name of a Unix socket at its first
//! space, does not tell which of them listen, and lacks the column of dropped datagrams (`udp.rs`).

use std::{
    fmt, fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use echoic_core::{
    endpoint::{Endpoint, UnixName},
    event::Address,
};

/// What holds an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A program, as `NAME (pid N)`.
    Program(String),
    /// This program, by its process id.
    ThisProgram(u32),
    /// No program: connections that have been closed, and whose sockets had not set `SO_REUSEADDR`.
    TimeWait,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program(name) => f.write_str(name),
            Self::ThisProgram(pid) => {
                write!(f, "another endpoint of this same program (pid {pid})")
            }
            Self::TimeWait => f.write_str(
                "closed connections in TIME_WAIT, which lasts 60 s (their program had not set SO_REUSEADDR)",
            ),
        }
    }
}

impl Owner {
    /// Returns what to do about it.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::Program(_) => "stop the program that holds it",
            Self::ThisProgram(_) => "leave one of the two out",
            Self::TimeWait => "wait until they end",
        }
    }
}

/// Returns what holds `address`; `None` if this process may not see it (proc(5)).
pub(crate) fn find(endpoint: &Endpoint, address: &Address) -> Option<Owner> {
    match address {
        Address::Net(addr) if !matches!(endpoint, Endpoint::Udp(_)) => {
            find_by_address(endpoint, addr, true).or_else(|| find_by_address(endpoint, addr, false))
        }
        Address::Net(addr) => find_by_address(endpoint, addr, false),
        Address::Unix(name) => find_by_name(name.as_ref()?),
    }
}

/// `listens`: consider only sockets that listen.
fn find_by_address(endpoint: &Endpoint, addr: &SocketAddr, listens: bool) -> Option<Owner> {
    let protocol = if matches!(endpoint, Endpoint::Udp(_)) {
        "udp"
    } else {
        "tcp"
    };
    // A socket of one address family may hold the port in the other one too (dual-stack `[::]`).
    let suffixes = if addr.is_ipv4() { ["", "6"] } else { ["6", ""] };
    let inode = suffixes.iter().find_map(|suffix| {
        let table = fs::read_to_string(format!("/proc/net/{protocol}{suffix}")).ok()?;
        find_inode(&table, addr, listens)
    })?;
    if inode == NO_INODE {
        return Some(Owner::TimeWait);
    }
    holder(&inode, |_| true)
}

/// The table has names as they were bound, so a path may be relative to its owner's directory.
fn find_by_name(name: &UnixName) -> Option<Owner> {
    let table = fs::read_to_string("/proc/net/unix").ok()?;
    let mut bound = parse_unix_sockets(&table);
    match name {
        UnixName::Abstract(name) => {
            let (inode, _) = bound.find(|(_, bound)| bound.strip_prefix('@') == Some(name))?;
            holder(inode, |_| true)
        }
        UnixName::Path(path) => {
            let file = fs::canonicalize(path).ok()?;
            let is_owner = |process: &Path, bound: &str| {
                let path = process.join("cwd").join(bound);
                fs::canonicalize(path).is_ok_and(|bound_path| bound_path == file)
            };
            bound.find_map(|(inode, bound)| {
                let same_name = Path::new(bound).file_name() == path.file_name();
                same_name.then(|| holder(inode, |process| is_owner(process, bound)))?
            })
        }
    }
}

/// Returns inode and name of each socket in /proc/net/unix that listens or receives datagrams. Accepted connections
/// are skipped: they have their listener's name, and another process may hold them.
fn parse_unix_sockets(table: &str) -> impl Iterator<Item = (&str, &str)> {
    const LISTENS: u32 = 1 << 16;
    const DATAGRAMS: &str = "0002";
    table.lines().skip(1).filter_map(|line| {
        // The name is the last field and may contain spaces.
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

/// Returns the first process that has the socket open and satisfies `is_owner`.
fn holder(inode: &str, is_owner: impl Fn(&Path) -> bool) -> Option<Owner> {
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
        if has_open(&path, &wanted) && is_owner(&path) {
            if pid == std::process::id() {
                return Some(Owner::ThisProgram(pid));
            }
            let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
            return Some(Owner::Program(format!("{} (pid {pid})", name.trim())));
        }
    }
    None
}

fn has_open(process: &Path, wanted: &str) -> bool {
    let Ok(files) = fs::read_dir(process.join("fd")) else {
        return false;
    };
    files
        .flatten()
        .any(|file| fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == wanted))
}

/// The inode of a connection that no process has open any more.
const NO_INODE: &str = "0";

/// Returns the inode of the socket in a table of /proc/net that conflicts with `addr`: same port, and same or
/// unspecified address.
fn find_inode(table: &str, addr: &SocketAddr, listens: bool) -> Option<String> {
    const LISTEN: &str = "0A";
    const TIME_WAIT: &str = "06";
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(local), Some(state), Some(inode)) = (fields.get(1), fields.get(3), fields.get(9))
        else {
            continue;
        };
        let Some(local) = parse_address(local) else {
            continue;
        };
        let conflicts = local.port() == addr.port()
            && (local.ip().is_unspecified()
                || addr.ip().is_unspecified()
                || local.ip() == addr.ip());
        let is_held = *inode != NO_INODE || *state == TIME_WAIT;
        if conflicts && (!listens || *state == LISTEN) && is_held {
            return Some((*inode).to_owned());
        }
    }
    None
}

/// Parses an address of the tables: hexadecimal words of 32 bits in native byte order.
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

    fn is_this_process(endpoint: &str, addr: SocketAddr) -> bool {
        let endpoint: Endpoint = endpoint.parse().unwrap();
        let ours = format!("(pid {})", std::process::id());
        find(&endpoint, &addr.into()).is_some_and(|owner| owner.to_string().ends_with(&ours))
    }

    #[test]
    fn owner_is_found_by_address_and_port() {
        let held = TcpListener::bind("127.0.0.7:0").unwrap();
        let addr = held.local_addr().unwrap();
        let port = addr.port();
        assert!(is_this_process(":0", addr));
        assert!(is_this_process(
            ":0",
            SocketAddr::from(([0, 0, 0, 0], port))
        ));
        assert!(
            !is_this_process(":0", SocketAddr::from(([127, 0, 0, 6], port))),
            "another address"
        );
        let held = UdpSocket::bind("0.0.0.0:0").unwrap();
        let port = held.local_addr().unwrap().port();
        assert!(is_this_process(
            "udp://:0",
            SocketAddr::from(([127, 0, 0, 1], port))
        ));
    }

    #[test]
    fn connection_in_time_wait_is_found_unless_a_server_listens() {
        // Row 1: 127.0.0.1:7001 in TIME_WAIT. Row 2: a server on the same port.
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
        let waits = "   0: 0100007F:1B59 0100007F:CF2E 06 00000000:00000000 03:00001753 00000000     0        0 0 3\n";
        let serves = "   1: 00000000:1B59 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n";
        let addr = SocketAddr::from(([127, 0, 0, 1], 7001));
        let found = |rows: &[&str], listens| {
            find_inode(&(head.to_owned() + &rows.concat()), &addr, listens)
        };
        assert_eq!(found(&[waits], true), None);
        assert_eq!(found(&[waits], false).as_deref(), Some(NO_INODE));
        assert_eq!(found(&[waits, serves], true).as_deref(), Some("4711"));
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
        let found: Vec<_> = parse_unix_sockets(table).collect();
        assert_eq!(found, [("51697607", "a b.sock"), ("17", "@held")]);
    }

    #[test]
    fn owner_is_found_in_both_families() {
        let Ok(held) = TcpListener::bind("[::1]:0") else {
            return;
        };
        assert!(is_this_process(":0", held.local_addr().unwrap()));
        // The standard library binds a dual-stack socket, unless `net.ipv6.bindv6only` is set.
        let Ok(held) = TcpListener::bind("[::]:0") else {
            return;
        };
        let port = held.local_addr().unwrap().port();
        assert!(is_this_process(
            ":0",
            SocketAddr::from(([127, 0, 0, 1], port))
        ));
    }
}
