//! Recording of a client's conversation (`connect --record`).
//!
//! While the store is behind, the conversation waits for it, as in serve. It does not wait for a store that has failed: the
//! number of exchanges that are not recorded is printed on standard error.

use std::{
    future::{Future, pending},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use echoic_client::{ConversationSummary, Observer, WireEvent};
use echoic_core::{
    endpoint::Endpoint,
    framing::FramingPair,
    store::{Durability, Store},
};
use echoic_recorder::{Recorder, RecorderOptions, RecorderStatus};
use echoic_wire::Dialled;
use tokio::task::JoinHandle;

use crate::{
    client_record::ClientRecord,
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
    writing: Arc<Mutex<ClientRecord>>,
}

/// The observer that records events, or ignores them without a record.
struct Writer(Option<Arc<Mutex<ClientRecord>>>);

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
        let record = ClientRecord::begin(&recorder, 0, endpoint, frames, dialled);
        Ok(Record {
            unwritten: self,
            recorder,
            recording,
            writing: Arc::new(Mutex::new(record)),
        })
    }
}

impl Record {
    /// Returns the observer of the conversation; without a record it ignores events.
    pub(super) fn watch(record: Option<&Self>) -> impl Observer + Send + use<> {
        Writer(record.map(|record| Arc::clone(&record.writing)))
    }

    /// Returns a future that is ready at a signal, so that the end can be recorded. Without a record a signal ends the
    /// process. A second SIGINT or SIGTERM ends it at once.
    pub(super) fn asked_to_stop(record: Option<&Self>) -> io::Result<impl Future<Output = ()>> {
        let caught = record.map(|record| {
            let (recorder, file) = (record.recorder.clone(), record.unwritten.file.clone());
            Signals::catch().map(|signals| (signals, recorder, file))
        });
        let caught = caught.transpose()?;
        Ok(async {
            let Some((mut signals, recorder, file)) = caught else {
                return pending().await;
            };
            signals.first().await;
            tokio::spawn(async move {
                signals.second().await;
                let status = recorder.status();
                if let missing @ 1.. = status.lost + status.waiting {
                    term::note(&unrecorded(missing, &file, None));
                }
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
        lock(&writing).end(conversation);
        recorder.close(recording, STORE_DEADLINE).await;
        let RecorderStatus { lost, failure, .. } = recorder.status();
        let closed = store_url::close(store).await;
        let why = failure.map(|failure| failure.why);
        match (lost, why, closed) {
            (0, None, Ok(())) => {}
            (0, None, Err(error)) => term::note(&format!("echoic: {file}: {error}")),
            (lost, why, _) => term::note(&unrecorded(lost, &file, why)),
        }
    }
}

fn unrecorded(exchanges: u64, file: &str, why: Option<String>) -> String {
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    let exchanges = match exchanges {
        1 => "1 exchange was".to_owned(),
        _ => format!("{exchanges} exchanges were"),
    };
    format!("echoic: {exchanges} not recorded in {file}{why}")
}

impl Observer for Writer {
    fn observe(&mut self, event: WireEvent<'_>) {
        if let Some(record) = &self.0 {
            lock(record).observe(event);
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &self.0 {
            Some(record) => lock(record).poll_ready(cx),
            None => Poll::Ready(()),
        }
    }
}

fn lock(record: &Mutex<ClientRecord>) -> MutexGuard<'_, ClientRecord> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}
