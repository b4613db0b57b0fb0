//! How many exchanges are listed, and what is said if there are none.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    harness::{Home, Ran, Serve, Talk, until},
    record,
    screen::show,
};

fn requests(home: &Home, args: &[&str]) -> String {
    let listed = home.run(&[&["log", "--json"], args].concat()).good();
    let requests = listed.lines().map(|line| {
        let value: Value = serde_json::from_str(line).unwrap();
        value["req"]["text"].as_str().unwrap().trim().to_owned()
    });
    requests.collect::<Vec<_>>().join(" ")
}

#[test]
fn last_matches_are_listed_as_by_tail() {
    let home = record::of_lines(&["a1", "b1", "a2", "b2", "a3"]);
    for (args, expected) in [
        (&["-n", "2"][..], "b2 a3"),
        (&["-2"], "b2 a3"),
        (&["-n2"], "b2 a3"),
        (&["-n=2"], "b2 a3"),
        (&["--last", "2"], "b2 a3"),
        (&["-2", "req:a"], "a2 a3"),
        (&["req:a", "-2", "sort:-id"], "a3 a2"),
        (&["-9"], "a1 b1 a2 b2 a3"),
        (&["-0"], ""),
        (&["-3", "limit:2"], "b2 a3"),
        (&["limit:2"], "b2 a3"),
        (&["-2", "limit:1", "sort:-size"], "a3"),
        // Terms of the filter that look like it.
        (&["-n:1", "limit:9"], "b1 a2 b2 a3"),
        (&["--", "-2"], "a1 b1 a3"),
    ] {
        assert_eq!(requests(&home, args), expected, "{args:?}");
    }
    assert_eq!(home.run(&["log", "-n", "x"]).code, Some(2));
    assert_eq!(home.run(&["log", "-n"]).code, Some(2));
}

#[test]
fn count_obeys_limits() {
    let home = record::of_lines(&["a", "b", "c"]);
    for (args, count) in [
        (&["limit:2"][..], 2),
        (&["limit:5"], 3),
        (&["-2"], 2),
        (&["-n", "1", "limit:2"], 1),
        (&[], 3),
    ] {
        assert_eq!(home.count(args), count, "{args:?}");
    }
}

#[test]
fn limit_bounds_conversations_without_an_exchange_too() {
    let serve = Serve::start(&["127.0.0.1:0", "--frame", "line"]);
    for _ in 0..3 {
        drop(Talk::to(serve.at[0]).finish());
    }
    let mut talk = Talk::to(serve.at[0]);
    talk.ask("x\n", "X\n");
    drop(talk.finish());
    let home = serve.home.clone();
    serve.stop();
    for (args, lines) in [
        (&["end:fin"][..], 4),
        (&["end:fin", "limit:2"], 2),
        (&["end:fin", "-1"], 1),
    ] {
        let shown = show(&home, 80, args);
        assert_eq!(shown.out.len(), lines, "{args:?}: {shown:?}");
        assert_eq!(shown.err, "", "{args:?}");
    }
}

#[test]
fn short_list_on_a_terminal_says_that_there_is_more() {
    let lines: Vec<String> = (1..=51).map(|n| format!("line {n}")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let home = record::of_lines(&lines);
    for (args, listed, says) in [
        (&[][..], 50, true),
        (&["sort:-id"], 50, true),
        (&["sort:size"], 50, true),
        (&["-60"], 51, false),
        (&["-50"], 50, false),
        (&["limit:7"], 7, false),
        (&["-51"], 51, false),
        (&["id:2..60"], 50, false),
    ] {
        let shown = show(&home, 80, args);
        assert_eq!(shown.out.len(), listed, "{args:?}");
        let note = "only 50 matches are listed; limit:N lists more";
        assert_eq!(shown.err, if says { note } else { "" }, "{args:?}");
    }
    assert_eq!(home.log(&[]).len(), 51, "a pipe gets all");
}

#[test]
fn nothing_found_names_the_nearest_on_a_terminal() {
    let serve = Serve::start(&["upper=:0", "greet=:0", "--frame", "line"]);
    let port = serve.at[0].port();
    Talk::to(serve.at[0]).ask("x\n", "X\n");
    let home = serve.home.clone();
    until("it is recorded", || home.count(&[]) == 1);
    let near = format!("ep:tcp:{}", if port < 60_000 { port + 1 } else { port - 1 });
    let service = "the record has no svc:uper; did you mean svc:upper?";
    for (args, why) in [
        (&["svc:uper"][..], format!("nothing matches: {service}")),
        (
            &["svc:uper", "--count"],
            format!("nothing matches: {service}"),
        ),
        (
            &["svc:uper", "--json"],
            format!("nothing matches: {service}"),
        ),
        (
            &["svc:uper", "--show"],
            format!("nothing matches: {service}"),
        ),
        (
            &[&near],
            format!("nothing matches: the record has no {near}; did you mean ep:tcp:{port}?"),
        ),
        (&["hello"], "nothing matches".to_owned()),
        (
            &["wiat", "rep:x"],
            "nothing matches: wiat is a word to find; did you mean the verb in 'echoic log wait'?"
                .to_owned(),
        ),
        (
            &["taag", "svc:upper"],
            "nothing matches: taag is a word to find; did you mean the verb in 'echoic log tag'?"
                .to_owned(),
        ),
        (&["rep:x", "wiat"], "nothing matches".to_owned()),
        (
            &["since:2999-01-01"],
            "nothing matches: this time is yet to come".to_owned(),
        ),
        (
            &["since:1m", "before:1h"],
            "nothing matches: no time is within these limits".to_owned(),
        ),
        (&["-svc:upper"], "nothing matches".to_owned()),
        (&["x"], String::new()),
        (&["-n", "0"], String::new()),
    ] {
        let shown = show(&home, 80, args);
        assert_eq!((shown.code, shown.err), (Some(0), why), "{args:?}");
    }
    // A script reads no sentences.
    let Ran { code, out, err } = home.run(&["log", "svc:uper"]);
    assert_eq!((code, &*out, &*err), (Some(0), &b""[..], ""));
    serve.stop();
}

#[test]
fn empty_record_says_so_on_a_terminal() {
    let home = record::of_lines(&[]);
    let shown = show(&home, 80, &["svc:uper"]);
    assert_eq!(shown.err, "nothing matches: the record has no exchanges");
}

#[test]
fn unquoted_range_gets_a_hint() {
    let home = record::of_lines(&["x"]);
    for term in [
        "lat:>5ms",
        "size:>=1k",
        "id:>3",
        "conv:>3",
        "n:>1",
        "port:>80",
    ] {
        let mut shell = std::process::Command::new("sh");
        home.settle(&mut shell);
        let line = format!(
            "{} log --json {term} svc:upper",
            env!("CARGO_BIN_EXE_echoic")
        );
        let Ran { code, out, err } = crate::harness::run(shell.args(["-c", &line]), b"");
        assert_eq!((code, &*out), (Some(2), &b""[..]), "{term}: {err}");
        let (key, file) = term.split_once(":>").unwrap();
        for part in [
            "in quotes".to_owned(),
            format!("the file {file}"),
            format!("'{key}:>{file}'"),
        ] {
            assert!(err.contains(&part), "{part}: {err}");
            // One suggestion, and it is what was meant.
            assert_eq!(err.matches(&format!("'{key}:")).count(), 1, "{err}");
        }
        assert!(home.path().join(file).exists(), "the shell has made it");
    }
    let quoted = home.run(&["log", "--json", "lat:>=0ms"]).good();
    assert_eq!(quoted.lines().count(), 1);
}

/// As a script needs that lists an exchange right after its reply. Events are printed once they are committed.
#[test]
fn exchange_is_in_the_record_as_soon_as_its_reply_is_there() {
    let serve = Serve::start_with_events(&["upper=:0", "--frame", "line"]);
    let delays = (0..10).map(|round| {
        // The server is idle again.
        thread::sleep(Duration::from_millis(150));
        let mut talk = Talk::to(serve.at[0]);
        talk.ask(format!("x{round}\n"), format!("X{round}\n"));
        let replied = Instant::now();
        serve.out.wait_for(&format!("X{round}\\n"));
        replied.elapsed()
    });
    // The commit interval is 20 ms. On a busy machine some commits are late.
    let delays: Vec<_> = delays.collect();
    let least = *delays.iter().min().unwrap();
    assert!(least < Duration::from_millis(10), "{delays:?}");
}

#[test]
fn bench_sends_the_exchanges_that_log_lists() {
    let home = record::of_lines(&["a", "b", "c", "d", "e"]);
    assert_eq!(requests(&home, &["limit:2"]), "d e");
    let serve = Serve::start(&[":0", "--frame", "line", "--store", "none"]);
    let at = serve.at[0].to_string();
    let args = [
        "bench",
        &at,
        "--frame",
        "line",
        "--from-store",
        "limit:2",
        "--pace",
        "max",
        "--expect",
        "regex:^(D|E)$",
        "-q",
        "--no-floor",
    ];
    let result: Value = serde_json::from_str(&home.run(&args).good()).unwrap();
    assert_eq!(result["ok"], 2, "{result}");
    serve.stop();
}
