//! `echoic work`: a service as a process of its own, for servers elsewhere.

use std::{pin::pin, sync::Arc};

use echoic_nats::{Connection, Worked};
use tokio::{runtime, select, sync::oneshot};

use crate::{
    cli::WorkArgs,
    exit::{CliError, CommandResult, Exit},
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
    let (stopping, stopped) = oneshot::channel::<()>();
    let stop = async { _ = stopped.await };
    let mut working = pin!(echoic_nats::work(&connection, service, ready, stop));
    let mut worked = select! {
        worked = &mut working => Some(worked?),
        () = signals.first() => None,
    };
    if worked.is_none() {
        if !args.quiet {
            term::note("stopping: everything received is answered first (again to stop at once)");
        }
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

fn report(worked: &Worked, quiet: bool) {
    if !quiet {
        let Worked { runs, messages } = *worked;
        let (runs, messages) = (
            pretty::count(runs, "run"),
            pretty::count(messages, "message"),
        );
        term::note(&format!("stopped: {messages} answered, in {runs}"));
    }
}
