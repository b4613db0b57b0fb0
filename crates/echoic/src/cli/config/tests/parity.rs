//! A file does what the command line does, for every option of every command.

use std::ffi::OsString;

use clap::FromArgMatches;

use super::*;
use crate::cli::Verb;

/// Values of which every option takes at least one that is not its default.
const SAMPLES: [&str; 24] = [
    "7",
    "3s",
    "p99<5ms",
    "10.0.0.0/8",
    "1k..20k:+1k@2s",
    "line",
    "strict",
    "echo",
    "x:7000",
    ":7000",
    "1d",
    "1d,1G",
    "640",
    "0d0a",
    "nats://127.0.0.1:4222",
    "nats://127.0.0.1:4222/x",
    "poisson",
    "6%",
    "smtp",
    "127.0.0.1:0",
    "memory",
    "x.db",
    "max",
    "x",
];

/// Parses words, with or without a file before them, as the program does; `from_file` loosens the rules.
fn parse(words: Vec<OsString>, from_file: &FromFile) -> Result<Verb, clap::Error> {
    let mut command = from_file.relax(Cli::command());
    let matches = command.try_get_matches_from_mut(words)?;
    let mut cli = Cli::from_arg_matches(&matches)?;
    cli.verb.note_defaults(&matches, from_file);
    Ok(cli.verb)
}

fn words(words: &[String]) -> Vec<OsString> {
    let program = std::iter::once("echoic".to_owned());
    program
        .chain(words.iter().cloned())
        .map(Into::into)
        .collect()
}

/// Returns a value that the parser of an argument takes, and that is not its default.
fn sample(path: &[String], arg: &Arg) -> String {
    let possible = arg.get_possible_values();
    let possible = possible.iter().map(|value| value.get_name().to_owned());
    let mut samples = possible.chain(SAMPLES.map(str::to_owned));
    let is_default = |value: &str| {
        arg.get_default_values()
            .iter()
            .any(|default| default == value)
    };
    let table = format!("[{}]\n", path.join("."));
    let taken = samples.find(|value| {
        let text = format!("{table}{} = '{value}'\n", key::word(arg));
        !is_default(value) && problems(&text).is_empty()
    });
    taken.unwrap_or_else(|| {
        panic!(
            "{path:?} {}: add a value that it takes to SAMPLES",
            key::word(arg)
        )
    })
}

/// Returns the value of an argument in TOML.
fn value(path: &[String], arg: &Arg) -> String {
    match key::form(arg) {
        Form::Switch => "true".to_owned(),
        _ => format!("'{}'", sample(path, arg)),
    }
}

/// Returns the words of an argument on the command line.
fn typed(path: &[String], arg: &Arg) -> Vec<String> {
    let flag = format!("--{}", key::word(arg));
    match key::form(arg) {
        Form::Switch => vec![flag],
        _ if arg.is_positional() => vec![sample(path, arg)],
        _ => vec![flag, sample(path, arg)],
    }
}

/// Asserts that an argument in a file has the effect that it has on the command line. The arguments that the command requires
/// are there too: positional ones in the file, since typed ones count from the first.
fn assert_parity(path: &[String], command: &Command, arg: &Arg) {
    let word = key::word(arg);
    let is_tested = |other: &&Arg| other.get_id() == arg.get_id();
    let required = || key::keys(command).filter(|arg| arg.is_required_set());
    let (required_positional, required_flags): (Vec<&Arg>, Vec<&Arg>) =
        required().partition(|arg| arg.is_positional());
    let in_file = required_positional.iter().filter(|arg| !is_tested(arg));
    let in_file = in_file.chain([&arg]);
    let lines = in_file.map(|arg| format!("{} = {}\n", key::word(arg), value(path, arg)));
    let text = format!("[{}]\n{}", path.join("."), lines.collect::<String>());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.toml");
    fs::write(&file, text).unwrap();
    let named = ["--config".to_owned(), file.to_str().unwrap().to_owned()];
    let flags = required_flags.iter().filter(|arg| !is_tested(arg));
    let flags: Vec<String> = flags.flat_map(|arg| typed(path, arg)).collect();
    let with_file = words(&[path, &named, &flags].concat());
    let Filled {
        words: filled,
        from_file,
    } = fill(with_file, &Cli::command()).unwrap();
    assert!(
        from_file.has(arg.get_id().as_str()),
        "{path:?} {word}: not taken from the file"
    );
    let line = |with_tested: bool| {
        let args =
            key::keys(command).filter(|arg| arg.is_required_set() || with_tested && is_tested(arg));
        let (positional, flags): (Vec<&Arg>, Vec<&Arg>) = args.partition(|arg| arg.is_positional());
        let all = flags.into_iter().chain(positional);
        let typed: Vec<String> = all.flat_map(|arg| typed(path, arg)).collect();
        words(&[path, &typed].concat())
    };
    let printed = |words| match parse(words, &from_file) {
        Ok(verb) => format!("{verb:?}"),
        Err(error) => panic!("{path:?} {word}: {error}"),
    };
    let by_file = printed(filled);
    assert_eq!(by_file, printed(line(true)), "{path:?} {word}");
    if !arg.is_required_set() {
        assert_ne!(
            by_file,
            printed(line(false)),
            "{path:?} {word} has no effect"
        );
    }
}

fn assert_all(path: &[String], command: &Command) -> usize {
    let mut count = 0;
    for arg in key::keys(command) {
        assert_parity(path, command, arg);
        count += 1;
    }
    for sub in key::tables(command) {
        let path = [path, &[sub.get_name().to_owned()]].concat();
        count += assert_all(&path, sub);
    }
    count
}

#[test]
fn every_option_has_its_word_in_a_file() {
    let count = assert_all(&[], &key::built(&Cli::command()));
    assert!(count > 120, "only {count} options were found");
}
