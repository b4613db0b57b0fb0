//! `echoic console`: a process of its own beside a running `serve`.

use std::{
    fs,
    io::Read,
    ops::{Deref, DerefMut},
    os::unix::fs::PermissionsExt,
    process::{Child, Stdio},
    sync::Arc,
};

use rustix::process::Signal;
use serde_json::json;

use crate::{
    console_of, first,
    harness::{ConsoleAt, Home, Lines, Serve, Talk, kill, run, signal, until, wait_for_end},
};

const SERVE: [&str; 3] = ["upper=:0", "--frame", "line"];

/// A process that ends with the test, however that ends.
struct Started(Child);

impl Deref for Started {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Started {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        kill(&mut self.0);
    }
}

/// Starts `echoic console` in a directory with a database.
#[track_caller]
fn console_in(home: &Home, args: &[&str]) -> (Started, ConsoleAt, Lines) {
    let mut command = home.echoic(&[&["console", "--console", ":0"], args].concat());
    command.env_remove("ECHOIC_CONSOLE").stderr(Stdio::piped());
    let mut child = Started(command.spawn().unwrap());
    let err = Lines::of(child.stderr.take().unwrap());
    let console = console_of(&err);
    (child, console, err)
}

/// The number of exchanges that the console has.
#[track_caller]
fn count(console: &ConsoleAt) -> u64 {
    console.get("/api/v1/exchanges/count").json()["count"]
        .as_u64()
        .unwrap()
}

#[test]
fn console_shows_and_labels_the_record_of_a_running_server() {
    let serve = Serve::start(&SERVE);
    Talk::to(first(&serve)).ask("hello\n", "HELLO\n");
    let (mut child, console, _) = console_in(&serve.home, &[]);
    until("the exchange is there", || count(&console) == 1);
    let info = console.get("/api/v1/info").json();
    assert_eq!(
        info["features"],
        json!({"control": false, "send": false, "labels": true, "live": "poll", "processes": false})
    );
    assert_eq!(
        (&info["recorder"], &info["counts"]),
        (&json!(null), &json!(null))
    );
    let call = json!({"endpoint": 1, "messages": [{"text": "x"}]});
    assert_eq!(console.submit("/api/v1/send", &call).status, 409);
    let label = json!({"add": ["mine"]});
    let answer = console.ask("PATCH", "/api/v1/exchanges/1", Some(&label));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(serve.home.count(&["tag:mine"]), 1);
    signal(&child, Signal::TERM);
    assert_eq!(
        wait_for_end(&mut child, crate::harness::SOON)
            .unwrap()
            .code(),
        Some(0)
    );
    assert_eq!(serve.stop().recorded, 1);
}

#[test]
fn console_and_server_are_killed_in_turn_and_neither_notices() {
    let home = Arc::new(Home::new());
    let mut served = 0;
    let mut serve = Serve::start_in(&home, &SERVE);
    let (mut child, mut console, mut err) = console_in(&home, &[]);
    for round in 0..3 {
        Talk::to(first(&serve)).ask("hello\n", "HELLO\n");
        served += 1;
        until("it is seen", || count(&console) == served);
        until("it is on the disk", || home.count(&[]) == served);
        if round % 2 == 0 {
            serve.kill();
            assert_eq!(count(&console), served);
            serve = Serve::start_in(&home, &SERVE);
        } else {
            kill(&mut child);
            Talk::to(first(&serve)).ask("alone\n", "ALONE\n");
            served += 1;
            (child, console, err) = console_in(&home, &[]);
        }
    }
    until("all are seen", || count(&console) == served);
    kill(&mut child);
    let all = err.all();
    assert!(
        all.iter()
            .all(|line| !line.contains("WARN") && !line.contains("ERROR")),
        "{all:?}"
    );
}

#[test]
fn console_needs_a_file_and_an_address() {
    let home = Home::new();
    for (args, code, why) in [
        (&["--store", "none.db"][..], 1, "none.db"),
        (&["--store", "memory"], 2, "expected a file"),
        (&["--console", "off"], 2, "--console off"),
        (&["--console", "0.0.0.0:9001"], 2, "ssh -L"),
        (&["--console", "foo"], 2, "--console: invalid address foo: "),
    ] {
        let mut command = home.echoic(&[&["console"], args].concat());
        let ran = run(command.env_remove("ECHOIC_CONSOLE"), b"");
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert!(ran.err.contains(why), "{ran:?}");
    }
}

/// Without a terminal, a runtime directory and a token of the user's choice, as `serve` does.
#[test]
fn console_in_a_pipe_has_its_token_in_a_file_beside_the_database() {
    let serve = crate::serve(&["upper=:0"]);
    serve.err.wait_for("console on http://");
    let of_serve = fs::read_to_string(serve.home.path().join("echoic.db-token")).unwrap();
    let mut command = serve.home.echoic(&["console"]);
    command
        .env_remove("ECHOIC_CONSOLE")
        .env_remove("ECHOIC_TOKEN")
        .env_remove("XDG_RUNTIME_DIR")
        .stderr(Stdio::piped());
    let mut child = Started(command.spawn().unwrap());
    let err = Lines::of(child.stderr.take().unwrap());
    let line = err.wait_for("console on http://");
    let file = serve
        .home
        .path()
        .join(format!("echoic.db-token-{}", child.id()));
    let named = format!("/, its token is in {}", file.display());
    assert!(line.contains(&named), "{line}");
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let address = line["console on http://".len()..]
        .split('/')
        .next()
        .unwrap();
    let console = ConsoleAt {
        address: address.parse().unwrap(),
        token: fs::read_to_string(&file).unwrap().trim_end().to_owned(),
    };
    assert_eq!(console.get("/api/v1/info").status, 200);
    signal(&child, Signal::TERM);
    let status = wait_for_end(&mut child, crate::harness::SOON).unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(!file.exists(), "the file is left");
    let after = fs::read_to_string(serve.home.path().join("echoic.db-token")).unwrap();
    assert_eq!(after, of_serve, "the token of the server");
}

#[test]
fn console_that_cannot_start_is_not_told_to_be_off() {
    let serve = Serve::start(&SERVE);
    let home = Arc::clone(&serve.home);
    serve.stop();
    let mut command = home.echoic(&["console"]);
    command
        .env_remove("ECHOIC_CONSOLE")
        .env_remove("ECHOIC_TOKEN")
        .env("XDG_RUNTIME_DIR", "/dev/null");
    let ran = run(&mut command, b"");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.err.contains("cannot write its token to /dev/null/")
            && ran.err.contains("ECHOIC_TOKEN sets the token")
            && !ran.err.contains("off"),
        "{ran:?}"
    );
}

#[test]
fn console_alone_shows_a_record_at_rest() {
    let serve = Serve::start(&SERVE);
    Talk::to(first(&serve)).ask("hello\n", "HELLO\n");
    let home = Arc::clone(&serve.home);
    serve.stop();
    let (mut child, console, _) = console_in(&home, &[]);
    assert_eq!(count(&console), 1);
    // It holds no lock: a server can start.
    let serve = Serve::start_in(&home, &SERVE);
    Talk::to(first(&serve)).ask("hello\n", "HELLO\n");
    until("it is seen", || count(&console) == 2);
    kill(&mut child);
}

/// The record of another server at the same path begins with the same ids.
#[test]
fn console_goes_on_with_the_record_that_takes_the_place_of_its_own() {
    let serve = Serve::start(&SERVE);
    for word in ["one", "two", "three"] {
        Talk::to(first(&serve)).ask(format!("{word}\n"), format!("{}\n", word.to_uppercase()));
    }
    let home = Arc::clone(&serve.home);
    let (mut child, console, _) = console_in(&home, &[]);
    until("they are seen", || count(&console) == 3);
    let label = |tag: &str| {
        let change = json!({"add": [tag]});
        console.ask("PATCH", "/api/v1/exchanges/1", Some(&change))
    };
    assert_eq!(label("first").status, 200);
    let mut events = console.events();
    serve.stop();
    fs::rename(home.path().join("echoic.db"), home.path().join("old.db")).unwrap();
    let serve = Serve::start_in(&home, &SERVE);
    Talk::to(first(&serve)).ask("other\n", "OTHER\n");
    until("it is seen", || count(&console) == 1);
    assert_eq!(
        console.get("/api/v1/exchanges/1").json()["req"]["text"],
        "other\n"
    );
    let mut ended = String::new();
    events.read_to_string(&mut ended).unwrap();
    assert!(
        ended.contains("event: bye"),
        "the stream begins anew: {ended}"
    );
    assert_eq!(label("second").status, 200);
    assert_eq!(home.count(&["tag:second"]), 1);
    let figures = console.get("/api/v1/stats").json();
    assert_eq!(figures["total"]["exchanges"], 1, "{figures}");
    kill(&mut child);
}
