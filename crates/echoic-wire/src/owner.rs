//! Who holds an address: for the message that says it is in use.

use std::{fs, net::SocketAddr, path::Path};

use echoic_core::{endpoint::Endpoint, event::Place};

/// The program that holds `place`, as `NAME (pid N)`, where this process may see it (proc(5)).
pub(crate) fn of(endpoint: &Endpoint, place: &Place) -> Option<String> {
    let Place::Net(addr) = place else { return None };
    let table = match (endpoint, addr.is_ipv4()) {
        (Endpoint::Udp(_), true) => "/proc/net/udp",
        (Endpoint::Udp(_), false) => "/proc/net/udp6",
        (_, true) => "/proc/net/tcp",
        (_, false) => "/proc/net/tcp6",
    };
    let listens = matches!(endpoint, Endpoint::Tcp(_) | Endpoint::Fd(_));
    let inode = inode_at(&fs::read_to_string(table).ok()?, addr, listens)?;
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    for process in processes {
        let path = process.path();
        let Some(pid) = path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()) else { continue };
        if holds(&path, &wanted) {
            let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", name.trim()));
        }
    }
    None
}

fn holds(process: &Path, wanted: &str) -> bool {
    let Ok(files) = fs::read_dir(process.join("fd")) else { return false };
    files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == wanted))
}

/// The inode of the socket at `addr`'s port in a table of /proc/net, if its address overlaps.
fn inode_at(table: &str, addr: &SocketAddr, listens: bool) -> Option<String> {
    const LISTEN: &str = "0A";
    let port = format!("{:04X}", addr.port());
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(local), Some(state), Some(inode)) = (fields.get(1), fields.get(3), fields.get(9)) else { continue };
        let Some((_, local_port)) = local.split_once(':') else { continue };
        if local_port == port && (!listens || *state == LISTEN) && *inode != "0" {
            return Some((*inode).to_owned());
        }
    }
    None
}
