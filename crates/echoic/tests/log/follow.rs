//! `log -f`: each exchange once, and an end when nobody reads.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    harness::{Home, Lines, Serve, Talk, kill, until, wait_for_end},
    record,
};

/// Far less than a person or a script would wait for.
const AT_ONCE: Duration = Duration::from_secs(5);

fn serve_lines() -> (Serve, Talk) {
    let serve = Serve::start(&["upper=:0", "--frame", "line", "--durability", "strict"]);
    let talk = Talk::to(serve.at[0]);
    (serve, talk)
}

fn ask_for(talk: &mut Talk, numbers: std::ops::RangeInclusive<u64>) {
    for n in numbers {
        talk.ask(format!("new {n}\n"), format!("NEW {n}\n"));
    }
}

fn ids(lines: &[String]) -> Vec<u64> {
    let id = |line: &String| {
        serde_json::from_str::<Value>(line).unwrap()["id"]
            .as_u64()
            .unwrap()
    };
    lines.iter().map(id).collect()
}

#[test]
fn exchange_is_listed_once_after_a_limited_listing() {
    let (serve, mut talk) = serve_lines();
    ask_for(&mut talk, 1..=5);
    until("they are recorded", || serve.home.count(&[]) == 5);
    let cases = [
        (&["-n", "2"][..], 4),
        (&["-2"], 4),
        (&["-n", "0"], 6),
        (&["-n", "9"], 1),
        (&["-2", "svc:upper"], 4),
        (&["limit:100"], 1),
        (&["-2", "limit:100"], 4),
        (&[], 1),
    ];
    let started = cases.map(|(args, first)| {
        let (log, lines) = serve.home.start(&[&["log", "-f", "--json"], args].concat());
        if first < 6 {
            lines.wait("the listing", |lines| {
                (lines.len() as u64 == 6 - first).then_some(())
            });
        }
        (args, first, log, lines)
    });
    // The followers without a listing have none to wait for: exchanges go on until each has seen some.
    let mut last = 5;
    for (args, first, mut log, lines) in started {
        until("it follows", || {
            last += 1;
            ask_for(&mut talk, last..=last);
            lines.wait("a line", |lines| Some(lines.len() as u64 >= 6 - first + 3))
        });
        kill(&mut log);
        let ids = ids(&lines.all());
        let from = if first == 6 { ids[0] } else { first };
        let expected: Vec<u64> = (from..).take(ids.len()).collect();
        assert_eq!(ids, expected, "{args:?}");
    }
    drop(talk.finish());
    serve.stop();
}

#[test]
fn limit_ends_following() {
    let (serve, mut talk) = serve_lines();
    ask_for(&mut talk, 1..=3);
    until("they are recorded", || serve.home.count(&[]) == 3);
    for limit in 1..=3 {
        let filter = format!("limit:{limit}");
        let listed = serve.home.run(&["log", "-f", "--json", &filter]).good();
        assert_eq!(
            listed.lines().count(),
            limit,
            "it ends without another exchange"
        );
    }
    let (mut log, lines) = serve
        .home
        .start(&["log", "-f", "--json", "-n", "1", "limit:4"]);
    lines.wait_for("new 3");
    ask_for(&mut talk, 4..=9);
    let ended = wait_for_end(&mut log, AT_ONCE).expect("the limit is reached");
    assert_eq!(
        (ended.code(), ids(&lines.all())),
        (Some(0), vec![3, 4, 5, 6])
    );
    drop(talk.finish());
    serve.stop();
}

#[test]
fn order_other_than_that_of_recording_cannot_be_followed() {
    let home = record::of_lines(&["x"]);
    for sort in ["sort:-id", "sort:-t", "sort:lat", "sort:-size"] {
        let ran = home.run(&["log", "-f", sort]);
        assert_eq!(ran.code, Some(2), "{sort}");
        assert!(ran.err.contains("leave out one of them"), "{}", ran.err);
    }
}

/// Reads the first line and leaves, as `head -1` does.
fn leave_after_a_line(log: &mut Child) {
    let mut first = String::new();
    BufReader::new(log.stdout.take().unwrap())
        .read_line(&mut first)
        .unwrap();
    assert!(!first.is_empty());
}

#[track_caller]
fn ends_at_once(log: &mut Child, what: &str) {
    let began = Instant::now();
    let ended = wait_for_end(log, AT_ONCE);
    kill(log);
    let err = Lines::of(log.stderr.take().unwrap()).all();
    let ended = ended.unwrap_or_else(|| panic!("{what} goes on after {:?}", began.elapsed()));
    assert_eq!((ended.code(), err), (Some(0), Vec::new()), "{what}");
}

fn follow(home: &Home, args: &[&str]) -> Child {
    let mut command = home.echoic(&[&["log", "-f"], args].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

#[test]
fn follower_whose_reader_has_left_ends_while_nothing_comes() {
    let home = record::of_lines(&["a", "b"]);
    for args in [&[][..], &["--text"], &["--show"], &["--hex"], &["-n", "1"]] {
        let mut log = follow(&home, args);
        leave_after_a_line(&mut log);
        ends_at_once(&mut log, &format!("{args:?}"));
    }
    // The reader leaves without a line.
    for args in [&["-n", "0"][..], &["nothing"]] {
        let mut log = follow(&home, args);
        std::thread::sleep(Duration::from_millis(300));
        drop(log.stdout.take());
        ends_at_once(&mut log, &format!("{args:?}"));
    }
}

#[test]
fn follower_whose_terminal_is_gone_ends() {
    let home = record::of_lines(&["a"]);
    let (ours, theirs) = crate::harness::terminal();
    let mut command = home.echoic(&["log", "-f"]);
    command.stdout(theirs).stderr(Stdio::piped());
    let mut log = command.spawn().unwrap();
    drop(command);
    let mut terminal = BufReader::new(ours);
    let mut first = String::new();
    terminal.read_line(&mut first).unwrap();
    drop(terminal);
    ends_at_once(&mut log, "on a terminal");
}

#[test]
fn follower_that_finds_nothing_says_so_on_a_terminal() {
    let home = record::of_lines(&["a"]);
    let (ours, theirs) = crate::harness::terminal();
    let mut command = home.echoic(&["log", "-f", "svc:uper"]);
    command.stdout(theirs).stderr(Stdio::piped());
    let mut log = command.spawn().unwrap();
    drop(command);
    let err = Lines::of(log.stderr.take().unwrap());
    err.wait_for("nothing matches yet: the record has no svc:uper; did you mean svc:upper?");
    kill(&mut log);
    drop(ours);
}
