//! `echoic status` and SIGUSR1: the counters of a running server.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may print what it saw"
)]

mod harness;

use std::{
    fs,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    process::Stdio,
    sync::Arc,
    thread,
};

use rustix::process::Signal;
use serde_json::{Value, json};

use self::harness::{Home, Lines, Ran, Serve, Talk, kill, plain, terminal, until, wait_for_end};

#[track_caller]
fn status(home: &Home, args: &[&str]) -> Value {
    let text = home.run(&[&["status"], args].concat()).good();
    serde_json::from_str(&text).unwrap()
}

#[track_caller]
fn fails(home: &Home, args: &[&str], code: i32, why: &str) {
    let Ran {
        code: got,
        out,
        err,
    } = home.run(&[&["status"], args].concat());
    assert_eq!(got, Some(code), "{args:?}: {err}");
    assert!(err.contains(why), "{args:?}: {err}");
    assert!(out.is_empty(), "{args:?}");
}

fn socket(home: &Home) -> PathBuf {
    home.path().join("echoic.db-status")
}

#[test]
fn status_counts_what_was_served() {
    let serve = Serve::start(&[
        "upper=:0",
        "greet=:0",
        "lower=127.0.0.1:0?deny=127.0.0.1",
        "--frame",
        "line",
        "--durability",
        "strict",
    ]);
    let mut open = Talk::to(serve.at[0]);
    open.ask("a\nb\n", "A\nB\n");
    Talk::to(serve.at[1]).rest();
    assert_eq!(Talk::to(serve.at[2]).rest(), b"");
    until("one is over", || status(&serve.home, &[])["open"] == 1);
    let told = status(&serve.home, &[]);
    let counts = [
        "served", "recorded", "waiting", "lost", "accepted", "rejected", "pid", "v",
    ];
    let counts = counts.map(|key| told[key].as_u64().unwrap());
    assert_eq!(counts, [3, 3, 0, 0, 2, 1, serve.id().into(), 1], "{told}");
    assert_eq!(
        (&told["stopping"], &told["failing"]),
        (&json!(false), &Value::Null)
    );
    let address = format!("tcp://{}", serve.at[0]);
    assert_eq!(
        told["listening"][0],
        json!({"addr": address, "svc": "upper"})
    );
    let store = serve.home.store().canonicalize().unwrap();
    assert_eq!(told["store"], store.to_str().unwrap());
    // The process id finds it too.
    assert_eq!(status(&serve.home, &[&serve.id().to_string()])["served"], 3);
}

#[test]
fn signal_prints_the_text_of_status() {
    let serve = Serve::start(&["upper=:0", "--frame", "line"]);
    let mut talk = Talk::to(serve.at[0]);
    talk.ask("a\n", "A\n");
    until("it is recorded", || serve.home.count(&[]) == 1);
    serve.signal(Signal::USR1);
    let last = serve
        .err
        .wait_for("1 exchange served, 1 recorded, 0 waiting, 0 lost, in /");
    let printed = serve.err.wait("the counters", |lines| {
        let first = lines.iter().position(|line| line.starts_with("echoic "))?;
        let end = lines.iter().position(|line| *line == last)?;
        Some(lines[first..=end].to_vec())
    });
    let (ours, theirs) = terminal();
    let out = Lines::of(ours);
    let mut command = serve.home.echoic(&["status"]);
    let mut child = command.stdout(theirs).spawn().unwrap();
    command.stdout(Stdio::null());
    let ended = wait_for_end(&mut child, harness::SOON);
    kill(&mut child);
    assert_eq!(ended.and_then(|status| status.code()), Some(0));
    let shown: Vec<_> = out
        .all()
        .iter()
        .map(|line| plain(line).trim().to_owned())
        .collect();
    // The first line has the time since the start.
    assert_eq!(shown[1..], printed[1..]);
    assert!(shown[0].starts_with("echoic ") && shown[0].contains(&serve.id().to_string()));
    assert!(
        shown.contains(&"1 conversation open, 1 accepted, 0 rejected".to_owned()),
        "{shown:?}"
    );
    // It serves on.
    talk.ask("b\n", "B\n");
}

#[test]
fn socket_is_private_and_goes_with_the_server() {
    let home = Arc::new(Home::new());
    for _ in 0..2 {
        let serve = Serve::start_in(&home, &["upper=:0"]);
        let file = fs::metadata(socket(&home)).unwrap();
        assert!(file.file_type().is_socket());
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
        serve.stop();
        assert!(!socket(&home).exists());
    }
    fails(
        &home,
        &[],
        1,
        "the server that records in echoic.db is not running",
    );
    // A killed server leaves its socket behind; the next one replaces it.
    Serve::start_in(&home, &["upper=:0"]).kill();
    assert!(socket(&home).exists());
    fails(
        &home,
        &[],
        1,
        "the server that records in echoic.db is not running",
    );
    let serve = Serve::start_in(&home, &["upper=:0"]);
    assert_eq!(status(&home, &[])["pid"], serve.id());
}

#[test]
fn idle_clients_do_not_hold_the_socket() {
    let serve = Serve::start(&["upper=:0"]);
    let idle: Vec<_> = (0..200)
        .map(|_| UnixStream::connect(socket(&serve.home)).unwrap())
        .collect();
    // It gives up after 2 s.
    assert_eq!(status(&serve.home, &[])["pid"], serve.id());
    drop(idle);
}

#[test]
fn draining_server_answers_that_it_stops() {
    let mut serve = Serve::start(&[
        "echo=:0",
        "--frame",
        "line",
        "--drain-timeout",
        "10s",
        "--write-timeout",
        "60s",
    ]);
    let talk = Talk::to(serve.at[0]);
    talk.fill();
    serve.signal(Signal::TERM);
    serve.err.wait_for("again to stop at once");
    assert_eq!(status(&serve.home, &[])["stopping"], true);
    assert_eq!(serve.ends().code, Some(6));
}

#[test]
fn server_without_a_file_is_found_by_its_process() {
    let home = Arc::new(Home::new());
    let directory = home.path().join("run");
    for store in ["none", "memory"] {
        let args = ["upper=:0", "--frame", "line", "--store", store];
        let mut command = home.echoic(&[&["serve"], &args[..], &["--print"]].concat());
        command.env("XDG_RUNTIME_DIR", &directory);
        let serve = Serve::from(&home, &args, command);
        let file = directory
            .join("echoic")
            .join(format!("{}.sock", serve.id()));
        let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (mode(&file), mode(&file.parent().unwrap().into())),
            (0o600, 0o700)
        );
        let mut talk = Talk::to(serve.at[0]);
        talk.ask("a\n", "A\n");
        drop(talk.finish());
        let pid = serve.id().to_string();
        let ask = || {
            let mut command = home.echoic(&["status", &pid]);
            harness::run(command.env("XDG_RUNTIME_DIR", &directory), b"").good()
        };
        until("one exchange is counted", || {
            let told: Value = serde_json::from_str(&ask()).unwrap();
            (&told["store"], &told["served"]) == (&json!(store), &json!(1))
        });
        serve.stop();
        assert!(!file.exists());
        fails(
            &home,
            &["--store", store],
            2,
            "name the process: echoic status PID",
        );
    }
    // Without the variable there is no place for the socket, and the server serves all the same.
    let serve = Serve::start(&["upper=:0", "--store", "none"]);
    fails(&home, &[&serve.id().to_string()], 1, "answers nowhere");
    serve.stop();
    // A relative path in it is invalid: the server would make a directory wherever it was started.
    let args = ["upper=:0", "--store", "none"];
    let mut command = home.echoic(&[&["serve"], &args[..], &["--print"]].concat());
    command.env("XDG_RUNTIME_DIR", "relative");
    Serve::from(&home, &args, command).stop();
    assert!(!home.path().join("relative").exists());
}

#[test]
fn process_with_unix_endpoints_is_asked_at_its_status_socket() {
    let home = Arc::new(Home::new());
    let names = 1..=8;
    let endpoints = names.map(|n| format!("upper=unix:{}/{n}.sock", home.path().display()));
    let endpoints: Vec<String> = endpoints.collect();
    let arguments: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    let serve = Serve::start_in(&home, &arguments);
    let told = status(&home, &[&serve.id().to_string()]);
    assert_eq!(told["pid"], serve.id());
}

#[test]
fn path_too_long_for_a_socket_uses_the_runtime_directory() {
    let home = Arc::new(Home::new());
    let name = "n".repeat(100);
    let directory = home.path().join("run");
    let args = ["upper=:0", "--store", &name];
    let mut command = home.echoic(&[&["serve"], &args[..], &["--print"]].concat());
    let serve = Serve::from(&home, &args, {
        command.env("XDG_RUNTIME_DIR", &directory);
        command
    });
    let mut command = home.echoic(&["status", "--store", &name]);
    let told = harness::run(command.env("XDG_RUNTIME_DIR", &directory), b"").good();
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["pid"], serve.id());
}

#[test]
fn missing_or_mute_server_is_an_error() {
    let home = Home::new();
    fails(&home, &[], 1, "no server records in echoic.db");
    fails(&home, &["1"], 1, "process 1 answers nowhere");
    fails(&home, &["--store", "none"], 2, "invalid --store none");
    fails(&home, &["7", "--store", "a.db"], 2, "cannot be used with");
    // A socket that takes connections and says nothing.
    fs::write(home.store(), "").unwrap();
    let listener = UnixListener::bind(socket(&home)).unwrap();
    fails(&home, &[], 5, "did not answer within 2 s");
    // One whose answer is another.
    let answering = thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = std::io::Write::write_all(&mut stream, b"hello\n");
        }
    });
    fails(&home, &[], 1, "invalid answer of");
    answering.join().unwrap();
}
