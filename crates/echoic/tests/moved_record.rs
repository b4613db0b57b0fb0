//! A record whose file is renamed or removed while `serve`, `connect --store` and `log -f` have it open.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use std::{
    fs,
    io::Write,
    net::SocketAddr,
    process::{Child, Stdio},
    sync::Arc,
    time::Duration,
};

use rustix::process::Signal;

use self::harness::{Home, Lines, Serve, Talk, kill, signal, until, wait_for_end};

const SERVE: [&str; 5] = ["upper=:0", "--frame", "line", "--console", "off"];

/// Starts `log -f` on the store, and returns what it prints on standard output and standard error.
fn follow(home: &Home) -> (Child, Lines, Lines) {
    let mut command = home.echoic(&["log", "-f", "--json", "--store", "store.db"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let out = Lines::of(child.stdout.take().unwrap());
    let err = Lines::of(child.stderr.take().unwrap());
    (child, out, err)
}

fn requests(out: &Lines) -> Vec<String> {
    let text = |line: &String| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        value["req"]["text"].as_str().unwrap().trim().to_owned()
    };
    out.all().iter().map(text).collect()
}

/// Exchanges `from`, `from + 1`, … over one connection.
fn ask(talk: &mut Talk, numbers: std::ops::Range<u32>) {
    for number in numbers {
        talk.ask(format!("line {number}\n"), format!("LINE {number}\n"));
    }
}

/// A running `serve`. (The harness would check that one file has all exchanges.)
struct Server {
    child: Child,
    err: Lines,
    at: SocketAddr,
}

impl Server {
    fn start(home: &Home, args: &[&str]) -> Self {
        let mut command = home.echoic(&[&["serve"], &SERVE[..], args, &["--print"]].concat());
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = Lines::of(child.stdout.take().unwrap());
        let err = Lines::of(child.stderr.take().unwrap());
        let at = out.wait("an address", |lines| lines.first()?.parse().ok());
        Self { child, err, at }
    }
}

fn renamed_record_goes_on(durability: &str) {
    let home = Home::new();
    let args = ["--store", "store.db", "--durability", durability];
    let mut serve = Server::start(&home, &args);
    let (store, old) = (home.path().join("store.db"), home.path().join("old.db"));
    let mut talk = Talk::to(serve.at);
    ask(&mut talk, 0..3);
    until("the first are stored", || {
        home.count(&["--store", "store.db"]) == 3
    });
    let (mut follower, out, err) = follow(&home);
    out.wait_for("line 2");

    fs::rename(&store, &old).unwrap();
    ask(&mut talk, 3..6);
    serve.err.wait_for("store.db was renamed to");
    serve.err.wait_for("the record goes on in a new file");
    ask(&mut talk, 6..9);
    out.wait_for("line 8");
    err.wait_for("the record goes on in a new file");
    drop(talk.finish());
    signal(&serve.child, Signal::TERM);
    let code = wait_for_end(&mut serve.child, Duration::from_secs(20));
    assert_eq!(code.and_then(|code| code.code()), Some(0));
    serve.err.wait_for("9 recorded, 0 lost");
    kill(&mut follower);
    let expected: Vec<_> = (0..9).map(|number| format!("line {number}")).collect();
    assert_eq!(requests(&out), expected);
    let counts = ["store.db", "old.db"].map(|file| home.count(&["--store", file]));
    assert_eq!(counts.iter().sum::<u64>(), 9, "{counts:?}");
    let ended = home.run(&["log", "end:fin", "--json", "--store", "store.db"]);
    assert!(!ended.good().is_empty(), "its end is in the new file");
}

#[test]
fn renamed_record_goes_on_under_normal_durability() {
    renamed_record_goes_on("normal");
}

#[test]
fn renamed_record_goes_on_under_strict_durability() {
    renamed_record_goes_on("strict");
}

#[test]
fn client_record_goes_on_after_its_file_was_removed() {
    let serve = Serve::start(&[
        "upper=:0",
        "--store",
        "none",
        "--console",
        "off",
        "--frame",
        "line",
    ]);
    let home = Arc::clone(&serve.home);
    let at = serve.at[0].to_string();
    let arguments = ["connect", &at, "--frame", "line", "--store", "client.db"];
    let mut command = home.echoic(&arguments);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let out = Lines::of(child.stdout.take().unwrap());
    let err = Lines::of(child.stderr.take().unwrap());
    input.write_all(b"one\n").unwrap();
    out.wait_for("ONE");
    until("it is stored", || {
        let file = home.path().join("client.db");
        file.exists() && home.count(&["--store", "client.db"]) == 1
    });
    fs::remove_file(home.path().join("client.db")).unwrap();
    err.wait_for("client.db was removed");
    input.write_all(b"two\n").unwrap();
    out.wait_for("TWO");
    drop(input);
    assert_eq!(child.wait().unwrap().code(), Some(0), "{:?}", err.all());
    assert_eq!(home.count(&["rep:TWO", "--store", "client.db"]), 1);
}

#[test]
fn removed_directory_is_a_failure_of_the_store() {
    let home = Arc::new(Home::new());
    let folder = home.path().join("in");
    fs::create_dir(&folder).unwrap();
    let mut serve = Server::start(&home, &["--store", "in/store.db"]);
    let err = &serve.err;
    let mut talk = Talk::to(serve.at);
    ask(&mut talk, 0..1);
    until("it is stored", || {
        home.count(&["--store", "in/store.db"]) == 1
    });
    fs::remove_dir_all(&folder).unwrap();
    ask(&mut talk, 1..3);
    err.wait_for("store.db was removed");
    let told = err.wait_for("not recording since");
    assert!(told.contains("No such file or directory"), "{told}");
    fs::create_dir(&folder).unwrap();
    err.wait_for("recording again");
    until("it is stored", || {
        home.count(&["--store", "in/store.db"]) == 2
    });
    kill(&mut serve.child);
}
