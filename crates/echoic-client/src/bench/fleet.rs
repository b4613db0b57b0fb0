//! All threads of a plan: opened together, run together, added up.

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
    endpoint::{Endpoint, Host, HostPort, Shape},
    event::Address,
    framing::Framing,
};
use echoic_wire::{DialError, DialOptions, dial};
use thiserror::Error;
use tokio::{runtime, task::unconstrained};

use super::{
    clock::{Clock, nanos},
    connection::Shared,
    figures::{Figures, Generator},
    live::{Live, Progress},
    plan::{Length, Load, Plan, Run},
    schedule::Schedule,
    tally::Tally,
    turn::{Order, Part, run},
    worker::Worker,
    workload::Script,
};

/// Threads begin together, so long after they were told to.
const HEAD_START: Duration = Duration::from_millis(5);

/// Why there are no figures.
#[derive(Debug, Error)]
pub enum BenchError {
    /// The target was not reached in the first place.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The system would not have it.
    #[error("cannot run the load: {0}")]
    System(#[from] io::Error),
}

/// All threads of a plan, with their connections. Dropped, it closes them.
#[derive(Debug)]
pub struct Fleet {
    crews: Vec<Crew>,
    stop: Arc<AtomicBool>,
    plan: Plan,
}

/// One thread from outside.
#[derive(Debug)]
struct Crew {
    orders: SyncSender<Call>,
    answers: Receiver<Result<Option<Part>, BenchError>>,
    live: Arc<Live>,
}

#[derive(Debug)]
enum Call {
    Open(Duration),
    Run(Box<Order>),
}

/// Stops the run under way, from wherever.
#[derive(Clone, Debug)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Nothing more is asked; what is out is waited for.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was.
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Looks on at a run.
#[derive(Clone, Debug)]
pub struct Watch(Vec<Arc<Live>>);

impl Watch {
    /// How far it has come.
    pub fn progress(&self) -> Progress {
        let told = self.0.iter().map(|live| live.progress());
        told.reduce(Progress::and).unwrap_or_default()
    }
}

impl Fleet {
    /// Calls the target once, starts the threads and opens all connections.
    pub fn open(plan: &Plan) -> Result<Self, BenchError> {
        let threads = plan.threads.clamp(1, plan.connections.max(1));
        let endpoint = first_call(plan)?;
        let mut fleet = Self {
            crews: Vec::new(),
            stop: Arc::new(AtomicBool::new(false)),
            plan: Plan {
                threads,
                ..plan.clone()
            },
        };
        for number in 0..threads {
            fleet.crews.push(fleet.hire(number, &endpoint)?);
        }
        fleet.reopen()?;
        Ok(fleet)
    }

    /// What stops its runs.
    pub fn stop(&self) -> Stop {
        Stop(Arc::clone(&self.stop))
    }

    /// What looks on at its runs.
    pub fn watch(&self) -> Watch {
        Watch(
            self.crews
                .iter()
                .map(|crew| Arc::clone(&crew.live))
                .collect(),
        )
    }

    /// Runs once. Connections that were lost in the run before are opened again first.
    pub fn run(&mut self, run: &Run) -> Result<Figures, BenchError> {
        self.reopen()?;
        let clock = Clock::starting(HEAD_START);
        let from = nanos(run.warmup);
        let (until, count) = match run.length {
            Length::For(time) => (from.saturating_add(nanos(time)), None),
            Length::Count(count) => (u64::MAX, Some(count)),
        };
        let threads = self.plan.threads;
        for (number, crew) in (0..threads).zip(&self.crews) {
            let share = |count: u64| {
                let (each, rest) = (count / u64::from(threads), count % u64::from(threads));
                each + u64::from(u64::from(number) < rest)
            };
            let order = Order {
                clock,
                schedule: Schedule::new(&run.load, self.plan.seed, number, threads),
                from,
                until,
                count: count.map(share),
                drain_timeout: nanos(self.plan.drain_timeout),
                stop: Arc::clone(&self.stop),
            };
            crew.send(Call::Run(Box::new(order)))?;
        }
        let mut parts = Vec::new();
        for crew in &self.crews {
            parts.extend(crew.answer()?);
        }
        Ok(self.figures(run, &clock, parts))
    }

    fn reopen(&self) -> Result<(), BenchError> {
        let gap = self.plan.connects_per_s.map_or(Duration::ZERO, |rate| {
            let gap = f64::from(self.plan.threads) / rate;
            Duration::try_from_secs_f64(gap).unwrap_or(Duration::MAX)
        });
        for crew in &self.crews {
            crew.send(Call::Open(gap))?;
        }
        for crew in &self.crews {
            crew.answer()?;
        }
        Ok(())
    }

    fn hire(&self, number: u32, endpoint: &Endpoint) -> Result<Crew, BenchError> {
        let plan = &self.plan;
        let is_datagrams = endpoint.shape() == Some(Shape::Datagrams);
        let framed = |framing| (!is_datagrams).then_some(framing);
        let shared = Shared {
            endpoint: endpoint.clone(),
            dialling: DialOptions {
                timeout: plan.connect_within,
                ..DialOptions::default()
            },
            script: Script::new(
                &plan.workload,
                &plan.expect,
                framed(plan.frames.outbound),
                plan.seed,
            ),
            pipeline: plan.pipeline.max(1) as usize,
            churn: plan.churn,
            timeout: nanos(plan.timeout),
            connections: plan.connections.into(),
        };
        let numbers = (number..plan.connections).step_by(plan.threads as usize);
        let live = Arc::new(Live::default());
        let (orders, hear_orders) = sync_channel(1);
        let (answer, answers) = sync_channel(1);
        let (heard, spin, told) = (framed(plan.frames.inbound), plan.spin, Arc::clone(&live));
        thread::Builder::new()
            .name(format!("bench-{number}"))
            .spawn(move || {
                let hired = hire(shared, numbers, heard, spin, told);
                work(hired, &hear_orders, &answer);
            })?;
        Ok(Crew {
            orders,
            answers,
            live,
        })
    }

    fn figures(&self, run: &Run, clock: &Clock, parts: Vec<Part>) -> Figures {
        let from = parts.iter().map(|part| part.from).min().unwrap_or(0);
        let closed = parts.iter().map(|part| part.until).max().unwrap_or(0);
        let process = parts
            .iter()
            .map(|part| part.process)
            .max()
            .unwrap_or_default();
        let busy = parts.iter().map(|part| {
            let window = part.until.saturating_sub(part.from).max(1);
            nanos(part.cpu).saturating_sub(part.spun) as f64 / window as f64
        });
        let busy = busy.fold(0.0, f64::max);
        let mut tally = Tally::new(from, 0);
        for part in parts {
            tally.add(part.tally);
        }
        // A counted run lasts until its last reply.
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
            bytes_sent: tally.bytes_sent,
            bytes_heard: tally.bytes_heard,
            due: tally.due,
            service: tally.service,
            series: tally.seconds,
            outcomes: is_datagrams.then_some(tally.outcomes),
            samples: tally.samples,
            generator: Generator {
                lag: tally.lag,
                cpu: process.as_secs_f64() / cpu_seconds,
                busy,
                cores: thread::available_parallelism().map_or(1, usize::from),
                threads: self.plan.threads as usize,
                floor: None,
            },
        }
    }
}

impl Crew {
    fn send(&self, call: Call) -> Result<(), BenchError> {
        self.orders.send(call).map_err(|_| gone())
    }

    fn answer(&self) -> Result<Option<Part>, BenchError> {
        self.answers.recv().unwrap_or_else(|_| Err(gone()))
    }
}

fn gone() -> BenchError {
    io::Error::other("a thread of the load has died").into()
}

type Hired = io::Result<(runtime::Runtime, Worker)>;

fn hire(
    shared: Shared,
    numbers: impl Iterator<Item = u32>,
    framing: Option<Framing>,
    spin: bool,
    live: Arc<Live>,
) -> Hired {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let entered = runtime.enter();
    let worker = Worker::new(shared, numbers, framing, spin, live)?;
    drop(entered);
    Ok((runtime, worker))
}

/// Does one call after the other until nobody calls any more.
fn work(
    hired: Hired,
    calls: &Receiver<Call>,
    answers: &SyncSender<Result<Option<Part>, BenchError>>,
) {
    let (runtime, mut worker) = match hired {
        Ok(hired) => hired,
        Err(error) => {
            let _ = answers.send(Err(error.into()));
            return;
        }
    };
    while let Ok(call) = calls.recv() {
        // A task of its own, since waking that costs no system call; without the runtime's budget, since a thousand
        // connections are one task here.
        let done = runtime.block_on(runtime.spawn(unconstrained(async move {
            let done = match call {
                Call::Open(gap) => worker.open(gap).await.map(|()| None).map_err(Into::into),
                Call::Run(order) => run(&mut worker, *order).await.map(Some).map_err(Into::into),
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

/// The address that answers, so that a name is looked up once and every connection goes to the same place.
fn first_call(plan: &Plan) -> Result<Endpoint, BenchError> {
    let options = DialOptions {
        timeout: plan.connect_within,
        ..DialOptions::default()
    };
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let dialled = runtime.block_on(dial(&plan.endpoint, &options))?;
    let endpoint = match (&plan.endpoint, dialled.peer) {
        (Endpoint::Tcp(_), Address::Net(addr)) => Endpoint::Tcp(HostPort {
            host: Host::Ip(addr.ip()),
            port: addr.port(),
        }),
        (Endpoint::Udp(_), Address::Net(addr)) => Endpoint::Udp(HostPort {
            host: Host::Ip(addr.ip()),
            port: addr.port(),
        }),
        (endpoint, _) => endpoint.clone(),
    };
    Ok(endpoint)
}
