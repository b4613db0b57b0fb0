//! Answers questions for the counters of a running server: at a Unix socket for `echoic status`, and at SIGUSR1.

use std::{
    future::poll_fn,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use echoic_console::Phase;
use echoic_core::{
    endpoint::{Endpoint, UnixName},
    process::{ListeningAt, Process, ProcessRole, RecordLag},
    view::JSON_VERSION,
};
use echoic_recorder::Recorder;
use echoic_server::{Server, ServerControl};
use echoic_wire::{Incoming, ListenOptions, Listener, listen};
use tokio::{
    signal::unix::Signal,
    sync::watch,
    time::{sleep, timeout},
};

use super::plan::Plan;
use crate::{
    notify::Notifier,
    presence, runtime_directory,
    status::{ListeningStatus, ServerStatus, own_socket},
    store_url::{STORE_DEADLINE, StoreUrl},
    term,
};

/// Time for a client to take the answer, which fits into the buffer of its socket.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Pause after a failed accept, for example because all files are in use.
const PAUSE: Duration = Duration::from_secs(1);

/// What is known about the running server.
pub(super) struct ServerState {
    started: Instant,
    listening: Vec<ListeningStatus>,
    /// The URL of the console.
    console: Option<String>,
    /// Where workers are asked.
    subjects: Vec<String>,
    store: StoreUrl,
    pub(super) recorder: Recorder,
    control: ServerControl,
    stopping: AtomicBool,
    /// What the routes of health tell.
    phase: watch::Sender<Phase>,
    /// The longest time that a drain takes.
    drains_within: Duration,
    pub(super) notifier: Notifier,
    /// Only failures are printed.
    pub(super) quiet: bool,
}

impl ServerState {
    pub(super) fn new(
        plan: &Plan,
        server: &Server,
        recorder: Recorder,
        console: Option<String>,
    ) -> Self {
        let listening = server.listening_at();
        let listening = listening.iter().map(|one| ListeningStatus {
            addr: one.address.url(one.endpoint_info.proto),
            svc: one.endpoint_info.service.clone(),
        });
        Self {
            started: Instant::now(),
            listening: listening.collect(),
            console,
            subjects: plan
                .remote_services
                .iter()
                .map(|it| it.url().to_string())
                .collect(),
            store: plan.store.clone(),
            recorder,
            control: server.control(),
            stopping: AtomicBool::new(false),
            phase: watch::Sender::default(),
            drains_within: plan.limits.drain_timeout + 2 * STORE_DEADLINE,
            notifier: Notifier::from_env(),
            quiet: plan.show.quiet,
        }
    }

    /// Returns the phase of the server, for the routes of health.
    pub(super) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Tells whoever watches that the server can be reached.
    pub(super) fn set_ready(&self) {
        self.phase.send_replace(Phase::Working);
        let addresses: Vec<_> = self.listening.iter().map(|one| &*one.addr).collect();
        let (addresses, store) = (addresses.join(", "), &self.store);
        self.notifier
            .ready(&format!("listening on {addresses}; recording in {store}"));
    }

    /// Notes that the server drains.
    pub(super) fn set_stopping(&self) {
        self.phase.send_replace(Phase::Stopping);
        let status = "answering and recording what has been received";
        self.notifier.stopping(status, self.drains_within);
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Describes this server for other processes.
    pub(super) fn process(&self) -> Process {
        let record = self.recorder.status();
        let listening = self.listening.iter().map(|one| ListeningAt {
            addr: one.addr.clone(),
            svc: one.svc.clone(),
        });
        Process {
            stopping: self.stopping.load(Ordering::Relaxed),
            listening: listening.collect(),
            subjects: self.subjects.clone(),
            store: Some(self.store.to_string()),
            console: self.console.clone(),
            record: self.recorder.has_store().then_some(RecordLag {
                waiting: record.waiting,
                waiting_bytes: record.waiting_bytes,
                lost: record.lost,
                committed_us: record.committed,
            }),
            failing: record.failure.map(|failure| failure.why),
            ..presence::of_this(ProcessRole::Serve, self.recorder.server())
        }
    }

    pub(super) fn now(&self) -> ServerStatus {
        let counts = self.control.counts();
        let record = self.recorder.status();
        // From the same moment as the counts of the record, so that they add up.
        let served = match &self.store {
            StoreUrl::None => counts.served,
            _ => record.recorded + record.waiting + record.lost,
        };
        let store = match &self.store {
            StoreUrl::Sqlite(path) => {
                let real = path.canonicalize().unwrap_or_else(|_| path.clone());
                StoreUrl::Sqlite(real).to_string()
            }
            other => other.to_string(),
        };
        ServerStatus {
            v: JSON_VERSION,
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            up_s: self.started.elapsed().as_secs(),
            stopping: self.stopping.load(Ordering::Relaxed),
            listening: self.listening.clone(),
            console: self.console.clone(),
            store,
            open: counts.open,
            accepted: counts.accepted,
            rejected: counts.rejected,
            served,
            recorded: record.recorded,
            waiting: record.waiting,
            lost: record.lost,
            failing: record.failure.map(|failure| failure.why),
        }
    }
}

/// Prints the counters on standard error at each signal, until it is aborted.
pub(super) async fn print_at(mut signal: Signal, state: Arc<ServerState>) {
    while signal.recv().await.is_some() {
        term::note(&state.now().to_string());
    }
}

/// Opens the socket that `echoic status` asks at. `None` if there is no place for it. A failure is reported and does not
/// stop the server.
pub(super) async fn open(store: &StoreUrl) -> Option<Listener> {
    let path = own_socket(store)?;
    let opened = async {
        let directory = path.parent().unwrap_or(&path);
        runtime_directory::make(directory).map_err(|why| why.to_string())?;
        let endpoint = Endpoint::Unix(UnixName::Path(path.clone()));
        let listeners = listen(&endpoint, &ListenOptions::default()).await;
        listeners.map_err(|why| why.to_string())
    };
    match opened.await {
        Ok(listeners) => listeners.into_iter().next(),
        Err(why) => {
            tracing::warn!(
                "`echoic status` cannot ask this server: {}: {why}",
                path.display()
            );
            None
        }
    }
}

/// Answers one client after the other, until it is aborted. Nothing is read from them, so none can hold it.
pub(super) async fn answer(listener: Listener, state: Arc<ServerState>) {
    loop {
        match listener.accept().await {
            Ok(client) => {
                let answered = timeout(ANSWER_WITHIN, send(client, &state)).await;
                tracing::debug!("status asked for: {answered:?}");
            }
            Err(why) => {
                tracing::debug!("cannot accept at the status socket: {why}");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn send(client: Incoming, state: &ServerState) -> io::Result<()> {
    let mut answer = Vec::new();
    term::json_line(&mut answer, &state.now())?;
    let mut link = client.open()?;
    let mut sent = 0;
    while sent < answer.len() {
        sent += poll_fn(|cx| link.poll_write(cx, &answer[sent..])).await?;
    }
    Ok(())
}
