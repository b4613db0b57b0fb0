//! One world from its beginning to its end: the whole server (accept, sessions, recorder, drain) on paused time and a
//! in-memory network, with its peers.

use std::ops::ControlFlow;
use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use echoic_core::{
    access::AccessList,
    endpoint::Shape,
    event::{Address, EndpointInfo, Protocol},
    message::{Replies, Run},
    service::{
        BoxFuture, Handler, InlineHandler, Peer, Reply, ReplySender, RequestReceiver, Service,
        ServiceError, SpawnedHandler,
    },
    store::Store,
};
use echoic_recorder::{Recorder, RecorderStatus};
use echoic_service::NamedService;
use echoic_wire::Listener;
use tokio::{
    runtime::{Builder, Handle},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    bug::{Bug, Planted},
    callers::Callers,
    chance::Chance,
    check::check,
    model::GREETING,
    net::Wire,
    peer::{self, Account},
    plan::{Plan, Serving},
    steps::Steps,
    store::Keeper,
    tls::{self, Ends},
};
use crate::{Drained, Server, server::BoundListener};

/// The results of a world.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) steps: Steps,
    /// One connection per peer, and the report of each peer that is our client.
    pub(super) wires: Vec<Wire>,
    /// Their ends above TLS, in a world over TLS.
    pub(super) tls: Option<Arc<Ends>>,
    pub(super) accounts: Vec<Option<Account>>,
    pub(super) keeper: Arc<Keeper>,
    pub(super) stopped: Instant,
    pub(super) drained_at: Instant,
    pub(super) drained: Drained,
    pub(super) status: RecorderStatus,
    /// Whether the recorder closed before its deadline.
    pub(super) closed_in_time: bool,
}

/// A world in which a check failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) what: String,
    pub(super) story: Vec<String>,
}

/// A summary of a world, to compare runs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) steps: u64,
    pub(super) served: u64,
    pub(super) lost: u64,
    pub(super) reasons: Vec<&'static str>,
}

/// A time longer than any world needs.
pub(super) const FOR_EVER: Duration = Duration::from_hours(24);

/// Deadline for closing the recorder.
pub(super) const CLOSE_WITHIN: Duration = Duration::from_secs(30);

/// Simulates the world of `seed`, with the planted `bug` if any, and checks it.
pub(super) fn simulate(seed: u64, bug: Option<Bug>, has_story: bool) -> Result<Sum, Failure> {
    let planted = Planted::new(bug);
    attempt(
        has_story,
        |steps| live(seed, Plan::draw(seed), None, planted, steps),
        check,
    )
}

/// The same over TLS.
pub(super) fn simulate_over_tls(
    seed: u64,
    bug: Option<Bug>,
    has_story: bool,
) -> Result<Sum, Failure> {
    let planted = Planted::new(bug);
    let plan = tls::plan(seed);
    attempt(
        has_story,
        |steps| {
            let ends = Ends::new(plan.peers.len(), steps.clone());
            live(seed, plan, Some(ends), planted, steps)
        },
        check,
    )
}

/// Simulates a world on a runtime of its own, and checks it.
pub(super) fn attempt<W, F>(
    has_story: bool,
    live: impl FnOnce(Steps) -> F,
    check: impl FnOnce(&W) -> Result<Sum, String>,
) -> Result<Sum, Failure>
where
    F: Future<Output = Result<W, String>>,
{
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let steps = runtime.block_on(async { Steps::new(has_story) });
    let lived = catch_unwind(AssertUnwindSafe(|| {
        let world = runtime.block_on(live(steps.clone()))?;
        check(&world)
    }));
    drop(runtime);
    let what = match lived {
        Ok(Ok(sum)) => return Ok(sum),
        Ok(Err(what)) => what,
        Err(panic) => panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default(),
    };
    Err(Failure {
        what,
        story: steps.story(),
    })
}

async fn live(
    seed: u64,
    plan: Plan,
    tls: Option<Arc<Ends>>,
    planted: Planted,
    steps: Steps,
) -> Result<World, String> {
    let began = Instant::now();
    let keeper = Keeper::new(steps.clone());
    let store = planted.in_store(Arc::clone(&keeper) as Arc<dyn Store>);
    let (recorder, task) = Recorder::new(Some(store), plan.keeping.options)
        .await
        .map_err(|error| error.to_string())?;
    let recording = tokio::spawn(task.run());
    let callers = Callers::new(plan.limits.connections_max, planted.clone());
    let server = serve(&plan, tls.as_ref(), &planted, &callers, &recorder);
    let mut chance = Chance::new(!seed);
    let wires: Vec<Wire> = plan
        .peers
        .iter()
        .map(|peer| Wire::new(peer.weather.clone(), chance.fork(), steps.clone()))
        .collect();
    let peers = call(&plan, tls.as_ref(), &wires, &callers, began);
    let weather = tokio::spawn(weather(
        plan.clone(),
        Arc::clone(&keeper),
        callers.clone(),
        began,
    ));

    let stop_at = began + plan.stop_at;
    let stop = async {
        sleep_until(stop_at).await;
        steps.log(|| "the server is stopping".to_owned());
        planted.stop();
        callers.note_stop();
        wires.iter().for_each(Wire::note_stop);
    };
    let drained = timeout(FOR_EVER, server.run(stop)).await;
    let drained = drained.map_err(|_| "the server never stopped".to_owned())?;
    let drained_at = Instant::now();
    let _ = weather.await;
    let closing = Instant::now();
    recorder.close(recording, CLOSE_WITHIN).await;
    let closed_in_time = closing.elapsed() < CLOSE_WITHIN;

    // Slow readers get the time to read everything.
    sleep(FOR_EVER).await;
    let mut accounts = Vec::new();
    for (peer, plan) in peers.into_iter().zip(&plan.peers) {
        if plan.is_client && !peer.is_finished() {
            return Err("the client never ended".to_owned());
        }
        peer.abort();
        accounts.push(peer.await.ok().flatten());
    }
    Ok(World {
        status: recorder.status(),
        plan,
        steps,
        wires,
        tls,
        accounts,
        keeper,
        stopped: stop_at,
        drained_at,
        drained,
        closed_in_time,
    })
}

fn serve(
    plan: &Plan,
    tls: Option<&Arc<Ends>>,
    planted: &Planted,
    callers: &Callers,
    recorder: &Recorder,
) -> Server {
    let here = address(5000);
    let workers = vec![Handle::current(); plan.keeping.options.shards];
    let mut server = Server::new(recorder.clone(), plan.limits.clone()).on_workers(workers);
    let service: Arc<dyn Service> = match plan.serving {
        Serving::Echo => named("echo"),
        Serving::Upper => named("upper"),
        Serving::Discard => named("discard"),
        Serving::Greet => Arc::new(Greeting),
        Serving::Spawned(most_ms) => Arc::new(Beside {
            most_ms,
            pairs_wrongly: planted.bug() == Some(Bug::PairingOffByOne),
        }),
    };
    let endpoint_info = EndpointInfo {
        name: "tcp:5000".to_owned(),
        proto: Protocol::Tcp,
        service: service.name().to_owned(),
        framing: plan.framing.into(),
    };
    let endpoint = server.add_endpoint(
        std::slice::from_ref(&here),
        Arc::new(endpoint_info),
        &service,
    );
    server.listeners.push(BoundListener {
        listener: Listener::from_source(Box::new(callers.listener()), here),
        endpoint,
        service: planted.in_service(service),
        limits: Arc::new(planted.in_limits(plan.limits.clone())),
        access: Arc::new(AccessList::default()),
        layers: tls.map_or_else(|| Arc::new([]) as Arc<_>, Ends::layers),
    });
    server
}

fn call(
    plan: &Plan,
    tls: Option<&Arc<Ends>>,
    wires: &[Wire],
    callers: &Callers,
    began: Instant,
) -> Vec<JoinHandle<Option<Account>>> {
    let peers = plan.peers.iter().zip(wires).zip(0..);
    peers
        .map(|((peer, wire), i)| {
            let from = address(port(i));
            let (peer, callers, wire) = (peer.clone(), callers.clone(), wire.clone());
            match tls.cloned() {
                Some(tls) => tokio::spawn(tls.live(i.into(), peer, callers, wire, from, began)),
                None => tokio::spawn(peer::live(peer, callers, wire, from, began)),
            }
        })
        .collect()
}

async fn weather(plan: Plan, keeper: Arc<Keeper>, callers: Callers, began: Instant) {
    let moods = plan.keeping.moods.iter();
    let moods = moods.map(|(at, mood)| (*at, Some(*mood), 0));
    let failures = plan.failures.iter().map(|(at, times)| (*at, None, *times));
    let mut all: Vec<_> = moods.chain(failures).collect();
    all.sort_by_key(|(at, ..)| *at);
    for (at, mood, failures) in all {
        sleep_until(began + at).await;
        match mood {
            Some(mood) => keeper.inner.set(mood),
            None => callers.fail(failures),
        }
    }
}

/// The source port of the peer with this number.
pub(super) fn port(number: u16) -> u16 {
    40_000 + number
}

pub(super) fn address(port: u16) -> Address {
    Address::Net(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

pub(super) fn named(name: &str) -> Arc<dyn Service> {
    let parsed = name.parse::<NamedService>();
    parsed.expect("invariant: a service").0
}

#[derive(Debug)]
pub(super) struct Greeting;

impl Service for Greeting {
    fn name(&self) -> &'static str {
        "greeting"
    }

    fn handler(&self, _: &Peer) -> Handler {
        Handler::Inline(Box::new(Self))
    }
}

impl InlineHandler for Greeting {
    fn open(&mut self, out: &mut Replies) -> ControlFlow<()> {
        out.push(GREETING);
        ControlFlow::Break(())
    }

    fn answer(&mut self, _: &Run<'_>, _: &mut Replies) -> ControlFlow<()> {
        ControlFlow::Break(())
    }
}

/// A spawned handler that echoes one or more requests by one reply, with lengths or without.
#[derive(Debug)]
struct Beside {
    most_ms: usize,
    pairs_wrongly: bool,
}

impl Service for Beside {
    fn name(&self) -> &'static str {
        "beside"
    }

    fn handler(&self, peer: &Peer) -> Handler {
        debug_assert_eq!(peer.shape, Shape::Stream);
        Handler::Spawned(Box::new(Answering {
            most_ms: self.most_ms,
            pairs_wrongly: self.pairs_wrongly,
            chance: Chance::new(peer.conversation),
        }))
    }
}

struct Answering {
    most_ms: usize,
    pairs_wrongly: bool,
    chance: Chance,
}

impl Answering {
    /// A reply to these requests.
    fn reply(&mut self, requests: &[Vec<u8>]) -> Reply {
        let mut lengths: Vec<u32> = requests.iter().map(|raw| raw.len() as u32).collect();
        if self.pairs_wrongly
            && let [first, second, ..] = &mut lengths[..]
        {
            (*first, *second) = (0, *first + *second);
        }
        Reply::Bytes {
            bytes: requests.concat(),
            lengths: self.chance.once_in(2).then_some(lengths),
        }
    }
}

impl SpawnedHandler for Answering {
    fn run(
        mut self: Box<Self>,
        mut requests: RequestReceiver,
        mut replies: ReplySender,
    ) -> BoxFuture<'static, Result<(), ServiceError>> {
        Box::pin(async move {
            while let Some(run) = requests.recv().await? {
                let raw: Vec<_> = run.as_run().messages().map(|m| m.raw.to_vec()).collect();
                let mut left = &raw[..];
                while !left.is_empty() {
                    let now = if self.chance.once_in(3) {
                        left.len()
                    } else {
                        1
                    };
                    let (answered, rest) = left.split_at(now);
                    left = rest;
                    sleep(self.chance.ms(0..=self.most_ms)).await;
                    replies.send(self.reply(answered)).await?;
                }
            }
            Ok(())
        })
    }
}
