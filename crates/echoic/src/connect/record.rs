//! Recording of a client's conversation (`connect --record`).
//!
//! The client crate knows no recorder and the recorder no client; this module passes the client's events to the recorder.
//! While the store is behind, the conversation waits for it, as in serve. It does not wait for a store that has failed: the
//! number of exchanges that are not recorded is printed on standard error.

use std::{
    future::{Future, pending},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use echoic_client::{
    ClientExchange, ConversationSummary, Exchanges, Observer, TimeoutKind, WireEvent,
};
use echoic_core::{
    ending::{CloseReason, Ending},
    endpoint::{Endpoint, Shape},
    event::{Address as At, EndpointInfo, Marked, Opened, Role, RunMeta},
    framing::FramingPair,
    store::{Durability, Store},
};
use echoic_recorder::{Clock, Journal, Recorder, RecorderOptions, RecorderStatus};
use echoic_wire::Dialled;
use tokio::{task::JoinHandle, time::Instant};

use crate::{
    exit::{CliError, Exit},
    signals::Signals,
    store_url::{self, STORE_DEADLINE, StoreUrl},
    term,
};

/// An open store, before the connection is made.
pub(super) struct Unwritten {
    store: Option<Arc<dyn Store>>,
    file: String,
}

/// The record of one conversation.
pub(super) struct Record {
    unwritten: Unwritten,
    recorder: Recorder,
    recording: JoinHandle<()>,
    writing: Arc<Mutex<Writing>>,
}

/// The observer that records events, or ignores them without a record.
struct Writer(Option<Arc<Mutex<Writing>>>);

/// The state of the recording, updated at each event.
struct Writing {
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

impl Unwritten {
    /// Opens the store for writing by this process alone.
    pub(super) fn open(url: &StoreUrl) -> Result<Self, CliError> {
        Ok(Self {
            store: url.open(Durability::Normal)?,
            file: url.to_string(),
        })
    }

    /// Closes the store after a failed connection, and removes a file that was created for it.
    pub(super) async fn discard(self) {
        store_url::discard(self.store).await;
    }

    /// Starts the record of a connection.
    pub(super) async fn begin(
        self,
        endpoint: &Endpoint,
        frames: FramingPair,
        dialled: &Dialled,
    ) -> Result<Record, CliError> {
        let store = self.store.clone();
        let (recorder, task) = Recorder::new(store, RecorderOptions::default()).await?;
        let recording = tokio::spawn(task.run());
        let shape = dialled.link.shape();
        let mut journal_writer = JournalWriter {
            journal: recorder.journal(0).1,
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
            local: dialled.link.local().unwrap_or(At::Unix(None)),
            role: Role::Client,
            endpoint_info: Arc::new(endpoint_info),
        });
        let exchanges = Exchanges::new(shape, frames);
        Ok(Record {
            unwritten: self,
            recorder,
            recording,
            writing: Arc::new(Mutex::new(Writing {
                exchanges,
                journal_writer,
            })),
        })
    }
}

impl Record {
    /// Returns the observer of the conversation; without a record it ignores events.
    pub(super) fn watch(record: Option<&Self>) -> impl Observer + Send + use<> {
        Writer(record.map(|record| Arc::clone(&record.writing)))
    }

    /// Returns a future that is ready at a signal, so that the end can be recorded. Without a record a signal ends the
    /// process. A second signal ends it at once.
    pub(super) fn asked_to_stop(record: Option<&Self>) -> io::Result<impl Future<Output = ()>> {
        let signals = record.map(|_| Signals::catch()).transpose()?;
        Ok(async {
            let Some(mut signals) = signals else {
                return pending().await;
            };
            signals.next().await;
            tokio::spawn(async move {
                signals.next().await;
                std::process::exit(Exit::Interrupted as i32);
            });
        })
    }

    /// Records the end of the conversation, waits until all of it is committed, and reports what could not be recorded.
    pub(super) async fn end(self, conversation: &ConversationSummary) {
        let Self {
            unwritten: Unwritten { store, file },
            recorder,
            recording,
            writing,
        } = self;
        {
            let Writing {
                exchanges,
                journal_writer,
            } = &mut *lock(&writing);
            exchanges.finish(&mut |exchanged| journal_writer.record(exchanged));
            let at = journal_writer.clock.wall_time_at(Instant::now());
            journal_writer
                .journal
                .record_ended(at, ending(conversation, journal_writer.datagrams));
        }
        recorder.close(recording, STORE_DEADLINE).await;
        let RecorderStatus { lost, failure, .. } = recorder.status();
        let closed = store_url::close(store).await;
        let why = failure.map(|failure| failure.why);
        match (lost, why, closed) {
            (0, None, Ok(())) => {}
            (0, None, Err(error)) => term::note(&format!("echoic: {file}: {error}")),
            (lost, why, _) => {
                let why = why.map(|why| format!(": {why}")).unwrap_or_default();
                let exchanges = match lost {
                    1 => "1 exchange was".to_owned(),
                    _ => format!("{lost} exchanges were"),
                };
                term::note(&format!("echoic: {exchanges} not recorded in {file}{why}"));
            }
        }
    }
}

impl Observer for Writer {
    fn observe(&mut self, event: WireEvent<'_>) {
        let Some(writing) = &self.0 else {
            return;
        };
        let Writing {
            exchanges,
            journal_writer,
        } = &mut *lock(writing);
        if let WireEvent::HalfClosed { at } = event {
            journal_writer.half_closed(at);
        }
        if let WireEvent::Received { bytes, .. } = event {
            journal_writer.received += bytes.len() as u64;
        }
        exchanges.observe(event, &mut |exchanged| journal_writer.record(exchanged));
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &self.0 {
            Some(writing) => lock(writing)
                .journal_writer
                .journal
                .poll_read_budget(cx)
                .map(drop),
            None => Poll::Ready(()),
        }
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

fn lock(writing: &Mutex<Writing>) -> MutexGuard<'_, Writing> {
    writing.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Converts the client's ending to that of the record.
fn ending(conversation: &ConversationSummary, datagrams: bool) -> Ending {
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
        End::Failed(_) => CloseReason::SystemError,
    };
    Ending {
        reason,
        received: conversation.counts.received.bytes,
        sent: conversation.counts.sent.bytes,
        unsent: conversation.unsent,
        discarded: 0,
    }
}
