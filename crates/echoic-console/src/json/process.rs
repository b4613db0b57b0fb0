//! A process of echoic, as it was last seen.

use echoic_core::process::{
    ListeningAt, Process, ProcessRole, ProcessState, RecordLag, RunsInHand, SeenProcess, StreamLag,
};
use serde::Serialize;
use utoipa::ToSchema;

/// A process of echoic, as it was last seen.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ProcessJson {
    /// What it does: `serve`, `work`, `keep`, `console`, or `other` for one of a newer version.
    #[schema(value_type = String, example = "serve")]
    role: ProcessRole,
    /// A random number of its start; that of a server is the `server` of its endpoints.
    id: String,
    /// The machine.
    #[schema(example = "web-1")]
    host: String,
    /// The process there.
    pid: u32,
    /// Its version of echoic.
    version: String,
    /// Wall-clock time of its start, in microseconds since the Unix epoch.
    started_us: i64,
    /// `running`, `stopping` while it drains, or `silent`: it was asked and does not answer, though it is connected to NATS.
    #[schema(value_type = String, example = "running")]
    state: ProcessState,
    /// Wall-clock time of its last answer.
    seen_us: Option<i64>,
    /// Where a server listens.
    listening: Vec<ListeningJson>,
    /// The service of a worker.
    svc: Option<String>,
    /// The subjects that a worker answers at, or a server asks workers at.
    subjects: Vec<String>,
    /// The store that it writes or reads, without a password.
    store: Option<String>,
    /// The URL of its web console, without a token.
    console: Option<String>,
    /// What a worker has in hand.
    runs: Option<RunsJson>,
    /// How far a server is behind with its record.
    record: Option<RecordJson>,
    /// The stream that a server records into, or a keeper writes from.
    stream: Option<StreamJson>,
    /// Why its store takes nothing, while it does not.
    failing: Option<String>,
}

/// An address that a server listens on.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ListeningJson {
    /// The address, as a URL.
    #[schema(example = "tcp://127.0.0.1:5000")]
    addr: String,
    /// The service that answers there.
    svc: String,
}

/// The runs that a worker has.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct RunsJson {
    /// Messages received and not looked at.
    pending: u64,
    /// Runs that are being answered.
    in_flight: u64,
}

/// How far a server is behind with its record.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct RecordJson {
    /// Exchanges served and not yet committed or lost.
    waiting: u64,
    /// Bytes of events that the store has not acknowledged.
    waiting_bytes: u64,
    /// Exchanges that will never be in the store.
    lost: u64,
    /// Wall-clock time of the last commit.
    committed_us: Option<i64>,
}

/// What a stream holds that no keeper has stored.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct StreamJson {
    /// Its name.
    name: String,
    /// Messages of batches in it; null if JetStream did not say.
    pending: Option<u64>,
    /// Bytes in it.
    bytes: Option<u64>,
    /// Wall-clock time of the oldest of them.
    oldest_us: Option<i64>,
}

impl From<SeenProcess> for ProcessJson {
    fn from(seen: SeenProcess) -> Self {
        let Process {
            role,
            id,
            host,
            pid,
            version,
            started_us,
            listening,
            svc,
            subjects,
            store,
            console,
            runs,
            record,
            stream,
            failing,
            ..
        } = seen.process;
        let listening = listening.into_iter();
        Self {
            role,
            id: id.to_string(),
            host,
            pid,
            version,
            started_us,
            state: seen.state,
            seen_us: seen.seen_us,
            listening: listening.map(ListeningJson::from).collect(),
            svc,
            subjects,
            store,
            console,
            runs: runs.map(RunsJson::from),
            record: record.map(RecordJson::from),
            stream: stream.map(StreamJson::from),
            failing,
        }
    }
}

impl From<ListeningAt> for ListeningJson {
    fn from(ListeningAt { addr, svc }: ListeningAt) -> Self {
        Self { addr, svc }
    }
}

impl From<RunsInHand> for RunsJson {
    fn from(RunsInHand { pending, in_flight }: RunsInHand) -> Self {
        Self { pending, in_flight }
    }
}

impl From<RecordLag> for RecordJson {
    fn from(lag: RecordLag) -> Self {
        Self {
            waiting: lag.waiting,
            waiting_bytes: lag.waiting_bytes,
            lost: lag.lost,
            committed_us: lag.committed_us,
        }
    }
}

impl From<StreamLag> for StreamJson {
    fn from(lag: StreamLag) -> Self {
        Self {
            name: lag.name,
            pending: lag.pending,
            bytes: lag.bytes,
            oldest_us: lag.oldest_us,
        }
    }
}
