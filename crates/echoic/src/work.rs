//! `echoic work`: a service as a process of its own, for servers elsewhere.

use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use echoic_console::{Figure, FigureUnit, HealthServer, Phase, Vitals};
use echoic_core::{
    process::{Process, ProcessRole, RunsInHand},
    service::BoxFuture,
};
use echoic_nats::{Connection, Present, Worked, WorkerCounts};
use echoic_recorder::new_server;
use tokio::{runtime, select, sync::oneshot};

use crate::{
    cli::WorkArgs,
    exit::{CliError, CommandResult, Exit},
    health::{Lifecycle, OpenHealth, VERSION},
    presence::{self, Answering},
    pretty,
    service_choice::client_name,
    signals::Signals,
    term,
};

/// The longest time that a stop takes.
const DRAINS_WITHIN: Duration = Duration::from_secs(10);

/// Answers until a signal to stop, and then what it has received.
///
/// One thread has the connection and the service: to hand each run from one thread to another took a third of a worker's time.
/// Whoever has more cores starts more workers.
pub(crate) fn run(args: &WorkArgs) -> CommandResult {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::system(format!("cannot start: {error}")))?;
    let outcome = runtime.block_on(work(args));
    runtime.shutdown_background();
    outcome
}

async fn work(args: &WorkArgs) -> CommandResult {
    let mut signals = Signals::catch().map_err(CliError::system)?;
    let health = OpenHealth::open(&args.health, args.quiet)?;
    let client = client_name("work");
    let connection = select! {
        opened = Connection::open(&args.on, &client) => opened?,
        () = signals.first() => return Ok(Exit::Interrupted),
    };
    let counts = Arc::<WorkerCounts>::default();
    let lifecycle = Lifecycle::start(health, |phase| {
        let (connection, counts) = (connection.clone(), Arc::clone(&counts));
        let vitals = WorkerVitals { connection, counts };
        HealthServer::new(VERSION, phase, Arc::new(vitals))
    });
    let _answering = answer(args, &connection, &counts, &lifecycle).await;
    let worked = work_until_stopped(args, &mut signals, (&connection, &counts), &lifecycle);
    let Some(worked) = worked.await? else {
        return Ok(Exit::Interrupted);
    };
    lifecycle.end().await;
    report(&worked, args.quiet);
    Ok(Exit::Done)
}

/// Starts to say who this is to whoever asks.
async fn answer(
    args: &WorkArgs,
    connection: &Connection,
    counts: &Arc<WorkerCounts>,
    lifecycle: &Lifecycle,
) -> Answering {
    let info = new_server();
    let present = Present::subscribe(connection, info.id).await;
    let answered = present.as_ref().map(Present::answered).unwrap_or_default();
    let process = Process {
        svc: Some(args.service.0.name().to_owned()),
        subjects: vec![args.on.to_string()],
        ..presence::of_this(ProcessRole::Work, &info)
    };
    let (connection, counts) = (connection.clone(), Arc::clone(counts));
    let phase = lifecycle.phase();
    Answering::start(present, move || Process {
        stopping: *phase.borrow() == Phase::Stopping,
        runs: Some(RunsInHand {
            pending: counts.pending(&connection, answered.load(Ordering::Relaxed)),
            in_flight: counts.now().in_flight,
        }),
        ..process.clone()
    })
}

/// Answers until a signal. `None` if a second one has stopped it at once.
async fn work_until_stopped(
    args: &WorkArgs,
    signals: &mut Signals,
    (connection, counts): (&Connection, &WorkerCounts),
    lifecycle: &Lifecycle,
) -> Result<Option<Worked>, CliError> {
    let service = Arc::clone(&args.service.0);
    let name = service.name().to_owned();
    let ready = || {
        let working = format!("working: {name} for {}", args.on);
        lifecycle.set_working(&working);
        if !args.quiet {
            term::note(&working);
        }
    };
    let (stopping, stopped) = oneshot::channel::<()>();
    let stop = async { _ = stopped.await };
    let working = echoic_nats::work(connection, service, counts, ready, stop);
    let mut working = pin!(working);
    select! {
        worked = &mut working => return Ok(Some(worked?)),
        () = signals.first() => {}
    }
    lifecycle.set_stopping("answering what has been received", DRAINS_WITHIN);
    if !args.quiet {
        signals.notice_later(
            "stopping: everything received is answered first (again to stop at once)",
        );
    }
    drop(stopping);
    let ended = select! {
        worked = &mut working => Some(worked?),
        () = signals.second() => None,
    };
    signals.notice_now();
    Ok(ended)
}

fn report(worked: &Worked, quiet: bool) {
    if !quiet {
        let (runs, messages) = (
            pretty::count(worked.runs, "run"),
            pretty::count(worked.messages, "message"),
        );
        term::note(&format!("stopped: {messages} answered, in {runs}"));
    }
}

/// What a worker knows about itself.
struct WorkerVitals {
    connection: Connection,
    counts: Arc<WorkerCounts>,
}

impl Vitals for WorkerVitals {
    fn readiness(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async { connected(&self.connection) })
    }

    fn figures(&self) -> BoxFuture<'_, Vec<Figure>> {
        let worked = self.counts.now();
        let is_up = u64::from(self.connection.is_up());
        let bytes = [("received", worked.received), ("sent", worked.sent)];
        let errors = [("failed", worked.failed), ("unsent", worked.unsent)];
        let figures = vec![
            Figure::counter("worker_messages", "Messages answered.", worked.messages),
            Figure::counter("worker_runs", "Runs of messages answered.", worked.runs),
            Figure::counters(
                "worker_bytes",
                "Bytes of what servers have sent, and of the answers.",
                "direction",
                &bytes,
            ),
            Figure::counters(
                "worker_errors",
                "Runs that could not be answered (failed), and answers that NATS did not take (unsent).",
                "kind",
                &errors,
            ),
            Figure::gauge(
                "worker_in_flight",
                "1 while something is being answered, else 0.",
                worked.in_flight,
            ),
            Figure::counter(
                "worker_busy",
                "Time spent answering: its rate is the load of the worker, 1 at most.",
                worked.busy.as_secs_f64(),
            )
            .in_unit(FigureUnit::Seconds),
            Figure::gauge("nats_connected", CONNECTED_HELP, is_up),
        ];
        Box::pin(async { figures })
    }
}

/// The help of the metric `nats_connected`.
pub(crate) const CONNECTED_HELP: &str = "1 while the connection to NATS is up, else 0.";

/// Whether a connection is up; if not, says so.
pub(crate) fn connected(connection: &Connection) -> Result<(), String> {
    if connection.is_up() {
        return Ok(());
    }
    let server = connection.url().server();
    Err(format!("not connected to NATS at {server}"))
}
