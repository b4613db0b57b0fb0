//! The client's side of a conversation, recorded.
//!
//! The client knows no recorder and the recorder no client: here the one tells the other, in the words of
//! echoic-core. While the store is behind, the conversation waits for it, as in serve; one that has failed is not waited
//! for: what it did not keep is said on standard error.

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

/// A store that is open, before anybody has answered.
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

/// Who tells it, if it is to be recorded.
struct Writer(Option<Arc<Mutex<Writing>>>);

/// What is told as it happens.
struct Writing {
    exchanges: Exchanges,
    page: Page,
}

/// Where it is told to.
struct Page {
    journal: Journal,
    clock: Clock,
    datagrams: bool,
    n: u64,
    said: u64,
    received: u64,
}

impl Unwritten {
    /// Opens the file to be written by this process alone.
    pub(super) fn open(url: &StoreUrl) -> Result<Self, CliError> {
        Ok(Self {
            store: url.open(Durability::Normal)?,
            file: url.to_string(),
        })
    }

    /// Nobody answered: a file that was made for this is taken away again.
    pub(super) async fn discard(self) {
        store_url::discard(self.store).await;
    }

    /// Somebody has.
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
        let mut page = Page {
            journal: recorder.journal(0).1,
            clock: Clock::start(),
            datagrams: shape == Shape::Datagrams,
            n: 0,
            said: 0,
            received: 0,
        };
        let endpoint_info = EndpointInfo::new(endpoint, &dialled.peer, shape, "", frames);
        page.journal.opened(Opened {
            conversation: page.journal.conversation(),
            at: page.clock.wall(Instant::now()),
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
            writing: Arc::new(Mutex::new(Writing { exchanges, page })),
        })
    }
}

impl Record {
    /// Who is to be told of what happens, if it is to be recorded.
    pub(super) fn watch(record: Option<&Self>) -> impl Observer + Send + use<> {
        Writer(record.map(|record| Arc::clone(&record.writing)))
    }

    /// Ready when a signal asks us to stop, so that the end can be told; without a record a signal simply ends us. A
    /// second one ends us at once.
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

    /// The conversation is over: has all of it kept, and says so if that was not possible.
    pub(super) async fn end(self, conversation: &ConversationSummary) {
        let Self {
            unwritten: Unwritten { store, file },
            recorder,
            recording,
            writing,
        } = self;
        {
            let Writing { exchanges, page } = &mut *lock(&writing);
            exchanges.finish(&mut |exchanged| page.tell(exchanged));
            let at = page.clock.wall(Instant::now());
            page.journal.ended(at, ending(conversation, page.datagrams));
        }
        recorder.close(recording, STORE_DEADLINE).await;
        let RecorderStatus { lost, failure, .. } = recorder.status();
        let closed = store_url::close(store).await;
        let why = failure.map(|failure| failure.why);
        match (lost, why, closed) {
            (0, None, Ok(())) => {}
            (0, None, Err(error)) => term::say(&format!("echoic: {file}: {error}")),
            (lost, why, _) => {
                let why = why.map(|why| format!(": {why}")).unwrap_or_default();
                let exchanges = match lost {
                    1 => "1 exchange was".to_owned(),
                    _ => format!("{lost} exchanges were"),
                };
                term::say(&format!("echoic: {exchanges} not recorded in {file}{why}"));
            }
        }
    }
}

impl Observer for Writer {
    fn observe(&mut self, event: WireEvent<'_>) {
        let Some(writing) = &self.0 else {
            return;
        };
        let Writing { exchanges, page } = &mut *lock(writing);
        if let WireEvent::HalfClosed { at } = event {
            page.half_closed(at);
        }
        if let WireEvent::Received { bytes, .. } = event {
            page.received += bytes.len() as u64;
        }
        exchanges.observe(event, &mut |exchanged| page.tell(exchanged));
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &self.0 {
            Some(writing) => lock(writing).page.journal.poll_room(cx).map(drop),
            None => Poll::Ready(()),
        }
    }
}

impl Page {
    fn half_closed(&mut self, at: Instant) {
        let received = self.received;
        self.journal
            .mark(self.clock.wall(at), Marked::HalfClosed { received });
    }

    fn tell(&mut self, exchanged: ClientExchange<'_>) {
        self.n += 1;
        let told = RunMeta {
            conversation: self.journal.conversation(),
            n: self.n,
            at: self.clock.wall(exchanged.at),
            latency_ns: exchanged.latency.as_nanos() as u64,
            reads: 1,
            reply_offset: self.said,
        };
        self.said += exchanged.reply.len() as u64;
        self.journal
            .exchange(told, exchanged.outcome, exchanged.request, exchanged.reply);
    }
}

fn lock(writing: &Mutex<Writing>) -> MutexGuard<'_, Writing> {
    writing.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How it ended, in the words of the record.
fn ending(conversation: &ConversationSummary, datagrams: bool) -> Ending {
    use echoic_client::Ending as End;
    let reason = match &conversation.ending {
        End::PeerClosed => CloseReason::PeerClosed,
        End::PeerReset { .. } => CloseReason::PeerReset,
        End::ClosedByUs => CloseReason::ClosedByUs,
        // Silence is the only end there is.
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
