//! The command line as it is typed. What it means is made of it once, in each command's own file.

mod fingers;

use std::{collections::HashMap, error::Error, ffi::OsString, ops::RangeInclusive};

use clap::{
    Args, Command, CommandFactory, Parser, Subcommand, ValueEnum,
    builder::{
        Styles,
        styling::{AnsiColor, Style},
    },
    error::{ContextKind, ContextValue},
};
use echoic_core::{
    access::Network,
    endpoint::{EndpointError, Served},
    framing::FramingPair,
    store::{Durability, Retention},
    units::{Bytes, Count, Mode, OffOr, Span, UnitError},
};
use echoic_service::Chosen;

use crate::{
    bench::BenchArgs,
    connect::ConnectArgs,
    probe::ProbeArgs,
    store_url::{StoreUrl, retention},
    term,
};

const STYLES: Styles = Styles::styled()
    .header(Style::new().bold())
    .usage(Style::new().bold())
    .literal(AnsiColor::Cyan.on_default());

/// A socket server that answers and remembers, and the client that goes with it.
#[derive(Debug, Parser)]
#[command(name = "echoic", version, styles = STYLES, max_term_width = 100, after_help = "\
Examples:
  echoic serve                        upper case on port 5000, a greeting on 12345, both recorded
  echoic connect :5000                talk to it; in another terminal
  echoic probe :5000                  can it be reached, and if not, why
  echoic bench :5000                  how much it takes
  echoic log                          what was said
  echoic serve --help                 more of each command")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

impl Cli {
    /// Reads the command line, or ends the process with help or with what is wrong.
    ///
    /// A filter may begin with `-`, so for `log` only what is exactly a known flag is one.
    pub(crate) fn read() -> Self {
        let mut args: Vec<OsString> = std::env::args_os().collect();
        if args.get(1).is_some_and(|verb| verb == "log") {
            let words = args.split_off(2);
            args.extend(flags_first(words, &Self::command()));
        }
        Self::try_parse_from(args)
            .unwrap_or_else(|error| sanitize(shortened(fingers::hinted(error))).exit())
    }
}

/// The same error, without clap's own "invalid value" where the reason begins like that and names the value.
fn shortened(error: clap::Error) -> clap::Error {
    let why = error.source().map(ToString::to_string);
    let Some(why) = why.filter(|why| why.starts_with("invalid ")) else {
        return error;
    };
    let flag = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(arg)) => arg.split(' ').next().filter(|arg| arg.starts_with('-')),
        _ => None,
    };
    let flag = flag.map_or(String::new(), |flag| format!("{flag}: "));
    let message = format!("{flag}{why}\n\nFor more information, try '--help'.\n");
    clap::Error::raw(error.kind(), message)
}

/// The same error, in which what was typed is shown and not obeyed: it may come from a script, and so from anywhere.
fn sanitize(mut error: clap::Error) -> clap::Error {
    let sanitized: Vec<_> = error
        .context()
        .filter_map(|(kind, value)| {
            let sanitized = match value {
                ContextValue::String(text) => ContextValue::String(term::sanitize(text)),
                ContextValue::Strings(texts) => {
                    ContextValue::Strings(texts.iter().map(term::sanitize).collect())
                }
                _ => return None,
            };
            (sanitized != *value).then_some((kind, sanitized))
        })
        .collect();
    if !sanitized.is_empty() {
        // It repeats the words, among colours.
        error.remove(ContextKind::Suggested);
    }
    for (kind, value) in sanitized {
        error.insert(kind, value);
    }
    // The reason is printed as it is. If there is something in it, all of it goes without colours.
    let wild = |why: &dyn Error| term::sanitize(why) != why.to_string();
    if error.source().is_some_and(wild) {
        let plain = term::sanitize(error.render());
        let plain = plain.strip_prefix("error: ").unwrap_or(&plain);
        return clap::Error::raw(error.kind(), plain);
    }
    error
}

/// The flags of `log` among `words`, with their values, then `--` and everything else.
fn flags_first(words: Vec<OsString>, cli: &Command) -> Vec<OsString> {
    let known = cli
        .find_subcommand("log")
        .map(Command::get_arguments)
        .into_iter()
        .flatten();
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
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        if text == "--" {
            rest.extend(words.by_ref());
            break;
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
            // A slip of the pen: a filter has no use for two signs.
            None if text.starts_with("--") => flags.push(word),
            None => rest.push(word),
        }
    }
    flags.push("--".into());
    flags.extend(rest);
    flags
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Answer, record, show
    Serve(Box<ServeArgs>),
    /// Talk to a peer: at a prompt on a terminal, verbatim through a pipe
    Connect(Box<ConnectArgs>),
    /// Can it be reached, and if not, why
    Probe(ProbeArgs),
    /// How much, how fast, and who was the limit
    Bench(Box<BenchArgs>),
    /// List, search and follow what was said
    Log(LogArgs),
    /// The bounds that options set: how much, which option, and what happens past it
    Limits(LimitsArgs),
    /// Print what makes a shell complete commands and options
    Completions(CompletionsArgs),
    /// Print the manual page, or write a page for each command
    Man(ManArgs),
}

/// The bounds that options set: how much, which option, and what happens past it.
#[derive(Debug, Args)]
pub(crate) struct LimitsArgs {
    /// Lines of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print what makes a shell complete commands and options.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  echoic completions bash > ~/.local/share/bash-completion/completions/echoic
  echoic completions zsh > ~/.zfunc/_echoic
  echoic completions fish > ~/.config/fish/completions/echoic.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

/// Print the manual page, or write a page for each command.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  echoic man | man -l -
  echoic man ~/.local/share/man/man1")]
pub(crate) struct ManArgs {
    /// A folder for echoic.1, echoic-serve.1 and so on; made if it is not there
    #[arg(value_name = "DIR")]
    pub(crate) dir: Option<std::path::PathBuf>,
}

/// Answer, record, show.
#[derive(Debug, Args)]
#[command(after_help = "\
An endpoint is a port (5000, :5000: this machine only), HOST:PORT, '*:PORT' (every interface), a
URL like tcp://127.0.0.1:5000 or udp://:5000, a Unix socket (./x.sock, unix:PATH, unix:@NAME, or
unixgram:PATH for datagrams), or fd:N, a socket that was handed over. NAME= before it says which
service answers there; ?OPTION=VALUE&... after it holds there only (as frame
max-message idle-timeout message-timeout write-timeout backlog sndbuf mode allow deny). Port 0 takes a free one. Without a word, what
systemd hands over (LISTEN_FDS) is served.

A duration is 250ms, 0.5s, 10min, 1m30s or 1w; a plain number is seconds. A size is 512, 64KB or
1.5M (1k is 1024), a count 500, 10k or 1.5M (1k is 1000).

Services:
  upper           answers each message in upper case, all of Unicode
  echo            answers each message with itself
  lower           answers each message in lower case
  greet[:TEXT|@FILE]   says TEXT (\"Thank you for connecting\"), or a file, to each caller and closes
  discard         hears everything and says nothing
  time, daytime   says what the clock says, and closes
  chargen         says characters without end
  info            answers each message with what was seen of it and of its caller, as JSON

Examples:
  echoic serve                                         upper on 5000 (tcp and udp), greet on 12345
  echoic serve upper=:5001 greet=:5002 --frame line    two of your own, messages end at a newline
  echoic serve udp://:5001 lower=unix:./lower.sock     datagrams, and a Unix socket
  echoic serve :0 --print                              a free port, printed first on standard output
  echoic serve '*:7' --as echo --store none            echo for everybody, nothing recorded
  echoic serve :5000 --durability strict               a reply leaves only after it is on disk
  echoic serve :5000 --explain                         every socket call as it happens
  echoic serve :5000 --json                            every event as a line of JSON

Stop it with Ctrl-C: every message it has received is answered and recorded first.")]
pub(crate) struct ServeArgs {
    /// Where to listen, and which service answers there [default: upper=:5000 upper=udp://:5000 greet=:12345]
    #[arg(value_name = "[NAME=]ENDPOINT", value_parser = served)]
    pub(crate) endpoints: Vec<Served>,

    /// The service of endpoints without NAME=
    #[arg(
        long = "as",
        value_name = "SERVICE",
        default_value = "upper",
        env = "ECHOIC_AS",
        hide_env = true
    )]
    pub(crate) service: Chosen,

    /// What one message is: chunk (whatever a read returns), line, crlf, nul, delim:HEX, fixed:N, u8, u16be, u16le,
    /// u32be, u32le, varint, netstring or content-length; IN/OUT where the directions differ
    #[arg(
        long,
        value_name = "FRAMING",
        default_value = "chunk",
        env = "ECHOIC_FRAME",
        hide_env = true
    )]
    pub(crate) frame: FramingPair,

    /// Stop after one connection; datagrams have none, and their endpoints end with it
    #[arg(long)]
    pub(crate) once: bool,

    #[command(flatten)]
    pub(crate) recording: RecordingArgs,

    #[command(flatten)]
    pub(crate) showing: ShowingArgs,

    #[command(flatten)]
    pub(crate) limits: LimitArgs,

    /// Connections the kernel may hold ready for us; a hint, and a full queue makes callers wait, not fail
    #[arg(
        long,
        value_name = "N",
        default_value = "1024",
        value_parser = count::<u32>(0..=i32::MAX as u64),
        help_heading = "Sockets"
    )]
    pub(crate) backlog: u32,

    /// Only these may call: an address or a network like 10.0.0.0/8; may be given more than once
    #[arg(long, value_name = "NET", help_heading = "Sockets")]
    pub(crate) allow: Vec<Network>,

    /// These may not call, whatever is allowed
    #[arg(long, value_name = "NET", help_heading = "Sockets")]
    pub(crate) deny: Vec<Network>,

    /// Let services say more over UDP than they hear: a forged address can then make them flood somebody else
    #[arg(long, help_heading = "Sockets")]
    pub(crate) udp_allow_amplification: bool,

    /// Permissions of a Unix socket's file
    #[arg(
        long,
        value_name = "MODE",
        default_value = "600",
        help_heading = "Sockets"
    )]
    pub(crate) mode: Mode,

    /// Kernel send buffer of each connection [default: the kernel tunes it]
    #[arg(long, value_name = "SIZE", help_heading = "Sockets")]
    pub(crate) sndbuf: Option<Bytes>,

    /// After each message look for the next one so long before sleeping: quicker answers for a core's price (50us is
    /// a good choice; at most 1s); off to sleep at once
    #[arg(
        long,
        value_name = "TIME|off",
        default_value = "off",
        help_heading = "Sockets"
    )]
    pub(crate) busy_poll: OffOr<Span>,

    /// Threads that serve connections [default: one a core]
    #[arg(long, value_name = "N", help_heading = "Sockets", value_parser = count::<u16>(1..=256))]
    pub(crate) workers: Option<u16>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Recording")]
pub(crate) struct RecordingArgs {
    /// Where exchanges are kept: a file (SQLite), memory (gone at the end), or none
    #[arg(
        long,
        value_name = "STORE",
        default_value = "echoic.db",
        env = "ECHOIC_STORE",
        hide_env = true
    )]
    pub(crate) store: StoreUrl,

    /// strict: a reply leaves after it is on disk. normal: kept within 50 ms, on disk within 1 s. off: the disk's pace
    #[arg(
        long,
        value_name = "LEVEL",
        default_value = "normal",
        env = "ECHOIC_DURABILITY",
        hide_env = true
    )]
    pub(crate) durability: Durability,

    /// How long and how much is kept: an age, a size, or both; `off` keeps everything
    #[arg(
        long,
        value_name = "AGE,SIZE|off",
        default_value = "7d,2G",
        value_parser = Kept::read,
        env = "ECHOIC_RETENTION",
        hide_env = true
    )]
    pub(crate) retention: Kept,

    /// When the store is slower than the wire: block (conversations that are ahead wait), or drop (and count; not with
    /// strict)
    #[arg(long, value_name = "WHAT", default_value = "block")]
    pub(crate) when_full: Full,
}

/// A service and an endpoint, or what is wrong and how to write it.
fn served(text: &str) -> Result<Served, String> {
    text.parse()
        .map_err(|error: EndpointError| match error.service_with_argument() {
            Some(service) => format!("{error}; write --as {service:?} and the endpoint alone"),
            None => error.to_string(),
        })
}

/// Reads a count within bounds that fit `T`.
pub(crate) fn count<T: TryFrom<u64>>(
    bounds: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, UnitError> + Clone {
    move |text| Count::within(text, bounds.clone()).map(fitting)
}

/// Reads a size within bounds that fit `T`.
fn size<T: TryFrom<u64>>(
    bounds: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, UnitError> + Clone {
    move |text| Bytes::within(text, bounds.clone()).map(fitting)
}

/// Reads the largest size of a message.
pub(crate) fn max_message(text: &str) -> Result<usize, UnitError> {
    const MESSAGE_BYTES_MAX: u64 = 1 << 30;
    size(1..=MESSAGE_BYTES_MAX)(text)
}

/// Reads `off`, or what `read` reads.
fn off_or<T>(
    read: impl Fn(&str) -> Result<T, UnitError> + Clone,
) -> impl Fn(&str) -> Result<OffOr<T>, UnitError> + Clone {
    move |text| OffOr::read(text, &read)
}

fn fitting<T: TryFrom<u64>>(number: u64) -> T {
    let Ok(number) = T::try_from(number) else {
        unreachable!("the bounds fit the type");
    };
    number
}

/// The retention, and how it was typed.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) retention: Retention,
    pub(crate) text: String,
}

impl Kept {
    fn read(text: &str) -> Result<Self, String> {
        let retention = retention(text)?;
        let is_off = retention.age.is_none() && retention.bytes.is_none();
        let text = if is_off { "all" } else { text }.to_owned();
        Ok(Self { retention, text })
    }
}

/// What becomes of exchanges when the store is slower than the wire.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Full {
    /// The conversations that are ahead wait.
    Block,
    /// They are served, not recorded, and counted.
    Drop,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Showing")]
pub(crate) struct ShowingArgs {
    /// Print the address of each endpoint first, on standard output, for scripts
    #[arg(long)]
    pub(crate) print: bool,

    /// Print every event on standard output, one JSON object a line, on a terminal too. Without it a terminal shows
    /// up to 20 lines a second, and a file or a pipe shows no events
    #[arg(long)]
    pub(crate) json: bool,

    /// Print failures only: no events unless --json, and nothing on standard error while all is well
    #[arg(long, short)]
    pub(crate) quiet: bool,

    /// Print each socket call with its arguments and result, on standard error
    #[arg(long)]
    pub(crate) explain: bool,

    /// The web console: only `off` in this version, there is none yet
    #[arg(long, value_name = "ADDR|off", default_value = "off")]
    pub(crate) console: String,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArgs {
    /// Largest message under a declared framing
    #[arg(long, value_name = "SIZE", default_value = "1M", value_parser = max_message)]
    pub(crate) max_message: usize,

    /// Connections at a time, over all endpoints [default: 10000, less if fewer files may be open]; datagrams are no
    /// connections: of their peers, 4096 a socket are remembered at a time
    #[arg(long, value_name = "N", value_parser = count::<usize>(1..=u32::MAX.into()))]
    pub(crate) max_connections: Option<usize>,

    /// End a conversation in which nothing happens for so long
    #[arg(long, value_name = "TIME", default_value = "10m")]
    pub(crate) idle_timeout: Span,

    /// From a message's first byte to its last
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub(crate) message_timeout: Span,

    /// End a conversation whose peer reads nothing for so long
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub(crate) write_timeout: Span,

    /// When told to stop: time for conversations to come to their end
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub(crate) drain_timeout: Span,

    /// Conversations at a time of one source, which is an IPv4 address or an IPv6 /64; `off` for as many as there are
    /// [default: 1000, and none for this machine's own]
    #[arg(long, value_name = "N|off", value_parser = off_or(count::<u32>(1..=u32::MAX.into())))]
    pub(crate) source_connections: Option<OffOr<u32>>,

    /// Messages that one source may say in a second; given any of these three, they hold for this machine too
    #[arg(
        long,
        value_name = "N|off",
        default_value = "off",
        value_parser = off_or(count::<u32>(1..=u32::MAX.into()))
    )]
    pub(crate) source_messages: OffOr<u32>,

    /// Bytes that one source may say in a second
    #[arg(
        long,
        value_name = "SIZE|off",
        default_value = "off",
        value_parser = off_or(size::<u32>(1..=u32::MAX.into()))
    )]
    pub(crate) source_bytes: OffOr<u32>,
}

/// List, search and follow what was said.
#[derive(Debug, Args)]
#[command(after_help = "\
A filter is words and keys, all of which must match; OR, ( ) and - (not) combine them. It may span
several arguments.
  hello \"two words\"       text in request or reply       req:TEXT rep:TEXT   in that one
  req~REGEX rep~REGEX     a regular expression           hex:ff00            bytes
  peer:127.0.0.1          who called, also a network     port:5000 ep:tcp:5000 svc:upper proto:tcp
  since:10m before:TIME   when                           lat:>5ms size:>1k   how long, how much
  is:ok|unanswered|open|http   what it is                end:fin|rst|timeout|limit|drain
  id:1..9 conv:3 n:1      by number                      role:server|client  whose record it is
  server:NAME             which start of a server        sort:-lat limit:20

Examples:
  echoic log                          the last exchanges
  echoic log -f                       and each new one as it comes
  echoic log since:10m rep:ERROR      of the last ten minutes, with ERROR in the reply
  echoic log conv:3 --show            one conversation, whole
  echoic log --count svc:upper        how many
  echoic log -peer:127.0.0.1 --json   all but from there, as lines of JSON

Without a filter and on a terminal the last 50 are listed; limit:N asks for another number. Who was turned
away said nothing that could be listed: a filter about how conversations end (end:limit) lists them too, on a
terminal or with --show.")]
pub(crate) struct LogArgs {
    /// Which exchanges
    #[arg(value_name = "FILTER")]
    pub(crate) filter: Vec<String>,

    /// Go on as new exchanges come, until interrupted
    #[arg(long, short)]
    pub(crate) follow: bool,

    /// Each exchange whole, with its conversation and how that ended
    #[arg(long, conflicts_with = "json")]
    pub(crate) show: bool,

    /// Only how many there are
    #[arg(long, conflicts_with_all = ["follow", "show"])]
    pub(crate) count: bool,

    /// Lines of JSON, also on a terminal
    #[arg(long)]
    pub(crate) json: bool,

    /// The database a serve writes, or wrote
    #[arg(
        long,
        value_name = "FILE",
        default_value = "echoic.db",
        env = "ECHOIC_STORE",
        hide_env = true
    )]
    pub(crate) store: StoreUrl,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_log_flags_are_flags() {
        let words = [
            "-peer:1.2.3.4",
            "--store",
            "x.db",
            "-f",
            "-svc:upper",
            "--store=y",
            "--",
            "--json",
        ];
        let sorted = flags_first(words.map(OsString::from).to_vec(), &Cli::command());
        let expected = [
            "--store",
            "x.db",
            "-f",
            "--store=y",
            "--",
            "-peer:1.2.3.4",
            "-svc:upper",
            "--json",
        ];
        assert_eq!(sorted, expected.map(OsString::from));
    }

    #[test]
    fn command_line_passes_clap_checks() {
        Cli::command().debug_assert();
    }
}
