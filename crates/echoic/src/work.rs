//! `echoic work`: a service as a process of its own, for servers elsewhere.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use echoic_core::process::{Process, ProcessRole, RunsInHand};
use echoic_nats::{Connection, Present, Worked, WorkerCounts};
use echoic_recorder::new_server;
use tokio::{runtime, select, sync::oneshot};

use crate::{
    cli::WorkArgs,
    exit::{CliError, CommandResult, Exit},
    presence::{self, Answering},
    pretty,
    service_choice::client_name,
    signals::Signals,
    term,
};

/// Threads of the runtime: one for the connection, one for the service.
const THREADS: usize = 2;

/// Answers until a signal to stop, and then what it has received.
pub(crate) fn run(args: &WorkArgs) -> CommandResult {
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .map_err(|error| CliError::system(format!("cannot start: {error}")))?;
    let outcome = runtime.block_on(work(args));
    runtime.shutdown_background();
    outcome
}

async fn work(args: &WorkArgs) -> CommandResult {
    let mut signals = Signals::catch().map_err(CliError::system)?;
    let client = client_name("work");
    let connection = select! {
        opened = Connection::open(&args.on, &client) => opened?,
        () = signals.first() => return Ok(Exit::Interrupted),
    };
    let service = Arc::clone(&args.service.0);
    let name = service.name().to_owned();
    let ready = || {
        if !args.quiet {
            term::note(&format!("working: {name} for {}", args.on));
        }
    };
    let counts = Arc::<WorkerCounts>::default();
    let is_stopping = Arc::<AtomicBool>::default();
    let _answering = answer(args, &connection, &counts, &is_stopping).await;
    let (stopping, stopped) = oneshot::channel::<()>();
    let stop = async { _ = stopped.await };
    let working = echoic_nats::work(&connection, service, &counts, ready, stop);
    let mut working = pin!(working);
    let mut worked = select! {
        worked = &mut working => Some(worked?),
        () = signals.first() => None,
    };
    if worked.is_none() {
        if !args.quiet {
            term::note("stopping: everything received is answered first (again to stop at once)");
        }
        is_stopping.store(true, Ordering::Relaxed);
        drop(stopping);
        worked = select! {
            worked = &mut working => Some(worked?),
            () = signals.second() => None,
        };
    }
    let Some(worked) = worked else {
        return Ok(Exit::Interrupted);
    };
    report(&worked, args.quiet);
    Ok(Exit::Done)
}

/// Starts to say who this is to whoever asks.
async fn answer(
    args: &WorkArgs,
    connection: &Connection,
    counts: &Arc<WorkerCounts>,
    is_stopping: &Arc<AtomicBool>,
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
    let is_stopping = Arc::clone(is_stopping);
    Answering::start(present, move || Process {
        stopping: is_stopping.load(Ordering::Relaxed),
        runs: Some(RunsInHand {
            pending: counts.pending(&connection, answered.load(Ordering::Relaxed)),
            in_flight: counts.now().in_flight,
        }),
        ..process.clone()
    })
}

fn report(worked: &Worked, quiet: bool) {
    if !quiet {
        let Worked { runs, messages, .. } = *worked;
        let (runs, messages) = (
            pretty::count(runs, "run"),
            pretty::count(messages, "message"),
        );
        term::note(&format!("stopped: {messages} answered, in {runs}"));
    }
}
