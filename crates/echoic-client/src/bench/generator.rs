//! The load generator: all threads of a plan, which open connections and run together; their results are added up.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use echoic_core::{
    endpoint::{Endpoint, Shape},
    event::Address,
    framing::Framing,
};
use echoic_wire::{ClientLayer, DialError, DialOptions, TlsClient, dial};
use thiserror::Error;
use tokio::{runtime, select, task::unconstrained, time::sleep};

use super::{
    clock::{Clock, nanos},
    connection::Shared,
    figures::{Figures, GeneratorStats},
    live::{Live, Progress},
    plan::{Length, Load, Plan, Run},
    run_loop::{RunConfig, WorkerResult, run},
    schedule::Schedule,
    stall,
    tally::Tally,
    worker::Worker,
    workload::PreparedWorkload,
};

/// Delay between the command to run and the common start of all threads.
const START_DELAY: Duration = Duration::from_millis(5);
/// Interval between checks of the stop flag while connections are opened.
const STOP_INTERVAL: Duration = Duration::from_millis(10);

/// Error that leaves a run without figures.
#[derive(Debug, Error)]
pub enum BenchError {
    /// The target could not be reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// It was stopped before a run began.
    #[error("stopped before the first result")]
    Stopped,
    /// The system reported an error.
    #[error("cannot run the load: {0}")]
    System(#[from] io::Error),
}

/// All threads of a plan, with their connections. Dropping it closes them.
#[derive(Debug)]
pub struct LoadGenerator {
    workers: Vec<WorkerHandle>,
    stop: StopHandle,
    plan: Plan,
    /// All connections were open once.
    is_opened: bool,
}

/// Channels to one worker thread.
#[derive(Debug)]
struct WorkerHandle {
    commands: SyncSender<WorkerCommand>,
    answers: Receiver<Result<Option<WorkerResult>, BenchError>>,
    live: Arc<Live>,
}

#[derive(Debug)]
enum WorkerCommand {
    Open(Duration),
    Run(Box<RunConfig>),
}

/// Stops the current run, from any thread.
#[derive(Clone, Debug, Default)]
pub struct StopHandle(Arc<AtomicBool>);

impl StopHandle {
    /// Sends no more requests; replies to those in flight are awaited.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns whether the run was stopped.
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits for `work`, and gives it up when this is stopped.
    pub(super) async fn unless_stopped<T>(
        &self,
        work: impl Future<Output = T>,
    ) -> Result<T, BenchError> {
        let stopped = async {
            while !self.is_stopped() {
                sleep(STOP_INTERVAL).await;
            }
        };
        select! {
            biased;
            () = stopped => Err(BenchError::Stopped),
            done = work => Ok(done),
        }
    }
}

/// Reads the progress of a run.
#[derive(Clone, Debug)]
pub struct ProgressReader(Vec<Arc<Live>>);

impl ProgressReader {
    /// Returns the current progress.
    pub fn progress(&self) -> Progress {
        let progress = self.0.iter().map(|live| live.progress());
        progress.reduce(Progress::merge).unwrap_or_default()
    }
}

impl LoadGenerator {
    /// Connects to the target once, starts the threads and opens all connections.
    pub fn open(plan: &Plan) -> Result<Self, BenchError> {
        Self::open_unless_stopped(plan, StopHandle::default())
    }

    /// Does the same, until `stop` is triggered, which also stops its runs.
    pub fn open_unless_stopped(plan: &Plan, stop: StopHandle) -> Result<Self, BenchError> {
        let threads = plan.threads.clamp(1, plan.connections.max(1));
        let layers = layers(plan)?;
        let endpoint = resolve_target(plan, &layers, &stop)?;
        let mut generator = Self {
            workers: Vec::new(),
            stop,
            is_opened: false,
            plan: Plan {
                threads,
                ..plan.clone()
            },
        };
        for number in 0..threads {
            generator
                .workers
                .push(generator.spawn_worker(number, &endpoint, &layers)?);
        }
        generator.reopen()?;
        generator.is_opened = true;
        Ok(generator)
    }

    /// Returns a handle that stops its runs.
    pub fn stop(&self) -> StopHandle {
        self.stop.clone()
    }

    /// Returns a reader for the progress of its runs.
    pub fn progress_reader(&self) -> ProgressReader {
        ProgressReader(
            self.workers
                .iter()
                .map(|worker| Arc::clone(&worker.live))
                .collect(),
        )
    }

    /// Runs once. Connections lost in the previous run are reopened first; those that cannot be are dialled again in the run,
    /// and their failures count.
    pub fn run(&mut self, run: &Run) -> Result<Figures, BenchError> {
        self.reopen()?;
        let clock = Clock::starting(START_DELAY);
        let from = nanos(run.warmup);
        let (until, count) = match run.length {
            Length::For(time) => (from.saturating_add(nanos(time)), None),
            Length::Count(count) => (u64::MAX, Some(count)),
        };
        let threads = self.plan.threads;
        for (number, worker) in (0..threads).zip(&self.workers) {
            let share = |count: u64| {
                let (each, rest) = (count / u64::from(threads), count % u64::from(threads));
                each + u64::from(u64::from(number) < rest)
            };
            let config = RunConfig {
                clock,
                schedule: Schedule::new(&run.load, self.plan.seed, number, threads),
                from_ns: from,
                until_ns: until,
                count: count.map(share),
                drain_timeout_ns: nanos(self.plan.drain_timeout),
                give_up_ns: nanos(self.plan.give_up),
                stop: Arc::clone(&self.stop.0),
            };
            worker.send(WorkerCommand::Run(Box::new(config)))?;
        }
        let mut results = Vec::new();
        for worker in &self.workers {
            results.extend(worker.answer()?);
        }
        Ok(self.figures(run, &clock, results))
    }

    fn reopen(&self) -> Result<(), BenchError> {
        let gap = self.plan.connects_per_s.map_or(Duration::ZERO, |rate| {
            let gap = f64::from(self.plan.threads) / rate;
            Duration::try_from_secs_f64(gap).unwrap_or(Duration::MAX)
        });
        for worker in &self.workers {
            worker.send(WorkerCommand::Open(gap))?;
        }
        let mut failed = Ok(());
        for worker in &self.workers {
            match worker.answer() {
                Ok(_) => {}
                Err(BenchError::Dial(_)) if self.is_opened => {}
                // The answers of the other threads are taken too, so that none is taken for that of a later command.
                Err(error) => failed = failed.and(Err(error)),
            }
        }
        failed
    }

    fn spawn_worker(
        &self,
        number: u32,
        endpoint: &Endpoint,
        layers: &[Arc<dyn ClientLayer>],
    ) -> Result<WorkerHandle, BenchError> {
        let plan = &self.plan;
        let is_datagrams = endpoint.shape() == Some(Shape::Datagrams);
        let stream_framing = |framing| (!is_datagrams).then_some(framing);
        let shared = Shared {
            endpoint: endpoint.clone(),
            dialling: dialling(plan, layers),
            workload: PreparedWorkload::new(
                &plan.workload,
                &plan.expect,
                stream_framing(plan.frames.outbound),
                plan.seed,
            ),
            pipeline: plan.pipeline.max(1) as usize,
            churn: plan.churn,
            timeout: nanos(plan.timeout),
            connections: plan.connections.into(),
        };
        let numbers = (number..plan.connections).step_by(plan.threads as usize);
        let live = Arc::new(Live::default());
        let (commands, command_receiver) = sync_channel(1);
        let (answer, answers) = sync_channel(1);
        let (inbound, spin, thread_live) = (
            stream_framing(plan.frames.inbound),
            plan.spin,
            Arc::clone(&live),
        );
        let stop = self.stop.clone();
        thread::Builder::new()
            .name(format!("bench-{number}"))
            .spawn(move || {
                let built = build_worker(shared, numbers, inbound, spin, thread_live);
                run_worker(built, &stop, &command_receiver, &answer);
            })?;
        Ok(WorkerHandle {
            commands,
            answers,
            live,
        })
    }

    fn figures(&self, run: &Run, clock: &Clock, results: Vec<WorkerResult>) -> Figures {
        let from = results
            .iter()
            .map(|result| result.from_ns)
            .min()
            .unwrap_or(0);
        let closed = results
            .iter()
            .map(|result| result.until_ns)
            .max()
            .unwrap_or(0);
        let process = results.iter().map(|result| result.process).max();
        let busy = results.iter().map(|result| {
            let window = result.until_ns.saturating_sub(result.from_ns).max(1);
            nanos(result.cpu).saturating_sub(result.spun_ns) as f64 / window as f64
        });
        let busy = busy.fold(0.0, f64::max);
        let stall = stall::common(results.iter().map(|result| result.stall_ns), from, closed);
        let standstill = stall::standstill(results.iter().map(|result| result.standstill_ns), from);
        let mut tally = Tally::new(from, 0);
        for result in results {
            tally.merge(result.tally);
        }
        // A run with a request count lasts until its last reply.
        let until = match run.length {
            Length::Count(_) => tally.last.max(from),
            Length::For(_) => closed,
        };
        let seconds = until.saturating_sub(from) as f64 / 1e9;
        let cpu_seconds = closed.saturating_sub(from).max(1) as f64 / 1e9;
        let is_datagrams = self.plan.endpoint.shape() == Some(Shape::Datagrams);
        Figures {
            opened: clock.system(from),
            seconds,
            rate: match &run.load {
                Load::Closed => None,
                Load::Open { rate, .. } => Some(*rate),
                Load::Recorded(times) => Some(times.len() as f64 / seconds.max(1e-9)),
            },
            asked: tally.asked,
            sent: tally.sent,
            ok: tally.ok,
            wrong: tally.wrong,
            late: tally.late,
            lost: tally.lost,
            unsent: tally.unsent,
            done: tally.done,
            failures: tally.failures,
            handshakes: self.plan.tls.is_some().then_some(tally.handshakes),
            bytes_sent: tally.bytes_sent,
            bytes_received: tally.bytes_received,
            due: tally.due,
            service: tally.service,
            series: tally.seconds,
            stall,
            outcomes: is_datagrams.then_some(tally.outcomes),
            samples: tally.samples,
            generator: GeneratorStats {
                lag: tally.lag,
                standstill,
                cpu: process.unwrap_or_default().as_secs_f64() / cpu_seconds,
                busy,
                cores: thread::available_parallelism().map_or(1, usize::from),
                threads: self.plan.threads as usize,
                floor: None,
            },
        }
    }
}

impl WorkerHandle {
    fn send(&self, command: WorkerCommand) -> Result<(), BenchError> {
        self.commands.send(command).map_err(|_| worker_died())
    }

    fn answer(&self) -> Result<Option<WorkerResult>, BenchError> {
        self.answers.recv().unwrap_or_else(|_| Err(worker_died()))
    }
}

fn worker_died() -> BenchError {
    io::Error::other("a load generator thread died").into()
}

type BuiltWorker = io::Result<(runtime::Runtime, Worker)>;

fn build_worker(
    shared: Shared,
    numbers: impl Iterator<Item = u32>,
    framing: Option<Framing>,
    spin: bool,
    live: Arc<Live>,
) -> BuiltWorker {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let entered = runtime.enter();
    let worker = Worker::new(shared, numbers, framing, spin, live)?;
    drop(entered);
    Ok((runtime, worker))
}

/// Executes commands until the sender is dropped.
fn run_worker(
    built: BuiltWorker,
    stop: &StopHandle,
    commands: &Receiver<WorkerCommand>,
    answers: &SyncSender<Result<Option<WorkerResult>, BenchError>>,
) {
    let (runtime, mut worker) = match built {
        Ok(built) => built,
        Err(error) => {
            let _ = answers.send(Err(error.into()));
            return;
        }
    };
    while let Ok(command) = commands.recv() {
        let stop = stop.clone();
        // A spawned task, because waking it costs no system call; outside the cooperative budget, because a thousand
        // connections share one task here.
        let done = runtime.block_on(runtime.spawn(unconstrained(async move {
            let done = match command {
                WorkerCommand::Open(gap) => worker.open(gap, &stop).await.map(|()| None),
                WorkerCommand::Run(config) => run(&mut worker, *config)
                    .await
                    .map(Some)
                    .map_err(Into::into),
            };
            (worker, done)
        })));
        let Ok((back, done)) = done else {
            return;
        };
        worker = back;
        if answers.send(done).is_err() {
            return;
        }
    }
}

/// Returns the layers over each connection: TLS for the host that the plan names, whatever its address.
fn layers(plan: &Plan) -> Result<Vec<Arc<dyn ClientLayer>>, BenchError> {
    let (Endpoint::Tls(at), Some(options)) = (&plan.endpoint, &plan.tls) else {
        return Ok(Vec::new());
    };
    let layer = TlsClient::new(at, options).map_err(io::Error::other)?;
    Ok(vec![Arc::new(layer)])
}

fn dialling(plan: &Plan, layers: &[Arc<dyn ClientLayer>]) -> DialOptions {
    DialOptions {
        timeout: plan.connect_within,
        handshake_timeout: plan.connect_within,
        layers: layers.to_vec(),
        ..DialOptions::default()
    }
}

/// Resolves the target to the address that accepts a connection, so that a name is resolved once and all connections go
/// to the same address.
fn resolve_target(
    plan: &Plan,
    layers: &[Arc<dyn ClientLayer>],
    stop: &StopHandle,
) -> Result<Endpoint, BenchError> {
    let options = dialling(plan, layers);
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let dialling = stop.unless_stopped(dial(&plan.endpoint, &options));
    let dialled = runtime.block_on(dialling)??;
    let endpoint = match (&plan.endpoint, dialled.peer) {
        (Endpoint::Tcp(_), Address::Net(addr)) => Endpoint::Tcp(addr.into()),
        (Endpoint::Udp(_), Address::Net(addr)) => Endpoint::Udp(addr.into()),
        (Endpoint::Tls(_), Address::Net(addr)) => Endpoint::Tls(addr.into()),
        (endpoint, _) => endpoint.clone(),
    };
    Ok(endpoint)
}
