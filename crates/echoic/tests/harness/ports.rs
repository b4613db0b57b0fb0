//! Ports and files that there may not be enough of.
#![allow(clippy::print_stdout, reason = "a test may say why it is skipped")]

use std::{
    fs::{File, TryLockError},
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::SOON;

/// A port nobody listens at in either family. Somebody else may take it before it is used: where that matters, take
/// port 0.
pub(crate) fn free_port() -> u16 {
    let taken: Vec<TcpListener> = (0..16)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let ports = taken.iter().map(|four| four.local_addr().unwrap().port());
    let mut free = ports.filter(|port| is_free("[::1]", *port));
    free.next().expect("sixteen ports were taken")
}

fn is_free(host: &str, port: u16) -> bool {
    match TcpListener::bind(format!("{host}:{port}")) {
        Ok(_) => true,
        // No such family on this machine.
        Err(error) => error.kind() == std::io::ErrorKind::AddrNotAvailable,
    }
}

/// The tutorial's ports, 5000 and 12345, for as long as the file is held; none, and why is printed, if a program that is
/// not ours has one of them.
pub(crate) fn tutorial_ports() -> Option<File> {
    let held = File::create(std::env::temp_dir().join("echoic-tests-ports.lock")).unwrap();
    let deadline = Instant::now() + SOON;
    while let Err(error) = held.try_lock() {
        assert!(matches!(error, TryLockError::WouldBlock), "{error}");
        assert!(Instant::now() < deadline, "another test keeps the ports");
        thread::sleep(Duration::from_millis(10));
    }
    for port in [5000, 12345] {
        if !is_free("127.0.0.1", port) || !is_free("[::1]", port) {
            println!("skipped: another program listens on port {port}");
            return None;
        }
    }
    Some(held)
}

/// As many files as this process may have open.
pub(crate) fn raise_open_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, all).unwrap();
}
