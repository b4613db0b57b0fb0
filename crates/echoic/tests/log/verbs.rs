//! `log wait`, `log tag`, `log note`, `log delete` and `log --export`.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    harness::{Serve, Talk, python, until, wait_for_end},
    record,
};

fn serve_lines() -> (Serve, Talk) {
    let serve = Serve::start(&["upper=:0", "--frame", "line", "--durability", "strict"]);
    let talk = Talk::to(serve.at[0]);
    (serve, talk)
}

fn ids(json_lines: &str) -> Vec<u64> {
    let id = |line| serde_json::from_str::<Value>(line).unwrap()["id"].as_u64();
    json_lines.lines().map(|line| id(line).unwrap()).collect()
}

#[test]
fn wait_prints_what_is_recorded_already() {
    let home = record::of_lines(&["one", "login", "two", "login"]);
    let waited = home
        .run(&["log", "wait", "req:login", "--timeout", "5s"])
        .good();
    assert_eq!(ids(&waited), [2]);
    let waited = home
        .run(&["log", "wait", "--after", "2", "req:login"])
        .good();
    assert_eq!(ids(&waited), [4]);
    let both = home
        .run(&["log", "wait", "req:login", "--matches=2"])
        .good();
    assert_eq!(ids(&both), [2, 4]);
    let sequence = home
        .run(&["log", "wait", "req:one", "THEN", "req:two"])
        .good();
    assert_eq!(ids(&sequence), [3]);
}

#[test]
fn wait_ends_with_the_first_match() {
    let (serve, mut talk) = serve_lines();
    talk.ask("before\n", "BEFORE\n");
    let (mut waiting, lines) = serve
        .home
        .start(&["log", "wait", "req:login", "--timeout", "60s"]);
    std::thread::sleep(Duration::from_millis(300));
    assert!(waiting.try_wait().unwrap().is_none(), "it waits");
    talk.ask("login\n", "LOGIN\n");
    let ended = wait_for_end(&mut waiting, Duration::from_secs(20)).expect("it ends");
    assert!(ended.success(), "{ended}");
    assert_eq!(ids(&lines.all().join("\n")), [2]);
    serve.stop();
}

#[test]
fn wait_gives_up_after_its_timeout() {
    let home = record::of_lines(&["one", "login"]);
    let began = Instant::now();
    let ran = home.run(&[
        "log",
        "wait",
        "req:login",
        "--matches",
        "3",
        "--timeout",
        "0.5s",
    ]);
    assert!(began.elapsed() >= Duration::from_millis(500));
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert_eq!(
        ids(str::from_utf8(&ran.out).unwrap()),
        [2],
        "what was found is printed"
    );
    let why = "timed out after 500ms: 1 of 3 matches were found";
    assert!(ran.err.contains(why), "{ran:?}");
    let none = home.run(&["log", "wait", "--after=2", "--timeout=0.1s"]);
    assert_eq!((none.code, none.out.len()), (Some(5), 0));
}

#[test]
fn verb_is_the_first_word_and_a_word_of_the_filter_after_dashes() {
    let home = record::of_lines(&["please wait", "other", "tag"]);
    assert_eq!(ids(&home.run(&["log", "--", "wait"]).good()), [1]);
    assert_eq!(ids(&home.run(&["log", "please", "wait"]).good()), [1]);
    assert_eq!(ids(&home.run(&["log", "--json", "tag"]).good()), [3]);
}

#[test]
fn tags_and_notes_are_written_while_serve_records() {
    let (serve, mut talk) = serve_lines();
    for line in ["one", "two", "three"] {
        talk.ask(format!("{line}\n"), format!("{}\n", line.to_uppercase()));
    }
    let home = &serve.home;
    until("they are recorded", || home.count(&[]) == 3);
    assert_eq!(home.run(&["log", "tag", "bug,late", "req:t"]).good(), "2\n");
    assert_eq!(
        home.run(&["log", "note", "Look at this", "id:2"]).good(),
        "1\n"
    );
    talk.ask("four\n", "FOUR\n");
    until("it is recorded", || home.count(&[]) == 4);
    let tagged = home.log(&["tag:bug"]);
    assert_eq!(tagged.len(), 2);
    assert_eq!(tagged[0]["tags"], serde_json::json!(["bug", "late"]));
    assert_eq!(tagged[0]["note"], "Look at this");
    assert!(tagged[1].get("note").is_none());
    home.run(&["log", "note", "a\u{1b}[2J", "--conversations", "id:2"])
        .good();
    let shown = home.run(&["log", "--show", "id:2"]).good();
    for line in [
        "bug",
        "note: Look at this",
        r"note on the conversation: a\x1b[2J",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    assert!(!shown.contains("\u{1b}[2J"));
    assert_eq!(home.count(&["note:look"]), 1);
    assert_eq!(
        home.run(&["log", "tag", "--remove", "bug", "tag:bug"])
            .good(),
        "2\n"
    );
    assert_eq!(home.count(&["tag:bug"]), 0);
    assert_eq!(
        home.run(&["log", "tag", "all", "--conversations", "id:2"])
            .good(),
        "1\n"
    );
    assert_eq!(
        home.count(&["tag:all"]),
        4,
        "each exchange of the conversation"
    );
    assert_eq!(home.run(&["log", "note", "", "id:2"]).good(), "1\n");
    assert_eq!(home.count(&["note:look"]), 0);
    assert_eq!(home.run(&["log", "tag", "x", "req:absent"]).good(), "0\n");
    let invalid = home.run(&["log", "tag", "two words", "id:1"]);
    assert_eq!(invalid.code, Some(2), "{invalid:?}");
    assert!(
        invalid.err.contains("invalid tag \"two words\""),
        "{invalid:?}"
    );
    assert_eq!(home.run(&["log", "tag", "x"]).code, Some(2), "no filter");
    drop(talk);
    serve.stop();
}

#[test]
fn delete_needs_the_number_and_no_serve() {
    let (serve, mut talk) = serve_lines();
    for line in ["one", "secret", "two", "secret"] {
        talk.ask(format!("{line}\n"), format!("{}\n", line.to_uppercase()));
    }
    let home = serve.home.clone();
    until("they are recorded", || home.count(&[]) == 4);
    let held = home.run(&["log", "delete", "secret", "--confirm", "2"]);
    assert_eq!(held.code, Some(1), "{held:?}");
    assert!(
        held.err.contains(&format!("pid {}", serve.id())),
        "{held:?}"
    );
    assert_eq!(home.count(&[]), 4);
    drop(talk);
    serve.stop();
    let asked = home.run(&["log", "delete", "secret"]);
    assert_eq!(asked.code, Some(2), "{asked:?}");
    let why = "nothing was deleted: 2 exchanges match; to delete them, add --confirm 2";
    assert!(asked.err.contains(why), "{asked:?}");
    let wrong = home.run(&["log", "delete", "secret", "--confirm", "3"]);
    assert_eq!(wrong.code, Some(7), "{wrong:?}");
    assert!(wrong.err.contains("2 exchanges match, not 3"), "{wrong:?}");
    let limited = home.run(&["log", "delete", "secret", "limit:1", "--confirm", "1"]);
    assert_eq!(limited.code, Some(2), "{limited:?}");
    assert_eq!(home.count(&[]), 4);
    assert_eq!(
        home.run(&["log", "delete", "secret", "--confirm", "2"])
            .good(),
        "2\n"
    );
    let left = home.log(&[]);
    let left: Vec<_> = left.iter().map(|line| &line["req"]["text"]).collect();
    assert_eq!(left, ["one\n", "two\n"]);
    let bytes = fs::read(home.store()).unwrap();
    for gone in [&b"secret"[..], b"SECRET"] {
        assert!(!bytes.windows(gone.len()).any(|window| window == gone));
    }
}

#[test]
fn export_writes_a_file_that_other_programs_read() {
    let home = record::of_lines(&["one", "=HYPERLINK(\"http://x\",1)", "a, \"b\"", "-2"]);
    home.run(&["log", "note", "=1+1", "id:1"]).good();
    home.run(&["log", "tag", "bug", "id:1"]).good();
    let ran = home.run(&["log", "--export", "all.jsonl"]);
    assert!(
        ran.err.contains("4 exchanges exported to all.jsonl"),
        "{ran:?}"
    );
    assert_eq!(ran.good(), "");
    let path = home.path().join("all.jsonl");
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let without_time = |mut line: Value| {
        line.as_object_mut().unwrap().remove("time").unwrap();
        line
    };
    let exported = fs::read_to_string(&path).unwrap();
    let exported: Vec<Value> = exported
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(exported[0]["time"].as_str().unwrap().ends_with('Z'));
    let exported: Vec<Value> = exported.into_iter().map(without_time).collect();
    let listed: Vec<Value> = home.log(&[]).into_iter().map(without_time).collect();
    assert_eq!(exported, listed);

    home.run(&["log", "--export=some.csv", "-n", "3", "id:1,2,3,4"])
        .good();
    home.run(&["log", "--export=one.csv", "id:1"]).good();
    let read = "import csv, json, sys\nprint(json.dumps([list(csv.DictReader(open(p, newline=''))) for p in sys.argv[1:]]))";
    let (some, one) = (home.path().join("some.csv"), home.path().join("one.csv"));
    let rows: Value =
        serde_json::from_str(&python(read, &[&some.display(), &one.display()], "").good()).unwrap();
    let requests: Vec<_> = rows[0]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["req"].as_str().unwrap())
        .collect();
    assert_eq!(
        requests,
        ["'=HYPERLINK(\"http://x\",1)\\n", "a, \"b\"\\n", "'-2\\n"]
    );
    assert_eq!(
        (&rows[1][0]["note"], &rows[1][0]["tags"]),
        (&"'=1+1".into(), &"bug".into())
    );
    for (wrong, why) in [
        ("x.txt", "expected .jsonl or .csv"),
        ("no/such/x.csv", "cannot write no/such/x.csv"),
    ] {
        let refused = home.run(&["log", "--export", wrong]);
        assert!(
            refused.code != Some(0) && refused.err.contains(why),
            "{refused:?}"
        );
    }
}

#[test]
fn sequence_is_followed() {
    let (serve, mut talk) = serve_lines();
    talk.ask("login\n", "LOGIN\n");
    until("it is recorded", || serve.home.count(&[]) == 1);
    let (mut log, lines) = serve.home.start(&[
        "log",
        "-f",
        "--json",
        "req:login",
        "THEN",
        "rep:ERROR",
        "limit:2",
    ]);
    let mut other = Talk::to(serve.at[0]);
    for _ in 0..2 {
        other.ask("error\n", "ERROR\n");
        talk.ask("error\n", "ERROR\n");
    }
    let ended = wait_for_end(&mut log, Duration::from_secs(20)).expect("it ends");
    assert!(ended.success());
    assert_eq!(ids(&lines.all().join("\n")), [3, 5]);
    drop((talk, other));
    serve.stop();
}
