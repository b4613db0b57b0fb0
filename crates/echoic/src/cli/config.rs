//! `--config FILE`: options of commands from a file in TOML, under the same words.
//!
//! The keys come from clap's definition of the command line, so that a new flag works in the file too. The file is read once;
//! what it has for the command is put before the words that the user typed, so that clap parses both alike.

mod check;
mod fill;
mod key;
mod location;
#[cfg(test)]
mod tests;

use std::{
    ffi::OsString,
    fs::File,
    io::Read,
    ops::Range,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use clap::{Arg, Command, Id, ValueHint, value_parser};
use toml::de::DeTable;

use self::{
    key::Form,
    location::{excerpt, locate},
};
use crate::term;

pub(super) use self::fill::fill;
pub(crate) use self::fill::{Filled, FromFile};

/// The argument `--config`.
const CONFIG: &str = "config";

/// The variable that names the file too.
const VARIABLE: &str = "ECHOIC_CONFIG";

/// Largest file. One with every option is a hundredth of it.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Problems of a file that are printed; the rest is counted.
const PROBLEMS_MAX: usize = 10;

/// Adds `--config` to a command and its verbs.
pub(super) fn with_flag(command: Command) -> Command {
    if !key::is_configurable(&command) {
        return command;
    }
    let flag = Arg::new(CONFIG)
        .long(CONFIG)
        .value_name("FILE")
        .env(VARIABLE)
        .hide_env_values(true)
        .value_parser(value_parser!(OsString))
        .value_hint(ValueHint::FilePath)
        .help("Read options from this TOML file, in the table of this command: a key is an option without its dashes. What is typed, and variables, come before it")
        .help_heading(None);
    command.arg(flag).mut_subcommands(with_flag)
}

/// A file whose keys and values are all valid.
#[derive(Debug)]
struct Config {
    path: PathBuf,
    source: String,
    settings: Vec<Setting>,
}

/// A key with its values.
#[derive(Debug)]
struct Setting {
    /// The command, and its verb if it has one.
    command: Vec<String>,
    id: Id,
    key: String,
    form: Form,
    is_positional: bool,
    /// The values as they would be typed, each with its range in the file; none for a switch.
    values: Vec<Value>,
    /// The range of the key.
    at: Range<usize>,
}

impl Setting {
    /// Returns the words of a command line that are equivalent: the options. Values of a positional argument are its words.
    fn words(&self) -> Vec<String> {
        let values = self.values.iter().map(|(value, _)| value);
        match self.form {
            Form::Switch => vec![format!("--{}", self.key)],
            _ if self.is_positional => values.cloned().collect(),
            _ => values
                .map(|value| format!("--{}={value}", self.key))
                .collect(),
        }
    }
}

/// A value as it would be typed, and its range in the file.
type Value = (String, Range<usize>);

/// Something in a file that is wrong.
#[derive(Debug)]
struct Problem {
    at: Range<usize>,
    why: String,
}

impl Config {
    /// Reads and checks a file that `--config` or its variable names. The error is for people, of several lines.
    fn read(path: &Path, named_by: &str, root: &Command) -> Result<Self, String> {
        let named = path.display();
        let (bytes, mode) = read_file(path)
            .map_err(|error| format!("echoic: {named_by}: cannot read {named}: {error}"))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(format!(
                "echoic: {named_by}: {named} is larger than 1 MiB; expected a file of options"
            ));
        }
        let source = match String::from_utf8(bytes) {
            Ok(source) => source.trim_start_matches('\u{feff}').to_owned(),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                let source = String::from_utf8_lossy(error.as_bytes());
                let why = "a byte that is not UTF-8, the encoding of TOML".to_owned();
                let problem = Problem {
                    at: valid..valid + 1,
                    why,
                };
                return Err(report(path, &source, vec![problem]));
            }
        };
        let config = Self::parse(path, source, root)?;
        if mode & OTHERS_READ != 0 && config.has_secret() {
            term::note(&format!(
                "echoic: {named} has a password, and other users can read it: chmod 600 {named}"
            ));
        }
        Ok(config)
    }

    /// Parses and checks the text of a file.
    fn parse(path: &Path, source: String, root: &Command) -> Result<Self, String> {
        let checked = match DeTable::parse(&source) {
            Ok(table) => check::check(root, table.get_ref()),
            Err(error) => {
                let at = error.span().unwrap_or_default();
                let why = error.message().to_owned();
                Err(vec![Problem { at, why }])
            }
        };
        match checked {
            Ok(settings) => Ok(Self {
                path: path.to_owned(),
                source,
                settings,
            }),
            Err(problems) => Err(report(path, &source, problems)),
        }
    }

    /// Whether a value is a URL with a password, or with a token of NATS.
    fn has_secret(&self) -> bool {
        let values = self.settings.iter().flat_map(|setting| &setting.values);
        values.into_iter().any(|(value, _)| is_secret(value))
    }
}

/// Permission of users other than the owner, and of the group, to read.
const OTHERS_READ: u32 = 0o044;

fn is_secret(value: &str) -> bool {
    let mut urls = value.split("://");
    let mut scheme = urls.next().unwrap_or_default();
    urls.any(|url| {
        let is_nats = scheme.ends_with("nats");
        scheme = url;
        let login = url.rsplit_once('@').map(|(login, _)| login);
        url.contains("password=") || login.is_some_and(|login| is_nats || login.contains(':'))
    })
}

/// Returns the contents of a file, and its permissions. Reads at most one byte more than a file may have.
fn read_file(path: &Path) -> std::io::Result<(Vec<u8>, u32)> {
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok((bytes, mode))
}

/// Describes the problems of a file, each as `FILE:LINE:COLUMN: why` with its line, in the order of the file.
fn report(path: &Path, source: &str, mut problems: Vec<Problem>) -> String {
    problems.sort_by_key(|problem| problem.at.start);
    let described = problems.iter().take(PROBLEMS_MAX).map(|problem| {
        let (line, column) = locate(source, problem.at.start);
        let line_of_file = excerpt(source, &problem.at);
        let named = path.display();
        format!("{named}:{line}:{column}: {}\n{line_of_file}", problem.why)
    });
    let mut described: Vec<String> = described.collect();
    if problems.len() > PROBLEMS_MAX {
        let more = problems.len() - PROBLEMS_MAX;
        described.push(format!("{}: and {more} more", path.display()));
    }
    described.join("\n")
}
