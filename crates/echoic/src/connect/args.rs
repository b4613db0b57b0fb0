//! What is typed after `echoic connect`, and what it means.

use std::time::Duration;

use clap::{Args, ValueEnum};
use echoic_client::Timeouts;
use echoic_core::{
    endpoint::{Endpoint, Host, Located, Shape},
    framing::{Framing, FramingPair},
    units::{OffOr, Span},
};

use crate::{cli::count, store_url::StoreUrl};

use super::{
    expect::Expected,
    message,
    piped::SEND_ONLY_LINGER,
    sends::Sends,
    speech::{Rounds, Speech},
};

/// Talk to a peer: at a prompt on a terminal, verbatim through a pipe
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct ConnectArgs {
    /// Whom to call: 5000 or :5000 (this machine), HOST:PORT, tcp://HOST:PORT, udp://HOST:PORT, unix:PATH,
    /// unixgram:PATH, or HOST PORT as two words
    #[arg(value_name = "ENDPOINT")]
    endpoint: String,

    /// The port, if it stands as a word of its own
    #[arg(value_name = "PORT", hide = true)]
    port: Option<String>,

    /// What one message is: chunk (what a read returned), line, crlf, nul, delim:HEX, fixed:N, u8, u16be, u16le,
    /// u32be, u32le, varint, netstring or content-length; IN/OUT where what is heard and what is said differ
    /// [default: line at a prompt, chunk in a pipe]
    #[arg(long, value_name = "F", env = "ECHOIC_FRAME", hide_env = true)]
    frame: Option<FramingPair>,

    /// What a typed line ends with on the wire [default: lf with --frame line, none with --frame chunk; other framings have ends of their own]
    #[arg(long, value_name = "END")]
    newline: Option<Newline>,

    /// The same as --newline none
    #[arg(long, conflicts_with = "newline")]
    no_newline: bool,

    /// Send a line that is just q, like any other, instead of quitting
    #[arg(long)]
    no_q: bool,

    /// Neither read nor write the history of typed lines
    #[arg(long)]
    no_history: bool,

    #[command(flatten)]
    sends: Sends,

    /// Exit with 0 as soon as the reply contains this, with 7 if it has not within -w; /…/ is a regex
    #[arg(long, value_name = "TEXT|/REGEX/", conflicts_with = "send_only")]
    expect: Option<Expected>,

    /// Say all --send so many times [default: once, or for ever with --every]
    #[arg(long, value_name = "N", requires = "SENDS", value_parser = count::<u64>(1..=u64::MAX))]
    count: Option<u64>,

    /// Time from one of those times to the next; with --expect each has a reply of its own
    #[arg(long, value_name = "TIME", requires = "SENDS")]
    every: Option<Span>,

    /// Leave our half open when everything is said; the peer ends it then, or --idle-timeout
    #[arg(long)]
    hold: bool,

    /// Say what is to be said and leave; what the peer says is thrown away
    #[arg(long, conflicts_with_all = ["recv_only", "hold"])]
    send_only: bool,

    /// Say nothing and read no input, and leave our half open
    #[arg(long, conflicts_with = "SENDS")]
    recv_only: bool,

    /// Time to resolve the name and to be answered, and for what --expect waits for; a plain number is seconds
    #[arg(short = 'w', long, value_name = "TIME", default_value = "10s")]
    connect_timeout: Span,

    /// Silence after the end of a piped input, before the peer's own end is waited for no longer
    #[arg(long, value_name = "TIME", default_value = "5s")]
    linger_timeout: Span,

    /// Silence in both directions after which to give up
    #[arg(long, value_name = "TIME|off", default_value = "off")]
    idle_timeout: OffOr<Span>,

    /// Time in which the peer takes nothing of what it is sent, after which to give up
    #[arg(long, value_name = "TIME", default_value = "10s")]
    write_timeout: Span,

    /// Record what is said and what comes in this file, as serve does; read it with `echoic log --store FILE`
    #[arg(long, value_name = "FILE")]
    store: Option<StoreUrl>,

    /// Tell of each socket call as it happens
    #[arg(long)]
    explain: bool,

    /// Tell who answered and what went each way, in a pipe too
    #[arg(short, long)]
    verbose: bool,
}

const EXAMPLES: &str = "\
Examples:
  echoic connect :5000                        a prompt; q quits, :help lists the commands
  echoic connect localhost 5000               the same, as with nc
  printf 'hello' | echoic connect :5000       prints the reply, and nothing else
  echoic connect :12345 </dev/null            hears a greeting
  echoic connect :5000 --send hello --expect HELLO   exits with 0 if that comes, else with 7
  echoic connect :5000 --store talk.db        records it; echoic log --store talk.db shows it
  echoic connect :5000 --explain              shows socket, connect, send, recv, shutdown, close

Over udp:// and unixgram: a line, or a --send, is one datagram, and silence for --linger-timeout
is the end.

At a prompt, a line that is just q quits (\\q sends it), Ctrl-D ends our half of the stream, Ctrl-C
twice quits, and a line that starts with a space is kept out of the history.

In a pipe, the end of the input is the end of our half; the peer's half is then read to its end. A
peer that stays silent for --linger-timeout instead is left: with code 0 if everything was
answered, else 5.

Exit codes: 0 done, 1 system error, 2 usage, 3 name not resolved, 4 refused or unreachable,
5 timed out, 6 reset or cut before the end, 7 the reply was not the expected one, 130 interrupted.";

/// What follows a typed line on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Newline {
    /// A line feed.
    Lf,
    /// Carriage return and line feed, as SMTP and HTTP want it.
    Crlf,
    /// Nothing, as the tutorial's client does it.
    None,
}

impl Newline {
    /// Its bytes.
    pub(super) fn bytes(self) -> &'static [u8] {
        match self {
            Self::Lf => b"\n",
            Self::Crlf => b"\r\n",
            Self::None => b"",
        }
    }
}

/// What is to be done.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each was a flag of its own")]
pub(super) struct Plan {
    pub(super) endpoint: Endpoint,
    pub(super) frames: FramingPair,
    /// None: what fits the framing.
    pub(super) newline: Option<Newline>,
    pub(super) q_quits: bool,
    pub(super) history: bool,
    pub(super) connect_within: Duration,
    pub(super) waits: Timeouts,
    /// A line, or a message, is a datagram.
    pub(super) datagrams: bool,
    pub(super) speech: Speech,
    pub(super) expect: Option<Expected>,
    pub(super) hold: bool,
    pub(super) send_only: bool,
    /// Where it is recorded.
    pub(super) store: Option<StoreUrl>,
    pub(super) explain: bool,
    pub(super) verbose: bool,
}

impl ConnectArgs {
    /// What is said does not come from a person at a prompt.
    pub(super) fn speaks_for_itself(&self) -> bool {
        !self.sends.is_empty() || self.expect.is_some() || self.send_only || self.recv_only
    }

    /// What is to be said without a prompt.
    fn speech(
        &self,
        datagrams: bool,
        said: Framing,
        newline: Option<Newline>,
    ) -> Result<Speech, String> {
        if self.recv_only {
            return Ok(Speech::Silence);
        }
        if self.sends.is_empty() {
            let end = newline.unwrap_or(Newline::None).bytes();
            return Ok(if datagrams {
                Speech::Lines(end)
            } else {
                Speech::Input
            });
        }
        let bodies = self.sends.bodies()?;
        let messages = bodies
            .iter()
            .map(|body| message::framed(said, newline, body));
        Ok(Speech::Rounds(Rounds {
            messages: messages.collect::<Result<_, _>>()?,
            count: self.count.or_else(|| self.every.is_none().then_some(1)),
            every: self.every.map(|every| every.0),
        }))
    }

    fn recorded_in(&self) -> Result<Option<StoreUrl>, String> {
        match &self.store {
            None | Some(StoreUrl::None) => Ok(None),
            Some(StoreUrl::Memory) => {
                Err("--store names a file here: the memory is gone with us".to_owned())
            }
            file @ Some(StoreUrl::Sqlite(_)) => Ok(file.clone()),
        }
    }

    /// What was typed means this; `prompt` if there is a person at both ends.
    pub(super) fn plan(&self, prompt: bool) -> Result<Plan, String> {
        let Located { endpoint, options } = located(&self.endpoint, self.port.as_deref())?;
        let datagrams = endpoint.shape() == Some(Shape::Datagrams);
        let default = if prompt && !datagrams {
            Framing::Line
        } else {
            Framing::Chunk
        };
        let mut frames = self.frame.unwrap_or_else(|| default.into());
        for (name, value) in options.0 {
            match &*name {
                "frame" => frames = value.parse().map_err(|error| format!("{error}"))?,
                _ => {
                    return Err(format!(
                        "?{name}= is no option of an endpoint to call; there is frame"
                    ));
                }
            }
        }
        if datagrams && frames != Framing::Chunk.into() {
            return Err("a datagram is one whole message, so --frame does not apply".to_owned());
        }
        let newline = self
            .newline
            .or_else(|| self.no_newline.then_some(Newline::None));
        if newline.is_some() && message::newline(frames.outbound, newline).is_none() {
            return Err(format!(
                "--newline is for lines and chunks; under {} a message has an end of its own",
                frames.outbound
            ));
        }
        let waits = Timeouts::default();
        let linger_timeout = if self.send_only {
            SEND_ONLY_LINGER
        } else {
            self.linger_timeout.0
        };
        Ok(Plan {
            datagrams,
            speech: self.speech(datagrams, frames.outbound, newline)?,
            expect: self.expect.clone(),
            hold: self.hold || self.recv_only,
            send_only: self.send_only,
            endpoint,
            frames,
            newline,
            q_quits: !self.no_q,
            history: !self.no_history,
            connect_within: self.connect_timeout.0,
            waits: Timeouts {
                linger_timeout: (!prompt).then_some(linger_timeout),
                idle_timeout: self.idle_timeout.0.map(|idle| idle.0),
                write_timeout: self.write_timeout.0,
                after_fin: if prompt {
                    Duration::ZERO
                } else {
                    waits.after_fin
                },
            },
            store: self.recorded_in()?,
            explain: self.explain,
            verbose: self.verbose || prompt,
        })
    }
}

fn located(first: &str, port: Option<&str>) -> Result<Located, String> {
    let located = match port {
        None => first.parse::<Located>(),
        Some(port) => {
            if first.parse::<Located>().is_ok() {
                return Err(format!(
                    "{first:?} names a port already, and {port:?} follows it; leave one of them out"
                ));
            }
            let is_ipv6 = first.parse::<std::net::Ipv6Addr>().is_ok();
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
        Endpoint::Tcp(at) | Endpoint::Udp(at) if at.port == 0 => {
            Err("nobody can be called at port 0; it means \"any free port\" to a server".to_owned())
        }
        Endpoint::Tcp(at) | Endpoint::Udp(at) if at.host == Host::Any => {
            Err("* is every address of this machine, for listening; name a host to call".to_owned())
        }
        Endpoint::Fd(_) => {
            Err("a socket that was handed over is for listening; name whom to call".to_owned())
        }
        _ => Ok(located),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        args: ConnectArgs,
    }

    fn plan(words: &str, prompt: bool) -> Result<Plan, String> {
        let words = std::iter::once("connect").chain(words.split(' '));
        let typed = Typed::try_parse_from(words).map_err(|error| error.to_string())?;
        typed.args.plan(prompt)
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
        let rounds = |words| match plan(words, false).unwrap().speech {
            Speech::Rounds(rounds) => (rounds.messages, rounds.count, rounds.every),
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
            (":5000 --newline lf --frame u8", "an end of its own"),
            (":5000?frame=lines", "invalid framing lines"),
            (":5000?idle-timeout=5s", "there is frame"),
            ("fd:3", "for listening"),
            ("udp://:5000 --frame line", "one whole message"),
            (":5000 --count 3", "--send"),
            (
                ":5000 --count 0 --send a",
                "invalid count 0: expected at least 1",
            ),
            (":5000 --send a --recv-only", "cannot be used with"),
            (":5000 --send-only --hold", "cannot be used with"),
            (":5000 --send ab --frame fixed:3", "3 bytes"),
            (":5000 --expect /(/ --send a", "unclosed group"),
        ] {
            let said = plan(words, false).unwrap_err();
            assert!(said.contains(why), "{words}: {said}");
        }
    }

    #[test]
    fn prompt_uses_lines_and_pipe_uses_chunks_with_linger() {
        let prompt = plan(":5000", true).unwrap();
        assert_eq!(
            (prompt.frames, prompt.waits.linger_timeout),
            (Framing::Line.into(), None)
        );
        let pipe = plan(":5000 -w 3", false).unwrap();
        assert_eq!(pipe.frames, Framing::Chunk.into());
        assert_eq!(pipe.waits, Timeouts::default());
        assert_eq!(pipe.connect_within, Duration::from_secs(3));
    }
}
