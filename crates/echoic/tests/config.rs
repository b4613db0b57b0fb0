//! `--config FILE`: options of the real program from a file.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may print what it saw"
)]

mod harness;

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::Arc,
};

use self::harness::{Home, Ran, Serve, Talk, free_ports, run};

/// Returns a directory with the file `a.toml`.
fn home_with(text: &str) -> Home {
    let home = Home::new();
    write(&home, "a.toml", text);
    home
}

fn write(home: &Home, name: &str, text: &str) {
    let path = home.path().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
}

/// Returns the store that `echoic log` does not find.
fn store_of_log(home: &Home, args: &[&str], variables: &[(&str, &str)]) -> String {
    let mut log = home.echoic(&[&["log"], args].concat());
    log.envs(variables.iter().copied());
    let Ran { code, err, .. } = run(&mut log, b"");
    assert_eq!(code, Some(1), "{err}");
    let path = err.split_once("no database at ").unwrap().1;
    let path = path.split_once(';').unwrap().0;
    path.rsplit('/').next().unwrap().to_owned()
}

#[test]
fn line_comes_before_variable_before_file_before_default() {
    let home = home_with("[log]\nstore = 'file.db'\n");
    let file = ["--config", "a.toml"];
    let variable = [("ECHOIC_STORE", "variable.db")];
    let line = ["--config", "a.toml", "--store", "line.db"];
    assert_eq!(store_of_log(&home, &[], &[]), "echoic.db");
    assert_eq!(store_of_log(&home, &file, &[]), "file.db");
    assert_eq!(store_of_log(&home, &file, &variable), "variable.db");
    assert_eq!(store_of_log(&home, &line, &variable), "line.db");
    // The file itself has a variable too.
    write(&home, "b.toml", "[log]\nstore = 'other.db'\n");
    let named = [("ECHOIC_CONFIG", "b.toml")];
    assert_eq!(store_of_log(&home, &[], &named), "other.db");
    assert_eq!(store_of_log(&home, &file, &named), "file.db");
    let empty = [("ECHOIC_CONFIG", "")];
    assert_eq!(store_of_log(&home, &[], &empty), "echoic.db");
    // A variable with a wrong value is wrong, whatever the file has.
    write(
        &home,
        "a.toml",
        "[serve]\nframe = 'line'\ndurability = 'off'\n",
    );
    let mut serve = home.echoic(&["serve", ":0", "--config", "a.toml"]);
    serve.envs([("ECHOIC_FRAME", "lines"), ("ECHOIC_DURABILITY", "very")]);
    let Ran { code, err, .. } = run(&mut serve, b"");
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("ECHOIC_FRAME: invalid framing lines"), "{err}");
}

#[test]
fn server_runs_from_a_file() {
    let home = Arc::new(home_with(
        "[serve]\nendpoints = ['upper=:0', 'greet=:0']\nframe = 'line'\nstore = 'talk.db'\nprint = true\n\
         durability = 'strict'\nidle-timeout = 30\n[log]\nstore = 'talk.db'\n",
    ));
    let command = home.echoic(&["serve", "--config", "a.toml"]);
    let serve = Serve::from(&home, &["--store", "talk.db"], command);
    let mut talk = Talk::to(serve.at[0]);
    talk.ask("he", "");
    talk.ask("llo\n", "HELLO\n");
    assert_eq!(Talk::to(serve.at[1]).rest(), b"Thank you for connecting");
    let found = home.run(&["log", "req:hello", "--count", "--config", "a.toml"]);
    assert_eq!(found.good(), "1\n");
    serve.stop();
    // What is typed replaces the list, and the rest of the file still holds.
    let command = home.echoic(&["serve", "lower=:0", "--config", "a.toml"]);
    let serve = Serve::from(&home, &["--store", "talk.db"], command);
    assert_eq!(serve.at.len(), 1, "{:?}", serve.addresses);
    let mut talk = Talk::to(serve.at[0]);
    talk.ask("HEL", "");
    talk.ask("LO\n", "hello\n");
    serve.stop();
}

#[test]
fn example_of_the_page_works() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = fs::read_to_string(root.join("docs/configuration.md")).unwrap();
    let (_, example) = page.split_once("```toml\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let [upper, greet] = free_ports();
    let example = example.replace(":12345", &format!(":{greet}"));
    let home = Arc::new(home_with(&example.replace(":5000", &format!(":{upper}"))));
    let echoic = |args: &[&str]| {
        let mut command = home.echoic(args);
        command.env("ECHOIC_CONFIG", "a.toml");
        command
    };
    let serve = Serve::from(
        &home,
        &["--store", "talk.db"],
        echoic(&["serve", "--print"]),
    );
    assert_eq!(run(&mut echoic(&["connect"]), b"hello\n").good(), "HELLO\n");
    run(&mut echoic(&["probe"]), b"").good();
    run(&mut echoic(&["bench", "--no-floor", "-q"]), b"").good();
    let found = run(&mut echoic(&["log", "wait", "req:hello"]), b"").good();
    assert!(found.contains("HELLO"), "{found}");
    assert_eq!(run(&mut echoic(&["log"]), b"").good().lines().count(), 20);
    let status = run(&mut echoic(&["status"]), b"").good();
    assert!(status.contains("talk.db"), "{status}");
    serve.stop();
}

#[test]
fn mistake_in_the_file_is_printed_with_its_line() {
    let home = home_with("# of ours\n[serve]\nframe = \"lines\"\n\n[work]\nquite = true\n");
    let expected = "\
a.toml:3:9: frame: invalid framing lines: expected chunk, line, ";
    let rest = "
3 | frame = \"lines\"
  |         ^^^^^^^
a.toml:6:1: unknown key quite in [work]; did you mean quiet?
6 | quite = true
  | ^^^^^
";
    for args in [
        &["serve", ":0"][..],
        &["connect", ":9"],
        &["probe", ":9"],
        &["bench", ":9"],
        &["log"],
        &["log", "wait"],
        &["console"],
        &["work", "upper", "--on", "nats://127.0.0.1:9/x"],
        &["keep", "--from", "nats://127.0.0.1:9/x"],
        &["status"],
        &["limits"],
    ] {
        for by_variable in [false, true] {
            let named: &[&str] = if by_variable {
                &[]
            } else {
                &["--config", "a.toml"]
            };
            let mut command = home.echoic(&[args, named].concat());
            if by_variable {
                command.env("ECHOIC_CONFIG", "a.toml");
            }
            let Ran { code, out, err } = run(&mut command, b"");
            assert_eq!((code, out.len()), (Some(2), 0), "{args:?}: {err}");
            assert!(
                err.starts_with(expected) && err.ends_with(rest),
                "{args:?}: {err}"
            );
        }
    }
    for (named, variable, why) in [
        (
            &["--config", "b.toml"][..],
            None,
            "echoic: --config: cannot read b.toml: No such file",
        ),
        (
            &[],
            Some("b.toml"),
            "echoic: ECHOIC_CONFIG: cannot read b.toml: No such file",
        ),
        (
            &["--config", "."],
            None,
            "echoic: --config: cannot read .: Is a directory",
        ),
    ] {
        let mut command = home.echoic(&[&["limits"], named].concat());
        command.envs(variable.map(|file| ("ECHOIC_CONFIG", file)));
        let Ran { code, err, .. } = run(&mut command, b"");
        assert_eq!(code, Some(2), "{err}");
        assert!(err.starts_with(why), "{err}");
    }
}

#[test]
fn what_only_prints_does_not_read_the_file() {
    let home = home_with("broken");
    for args in [
        &["--help"][..],
        &["--version"],
        &["serve", "--help"],
        &["log", "wait", "-h"],
        &["help", "serve"],
        &["man"],
        &["completions", "bash"],
    ] {
        let mut command = home.echoic(args);
        run(command.env("ECHOIC_CONFIG", "a.toml"), b"").good();
        run(command.env("ECHOIC_CONFIG", "none.toml"), b"").good();
    }
}

#[test]
fn password_in_a_file_that_others_can_read_is_warned_of() {
    let home = home_with("[serve]\nstore = 'postgres://joe:hunter2@127.0.0.1:9/x'\n");
    let path = home.path().join("a.toml");
    let warned = |mode| {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let ran = home.run(&["limits", "--json", "--config", "a.toml"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(!ran.err.contains("hunter2"), "{ran:?}");
        ran.err.contains("chmod 600 a.toml")
    };
    assert!(!warned(0o600));
    assert!(warned(0o640));
    assert!(warned(0o604));
    write(
        &home,
        "a.toml",
        "[serve]\nstore = 'postgres://joe@127.0.0.1:9/x'\n",
    );
    assert!(!warned(0o644));
}

#[test]
fn typed_options_and_those_of_the_file_go_together() {
    let serve = Serve::start(&["upper=:0", "upper=udp://127.0.0.1:0", "--frame", "line"]);
    let home = &serve.home;
    let (tcp, udp) = (serve.at[0].to_string(), format!("udp://{}", serve.at[1]));
    let config = ["--config", "a.toml"];
    // What is typed may need an option of the file.
    write(
        home,
        "a.toml",
        "[connect]\nframe = 'line'\nsend = ['hello']\n",
    );
    let twice = [&["connect", &tcp, "--count", "2"], &config[..]].concat();
    assert_eq!(home.run(&twice).good(), "HELLO\nHELLO\n");
    // What the file has needs nothing.
    write(
        home,
        "a.toml",
        "[connect]\nframe = 'line'\ncount = 2\nevery = '1s'\n",
    );
    let piped = [&["connect", &tcp], &config[..]].concat();
    assert_eq!(run(&mut home.echoic(&piped), b"hello\n").good(), "HELLO\n");
    // A framing does not apply to datagrams, and only what is typed is worth a word.
    let datagram = [
        &["connect", &udp, "--send", "hello", "--expect", "HELLO"],
        &config[..],
    ]
    .concat();
    let ran = home.run(&datagram);
    assert!(!ran.err.contains("does not apply"), "{ran:?}");
    ran.good();
    // What is typed replaces what it excludes.
    write(
        home,
        "a.toml",
        "[bench]\nduration = '10m'\nframe = 'line'\nstore = 'none.db'\n",
    );
    let bench = [
        "bench",
        &tcp,
        "-n",
        "5",
        "-q",
        "--no-floor",
        "--warmup",
        "0",
    ];
    home.run(&[&bench, &config[..]].concat()).good();
    // An option that the command refuses is found in the file.
    write(home, "a.toml", "[connect]\n\nca = 'ca.pem'\n");
    let Ran { code, err, .. } = home.run(&piped);
    assert_eq!(code, Some(2), "{err}");
    assert!(
        err.ends_with("expected tls://HOST:PORT\na.toml:3:1: --ca comes from here\n"),
        "{err}"
    );
    write(home, "a.toml", "[connect]\nendpoint = 'localhost:http'\n");
    let Ran { code, err, .. } = home.run(&["connect", "--config", "a.toml"]);
    assert_eq!(code, Some(2), "{err}");
    assert!(
        err.contains("invalid port") && err.ends_with("\na.toml:2:1: endpoint comes from here\n"),
        "{err}"
    );
    // A filter may begin with a dash, or be like a verb.
    for (filter, typed, count) in [
        ("-req:hello", "", "0\n"),
        ("wait", "", "0\n"),
        ("wait", "id:1", "1\n"),
    ] {
        write(
            home,
            "a.toml",
            &format!("[log]\nfilter = '{filter}'\ncount = true\n"),
        );
        let typed: &[&str] = if typed.is_empty() { &[] } else { &[typed] };
        let log = [&["log"], typed, &config[..]].concat();
        assert_eq!(home.run(&log).good(), count, "{filter} {typed:?}");
    }
    serve.stop();
}
