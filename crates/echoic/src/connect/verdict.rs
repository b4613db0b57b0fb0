//! The exit code and the message for the end of a conversation.

use std::{fmt, io};

use echoic_client::{Ending, Phase, Talked, Timeouts};
use echoic_core::{
    framing::{Framing, FramingPair},
    units::{Span, for_people},
};

use super::args::Plan;
use crate::{
    exit::{CliError, CommandResult, Exit},
    term,
};

/// Returns the result of a conversation without a prompt. Without a declared framing only the peer knows where a reply
/// ends, so its clean close is a success, however little arrived.
pub(super) fn of_pipe(talked: &Talked, plan: &Plan, met: Option<bool>) -> CommandResult {
    match (&talked.ending, met, &plan.expect) {
        (_, Some(true), _) => Ok(Exit::Done),
        (Ending::PeerReset { .. } | Ending::Failed(_), Some(false), _) => {
            of_any(talked, &plan.waits)
        }
        (ending, Some(false), Some(expected)) => {
            let reason = match ending {
                Ending::PeerClosed => "the peer closed first".to_owned(),
                _ => format!(
                    "it did not arrive within {} (-w)",
                    Span(plan.connect_within)
                ),
            };
            failed(
                Exit::NotMet,
                format!("the reply did not contain {expected}: {reason}"),
            )
        }
        (Ending::TimedOut(Phase::Linger), ..) if plan.send_only => Ok(Exit::Done),
        (Ending::TimedOut(Phase::Linger), ..) if plan.datagrams => of_quiet(talked, &plan.waits),
        _ => of_silence(talked, plan.frames, &plan.waits),
    }
}

/// Returns the result of datagrams, which end by silence.
fn of_quiet(talked: &Talked, waits: &Timeouts) -> CommandResult {
    if talked.counts.unanswered == 0 {
        return Ok(Exit::Done);
    }
    let silence = Span(waits.linger_timeout.unwrap_or_default());
    failed(
        Exit::TimedOut,
        format!("no reply within {silence} (--linger-timeout)"),
    )
}

/// Returns the result without an expectation.
fn of_silence(talked: &Talked, frames: FramingPair, waits: &Timeouts) -> CommandResult {
    let counts = &talked.counts;
    match &talked.ending {
        Ending::PeerClosed if talked.unsent == 0 && counts.cut(frames) => failed(
            Exit::Cut,
            match frames.inbound {
                Framing::Line => {
                    "the peer closed in the middle of a reply: its last line has no newline"
                        .to_owned()
                }
                inbound => format!(
                    "the peer closed in the middle of a reply: its last message is incomplete under {inbound}"
                ),
            },
        ),
        Ending::TimedOut(Phase::Linger) => {
            let silence = Span(waits.linger_timeout.unwrap_or_default());
            let (sent, received) = (
                counts.sent.messages(frames.outbound),
                counts.heard.messages(frames.inbound),
            );
            let is_due = counts.unanswered > 0
                || frames.inbound.is_declared() && frames.outbound.is_declared() && received < sent;
            if is_due || counts.cut(frames) {
                let what = format!(
                    "no complete reply: the peer sent nothing for {silence} after the end of input (--linger-timeout)"
                );
                failed(Exit::TimedOut, what)
            } else {
                let what = format!(
                    "all requests were answered, but the peer did not close within {silence} (--linger-timeout)"
                );
                term::say(&format!("echoic: {what}"));
                Ok(Exit::Done)
            }
        }
        _ => of_any(talked, waits),
    }
}

/// Returns the result of a conversation at the prompt. A reply is due if nothing arrived after the last message sent.
pub(super) fn of_prompt(talked: &Talked, waits: &Timeouts) -> CommandResult {
    match &talked.ending {
        Ending::PeerClosed if talked.unsent == 0 && talked.counts.unanswered > 0 => failed(
            Exit::Cut,
            "the peer closed without a reply to the last message",
        ),
        _ => of_any(talked, waits),
    }
}

fn of_any(talked: &Talked, waits: &Timeouts) -> CommandResult {
    let unsent = match talked.unsent {
        0 => String::new(),
        n => format!("; {} unsent", for_people(n)),
    };
    match &talked.ending {
        Ending::PeerClosed if talked.unsent == 0 && talked.upload_cut => failed(
            Exit::Cut,
            format!(
                "the peer closed its sending side, and no input arrived for {} (--linger-timeout) although it had not ended",
                Span(waits.linger_timeout.unwrap_or_default())
            ),
        ),
        Ending::PeerClosed if talked.unsent > 0 => failed(
            Exit::Cut,
            format!("the peer closed before it had read everything{unsent}"),
        ),
        Ending::PeerClosed | Ending::Quit | Ending::Aborted | Ending::Unheard => Ok(Exit::Done),
        Ending::PeerReset { after } => failed(
            Exit::Cut,
            format!(
                "the peer reset the connection after {}; a reply may be incomplete{unsent}",
                for_people(*after)
            ),
        ),
        Ending::TimedOut(phase) => {
            let (what, flag, span) = match phase {
                Phase::Linger => (
                    "the peer did not close",
                    "--linger-timeout",
                    waits.linger_timeout,
                ),
                Phase::Idle => (
                    "no traffic in either direction",
                    "--idle-timeout",
                    waits.idle_timeout,
                ),
                Phase::WriteStall => (
                    "the peer read nothing",
                    "--write-timeout",
                    Some(waits.write_timeout),
                ),
            };
            let span = Span(span.unwrap_or_default());
            failed(
                Exit::TimedOut,
                format!("{what} for {span} ({flag}){unsent}"),
            )
        }
        Ending::Failed(error) if error.kind() == io::ErrorKind::ConnectionRefused => failed(
            Exit::Refused,
            format!("datagram refused: nothing listens at this address{unsent}"),
        ),
        Ending::Failed(error) => {
            let exit = if error.kind() == io::ErrorKind::TimedOut {
                Exit::TimedOut
            } else {
                Exit::Cut
            };
            failed(exit, format!("the connection was lost: {error}{unsent}"))
        }
    }
}

fn failed(exit: Exit, why: impl fmt::Display) -> CommandResult {
    Err(CliError::new(exit, why))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use echoic_client::{Counts, Flow};

    use super::*;

    fn talked(ending: Ending, sent: &[u8], received: &[u8], unsent: u64) -> Talked {
        let flow = |bytes: &[u8]| Flow {
            bytes: bytes.len() as u64,
            pieces: u64::from(!bytes.is_empty()),
            lines: memchr::memchr_iter(b'\n', bytes).count() as u64,
            open_line: !bytes.is_empty() && !bytes.ends_with(b"\n"),
            ..Flow::default()
        };
        let unanswered = u64::from(!sent.is_empty() && received.is_empty());
        let counts = Counts {
            sent: flow(sent),
            heard: flow(received),
            unanswered,
        };
        Talked {
            ending,
            counts,
            unsent,
            upload_cut: false,
            took: Duration::ZERO,
        }
    }

    fn code(outcome: CommandResult) -> Exit {
        outcome.unwrap_or_else(|error| error.exit)
    }

    fn pipe(framing: Framing, talked: &Talked) -> Exit {
        code(of_silence(talked, framing.into(), &Timeouts::default()))
    }

    #[test]
    fn clean_close_succeeds_unless_cut_or_unsent() {
        let cut = talked(Ending::PeerClosed, b"a\n", b"A", 0);
        assert_eq!(pipe(Framing::Chunk, &cut), Exit::Done);
        assert_eq!(pipe(Framing::Line, &cut), Exit::Cut);
        let whole = talked(Ending::PeerClosed, b"a\n", b"A\n", 0);
        assert_eq!(pipe(Framing::Line, &whole), Exit::Done);
        let unsent = talked(Ending::PeerClosed, b"a\n", b"A\n", 1);
        assert_eq!(pipe(Framing::Chunk, &unsent), Exit::Cut);
    }

    #[test]
    fn silent_peer_times_out_only_if_a_reply_is_due() {
        let linger = || Ending::TimedOut(Phase::Linger);
        let answered = talked(linger(), b"a", b"A", 0);
        assert_eq!(pipe(Framing::Chunk, &answered), Exit::Done);
        assert_eq!(
            pipe(Framing::Chunk, &talked(linger(), b"", b"", 0)),
            Exit::Done
        );
        assert_eq!(
            pipe(Framing::Chunk, &talked(linger(), b"a", b"", 0)),
            Exit::TimedOut
        );
        let half = talked(linger(), b"a\nb\n", b"A\n", 0);
        assert_eq!(pipe(Framing::Line, &half), Exit::TimedOut);
        assert_eq!(pipe(Framing::Chunk, &half), Exit::Done);
    }

    #[test]
    fn reset_is_reported_with_the_bytes_received() {
        let outcome = of_silence(
            &talked(Ending::PeerReset { after: 3 }, b"a", b"abc", 9),
            Framing::Chunk.into(),
            &Timeouts::default(),
        );
        let CliError { exit, why } = outcome.unwrap_err();
        assert_eq!(exit, Exit::Cut);
        assert!(why.contains("after 3 B; a reply may be incomplete; 9 B unsent"));
    }

    #[test]
    fn prompt_close_with_a_reply_due_is_cut_unless_quit() {
        let waits = Timeouts::default();
        let due = talked(Ending::PeerClosed, b"a\n", b"", 0);
        assert_eq!(code(of_prompt(&due, &waits)), Exit::Cut);
        let quit = talked(Ending::Quit, b"a\n", b"", 0);
        assert_eq!(code(of_prompt(&quit, &waits)), Exit::Done);
    }
}
