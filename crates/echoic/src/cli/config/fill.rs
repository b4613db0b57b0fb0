//! Puts the options of a file before those of the command line.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::{Arg, ArgMatches, Command, Id, builder::Resettable, parser::ValueSource};

use super::{CONFIG, Config, Setting, VARIABLE, key, locate};
use crate::exit::{CliError, Exit};

/// A command line with the options of a file.
#[derive(Debug)]
pub(crate) struct Filled {
    pub(crate) words: Vec<OsString>,
    pub(crate) from_file: FromFile,
}

/// The options that came from a file.
#[derive(Debug, Default)]
pub(crate) struct FromFile {
    path: PathBuf,
    /// The command, and its verb if it has one.
    command: Vec<String>,
    options: Vec<FileOption>,
}

#[derive(Debug)]
struct FileOption {
    id: Id,
    key: String,
    is_positional: bool,
    line: usize,
    column: usize,
}

/// Reads the file that the command line or `ECHOIC_CONFIG` names, if any, and adds what it has for the command and what was not
/// given otherwise. The error is for people, of several lines.
pub(crate) fn fill(words: Vec<OsString>, root: &Command) -> Result<Filled, String> {
    let nothing = |words| Filled {
        words,
        from_file: FromFile::default(),
    };
    if !may_name_file(&words) {
        return Ok(nothing(words));
    }
    // Errors of the command line are found when it is parsed with the file's options. Asked for help, it is not read.
    let lenient = root.clone().ignore_errors(true);
    let Ok(matches) = lenient.try_get_matches_from(&words) else {
        return Ok(nothing(words));
    };
    let built = key::built(root);
    let (path, command, matches) = innermost(&built, &matches);
    let Ok(Some(file)) = matches.try_get_one::<OsString>(CONFIG) else {
        return Ok(nothing(words));
    };
    let named_by = match matches.value_source(CONFIG) {
        Some(ValueSource::EnvVariable) if file.is_empty() => return Ok(nothing(words)),
        Some(ValueSource::EnvVariable) => VARIABLE,
        _ => "--config",
    };
    let config = Config::read(Path::new(file), named_by, root)?;
    let settings = config.settings.iter();
    let settings = settings.filter(|setting| {
        let is_own = setting.command.iter().eq(&path);
        is_own && !is_replaced(setting, command, matches)
    });
    let settings: Vec<&Setting> = settings.collect();
    Ok(Filled {
        words: with_settings(words, path.len(), &settings),
        from_file: FromFile {
            options: settings.iter().map(|of| option(of, &config)).collect(),
            command: path.into_iter().map(str::to_owned).collect(),
            path: config.path,
        },
    })
}

/// Whether a file may be named, so that it is worth a parse.
fn may_name_file(words: &[OsString]) -> bool {
    let is_flag = |word: &OsString| word.as_encoded_bytes().starts_with(b"--config");
    env::var_os(VARIABLE).is_some() || words.iter().any(is_flag)
}

fn option(setting: &Setting, config: &Config) -> FileOption {
    let (line, column) = locate(&config.source, setting.at.start);
    FileOption {
        id: setting.id.clone(),
        key: setting.key.clone(),
        is_positional: setting.is_positional,
        line,
        column,
    }
}

/// Returns the command that was given, by the names that lead to it, with its matches.
fn innermost<'a>(
    root: &'a Command,
    matches: &'a ArgMatches,
) -> (Vec<&'a str>, &'a Command, &'a ArgMatches) {
    let mut found = (Vec::new(), root, matches);
    while let Some((name, matches)) = found.2.subcommand() {
        let Some(command) = found.1.find_subcommand(name) else {
            break;
        };
        found.0.push(name);
        (found.1, found.2) = (command, matches);
    }
    found
}

/// Whether the command line or a variable gives this argument, or one that excludes it.
fn is_replaced(setting: &Setting, command: &Command, matches: &ArgMatches) -> bool {
    // The matches do not have a variable with a wrong value; that it is given shall be an error.
    let mut given = command.get_arguments().filter(|arg| {
        let is_typed =
            matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
        is_typed || arg.get_env().and_then(env::var_os).is_some()
    });
    let own = command
        .get_arguments()
        .find(|arg| *arg.get_id() == setting.id);
    own.is_some_and(|own| {
        given.any(|arg| arg.get_id() == own.get_id() || key::exclude(command, own, arg))
    })
}

/// Puts options behind the words of the command, of which there are `depth`, and so before those that were typed.
fn with_settings(mut words: Vec<OsString>, depth: usize, settings: &[&Setting]) -> Vec<OsString> {
    let mut typed = words.split_off((1 + depth).min(words.len()));
    let has_end = typed.iter().any(|word| word == "--");
    let (positional, options): (Vec<&Setting>, Vec<_>) =
        settings.iter().partition(|setting| setting.is_positional);
    let to_words = |settings: Vec<&Setting>| {
        let all = settings.into_iter().flat_map(Setting::words);
        all.map(OsString::from).collect::<Vec<_>>()
    };
    words.extend(to_words(options));
    let positional = to_words(positional);
    let needs_end = positional
        .iter()
        .any(|word| word.as_encoded_bytes().starts_with(b"-"));
    if has_end || needs_end {
        // Only behind `--` a word that begins with `-`, or that is a verb, is a value.
        typed.extend((!has_end).then(|| "--".into()));
        typed.extend(positional);
    } else {
        words.extend(positional);
    }
    words.extend(typed);
    words
}

impl FromFile {
    /// Whether the file gave this argument.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.options.iter().any(|option| option.id == id)
    }

    /// Returns the command such that the file's options need no others: what does not apply is ignored, as of a variable.
    pub(crate) fn relax(&self, root: Command) -> Command {
        self.relax_below(root, &self.command)
    }

    fn relax_below(&self, command: Command, path: &[String]) -> Command {
        let Some((name, rest)) = path.split_first() else {
            return command.mut_args(|arg: Arg| {
                if self.has(arg.get_id().as_str()) {
                    arg.requires(Resettable::Reset)
                } else {
                    arg
                }
            });
        };
        command.mut_subcommands(|sub| {
            if sub.get_name() == name {
                self.relax_below(sub, rest)
            } else {
                sub
            }
        })
    }

    /// Adds to an error about an option from the file where that is.
    pub(crate) fn locate_options(&self, error: CliError) -> CliError {
        if error.exit != Exit::Usage {
            return error;
        }
        let mut why = error.why.clone();
        for option in self
            .options
            .iter()
            .filter(|option| option.is_in(&error.why))
        {
            let file = self.path.display();
            let FileOption { line, column, .. } = option;
            why += &format!(
                "\n{file}:{line}:{column}: {} comes from here",
                option.typed()
            );
        }
        CliError { why, ..error }
    }
}

impl FileOption {
    /// The word of the command line.
    fn typed(&self) -> String {
        let dashes = if self.is_positional { "" } else { "--" };
        format!("{dashes}{}", self.key)
    }

    /// Whether an error is about the option. An error about a positional argument does not name it, and names no option.
    fn is_in(&self, why: &str) -> bool {
        if self.is_positional {
            return !why.contains("--");
        }
        let flag = self.typed();
        why.match_indices(&flag).any(|(at, _)| {
            let next = why[at + flag.len()..].chars().next();
            !next.is_some_and(|c| c.is_alphanumeric() || c == '-')
        })
    }
}
