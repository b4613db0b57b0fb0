//! The ending of a conversation as an exit code and a sentence.

use std::{fmt, io};

use echoic_client::{ConversationSummary, Ending, TimeoutKind, Timeouts};
use echoic_core::{
    framing::{Framing, FramingPair},
    units::{Span, for_people},
};

use super::args::Plan;
use crate::{
    exit::{CliError, CommandResult, Exit},
    term,
};

/// Of a conversation through a pipe. Without a declared framing nobody but the peer knows what a whole
/// reply is, so its clean end is success however little it said.
pub(super) fn of_pipe(
    conversation: &ConversationSummary,
    plan: &Plan,
    met: Option<bool>,
) -> CommandResult {
    match (&conversation.ending, met, &plan.expect) {
        (_, Some(true), _) => Ok(Exit::Done),
        (Ending::PeerReset { .. } | Ending::Failed(_), Some(false), _) => {
            of_any(conversation, &plan.waits)
        }
        (ending, Some(false), Some(expected)) => {
            let how = match ending {
                Ending::PeerClosed => "the peer closed first".to_owned(),
                _ => format!("not within {} (-w)", Span(plan.connect_within)),
            };
            failed(
                Exit::NotMet,
                format!("the reply did not contain {expected}: {how}"),
            )
        }
        (Ending::TimedOut(TimeoutKind::Linger), ..) if plan.send_only => Ok(Exit::Done),
        (Ending::TimedOut(TimeoutKind::Linger), ..) if plan.datagrams => {
            of_quiet(conversation, &plan.waits)
        }
        _ => of_silence(conversation, plan.frames, &plan.waits),
    }
}

/// Datagrams have no end but silence.
fn of_quiet(conversation: &ConversationSummary, waits: &Timeouts) -> CommandResult {
    if conversation.counts.unanswered == 0 {
        return Ok(Exit::Done);
    }
    let silence = Span(waits.linger_timeout.unwrap_or_default());
    failed(
        Exit::TimedOut,
        format!("no reply in {silence} of silence (--linger-timeout)"),
    )
}

/// The same where nothing was expected.
fn of_silence(
    conversation: &ConversationSummary,
    frames: FramingPair,
    waits: &Timeouts,
) -> CommandResult {
    let counts = &conversation.counts;
    match &conversation.ending {
        Ending::PeerClosed if conversation.unsent == 0 && counts.is_reply_cut(frames) => failed(
            Exit::Cut,
            match frames.inbound {
                Framing::Line => {
                    "the peer closed amid a reply: its last line has no end".to_owned()
                }
                inbound => format!(
                    "the peer closed amid a reply: its last message is not a whole one under {inbound}"
                ),
            },
        ),
        Ending::TimedOut(TimeoutKind::Linger) => {
            let silence = Span(waits.linger_timeout.unwrap_or_default());
            let (sent, received) = (
                counts.sent.messages(frames.outbound),
                counts.received.messages(frames.inbound),
            );
            let owed = counts.unanswered > 0
                || frames.inbound.is_declared() && frames.outbound.is_declared() && received < sent;
            if owed || counts.is_reply_cut(frames) {
                let what = format!(
                    "no whole answer came within {silence} of silence after the input ended (--linger-timeout)"
                );
                failed(Exit::TimedOut, what)
            } else {
                let what = format!(
                    "everything was answered; the peer did not close within {silence} of silence (--linger-timeout)"
                );
                term::say(&format!("echoic: {what}"));
                Ok(Exit::Done)
            }
        }
        _ => of_any(conversation, waits),
    }
}

/// Of a conversation at a prompt: a reply is owed as long as nothing came after the last thing sent.
pub(super) fn of_prompt(conversation: &ConversationSummary, waits: &Timeouts) -> CommandResult {
    match &conversation.ending {
        Ending::PeerClosed if conversation.unsent == 0 && conversation.counts.unanswered > 0 => {
            failed(Exit::Cut, "the peer closed and owed a reply")
        }
        _ => of_any(conversation, waits),
    }
}

fn of_any(conversation: &ConversationSummary, waits: &Timeouts) -> CommandResult {
    let unsent = match conversation.unsent {
        0 => String::new(),
        n => format!("; {} unsent", for_people(n)),
    };
    match &conversation.ending {
        Ending::PeerClosed if conversation.unsent == 0 && conversation.upload_cut => failed(
            Exit::Cut,
            format!(
                "the peer had ended its stream, and no more input came for {} (--linger-timeout) although it had not ended",
                Span(waits.linger_timeout.unwrap_or_default())
            ),
        ),
        Ending::PeerClosed if conversation.unsent > 0 => failed(
            Exit::Cut,
            format!("the peer closed before it had taken everything{unsent}"),
        ),
        Ending::PeerClosed | Ending::ClosedByUs | Ending::ResetByUs | Ending::OutputClosed => {
            Ok(Exit::Done)
        }
        Ending::PeerReset { after } => failed(
            Exit::Cut,
            format!(
                "the peer reset the connection after {}; a reply may have been cut{unsent}",
                for_people(*after)
            ),
        ),
        Ending::TimedOut(phase) => {
            let (what, flag, span) = match phase {
                TimeoutKind::Linger => (
                    "the peer did not close",
                    "--linger-timeout",
                    waits.linger_timeout,
                ),
                TimeoutKind::Idle => (
                    "nothing came and nothing went",
                    "--idle-timeout",
                    waits.idle_timeout,
                ),
                TimeoutKind::Write => (
                    "the peer took nothing of what it was sent",
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
            format!("nobody is there: the datagram was refused{unsent}"),
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
            upload_cut: false,
            elapsed: Duration::ZERO,
        }
    }

    fn code(outcome: CommandResult) -> Exit {
        outcome.unwrap_or_else(|failed| failed.exit)
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
        assert!(why.contains("after 3 B; a reply may have been cut; 9 B unsent"));
    }

    #[test]
    fn prompt_close_with_a_reply_due_is_cut_unless_quit() {
        let waits = Timeouts::default();
        let owed = conversation(Ending::PeerClosed, b"a\n", b"", 0);
        assert_eq!(code(of_prompt(&owed, &waits)), Exit::Cut);
        let quit = conversation(Ending::ClosedByUs, b"a\n", b"", 0);
        assert_eq!(code(of_prompt(&quit, &waits)), Exit::Done);
    }
}
