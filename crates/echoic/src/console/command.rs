//! `echoic console`: the console as a process of its own, beside a running `serve` or without one.

use std::{sync::Arc, time::Duration};

use echoic_console::HealthServer;
use echoic_core::{
    control::Control,
    process::{Process, ProcessRole, ProcessState},
    store::Store,
};
use echoic_nats::{Connection, Present, RemoteControl};
use echoic_recorder::new_server;
use tokio::{runtime, select};

use super::{Backing, ConsolePlan, NoConsole, OpenConsole, describe, secret};
use crate::{
    cli::ConsoleArgs,
    exit::{CliError, CommandResult, Exit},
    health::{Lifecycle, OpenHealth, VERSION},
    on::On,
    presence::{self, Answering},
    service_choice::client_name,
    signals::Signals,
    term,
};

/// Threads of the runtime: a slow answer does not delay the others.
const THREADS: usize = 2;

/// Most silent processes that it tells others of.
const SILENT_MAX: usize = 64;
/// The longest time that a stop takes.
const DRAINS_WITHIN: Duration = Duration::from_secs(5);

/// Serves the console until a signal to stop.
pub(crate) fn run(args: &ConsoleArgs) -> CommandResult {
    let Some(plan) = ConsolePlan::new(&args.console)? else {
        let why = "--console off leaves nothing to do: omit it, or name an address";
        return Err(CliError::usage(why));
    };
    let cannot_start = |error| CliError::system(format!("cannot start: {error}"));
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .map_err(cannot_start)?;
    let outcome = runtime.block_on(serve(args, &plan));
    runtime.shutdown_background();
    outcome
}

/// Connects to the servers of `--on`, and lets others find this console at `url`. No server needs to run yet.
async fn control(
    args: &ConsoleArgs,
    store: &Arc<dyn Store>,
    url: String,
) -> Result<Option<(Arc<dyn Control>, Answering)>, CliError> {
    let Some(server) = args.on.as_ref().map(On::server) else {
        return Ok(None);
    };
    let connection = Connection::open(server.url(), &client_name("console")).await?;
    let control = RemoteControl::open(&connection, Arc::clone(store)).await?;
    if !args.quiet {
        term::note(&format!("showing the servers that have --on {server}"));
    }
    let info = new_server();
    let present = Present::subscribe(&connection, info.id).await;
    let process = Process {
        store: Some(args.store.to_string()),
        console: Some(url),
        ..presence::of_this(ProcessRole::Console, &info)
    };
    let control: Arc<dyn Control> = Arc::new(control);
    let seeing = Arc::clone(&control);
    let answering = Answering::start(present, move || Process {
        silent: silent(&*seeing),
        ..process.clone()
    });
    Ok(Some((control, answering)))
}

/// Returns the processes that were asked and do not answer.
fn silent(control: &dyn Control) -> Vec<Process> {
    let seen = control.processes().into_iter();
    let silent = seen.filter(|seen| seen.state == ProcessState::Silent);
    silent.map(|seen| seen.process).take(SILENT_MAX).collect()
}

async fn serve(args: &ConsoleArgs, plan: &ConsolePlan) -> CommandResult {
    let mut signals = Signals::catch().map_err(CliError::system)?;
    let store = args.store.open_to_follow()?;
    let console = OpenConsole::open(plan, args.quiet, secret::of_reader(&args.store))?;
    let console = console.map_err(|NoConsole(why)| {
        CliError::system(format!(
            "no console: {why}; --console ADDR serves it elsewhere"
        ))
    })?;
    let control = control(args, &store, console.url()).await?;
    let (control, _answering) = control.unzip();
    let health = OpenHealth::open(&args.health, args.quiet)?;
    console.announce(args.quiet);
    if !args.quiet {
        term::note(&format!("reading {}", args.store));
    }
    let url = console.url();
    let lifecycle = Lifecycle::start(health, |phase| {
        HealthServer::of_server(
            VERSION,
            phase,
            Some(Arc::clone(&store)),
            None,
            control.clone(),
        )
    });
    let backing = Backing {
        store,
        recorder: None,
        control,
        description: describe(&args.store),
        limits: Vec::new(),
    };
    let mut console = console.serve(backing, args.quiet);
    lifecycle.set_working(&format!("console on {url}; reading {}", args.store));
    select! {
        () = signals.first() => {}
        () = console.ended() => return Err(CliError::system("the console has ended by itself")),
    }
    lifecycle.set_stopping("ending open requests", DRAINS_WITHIN);
    let stopping = async {
        console.stop().await;
        lifecycle.end().await;
    };
    select! {
        () = stopping => Ok(Exit::Done),
        () = signals.second() => Ok(Exit::Interrupted),
    }
}
