//! File modes at creation: row 30.

#![allow(
    clippy::unwrap_used,
    reason = "clippy takes helpers in a test file for the program"
)]

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use rustix::process::Signal;
use trials_crash::program::{Running, SOON, command};
use trials_disk::load::Load;
use trials_report::{Row, Scale, program};

/// The calls that create a file, or change its permissions, as strace prints them.
const CALLS: &str =
    "trace=open,openat,creat,mkdir,mkdirat,mknod,mknodat,bind,chmod,fchmod,fchmodat,umask";

/// Returns the permissions for others than the owner, where a call creates a file or changes its mode.
fn access_for_others(call: &str, mask: u32) -> Option<u32> {
    let octal =
        |text: &str| u32::from_str_radix(text.trim().trim_start_matches('0'), 8).unwrap_or(0);
    let last = || Some(octal(call.rsplit_once(", ")?.1.split(')').next()?));
    let mode = if call.contains("O_CREAT") || call.contains("chmod") || call.contains("mkdir") {
        last()
    } else if call.contains("bind(") && call.contains("sun_path=\"") {
        Some(0o777)
    } else {
        None
    };
    let masked = if call.contains("chmod") { 0 } else { mask };
    mode.map(|mode| mode & !masked & 0o077)
}

/// Returns from a trace the files created or changed in mode, and the calls that gave permissions to others. The umask
/// is tracked for all threads together, as in the kernel: the last one set counts.
fn look(trace: &str) -> (usize, Vec<String>) {
    let (mut mask, mut made, mut wide) = (0, 0, Vec::new());
    for line in trace.lines() {
        // The line starts with a thread id; a failed call created nothing.
        let call = line.split_once(' ').map_or("", |(_, call)| call.trim());
        if call.contains(" = -1 ") {
            continue;
        }
        if let Some(new) = call.strip_prefix("umask(") {
            mask = u32::from_str_radix(new.split(')').next().unwrap(), 8).unwrap();
        } else if let Some(given) = access_for_others(call, mask) {
            made += 1;
            if given != 0 {
                wide.push(call.to_owned());
            }
        }
    }
    (made, wide)
}

/// Serves on a Unix socket and by TCP with a umask of 0, records, and exits; returns the trace.
fn trace(folder: &Path, socket: &str) -> String {
    let log = folder.join("trace");
    let mut shell = command("sh", folder);
    shell.args([
        "-c",
        "umask 000; exec strace \"$@\"",
        "sh",
        "-f",
        "-qq",
        "-o",
    ]);
    shell
        .arg(&log)
        .args(["-e", CALLS, "--"])
        .arg(program("echoic"));
    shell.args([
        "serve",
        "upper=127.0.0.1:0",
        socket,
        "--frame",
        "line",
        "--print",
        "--console",
        "off",
    ]);
    let mut serve = Running::start(shell, true).unwrap();
    let load = Load::start(serve.address().unwrap(), 1, 1000, Duration::ZERO);
    while load.replies() < 100 {
        std::thread::sleep(Duration::from_millis(5));
    }
    load.end();
    for name in ["echoic.db", "echoic.db-wal", "echoic.db-shm", "in.sock"] {
        let file = fs::symlink_metadata(folder.join(name)).unwrap();
        let expected = if socket.contains("mode=666") && name == "in.sock" {
            0o666
        } else {
            0o600
        };
        assert_eq!(file.permissions().mode() & 0o777, expected, "{name}");
    }
    serve.signal(Signal::TERM);
    assert_eq!(serve.end(SOON).unwrap().code, Some(0));
    fs::read_to_string(log).unwrap()
}

#[test]
fn new_files_are_never_accessible_to_others() {
    let place = tempfile::tempdir().unwrap();
    let (made, wide) = look(&trace(place.path(), "unix:./in.sock"));
    let other = tempfile::tempdir().unwrap();
    let (_, asked_for) = look(&trace(other.path(), "unix:./in.sock?mode=666"));
    Row {
        row: 30,
        hazard: "files and sockets that other users may read or write, even for a moment".into(),
        load: "a record and a Unix socket created under umask 000, tracing each call that creates a file or changes a mode".into(),
        observed: format!(
            "{made} such calls, {} that give other users access{}; `echoic.db`, its log and index and the socket are 0600",
            wide.len(),
            if wide.is_empty() { String::new() } else { format!(": {}", wide.join("; ")) }
        ),
        limit: "none".into(),
        control: format!("with `?mode=666` {} does", asked_for.len()),
        pass: made >= 4 && wide.is_empty() && !asked_for.is_empty(),
        scale: Scale::asked(),
    }
    .hold();
}
