//! Scarce resources: ports and open files.

use std::{
    fs::{File, TryLockError},
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::SOON;

/// Returns a port that is free in both families. Another process may take it before it is used: where that matters, use
/// port 0.
pub(crate) fn free_port() -> u16 {
    let [port] = free_ports();
    port
}

/// Returns as many ports, each of them another one, which two calls of [`free_port`] do not promise.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    let taken: Vec<TcpListener> = (0..N + 15)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let ports = taken.iter().map(|four| four.local_addr().unwrap().port());
    let mut free = ports.filter(|port| is_free("[::1]", *port));
    [(); N].map(|()| free.next().expect("fifteen ports more were taken"))
}

fn is_free(host: &str, port: u16) -> bool {
    match TcpListener::bind(format!("{host}:{port}")) {
        Ok(_) => true,
        // This machine does not have the address family.
        Err(error) => error.kind() == std::io::ErrorKind::AddrNotAvailable,
    }
}

/// Locks the tutorial's ports, 5000 and 12345, while the returned file is held. Returns none, and says that the test is skipped, if a
/// foreign program uses one of them.
pub(crate) fn tutorial_ports() -> Option<File> {
    let held = File::create(std::env::temp_dir().join("echoic-tests-ports.lock")).unwrap();
    let deadline = Instant::now() + SOON;
    while let Err(error) = held.try_lock() {
        assert!(matches!(error, TryLockError::WouldBlock), "{error}");
        assert!(
            Instant::now() < deadline,
            "another test still holds the ports"
        );
        thread::sleep(Duration::from_millis(10));
    }
    for port in [5000, 12345] {
        if !is_free("127.0.0.1", port) || !is_free("[::1]", port) {
            trials_skip::skip(format_args!("another program listens on port {port}"));
            return None;
        }
    }
    Some(held)
}

/// Returns the limit on open files of this process.
pub(crate) fn raise_open_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, all).unwrap();
}
