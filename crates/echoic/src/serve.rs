//! `echoic serve`: opens the store and the endpoints, serves, drains and reports.

mod plan;
mod planes;
mod show;

use std::{
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use echoic_core::store::{Retention, Store};
use echoic_recorder::{Failure, Recorder, Watcher, wall_clock_now};
use echoic_server::{Drained, Listening, Server};
use tokio::{select, time::timeout};

use self::{
    plan::{Events, Plan},
    planes::Planes,
    show::announce,
};
use crate::{
    cli::ServeArgs,
    exit::{CliError, CommandResult, Exit},
    pretty,
    signals::Signals,
    store_url::{self, STORE_DEADLINE},
    term, trace,
};

/// Longest time at shutdown without progress on standard output; then the rest is not printed.
const PRINT_STALL_MAX: Duration = Duration::from_secs(1);

/// Longest time at shutdown to print the remaining events.
const PRINT_DEADLINE: Duration = Duration::from_secs(10);

/// Interval of checking the recorder's status.
const STATUS_EVERY: Duration = Duration::from_millis(500);

/// Interval of repeating that nothing is being recorded.
const REMIND_EVERY: Duration = Duration::from_secs(10);

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
    let mut signals = Signals::catch().map_err(|why| cannot_start(&why))?;
    let (recorder, task) = Recorder::new(store.clone(), plan.recorder).await?;
    let recording = tokio::spawn(task.run());
    // A watcher makes the recorder collect events even without a store, so there is none unless events are shown.
    let watcher = (plan.show.events != Events::None).then(|| recorder.watch());
    let quiet = plan.show.quiet;

    let server = match open(&plan, recorder.clone(), planes, &mut signals).await {
        Ok(server) => server,
        Err(end) => {
            // Nothing was recorded: close the recorder and remove a file made for this run.
            recorder.close(recording, STORE_DEADLINE).await;
            store_url::discard(store).await;
            return end;
        }
    };
    let addresses = server.listening_at();
    if !quiet {
        announce(&plan, &addresses);
    }
    let showing = match show(&plan, &addresses, watcher) {
        Ok(showing) => showing,
        Err(why) => {
            drop(server);
            recorder.close(recording, STORE_DEADLINE).await;
            store_url::discard(store).await;
            return Err(cannot_start(&why));
        }
    };
    let reporting = tokio::spawn(report_status(recorder.clone(), quiet));
    let pruning = store
        .clone()
        .map(|store| tokio::spawn(prune(store, plan.retention)));

    // The acceptor runs on the first worker: with one worker, a connection never changes threads.
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let stopped = async { _ = stopped.await };
    let mut serving = planes.workers[0].spawn(server.run(stopped));
    let drained = select! {
        drained = &mut serving => drained,
        () = signals.next() => {
            if !quiet {
                term::note("stopping: every message received is answered and recorded first (again to stop at once)");
            }
            drop(stop);
            select! {
                drained = &mut serving => drained,
                () = signals.next() => return Ok(Exit::Interrupted),
            }
        }
    };
    let drained = drained.map_err(CliError::system)?;
    let closing = async {
        recorder.close(recording, STORE_DEADLINE).await;
        reporting.abort();
        if let Some(pruning) = pruning {
            pruning.abort();
            let _ = pruning.await;
        }
        let closed = store_url::close(store).await;
        showing.await;
        closed
    };
    let closed = select! {
        closed = closing => closed,
        () = signals.next() => return Ok(Exit::Interrupted),
    };
    Ok(report_end(&plan, &recorder, drained, closed.err()))
}

/// Reports while the store fails, and when recording resumes.
async fn report_status(recorder: Recorder, quiet: bool) {
    let mut failing: Option<(Failure, Instant)> = None;
    let mut lost = 0;
    loop {
        tokio::time::sleep(STATUS_EVERY).await;
        let status = recorder.status();
        match (status.failure, failing.take()) {
            (Some(failure), Some((reported, at)))
                if failure.since == reported.since && at.elapsed() < REMIND_EVERY =>
            {
                failing = Some((failure, at));
            }
            (Some(failure), _) => {
                term::note_in_colour(&pretty::failing(&failure));
                failing = Some((failure, Instant::now()));
            }
            (None, Some((failure, _))) => {
                let lost_now = status.lost - lost;
                if !quiet || lost_now > 0 {
                    term::note(&pretty::recording_again(failure.since, lost_now));
                }
                lost = status.lost;
            }
            (None, None) => lost = status.lost,
        }
    }
}

/// Opens every endpoint, on the runtime that will accept connections.
/// A signal ends it, since a name may take seconds to resolve; the error is how the command then ends.
async fn open(
    plan: &Plan,
    recorder: Recorder,
    planes: &Planes,
    signals: &mut Signals,
) -> Result<Server, CommandResult> {
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
    select! {
        opened = opened => opened.map_err(CliError::system).flatten().map_err(Err),
        () = signals.next() => Err(Ok(Exit::Interrupted)),
    }
}

/// Prints on a thread of its own, so that slow standard output does not delay the server.
fn show(
    plan: &Plan,
    addresses: &[Listening],
    watcher: Option<Watcher>,
) -> io::Result<impl Future<Output = ()> + use<>> {
    let (done, mut printed) = tokio::sync::oneshot::channel();
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

/// Prints the totals and decides the exit code.
fn report_end(
    plan: &Plan,
    recorder: &Recorder,
    drained: Drained,
    unclosed: Option<String>,
) -> Exit {
    let Drained {
        served,
        cut,
        panicked,
        datagrams,
    } = drained;
    let status = recorder.status();
    let count = pretty::count;
    let mut text = format!("stopped: {} served", count(served, "exchange"));
    if plan.store != store_url::StoreUrl::None {
        text += &format!(", {} recorded, {} lost", status.recorded, status.lost);
    }
    let is_recorded = status.failure.is_none() && unclosed.is_none();
    let is_complete = is_recorded && status.lost == 0 && cut == 0 && panicked == 0;
    if let Some(failure) = status.failure {
        text += &format!(" ({})", pretty::failing(&failure));
    }
    if let Some(error) = unclosed {
        text += &format!(
            " (not all of it is safe on the disk: {})",
            term::sanitize(error)
        );
    }
    if cut > 0 {
        let cut = count(cut, "conversation");
        text += &format!("; {cut} cut, not done within --drain-timeout");
    }
    if datagrams.dropped > 0 {
        let dropped = count(datagrams.dropped, "datagram");
        text += &format!("; {dropped} dropped, having come too fast");
    }
    if panicked > 0 {
        let panicked = count(panicked, "conversation");
        text += &format!("; {panicked} ended by a bug in echoic");
    }
    trace::end();
    if !(plan.show.quiet && is_complete) {
        term::note_in_colour(&text);
    }
    match (is_recorded, cut) {
        (false, _) => Exit::System,
        (true, 1..) => Exit::Cut,
        (true, 0) => Exit::Done,
    }
}
