//! `echoic keep`: a store as a process of its own, for servers elsewhere.

use std::{pin::pin, sync::Arc};

use echoic_core::store::{Store, StoreError};
use echoic_nats::{Connection, KeeperTotals, run_keeper};
use tokio::{runtime, select, sync::oneshot};

use crate::{
    cli::KeeperArgs,
    exit::{CliError, CommandResult, Exit},
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
    let keeping = run_keeper(&connection, Arc::clone(store), ready, failing, stop);
    let mut keeping = pin!(keeping);
    select! {
        totals = &mut keeping => return Ok(Some(totals?)),
        () = signals.first() => {}
    }
    if !args.quiet {
        term::note("stopping: everything received is written first (again to stop at once)");
    }
    drop(stopping);
    select! {
        totals = &mut keeping => Ok(Some(totals?)),
        () = signals.second() => Ok(None),
    }
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
        let KeeperTotals { batches, exchanges } = *totals;
        let word = if batches == 1 { "batch" } else { "batches" };
        let exchanges = pretty::count(exchanges, "exchange");
        term::note(&format!(
            "stopped: {exchanges} written, in {batches} {word}"
        ));
    }
}
