//! What runs where: `echoic status --on` and `--store postgres://…`, and `GET /api/v1/processes`, over a real nats-server and a real
//! PostgreSQL.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and may print what it saw"
)]

mod harness;
#[path = "processes/imposter.rs"]
mod imposter;
#[path = "processes/record.rs"]
mod record;
#[path = "processes/running.rs"]
mod running;
#[path = "processes/silent.rs"]
mod silent;

use std::{io::Write, net::TcpListener, sync::Arc, thread, time::Duration};

use rustix::process::Signal;
use serde_json::{Value, json};

use self::{
    harness::{Home, Nats, Ran, Serve, Talk, free_port, run, until},
    imposter::Imposter,
    running::Running,
};

/// Runs `status` with these arguments; returns its lines, which are JSON, its exit code, and what it reports.
#[track_caller]
fn status(home: &Home, args: &[&str]) -> (Vec<Value>, Option<i32>, String) {
    let Ran { code, out, err } = home.run(&[&["status"], args].concat());
    let text = String::from_utf8(out).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    (lines.collect(), code, err)
}

/// The line of a process.
fn line(lines: &[Value], pid: u32) -> Option<&Value> {
    lines.iter().find(|line| line["pid"] == pid)
}

/// The URL of the NATS server, without a name.
fn server_of(nats: &Nats) -> String {
    nats.url("").trim_end_matches('/').to_owned()
}

/// All tiers apart: two servers, a worker, a keeper, a console.
struct Tiers {
    home: Arc<Home>,
    keeper: Running,
    worker: Running,
    first: Serve,
    second: Serve,
    console: Running,
    on: String,
}

impl Tiers {
    /// Starts all with a login (`TOKEN@`), if it is not empty.
    #[track_caller]
    fn start(nats: &Nats, login: &str) -> Self {
        let url = |name: &str| {
            nats.url(name)
                .replace("nats://", &format!("nats://{login}"))
        };
        let on = url("").trim_end_matches('/').to_owned();
        let home = Arc::new(Home::new());
        let (record, upper) = (url("record"), url("upper"));
        let keeper = Running::start(&home, &["keep", "--from", &record], "keeping: ");
        let worker = Running::start(&home, &["work", "upper", "--on", &upper], "working: ");
        let common = ["--frame", "line", "--store", &record, "--on", &on];
        let first = Serve::start(&[&["127.0.0.1:0", "--as", &upper], &common[..]].concat());
        let second = Serve::start(&[&["lower=127.0.0.1:0"], &common[..]].concat());
        let console = ["console", "--console", ":0", "--on", &on];
        let console = Running::start(&home, &console, "console on http://");
        Self {
            home,
            keeper,
            worker,
            first,
            second,
            console,
            on,
        }
    }

    fn pids(&self) -> [u32; 5] {
        [
            self.first.id(),
            self.second.id(),
            self.worker.id(),
            self.keeper.id(),
            self.console.id(),
        ]
    }
}

#[test]
fn each_process_is_listed_with_its_role_host_version_and_lag() {
    let nats = Nats::with_jetstream_and("authorization { token: hidden-secret }", &[]);
    let tiers = Tiers::start(&nats, "hidden-secret@");
    let pids = tiers.pids();
    let mut lines = Vec::new();
    let held = json!({"name": "record", "pending": 0, "bytes": 0, "oldest_us": null});
    until("all are listed, with what the stream holds", || {
        lines = status(&tiers.home, &["--on", &tiers.on]).0;
        let keeper = line(&lines, tiers.keeper.id());
        pids.iter().all(|pid| line(&lines, *pid).is_some())
            // On a busy machine JetStream is not always in time.
            && keeper.is_some_and(|keeper| keeper["stream"] == held)
    });
    assert_eq!(lines.len(), 5, "{lines:?}");
    let roles: Vec<_> = lines.iter().map(|line| &line["role"]).collect();
    assert_eq!(roles, ["serve", "serve", "work", "keep", "console"]);
    for line in &lines {
        assert_eq!(line["version"], env!("CARGO_PKG_VERSION"), "{line}");
        assert_eq!(line["state"], "running", "{line}");
        assert!(line["started_us"].as_u64() > Some(1 << 50), "{line}");
        assert!(
            line["host"].as_str().is_some_and(|host| !host.is_empty()),
            "{line}"
        );
        assert_eq!(line["id"].as_str().unwrap().len(), 16, "{line}");
    }
    let [first, _, worker, keeper, console] = pids.map(|pid| line(&lines, pid).unwrap());
    let address = format!("tcp://{}", tiers.first.at[0]);
    assert_eq!(
        first["listening"],
        json!([{"addr": address, "svc": "upper"}])
    );
    assert_eq!(first["subjects"], json!([nats.url("upper")]));
    assert_eq!(first["store"], nats.url("record"));
    let lag = json!({"waiting": 0, "waiting_bytes": 0, "lost": 0, "committed_us": null});
    assert_eq!(first["record"], lag);
    assert_eq!(
        (&worker["svc"], &worker["subjects"]),
        (&json!("upper"), &first["subjects"])
    );
    assert_eq!(worker["runs"], json!({"pending": 0, "in_flight": 0}));
    assert_eq!(keeper["store"], "echoic.db");
    let url = tiers.console.console().address;
    assert_eq!(console["console"], format!("http://{url}/"));

    // The record moves on, and the page has the same.
    Talk::to(tiers.first.at[0]).ask("hello\n", "HELLO\n");
    until("the commit is told", || {
        let lines = status(&tiers.home, &["--on", &tiers.on]).0;
        line(&lines, pids[0]).is_some_and(|line| line["record"]["committed_us"].is_i64())
    });
    let api = tiers.console.console();
    until("the console sees all", || {
        let listed = api.get("/api/v1/processes").json();
        listed["processes"].as_array().unwrap().len() == 5
    });
    let listed = api.get("/api/v1/processes").body;
    let told = format!("{lines:?} {listed}");
    assert!(
        !told.contains("hidden-secret") && !told.contains(&api.token),
        "{told}"
    );
}

#[test]
fn table_has_a_line_for_each_process_and_one_for_the_store() {
    let nats = Nats::start(&[]);
    let on = server_of(&nats);
    let serve = Serve::start(&["upper=127.0.0.1:0", "--frame", "line", "--on", &on]);
    Talk::to(serve.at[0]).ask("hello\n", "HELLO\n");
    until("it is recorded", || serve.home.count(&[]) == 1);
    // Long enough for an answer on a busy machine.
    let args = ["status", "--on", &on, "--within=5s", "--store=echoic.db"];
    let shown = running::on_terminal(&serve.home, &args);
    let [head, server, store] = &shown[..] else {
        panic!("{shown:?}");
    };
    assert!(
        head.starts_with("ROLE") && head.contains("VERSION"),
        "{head}"
    );
    let expected = format!(":{}", serve.id());
    assert!(
        server.starts_with("serve ") && server.contains(&expected),
        "{server}"
    );
    assert!(
        server.contains("0 exchanges (0) unacknowledged, committed "),
        "{server}"
    );
    assert!(
        store.starts_with("store echoic.db: newest exchange 1, "),
        "{store}"
    );
}

#[test]
fn process_that_drains_says_so_and_one_that_has_ended_is_gone() {
    let nats = Nats::start(&[]);
    let on = server_of(&nats);
    // Replies that a peer does not read hold the drain, for as long as these allow.
    let long = ["--write-timeout", "60s", "--drain-timeout", "60s"];
    let mut serve = Serve::start(&[&["echo=127.0.0.1:0", "--on", &on], &long[..]].concat());
    let mut talk = Talk::to(serve.at[0]);
    talk.0.set_nonblocking(true).unwrap();
    until("nothing more is taken", || {
        while talk.0.write(&vec![b'x'; 65_536]).is_ok() {}
        (0..2).all(|_| {
            thread::sleep(Duration::from_millis(500));
            talk.0.write(b"x").is_err()
        })
    });
    let home = Home::new();
    until("it is listed", || {
        !status(&home, &["--on", &on]).0.is_empty()
    });
    serve.signal(Signal::TERM);
    until("it drains", || {
        let lines = status(&home, &["--on", &on, "--within", "200ms"]).0;
        lines
            .first()
            .is_some_and(|line| line["state"] == "stopping")
    });
    drop(talk);
    serve.ends();
    let (lines, code, err) = status(&home, &["--on", &on]);
    assert_eq!((lines.len(), code), (0, Some(4)), "{err}");
}

#[test]
fn nothing_that_answers_is_told_with_exit_code_4_and_no_answer_of_nats_with_5() {
    let home = Home::new();
    let nats = Nats::start(&[]);
    let (lines, code, err) = status(&home, &["--on", &server_of(&nats)]);
    assert_eq!((lines.len(), code), (0, Some(4)), "{err}");
    assert!(
        err.contains("nothing answers at nats://127.0.0.1:"),
        "{err}"
    );
    drop(nats);
    let away = format!("nats://me:hidden@127.0.0.1:{}", free_port());
    let (_, code, err) = status(&home, &["--on", &away]);
    assert_eq!(code, Some(4), "{err}");
    assert!(
        err.contains("cannot reach NATS at") && !err.contains("hidden"),
        "{err}"
    );
    // One that accepts and says nothing.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let (_, code, err) = status(
        &home,
        &["--on", &format!("nats://{}", mute.local_addr().unwrap())],
    );
    assert_eq!(code, Some(5), "{err}");
    assert!(err.contains("gave no answer in time"), "{err}");
}

#[test]
fn other_versions_are_listed_and_told_and_hostile_answers_are_harmless() {
    let nats = Nats::start(&[]);
    let newer = br#"{"v":9,"role":"shine","id":"00000000000000aa","host":"far\u001b[2J\naway","pid":7,"version":"9.9.9","started_us":5,"more":{"a":1}}"#;
    let _imposter = Imposter::answer(&nats, &[newer, &vec![b'x'; 100_000], b"\xff{", b""]);
    let home = Home::new();
    let on = server_of(&nats);
    let (lines, code, err) = status(&home, &["--on", &on, "--within", "3s"]);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(
        (&lines[0]["role"], &lines[0]["host"]),
        (&json!("other"), &json!("far[2Jaway"))
    );
    assert!(err.contains("versions differ: 9.9.9 there, "), "{err}");
    assert!(err.contains("3 answers left out"), "{err}");
    assert!(!err.contains('\u{1b}'), "{err}");
}

/// One variable for all commands: a worker needs the subject, the others have no use for it.
#[test]
fn subject_in_echoic_on_is_ignored_by_all_but_workers() {
    let nats = Nats::start(&[]);
    let on = ("ECHOIC_ON", nats.url("upper"));
    let home = Arc::new(Home::new());
    let args = ["upper=127.0.0.1:0", "--frame", "line"];
    let mut command = home.echoic(&[&["serve"], &args[..], &["--print"]].concat());
    command.env(on.0, &on.1);
    let serve = Serve::from(&home, &args, command);
    let list = || {
        let ran = run(home.echoic(&["status", "--json"]).env(on.0, &on.1), b"");
        (ran.code, String::from_utf8(ran.out).unwrap())
    };
    let mut told = String::new();
    until("the server is listed", || {
        let (code, listed) = list();
        told = listed;
        code == Some(0)
    });
    assert!(told.contains(&format!("\"pid\":{},", serve.id())), "{told}");
    let console = home.echoic(&["console", "--console", ":0"]);
    let console = Running::of(console, Some((on.0, &on.1)), "console on http://");
    until("the console controls it", || {
        let listed = console.console().get("/api/v1/endpoints").json();
        listed["endpoints"].as_array().unwrap().len() == 1
    });
    for command in [&["serve", ":0"][..], &["console"], &["status"]] {
        let ran = home.run(&[command, &["--on", &on.1]].concat());
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(
            ran.err.contains("a name after the host has no use here"),
            "{ran:?}"
        );
        let usage = format!("Usage: echoic {}", command[0]);
        assert!(ran.err.contains(&usage), "{ran:?}");
    }
    // A process of this machine is asked at its socket all the same.
    let pid = serve.id().to_string();
    let asked = run(home.echoic(&["status", &pid]).env(on.0, &on.1), b"");
    assert!(asked.good().contains("\"served\":0"));
    let both = home.run(&["status", &pid, "--on", &server_of(&nats)]);
    assert_eq!(both.code, Some(2), "{both:?}");
}
