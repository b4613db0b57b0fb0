//! `echoic serve`: opens the store and the endpoints, serves, drains and reports.

mod notify;
mod plan;
mod planes;
mod report;
mod show;
mod status;
mod stop;

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use echoic_core::store::{Retention, Store};
use echoic_recorder::{Recorder, Watcher, wall_clock_now};
use echoic_server::{Drained, Listening, Server};
use echoic_wire::Listener;
use tokio::{
    select,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    task::{JoinError, JoinHandle},
    time::timeout,
};

use self::{
    plan::{Events, Plan},
    planes::Planes,
    show::announce,
    status::ServerState,
    stop::StopRequests,
};
use crate::{
    cli::ServeArgs,
    exit::{CliError, CommandResult, Exit},
    store_url::{self, STORE_DEADLINE},
    term,
};

/// Longest time at shutdown without progress on standard output; then the rest is not printed.
const PRINT_STALL_MAX: Duration = Duration::from_secs(1);

/// Longest time at shutdown to print the remaining events.
const PRINT_DEADLINE: Duration = Duration::from_secs(10);

/// At a stop at once, time for the conversations to be cut, and again for what is recorded to be committed.
const ABORT_DEADLINE: Duration = Duration::from_millis(500);

/// Interval of applying the retention.
const PRUNE_EVERY: Duration = Duration::from_mins(1);

/// Serves until a signal to stop, or until `--once` is done.
pub(crate) fn run(args: &ServeArgs) -> CommandResult {
    let plan = Plan::new(args)?;
    let store = plan.store.open(plan.durability)?;
    let planes = Planes::start(plan.workers, plan.busy_poll).map_err(|why| cannot_start(&why))?;
    let outcome = planes.control.block_on(serve(plan, store, &planes));
    planes.stop();
    outcome
}

fn cannot_start(why: &io::Error) -> CliError {
    CliError::system(format!(
        "cannot start: {why}; `ulimit -a` shows the limits of the system"
    ))
}

async fn serve(plan: Plan, store: Option<Arc<dyn Store>>, planes: &Planes) -> CommandResult {
    let mut stop = StopRequests::listen(plan.exit_with_stdin).map_err(|why| cannot_start(&why))?;
    let asked = signal(SignalKind::user_defined1()).map_err(|why| cannot_start(&why))?;
    let (recorder, task) = Recorder::new(store.clone(), plan.recorder).await?;
    let recording = tokio::spawn(task.run());
    let started = select! {
        biased;
        started = start(&plan, &recorder, planes) => started.map_err(Err),
        // A name may take seconds to resolve.
        () = stop.requested() => Err(Ok(Exit::Interrupted)),
    };
    let (server, asking, showing) = match started {
        Ok(started) => started,
        Err(end) => {
            // Nothing was recorded: close the recorder and remove a file made for this run.
            recorder.close(recording, STORE_DEADLINE).await;
            store_url::discard(store).await;
            return end;
        }
    };
    let state = Arc::new(ServerState::new(&plan, &server, recorder.clone()));
    let mut background = watch(&plan, store.clone(), planes, &state);
    background.push(tokio::spawn(status::print_at(asked, Arc::clone(&state))));
    if let Some(listener) = asking {
        background.push(tokio::spawn(status::answer(listener, Arc::clone(&state))));
    }
    state.set_ready();

    // The acceptor runs on the first worker: with one worker, a connection never changes threads.
    let (drain, draining) = oneshot::channel::<()>();
    let mut serving = planes.workers[0].spawn(server.run(async { _ = draining.await }));
    let Some(drained) = until_drained(&mut serving, drain, &mut stop, &state).await else {
        serving.abort();
        let _ = timeout(ABORT_DEADLINE, serving).await;
        recorder.close(recording, ABORT_DEADLINE).await;
        end(background).await;
        return Ok(report::stopped_at_once(&plan, &recorder));
    };
    let drained = drained.map_err(CliError::system)?;
    let closing = async {
        recorder.close(recording, STORE_DEADLINE).await;
        end(background).await;
        let closed = store_url::close(store).await;
        showing.await;
        closed
    };
    let closed = select! {
        closed = closing => closed,
        () = stop.at_once() => return Ok(report::stopped_at_once(&plan, &recorder)),
    };
    Ok(report::end(&plan, &recorder, drained, closed.err()))
}

/// Starts the tasks that watch over the store and the workers.
fn watch(
    plan: &Plan,
    store: Option<Arc<dyn Store>>,
    planes: &Planes,
    state: &ServerState,
) -> Vec<JoinHandle<()>> {
    let notifier = state.notifier.clone();
    let mut tasks = vec![
        tokio::spawn(notifier.feed_watchdog(planes.workers.clone())),
        tokio::spawn(report::store_failures(
            state.recorder.clone(),
            state.notifier.clone(),
            plan.show.quiet,
        )),
    ];
    if let Some(store) = store {
        tasks.push(tokio::spawn(prune(store, plan.retention)));
    }
    tasks
}

/// Opens the endpoints, reports them, and starts to print events. Returns the server, the socket that `echoic status` asks
/// at, and a future that is ready when everything is printed.
async fn start(
    plan: &Plan,
    recorder: &Recorder,
    planes: &Planes,
) -> Result<(Server, Option<Listener>, Printed), CliError> {
    // A watcher makes the recorder collect events even without a store, so there is none unless events are shown.
    let watcher = (plan.show.events != Events::None).then(|| recorder.watch());
    let server = open(plan, recorder.clone(), planes).await?;
    let asking = status::open(&plan.store).await;
    let addresses = server.listening_at();
    if !plan.show.quiet {
        announce(plan, &addresses);
    }
    let showing = show(plan, &addresses, watcher).map_err(|why| cannot_start(&why))?;
    Ok((server, asking, Box::pin(showing)))
}

/// Ready when everything is printed.
type Printed = Pin<Box<dyn Future<Output = ()>>>;

/// Waits until the server has ended, or a request to stop has made it drain. `None` if it is to stop at once.
async fn until_drained(
    serving: &mut JoinHandle<Drained>,
    drain: oneshot::Sender<()>,
    stop: &mut StopRequests,
    state: &ServerState,
) -> Option<Result<Drained, JoinError>> {
    select! {
        drained = &mut *serving => return Some(drained),
        () = stop.requested() => {}
    }
    state.set_stopping();
    if !state.quiet {
        term::note(
            "stopping: every message received is answered and recorded first (again to stop at once)",
        );
    }
    drop(drain);
    select! {
        drained = serving => Some(drained),
        () = stop.at_once() => None,
    }
}

/// Aborts tasks and waits until they have ended, so that they hold nothing any more.
async fn end(tasks: Vec<JoinHandle<()>>) {
    for task in tasks {
        task.abort();
        let _ = task.await;
    }
}

/// Opens every endpoint, on the runtime that will accept connections.
async fn open(plan: &Plan, recorder: Recorder, planes: &Planes) -> Result<Server, CliError> {
    let mut server = Server::new(recorder, plan.limits.clone())
        .source_limits(plan.source_limits.clone())
        .max_rejecting(plan.max_rejecting)
        .on_workers(planes.workers.clone())
        .control_runtime(planes.control.handle().clone());
    if plan.once {
        server = server.stop_after(1);
    }
    let endpoints = plan.endpoints.clone();
    let opened = planes.workers[0].spawn(async move {
        for config in endpoints {
            server.open(config).await?;
        }
        Ok::<_, CliError>(server)
    });
    opened.await.map_err(CliError::system)?
}

/// Prints on a thread of its own, so that slow standard output does not delay the server.
fn show(
    plan: &Plan,
    addresses: &[Listening],
    watcher: Option<Watcher>,
) -> io::Result<impl Future<Output = ()> + use<>> {
    let (done, mut printed) = oneshot::channel();
    let written = Arc::new(AtomicU64::new(0));
    if plan.show.print || watcher.is_some() {
        let showing = plan.show;
        let (addresses, written) = (addresses.to_vec(), Arc::clone(&written));
        let runtime = tokio::runtime::Handle::current();
        thread::Builder::new()
            .name("show".to_owned())
            .spawn(move || {
                let printed = runtime.block_on(show::run(showing, &addresses, watcher, written));
                if let Err(why) = printed {
                    show::give_up(&why);
                }
                let _ = done.send(());
            })?;
    }
    // A reader that still reads gets everything; a pipe that is not read does not delay the end.
    Ok(async move {
        let (mut before, began) = (None, Instant::now());
        while timeout(PRINT_STALL_MAX, &mut printed).await.is_err() {
            let now = written.load(Ordering::Relaxed);
            if before.replace(now) == Some(now) || began.elapsed() > PRINT_DEADLINE {
                term::note("standard output is read too slowly: the last events were not printed");
                return;
            }
        }
    })
}

/// Applies the retention until it is aborted.
async fn prune(store: Arc<dyn Store>, retention: Retention) {
    loop {
        match store.prune(retention, wall_clock_now()).await {
            Ok(0) => tokio::time::sleep(PRUNE_EVERY).await,
            Ok(_) => tokio::task::yield_now().await,
            Err(error) => {
                tracing::warn!("cannot remove old exchanges: {error}");
                tokio::time::sleep(PRUNE_EVERY).await;
            }
        }
    }
}
