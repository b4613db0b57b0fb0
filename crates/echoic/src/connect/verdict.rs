//! The exit code and the message for the end of a conversation.

use std::{fmt, io};

use echoic_client::{ConversationSummary, Counts, Ending, TimeoutKind, Timeouts};
use echoic_core::{
    framing::{Framing, FramingPair},
    units::{Span, for_people},
};
use echoic_wire::TlsError;
use rustix::io::Errno;

use super::{args::Plan, piped::InputLeft};
use crate::{
    exit::{CliError, CommandResult, Exit},
    term::{self, sanitize},
};

/// Returns the result of a conversation without a prompt. A success means that the input was sent to its end, so input that
/// is still open when the peer closes is none, whether more comes or not. Without a declared framing only the peer knows where a reply ends, so its clean close is a success, however little arrived.
pub(super) fn of_pipe(
    conversation: &ConversationSummary,
    plan: &Plan,
    met: Option<bool>,
    input_left: InputLeft,
) -> CommandResult {
    match (&conversation.ending, met, &plan.expect) {
        (_, Some(true), _) => Ok(Exit::Done),
        (Ending::PeerReset { .. } | Ending::Failed(_), Some(false), _) => {
            of_any(conversation, &plan.timeouts)
        }
        (ending, Some(false), Some(expected)) => {
            let reason = match ending {
                _ if conversation.tls_alert => SPEAKS_TLS.to_owned(),
                Ending::PeerClosed => "the peer closed first".to_owned(),
                _ => format!(
                    "it did not arrive within {} (-w)",
                    Span(plan.connect_within)
                ),
            };
            let hint = match ending {
                Ending::PeerClosed => "",
                _ if expected.looks_around() => {
                    "; $ and \\b match at the end of a line or of the stream, not of a read"
                }
                _ => "",
            };
            failed(
                Exit::NotMet,
                format!(
                    "the reply did not contain {expected}: {reason}{hint}{}",
                    expected.expression_hint()
                ),
            )
        }
        (Ending::PeerClosed, ..)
            if input_left != InputLeft::Nothing
                && conversation.unsent == 0
                && !conversation.upload_cut =>
        {
            failed(
                Exit::Cut,
                match input_left {
                    InputLeft::Open => INPUT_IS_OPEN,
                    _ => "the peer closed before it had read everything: there was more input",
                },
            )
        }
        (Ending::TimedOut(TimeoutKind::Linger), ..)
            if plan.send_only && conversation.unacknowledged == 0 =>
        {
            Ok(Exit::Done)
        }
        (Ending::PeerClosed, ..) if plan.send_only => of_any(conversation, &plan.timeouts),
        (Ending::TimedOut(TimeoutKind::Linger), ..) if plan.datagrams => {
            of_quiet(conversation, &plan.timeouts)
        }
        _ => of_silence(conversation, plan.frames, &plan.timeouts),
    }
}

/// Describes the end for the summary. Datagrams have no close that could be missing, and `--send-only` waits for none.
pub(super) fn ending(conversation: &ConversationSummary, plan: &Plan) -> String {
    let counts = &conversation.counts;
    let silence = || Span(plan.timeouts.linger_timeout.unwrap_or_default());
    match &conversation.ending {
        Ending::TimedOut(TimeoutKind::Linger)
            if plan.send_only && conversation.unacknowledged == 0 =>
        {
            "sent everything and closed".to_owned()
        }
        Ending::TimedOut(TimeoutKind::Linger) if !plan.datagrams => conversation.ending.to_string(),
        Ending::TimedOut(TimeoutKind::Linger)
            if counts.received.chunks == 0 && counts.sent.chunks > 0 =>
        {
            format!("timed out: no reply within {}", silence())
        }
        Ending::TimedOut(TimeoutKind::Linger) => format!("closed after {} of silence", silence()),
        ending => ending.to_string(),
    }
}

/// Returns the result of datagrams, which end by silence.
fn of_quiet(conversation: &ConversationSummary, timeouts: &Timeouts) -> CommandResult {
    let counts = &conversation.counts;
    let (sent, received) = (counts.sent.chunks, counts.received.chunks);
    if received >= sent {
        return Ok(Exit::Done);
    }
    let silence = Span(timeouts.linger_timeout.unwrap_or_default());
    failed(
        Exit::TimedOut,
        match sent {
            1 => format!("no reply within {silence} (--linger-timeout)"),
            _ => format!(
                "{} of {sent} datagrams have no reply: nothing came for {silence} (--linger-timeout)",
                sent - received
            ),
        },
    )
}

/// Returns the result without an expectation.
fn of_silence(
    conversation: &ConversationSummary,
    frames: FramingPair,
    timeouts: &Timeouts,
) -> CommandResult {
    let counts = &conversation.counts;
    let took_all = conversation.unsent == 0 && !conversation.upload_cut;
    match &conversation.ending {
        _ if conversation.tls_alert => of_any(conversation, timeouts),
        Ending::PeerClosed if took_all && counts.is_reply_cut(frames) => failed(
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
        Ending::PeerClosed if took_all && counts.unanswered > 0 && frames.inbound.is_declared() => {
            failed(Exit::Cut, NO_LAST_REPLY)
        }
        Ending::TimedOut(TimeoutKind::Linger) if conversation.unacknowledged > 0 => failed(
            Exit::TimedOut,
            format!(
                "the peer took nothing for {} after the end of input (--linger-timeout); {} did not arrive",
                Span(timeouts.linger_timeout.unwrap_or_default()),
                for_people(conversation.unacknowledged)
            ),
        ),
        Ending::TimedOut(TimeoutKind::Linger) => of_linger(counts, frames, timeouts),
        _ => of_any(conversation, timeouts),
    }
}

/// Returns the result of a peer that fell silent after the end of input and did not close.
fn of_linger(counts: &Counts, frames: FramingPair, timeouts: &Timeouts) -> CommandResult {
    let silence = Span(timeouts.linger_timeout.unwrap_or_default());
    let (sent, received) = (
        counts.sent.messages(frames.outbound),
        counts.received.messages(frames.inbound),
    );
    let are_declared = frames.inbound.is_declared() && frames.outbound.is_declared();
    let is_due = counts.unanswered > 0 || are_declared && received < sent;
    if is_due || counts.is_reply_cut(frames) {
        return failed(
            Exit::TimedOut,
            format!(
                "no complete reply: the peer sent nothing for {silence} after the end of input (--linger-timeout)"
            ),
        );
    }
    // Under chunk nobody but the peer knows how many replies there are.
    let what = if are_declared {
        "all requests were answered, but the peer did not close"
    } else {
        "the peer sent nothing more and did not close"
    };
    term::note(&format!(
        "echoic: {what} within {silence} (--linger-timeout)"
    ));
    Ok(Exit::Done)
}

const INPUT_IS_OPEN: &str = "the peer closed before the end of our input, which is still open; if nothing is to be sent, use --recv-only or < /dev/null";

const NO_LAST_REPLY: &str = "the peer closed without a reply to the last message";

const SPEAKS_TLS: &str =
    "the peer speaks TLS: it answered plain bytes with a TLS alert; try tls://";

/// Returns the result of a conversation at the prompt. A reply is due if nothing arrived after the last message sent.
pub(super) fn of_prompt(conversation: &ConversationSummary, timeouts: &Timeouts) -> CommandResult {
    let took_all = conversation.unsent == 0 && !conversation.upload_cut;
    match &conversation.ending {
        Ending::PeerClosed if took_all && conversation.counts.unanswered > 0 => {
            failed(Exit::Cut, NO_LAST_REPLY)
        }
        _ => of_any(conversation, timeouts),
    }
}

fn of_any(conversation: &ConversationSummary, timeouts: &Timeouts) -> CommandResult {
    let unsent = match conversation.unsent {
        0 => String::new(),
        n => format!("; {} unsent", for_people(n)),
    };
    match &conversation.ending {
        Ending::PeerClosed | Ending::PeerReset { .. } | Ending::TimedOut(_)
            if conversation.tls_alert =>
        {
            failed(Exit::Cut, SPEAKS_TLS)
        }
        Ending::PeerClosed if conversation.unsent > 0 || conversation.upload_cut => failed(
            Exit::Cut,
            format!("the peer closed before it had read everything{unsent}"),
        ),
        Ending::PeerClosed | Ending::ClosedByUs | Ending::ResetByUs | Ending::OutputClosed => {
            Ok(Exit::Done)
        }
        Ending::PeerReset { after } => failed(
            Exit::Cut,
            format!(
                "the peer reset the connection after {}; a reply may be incomplete{unsent}",
                for_people(*after)
            ),
        ),
        Ending::TimedOut(phase) => {
            let (what, flag, span) = match phase {
                TimeoutKind::Linger => (
                    "the peer did not close",
                    "--linger-timeout",
                    timeouts.linger_timeout,
                ),
                TimeoutKind::Idle => (
                    "no traffic in either direction",
                    "--idle-timeout",
                    timeouts.idle_timeout,
                ),
                TimeoutKind::Write => (
                    "the peer read nothing",
                    "--write-timeout",
                    Some(timeouts.write_timeout),
                ),
            };
            let span = Span(span.unwrap_or_default());
            failed(
                Exit::TimedOut,
                format!("{what} for {span} ({flag}){unsent}"),
            )
        }
        Ending::Failed(error) => of_error(error, &unsent),
    }
}

/// Returns the result of an error of the socket; `unsent` is the end of its message.
fn of_error(error: &io::Error, unsent: &str) -> CommandResult {
    if error.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error()) {
        let why = "a message is too long for a datagram; UDP takes at most 65507 bytes";
        return failed(Exit::System, format!("{why}{unsent}"));
    }
    if let Some(tls) = TlsError::of(error) {
        let remedy = tls
            .remedy()
            .map_or(String::new(), |remedy| format!("; {remedy}"));
        return failed(
            Exit::Handshake,
            format!("{}{remedy}{unsent}", sanitize(tls)),
        );
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => failed(
            Exit::Cut,
            format!(
                "truncated: the peer closed without a close_notify, so what it sent may have been cut on the way{unsent}"
            ),
        ),
        io::ErrorKind::ConnectionRefused => failed(
            Exit::Refused,
            format!("datagram refused: nothing listens at this address{unsent}"),
        ),
        kind => {
            let exit = if kind == io::ErrorKind::TimedOut {
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

    use echoic_client::Flow;

    use super::*;

    fn conversation(
        ending: Ending,
        sent: &[u8],
        received: &[u8],
        unsent: u64,
    ) -> ConversationSummary {
        let flow = |bytes: &[u8]| Flow {
            bytes: bytes.len() as u64,
            chunks: u64::from(!bytes.is_empty()),
            lines: memchr::memchr_iter(b'\n', bytes).count() as u64,
            open_line: !bytes.is_empty() && !bytes.ends_with(b"\n"),
            ..Flow::default()
        };
        let unanswered = u64::from(!sent.is_empty() && received.is_empty());
        let counts = Counts {
            sent: flow(sent),
            received: flow(received),
            unanswered,
        };
        ConversationSummary {
            ending,
            counts,
            unsent,
            unacknowledged: 0,
            upload_cut: false,
            tls_alert: false,
            elapsed: Duration::ZERO,
        }
    }

    fn code(outcome: CommandResult) -> Exit {
        outcome.unwrap_or_else(|error| error.exit)
    }

    fn pipe(framing: Framing, conversation: &ConversationSummary) -> Exit {
        code(of_silence(
            conversation,
            framing.into(),
            &Timeouts::default(),
        ))
    }

    #[test]
    fn clean_close_succeeds_unless_cut_or_unsent() {
        let cut = conversation(Ending::PeerClosed, b"a\n", b"A", 0);
        assert_eq!(pipe(Framing::Chunk, &cut), Exit::Done);
        assert_eq!(pipe(Framing::Line, &cut), Exit::Cut);
        let whole = conversation(Ending::PeerClosed, b"a\n", b"A\n", 0);
        assert_eq!(pipe(Framing::Line, &whole), Exit::Done);
        let unsent = conversation(Ending::PeerClosed, b"a\n", b"A\n", 1);
        assert_eq!(pipe(Framing::Chunk, &unsent), Exit::Cut);
    }

    #[test]
    fn silent_peer_times_out_only_if_a_reply_is_due() {
        let linger = || Ending::TimedOut(TimeoutKind::Linger);
        let answered = conversation(linger(), b"a", b"A", 0);
        assert_eq!(pipe(Framing::Chunk, &answered), Exit::Done);
        assert_eq!(
            pipe(Framing::Chunk, &conversation(linger(), b"", b"", 0)),
            Exit::Done
        );
        assert_eq!(
            pipe(Framing::Chunk, &conversation(linger(), b"a", b"", 0)),
            Exit::TimedOut
        );
        let half = conversation(linger(), b"a\nb\n", b"A\n", 0);
        assert_eq!(pipe(Framing::Line, &half), Exit::TimedOut);
        assert_eq!(pipe(Framing::Chunk, &half), Exit::Done);
    }

    #[test]
    fn reset_is_reported_with_the_bytes_received() {
        let outcome = of_silence(
            &conversation(Ending::PeerReset { after: 3 }, b"a", b"abc", 9),
            Framing::Chunk.into(),
            &Timeouts::default(),
        );
        let CliError { exit, why } = outcome.unwrap_err();
        assert_eq!(exit, Exit::Cut);
        assert!(why.contains("after 3 B; a reply may be incomplete; 9 B unsent"));
    }

    #[test]
    fn prompt_close_with_a_reply_due_is_cut_unless_quit() {
        let timeouts = Timeouts::default();
        let due = conversation(Ending::PeerClosed, b"a\n", b"", 0);
        assert_eq!(code(of_prompt(&due, &timeouts)), Exit::Cut);
        let quit = conversation(Ending::ClosedByUs, b"a\n", b"", 0);
        assert_eq!(code(of_prompt(&quit, &timeouts)), Exit::Done);
    }
}
