//! `echoic keep`: a store as a process of its own, for servers elsewhere.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use echoic_console::{Figure, FigureUnit, HealthServer, Phase, Vitals};
use echoic_core::{
    process::{Process, ProcessRole},
    service::BoxFuture,
    store::{Store, StoreError},
};
use echoic_nats::{Backlog, Connection, KeeperCounts, KeeperTotals, run_keeper};
use echoic_recorder::new_server;
use tokio::{runtime, select, sync::oneshot};

use crate::{
    cli::KeeperArgs,
    exit::{CliError, CommandResult, Exit},
    health::{Lifecycle, OpenHealth, VERSION},
    presence::{self, Answering},
    pretty,
    serve::prune,
    service_choice::client_name,
    signals::Signals,
    store_url, term,
    work::{CONNECTED_HELP, connected},
};

/// Threads of the runtime. The store has threads of its own.
const THREADS: usize = 2;

/// The longest time that a stop takes: the last batches, their acknowledgements, and the store.
const DRAINS_WITHIN: Duration = Duration::from_secs(30);

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
    let health = OpenHealth::open(&args.health, args.quiet)?;
    let client = client_name("keep");
    let connection = select! {
        opened = Connection::open(&args.from, &client) => opened?,
        () = signals.first() => return Ok(None),
    };
    let counts = Arc::<KeeperCounts>::default();
    let lifecycle = Lifecycle::start(health, |phase| {
        let vitals = KeeperVitals {
            connection: connection.clone(),
            store: Arc::clone(store),
            counts: Arc::clone(&counts),
        };
        HealthServer::new(VERSION, phase, Arc::new(vitals))
    });
    let totals = write_until_stopped(args, store, signals, (&connection, &counts), &lifecycle);
    let totals = totals.await?;
    if totals.is_some() {
        lifecycle.end().await;
    }
    Ok(totals)
}

async fn write_until_stopped(
    args: &KeeperArgs,
    store: &Arc<dyn Store>,
    signals: &mut Signals,
    (connection, counts): (&Connection, &Arc<KeeperCounts>),
    lifecycle: &Lifecycle,
) -> Result<Option<KeeperTotals>, CliError> {
    let ready = || {
        let (from, store) = (&args.from, &args.store);
        lifecycle.set_working(&format!("keeping: {from} in {store}"));
        if !args.quiet {
            term::note(&format!(
                "keeping: {from} in {store} (durability {}, retention {})",
                args.durability,
                args.retention.text.replace(',', " and ")
            ));
        }
    };
    let (stopping, stopped) = oneshot::channel::<()>();
    let stop = async { _ = stopped.await };
    let _answering = answer(args, connection, counts, lifecycle).await;
    let failing = |error: Option<&StoreError>| failing(error, lifecycle);
    let keeping = run_keeper(connection, Arc::clone(store), counts, ready, failing, stop);
    let mut keeping = pin!(keeping);
    select! {
        totals = &mut keeping => return Ok(Some(totals?)),
        () = signals.first() => {}
    }
    lifecycle.set_stopping("writing what has been received", DRAINS_WITHIN);
    if !args.quiet {
        signals
            .notice_later("stopping: everything received is written first (again to stop at once)");
    }
    drop(stopping);
    let ended = select! {
        totals = &mut keeping => Some(totals?),
        () = signals.second() => None,
    };
    signals.notice_now();
    Ok(ended)
}

/// Starts to say who this is to whoever asks.
async fn answer(
    args: &KeeperArgs,
    connection: &Connection,
    counts: &Arc<KeeperCounts>,
    lifecycle: &Lifecycle,
) -> Answering {
    let info = new_server();
    let present = presence::with_stream(connection, &info).await;
    let process = Process {
        store: Some(args.store.to_string()),
        ..presence::of_this(ProcessRole::Keeper, &info)
    };
    let (counts, phase) = (Arc::clone(counts), lifecycle.phase());
    Answering::start(present, move || Process {
        stopping: *phase.borrow() == Phase::Stopping,
        failing: counts.failure(),
        ..process.clone()
    })
}

/// Reports that the store fails, or that it does no longer.
fn failing(error: Option<&StoreError>, lifecycle: &Lifecycle) {
    let status = match error {
        Some(error) => format!("not writing: {error}; JetStream holds the batches"),
        None => "writing again".to_owned(),
    };
    lifecycle.set_status(&status);
    term::note(&status);
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

/// What a keeper knows about itself.
struct KeeperVitals {
    connection: Connection,
    store: Arc<dyn Store>,
    counts: Arc<KeeperCounts>,
}

impl Vitals for KeeperVitals {
    fn readiness(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async {
            connected(&self.connection)?;
            if let Some(why) = self.counts.failure() {
                return Err(format!("the store fails: {why}"));
            }
            let read = self.store.last().await;
            read.map_err(|error| format!("the store does not answer: {error}"))?;
            Ok(())
        })
    }

    fn figures(&self) -> BoxFuture<'_, Vec<Figure>> {
        Box::pin(async {
            let is_up = self.connection.is_up();
            let backlog = if is_up {
                let asked = Backlog::ask(&self.connection).await;
                asked
                    .inspect_err(|error| tracing::debug!("no figures of the stream: {error}"))
                    .ok()
            } else {
                None
            };
            let is_failing = self.counts.failure().is_some();
            let mut figures = figures(&self.counts.totals(), backlog);
            let help = "1 while the store fails, else 0.";
            figures.push(Figure::gauge("store_failing", help, u64::from(is_failing)));
            figures.push(Figure::gauge(
                "nats_connected",
                CONNECTED_HELP,
                u64::from(is_up),
            ));
            figures
        })
    }
}

/// Returns the figures of a keeper. What is not known is left out.
fn figures(totals: &KeeperTotals, backlog: Option<Backlog>) -> Vec<Figure> {
    let counter = Figure::counter;
    let help = "Batches written, those included that the store had before.";
    let mut figures = vec![counter("keeper_batches", help, totals.batches)];
    let help = "Exchanges of these batches.";
    figures.push(counter("keeper_exchanges", help, totals.exchanges));
    let help = "Messages that came again, since no keeper had acknowledged them.";
    figures.push(counter("keeper_redeliveries", help, totals.redeliveries));
    let help = "Messages that cannot be read, put aside.";
    figures.push(counter("keeper_unreadable", help, totals.unreadable));
    let help = "Appends that failed; each is tried again.";
    figures.push(counter("keeper_append_failures", help, totals.failures));
    let since = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).ok();
    if let Some(time) = totals.last_commit.and_then(since) {
        let help = "When the store last committed, as Unix time.";
        let figure = Figure::gauge("keeper_last_commit_timestamp", help, time.as_secs_f64());
        figures.push(figure.in_unit(FigureUnit::Seconds));
    }
    if let Some(backlog) = backlog {
        let help = "Messages in the stream that no keeper has received: the lag of all keepers.";
        figures.push(Figure::gauge("keeper_pending", help, backlog.pending));
        let help = "Messages that keepers have received and not yet acknowledged.";
        let waiting = backlog.unacknowledged;
        figures.push(Figure::gauge("keeper_unacknowledged", help, waiting));
    }
    figures
}
