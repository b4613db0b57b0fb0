//! Says who this process is to whoever asks at NATS: `echoic status --on`, and consoles.

use std::process;

use echoic_core::{
    event::ServerInfo,
    process::{PROCESS_VERSION, Process, ProcessRole},
};
use echoic_nats::{Connection, Present};
use tokio::task::JoinHandle;

/// Describes this process, as far as every process has it.
pub(crate) fn of_this(role: ProcessRole, info: &ServerInfo) -> Process {
    let host = info.name.rsplit_once(':').map_or("", |(host, _)| host);
    Process {
        v: PROCESS_VERSION,
        role,
        id: info.id,
        host: host.to_owned(),
        pid: process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_us: info.started,
        ..Process::default()
    }
}

/// A process that answers who it is, until this is dropped.
pub(crate) struct Answering(Option<JoinHandle<()>>);

impl Answering {
    /// Starts to answer. A failure is logged: nothing else depends on it.
    pub(crate) fn start(
        present: Result<Present, echoic_nats::NatsError>,
        describe: impl Fn() -> Process + Send + Sync + 'static,
    ) -> Self {
        match present {
            Ok(present) => Self(Some(tokio::spawn(present.answer(describe)))),
            Err(error) => {
                tracing::warn!("`echoic status` does not find this process: {error}");
                Self(None)
            }
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if let Some(answering) = &self.0 {
            answering.abort();
        }
    }
}

/// Subscribes to questions for a process that uses a stream: its answers tell what that holds.
pub(crate) async fn with_stream(
    connection: &Connection,
    info: &ServerInfo,
) -> Result<Present, echoic_nats::NatsError> {
    let present = Present::subscribe(connection, info.id).await;
    present.map(|present| present.with_stream(connection))
}
