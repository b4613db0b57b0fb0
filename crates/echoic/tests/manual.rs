//! Completions and manual pages cover the whole command line.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may print what it saw"
)]

mod harness;

use std::{fs, process::Command};

use self::harness::{Home, run, tool};

/// Returns the commands that the program's own help lists.
fn verbs(home: &Home) -> Vec<String> {
    let help = home.run(&["--help"]).good();
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let lines = list.lines().take_while(|line| !line.is_empty());
    let verbs: Vec<String> = lines
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .map(|line| line.split_whitespace().next().unwrap().to_owned())
        .filter(|verb| verb != "help")
        .collect();
    assert!(
        verbs.len() >= 6 && verbs.contains(&"serve".to_owned()),
        "{verbs:?}"
    );
    verbs
}

#[test]
fn bash_completions_work() {
    let home = Home::new();
    let script = home.run(&["completions", "bash"]).good();
    run(tool("bash", "bash").arg("-n"), script.as_bytes()).good();
    // What bash does when a user types `echoic ` or `echoic serve --dur` and then a tab.
    let ask = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let asked = format!(
            "{script}\nCOMP_WORDS=({line}) COMP_CWORD={}\n_echoic echoic '{}' '{}'\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
            words.len() - 1,
            words[words.len() - 1],
            words[words.len() - 2],
        );
        run(&mut tool("bash", "bash"), asked.as_bytes()).good()
    };
    let commands = ask("echoic ''");
    for verb in verbs(&home) {
        assert!(
            commands.lines().any(|line| line == verb),
            "{verb} in {commands}"
        );
    }
    assert_eq!(ask("echoic serve --dur"), "--durability\n");
    assert_eq!(ask("echoic log wait --conf"), "--config\n");
}

/// Returns whether an optional shell is installed; if not, the test is skipped.
fn shell(name: &str) -> Option<Command> {
    let there = Command::new(name)
        .args(["-c", "true"])
        .status()
        .is_ok_and(|status| status.success());
    if !there {
        trials_skip::skip(format_args!("{name} is not installed here"));
    }
    there.then(|| Command::new(name))
}

#[test]
fn fish_completions_work() {
    let Some(mut checks) = shell("fish") else {
        return;
    };
    let home = Home::new();
    let script = home.path().join("echoic.fish");
    fs::write(&script, home.run(&["completions", "fish"]).good()).unwrap();
    home.settle(&mut checks);
    run(checks.arg("--no-execute").arg(&script), b"").good();
    // What fish offers for a line, each with its description after a tab.
    let ask = |line: &str| -> Vec<String> {
        let mut fish = Command::new("fish");
        home.settle(&mut fish);
        fish.args(["--no-config", "-c", "source $argv[1]; complete -C $argv[2]"])
            .arg(&script)
            .arg(line);
        let offered = run(&mut fish, b"").good();
        let word = |line: &str| line.split('\t').next().unwrap().to_owned();
        offered.lines().map(word).collect()
    };
    let commands = ask("echoic ");
    for verb in verbs(&home) {
        assert!(commands.contains(&verb), "{verb} in {commands:?}");
    }
    assert_eq!(ask("echoic serve --dur"), ["--durability"]);
    assert_eq!(ask("echoic serve --when-full "), ["block", "drop"]);
}

/// Types a line and a tab on a pseudo-terminal, and prints the resulting line.
const ZSH: &str = r#"
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z "fpath=($1 \$fpath); autoload -Uz compinit; compinit -u -D"
zpty -w z 'unsetopt list_beep auto_list; LISTMAX=0'
zpty -w z "completed() { print -r -- \$BUFFER > $1/completed; }; zle -N completed; bindkey '^X' completed; bindkey '^I' complete-word"
zpty -w z "print ready > $1/ready"
until [[ -s $1/ready ]] { sleep 0.02 }
zpty -w -n z "$2"$'\t'$'\x18'
until [[ -s $1/completed ]] { sleep 0.02 }
cat $1/completed
zpty -d z
"#;

#[test]
fn zsh_completions_work() {
    let Some(mut checks) = shell("zsh") else {
        return;
    };
    let home = Home::new();
    let script = home.path().join("_echoic");
    fs::write(&script, home.run(&["completions", "zsh"]).good()).unwrap();
    home.settle(&mut checks);
    run(checks.args(["-f", "-n"]).arg(&script), b"").good();
    for (typed, then) in [
        ("echoic se", "echoic serve "),
        ("echoic serve --dura", "echoic serve --durability="),
        (
            "echoic serve --when-full d",
            "echoic serve --when-full drop ",
        ),
    ] {
        let mut zsh = Command::new("zsh");
        home.settle(&mut zsh);
        zsh.args(["-f", "-c", ZSH, "zsh"])
            .arg(home.path())
            .arg(typed);
        let line = run(&mut zsh, b"").good();
        assert_eq!(line.trim_end(), then.trim_end(), "{typed}");
        fs::remove_file(home.path().join("completed")).unwrap();
        fs::remove_file(home.path().join("ready")).unwrap();
    }
}

#[test]
fn every_shell_has_completions_for_every_command() {
    let home = Home::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = home.run(&["completions", shell]).good();
        for verb in verbs(&home) {
            assert!(script.contains(&verb), "{shell}: {verb}");
        }
        assert!(script.contains("durability"), "{shell}");
    }
    let unknown = home.run(&["completions", "tcsh"]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.err.contains("possible values"), "{}", unknown.err);
}

#[test]
fn man_page_exists_for_the_program_and_each_command() {
    let home = Home::new();
    let page = home.run(&["man"]).good();
    assert!(page.contains(".TH echoic 1"), "{page}");
    home.run(&["man", "pages/man1"]).good();
    let dir = home.path().join("pages/man1");
    for verb in verbs(&home) {
        assert!(page.contains(&format!("echoic\\-{verb}(1)")), "{verb}");
        let own = fs::read_to_string(dir.join(format!("echoic-{verb}.1"))).unwrap();
        assert!(own.contains(".SH SYNOPSIS"), "{verb}");
        let help = home.run(&[&verb, "--help"]).good();
        let options = help
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix("--"));
        for option in options.filter_map(|option| option.split([' ', ',']).next()) {
            let escaped = format!("\\-\\-{}", option.replace('-', "\\-"));
            assert!(own.contains(&escaped), "{verb}: {option}");
        }
    }
}

#[test]
fn unwritable_man_folder_is_named_in_the_error() {
    let home = Home::new();
    fs::write(home.path().join("file"), "").unwrap();
    let ran = home.run(&["man", "file"]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.err.contains("cannot write the pages to file"),
        "{}",
        ran.err
    );
}
