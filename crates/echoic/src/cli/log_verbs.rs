//! The verbs of `echoic log`: the first word after it.

use clap::{Args, Command, Subcommand};
use echoic_core::units::Span;

use super::{log::FormArgs, values::count};
use crate::store_url::StoreUrl;

#[derive(Debug, Subcommand)]
pub(crate) enum LogVerb {
    /// Wait until an exchange matches, and print it
    Wait(WaitArgs),
    /// Put a tag on the matching exchanges, or remove it
    Tag(TagArgs),
    /// Write a note on the matching exchanges
    Note(NoteArgs),
    /// Delete the matching exchanges
    Delete(DeleteArgs),
}

impl LogVerb {
    /// Returns the words of all verbs.
    pub(crate) fn words() -> Vec<String> {
        let log = Self::augment_subcommands(Command::new("log"));
        let verbs = log.get_subcommands();
        verbs.map(|verb| verb.get_name().to_owned()).collect()
    }
}

/// The store of a verb.
#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    /// Use this database of echoic serve: a file, or `postgres://USER@HOST/DATABASE`
    #[arg(
        long,
        value_name = "FILE",
        default_value = "echoic.db",
        env = "ECHOIC_STORE",
        hide_env_values = true
    )]
    pub(crate) store: StoreUrl,
}

/// Wait until an exchange matches, and print it
#[derive(Debug, Args)]
#[command(after_help = "\
Exchanges that are recorded already count too, unless --after is given. Exit
code 0: found and printed. 5: the time has passed.

Examples:
  echoic log wait req:login --timeout 30s
  echoic log wait rep:ERROR --timeout 5s --after 4711
  echoic log wait req:login THEN rep:ERROR --matches 3 --json")]
pub(crate) struct WaitArgs {
    /// Terms to match, as for echoic log
    #[arg(value_name = "FILTER")]
    pub(crate) filter: Vec<String>,

    /// Give up after this time; a plain number is seconds
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub(crate) timeout: Span,

    /// Wait for so many matches
    #[arg(long, value_name = "N", default_value = "1", value_parser = count::<u64>(1..=u64::MAX))]
    pub(crate) matches: u64,

    /// Only exchanges with a larger id
    #[arg(long, value_name = "ID", value_parser = count::<u64>(0..=u64::MAX))]
    pub(crate) after: Option<u64>,

    #[command(flatten)]
    pub(crate) form: FormArgs,

    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Put a tag on the matching exchanges, or remove it
#[derive(Debug, Args)]
#[command(after_help = "\
A tag is a word; several are divided by commas. It can be written while echoic
serve records, and tag:NAME finds it. Prints the number of exchanges,
or of conversations with --conversations.

Examples:
  echoic log tag bug id:17,19
  echoic log tag slow 'lat:>100ms' since:1h
  echoic log tag bug --remove tag:bug
  echoic log tag login --conversations req:login")]
pub(crate) struct TagArgs {
    /// The tag
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    /// Terms to match, as for echoic log
    #[arg(value_name = "FILTER", required = true)]
    pub(crate) filter: Vec<String>,

    /// Remove the tag instead
    #[arg(long)]
    pub(crate) remove: bool,

    /// Tag the conversations of the matching exchanges
    #[arg(long)]
    pub(crate) conversations: bool,

    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Write a note on the matching exchanges
#[derive(Debug, Args)]
#[command(after_help = "\
A note takes the place of the one before; an empty one removes it. It can be
written while echoic serve records, and note:TEXT finds it. Prints the number of
exchanges, or of conversations with --conversations.

Examples:
  echoic log note 'the customer saw this one' id:17
  echoic log note 'from the old client' --conversations req:v1
  echoic log note '' id:17")]
pub(crate) struct NoteArgs {
    /// The note
    #[arg(value_name = "TEXT")]
    pub(crate) text: String,

    /// Terms to match, as for echoic log
    #[arg(value_name = "FILTER", required = true)]
    pub(crate) filter: Vec<String>,

    /// Write it on the conversations of the matching exchanges
    #[arg(long)]
    pub(crate) conversations: bool,

    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Delete the matching exchanges
#[derive(Debug, Args)]
#[command(after_help = "\
The number of matches confirms that these are meant: without --confirm it is
printed, and with another number nothing is deleted (exit code 7). Conversations
that have ended and have no exchange left go too. It is refused while echoic
serve records into the file.

Examples:
  echoic log delete before:30d
  echoic log delete req:password --confirm 3")]
pub(crate) struct DeleteArgs {
    /// Terms to match, as for echoic log
    #[arg(value_name = "FILTER")]
    pub(crate) filter: Vec<String>,

    /// The number of exchanges to delete
    #[arg(long, value_name = "COUNT", value_parser = count::<u64>(0..=u64::MAX))]
    pub(crate) confirm: Option<u64>,

    #[command(flatten)]
    pub(crate) store: StoreArgs,
}
