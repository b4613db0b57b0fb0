mod parity;

use std::fs;

use clap::CommandFactory;
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::cli::Cli;

/// Checks a text as the file `a.toml`; returns the problems as printed, nothing if there are none.
fn problems(text: &str) -> String {
    let parsed = Config::parse(Path::new("a.toml"), text.to_owned(), &Cli::command());
    parsed.err().unwrap_or_default()
}

/// Returns the first line of each problem.
fn whys(text: &str) -> Vec<String> {
    let printed = problems(text);
    let is_why = |line: &&str| line.starts_with("a.toml:");
    printed.lines().filter(is_why).map(str::to_owned).collect()
}

#[test]
fn problems_have_line_column_and_reason() {
    for (text, expected) in [
        ("[serve\n", "1:7: unclosed table, expected `]`"),
        (
            "[serve]\nframe = \"line\nonce = true\n",
            "2:14: invalid basic string, expected `\"`",
        ),
        ("[serve]\nonce = true\nonce = true\n", "3:1: duplicate key"),
        (
            "[sever]\n",
            "1:2: unknown table sever; did you mean [serve]?",
        ),
        (
            "[man]\ndir = \"x\"\n",
            "1:2: unknown table man: expected a command, one of [serve] [connect] [probe] [bench] [log] [console] [work] [keep] [status] [limits]",
        ),
        (
            "frame = \"line\"\n",
            "1:1: key frame is in no table: expected it in [serve] [connect] [bench]",
        ),
        (
            "colour = 1\n",
            "1:1: unknown key colour: expected a table of a command, as [serve]",
        ),
        (
            "serve = 5000\n",
            "1:1: expected a table [serve], found a number",
        ),
        (
            "[[serve]]\nonce = true\n",
            "1:3: expected a table [serve], found an array",
        ),
        (
            "[log]\nwait = \"x\"\n",
            "2:1: expected a table [log.wait], found a string",
        ),
        (
            "[serve]\n\n  idle_timeout = 30\n",
            "3:3: unknown key idle_timeout in [serve]; did you mean idle-timeout?",
        ),
        (
            "[serve]\n\"--frame\" = \"line\"\n",
            "2:1: unknown key --frame in [serve]; did you mean frame?",
        ),
        (
            "[serve]\nsteps = \"x\"\n",
            "2:1: unknown key steps in [serve]: it is a key of [bench]",
        ),
        (
            "[log.wait]\ncolour = 1\n",
            "2:1: unknown key colour in [log.wait]: expected an option of `echoic log wait --help`, without its dashes",
        ),
        (
            "[serve]\nconfig = \"b.toml\"\n",
            "2:1: unknown key config in [serve]: expected an option of `echoic serve --help`, without its dashes",
        ),
        (
            "[serve]\nonce = \"yes\"\n",
            "2:8: once: expected true or false, found a string",
        ),
        (
            "[serve]\nframe = [\"line\"]\n",
            "2:9: frame: expected a string or a number, found an array",
        ),
        (
            "[serve]\nidle-timeout = 2026-08-01\n",
            "2:16: idle-timeout: expected a string or a number, found a date or time (write it as a string)",
        ),
        (
            "[serve]\nallow = [\"10.0.0.0/8\", true]\n",
            "2:24: allow: expected a string, or an array of strings, found true",
        ),
        (
            "[serve]\nallow = { a = 1 }\n",
            "2:9: allow: expected a string, or an array of strings, found a table",
        ),
        (
            "[serve]\nframe = \"lines\"\n",
            "2:9: frame: invalid framing lines: expected chunk, line,",
        ),
        (
            "[serve]\nallow = [\n  \"10.0.0.0/8\",\n  \"10.0.0.0/99\",\n]\n",
            "4:3: allow: invalid network 10.0.0.0/99: expected",
        ),
        (
            "[serve]\nwhen-full = \"wait\"\n",
            "2:13: when-full: invalid value wait: expected block or drop",
        ),
        (
            "[serve]\nbacklog = 0x10\n",
            "2:11: backlog: invalid count 0x10: expected",
        ),
        (
            "[connect]\nexpect = \"/(/\"\n",
            "2:10: expect: invalid expression /(/: unclosed group",
        ),
        (
            "[connect]\nhold = true\nsend-only = true\n",
            "3:1: hold and send-only exclude each other: omit one of them",
        ),
        (
            "[bench]\nsize = 5\nmessage = \"x\"\n",
            "3:1: size and message exclude each other: omit one of them",
        ),
        // Columns count characters, not bytes.
        ("[connect]\nexpect = \"é\" \u{1}\n", "2:14: "),
    ] {
        let whys = whys(text);
        assert_eq!(whys.len(), 1, "{text}: {whys:?}");
        let expected = format!("a.toml:{expected}");
        assert!(whys[0].starts_with(&expected), "{text}: {whys:?}");
    }
}

#[test]
fn keys_of_other_commands_are_checked_too_and_all_problems_are_named() {
    let text = "[work]\nquite = true\n[serve]\nonce = 1\n";
    let whys = whys(text);
    assert_eq!(whys.len(), 2, "{whys:?}");
    assert!(whys[0].contains("2:1: unknown key quite in [work]; did you mean quiet?"));
    assert!(whys[1].contains("4:8: once: expected true or false, found a number"));
    let keys: Vec<String> = (0..15).map(|n| format!("zzzzzzzz{n} = 1")).collect();
    let keys = keys.join("\n");
    let printed = problems(&format!("[serve]\n{keys}"));
    assert!(printed.ends_with("a.toml: and 5 more"), "{printed}");
}

#[test]
fn line_at_fault_is_printed_with_carets() {
    let text = "[serve]\r\nallow = [\"10.0.0.0/8\", \"é/99\"] # networks\r\n";
    let printed = problems(text);
    let (_, excerpt) = printed.split_once('\n').unwrap();
    assert_eq!(
        excerpt,
        "2 | allow = [\"10.0.0.0/8\", \"é/99\"] # networks\n  |                        ^^^^^^"
    );
    // A terminal gets no controls of the file, and carets stand below what it shows of them.
    let printed = problems("[serve]\nframe\t= \"li\u{202e}ne\"\n");
    let (_, excerpt) = printed.split_once('\n').unwrap();
    assert!(!excerpt.contains(['\t', '\u{202e}']), "{excerpt}");
    let lines: Vec<&str> = excerpt.lines().collect();
    assert_eq!(lines[0].find('"'), lines[1].find('^'), "{excerpt}");
    // A long line is cut on both sides of the fault.
    let names = "\"10.0.0.0/8\", ".repeat(50);
    let printed = problems(&format!("[serve]\nallow = [{names}\"x/99\", {names}]\n"));
    let lines: Vec<&str> = printed.lines().collect();
    assert!(
        lines[1].starts_with("2 | …") && lines[1].ends_with('…'),
        "{printed}"
    );
    assert!(lines[1].chars().count() < 120, "{printed}");
    let caret = lines[2].chars().position(|c| c == '^').unwrap();
    let fault: String = lines[1].chars().skip(caret).take(6).collect();
    assert_eq!(fault, "\"x/99\"", "{printed}");
}

#[test]
fn passwords_in_a_file_are_not_printed() {
    for text in [
        "[serve]\nstore = \"postgres://joe:hunter2@db/x?nonsense=1\"\n",
        "[serve]\nstore = \"postgres://joe:hun\\ter2@db/x\n",
        "[serve]\nstore = \"postgres://joe:hun\\qter2@db/x\"\n",
        "[serve]\nstore = \"postgres://db/x?password=hunter2&nonsense=1\"\n",
        "[serve]\nstore = \"postgres://joe:two words, hunter2@db/x\n",
        "[serve]\nstor = \"postgres://joe:hunter2@db/x\"\n",
        "[work]\non = [\"nats://hunter2@db/x\", true]\n",
    ] {
        let printed = term::without_logins(&problems(text));
        assert!(printed.contains("a.toml:2:"), "{text}: {printed}");
        assert!(!printed.contains("ter2"), "{text}: {printed}");
    }
}

#[test]
fn secrets_are_passwords_and_tokens() {
    for (value, expected) in [
        ("postgres://joe:x@db/y", true),
        ("postgres://db/y?user=joe&password=x", true),
        ("nats://token@h/x", true),
        ("upper=nats://joe:x@h/x", true),
        ("postgres://joe@db/y", false),
        ("nats://h:4222/x", false),
        ("tcp://h:5000", false),
        ("echoic.db", false),
    ] {
        assert_eq!(is_secret(value), expected, "{value}");
    }
}

#[test]
fn unreadable_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let read = |name: &str| {
        let read = Config::read(&dir.path().join(name), "--config", &Cli::command());
        read.unwrap_err()
    };
    assert!(read("none.toml").contains("--config: cannot read "));
    assert!(read("").contains("Is a directory"));
    fs::write(dir.path().join("bytes.toml"), b"[serve]\na = \"\xff\"\n").unwrap();
    assert!(read("bytes.toml").contains("bytes.toml:2:6: a byte that is not UTF-8"));
    let long = vec![b'#'; FILE_BYTES_MAX as usize + 1];
    fs::write(dir.path().join("long.toml"), long).unwrap();
    assert!(read("long.toml").contains("larger than 1 MiB"));
    fs::write(dir.path().join("mark.toml"), "\u{feff}[serve]\nx = 1\n").unwrap();
    assert!(read("mark.toml").contains("mark.toml:2:1: unknown key x"));
}

/// A piece of a file: of the language, of the command line, or anything.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "[serve]\n",
        "[log.wait]\n",
        "[connect]\n",
        "[[bench]]\n",
        "serve",
        "frame",
        "allow",
        "once",
        "endpoints",
        "send",
        " = ",
        "\"line\"",
        "'x'",
        "\"\"\"",
        "[",
        "]",
        "{",
        "}",
        ",",
        ".",
        "\n",
        "true",
        "7",
        "0.5",
        "1979-05-27",
        "#",
        "\"",
        "\"postgres://a:b@c/d\"",
        "= \"off\"\n",
        "é",
        "\r\n",
        "\t",
        "\\",
        "store = ",
    ];
    prop_oneof![
        8 => prop::sample::select(words.to_vec()).prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_text_panics_and_problems_are_within_it(pieces in vec(piece(), 0..24)) {
        let text = pieces.concat();
        let lines = text.matches('\n').count() + 1;
        for why in whys(&text) {
            let rest = why.strip_prefix("a.toml:").unwrap();
            if rest.starts_with(" and ") {
                continue;
            }
            let mut numbers = rest.split(':').map(|number| number.parse::<usize>().unwrap_or(0));
            let (line, column) = (numbers.next().unwrap(), numbers.next().unwrap());
            prop_assert!((1..=lines).contains(&line), "{}", why);
            let columns = text.split('\n').nth(line - 1).unwrap().chars().count();
            prop_assert!((1..=columns + 1).contains(&column), "{} of {}", why, columns);
        }
    }

    #[test]
    fn no_value_panics(key in any::<prop::sample::Index>(), table in any::<prop::sample::Index>(), value in any::<String>()) {
        let command = key::built(&Cli::command());
        let tables: Vec<&Command> = key::tables(&command).collect();
        let table = tables[table.index(tables.len())];
        let keys: Vec<&Arg> = key::keys(table).collect();
        let key = key::word(keys[key.index(keys.len())]);
        let value = value.replace(|c: char| c == '\'' || c.is_control(), " ");
        problems(&format!("[{}]\n{key} = '{value}'\n", table.get_name()));
    }
}
