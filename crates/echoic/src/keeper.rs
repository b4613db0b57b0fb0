//! `echoic keep`: a store as a process of its own, for servers elsewhere.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use echoic_core::{
    process::{Process, ProcessRole},
    store::{Store, StoreError},
};
use echoic_nats::{Connection, KeeperCounts, KeeperTotals, run_keeper};
use echoic_recorder::new_server;
use tokio::{runtime, select, sync::oneshot};

use crate::{
    cli::KeeperArgs,
    exit::{CliError, CommandResult, Exit},
    presence::{self, Answering},
    pretty,
    serve::prune,
    service_choice::client_name,
    signals::Signals,
    store_url, term,
};

/// Threads of the runtime. The store has threads of its own.
const THREADS: usize = 2;

/// Writes until a signal to stop.
pub(crate) fn run(args: &KeeperArgs) -> CommandResult {
    let store = args.store.open_to_keep(args.durability)?;
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .map_err(|error| CliError::system(format!("cannot start: {error}")))?;
    let outcome = runtime.block_on(write_and_close(args, store));
    runtime.shutdown_background();
    outcome
}

async fn write_and_close(args: &KeeperArgs, store: Arc<dyn Store>) -> CommandResult {
    let mut signals = Signals::catch().map_err(CliError::system)?;
    let pruning = tokio::spawn(prune(Arc::clone(&store), args.retention.retention));
    let written = Box::pin(write(args, &store, &mut signals)).await;
    pruning.abort();
    let _ = pruning.await;
    let closed = match &written {
        // Nothing was written: a file that was created for it is removed.
        Err(_) => {
            store_url::discard(Some(store)).await;
            Ok(())
        }
        Ok(_) => store_url::close(Some(store)).await,
    };
    match written? {
        Some(totals) => report(&totals, args.quiet),
        None => return Ok(Exit::Interrupted),
    }
    closed.map(|()| Exit::Done).map_err(CliError::system)
}

/// Writes until a signal. `None` if a second one has stopped it at once.
async fn write(
    args: &KeeperArgs,
    store: &Arc<dyn Store>,
    signals: &mut Signals,
) -> Result<Option<KeeperTotals>, CliError> {
    let client = client_name("keep");
    let connection = select! {
        opened = Connection::open(&args.from, &client) => opened?,
        () = signals.first() => return Ok(None),
    };
    let ready = || {
        if !args.quiet {
            let (from, store) = (&args.from, &args.store);
            term::note(&format!(
                "keeping: {from} in {store} (durability {}, retention {})",
                args.durability,
                args.retention.text.replace(',', " and ")
            ));
        }
    };
    let (stopping, stopped) = oneshot::channel::<()>();
    let stop = async { _ = stopped.await };
    let counts = Arc::<KeeperCounts>::default();
    let is_stopping = Arc::<AtomicBool>::default();
    let _answering = answer(args, &connection, &counts, &is_stopping).await;
    let keeping = run_keeper(
        &connection,
        Arc::clone(store),
        &counts,
        ready,
        failing,
        stop,
    );
    let mut keeping = pin!(keeping);
    select! {
        totals = &mut keeping => return Ok(Some(totals?)),
        () = signals.first() => {}
    }
    if !args.quiet {
        term::note("stopping: everything received is written first (again to stop at once)");
    }
    is_stopping.store(true, Ordering::Relaxed);
    drop(stopping);
    select! {
        totals = &mut keeping => Ok(Some(totals?)),
        () = signals.second() => Ok(None),
    }
}

/// Starts to say who this is to whoever asks.
async fn answer(
    args: &KeeperArgs,
    connection: &Connection,
    counts: &Arc<KeeperCounts>,
    is_stopping: &Arc<AtomicBool>,
) -> Answering {
    let info = new_server();
    let present = presence::with_stream(connection, &info).await;
    let process = Process {
        store: Some(args.store.to_string()),
        ..presence::of_this(ProcessRole::Keeper, &info)
    };
    let (counts, is_stopping) = (Arc::clone(counts), Arc::clone(is_stopping));
    Answering::start(present, move || Process {
        stopping: is_stopping.load(Ordering::Relaxed),
        failing: counts.failure(),
        ..process.clone()
    })
}

/// Reports that the store fails, or that it does no longer.
fn failing(error: Option<&StoreError>) {
    match error {
        Some(error) => term::note(&format!(
            "not writing: {error}; JetStream holds the batches"
        )),
        None => term::note("writing again"),
    }
}

fn report(totals: &KeeperTotals, quiet: bool) {
    if !quiet {
        let KeeperTotals {
            batches, exchanges, ..
        } = *totals;
        let word = if batches == 1 { "batch" } else { "batches" };
        let exchanges = pretty::count(exchanges, "exchange");
        term::note(&format!(
            "stopped: {exchanges} written, in {batches} {word}"
        ));
    }
}
