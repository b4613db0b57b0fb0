//! The habits of the socket tutorials that go wrong, and what echoic does instead: one test a habit, over the program
//! as it is run, with a plain peer, and where it is cheap beside the naive way that fails.
//!
//! The rows are those of the study the project began with. Some are tested elsewhere, in more depth than there is room
//! for here; [`ELSEWHERE`] names those tests, and one below checks that they are there. What belongs to services that
//! run programs (row 28, and the part of row 27 that runs ahead), to TLS and WebSocket closings (a part of row 10) and
//! to the web page (a part of row 24) is not there yet, and neither are its tests.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may say what it saw"
)]

#[path = "../harness/mod.rs"]
mod harness;
mod names;
mod order;
mod process;
mod stream;
mod udp;

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use harness::{Lines, Ran, kill, python, tool};

/// Rows whose test is somewhere else: file below `crates/`, and its name there.
const ELSEWHERE: [(&str, &str, &str); 17] = [
    (
        "d04 every character, cut anywhere",
        "echoic-service/tests/casing.rs",
        "every_character_cut_at_every_byte",
    ),
    (
        "d07 both directions at once",
        "echoic-server/tests/tcp.rs",
        "fifty_megabytes_each_way_at_once",
    ),
    (
        "d11 a lingering close",
        "echoic/tests/tutorial.rs",
        "a_caller_is_greeted_whatever_it_has_said_first",
    ),
    (
        "d11 its naive twin",
        "echoic/tests/tutorial.rs",
        "a_plain_close_loses_what_is_on_its_way",
    ),
    (
        "d12 a reader that leaves",
        "echoic/tests/record.rs",
        "a_reader_that_has_had_enough_is_no_error",
    ),
    (
        "d13 who has the address",
        "echoic/tests/endpoints.rs",
        "an_address_in_use_names_its_owner",
    ),
    (
        "d16 all addresses, raced",
        "echoic/tests/probe.rs",
        "ipv4_wins_within_300_ms_when_ipv6_is_a_black_hole",
    ),
    (
        "d16 unknown, refused, late",
        "echoic/tests/probe.rs",
        "refused_filtered_timed_out_and_unreachable_are_told_apart",
    ),
    (
        "d19 deadlines",
        "echoic/tests/serve.rs",
        "each_deadline_ends_what_it_is_for_and_the_record_names_it",
    ),
    (
        "d19 slow to the end",
        "echoic/tests/serve.rs",
        "later_bytes_do_not_put_off_the_deadline_of_a_message",
    ),
    (
        "d20 one write for many",
        "echoic-server/tests/hot_path.rs",
        "sixteen_lines_at_once_leave_in_one_send_recorded_or_not",
    ),
    (
        "d22 the address asked",
        "echoic-server/tests/datagrams/main.rs",
        "an_answer_leaves_from_the_address_that_was_asked",
    ),
    (
        "d23 loops",
        "echoic-server/tests/datagrams/guards.rs",
        "a_forged_datagram_sets_off_sixteen_at_most",
    ),
    (
        "d23 no longer than asked",
        "echoic-server/tests/datagrams/guards.rs",
        "no_answer_is_longer_than_what_it_answers",
    ),
    (
        "d24 terminals",
        "echoic/tests/record.rs",
        "nothing_a_peer_says_reaches_a_terminal_raw",
    ),
    (
        "d27 answers given out of order",
        "echoic-server/src/session/tests/apart.rs",
        "answers_given_out_of_order_leave_in_order",
    ),
    (
        "d29 a file left behind",
        "echoic/tests/endpoints/unix.rs",
        "a_file_that_a_dead_server_left_is_replaced",
    ),
];

#[test]
fn the_tests_elsewhere_are_there() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for (row, file, name) in ELSEWHERE {
        let text = fs::read_to_string(crates.join(file)).unwrap();
        let at = text.find(&format!("fn {name}("));
        let at = at.unwrap_or_else(|| panic!("{row}: no {name} in {file}"));
        let before = &text[..at];
        let attribute = before
            .trim_end()
            .lines()
            .rev()
            .take(3)
            .any(|line| line.contains("test"));
        assert!(attribute, "{row}: {name} in {file} is no test");
    }
}

/// A program in Python that runs beside the test, and prints its port first.
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

/// Before a client's program: a connection `c` to the port in its first argument.
const CONNECT: &str = "
import socket, sys, time
c = socket.create_connection(('127.0.0.1', int(sys.argv[1])), timeout=10)
";

/// Before a server's program: a listening socket `s`, whose port is printed.
const LISTEN: &str = "
import socket, sys, time
s = socket.socket()
s.bind(('127.0.0.1', 0))
s.listen(5)
print(s.getsockname()[1])
";

/// Runs a client to its end; returns what it printed.
#[track_caller]
fn client(port: u16, program: &str) -> String {
    python(&[CONNECT, program].concat(), &[&port], "").good()
}

/// The same, however it ends.
#[track_caller]
fn client_fails(port: u16, program: &str) -> Ran {
    let ran = python(&[CONNECT, program].concat(), &[&port], "");
    assert_ne!(ran.code, Some(0), "the naive way works: {ran:?}");
    ran
}

fn server(program: &str) -> Beside {
    Beside::start(&[LISTEN, program].concat())
}

/// `bash -c`, with the words after it.
fn bash(script: &str) -> Command {
    let mut bash = tool("bash", "bash");
    bash.args(["-c", script, "bash"]);
    bash
}
