//! The forms of the output: lists in columns, whole exchanges and hex dumps.

use crate::{
    harness::{Home, Ran, Serve, Talk, python, run},
    record,
    screen::show,
};

/// Columns of a line on a terminal; the tests use wide characters of two columns.
fn columns_of(line: &str) -> usize {
    let wide = line
        .chars()
        .filter(|c| ('\u{4e00}'..='\u{9fff}').contains(c));
    line.chars().count() + wide.count()
}

/// Column at which `mark` stands.
fn column_of(line: &str, mark: char) -> Option<usize> {
    line.split_once(mark).map(|(before, _)| columns_of(before))
}

fn mixed_record() -> std::sync::Arc<Home> {
    let serve = Serve::start(&["echo=:0", "greet=:0", "--frame", "line"]);
    let home = serve.home.clone();
    let long = "a long line that no terminal shows in full ".repeat(20);
    let wide = "漢字".repeat(40);
    for line in ["hi", &long, &wide, "\u{1b}[2J\u{202e}", "GET / HTTP/1.1"] {
        let line = format!("{line}\n");
        let mut talk = Talk::to(serve.at[0]);
        talk.ask(&line, &line);
        drop(talk.finish());
    }
    drop(Talk::to(serve.at[1]).rest());
    serve.stop();
    home
}

#[test]
fn list_fits_the_terminal_and_keeps_its_columns() {
    let home = mixed_record();
    for width in [40, 60, 80, 100, 120, 200] {
        let shown = show(&home, width, &[]);
        assert_eq!(shown.out.len(), 6, "{shown:?}");
        let mut places = Vec::new();
        for line in &shown.out {
            assert!(columns_of(line) <= width.into(), "{width} columns: {line}");
            places.extend(column_of(line, '◂'));
        }
        assert_eq!(places.len(), 6, "{shown:?}");
        assert!(
            places.iter().all(|place| *place == places[0]),
            "{width} columns: {places:?}\n{shown:#?}"
        );
        if width >= 60 {
            let ends: Vec<usize> = shown.out.iter().map(|line| columns_of(line)).collect();
            assert!(
                ends.iter().all(|end| *end == usize::from(width)),
                "{ends:?}"
            );
            assert!(
                shown.out.iter().all(|line| line.ends_with('s')),
                "the latency is last: {shown:#?}"
            );
        }
        let http = shown.out.iter().find(|line| line.contains("GET")).unwrap();
        let tag = if width >= 60 { " [http]" } else { " http" };
        assert!(http.contains(tag), "{http}");
    }
}

/// Without brackets a tag reads like the end of the reply.
#[test]
fn tags_are_set_apart_from_the_reply() {
    let home = record::of_lines(&["hello"]);
    for tag in ["bug", "slow"] {
        home.run(&["log", "tag", tag, "id:1"]).good();
    }
    let shown = show(&home, 100, &[]);
    assert!(shown.out[0].contains("◂ HELLO  [bug, slow]"), "{shown:?}");
    assert_eq!(columns_of(&shown.out[0]), 100, "{shown:?}");
    let narrow = show(&home, 60, &[]);
    assert_eq!(columns_of(&narrow.out[0]), 60, "{narrow:?}");
}

#[test]
fn unanswered_exchange_keeps_the_columns() {
    let serve = Serve::start(&["echo=:0", "--frame", "line"]);
    let home = serve.home.clone();
    let mut talk = Talk::to(serve.at[0]);
    talk.ask("hello\n", "hello\n");
    talk.send("half a line");
    drop(talk.finish());
    serve.stop();
    for width in [60, 80, 120] {
        let shown = show(&home, width, &[]);
        for line in &shown.out {
            assert_eq!(columns_of(line), usize::from(width), "{shown:#?}");
        }
    }
}

#[test]
fn list_in_a_pipe_is_text_without_colours() {
    let home = record::of_lines(&["hello", "\u{1b}[2J"]);
    let listed = home.run(&["log", "--text"]).good();
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(
        lines[0].contains("▸ hello ") && lines[0].contains("◂ HELLO "),
        "{listed}"
    );
    assert!(
        !listed.contains('\u{1b}') && lines[1].contains(r"▸ \x1b[2J"),
        "{listed}"
    );
    let mut narrow = home.echoic(&["log", "--text"]);
    let narrow = run(narrow.env("COLUMNS", "60"), b"").good();
    assert!(
        narrow.lines().all(|line| columns_of(line) == 60),
        "{narrow}"
    );
    for other in ["--json", "--count"] {
        assert_eq!(home.run(&["log", "--text", other]).code, Some(2), "{other}");
    }
}

#[test]
fn hit_in_a_long_message_is_shown_with_its_surroundings() {
    let hay = "hay ".repeat(5_000);
    let line = format!("{hay}the NeeDle is here{hay}");
    let home = record::of_lines(&[&line]);
    for width in [60, 80, 120] {
        for filter in [
            "needle",
            "req:needle",
            "req~Nee.le",
            "hex:4e6565",
            "needle OR nothing",
            "needle -nothing",
        ] {
            let shown = show(&home, width, &[filter]);
            assert!(shown.out[0].contains("NeeDle"), "{filter}: {shown:?}");
            assert!(
                columns_of(&shown.out[0]) <= width.into(),
                "{filter}: {shown:?}"
            );
        }
        let of_reply = show(&home, width, &["rep:needle"]);
        assert!(
            of_reply.out[0].contains("NEEDLE") && of_reply.out[0].contains("▸ hay"),
            "{of_reply:?}"
        );
        let without = show(&home, width, &["svc:upper"]);
        assert!(without.out[0].contains("▸ hay hay"), "{without:?}");
    }
}

#[test]
fn hex_dump_has_offsets_bytes_and_text() {
    let home = record::of_lines(&["0123456789abcdef\u{1}"]);
    for args in [
        &["log", "--hex"][..],
        &["log", "--show", "--hex"],
        &["log", "--text", "--hex"],
    ] {
        let dumped = home.run(args).good();
        for row in [
            "  0000  30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  |0123456789abcdef|\n",
            "  0010  01 0a                                             |..|\n",
            "  0000  30 31 32 33 34 35 36 37  38 39 41 42 43 44 45 46  |0123456789ABCDEF|\n",
        ] {
            assert!(dumped.contains(row), "{dumped}");
        }
        assert!(dumped.starts_with("exchange 1   "), "{dumped}");
    }
    for other in ["--json", "--count"] {
        assert_eq!(home.run(&["log", "--hex", other]).code, Some(2), "{other}");
    }
}

#[test]
fn latency_as_listed_finds_the_exchange() {
    let home = record::of_lines(&["a", "b", "c", "d", "e", "f", "g", "h"]);
    for line in home.run(&["log", "--text"]).good().lines() {
        let words: Vec<&str> = line.split_whitespace().rev().take(2).collect();
        let listed = format!("lat:{}{}", words[1], words[0]);
        let found = home.run(&["log", "--text", &listed]).good();
        assert!(found.contains(line), "{listed} finds {found}, not {line}");
    }
}

/// A client that sends half a length and closes: a conversation without an exchange, and only one.
#[test]
fn one_conversation_without_an_exchange_is_told_in_the_singular() {
    let serve = Serve::start(&["echo=:0", "--frame", "u16be"]);
    let home = serve.home.clone();
    let mut talk = Talk::to(serve.at[0]);
    talk.send(b"\0");
    assert_eq!(talk.finish(), b"");
    serve.stop();
    let Ran { err, .. } = home.run(&["log", "--json", "end:fin"]);
    assert_eq!(
        err.lines().last(),
        Some("1 conversation without an exchange matches too; --show lists it")
    );
    let shown = home.run(&["log", "--show", "end:fin"]).good();
    let note = "1 B made no message: 1 byte of a length, which has 2 under u16be";
    assert!(shown.contains(note), "{shown}");
}

#[test]
fn tag_of_a_conversation_without_an_exchange_is_found() {
    const TAG: &str = "
import sqlite3, sys
record = sqlite3.connect(sys.argv[1])
record.execute(\"INSERT INTO conversation_tag VALUES (2, 'bug')\")
record.commit()
";
    let serve = Serve::start(&["echo=:0", "--frame", "line"]);
    let home = serve.home.clone();
    for _ in 0..3 {
        let talk = Talk::to(serve.at[0]);
        assert_eq!(talk.finish(), b"");
    }
    serve.stop();
    python(TAG, &[&home.store().display()], "").good();
    let note = |filter: &str| {
        let Ran { err, .. } = home.run(&["log", "--json", filter]);
        err.lines().last().unwrap_or_default().to_owned()
    };
    assert_eq!(
        note("tag:bug"),
        "1 conversation without an exchange matches too; --show lists it"
    );
    assert!(note("-tag:bug").starts_with("2 conversations"));
    assert!(!note("tag:bug req:x").contains("without an exchange"));
}

#[test]
fn show_has_the_outcome_in_the_word_of_the_record() {
    let home = record::of_lines(&["x"]);
    let shown = home.run(&["log", "--show"]).good();
    let head = shown.lines().next().unwrap();
    assert!(head.ends_with("   ok"), "{head}");
}
