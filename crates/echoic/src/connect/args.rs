//! The command line of `echoic connect`, and the plan that it describes.

use std::{sync::Arc, time::Duration};

use clap::{Args, ValueEnum};
use echoic_client::{Expected, Timeouts};
use echoic_core::{
    endpoint::{Endpoint, Host, Located, Shape},
    framing::{Framing, FramingPair},
    units::{OffOr, Span},
};
use echoic_wire::{ClientLayer, TlsClientOptions};

use crate::{
    cli::{ENCODING_HINT, Switch, count},
    store_url::StoreUrl,
    term,
};

use super::{
    input::{InputSource, Rounds},
    message,
    piped::SEND_ONLY_SETTLE,
    send_args::SendArgs,
    tls_args::{StartTlsArgs, TlsArgs},
};

/// Talk to a peer, interactively or through a pipe
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct ConnectArgs {
    /// Connect to 5000 or :5000 (this machine), HOST:PORT, tcp://HOST:PORT, udp://HOST:PORT, tls://HOST:PORT, unix:PATH,
    /// unixgram:PATH, or HOST PORT as two words
    #[arg(value_name = "ENDPOINT")]
    endpoint: String,

    /// The port, if it is a separate word
    #[arg(value_name = "PORT", hide = true)]
    port: Option<String>,

    /// Divide the stream into messages: chunk (what one read returns), line, crlf, nul, delim:HEX, fixed:N, u8, u16be,
    /// u16le, u32be, u32le, varint, netstring or content-length; IN/OUT if replies and requests differ [default: line at
    /// a prompt, chunk in a pipe]
    #[arg(long, value_name = "F", env = "ECHOIC_FRAME", hide_env_values = true)]
    frame: Option<FramingPair>,

    /// `frame` came from `ECHOIC_FRAME` or a file.
    #[arg(skip)]
    pub(crate) frame_is_default: bool,

    /// End each typed line with this [default: lf with --frame line, none with --frame chunk; other framings define their
    /// own]
    #[arg(long, value_name = "END")]
    newline: Option<Newline>,

    /// Same as --newline none
    #[arg(long, conflicts_with = "newline")]
    no_newline: bool,

    /// Send a line that is only q instead of quitting
    #[arg(long)]
    no_q: bool,

    /// Neither read nor write the history of typed lines
    #[arg(long)]
    no_history: bool,

    #[command(flatten)]
    sends: SendArgs,

    /// Exit with 0 as soon as the reply contains this, or with 7 if it does not within -w. /.../ is a regular expression;
    /// its $ and \b match at the end of a line, a message of --frame, a datagram or the stream, never at the end of a read
    #[arg(long, value_name = "TEXT|/REGEX/", conflicts_with = "send_only")]
    expect: Option<Expected>,

    /// Send all --send messages N times [default: once, or without end with --every]
    #[arg(long, value_name = "N", requires = "SENDS", value_parser = count::<u64>(1..=u64::MAX))]
    count: Option<u64>,

    /// Repeat at this interval; with --expect, each round must get its own reply
    #[arg(long, value_name = "TIME", requires = "SENDS")]
    every: Option<Span>,

    /// Keep the sending side open after the end of input; the peer or --idle-timeout ends the connection
    #[arg(long)]
    hold: bool,

    /// Send the input and leave; discard what arrives
    #[arg(long, conflicts_with_all = ["recv_only", "hold"])]
    send_only: bool,

    /// Send nothing, read no input, and keep the sending side open
    #[arg(long, conflicts_with = "SENDS")]
    recv_only: bool,

    /// Allow this time for the connection (name resolution included), and for each reply with --expect; a plain number is
    /// seconds
    #[arg(short = 'w', long, value_name = "TIME", default_value = "10s")]
    connect_timeout: Span,

    /// Close once piped input has ended and the peer has neither sent nor taken anything for this time
    #[arg(long, value_name = "TIME", default_value = "5s")]
    linger_timeout: Span,

    /// Give up after this time without traffic in either direction
    #[arg(long, value_name = "TIME|off", default_value = "off")]
    idle_timeout: OffOr<Span>,

    /// Give up if the peer reads nothing for this time
    #[arg(long, value_name = "TIME", default_value = "10s")]
    write_timeout: Span,

    /// Record the conversation in this file or postgres:// database, as serve does; read it with echoic log --store FILE
    #[arg(long, value_name = "FILE")]
    store: Option<StoreUrl>,

    /// Print each socket call with its arguments and result on standard error
    #[arg(long)]
    explain: bool,

    /// Print the address and a summary on standard error, in a pipe too
    #[arg(short, long)]
    verbose: bool,

    #[command(flatten)]
    tls: TlsArgs,

    #[command(flatten)]
    starttls: StartTlsArgs,
}

const EXAMPLES: &str = "\
Examples:
  echoic connect :5000                    a prompt; q quits, :help explains
  echoic connect localhost 5000           the same, with arguments as for nc
  printf 'hello' | echoic connect :5000   prints the reply and nothing else
  echoic connect :12345 </dev/null        prints a greeting
  echoic connect :5000 --send hello --expect HELLO   exits with 0 or 7
  echoic connect :5000 --store talk.db    records; echoic log --store talk.db
  echoic connect :5000 --explain          prints every socket call

At a prompt, a line that is only q quits (\\q sends it), Ctrl-D shuts down the
sending side, Ctrl-C twice quits, and a line that starts with a space stays out
of the history.

In a pipe, the end of input shuts down the sending side; connect then reads
until the peer closes. If the peer sends nothing for --linger-timeout instead,
connect leaves: with 0 if every request has a reply, else with 5.

If the peer shuts down its side first, connect still sends its input to the end,
however late that comes. The exit code is 6 if the peer closes before it has
read everything, if the input has not ended a second after the close
(--recv-only or </dev/null: there is none) or, under a declared --frame, without
a reply to the last message. If whatever reads our output leaves (| head -1),
connect ends with 0.

Over tls:// the server's certificate is verified, by the system's roots or --ca;
-v prints what the handshake agreed on, --explain its steps. With --starttls
smtp, imap or postgres it begins in plain text, and asks the server for TLS.

Over udp:// and unixgram: each line or --send is one datagram. Silence for
--linger-timeout is the end, with --send also a reply to each. If replies are
missing, the exit code is 5.

Exit codes: 0 done, 1 system error, 2 usage, 3 name not resolved, 4 refused or
unreachable, 5 timed out, 6 reset or cut before the end, 7 --expect not met, 8
TLS handshake failed, 130 interrupted.";

/// The bytes after a typed line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Newline {
    /// Line feed
    Lf,
    /// Carriage return and line feed, as in SMTP and HTTP
    Crlf,
    /// Nothing, like the client of the tutorial
    None,
}

impl Newline {
    /// Returns the bytes.
    pub(super) fn bytes(self) -> &'static [u8] {
        match self {
            Self::Lf => b"\n",
            Self::Crlf => b"\r\n",
            Self::None => b"",
        }
    }
}

/// What the command line asks for.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(super) struct Plan {
    pub(super) endpoint: Endpoint,
    pub(super) frames: FramingPair,
    /// `None`: the default of the framing.
    pub(super) newline: Option<Newline>,
    pub(super) q_quits: bool,
    pub(super) history: bool,
    pub(super) connect_within: Duration,
    pub(super) timeouts: Timeouts,
    /// A line or a message is a datagram.
    pub(super) datagrams: bool,
    /// The address may be one of broadcast.
    pub(super) broadcast: bool,
    pub(super) input: InputSource,
    pub(super) expect: Option<Expected>,
    pub(super) hold: bool,
    pub(super) send_only: bool,
    /// Where to record the conversation.
    pub(super) store: Option<StoreUrl>,
    pub(super) explain: bool,
    pub(super) verbose: bool,
    /// What TLS needs; `None` without TLS.
    pub(super) tls: Option<TlsClientOptions>,
    /// What is spoken before TLS (`--starttls`).
    pub(super) before_tls: Option<Arc<dyn ClientLayer>>,
}

impl ConnectArgs {
    /// Returns whether options supply the input, so that a prompt is not needed.
    pub(super) fn has_input(&self) -> bool {
        !self.sends.is_empty() || self.expect.is_some() || self.send_only || self.recv_only
    }

    /// Returns the input of a connection without a prompt.
    fn input(
        &self,
        datagrams: bool,
        outbound: Framing,
        newline: Option<Newline>,
    ) -> Result<InputSource, String> {
        if self.recv_only {
            return Ok(InputSource::None);
        }
        if self.sends.is_empty() {
            let end = newline.unwrap_or(Newline::None).bytes();
            return Ok(if datagrams {
                InputSource::StdinLines(end)
            } else {
                InputSource::Stdin
            });
        }
        let bodies = self.sends.bodies()?;
        let messages = bodies
            .iter()
            .map(|body| message::framed(outbound, newline, body));
        Ok(InputSource::Rounds(Rounds {
            messages: messages.collect::<Result<_, _>>()?,
            count: self.count.or_else(|| self.every.is_none().then_some(1)),
            every: self.every.map(|every| every.0),
        }))
    }

    fn recorded_in(&self) -> Result<Option<StoreUrl>, String> {
        match &self.store {
            None | Some(StoreUrl::None) => Ok(None),
            Some(StoreUrl::Memory | StoreUrl::Nats(_)) => {
                Err("invalid --store memory: it would be lost at exit; expected a file".to_owned())
            }
            store @ Some(StoreUrl::Sqlite(_) | StoreUrl::Postgres(_)) => Ok(store.clone()),
        }
    }

    /// Returns the plan, or an error that names the option at fault; `prompt` if there will be a prompt.
    pub(super) fn plan(&self, prompt: bool) -> Result<Plan, String> {
        let Located { endpoint, options } = located(&self.endpoint, self.port.as_deref())?;
        let datagrams = endpoint.shape() == Some(Shape::Datagrams);
        let default = if prompt && !datagrams {
            Framing::Line
        } else {
            Framing::Chunk
        };
        let frame = self.frame.filter(|_| !(datagrams && self.frame_is_default));
        let mut frames = frame.unwrap_or_else(|| default.into());
        let (mut broadcast, mut is_option) = (false, false);
        for (name, value) in options.0 {
            match &*name {
                "frame" => {
                    is_option = true;
                    frames = value.parse().map_err(|error| format!("{error}"))?;
                }
                "broadcast" if matches!(endpoint, Endpoint::Udp(_)) => {
                    broadcast = value.parse::<Switch>()?.0;
                }
                _ => return Err(invalid_option(&name, &endpoint)),
            }
        }
        if datagrams && frames != Framing::Chunk.into() {
            frames = Framing::Chunk.into();
            term::note(&framing_ignored(&endpoint, is_option));
        }
        let newline = self
            .newline
            .or_else(|| self.no_newline.then_some(Newline::None));
        if newline.is_some() && message::newline(frames.outbound, newline).is_none() {
            return Err(format!(
                "--newline applies to line and chunk only; {} defines the end of a message",
                frames.outbound
            ));
        }
        Ok(Plan {
            tls: self.tls.options(&endpoint)?,
            before_tls: self.starttls.layer(matches!(endpoint, Endpoint::Tls(_)))?,
            datagrams,
            broadcast,
            input: self.input(datagrams, frames.outbound, newline)?,
            expect: self.expect.clone(),
            hold: self.hold || self.recv_only,
            send_only: self.send_only,
            endpoint,
            frames,
            newline,
            q_quits: !self.no_q,
            history: !self.no_history,
            connect_within: self.connect_timeout.0,
            timeouts: Timeouts {
                linger_timeout: (!prompt).then_some(self.linger_timeout.0),
                settle: self.send_only.then_some(SEND_ONLY_SETTLE),
                idle_timeout: self.idle_timeout.0.map(|idle| idle.0),
                write_timeout: self.write_timeout.0,
            },
            store: self.recorded_in()?,
            explain: self.explain,
            verbose: self.verbose || prompt,
        })
    }
}

/// Says that a framing does not apply to the datagrams of `endpoint`; `is_option` if it is that of `?frame=`.
pub(crate) fn framing_ignored(endpoint: &Endpoint, is_option: bool) -> String {
    let what = if is_option { "?frame=" } else { "--frame" };
    format!("{endpoint}: a datagram is one message, so {what} does not apply")
}

fn invalid_option(name: &str, endpoint: &Endpoint) -> String {
    let hint = match endpoint {
        Endpoint::Unix(_) | Endpoint::Unixgram(_) => ENCODING_HINT,
        _ => "",
    };
    if name == "broadcast" {
        "invalid option ?broadcast=: it applies to udp:// only".to_owned()
    } else {
        format!("invalid option ?{name}=: expected frame or broadcast{hint}")
    }
}

fn located(first: &str, port: Option<&str>) -> Result<Located, String> {
    let located = match port {
        None => first.parse::<Located>(),
        Some(port) => {
            if first.parse::<Located>().is_ok() {
                return Err(format!(
                    "two ports: {first:?} has one and {port:?} follows; leave one of them out"
                ));
            }
            let ip = first.split_once('%').map_or(first, |(ip, _)| ip);
            let is_ipv6 = ip.parse::<std::net::Ipv6Addr>().is_ok();
            let host = if is_ipv6 {
                format!("[{first}]")
            } else {
                first.to_owned()
            };
            format!("{host}:{port}").parse()
        }
    };
    let located = located.map_err(|error| error.to_string())?;
    match &located.endpoint {
        Endpoint::Tcp(at) | Endpoint::Udp(at) | Endpoint::Tls(at) if at.port == 0 => {
            Err("invalid port 0: expected the port of a server".to_owned())
        }
        Endpoint::Tcp(at) | Endpoint::Udp(at) | Endpoint::Tls(at) if at.host == Host::Any => {
            Err("invalid host *: it is for listening; expected the host to connect to".to_owned())
        }
        Endpoint::Fd(_) => Err(
            "invalid endpoint fd: an inherited socket is for listening; expected an address to connect to"
                .to_owned(),
        ),
        _ => Ok(located),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        args: ConnectArgs,
    }

    fn plan(words: &str, prompt: bool) -> Result<Plan, String> {
        let words = std::iter::once("connect").chain(words.split(' '));
        let parsed = CommandLine::try_parse_from(words).map_err(|error| error.to_string())?;
        parsed.args.plan(prompt)
    }

    #[test]
    fn host_and_port_may_be_two_words() {
        for (words, long) in [
            ("localhost 5000", "tcp://localhost:5000"),
            ("::1 5000", "tcp://[::1]:5000"),
            ("127.0.0.1:5000", "tcp://127.0.0.1:5000"),
            (":5000", "tcp://:5000"),
        ] {
            assert_eq!(plan(words, false).unwrap().endpoint.to_string(), long);
        }
    }

    #[test]
    fn endpoint_option_overrides_the_framing() {
        let plan = plan(":5000?frame=u8/line --frame nul", false).unwrap();
        assert_eq!(plan.frames.to_string(), "u8/line");
    }

    #[test]
    fn sends_are_framed_and_repeat_only_if_requested() {
        let rounds = |words| match plan(words, false).unwrap().input {
            InputSource::Rounds(rounds) => (rounds.messages, rounds.count, rounds.every),
            other => panic!("{other:?}"),
        };
        let once = rounds(":5000 --send a --send-hex 62 --frame line/u8");
        assert_eq!(
            once,
            (vec![b"\x01a".to_vec(), b"\x01b".to_vec()], Some(1), None)
        );
        let second = Some(Duration::from_secs(1));
        assert_eq!(
            rounds(":5000 --send a --every 1s"),
            (vec![b"a".to_vec()], None, second)
        );
        assert_eq!(rounds(":5000 --send a --every 1s --count 2").1, Some(2));
    }

    #[test]
    fn invalid_connect_arguments_are_rejected_with_a_reason() {
        for (words, why) in [
            ("localhost:5000 5001", "leave one of them out"),
            ("localhost", "has no port"),
            ("localhost http", "invalid port http: expected a number"),
            (":0", "port 0"),
            ("*:5000", "for listening"),
            (":5000 --frame paragraph", "expected chunk, line"),
            (":5000 --linger-timeout soon", "invalid duration soon"),
            (":5000 --newline lf --no-newline", "cannot be used with"),
            (":5000 --newline lf --frame u8", "defines the end"),
            (":5000?frame=lines", "invalid framing lines"),
            (":5000?idle-timeout=5s", "expected frame"),
            (":5000?broadcast=on", "udp:// only"),
            ("udp://:5000?broadcast=yes", "expected on or off"),
            ("./a?b=c.sock", "write %3F"),
            ("./a?b.sock", "write %3F"),
            ("fd:3", "for listening"),
            (":5000 --ca a.pem", "--ca applies to tls:// only"),
            ("tls://:5443 --client-cert a.pem", "needs --client-key"),
            ("tls://:5443 --client-key a.pem", "needs --client-cert"),
            (":5000 --starttls smtp", "--starttls applies to tls:// only"),
            (
                "tls://:25 --starttls pop3",
                "invalid protocol pop3: expected smtp, imap or postgres",
            ),
            (":5000 --count 3", "--send"),
            (
                ":5000 --count 0 --send a",
                "invalid count 0: expected at least 1",
            ),
            (":5000 --send a --recv-only", "cannot be used with"),
            (":5000 --send-only --hold", "cannot be used with"),
            (":5000 --send ab --frame fixed:3", "exactly 3"),
            (":5000 --expect /(/ --send a", "unclosed group"),
        ] {
            let error = plan(words, false).unwrap_err();
            assert!(error.contains(why), "{words}: {error}");
        }
    }

    #[test]
    fn prompt_uses_lines_and_pipe_uses_chunks_with_linger() {
        let prompt = plan(":5000", true).unwrap();
        assert_eq!(
            (prompt.frames, prompt.timeouts.linger_timeout),
            (Framing::Line.into(), None)
        );
        let pipe = plan(":5000 -w 3", false).unwrap();
        assert_eq!(pipe.frames, Framing::Chunk.into());
        assert_eq!(pipe.timeouts, Timeouts::default());
        assert_eq!(pipe.connect_within, Duration::from_secs(3));
    }
}
