//! What `serve` prints and rejects, and the limits it enforces.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may print what it saw"
)]

mod harness;

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use self::harness::{
    Home, Lines, Ran, Serve, Talk, obeyed, plain, raise_open_files, run, tool, until,
};

/// Returns the events on standard output: every line after the addresses is one.
fn events(out: &Lines, endpoints: usize) -> Vec<Value> {
    let lines = out.all();
    let json =
        |line: &String| serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"));
    lines[endpoints..].iter().map(json).collect()
}

fn of<'a>(event: &'a Value, key: &str) -> &'a str {
    event[key]
        .as_str()
        .unwrap_or_else(|| panic!("no {key}: {event}"))
}

#[test]
fn json_prints_each_event_as_a_line() {
    let serve = Serve::start_with_events(&["upper=:0", "greet=:0", "--frame", "line"]);
    let (upper, greet) = (serve.at[0].port(), serve.at[1].port());
    let mut talk = Talk::to(serve.at[0]);
    talk.ask("hello\nyou\n", "HELLO\nYOU\n");
    drop(talk.finish());
    assert_eq!(Talk::to(serve.at[1]).rest(), b"Thank you for connecting");
    let (home, out) = (serve.home.clone(), serve.out.clone());
    serve.stop();

    let events = events(&out, 2);
    assert!(events.iter().all(|event| event["v"] == 1), "{events:?}");
    let listening = events
        .iter()
        .take_while(|event| of(event, "ev") == "listening");
    let listening: Vec<&Value> = listening.collect();
    for (port, service) in [(upper, "upper"), (greet, "greet")] {
        let expected = json!({
            "v": 1, "ev": "listening", "ep": format!("tcp:{port}"), "addr": format!("127.0.0.1:{port}"),
            "svc": service, "frame": "line",
        });
        assert!(
            listening.contains(&&expected),
            "{expected} in {listening:?}"
        );
    }

    // Of each conversation: open, its exchanges in order, end.
    for (port, exchanges, how) in [(upper, 2, "peer-closed"), (greet, 1, "service-closed")] {
        let ep = format!("tcp:{port}");
        let open = events
            .iter()
            .find(|event| of(event, "ev") == "open" && event["ep"] == ep)
            .unwrap();
        let story: Vec<&Value> = events
            .iter()
            .filter(|event| event["conv"] == open["conv"])
            .collect();
        let words: Vec<&str> = story.iter().map(|event| of(event, "ev")).collect();
        let expected = [&["open"][..], &vec!["exchange"; exchanges], &["end"]].concat();
        assert_eq!(words, expected, "{story:?}");
        assert!(of(open, "peer").starts_with("127.0.0.1:"), "{open}");
        let end = story.last().unwrap();
        assert_eq!((of(end, "end"), of(end, "reason")), ("fin", how));
        assert_eq!((&end["unsent"], &end["discarded"]), (&json!(0), &json!(0)));
    }

    // An exchange event equals the line that `log --json` prints.
    let logged = home.log(&[]);
    let shown = events
        .into_iter()
        .filter(|event| of(event, "ev") == "exchange");
    let shown: Vec<Value> = shown
        .map(|mut event| {
            let fields = event.as_object_mut().unwrap();
            fields.remove("v");
            fields.remove("ev");
            event
        })
        .collect();
    assert_eq!(shown, logged);
}

#[test]
fn terminal_shows_one_readable_line_per_exchange() {
    let serve = Serve::start_on_terminal(&["upper=:0", "--frame", "line"]);
    let mut talk = Talk::to(serve.at[0]);
    talk.ask("hello\n", "HELLO\n");
    drop(talk.finish());
    let out = serve.out.clone();
    serve.stop();
    let raw = out.raw().join(&b'\n');
    assert_eq!(obeyed(&raw), []);
    let text = plain(&String::from_utf8(raw).unwrap());
    let lines: Vec<&str> = text.lines().skip(1).collect();
    assert_eq!(lines.len(), 3, "{text}");
    for (line, parts) in lines.iter().zip([
        &["connected → tcp:", "upper"][..],
        &["▸ hello ", "◂ HELLO "],
        &["peer closed, 6 B in, 6 B out"],
    ]) {
        for part in parts {
            assert!(line.contains(part), "{part} in {line:?}");
        }
    }
    // The latency, which may be milliseconds on a busy machine.
    let latency = lines[1]
        .split_whitespace()
        .collect::<Vec<_>>()
        .windows(2)
        .any(|words| {
            words[0].parse::<f64>().is_ok_and(|figure| figure > 0.0)
                && ["µs", "ms", "s"].contains(&words[1])
        });
    assert!(latency, "{:?}", lines[1]);
}

#[test]
fn terminal_shows_a_sample_and_reports_the_rest() {
    let serve =
        Serve::start_on_terminal(&["upper=:0", "--frame", "line", "--durability", "strict"]);
    let mut talk = Talk::to(serve.at[0]);
    let since = Instant::now();
    for _ in 0..10 {
        talk.ask("line\n".repeat(200), "LINE\n".repeat(200));
    }
    // The hidden events are announced even if no event follows.
    let out = serve.out.clone();
    out.wait_for("more in that second");
    drop(talk.finish());
    assert_eq!(serve.stop().served, 2000);
    // Twenty lines in each second, and in those that it began and ended in.
    let most = 20 * (since.elapsed().as_secs() + 2);
    // Every event is printed or counted as hidden: each exchange, the opening and the end.
    let (mut shown, mut hidden) = (0, 0);
    for line in out.all().iter().skip(1) {
        let line = plain(line);
        match line.split_once(" more in that second") {
            Some((more, _)) => hidden += more.trim_start_matches("… ").parse::<u64>().unwrap(),
            None => shown += 1,
        }
    }
    assert!((1..=most).contains(&shown), "{shown} lines were shown");
    assert_eq!(shown + hidden, 2002);
}

#[test]
fn stdout_that_is_no_terminal_shows_no_exchanges() {
    let serve = Serve::start(&["upper=:0", "greet=:0"]);
    Talk::to(serve.at[0]).ask("hello", "HELLO");
    let (out, err, at) = (serve.out.clone(), serve.err.clone(), serve.at.clone());
    serve.stop();
    assert_eq!(out.all(), [at[0].to_string(), at[1].to_string()]);
    // Lifecycle lines are on standard error.
    let printed = err.all().join("\n");
    for line in [
        "listening on tcp://",
        "recording in echoic.db",
        "stopping",
        "stopped: 1 exchange served",
    ] {
        assert!(printed.contains(line), "{line}: {printed}");
    }
    assert!(!printed.contains("hello"), "{printed}");
}

/// Runs a server whose standard error may be empty: it serves `exchanges` exchanges and is stopped. Returns its output
/// lines, its standard error and its exit code.
fn quiet(args: &[&str], exchanges: u64) -> (Vec<String>, String, Option<i32>) {
    let home = Home::new();
    let mut command = home.echoic(&[&["serve", "127.0.0.1:0", "-q", "--print"], args].concat());
    command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let out = Lines::of(child.stdout.take().unwrap());
    let err = Lines::of(child.stderr.take().unwrap());
    let at = out.wait("address", |lines| lines.first()?.parse().ok());
    let mut talk = Talk::to(at);
    for _ in 0..exchanges {
        talk.ask("hello\n", "HELLO\n");
    }
    drop(talk.finish());
    harness::signal(&child, rustix::process::Signal::TERM);
    let ended = harness::wait_for_end(&mut child, harness::SOON).unwrap();
    (out.all(), err.all().join("\n"), ended.code())
}

#[test]
fn quiet_prints_nothing_without_failures() {
    let (out, err, code) = quiet(&[], 3);
    assert_eq!((out.len(), &*err, code), (1, "", Some(0)), "{out:?}");
}

#[test]
fn quiet_still_reports_failures() {
    let home = Home::new();
    let mut command = home.echoic(&["serve", "echo=127.0.0.1:0", "-q", "--print"]);
    command.args(["--drain-timeout", "200ms"]);
    command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let out = Lines::of(child.stdout.take().unwrap());
    let err = Lines::of(child.stderr.take().unwrap());
    let at = out.wait("address", |lines| lines.first()?.parse().ok());
    let talk = Talk::to(at);
    talk.fill();
    harness::signal(&child, rustix::process::Signal::TERM);
    let ended = harness::wait_for_end(&mut child, harness::SOON).unwrap();
    assert_eq!(ended.code(), Some(6));
    let printed = err.all();
    assert_eq!(printed.len(), 1, "{printed:?}");
    assert!(printed[0].contains("1 conversation cut"), "{printed:?}");
}

#[test]
fn quiet_joins_json() {
    let (out, err, code) = quiet(&["--json"], 3);
    assert_eq!((&*err, code), ("", Some(0)));
    let events: Vec<Value> = out[1..]
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let words: Vec<&str> = events.iter().map(|event| of(event, "ev")).collect();
    let expected = [
        "listening",
        "open",
        "exchange",
        "exchange",
        "exchange",
        "end",
    ];
    assert_eq!(words, expected);
}

#[test]
fn explain_prints_the_tutorial_calls_in_order() {
    let serve = Serve::start(&["upper=:0", "udp://:0", "unix:own.sock", "--explain"]);
    let at = serve.at[0];
    let doors = serve.addresses.clone();
    let mut talk = Talk::to(at);
    talk.ask("hello", "HELLO");
    drop(talk.finish());
    serve.err.wait_for("close()");
    let err = serve.err.clone();
    serve.stop();
    let lines = err.all();
    let mut rest = lines.iter();
    for call in [
        "socket(AF_INET, SOCK_STREAM)",
        "bind(127.0.0.1:0)",
        "listen(1024)",
        &format!("listening on tcp://{at}"),
        "accept() = 127.0.0.1:",
        "recv(69632) = b'hello'",
        "send(b'HELLO') = 5",
        "recv(69632) = b''",
        "close()",
    ] {
        assert!(
            rest.any(|line| line.contains(call)),
            "{call} is not where it belongs:\n{}",
            lines.join("\n")
        );
    }
    let ends = |line: &String| line.contains("shutdown(SHUT_WR)");
    assert!(
        !lines.iter().any(ends),
        "closing alone ends our half of a talk whose peer has ended its own:\n{}",
        lines.join("\n")
    );
    // A short stop is announced at its end.
    let rest: Vec<_> = rest.collect();
    let stopping = rest.iter().any(|line| line.starts_with("stopping: "));
    assert!(stopping, "it does not say that it stops: {lines:?}");
    for door in doors {
        let closed = format!("  {door}  close()");
        assert!(
            rest.iter().any(|line| line.ends_with(&closed)),
            "{closed} is not where it belongs:\n{}",
            lines.join("\n")
        );
    }
}

#[test]
fn address_in_use_is_reported() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = holder.local_addr().unwrap().to_string();
    let home = Home::new();
    for endpoint in [
        at.clone(),
        format!(":{}", holder.local_addr().unwrap().port()),
    ] {
        let Ran { code, out, err } = home.run(&["serve", ":0", &endpoint, "--print"]);
        assert_eq!(
            (code, &*out),
            (Some(1), &b""[..]),
            "no listening line before all endpoints listen: {err}"
        );
        assert!(err.contains(&at) && err.contains("in use"), "{err}");
        assert!(!err.contains("listening on"), "{err}");
        let left = std::fs::read_dir(home.path()).unwrap().count();
        assert_eq!(left, 0, "nor is an empty record left behind");
    }
    // An existing file is left unchanged.
    Serve::start_in(&home.into(), &[":0"]).stop();
}

#[test]
fn listening_line_describes_each_endpoint() {
    let serve = Serve::start(&[
        "127.0.0.1:0",
        "udp://127.0.0.1:0",
        "unixgram:./g",
        "--frame",
        "line",
    ]);
    let (tcp, udp) = (serve.at[0], serve.at[1]);
    let lines = [
        (
            format!("listening on tcp://{tcp}"),
            "line",
            format!("connect :{}", tcp.port()),
        ),
        (
            format!("listening on udp://{udp}"),
            "datagram",
            format!("connect udp://{udp}"),
        ),
        (
            "listening on unixgram:./g".to_owned(),
            "datagram",
            "connect unixgram:./g".to_owned(),
        ),
    ];
    for (at, messages, how) in lines {
        let line = serve.err.wait_for(&at);
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(words[3..5], ["upper", messages], "{line}");
        assert!(line.ends_with(&how), "{line}");
    }
    assert_eq!(serve.addresses[2], "unixgram:./g");
}

#[test]
fn once_is_rejected_where_it_could_never_end() {
    let home = Home::new();
    let ran = home.run(&["serve", "udp://127.0.0.1:0", "--once"]);
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.err.contains("datagram endpoints have no connections"),
        "{}",
        ran.err
    );
    let mut serve = Serve::start(&["127.0.0.1:0", "udp://127.0.0.1:0", "--once"]);
    Talk::to(serve.at[0]).ask("a", "A");
    assert_eq!(serve.ends().code, Some(0));
}

#[test]
fn invalid_serve_arguments_are_rejected_with_a_hint() {
    let home = Home::new();
    for (args, parts) in [
        (&["serve", "foo"][..], &["foo", "HOST:PORT"][..]),
        (&["serve", ":99999"], &["99999", "65535"]),
        (&["serve", "::1:5000"], &["bracket"]),
        (&["serve", "http://:80"], &["http", "tcp://"]),
        (&["serve", "udp://host"], &["udp://host", "HOST:PORT"]),
        (&["serve", "unix:"], &["unix:PATH", "unix:@NAME"]),
        (&["serve", "unix:@"], &["@"]),
        (&["serve", "fd:three"], &["fd:three", "number"]),
        (&["serve", ":0?frame"], &["frame", "name=value"]),
        (
            &["serve", ":0?colour=red"],
            &[
                "colour",
                "as, frame, max-message, idle-timeout, message-timeout,",
            ],
        ),
        (&["serve", ":0", "--allow", "host"], &["host", "10.0.0.0/8"]),
        (
            &["serve", ":0", "--deny", "1.2.3.4/33"],
            &["1.2.3.4/33", "10.0.0.0/8"],
        ),
        (&["serve", "./s", "--mode", "9"], &["9", "660"]),
        (
            &["serve", "shout=:0"],
            &["shout", "upper, lower, echo, greet"],
        ),
        (
            &["serve", ":0", "--as", "shout"],
            &["shout", "upper, lower, echo, greet"],
        ),
        (
            &["serve", ":0", "--frame", "lines"],
            &["lines", "chunk, line"],
        ),
        (&["serve", ":0", "--max-message", "big"], &["big", "1k"]),
        (&["serve", ":0", "--max-message", "0"], &["--max-message"]),
        (
            &["serve", ":0", "--max-connections", "0"],
            &["--max-connections"],
        ),
        (
            &["serve", ":0", "--idle-timeout", "soon"],
            &["soon", "--idle-timeout"],
        ),
        (
            &["serve", ":0", "--durability", "very"],
            &["very", "strict"],
        ),
        (
            &[
                "serve",
                ":0",
                "--durability",
                "strict",
                "--when-full",
                "drop",
            ],
            &["strict", "drop", "exclude each other"],
        ),
        (&["serve", ":0", "--retention", "soon"], &["soon", "7d"]),
        (&["serve", ":0", "--console", "on"], &["--console", "off"]),
        (&["serve", ":0", "--store", "mysql://x"], &["mysql"]),
        (&["serve", ":0", "--stoer", "x"], &["--stoer", "--store"]),
        (&["log", "svc:"], &["svc"]),
        (&["log", "latt:>5ms"], &["latt", "lat:"]),
        (&["log", "lat:>5x"], &["lat:>5x", "1.5s"]),
        (&["log", "req~("], &["req~"]),
        (&["log", "(a"], &["("]),
        (&["log", "--jsno"], &["--jsno", "--json"]),
        (&["sevre"], &["sevre", "serve"]),
    ] {
        let Ran { code, out, err } = home.run(args);
        assert_eq!((code, &*out), (Some(2), &b""[..]), "{args:?}: {err}");
        for part in parts {
            assert!(err.contains(part), "{args:?}: {part} is not in {err}");
        }
    }
    assert_eq!(
        std::fs::read_dir(home.path()).unwrap().count(),
        0,
        "nothing was made"
    );
}

#[test]
fn unresolved_name_exits_with_3() {
    let home = Home::new();
    let Ran { code, err, .. } = home.run(&["serve", "no-such-name.invalid:5000"]);
    assert_eq!(code, Some(3), "{err}");
    assert!(err.contains("no-such-name.invalid"), "{err}");
}

#[test]
fn excess_connections_get_a_clean_close() {
    let serve = Serve::start_with_events(&["upper=:0", "--max-connections", "2"]);
    let mut first = Talk::to(serve.at[0]);
    let mut second = Talk::to(serve.at[0]);
    first.ask("a", "A");
    second.ask("b", "B");
    for _ in 0..3 {
        let mut third = Talk::to(serve.at[0]);
        third.send("whatever comes first");
        assert_eq!(third.rest(), b"");
    }
    first.ask("still", "STILL");
    drop(first.finish());
    // A connection is accepted again once the first has gone.
    until("there is room again", || {
        let mut next = Talk::to(serve.at[0]);
        let _ = next.0.write_all(b"next");
        let mut reply = [0; 4];
        next.0.read_exact(&mut reply).is_ok() && &reply == b"NEXT"
    });
    drop(second);
    let (home, out) = (serve.home.clone(), serve.out.clone());
    assert_eq!(serve.stop().served, 4);
    let ends = events(&out, 1);
    let refused = ends
        .iter()
        .filter(|event| event["reason"] == "too-many-connections");
    let refused: Vec<&Value> = refused.collect();
    assert!(refused.len() >= 3, "{ends:?}");
    assert!(
        refused
            .iter()
            .all(|event| event["end"] == "limit" && event["sent"] == 0)
    );
    let recorded =
        home.sql("SELECT count(*) FROM conversation WHERE reason = 'too-many-connections'");
    assert_eq!(recorded, [refused.len().to_string()]);
}

#[test]
fn d19_each_timeout_ends_its_case_and_is_recorded() {
    let serve = Serve::start_with_events(&[
        "echo=:0",
        "--frame",
        "line",
        "--idle-timeout",
        "1s",
        "--message-timeout",
        "700ms",
        "--write-timeout",
        "500ms",
    ]);
    let mut idle = Talk::to(serve.at[0]);
    idle.ask("idle\n", "idle\n");
    let mut partial = Talk::to(serve.at[0]);
    partial.ask("partial\nnot a whole li", "partial\n");
    // More than all buffers hold, and no reply is read.
    let stalled = Talk::to(serve.at[0]);
    let mut stream = stalled.0.try_clone().unwrap();
    let lines = [vec![b'x'; 100_000], vec![b'\n']].concat().repeat(120);
    let writing = thread::spawn(move || stream.write_all(&lines));
    assert_eq!(idle.rest(), b"");
    assert_eq!(partial.rest(), b"");
    serve.out.wait_for("write-timeout");
    // Meanwhile a peer that sends a message now and then is served.
    let mut busy = Talk::to(serve.at[0]);
    let (mut since, mut last) = (Instant::now(), Instant::now());
    let (mut before, mut sent, mut restarts) = (0, 0, 0);
    until("it has gone on for twice as long", || {
        // If this process has paused, the server is right to end it for being idle.
        if last.elapsed() > Duration::from_millis(800) {
            (busy, since) = (Talk::to(serve.at[0]), Instant::now());
            (before, sent, restarts) = (before + sent, 0, restarts + 1);
        }
        last = Instant::now();
        busy.ask("busy\n", "busy\n");
        sent += 1;
        thread::sleep(Duration::from_millis(100));
        since.elapsed() > Duration::from_secs(2)
    });
    let _ = writing.join();
    drop((idle, partial, stalled, busy));
    let (home, out) = (serve.home.clone(), serve.out.clone());
    serve.stop();
    let ends = events(&out, 1);
    let how = |how: &str| ends.iter().filter(|event| event["reason"] == how).count();
    assert_eq!(
        (how("message-timeout"), how("write-timeout")),
        (1, 1),
        "{ends:?}"
    );
    let idle = how("idle-timeout");
    assert!((1..=1 + restarts).contains(&idle), "{ends:?}");
    assert_eq!(home.count(&["end:timeout", "idle"]), 1);
    assert_eq!(home.count(&["end:timeout", "partial"]), 1);
    assert!(home.count(&["end:timeout", "is:unsent"]) >= 1);
    let ended = home.count(&["end:fin"]);
    assert!((sent..=before + sent).contains(&ended), "{ended}, {sent}");
    let shown = home
        .run(&["log", "--show", "end:timeout", "partial"])
        .good();
    assert!(shown.contains("message not finished"), "{shown}");
}

#[test]
fn d19_later_bytes_do_not_extend_the_message_timeout() {
    let serve = Serve::start(&[
        "upper=:0",
        "--frame",
        "line",
        "--message-timeout",
        "500ms",
        "--idle-timeout",
        "20s",
    ]);
    let mut talk = Talk::to(serve.at[0]);
    let since = Instant::now();
    // A byte now and then, for ever, and no newline.
    talk.0
        .set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    let mut reply = [0; 1];
    until("the server has ended it", || {
        let _ = talk.0.write_all(b"x");
        matches!(talk.0.read(&mut reply), Ok(0))
    });
    let took = since.elapsed();
    assert!(
        took >= Duration::from_millis(450) && took < Duration::from_secs(5),
        "{took:?}"
    );
    drop(talk);
    let home = serve.home.clone();
    serve.stop();
    assert_eq!(
        home.sql("SELECT reason FROM conversation"),
        ["message-timeout"]
    );
}

#[test]
fn too_long_message_gets_only_a_clean_close() {
    let serve = Serve::start(&["upper=:0", "--frame", "line", "--max-message", "10"]);
    let mut talk = Talk::to(serve.at[0]);
    talk.ask("123456789\n", "123456789\n");
    talk.send("12345678901234567890\nmore\n");
    assert_eq!(talk.rest(), b"");
    drop(talk);
    let home = serve.home.clone();
    assert_eq!(serve.stop().served, 1);
    assert_eq!(
        home.sql("SELECT reason FROM conversation"),
        ["message-too-long"]
    );
    assert_eq!(home.count(&["end:limit"]), 1);
}

#[test]
fn reset_is_recorded_as_a_reset() {
    let serve = Serve::start(&["upper=:0"]);
    let mut talk = Talk::to(serve.at[0]);
    talk.ask("hello", "HELLO");
    rustix::net::sockopt::set_socket_linger(&talk.0, Some(Duration::ZERO)).unwrap();
    drop(talk);
    let home = serve.home.clone();
    until("it is recorded", || home.count(&["end:rst"]) == 1);
    assert_eq!(home.count(&["is:reset"]), 1);
    Talk::to(serve.at[0]).ask("others", "OTHERS");
}

#[test]
fn thousand_idle_conversations_are_harmless() {
    raise_open_files();
    let serve = Serve::start(&["upper=:0", "--frame", "line"]);
    let at = serve.at[0];
    let mut idle: Vec<TcpStream> = (0..1000).map(|_| Talk::to(at).0).collect();
    let mut talk = Talk::to(at);
    talk.ask("one more\n", "ONE MORE\n");
    drop(talk.finish());
    for stream in &mut idle {
        stream.write_all(b"hello\n").unwrap();
    }
    for stream in &mut idle {
        let mut reply = [0; 6];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(&reply, b"HELLO\n");
    }
    drop(idle);
    let home = serve.home.clone();
    let since = Instant::now();
    assert_eq!(serve.stop().served, 1001);
    assert!(
        since.elapsed() < Duration::from_secs(5),
        "{:?}",
        since.elapsed()
    );
    assert_eq!(
        home.sql("SELECT reason, count(*) FROM conversation GROUP BY reason"),
        ["peer-closed|1001"]
    );
}

/// It used to panic if descriptors ran out while signal handlers were installed.
#[test]
fn too_few_files_at_start_is_reported() {
    for files in [4, 9, 12, 13, 14, 15, 20] {
        let home = Home::new();
        let mut command = tool("prlimit", "util-linux");
        home.settle(&mut command);
        command
            .arg(format!("--nofile={files}:{files}"))
            .arg(env!("CARGO_BIN_EXE_echoic"))
            .args(["serve", ":0", "--quiet"]);
        let Ran { code, err, .. } = run(&mut command, b"");
        assert_eq!(code, Some(1), "{files} files: {err}");
        assert!(err.starts_with("echoic: "), "{files} files: {err}");
        assert!(!err.contains("bug in echoic"), "{files} files: {err}");
    }
}
