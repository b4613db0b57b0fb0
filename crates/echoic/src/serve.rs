//! `echoic serve`: the life of a server process.

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
use echoic_recorder::{Failure, Recorder, Watcher, wall};
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

/// How long standard output may take nothing at the end.
const PRINT_PATIENCE: Duration = Duration::from_secs(1);

/// How long printing what is left may take at the end, however slowly it is taken.
const PRINT_DEADLINE: Duration = Duration::from_secs(10);

/// From one look at how recording stands to the next.
const STANDING_EVERY: Duration = Duration::from_millis(500);

/// How often somebody is told again that nothing is being recorded.
const REMIND_EVERY: Duration = Duration::from_secs(10);

/// From one look at what is too old, or too much, to the next.
const PRUNE_EVERY: Duration = Duration::from_mins(1);

/// Listens, answers, records and shows, until told to stop.
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
        "cannot start: {why}; limits of the system are shown by `ulimit -a`"
    ))
}

async fn serve(plan: Plan, store: Option<Arc<dyn Store>>, planes: &Planes) -> CommandResult {
    let mut signals = Signals::catch().map_err(|why| cannot_start(&why))?;
    let (recorder, task) = Recorder::new(store.clone(), plan.recorder).await?;
    let recording = tokio::spawn(task.run());
    // Watched, the recorder is told everything even if nothing is stored.
    let watcher = (plan.show.events != Events::None).then(|| recorder.watch());
    let quiet = plan.show.quiet;

    let server = match open(&plan, recorder.clone(), planes).await {
        Ok(server) => server,
        Err(failed) => {
            // Nothing was said to it: its end is in order, and no news.
            recorder.close(recording, STORE_DEADLINE).await;
            store_url::discard(store).await;
            return Err(failed);
        }
    };
    let doors = server.listening_at();
    if !quiet {
        announce(&plan, &doors);
    }
    let showing = match show(&plan, &doors, watcher) {
        Ok(showing) => showing,
        Err(why) => {
            drop(server);
            recorder.close(recording, STORE_DEADLINE).await;
            store_url::discard(store).await;
            return Err(cannot_start(&why));
        }
    };
    let status = tokio::spawn(tell_standing(recorder.clone(), quiet));
    let pruning = store
        .clone()
        .map(|store| tokio::spawn(prune(store, plan.retention)));

    // The acceptor lives with the first worker: with one worker, a connection never changes threads.
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let stopped = async { _ = stopped.await };
    let mut serving = planes.workers[0].spawn(server.run(stopped));
    let drained = select! {
        drained = &mut serving => drained,
        () = signals.next() => {
            if !quiet {
                term::say("stopping: every message received is answered and recorded first (again to stop at once)");
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
        status.abort();
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
    Ok(farewell(&plan, &recorder, drained, closed.err()))
}

/// Says so while nothing is being recorded, and when that is over.
async fn tell_standing(recorder: Recorder, quiet: bool) {
    let mut failing: Option<(Failure, Instant)> = None;
    let mut lost = 0;
    loop {
        tokio::time::sleep(STANDING_EVERY).await;
        let status = recorder.status();
        match (status.failure, failing.take()) {
            (Some(failure), Some((said, at)))
                if failure.since == said.since && at.elapsed() < REMIND_EVERY =>
            {
                failing = Some((failure, at));
            }
            (Some(failure), _) => {
                term::say_in_colour(&pretty::failing(&failure));
                failing = Some((failure, Instant::now()));
            }
            (None, Some((failure, _))) => {
                let lost_now = status.lost - lost;
                if !quiet || lost_now > 0 {
                    term::say(&pretty::recording_again(failure.since, lost_now));
                }
                lost = status.lost;
            }
            (None, None) => lost = status.lost,
        }
    }
}

/// Opens every endpoint, on the runtime where calls will be taken.
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

/// Prints in a thread of its own: standard output that is slow keeps nobody else waiting.
fn show(
    plan: &Plan,
    doors: &[Listening],
    watcher: Option<Watcher>,
) -> io::Result<impl Future<Output = ()> + use<>> {
    let (done, mut shown) = tokio::sync::oneshot::channel();
    let written = Arc::new(AtomicU64::new(0));
    if plan.show.print || watcher.is_some() {
        let showing = plan.show;
        let (doors, written) = (doors.to_vec(), Arc::clone(&written));
        let runtime = tokio::runtime::Handle::current();
        thread::Builder::new()
            .name("show".to_owned())
            .spawn(move || {
                let shown = runtime.block_on(show::run(showing, &doors, watcher, written));
                if let Err(why) = shown {
                    show::give_up(&why);
                }
                let _ = done.send(());
            })?;
    }
    // What is being read is printed to the last; a pipe that nobody reads must not hold up the end.
    Ok(async move {
        let (mut before, began) = (None, Instant::now());
        while timeout(PRINT_PATIENCE, &mut shown).await.is_err() {
            let now = written.load(Ordering::Relaxed);
            if before.replace(now) == Some(now) || began.elapsed() > PRINT_DEADLINE {
                term::say("standard output is read too slowly: the last events were not printed");
                return;
            }
        }
    })
}

async fn prune(store: Arc<dyn Store>, keep: Retention) {
    loop {
        match store.prune(keep, wall()).await {
            Ok(0) => tokio::time::sleep(PRUNE_EVERY).await,
            Ok(_) => tokio::task::yield_now().await,
            Err(error) => {
                tracing::warn!("old exchanges could not be removed: {error}");
                tokio::time::sleep(PRUNE_EVERY).await;
            }
        }
    }
}

fn farewell(plan: &Plan, recorder: &Recorder, drained: Drained, unclosed: Option<String>) -> Exit {
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
    let is_well = is_recorded && status.lost == 0 && cut == 0 && panicked == 0;
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
    if !(plan.show.quiet && is_well) {
        term::say_in_colour(&text);
    }
    match (is_recorded, cut) {
        (false, _) => Exit::System,
        (true, 1..) => Exit::Cut,
        (true, 0) => Exit::Done,
    }
}
