//! The keys and the status line of `serve` on a terminal.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::fd::OwnedFd,
    process::Child,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use rustix::{
    process::Signal,
    termios::{LocalModes, tcgetattr},
};

use crate::harness::{
    ConsoleAt, Home, SOON, Talk, kill, obeyed, signal, terminal, tool, until, wait_for_end,
};

/// `echoic serve` on a terminal that controls its session.
struct OnTerminal {
    child: Child,
    ours: File,
    theirs: OwnedFd,
    screen: Arc<Mutex<Vec<u8>>>,
    home: Home,
}

/// Has the console where it is by default.
const DEFAULT_CONSOLE: (&str, &str) = ("ECHOIC_CONSOLE", "");

impl OnTerminal {
    #[track_caller]
    fn start(args: &[&str], variables: &[(&str, &str)]) -> Self {
        let args = [&["upper=127.0.0.1:0", "--frame", "line"], args].concat();
        Self::start_endpoint(&args, variables)
    }

    #[track_caller]
    fn start_endpoint(args: &[&str], variables: &[(&str, &str)]) -> Self {
        let home = Home::new();
        let (ours, theirs) = terminal();
        let end = || theirs.try_clone().unwrap();
        let mut command = tool("setsid", "util-linux");
        home.settle(&mut command);
        if variables.contains(&DEFAULT_CONSOLE) {
            command.env_remove("ECHOIC_CONSOLE");
        }
        let variables = variables.iter().filter(|one| **one != DEFAULT_CONSOLE);
        let child = command
            .args([
                "--ctty",
                env!("CARGO_BIN_EXE_echoic"),
                "serve",
                "--durability",
                "strict",
            ])
            .args(args)
            .envs(variables.copied())
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let screen = Arc::<Mutex<Vec<u8>>>::default();
        let (mut reader, shared) = (ours.try_clone().unwrap(), Arc::clone(&screen));
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut bytes) {
                shared.lock().unwrap().extend_from_slice(&bytes[..n]);
            }
        });
        Self {
            child,
            ours,
            theirs,
            screen,
            home,
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned()
    }

    #[track_caller]
    fn wait_for(&self, part: &str) {
        until(&format!("{part:?} is printed"), || {
            self.text().contains(part)
        });
    }

    /// Forgets what was printed.
    fn forget(&self) {
        self.screen.lock().unwrap().clear();
    }

    fn press(&mut self, keys: &str) {
        self.ours.write_all(keys.as_bytes()).unwrap();
    }

    #[track_caller]
    fn address(&self) -> std::net::SocketAddr {
        self.wait_for("recording in");
        let text = self.text();
        let at = text.split("listening on tcp://").nth(1).unwrap();
        at.split(' ').next().unwrap().parse().unwrap()
    }

    /// Whether keys come one by one and without echo.
    fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.theirs).unwrap().local_modes;
        let raw = !modes.intersects(LocalModes::ICANON | LocalModes::ECHO);
        assert!(
            raw || modes.contains(LocalModes::ICANON | LocalModes::ECHO),
            "{modes:?}"
        );
        raw
    }

    #[track_caller]
    fn ends(&mut self) -> std::process::ExitStatus {
        let status = wait_for_end(&mut self.child, SOON).expect("it ends");
        assert!(!self.is_raw(), "the terminal is left without echo");
        status
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        kill(&mut self.child);
    }
}

/// Removes the status line from what was printed: its controls, and the text up to where it is cleared.
fn without_status(text: &str) -> String {
    let mut rest = String::new();
    for part in text.split("\r\x1b[K") {
        let line = part.rfind('\n').map_or("", |at| &part[..=at]);
        rest += line;
    }
    rest
}

#[test]
fn status_line_is_below_what_is_printed() {
    let mut on = OnTerminal::start(&[], &[]);
    let at = on.address();
    on.wait_for("? keys");
    assert!(on.is_raw());
    let mut talk = Talk::to(at);
    talk.ask("hello\n", "HELLO\n");
    on.wait_for("◂ HELLO");
    on.wait_for("1 open · 1/s · p50 ");
    on.wait_for("1 recorded, 0 lost");
    on.press("q");
    drop(talk);
    assert_eq!(on.ends().code(), Some(0));
    on.wait_for("stopped: ");
    until("the status line is removed", || {
        on.text().ends_with("\r\x1b[K")
    });
    let text = on.text();
    let lines = without_status(&text);
    let printed: Vec<&str> = lines.lines().collect();
    for (part, times) in [
        ("◂ HELLO", 1),
        ("connected →", 1),
        ("stopped: 1 exchange served", 1),
    ] {
        let found = printed.iter().filter(|line| line.contains(part)).count();
        assert_eq!(found, times, "{part}: {printed:#?}");
    }
    let has_status = |line: &&&str| line.contains("? keys");
    assert_eq!(
        printed.iter().find(has_status),
        None,
        "a status line is left"
    );
    assert_eq!(obeyed(lines.as_bytes()), [], "{lines:?}");
    assert!(!text.contains("\x1b[?1049h"), "the alternate screen");
}

#[test]
fn default_console_on_a_terminal_prints_its_url() {
    let mut on = OnTerminal::start(&[], &[DEFAULT_CONSOLE]);
    on.wait_for("/#t=");
    on.wait_for("? keys");
    let text = on.text();
    let url = text.split("console on ").nth(1).unwrap();
    let url = url.split(|c: char| c.is_whitespace()).next().unwrap();
    assert_eq!(ConsoleAt::of(url).get("/api/v1/info").status, 200);
    assert!(!on.home.path().join("echoic.db-token").exists());
    on.press("q");
    assert_eq!(on.ends().code(), Some(0));
}

#[test]
fn keys_pause_filter_and_help() {
    let mut on = OnTerminal::start(&[], &[]);
    let mut talk = Talk::to(on.address());
    on.wait_for("connected →");
    on.wait_for("? keys");
    on.press("?");
    on.wait_for("clear the screen");
    on.press("p");
    on.wait_for("printing is paused");
    // Who prints counts these, and what is not printed before them.
    on.forget();
    talk.ask("unprinted\n", "UNPRINTED\n");
    on.wait_for(" 1/s ");
    on.press("p");
    on.wait_for("not printed meanwhile: 1 line");
    assert!(!on.text().contains("◂ UNPRINTED"));
    on.press("frep:B\x7fA\r");
    on.wait_for("filter rep:A · ");
    talk.ask("b\nxa\n", "B\nXA\n");
    on.wait_for("◂ XA");
    assert!(!on.text().contains("◂ B"), "{}", on.text());
    // An empty filter prints all again.
    on.forget();
    on.press("f\x15\r");
    until("the filter is off", || {
        on.text()
            .rsplit("\r\x1b[K")
            .next()
            .is_some_and(|line| line.contains("open") && !line.contains("filter"))
    });
    talk.ask("b\n", "B\n");
    on.wait_for("◂ B");
    on.press("c");
    on.wait_for("\x1b[H\x1b[2J");
    on.press("q");
    assert_eq!(on.ends().code(), Some(0));
}

/// `q` is a letter of the correction, not the key that stops the server.
#[test]
fn filter_with_a_mistake_stays_open_to_be_corrected() {
    let mut on = OnTerminal::start(&[], &[]);
    let mut talk = Talk::to(on.address());
    on.wait_for("? keys");
    on.press("fis:opne\r");
    on.wait_for("not a filter: ");
    on.forget();
    on.press("q");
    on.wait_for("filter: is:opneq");
    on.press("\x15rep:A\r");
    on.wait_for("filter rep:A · ");
    talk.ask("a\n", "A\n");
    on.wait_for("◂ A");
    assert!(!on.text().contains("stopping"), "{}", on.text());
    // A mistake can be given up too.
    on.press("f\x15lat:>x\r");
    on.wait_for("not a filter: ");
    on.press("\x1b");
    on.forget();
    on.wait_for("filter rep:A · ");
    on.press("q");
    assert_eq!(on.ends().code(), Some(0));
}

#[test]
fn pause_counts_every_line_that_it_suppresses() {
    let mut on = OnTerminal::start(&[], &[]);
    let at = on.address();
    let mut last = Talk::to(at);
    on.wait_for("connected →");
    on.wait_for("? keys");
    on.press("p");
    on.wait_for("printing is paused");
    // Connected, the exchange, closed: three lines.
    let mut talk = Talk::to(at);
    talk.ask("one\n", "ONE\n");
    assert_eq!(talk.finish(), b"");
    until("its end is recorded", || on.home.count(&["is:closed"]) == 1);
    // Two more, later than these: once they are counted, all are.
    on.forget();
    last.ask("two\nthree\n", "TWO\nTHREE\n");
    until("they are seen", || {
        let text = on.text();
        text.contains(" 2/s ") || text.contains(" 3/s ")
    });
    on.press("p");
    on.wait_for("not printed meanwhile: 5 lines");
    on.press("q");
    drop(last);
    assert_eq!(on.ends().code(), Some(0));
}

#[test]
fn terminal_is_restored_at_every_end() {
    for (which, code) in [
        (Signal::INT, Some(0)),
        (Signal::TERM, Some(0)),
        (Signal::HUP, Some(0)),
        (Signal::QUIT, None),
        (Signal::ALARM, None),
        (Signal::USR2, None),
    ] {
        let mut on = OnTerminal::start(&[], &[]);
        on.wait_for("? keys");
        assert!(on.is_raw());
        signal(&on.child, which);
        let status = on.ends();
        assert_eq!(status.code(), code, "{which:?}: {}", on.text());
        if code.is_none() {
            use std::os::unix::process::ExitStatusExt;
            assert_eq!(status.signal(), Some(which.as_raw()), "{which:?}");
        }
    }
}

#[test]
fn suspended_server_leaves_the_terminal_as_it_was() {
    let mut on = OnTerminal::start(&[], &[]);
    let at = on.address();
    on.wait_for("? keys");
    on.press("\x1a"); // Ctrl-Z
    let stat = format!("/proc/{}/stat", on.child.id());
    until("it is stopped", || {
        let stat = fs::read_to_string(&stat).unwrap();
        stat.rsplit(") ").next().unwrap().starts_with('T')
    });
    assert!(!on.is_raw());
    on.forget();
    signal(&on.child, Signal::CONT);
    on.wait_for("? keys");
    until("keys are read again", || on.is_raw());
    Talk::to(at).ask("hello\n", "HELLO\n");
    on.press("q");
    assert_eq!(on.ends().code(), Some(0));
}

#[test]
fn second_key_stops_at_once() {
    let mut on = OnTerminal::start_endpoint(
        &[
            "echo=127.0.0.1:0",
            "--drain-timeout",
            "60s",
            "--write-timeout",
            "60s",
        ],
        &[],
    );
    let talk = Talk::to(on.address());
    on.wait_for("? keys");
    talk.0.set_nonblocking(true).unwrap();
    let bytes = vec![b'x'; 65536];
    // A peer that reads nothing, so that the drain waits.
    let write = || (&talk.0).write(&bytes).is_ok();
    while write() || {
        thread::sleep(Duration::from_millis(300));
        write()
    } {}
    on.press("q");
    on.wait_for("stopping");
    thread::sleep(Duration::from_millis(600));
    on.press("q");
    assert_eq!(on.ends().code(), Some(130));
}

#[test]
fn no_keys_without_a_person() {
    for (args, variables) in [
        (&["--quiet"][..], &[][..]),
        (&["--json"], &[]),
        (&[], &[("TERM", "dumb")]),
        (&["--exit-with-stdin"], &[]),
    ] {
        let mut on = OnTerminal::start(&[args, &["--console", ":0"]].concat(), variables);
        on.wait_for("console on http://");
        thread::sleep(Duration::from_millis(300));
        assert!(!on.is_raw(), "{args:?}");
        assert!(!on.text().contains("? keys"), "{args:?}: {}", on.text());
        signal(&on.child, Signal::TERM);
        assert_eq!(on.ends().code(), Some(0));
    }
}
