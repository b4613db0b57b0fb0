//! The record of one conversation of a client: passes what goes over the wire to a recorder.
//!
//! The client crate knows no recorder and the recorder no client; this is between them.

use std::{
    io,
    sync::Arc,
    task::{Context, Poll},
};

use echoic_client::{ClientExchange, ConversationSummary, Exchanges, TimeoutKind, WireEvent};
use echoic_core::{
    ending::{CloseReason, Ending},
    endpoint::{Endpoint, Shape},
    event::{Address, ConversationId, EndpointInfo, Marked, Opened, Role, RunMeta},
    framing::FramingPair,
};
use echoic_recorder::{Clock, Journal, Recorder};
use echoic_wire::{Dialled, TlsError};
use tokio::time::Instant;

/// The record of a conversation, updated at each event.
pub(crate) struct ClientRecord {
    exchanges: Exchanges,
    journal_writer: JournalWriter,
}

/// The journal of the conversation, and its counts.
struct JournalWriter {
    journal: Journal,
    clock: Clock,
    datagrams: bool,
    n: u64,
    /// Bytes of replies so far, as in the exchanges.
    reply_bytes: u64,
    received: u64,
}

impl ClientRecord {
    /// Records that a connection was opened. `shard` is the batch of the recorder that takes its events.
    pub(crate) fn begin(
        recorder: &Recorder,
        shard: usize,
        endpoint: &Endpoint,
        frames: FramingPair,
        dialled: &Dialled,
    ) -> Self {
        let shape = dialled.link.shape();
        let mut journal_writer = JournalWriter {
            journal: recorder.journal(shard).1,
            clock: Clock::start(),
            datagrams: shape == Shape::Datagrams,
            n: 0,
            reply_bytes: 0,
            received: 0,
        };
        let endpoint_info = EndpointInfo::new(endpoint, &dialled.peer, shape, "", frames);
        journal_writer.journal.record_opened(Opened {
            conversation: journal_writer.journal.conversation(),
            at: journal_writer.clock.wall_time_at(Instant::now()),
            remote: dialled.peer.clone(),
            local: dialled.link.local().unwrap_or(Address::Unix(None)),
            role: Role::Client,
            endpoint_info: Arc::new(endpoint_info),
            tls: dialled.link.tls().cloned(),
        });
        Self {
            exchanges: Exchanges::new(shape, frames),
            journal_writer,
        }
    }

    /// Returns the id of the conversation; 0 if it is not recorded.
    pub(crate) fn conversation(&self) -> ConversationId {
        self.journal_writer.journal.conversation()
    }

    /// Returns the number of exchanges recorded so far.
    pub(crate) fn exchanges(&self) -> u64 {
        self.journal_writer.n
    }

    /// Records an event.
    pub(crate) fn observe(&mut self, event: WireEvent<'_>) {
        let Self {
            exchanges,
            journal_writer,
        } = self;
        if let WireEvent::HalfClosed { at } = event {
            journal_writer.half_closed(at);
        }
        if let WireEvent::Received { bytes, .. } = event {
            journal_writer.received += bytes.len() as u64;
        }
        exchanges.observe(event, &mut |exchanged| journal_writer.record(exchanged));
    }

    /// Ready when the recorder takes another event.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let journal = &mut self.journal_writer.journal;
        journal.poll_read_budget(cx).map(drop)
    }

    /// Records the end of the conversation.
    pub(crate) fn end(&mut self, conversation: &ConversationSummary) {
        let Self {
            exchanges,
            journal_writer,
        } = self;
        let mut ending = ending(conversation, journal_writer.datagrams);
        ending.left_over = exchanges.left_over();
        if ending.left_over.is_some() && ending.reason == CloseReason::PeerClosed {
            ending.reason = CloseReason::Incomplete;
        }
        exchanges.finish(&mut |exchanged| journal_writer.record(exchanged));
        let at = journal_writer.clock.wall_time_at(Instant::now());
        journal_writer.journal.record_ended(at, ending);
    }
}

impl JournalWriter {
    fn half_closed(&mut self, at: Instant) {
        let received = self.received;
        self.journal
            .record_mark(self.clock.wall_time_at(at), Marked::HalfClosed { received });
    }

    fn record(&mut self, exchanged: ClientExchange<'_>) {
        self.n += 1;
        let meta = RunMeta {
            conversation: self.journal.conversation(),
            n: self.n,
            at: self.clock.wall_time_at(exchanged.at),
            latency_ns: exchanged.latency.as_nanos() as u64,
            reads: 1,
            reply_offset: self.reply_bytes,
        };
        self.reply_bytes += exchanged.reply.len() as u64;
        self.journal
            .record_exchange(meta, exchanged.outcome, exchanged.request, exchanged.reply);
    }
}

/// Converts the client's ending to that of the record.
pub(crate) fn ending(conversation: &ConversationSummary, datagrams: bool) -> Ending {
    use echoic_client::Ending as End;
    let reason = match &conversation.ending {
        End::PeerClosed => CloseReason::PeerClosed,
        End::PeerReset { .. } => CloseReason::PeerReset,
        End::ClosedByUs => CloseReason::ClosedByUs,
        // Datagrams have no end but silence.
        End::TimedOut(TimeoutKind::Linger) if datagrams => CloseReason::ClosedByUs,
        End::ResetByUs => CloseReason::ResetByUs,
        End::TimedOut(TimeoutKind::Linger) => CloseReason::LingerTimeout,
        End::TimedOut(TimeoutKind::Idle) => CloseReason::IdleTimeout,
        End::TimedOut(TimeoutKind::Write) => CloseReason::WriteTimeout,
        End::OutputClosed => CloseReason::OutputClosed,
        End::Failed(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            CloseReason::Refused
        }
        End::Failed(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            CloseReason::Truncated
        }
        End::Failed(error) if TlsError::of(error).is_some() => CloseReason::HandshakeFailed,
        End::Failed(_) => CloseReason::SystemError,
    };
    Ending {
        reason,
        received: conversation.counts.received.bytes,
        sent: conversation.counts.sent.bytes,
        unsent: conversation.unsent,
        discarded: 0,
        left_over: None,
    }
}
