//! Help texts: each command has examples, and each example works as typed.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may print what it saw"
)]

mod harness;

use std::{
    io::Read,
    net::{SocketAddr, TcpListener, UdpSocket},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
};

use rustix::termios::{Winsize, tcsetwinsize};

use self::harness::{
    Home, Lines, Ran, SOON, Serve, Talk, kill, run, terminal, tutorial_ports, wait_for_end,
};

/// Returns the examples in the help of a command, without their descriptions.
#[track_caller]
fn examples(command: &[&str]) -> Vec<String> {
    let help = Home::new().run(&[command, &["--help"]].concat()).good();
    let (_, after) = help
        .split_once("Examples:\n")
        .unwrap_or_else(|| panic!("{command:?} shows no examples:\n{help}"));
    let lines = after.lines().take_while(|line| !line.is_empty());
    let typed = |line: &str| {
        let typed = line.trim_start();
        typed
            .split_once("  ")
            .map_or(typed, |(typed, _)| typed)
            .to_owned()
    };
    let examples: Vec<String> = lines.map(typed).collect();
    assert!(examples.len() >= 3, "{examples:?}");
    examples
}

/// Runs `line` in a shell, in the directory of `home`.
fn shell(home: &Home, line: &str) -> Command {
    let mut shell = Command::new("sh");
    home.settle(&mut shell);
    let bin = Path::new(env!("CARGO_BIN_EXE_echoic")).parent().unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    shell
        .args(["-c", line])
        .env("PATH", format!("{}:{path}", bin.display()));
    shell
}

/// Replaces each `port` by another one, where the digits are a whole port number.
fn with_port(line: &str, port: &str, other: u16) -> String {
    let word = |word: &str| {
        let bare = word.trim_matches('\'');
        match bare.strip_suffix(port) {
            Some(before) if before.is_empty() || before.ends_with(':') => {
                word.replace(bare, &format!("{before}{other}"))
            }
            _ => word.to_owned(),
        }
    };
    line.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn top_level_examples_name_existing_commands() {
    for example in examples(&[]) {
        let words: Vec<&str> = example.split(' ').collect();
        assert_eq!(words[0], "echoic", "{example}");
        let Ran { code, err, .. } = Home::new().run(&[words[1], "--help"]);
        assert_eq!(code, Some(0), "{example}: {err}");
    }
}

#[test]
fn netcat_flags_suggest_the_echoic_equivalent() {
    let home = Home::new();
    for (typed, instead) in [
        (&["-l", "5000"][..], "echoic serve 5000"),
        (&["-lvk", "5000"], "echoic serve 5000"),
        (&["connect", "-u", "localhost", "53"], "udp://HOST:PORT"),
        (&["connect", "-U", "x.sock"], "unix:PATH"),
        (&["connect", "-zv", "localhost", "80"], "echoic probe"),
        (&["connect", "-N", "localhost", "80"], "--hold"),
        (&["serve", "-k", "5000"], "--once"),
    ] {
        let Ran { code, err, .. } = home.run(typed);
        assert_eq!(code, Some(2), "{typed:?}: {err}");
        let tips: Vec<&str> = err.lines().filter(|line| line.contains("tip:")).collect();
        assert!(
            tips.len() == 1 && tips[0].contains(instead),
            "{typed:?}: {err}"
        );
    }
    // Lines with other letters are clap's own.
    let Ran { err, .. } = home.run(&["connect", "-Q", "localhost:80"]);
    assert!(err.contains("to pass '-Q' as a value"), "{err}");
}

#[test]
fn serve_examples_work() {
    let examples = examples(&["serve"]);
    for example in &examples {
        let home = Arc::new(Home::new());
        let mut line = example.clone();
        for port in ["5000", "5001", "5002", "12345", "7"] {
            line = with_port(&line, port, 0);
        }
        let _ports = if line == "echoic serve" {
            match tutorial_ports() {
                Some(ports) => Some(ports),
                None => continue,
            }
        } else {
            assert!(
                line.contains(":0"),
                "{example} would take a port that may not be free"
            );
            None
        };
        if !line.contains("--print") {
            line += " --print";
        }
        let args: Vec<&str> = line.split(' ').skip(2).collect();
        let mut serve = Serve::from(&home, &args, shell(&home, &format!("exec {line}")));
        let streams = |at: &SocketAddr| {
            let listening = format!("listening on tcp://{at} ");
            let listens =
                |lines: &[String]| Some(lines.iter().any(|line| line.contains(&listening)));
            serve.err.wait("what it listens on", listens)
        };
        let bare = line == "echoic serve --print";
        let mut addresses = serve.at.clone();
        if bare {
            // The second of the three is for datagrams, at the port of the first.
            addresses.remove(1);
        }
        let (at, datagrams): (Vec<_>, Vec<_>) = addresses.into_iter().partition(streams);
        for at in datagrams {
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.set_read_timeout(Some(SOON)).unwrap();
            client.send_to(b"hello", at).unwrap();
            let mut received = [0; 9];
            let length = client.recv(&mut received).unwrap();
            assert_eq!(&received[..length], b"HELLO", "{example}");
        }
        let greets = |index: usize| index == 1 && (bare || line.contains("greet="));
        for (index, at) in at.into_iter().enumerate() {
            talk_to(at, greets(index), line.contains("--as echo"));
        }
        if line.contains("--once") {
            serve.ends();
        } else {
            serve.stop();
        }
    }
}

#[track_caller]
fn talk_to(mut at: SocketAddr, greets: bool, echoes: bool) {
    if at.ip().is_unspecified() {
        at.set_ip([127, 0, 0, 1].into());
    }
    let mut talk = Talk::to(at);
    talk.send("hello\n");
    match (greets, echoes) {
        (true, _) => assert_eq!(talk.rest(), b"Thank you for connecting"),
        (false, true) => talk.expect_reply("hello\n"),
        (false, false) => talk.expect_reply("HELLO\n"),
    }
}

#[test]
fn connect_examples_work() {
    let serve = Serve::start(&["upper=:0", "greet=:0"]);
    for example in examples(&["connect"]) {
        let line = with_port(&example, "5000", serve.at[0].port());
        let line = with_port(&line, "12345", serve.at[1].port());
        assert_ne!(line, example, "{example} connects to a foreign server");
        let received = run(&mut shell(&serve.home, &line), b"hello").good();
        let expected = if example.contains("12345") {
            "Thank you for connecting"
        } else {
            "HELLO"
        };
        assert_eq!(received, expected, "{example}");
    }
}

#[test]
fn log_examples_list_recorded_exchanges() {
    let serve = Serve::start(&[
        "upper=:0",
        "greet=:0",
        "--frame",
        "line",
        "--durability",
        "strict",
    ]);
    for _ in 0..3 {
        let mut talk = Talk::to(serve.at[0]);
        talk.ask("this is an error: wait\n", "THIS IS AN ERROR: WAIT\n");
        drop(talk.finish());
    }
    for example in examples(&["log"]) {
        if example.contains(" -f") {
            let mut shell = shell(&serve.home, &format!("exec {example}"));
            let mut log = shell.stdout(Stdio::piped()).spawn().unwrap();
            let shown = Lines::of(log.stdout.take().unwrap());
            shown.wait_for("THIS IS AN ERROR");
            kill(&mut log);
            continue;
        }
        let shown = run(&mut shell(&serve.home, &example), b"").good();
        if example.contains("--count") {
            assert_eq!(shown, "3\n", "{example}");
        } else if example.contains("--export") {
            let exported = std::fs::read_to_string(serve.home.path().join("today.csv"));
            assert!(exported.unwrap().contains("THIS IS AN ERROR"));
        } else {
            assert!(shown.contains("THIS IS AN ERROR"), "{example}: {shown}");
        }
    }
}

#[test]
fn filter_words_in_log_help_are_valid() {
    let serve = Serve::start(&["upper=:0"]);
    let help = serve.home.run(&["log", "--help"]).good();
    for key in ["is:", "end:"] {
        let listed = help
            .split_whitespace()
            .find_map(|word| word.strip_prefix(key));
        let listed: Vec<&str> = listed.unwrap().split('|').collect();
        assert!(listed.len() > 2, "{listed:?}");
        for word in listed {
            assert_eq!(serve.home.count(&[&format!("{key}{word}")]), 0);
        }
    }
}

/// Returns the help of a command on a terminal of that many columns.
fn help_at(columns: u16, command: &[&str], flag: &str) -> Vec<String> {
    let size = Winsize {
        ws_row: 24,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let (ours, theirs) = terminal();
    tcsetwinsize(&ours, size).unwrap();
    let lines = Lines::of(ours);
    let home = Home::new();
    let mut echoic = home.echoic(&[command, &[flag]].concat());
    let mut child = echoic.env("NO_COLOR", "1").stdout(theirs).spawn().unwrap();
    drop(echoic);
    assert_eq!(wait_for_end(&mut child, SOON).unwrap().code(), Some(0));
    let lines = lines.all();
    lines
        .iter()
        .map(|line| line.trim_end().to_owned())
        .collect()
}

/// Whether `next` continues `line`, so that its first word is there only because `line` was full.
fn is_continued(line: &str, next: &str) -> bool {
    let indent = |line: &str| line.chars().take_while(|c| *c == ' ').count();
    let is_text = indent(line) == 0 && !line.ends_with(':') || indent(line) >= 6;
    // A list of values, and the option's default, begin lines of their own.
    let is_item = next.trim_start().starts_with(['-', '[']) || line.ends_with("values:");
    let is_command = next.trim_start().starts_with("echoic ");
    !line.is_empty()
        && !next.is_empty()
        && is_text
        && indent(line) == indent(next)
        && !is_item
        && !is_command
}

#[test]
fn help_is_wrapped_once_at_any_width() {
    let commands = [
        "serve",
        "connect",
        "probe",
        "bench",
        "log",
        "work",
        "keep",
        "status",
        "limits",
        "completions",
        "man",
    ];
    let commands = commands.map(|command| vec![command]);
    let mut continued = 0;
    for command in commands.iter().chain([&Vec::new()]) {
        for (flag, columns) in ["--help", "-h"]
            .into_iter()
            .flat_map(|flag| [60, 80, 100, 120].map(|width| (flag, width)))
        {
            let help = help_at(columns, command, flag);
            let width = usize::from(columns.min(80));
            for line in &help {
                assert!(
                    line.chars().count() <= width,
                    "{command:?} {flag} at {columns}: {line}"
                );
            }
            for pair in help.windows(2) {
                let [line, next] = pair else { unreachable!() };
                if !is_continued(line, next) {
                    continue;
                }
                continued += 1;
                let word = next.split_whitespace().next().unwrap().chars().count();
                assert!(
                    line.chars().count() + 1 + word > width,
                    "{command:?} {flag} at {columns} ends early:\n{line}\n{next}"
                );
            }
        }
    }
    assert!(continued > 400, "only {continued} lines are compared");
}

/// A reader has one machine, so an example must find what was recorded there.
#[test]
fn log_examples_of_the_readme_find_exchanges() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let examples: Vec<&str> = readme
        .lines()
        .filter(|line| line.starts_with("echoic log "))
        .map(|line| line.split(['#', '|']).next().unwrap().trim())
        .collect();
    assert!(examples.len() >= 5, "{examples:?}");
    let serve = Serve::start(&["upper=:0", "greet=:0", "--frame", "line"]);
    for _ in 0..2 {
        drop(Talk::to(serve.at[1]).rest());
    }
    let mut talk = Talk::to(serve.at[0]);
    talk.ask("login\n", "LOGIN\n");
    talk.ask("an error\n", "AN ERROR\n");
    drop(talk);
    let home = serve.home.clone();
    serve.stop();
    for example in examples {
        let line = example.replace(" -f", "");
        let found = run(&mut shell(&home, &line), b"").good();
        let is_export = example.contains("--export") && home.path().join("today.csv").exists();
        assert!(
            is_export || !found.is_empty() && found != "0\n",
            "{example}: {found}"
        );
    }
}

/// Returns the rows of the table of exit codes in the help.
fn exit_codes(home: &Home) -> Vec<(i32, String)> {
    let help = home.run(&["--help"]).good();
    let (_, table) = help.split_once("Exit codes:\n").unwrap();
    let row = |line: &str| {
        let (code, meaning) = line.trim().split_once(' ').unwrap();
        (code.parse().unwrap(), meaning.trim().to_owned())
    };
    table.lines().map(row).collect()
}

#[test]
fn readme_and_manual_have_the_exit_codes_of_the_help() {
    let home = Home::new();
    let codes = exit_codes(&home);
    let readme = include_str!("../../../README.md");
    let (_, table) = readme.split_once("## Exit codes\n").unwrap();
    let rows = table.lines().skip_while(|line| !line.starts_with("|---"));
    let rows = rows.skip(1).take_while(|line| line.starts_with('|'));
    let rows: Vec<(i32, String)> = rows
        .map(|line| {
            let mut cells = line.trim_matches('|').split('|').map(str::trim);
            let code = cells.next().unwrap().parse().unwrap();
            (code, cells.next().unwrap().to_owned())
        })
        .collect();
    assert_eq!(rows, codes);
    // roff escapes hyphens and quotes.
    let page = home.run(&["man"]).good();
    let page = page
        .replace("\\-", "-")
        .replace("\\*(Aq", "'")
        .replace("\\(aq", "'");
    for (code, meaning) in codes {
        assert!(page.contains(&meaning), "{code} {meaning}: {page}");
    }
}

#[test]
fn program_exits_with_the_codes_of_the_help() {
    let home = Home::new();
    let serve = Serve::start(&["upper=:0", "--frame", "line", "--store", "none"]);
    let upper = serve.at[0].to_string();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = free.local_addr().unwrap().to_string();
    drop(free);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let at_silent = silent.local_addr().unwrap().to_string();
    // It closes with unread input, so the kernel sends a reset.
    let cutting = TcpListener::bind("127.0.0.1:0").unwrap();
    let at_cutting = cutting.local_addr().unwrap().to_string();
    let cut = thread::spawn(move || {
        let mut one = [0];
        cutting.accept().unwrap().0.read_exact(&mut one).unwrap();
    });
    let ask = ["--send", "hello\n", "--frame", "line"];
    let connect = |at, more: &[&'static str]| [&["connect", at][..], &ask, more].concat();
    let tried = [
        (vec!["--version"], 0, "done"),
        (vec!["log"], 1, "any other error"),
        (
            vec!["log", "since:yesteryear"],
            2,
            "invalid command line or filter",
        ),
        (
            vec!["connect", "no-such-host.invalid:1"],
            3,
            "name not resolved",
        ),
        (vec!["connect", &closed], 4, "refused"),
        (
            connect(&at_silent, &["--linger-timeout", "500ms"]),
            5,
            "timed out",
        ),
        (connect(&at_cutting, &[]), 6, "reset or cut"),
        (connect(&upper, &["--expect", "other"]), 7, "an expectation"),
    ];
    let codes = exit_codes(&home);
    for (args, code, meaning) in tried {
        let ran = home.run(&args);
        assert_eq!(ran.code, Some(code), "{args:?}: {}", ran.err);
        let row = codes.iter().find(|(listed, _)| *listed == code).unwrap();
        assert!(row.1.starts_with(meaning), "{row:?}");
    }
    cut.join().unwrap();
    // 8 needs a layer, and `signals.rs` tests 130.
    let listed: Vec<i32> = codes.iter().map(|(code, _)| *code).collect();
    assert_eq!(listed, [0, 1, 2, 3, 4, 5, 6, 7, 8, 130]);
}
