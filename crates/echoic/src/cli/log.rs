//! The command line of `echoic log`.
//!
//! A filter may contain terms that start with `-` (not), so for `log` only an exact name of a flag is a flag.

use std::{collections::HashMap, ffi::OsString, path::PathBuf};

use clap::{Args, Command};

use super::{log_verbs::LogVerb, values::count};
use crate::store_url::StoreUrl;

/// List, search and follow recorded exchanges
#[derive(Debug, Args)]
#[command(
    after_help = EXAMPLES,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    subcommand_help_heading = "Verbs, as the first word; search for such a word after --"
)]
pub(crate) struct LogArgs {
    #[command(subcommand)]
    pub(crate) verb: Option<LogVerb>,

    /// Terms to match
    #[arg(value_name = "FILTER")]
    pub(crate) filter: Vec<String>,

    /// List the last N matches only; -N does the same
    #[arg(short = 'n', long, value_name = "N", value_parser = count::<u64>(0..=u64::MAX))]
    pub(crate) last: Option<u64>,

    /// Then print new matches as they are recorded, until interrupted or limit:N are printed
    #[arg(long, short)]
    pub(crate) follow: bool,

    /// Print the number of matching exchanges only
    #[arg(long, conflicts_with_all = ["follow", "show", "hex", "text"])]
    pub(crate) count: bool,

    /// Write the matches to this file: a line of JSON each (.jsonl), or for a spreadsheet (.csv)
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["follow", "count", "show", "hex", "text", "json"]
    )]
    pub(crate) export: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) form: FormArgs,

    /// Read this database of echoic serve: a file, or `postgres://USER@HOST/DATABASE`
    #[arg(
        long,
        value_name = "FILE",
        default_value = "echoic.db",
        env = "ECHOIC_STORE",
        hide_env_values = true
    )]
    pub(crate) store: StoreUrl,
}

/// The form in which exchanges are printed.
#[derive(Debug, Args)]
pub(crate) struct FormArgs {
    /// Print each exchange in full, with its conversation and how that ended
    #[arg(long, conflicts_with = "json")]
    pub(crate) show: bool,

    /// Print each exchange in full, its bytes as a hex dump with offsets
    #[arg(long, conflicts_with = "json")]
    pub(crate) hex: bool,

    /// Print the list for reading, in a pipe too
    #[arg(long, conflicts_with = "json")]
    pub(crate) text: bool,

    /// Print one JSON object per line, on a terminal too
    #[arg(long)]
    pub(crate) json: bool,
}

const EXAMPLES: &str = "\
A filter is a list of words and keys; an exchange must match all of them. OR,
parentheses and - (not) combine them. A filter may span several arguments.
  hello \"two words\"              text in the request or the reply
  req:TEXT rep:TEXT              text in one of them
  req~REGEX rep~REGEX            a regular expression
  hex:ff00                       bytes
  peer:127.0.0.1                 address or network of the peer
  port:5000 ep:tcp:5000          endpoint
  svc:upper proto:tcp            service, protocol
  since:10m before:TIME          how long ago, or a time
  'lat:>5ms' 'size:>1k'          latency, size
  is:ok|unanswered|open|http     outcome, form
  end:fin|rst|timeout|limit|drain  end of the conversation
  id:1..9 conv:3 n:1             by number
  tag:bug note:TEXT              tag, text in a note
  req:login THEN rep:ERROR       in this order within one conversation
  sort:-lat limit:20             order, how many in all

A list begins each line with the time and #N, the number of the conversation:
conv:N selects it. Each exchange has an id of its own, for id:, in --show, --hex
and JSON.

A TIME is 13:55, today, yesterday, 2026-08-01, '2026-08-01 13:55' or
2026-08-01T13:55Z. Without a zone it is local, as log prints it; a time that the
clock shows twice is the first of the two.

Examples:
  echoic log                          the latest exchanges
  echoic log -f                       the same, then each new one
  echoic log -20 svc:upper            the last 20
  echoic log since:10m rep:ERROR      the last ten minutes, ERROR in the reply
  echoic log conv:3 --show            one conversation in full
  echoic log --count svc:upper        the number of exchanges
  echoic log -svc:greet --json        all but greetings, as JSON
  echoic log --export today.csv since:today   for a spreadsheet
  echoic log -- wait                  exchanges with the word wait

On a terminal log lists the last 50 matches, unless -n N or limit:N asks for
another number. Where nothing matches it says so, if a terminal is its output or
its errors; the exit code is 0. Rejected connections have no exchanges; list
them with end:limit, on a terminal or with --show.";

/// Reorders the arguments of `log`: first its flags with their values, then `--`, then the words of the filter.
pub(super) fn flags_first(words: Vec<OsString>, cli: &Command) -> Vec<OsString> {
    let log = cli.find_subcommand("log");
    let verb = words.first().and_then(|word| log?.find_subcommand(word));
    let known = verb.or(log).map(Command::get_arguments);
    let known = known.into_iter().flatten();
    let takes_value: HashMap<String, bool> = known
        .flat_map(|arg| {
            let long = arg.get_long().map(|long| format!("--{long}"));
            let short = arg.get_short().map(|short| format!("-{short}"));
            let value = arg.get_action().takes_values();
            long.into_iter().chain(short).map(move |flag| (flag, value))
        })
        .chain(["--help", "-h"].map(|help| (help.to_owned(), false)))
        .collect();
    let (mut flags, mut rest) = (Vec::new(), Vec::new());
    let mut words = words.into_iter();
    // The first word is a verb, or one of the filter.
    flags.extend(verb.and_then(|_| words.next()));
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        if text == "--" {
            rest.extend(words.by_ref());
            break;
        }
        if let (None, Some(number)) = (verb, last_flag(&text)) {
            flags.extend(["-n".into(), number.into()]);
            continue;
        }
        let (flag, inline_value) = text
            .split_once('=')
            .map_or((&*text, false), |(flag, _)| (flag, true));
        match takes_value.get(flag) {
            Some(true) if !inline_value => {
                flags.push(word);
                flags.extend(words.next());
            }
            Some(_) => flags.push(word),
            // No term of a filter starts with `--`, so this is a misspelt flag, which clap reports.
            None if text.starts_with("--") => flags.push(word),
            None => rest.push(word),
        }
    }
    flags.push("--".into());
    flags.extend(rest);
    flags
}

/// Returns the number of `-20` or `-n20`, as for `tail`.
fn last_flag(word: &str) -> Option<&str> {
    let number = word.strip_prefix("-n").or_else(|| word.strip_prefix('-'))?;
    let is_number = !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit());
    is_number.then_some(number)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::{super::Cli, *};

    #[test]
    fn only_exact_log_flags_are_flags() {
        let words = [
            "-peer:1.2.3.4",
            "--store",
            "x.db",
            "-f",
            "-svc:upper",
            "--store=y",
            "-20",
            "-n",
            "7",
            "-n:1",
            "-n1",
            "-1x",
            "--",
            "--json",
            "-5",
        ];
        let sorted = flags_first(words.map(OsString::from).to_vec(), &Cli::command());
        let expected = [
            "--store",
            "x.db",
            "-f",
            "--store=y",
            "-n",
            "20",
            "-n",
            "7",
            "-n",
            "1",
            "--",
            "-peer:1.2.3.4",
            "-svc:upper",
            "-n:1",
            "-1x",
            "--json",
            "-5",
        ];
        assert_eq!(sorted, expected.map(OsString::from));
    }
}
