//! The record as `log` prints it, in the forms that scripts rely on.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may print what it saw"
)]

mod harness;

use std::{
    collections::HashSet,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
    sync::Arc,
};

use rustix::process::Signal;
use serde_json::{Value, json};

use self::harness::{
    Home, Lines, Ran, Serve, Talk, kill, obeyed, plain, terminal, until, wait_for_end,
};

/// The commands of serve and log that scripts rely on, verbatim except for the ports.
#[test]
fn output_formats_stay_stable() {
    let serve = Serve::start(&[
        "upper=:0",
        "greet=:0",
        "--frame",
        "line",
        "--store",
        "store.db",
        "--durability",
        "strict",
        "--console",
        "off",
        "--message-timeout",
        "5s",
        "--write-timeout",
        "3s",
        "--max-connections",
        "7",
    ]);
    let (home, upper, greet) = (serve.home.clone(), serve.at[0], serve.at[1]);
    let store = home.path().join("store.db").display().to_string();

    // Sixteen lines in one write are one run, and sixteen exchanges.
    let mut talk = Talk::to(upper);
    let lines: Vec<String> = (1..=16).map(|i| format!("line {i}\n")).collect();
    talk.ask(lines.concat(), lines.concat().to_uppercase());
    drop(talk.finish());
    assert_eq!(Talk::to(greet).rest(), b"Thank you for connecting");
    drop(Talk::to(upper).finish());

    let listed = home
        .run(&["log", "svc:upper", "--json", "--store", &store])
        .good();
    let exchanges: Vec<&str> = listed.lines().collect();
    assert_eq!(exchanges.len(), 16);
    for (line, (i, request)) in exchanges.iter().zip((1..).zip(&lines)) {
        let value: Value = serde_json::from_str(line).unwrap();
        let expected = json!({
            "id": i, "conv": 1, "n": i, "ep": format!("tcp:{}", upper.port()), "proto": "tcp", "svc": "upper", "role": "server",
            "peer": value["peer"], "t_us": value["t_us"], "lat_ns": value["lat_ns"],
            "outcome": "ok", "fault": null,
            "req": {"len": request.len(), "text": request, "reads": 1},
            "rep": {"len": request.len(), "text": request.to_uppercase(), "writes": 1},
            "tags": [], "time": value["time"],
        });
        assert_eq!(value, expected);
        assert!(
            value["peer"].as_str().unwrap().starts_with("127.0.0.1:"),
            "{line}"
        );
        assert!(
            value["t_us"].as_u64().unwrap() > 1_700_000_000_000_000,
            "{line}"
        );
        assert!(value["lat_ns"].is_u64(), "{line}");
        assert_in_order(
            line,
            &[
                "id", "conv", "n", "ep", "proto", "svc", "peer", "t_us", "lat_ns", "outcome",
                "fault", "req", "len", "text", "reads", "rep", "writes", "tags", "time",
            ],
        );
    }

    // A greeting is an exchange with an empty request; a conversation without bytes has no exchange.
    let greeting = home.log(&["svc:greet", "--store", &store]);
    assert_eq!(greeting.len(), 1);
    assert_eq!(
        greeting[0]["req"],
        json!({"len": 0, "text": "", "reads": 0})
    );
    assert_eq!(
        greeting[0]["rep"],
        json!({"len": 24, "text": "Thank you for connecting", "writes": 1})
    );
    assert_eq!(
        home.run(&["log", "--count", "--store", &store]).good(),
        "17\n"
    );
    assert_eq!(
        home.run(&["log", "--count", "svc:upper", "--store", &store])
            .good(),
        "16\n"
    );
    assert_eq!(
        home.run(&["log", "--json", "conv:1", "n:2", "--store", &store])
            .good()
            .lines()
            .count(),
        1
    );
    let stopped = serve.stop();
    assert_eq!((stopped.served, stopped.recorded), (17, 17));
}

#[track_caller]
fn assert_in_order(line: &str, keys: &[&str]) {
    let mut rest = line;
    for key in keys {
        let key = format!("\"{key}\":");
        rest = rest
            .split_once(&key)
            .unwrap_or_else(|| panic!("{key} is not where it belongs: {line}"))
            .1;
    }
}

#[test]
fn binary_messages_are_recorded() {
    let serve = Serve::start(&["upper=:0", "--frame", "line", "--durability", "strict"]);
    let mut talk = Talk::to(serve.at[0]);
    talk.ask(b"\x00a\xff\n", b"\x00A\xff\n");
    talk.ask(b"caf\xc3\xa9\0\n", b"CAF\xc3\x89\0\n");
    let exchanges = serve.home.log(&[]);
    assert_eq!(
        exchanges[0]["req"],
        json!({"len": 4, "b64": "AGH/Cg==", "reads": 1})
    );
    assert_eq!(
        exchanges[0]["rep"],
        json!({"len": 4, "b64": "AEH/Cg==", "writes": 1})
    );
    assert_eq!(
        exchanges[1]["rep"],
        json!({"len": 7, "b64": "Q0FGw4kACg==", "writes": 1})
    );
    assert_eq!(serve.home.count(&["hex:ff"]), 1);
    assert_eq!(serve.home.count(&["is:binary"]), 2);
}

#[test]
fn filters_match_while_the_server_writes() {
    let serve = Serve::start(&[
        "upper=:0",
        "greet=:0",
        "--frame",
        "line",
        "--durability",
        "strict",
    ]);
    let (home, upper, greet) = (serve.home.clone(), serve.at[0], serve.at[1]);
    let mut first = Talk::to(upper);
    first.ask("hello\n", "HELLO\n");
    first.ask("two words\n", "TWO WORDS\n");
    let mut second = Talk::to(upper);
    second.ask("Hello again\n", "HELLO AGAIN\n");
    drop(second.finish());
    assert_eq!(Talk::to(greet).rest(), b"Thank you for connecting");
    // The ends of the second conversation and of the greeting are written a moment after their peers see them.
    let ended = || home.count(&["is:closed"]) == 2;
    until("both have ended", ended);

    let port = upper.port();
    let found = [
        ("", 4),
        ("hello", 2),
        ("req:Hello", 2),
        ("req:HELLO", 2),
        ("rep:\"TWO WORDS\"", 1),
        ("\"two words\"", 1),
        ("req~^h", 1),
        ("req~(?i)^h", 2),
        ("hex:68656c6c6f", 1),
        ("svc:greet", 1),
        ("-svc:greet", 3),
        ("!svc:greet", 3),
        ("svc:greet,upper", 4),
        ("proto:tcp", 4),
        ("proto:udp", 0),
        ("peer:127.0.0.1", 4),
        ("peer:127.0.0.0/8", 4),
        ("peer:10.0.0.0/8", 0),
        ("conv:1", 2),
        ("conv:1 n:2", 1),
        ("conv:2..3", 2),
        ("id:1", 1),
        ("id:2..3", 2),
        ("id:>2", 2),
        ("is:open", 2),
        ("is:ok", 4),
        ("is:unanswered", 0),
        ("end:fin", 2),
        ("end:timeout", 0),
        ("lat:<30s", 4),
        ("lat:>30s", 0),
        ("size:>20", 2),
        ("since:1h", 4),
        ("before:2020-01-01", 0),
        ("after:2020-01-01", 4),
        ("svc:greet OR conv:2", 2),
        ("(hello OR words) -again", 2),
        ("nothing like it", 0),
    ];
    for (filter, expected) in found {
        let words: Vec<&str> = filter.split(' ').filter(|word| !word.is_empty()).collect();
        assert_eq!(home.count(&words), expected, "{filter}");
        assert_eq!(
            home.count(&[filter]),
            expected,
            "{filter:?} as one argument"
        );
        assert_eq!(home.log(&words).len() as u64, expected, "{filter}");
    }
    assert_eq!(home.count(&[&format!("port:{port}")]), 3);
    assert_eq!(home.count(&[&format!("ep:tcp:{port}")]), 3);

    let ids = |filter: &[&str]| -> Vec<u64> {
        home.log(filter)
            .iter()
            .map(|exchange| exchange["id"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(ids(&[]), [1, 2, 3, 4]);
    assert_eq!(ids(&["limit:2"]), [3, 4]);
    assert_eq!(ids(&["sort:-id", "limit:2"]), [4, 3]);
    assert_eq!(ids(&["sort:-size", "limit:1"]), [4]);

    // The server is still writing.
    first.ask("more\n", "MORE\n");
    assert_eq!(home.count(&[]), 5);
}

#[test]
fn follow_shows_each_new_exchange() {
    let serve = Serve::start(&["upper=:0", "--frame", "line", "--durability", "strict"]);
    let mut talk = Talk::to(serve.at[0]);
    talk.ask("before\n", "BEFORE\n");
    let (mut log, lines) = serve.home.start(&["log", "-f", "-req:hidden", "--json"]);
    let seen = |n: usize| {
        lines.wait("exchange", |lines| {
            let value: Value = serde_json::from_str(lines.get(n)?).unwrap();
            Some(value["rep"]["text"].as_str().unwrap().to_owned())
        })
    };
    assert_eq!(seen(0), "BEFORE\n");
    for i in 1..4 {
        talk.ask("hidden\n", "HIDDEN\n");
        talk.ask(format!("new {i}\n"), format!("NEW {i}\n"));
        assert_eq!(seen(i), format!("NEW {i}\n"));
    }
    kill(&mut log);
    assert_eq!(lines.all().len(), 4);
}

#[test]
fn d12_closed_pipe_is_not_an_error() {
    let serve = Serve::start(&["upper=:0", "--frame", "line"]);
    let mut talk = Talk::to(serve.at[0]);
    let lines = "a line of some length, so that they fill more than a pipe\n".repeat(5_000);
    talk.ask(&lines, lines.to_uppercase());
    drop(talk.finish());
    let home = serve.home.clone();
    assert_eq!(serve.stop().served, 5_000);
    for args in [&["log"][..], &["log", "--show"], &["log", "-f"]] {
        let mut log = home
            .echoic(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = String::new();
        BufReader::new(log.stdout.take().unwrap())
            .read_line(&mut first)
            .unwrap();
        assert!(!first.is_empty());
        let status = wait_for_end(&mut log, harness::SOON).expect("it ends");
        let err = Lines::of(log.stderr.take().unwrap()).all();
        assert_eq!((status.code(), err), (Some(0), vec![]), "{args:?}");
    }
}

#[test]
fn missing_database_reports_the_path_and_how_to_create_it() {
    let home = Home::new();
    let Ran { code, out, err } = home.run(&["log"]);
    assert_eq!((code, &*out), (Some(1), &b""[..]));
    for part in [
        &*home.store().display().to_string(),
        "echoic serve",
        "--store FILE",
    ] {
        assert!(err.contains(part), "{err}");
    }
    assert!(!home.store().exists(), "looking must not make one");
    std::fs::write(
        home.store(),
        "this is no database, but it may be needed\n".repeat(100),
    )
    .unwrap();
    for command in ["log", "serve"] {
        let Ran { code, err, .. } = home.run(&[command, "--store", "echoic.db"]);
        assert_eq!(code, Some(1), "{err}");
        assert!(
            err.contains("not a database") && err.contains("left as it is")
                || err.contains("left as it was"),
            "{err}"
        );
    }
    assert!(
        std::fs::read_to_string(home.store())
            .unwrap()
            .starts_with("this is no database")
    );
}

#[test]
fn database_is_used_by_one_server_at_a_time() {
    let serve = Serve::start(&[":0"]);
    let Ran { code, out, err } = serve.home.run(&["serve", ":0", "--print"]);
    assert_eq!((code, &*out), (Some(1), &b""[..]), "{err}");
    assert!(err.contains(&format!("pid {}", serve.id())), "{err}");
    assert!(err.contains("--store"), "{err}");
    // Once it has exited, in whatever way, another server may open the database.
    let home = serve.home.clone();
    serve.kill();
    Serve::start_in(&home, &[":0"]).stop();
}

#[test]
fn database_is_readable_only_by_its_owner() {
    let home = Arc::new(Home::new());
    let mut command = Command::new("sh");
    home.settle(&mut command);
    command.args([
        "-c",
        r#"umask 000; exec "$0" serve :0 --print"#,
        env!("CARGO_BIN_EXE_echoic"),
    ]);
    let serve = Serve::from(&home, &[":0"], command);
    Talk::to(serve.at[0]).ask("secret", "SECRET");
    until("the exchange is recorded", || home.count(&[]) == 1);
    let mut names = HashSet::new();
    for file in std::fs::read_dir(home.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(
            file.metadata().unwrap().permissions().mode() & 0o777,
            0o600,
            "{file:?}"
        );
        names.insert(file.file_name().into_string().unwrap());
    }
    assert!(
        names.contains("echoic.db") && names.contains("echoic.db-wal"),
        "{names:?}"
    );
}

#[test]
fn world_writable_folder_is_warned_about() {
    for (mode, warned) in [(0o777, true), (0o1777, false), (0o755, false)] {
        let home = Arc::new(Home::new());
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        let mut serve = Serve::start_in(&home, &[":0"]);
        serve.signal(Signal::TERM);
        assert_eq!(serve.ends().code, Some(0));
        let err = serve.err.all();
        let warning = err
            .iter()
            .any(|line| line.contains("any user may write to"));
        assert_eq!(warning, warned, "{mode:o}: {err:#?}");
    }
}

#[test]
fn store_none_and_memory_create_no_file() {
    for store in ["none", "memory"] {
        let serve = Serve::start(&[":0", "--store", store]);
        Talk::to(serve.at[0]).ask("hello", "HELLO");
        let home = serve.home.clone();
        assert_eq!(serve.stop().served, 1);
        assert_eq!(
            std::fs::read_dir(home.path()).unwrap().count(),
            0,
            "{store}"
        );
    }
}

#[test]
fn d24_peer_bytes_never_reach_a_terminal_raw() {
    let hostile = "\x1b[2J\x1b]0;title\x07 \u{9b}31m \u{202e}live\u{2066} \x7f \r \u{61c}\n";
    let serve = Serve::start_on_terminal(&["echo=:0", "--frame", "line", "--durability", "strict"]);
    let home = serve.home.clone();
    let mut talk = Talk::to(serve.at[0]);
    talk.ask(hostile, hostile);
    talk.ask("\0\u{9b}2J\n", "\0\u{9b}2J\n");
    talk.ask(b"\xff\x9b\xc3\x1b[31m\n", b"\xff\x9b\xc3\x1b[31m\n");
    drop(talk.finish());
    let out = serve.out.clone();
    serve.stop();
    // Through a pipe the text is complete: a program can parse it back.
    assert_eq!(home.log(&[])[0]["req"]["text"], hostile);
    let shown = out.raw().join(&b'\n');
    assert_eq!(obeyed(&shown), []);
    assert!(plain(&String::from_utf8(shown).unwrap()).contains(r"\x1b[2J"));

    for args in [
        &["log"][..],
        &["log", "--show"],
        &["log", "--json"],
        &["log", "2J"],
    ] {
        let (ours, theirs) = terminal();
        let mut command = home.echoic(args);
        let shown = Lines::of(ours);
        let mut log = command.stdout(theirs).spawn().unwrap();
        drop(command);
        assert_eq!(
            wait_for_end(&mut log, harness::SOON).unwrap().code(),
            Some(0)
        );
        let shown = shown.raw().join(&b'\n');
        assert_eq!(obeyed(&shown), []);
        assert!(
            String::from_utf8(shown).unwrap().contains("[2J"),
            "{args:?}"
        );
    }
}

#[test]
fn terminal_check_detects_raw_controls() {
    assert_eq!(obeyed(b"\x1b[1;31mred\x1b[0m\r\n"), []);
    for raw in [
        "\x1b[2J",
        "\x1b]0;x\x07",
        "\x07",
        "\u{9b}",
        "\u{202e}",
        "\x7f",
        "\0",
        "\x1b[31",
    ] {
        assert_ne!(obeyed(raw.as_bytes()), [], "{raw:?}");
    }
}

#[test]
fn rejected_connection_is_found_by_its_close_reason() {
    let serve = Serve::start(&["127.0.0.1:0", "--deny", "127.0.0.2"]);
    Talk::to(serve.at[0]).ask("hello", "HELLO");
    let denied = "
import socket, sys
c = socket.create_connection(('127.0.0.1', int(sys.argv[1])), source_address=('127.0.0.2', 0))
print(c.recv(9))";
    assert_eq!(
        harness::python(denied, &[&serve.at[0].port()], "").good(),
        "b''\n"
    );
    let home = serve.home.clone();
    serve.stop();
    for (filter, listed) in [
        ("end:limit", 1),
        ("is:closed peer:127.0.0.2", 1),
        ("end:limit since:1h", 1),
        ("end:limit before:1h", 0),
        ("end:timeout", 0),
        ("end:limit req:hello", 0),
    ] {
        let shown = home.run(&["log", "--show", filter]).good();
        let lines = shown
            .lines()
            .filter(|line| line.contains("denied: source address is not allowed"));
        assert_eq!(lines.count(), listed, "{filter}: {shown}");
        let ran = home.run(&["log", "--json", filter]);
        assert_eq!(
            ran.err.contains("1 conversation without"),
            listed == 1,
            "{filter}: {}",
            ran.err
        );
    }
    assert_eq!(home.run(&["log", "--json"]).err, "");
}

#[test]
fn gaps_in_the_record_are_reported_beside_results() {
    const WRITER: &str = "
import sqlite3, sys
record = sqlite3.connect(sys.argv[1])
at = record.execute('SELECT max(at) FROM run').fetchone()[0]
for ago, missing in [(90, 1), (60, 700), (50, 4), (40, 4), (30, 4), (20, 4), (10, 1)]:
    record.execute('INSERT INTO mark VALUES (0, ?, ?, ?, ?)',
        (at - ago * 1_000_000, 'gap', missing, at - ago * 1_000_000))
record.commit()
";
    let serve = Serve::start(&[":0", "--frame", "line"]);
    let (home, at) = (serve.home.clone(), serve.at[0]);
    Talk::to(at).ask("here\n", "HERE\n");
    serve.stop();
    let log = |words: &[&str]| {
        let words: Vec<&str> = ["log"].iter().chain(words).copied().collect();
        home.run(&words)
    };
    let whole = log(&["--json"]);
    assert_eq!(
        (whole.err.as_str(), whole.code),
        ("", Some(0)),
        "nothing is missing"
    );
    harness::python(WRITER, &[&home.store().display()], "").good();
    // One line of JSON is one exchange, as before; gaps are reported on standard error.
    let listed = log(&["--json"]);
    assert_eq!((&listed.out, listed.code), (&whole.out, Some(0)));
    let gaps: Vec<&str> = listed.err.lines().collect();
    assert_eq!(gaps.len(), 6, "{gaps:?}");
    assert_eq!(
        gaps[0],
        "not in the record: 701 exchanges in 2 gaps before these"
    );
    assert!(
        gaps[1].starts_with("not in the record: 4 exchanges from "),
        "{gaps:?}"
    );
    assert!(
        gaps[5].starts_with("not in the record: 1 exchange from "),
        "{gaps:?}"
    );
    assert_eq!(log(&["--count"]).err.lines().count(), 6);
    // `-n 1` does not report earlier gaps; a time range does.
    assert_eq!(log(&["--json", "limit:1"]).err, "");
    let lately = log(&["--count", "since:25s"]).err;
    assert!(lately.lines().count() <= 2, "{lately}");
}

#[test]
fn gap_among_the_last_exchanges_is_reported_with_them() {
    const WRITER: &str = "
import sqlite3, sys
record = sqlite3.connect(sys.argv[1])
at = record.execute('SELECT at FROM run ORDER BY id LIMIT 1 OFFSET 1').fetchone()[0]
record.execute('INSERT INTO mark VALUES (0, ?, ?, 5, ?)', (at + 1, 'gap', at + 1))
record.commit()
";
    let serve = Serve::start(&[":0", "--frame", "line"]);
    let home = serve.home.clone();
    let mut talk = Talk::to(serve.at[0]);
    for line in ["a\n", "b\n", "c\n"] {
        talk.ask(line, line.to_uppercase());
    }
    drop(talk);
    serve.stop();
    harness::python(WRITER, &[&home.store().display()], "").good();
    let gaps = |last: &str| home.run(&["log", "--json", last]).err;
    assert!(gaps("-2").contains("5 exchanges from "), "b is listed");
    assert_eq!(gaps("-1"), "", "it is before c");
}

#[test]
fn exchange_is_shown_from_client_to_server_in_the_records_of_both() {
    let serve = Serve::start(&["upper=:0", "--frame", "line"]);
    let (home, at) = (serve.home.clone(), serve.at[0].to_string());
    let sends = ["connect", &at, "--send", "a\n", "--frame", "line"];
    home.run(&[&sends[..], &["--store", "c.db"]].concat())
        .good();
    serve.stop();
    for store in ["echoic.db", "c.db"] {
        let shown = home.run(&["log", "--show", "--store", store]).good();
        let shown = plain(&shown);
        assert!(shown.contains(&format!(" → {at} (")), "{store}: {shown}");
    }
}
