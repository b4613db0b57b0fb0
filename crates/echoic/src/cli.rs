//! The command line: the commands and their options. Each command turns its arguments into a plan in its own module.

mod config;
mod console;
mod errors;
mod flag_hints;
mod health;
mod help;
mod keeper;
mod log;
mod log_verbs;
mod serve;
mod values;
mod work;

use std::ffi::OsString;

use clap::{
    ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand,
    builder::{
        Styles,
        styling::{AnsiColor, Style},
    },
    error::ErrorKind,
    parser::ValueSource,
};

use crate::{
    bench::BenchArgs,
    connect::ConnectArgs,
    exit::{CommandResult, Exit},
    on::On,
    probe::ProbeArgs,
    status::StatusArgs,
    term,
};

use self::config::{Filled, FromFile};

pub(crate) use self::{
    console::{ConsoleArgs, ConsoleOptions},
    health::HealthOptions,
    keeper::KeeperArgs,
    log::{FormArgs, LogArgs},
    log_verbs::{DeleteArgs, LogVerb, NoteArgs, TagArgs, WaitArgs},
    serve::{Full, LimitArgs, ServeArgs, ShowingArgs},
    values::{ENCODING_HINT, Switch, count, max_message},
    work::WorkArgs,
};

const STYLES: Styles = Styles::styled()
    .header(Style::new().bold())
    .usage(Style::new().bold())
    .literal(AnsiColor::Cyan.on_default());

/// A socket server that answers and records, and the client that goes with it
#[derive(Debug, Parser)]
#[command(
    name = "echoic",
    version,
    styles = STYLES,
    after_help = after_help(),
    mut_subcommands(config::with_flag)
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,

    /// The options that came from the file of `--config`.
    #[arg(skip)]
    pub(crate) from_file: FromFile,
}

fn after_help() -> String {
    let codes = Exit::table();
    format!(
        "\
Examples:
  echoic serve           upper case on port 5000, a greeting on 12345
  echoic connect :5000   talk to it, in another terminal
  echoic probe :5000     check that it can be reached
  echoic bench :5000     measure throughput and latency
  echoic log             list what was recorded
  echoic console         show it in a browser, without a server
  echoic serve --help    show every option of a command

Environment, where no option says otherwise; an option of an endpoint comes
before both, and what does not apply to an endpoint is ignored there. What the
file of --config says comes last, before the defaults:
  ECHOIC_AS          --as of serve
  ECHOIC_FRAME       --frame of serve, connect and bench
  ECHOIC_ON          --on of work, serve, console and status
  ECHOIC_FROM        --from of keep
  ECHOIC_STORE       --store of serve, log, console, bench, status and keep
  ECHOIC_DURABILITY  --durability of serve and keep
  ECHOIC_RETENTION   --retention of serve and keep
  ECHOIC_CONSOLE     --console of serve and console
  ECHOIC_CONFIG      --config of every command but completions and man
  ECHOIC_HEALTH      --health of serve, console, work and keep
  ECHOIC_TOKEN       the token of the console, 16 characters or more
  ECHOIC_PASSWORD    its password, 8 characters or more: the page asks for it
  ECHOIC_LOG         what echoic logs about itself: debug, echoic_server=trace

Exit codes:
{codes}"
    )
}

impl Cli {
    /// Parses the command line. Where there is nothing to run, prints help or an error, and returns the result as the error.
    pub(crate) fn read() -> Result<Self, CommandResult> {
        let mut args: Vec<OsString> = std::env::args_os().collect();
        if args.get(1).is_some_and(|verb| verb == "log") {
            let words = args.split_off(2);
            args.extend(log::flags_first(words, &Self::command()));
        }
        let filled = config::fill(args.clone(), &Self::command()).map_err(|why| {
            term::note(&term::without_logins(&why));
            Ok(Exit::Usage)
        })?;
        Self::parse_words(filled).map_err(|error| errors::print(&errors::prepared(error, &args)))
    }

    fn parse_words(filled: Filled) -> Result<Self, clap::Error> {
        let Filled { words, from_file } = filled;
        let mut command = help::fitted(from_file.relax(Self::command()));
        let matches = command.try_get_matches_from_mut(words)?;
        check_store_of_bench(&matches, &from_file)?;
        On::check(&matches)?;
        let mut cli =
            Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
        cli.verb.note_defaults(&matches, &from_file);
        cli.from_file = from_file;
        Ok(cli)
    }
}

/// Checks that `bench --store` comes with `--from-store`. clap's `requires` would ask `ECHOIC_STORE` for it too.
fn check_store_of_bench(matches: &ArgMatches, from_file: &FromFile) -> Result<(), clap::Error> {
    let Some(("bench", matches)) = matches.subcommand() else {
        return Ok(());
    };
    let is_given =
        matches.value_source("store") == Some(ValueSource::CommandLine) && !from_file.has("store");
    if is_given && !matches.contains_id("from_store") {
        let why = "--store is the database of --from-store; add --from-store FILTER";
        let kind = ErrorKind::MissingRequiredArgument;
        return Err(usage_error("bench", kind, why));
    }
    Ok(())
}

/// Returns an error of a command, with its usage.
pub(crate) fn usage_error(verb: &str, kind: ErrorKind, why: &str) -> clap::Error {
    let mut command = help::fitted(Cli::command());
    command.build();
    match command.find_subcommand_mut(verb) {
        Some(verb) => verb.error(kind, why),
        None => command.error(kind, why),
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a server that answers and records
    Serve(Box<ServeArgs>),
    /// Talk to a peer, interactively or through a pipe
    Connect(Box<ConnectArgs>),
    /// Check whether an endpoint can be reached, and if not, why
    Probe(ProbeArgs),
    /// Measure throughput and latency, and what limited them
    Bench(Box<BenchArgs>),
    /// List, search and follow recorded exchanges
    Log(LogArgs),
    /// Serve the web console of a record
    Console(ConsoleArgs),
    /// Answer for servers elsewhere: a service as a process of its own
    Work(WorkArgs),
    /// Write what servers record elsewhere: a store as a process of its own
    #[command(name = "keep")]
    Keeper(KeeperArgs),
    /// Show the counters of a running server, or what runs where
    Status(StatusArgs),
    /// List limits: default, option, and what happens at each
    Limits(LimitsArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Print the manual page, or write one for each command
    Man(ManArgs),
}

impl Verb {
    /// Remembers which options came from a variable or a file: one that does not apply is ignored.
    fn note_defaults(&mut self, matches: &ArgMatches, from_file: &FromFile) {
        let is_default = |option| {
            matches.subcommand().is_some_and(|(_, matches)| {
                let source = matches
                    .try_contains_id(option)
                    .is_ok()
                    .then(|| matches.value_source(option));
                source.flatten() == Some(ValueSource::EnvVariable) || from_file.has(option)
            })
        };
        match self {
            Self::Serve(args) => {
                args.frame_is_default = is_default("frame");
                args.console_is_default = is_default("console");
            }
            Self::Status(args) => {
                args.on_is_default = is_default("on");
                args.store_is_default = is_default("store");
            }
            Self::Connect(args) => args.frame_is_default = is_default("frame"),
            Self::Bench(args) => args.frame_is_default = is_default("frame"),
            _ => {}
        }
    }
}

/// List limits: default, option, and what happens at each
#[derive(Debug, Args)]
pub(crate) struct LimitsArgs {
    /// Print one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  echoic completions bash > ~/.local/share/bash-completion/completions/echoic
  echoic completions zsh > ~/.zfunc/_echoic
  echoic completions fish > ~/.config/fish/completions/echoic.fish")]
pub(crate) struct CompletionsArgs {
    /// Complete for this shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

/// Print the manual page, or write one for each command
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  echoic man | man -l -
  echoic man ~/.local/share/man/man1")]
pub(crate) struct ManArgs {
    /// Write echoic.1, echoic-serve.1 and so on into this folder; create it if
    /// necessary
    #[arg(value_name = "DIR")]
    pub(crate) dir: Option<std::path::PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_passes_clap_checks() {
        Cli::command().debug_assert();
    }

    /// The width for which these texts are laid out in the source.
    #[test]
    fn lines_after_the_options_fit_80_columns() {
        for command in Cli::command().get_subcommands() {
            let text = command.get_after_help().map(ToString::to_string);
            for line in text.unwrap_or_default().lines() {
                assert!(line.chars().count() <= 80, "{}: {line}", command.get_name());
            }
        }
    }
}
