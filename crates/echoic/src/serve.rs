//! `echoic serve`: opens the store and the endpoints, serves, drains and reports.

mod call;
mod console;
mod control;
mod plan;
mod planes;
mod presence;
mod report;
mod show;
mod status;
mod stop;
mod terminal;
mod tls;

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use echoic_console::HealthServer;
use echoic_core::{
    control::Control,
    event::ServerInfo,
    store::{Retention, Store},
    view::EventJson,
};
use echoic_nats::{Connection, Controlled};
use echoic_recorder::{Recorder, Watcher, wall_clock_now};
use echoic_server::{Drained, Listening, Server};
use echoic_wire::Listener;
use tokio::{
    select,
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    task::{JoinError, JoinHandle},
    time::timeout,
};

use self::{
    control::ServeControl,
    plan::{Events, Plan},
    planes::Planes,
    show::announce,
    status::ServerState,
    stop::StopRequests,
    terminal::{Activity, RunningKeys},
};
use crate::{
    cli::ServeArgs,
    console::{OpenConsole, RunningConsole},
    exit::{CliError, CommandResult, Exit},
    health::{OpenHealth, RunningHealth, VERSION},
    service_choice::client_name,
    store_url::{self, STORE_DEADLINE},
    term,
};

/// Longest time at shutdown without progress on standard output; then the rest is not printed.
const PRINT_STALL_MAX: Duration = Duration::from_secs(1);

/// Longest time at shutdown to print the remaining events.
const PRINT_DEADLINE: Duration = Duration::from_secs(10);

/// At a stop at once, longest time until the conversations are cut and what is recorded is committed. It takes a few
/// milliseconds, but on a loaded machine a process may wait long for its turn.
const ABORT_DEADLINE: Duration = Duration::from_secs(2);

/// The part of it in which the conversations are to be cut.
const CUT_DEADLINE: Duration = Duration::from_secs(1);

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
    let remote = select! {
        biased;
        opened = store_url::open_remote(&plan.store) => opened?,
        () = stop.requested() => return Ok(Exit::Interrupted),
    };
    let (remote, stream) = remote.map(|it| (it.store, it.connection)).unzip();
    let store = remote.or(store);
    let (recorder, task) = Recorder::new(store.clone(), plan.recorder).await?;
    let recording = tokio::spawn(task.run());
    let started = select! {
        biased;
        started = start(&plan, &recorder, planes) => started.map_err(Err),
        // A name may take seconds to resolve.
        () = stop.requested() => Err(Ok(Exit::Interrupted)),
    };
    let started = match started {
        Ok(started) => started,
        Err(end) => {
            // Nothing was recorded: close the recorder and remove a file made for this run.
            recorder.close(recording, STORE_DEADLINE).await;
            store_url::discard(store).await;
            return end;
        }
    };
    let run = Run {
        plan,
        store,
        stream,
        planes,
        recorder,
        recording,
        stop,
    };
    run.until_stopped(started, asked).await
}

/// A server that runs, with all that it uses.
struct Run<'a> {
    plan: Plan,
    store: Option<Arc<dyn Store>>,
    /// The connection of a store that is a stream of NATS.
    stream: Option<Connection>,
    planes: &'a Planes,
    recorder: Recorder,
    recording: JoinHandle<()>,
    stop: StopRequests,
}

impl Run<'_> {
    /// Serves until a request to stop, drains, and reports.
    async fn until_stopped(mut self, started: Started, asked: Signal) -> CommandResult {
        let Started {
            server,
            asking,
            on,
            console,
            health,
            activity,
            showing,
        } = started;
        let state = self.state(&server, console.as_ref());
        let address = console.as_ref().map(OpenConsole::address);
        let is_controlled = address.is_some() || on.is_some() || health.is_some();
        let control = is_controlled.then(|| self.control(&server, address, &state));
        let console = self.serve_console(console, control.clone());
        let health = health.map(|open| self.serve_health(open, &state, control.clone()));
        let mut background = watch(&self.plan, self.store.clone(), self.planes, &state);
        background.push(tokio::spawn(status::print_at(asked, Arc::clone(&state))));
        let present = presence::answer(&self.plan, on.as_ref(), self.stream.as_ref(), &state);
        let _present = present.await;
        if let Some((on, control)) = on.zip(control.clone()) {
            let server = Arc::clone(self.recorder.server());
            background.push(tokio::spawn(obey(on, server, control)));
        }
        if let Some(listener) = asking {
            background.push(tokio::spawn(status::answer(listener, Arc::clone(&state))));
        }
        state.set_ready();
        // Held to the end: it restores the terminal.
        let _keys = activity.and_then(|activity| self.read_keys(&state, activity));

        // The acceptor runs on the first worker: with one worker, a connection never changes threads.
        let (drain, draining) = oneshot::channel::<()>();
        let (cut, cutting) = oneshot::channel::<()>();
        let serving = server.run_until(async { _ = draining.await }, async { _ = cutting.await });
        let mut serving = self.planes.workers[0].spawn(serving);
        let drained = until_drained(&mut serving, drain, &mut self.stop, &state).await;
        let Some(drained) = drained else {
            drop(cut);
            cut_and_close(serving, &self.recorder, self.recording).await;
            end(background).await;
            return Ok(report::stopped_at_once(&self.plan, &self.recorder));
        };
        let drained = drained.map_err(CliError::system)?;
        if let Some(control) = &control {
            control.stop_calls().await;
        }
        let closing = async {
            self.recorder.close(self.recording, STORE_DEADLINE).await;
            stop_showing(console, health).await;
            end(background).await;
            let closed = store_url::close(self.store).await;
            showing.await;
            closed
        };
        let closed = select! {
            closed = closing => closed,
            () = self.stop.at_once() => {
                return Ok(report::stopped_at_once(&self.plan, &self.recorder));
            }
        };
        self.stop.notice_now();
        let called = control.map_or(0, |control| control.recorded());
        let (plan, recorder) = (&self.plan, &self.recorder);
        Ok(report::end(plan, recorder, drained, called, closed.err()))
    }

    /// Returns what is known about the server from now on.
    fn state(&self, server: &Server, console: Option<&OpenConsole>) -> Arc<ServerState> {
        let recorder = self.recorder.clone();
        let url = console.map(OpenConsole::url);
        Arc::new(ServerState::new(&self.plan, server, recorder, url))
    }

    /// Returns what consoles act through. `console` is the address of the server's own.
    fn control(
        &self,
        server: &Server,
        console: Option<SocketAddr>,
        state: &Arc<ServerState>,
    ) -> Arc<ServeControl> {
        let server = server.control();
        Arc::new(ServeControl::new(&self.plan, server, console, state))
    }

    /// Starts to serve the console, if its socket is open.
    fn serve_console(
        &self,
        console: Option<OpenConsole>,
        control: Option<Arc<ServeControl>>,
    ) -> Option<RunningConsole> {
        let (console, store) = console.zip(self.store.clone())?;
        let recorder = self.recorder.clone();
        Some(console::start(
            &self.plan, console, store, recorder, control?,
        ))
    }

    /// Starts to serve the routes of health, on the control plane.
    fn serve_health(
        &self,
        open: OpenHealth,
        state: &ServerState,
        control: Option<Arc<ServeControl>>,
    ) -> RunningHealth {
        let store = self.store.clone().filter(|_| self.plan.store.is_readable());
        let control = control.map(|control| control as Arc<dyn Control>);
        let (recorder, phase) = (Some(self.recorder.clone()), state.phase());
        open.serve(HealthServer::of_server(
            VERSION, phase, store, recorder, control,
        ))
    }

    /// Starts to read keys. Without them the server is the same.
    fn read_keys(&self, state: &Arc<ServerState>, activity: Arc<Activity>) -> Option<RunningKeys> {
        RunningKeys::start(Arc::clone(state), activity, self.stop.key())
            .inspect_err(|error| tracing::warn!("keys are not read: {error}"))
            .ok()
    }
}

/// Stops what shows the server. Last, so that its page has seen the drain; and before the store, which it reads.
async fn stop_showing(console: Option<RunningConsole>, health: Option<RunningHealth>) {
    if let Some(console) = console {
        console.stop().await;
    }
    if let Some(health) = health {
        health.stop().await;
    }
}

/// Does what consoles elsewhere ask for, until it is aborted.
async fn obey(on: Connection, server: Arc<ServerInfo>, control: Arc<ServeControl>) {
    match Controlled::subscribe(&on, server, control).await {
        Ok(controlled) => controlled.serve().await,
        Err(error) => tracing::error!("consoles elsewhere do not find this server: {error}"),
    }
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
    if !plan.tls.is_empty() {
        tasks.push(tokio::spawn(plan.tls.watch(plan.show.quiet)));
    }
    if let Some(store) = store {
        tasks.push(tokio::spawn(prune(store, plan.retention)));
    }
    tasks
}

/// A server that is about to run.
struct Started {
    server: Server,
    /// The socket that `echoic status` asks at.
    asking: Option<Listener>,
    /// Where consoles elsewhere find it.
    on: Option<Connection>,
    console: Option<OpenConsole>,
    health: Option<OpenHealth>,
    /// What the printer shares with the keys, if keys are read.
    activity: Option<Arc<Activity>>,
    /// Ready when everything is printed.
    showing: Printed,
}

/// Opens the endpoints and the console, reports them, and starts to print events.
async fn start(plan: &Plan, recorder: &Recorder, planes: &Planes) -> Result<Started, CliError> {
    for service in plan.remote_services.iter() {
        service.connect(&client_name("serve")).await?;
    }
    // A watcher makes the recorder collect events even without a store, so there is none unless events are shown.
    let watcher = (plan.show.events != Events::None).then(|| recorder.watch());
    let on = match &plan.on {
        Some(nats) => Some(Connection::open(nats.url(), &client_name("serve")).await?),
        None => None,
    };
    let server = open(plan, recorder.clone(), planes).await?;
    let console = console::open(plan)?;
    let health = OpenHealth::open(&plan.health, plan.show.quiet)?;
    let asking = status::open(&plan.store).await;
    let addresses = server.listening_at();
    if !plan.show.quiet {
        announce(plan, &addresses);
    }
    if let Some(console) = &console {
        console.announce(plan.show.quiet);
    }
    let event = console.as_ref().map(OpenConsole::event);
    let activity = terminal::is_wanted(plan).then(|| Arc::new(Activity::new()));
    let showing = show(plan, &addresses, event, activity.clone(), watcher)
        .map_err(|why| cannot_start(&why))?;
    Ok(Started {
        server,
        asking,
        on,
        console,
        health,
        activity,
        showing: Box::pin(showing),
    })
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
        stop.notice_later(
            "stopping: every message received is answered and recorded first (again to stop at once)",
        );
    }
    drop(drain);
    select! {
        drained = serving => Some(drained),
        () = stop.at_once() => None,
    }
}

/// Stops at once: waits a short time until the conversations are cut, and then until their ends are recorded. What is not
/// recorded by then counts as not recorded.
async fn cut_and_close(
    mut serving: JoinHandle<Drained>,
    recorder: &Recorder,
    recording: JoinHandle<()>,
) {
    let deadline = Instant::now() + ABORT_DEADLINE;
    if timeout(CUT_DEADLINE, &mut serving).await.is_err() {
        serving.abort();
    }
    let remaining = deadline.saturating_duration_since(Instant::now());
    recorder.close(recording, remaining).await;
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
    console: Option<EventJson<'static>>,
    activity: Option<Arc<Activity>>,
    watcher: Option<Watcher>,
) -> io::Result<impl Future<Output = ()> + use<>> {
    let (done, mut printed) = oneshot::channel();
    let written = Arc::new(AtomicU64::new(0));
    if plan.show.print || watcher.is_some() {
        let showing = plan.show;
        let certificates = show::positions(addresses).into_iter();
        let certificates: Vec<_> = certificates
            .map(|at| plan.tls.certificates_of(at))
            .collect();
        let (addresses, written) = (addresses.to_vec(), Arc::clone(&written));
        let runtime = tokio::runtime::Handle::current();
        thread::Builder::new()
            .name("show".to_owned())
            .spawn(move || {
                let printed = runtime.block_on(show::run(
                    showing,
                    &addresses,
                    &certificates,
                    console,
                    activity,
                    watcher,
                    written,
                ));
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
pub(crate) async fn prune(store: Arc<dyn Store>, retention: Retention) {
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
