//! Completions and manual pages know what the command line knows.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may say what it saw"
)]

mod harness;

use std::fs;

use self::harness::{Home, run, tool};

/// The commands that the program's own help lists.
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
fn bash_reads_its_completions_and_completes_with_them() {
    let home = Home::new();
    let script = home.run(&["completions", "bash"]).good();
    run(tool("bash", "bash").arg("-n"), script.as_bytes()).good();
    // What bash does when one types `echoic ` or `echoic serve --dur` and then a tab.
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
fn there_is_a_page_for_the_program_and_each_command() {
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
fn a_folder_that_cannot_be_made_is_named() {
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
