//! Common mistakes in socket tutorials, and what echoic does instead: one test a mistake, against the program as it is
//! run, with a plain client, and where it is cheap beside the naive version that fails.
//!
//! The rows are those of the study that the project began with. A test of row N is called `dNN_…`; some tests are
//! elsewhere, in more depth, beside the code they are about: `grep -rn 'fn d[0-9]' crates trials` lists all, and a test
//! below checks that no row is without one. Services that run programs (row 28, and the part of row 27 about running
//! ahead), TLS and WebSocket closings (a part of row 10) and the web page (a part of row 24) do not exist yet, and
//! neither do their tests.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may print what it saw"
)]

mod defaults;
#[path = "../harness/mod.rs"]
mod harness;
mod nagle;
mod order;
mod process;
mod stream;
mod udp;

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use harness::{Lines, Ran, kill, python, tool};

/// The rows of the study.
const ROWS: std::ops::RangeInclusive<u32> = 1..=29;

/// The rows about features that echoic does not have yet: services that run programs.
const NOT_OURS: [u32; 1] = [28];

/// Returns the tests of each row: functions called `dNN_…`, in any file.
fn tests_by_row() -> BTreeMap<u32, Vec<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap();
    let mut found: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    let mut folders = vec![root.join("crates"), root.join("trials")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                for (row, name) in rows_in(&text) {
                    found.entry(row).or_default().push(name);
                }
            }
        }
    }
    found
}

/// Returns the rows that a file has tests of, with the names of the tests. Ignored tests and functions that are not
/// tests do not count.
fn rows_in(text: &str) -> Vec<(u32, String)> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let signature = line.strip_prefix("async ").unwrap_or(line);
        let Some((name, _)) = signature
            .strip_prefix("fn d")
            .and_then(|rest| rest.split_once('('))
        else {
            continue;
        };
        let Some(row) = name
            .split_once('_')
            .filter(|(digits, _)| digits.len() == 2)
            .and_then(|(digits, _)| digits.parse().ok())
        else {
            continue;
        };
        let attributes = || {
            let above = lines[..at].iter().rev();
            above.take_while(|line| line.starts_with("#[") || line.starts_with("//"))
        };
        let is_test =
            attributes().any(|line| *line == "#[test]" || line.starts_with("#[tokio::test"));
        let is_run = !attributes().any(|line| line.starts_with("#[ignore"));
        if is_test && is_run {
            found.push((row, format!("d{name}")));
        }
    }
    found
}

#[test]
fn each_habit_row_has_a_test_named_after_it() {
    let tests = tests_by_row();
    for row in ROWS {
        let ours = !NOT_OURS.contains(&row);
        assert_eq!(
            tests.contains_key(&row),
            ours,
            "row {row}: a test called d{row:02}_… is looked for in crates/ and trials/, and found are {:?}",
            tests.get(&row)
        );
    }
    let beyond: Vec<_> = tests.keys().filter(|row| !ROWS.contains(row)).collect();
    assert!(beyond.is_empty(), "there are no rows {beyond:?}");
}

#[test]
fn only_tests_that_run_are_counted() {
    let text = "
#[test]
fn d01_is_one() {}
#[tokio::test(start_paused = true)]
async fn d02_is_one() {}
#[test]
#[ignore = \"run by another\"]
fn d03_is_not_run() {}
fn d04_helps() {}
#[test]
fn d5_is_no_row() {}
#[test]
fn dangling_05_is_no_row() {}
";
    let found = rows_in(text);
    let expected = [(1, "d01_is_one".to_owned()), (2, "d02_is_one".to_owned())];
    assert_eq!(found, expected);
}

/// A Python program that runs beside the test, and prints its port first.
struct Beside {
    child: Child,
    out: Lines,
}

impl Beside {
    #[track_caller]
    fn start(program: &str) -> Self {
        let mut child = tool("python3", "python3")
            .args(["-u", "-c", program])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = Lines::of(child.stdout.take().unwrap());
        Self { child, out }
    }

    #[track_caller]
    fn port(&self) -> u16 {
        self.out.wait("port", |lines| lines.first()?.parse().ok())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        kill(&mut self.child);
    }
}

/// Prefix of a client program: a connection `c` to the port in its first argument.
const CONNECT: &str = "
import socket, sys, time
c = socket.create_connection(('127.0.0.1', int(sys.argv[1])), timeout=10)
";

/// Prefix of a server program: a listening socket `s`, whose port is printed.
const LISTEN: &str = "
import socket, sys, time
s = socket.socket()
s.bind(('127.0.0.1', 0))
s.listen(5)
print(s.getsockname()[1])
";

/// Runs a client program to its end; returns its output.
#[track_caller]
fn client(port: u16, program: &str) -> String {
    python(&[CONNECT, program].concat(), &[&port], "").good()
}

/// Runs a client program that is expected to fail.
#[track_caller]
fn client_fails(port: u16, program: &str) -> Ran {
    let ran = python(&[CONNECT, program].concat(), &[&port], "");
    assert_ne!(ran.code, Some(0), "the naive way works: {ran:?}");
    ran
}

fn server(program: &str) -> Beside {
    Beside::start(&[LISTEN, program].concat())
}

/// Returns the command `bash -c script`, to which arguments can be added.
fn bash(script: &str) -> Command {
    let mut bash = tool("bash", "bash");
    bash.args(["-c", script, "bash"]);
    bash
}
