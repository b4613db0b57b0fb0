//! One world of datagrams from its beginning to its end.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use echoic_core::{
    access::AccessList,
    event::{Address, EndpointInfo, Protocol},
    framing::FramingPair,
    service::Service,
    store::Store,
};
use echoic_recorder::{Recorder, RecorderStatus};
use echoic_wire::BoundDatagrams;
use tokio::{
    join,
    runtime::Handle,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    super::{
        bug::{Bug, Planted},
        chance::Chance,
        plan::Serving,
        steps::Steps,
        store::Keeper,
        world::{CLOSE_WITHIN, FOR_EVER, Failure, Greeting, Sum, address, attempt, named},
    },
    bug::in_socket,
    check::check,
    net::{Facts, Net},
    plan::{Act, From, PeerPlan, Plan},
};
use crate::{Drained, Server, datagrams::Rules, server::DatagramBinding};

/// The results of a world.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) steps: Steps,
    pub(super) facts: Facts,
    pub(super) keeper: Arc<Keeper>,
    pub(super) stopped: Instant,
    pub(super) drained_at: Instant,
    pub(super) drained: Drained,
    pub(super) status: RecorderStatus,
    pub(super) closed_in_time: bool,
}

/// The server's port.
const PORT: u16 = 5000;

/// A port that a name server sends from.
const NAME_SERVER: u16 = 53;

/// A denied network.
const DENIED: &str = "10.0.0.0/8";

pub(super) fn simulate(seed: u64, bug: Option<Bug>, has_story: bool) -> Result<Sum, Failure> {
    let planted = Planted::new(bug);
    attempt(
        has_story,
        |steps| live(seed, Plan::draw(seed), planted, steps),
        check,
    )
}

async fn live(seed: u64, plan: Plan, planted: Planted, steps: Steps) -> Result<World, String> {
    let began = Instant::now();
    let keeper = Keeper::new(steps.clone());
    let store = planted.in_store(Arc::clone(&keeper) as Arc<dyn Store>);
    let (recorder, task) = Recorder::new(Some(store), plan.keeping.options)
        .await
        .map_err(|error| error.to_string())?;
    let recording = tokio::spawn(task.run());
    let net = Net::new(plan.weather.clone(), Chance::new(!seed), steps.clone());
    let server = serve(&plan, &planted, &net, &recorder);
    let peers: Vec<_> = plan.peers.iter().zip(0..).collect();
    let peers = peers
        .into_iter()
        .map(|(peer, i)| tokio::spawn(live_as(peer.clone(), net.clone(), from(peer.from, i))));
    let peers: Vec<_> = peers.collect();
    let moods = plan.keeping.moods.clone();
    let store = Arc::clone(&keeper);
    let weather = tokio::spawn(async move {
        for (at, mood) in moods {
            sleep_until(began + at).await;
            store.inner.set(mood);
        }
    });

    let stop_at = began + plan.stop_at;
    let stop = async {
        sleep_until(stop_at).await;
        steps.log(|| "the server is stopping".to_owned());
        planted.stop();
        net.note_stop();
    };
    let drained = timeout(FOR_EVER, server.run(stop)).await;
    let drained = drained.map_err(|_| "the server never stopped".to_owned())?;
    let drained_at = Instant::now();
    let _ = weather.await;
    let closing = Instant::now();
    recorder.close(recording, CLOSE_WITHIN).await;
    let closed_in_time = closing.elapsed() < CLOSE_WITHIN;
    for peer in peers {
        peer.abort();
    }
    Ok(World {
        status: recorder.status(),
        facts: net.facts(),
        plan,
        steps,
        keeper,
        stopped: stop_at,
        drained_at,
        drained,
        closed_in_time,
    })
}

fn serve(plan: &Plan, planted: &Planted, net: &Net, recorder: &Recorder) -> Server {
    let here = address(PORT);
    let workers = vec![Handle::current(); plan.keeping.options.shards];
    let mut server = Server::new(recorder.clone(), plan.limits.clone()).on_workers(workers);
    let service: Arc<dyn Service> = match plan.serving {
        Serving::Upper => named("upper"),
        Serving::Discard => named("discard"),
        Serving::Greet => Arc::new(Greeting),
        _ => named("echo"),
    };
    let endpoint_info = EndpointInfo {
        name: "udp:5000".to_owned(),
        proto: Protocol::Udp,
        service: service.name().to_owned(),
        framing: FramingPair::default(),
    };
    let access = AccessList {
        deny: vec![DENIED.parse().expect("invariant: a network")],
        ..AccessList::default()
    };
    let endpoint = server.add_endpoint(
        std::slice::from_ref(&here),
        Arc::new(endpoint_info),
        &service,
    );
    let socket = in_socket(planted, Box::new(net.socket()));
    server.bindings.push(DatagramBinding {
        address: here.clone(),
        sockets: vec![BoundDatagrams::from_transport(socket, here)],
        rules: Arc::new(Rules {
            endpoint,
            service,
            limits: Arc::new(plan.limits.clone()),
            access: Arc::new(access),
            may_amplify: plan.may_amplify,
            idle_timeout: plan.gap,
        }),
    });
    server
}

/// Where the peer with this number sends from.
pub(super) fn from(from: From, number: u8) -> Address {
    let at = |ip: [u8; 4], port| Address::Net(SocketAddr::from((Ipv4Addr::from(ip), port)));
    match from {
        From::Somewhere => at([127, 0, 0, 1], 40_000 + u16::from(number)),
        From::Denied => at([10, 0, 0, number], 40_000),
        From::Nowhere => at([192, 0, 2, number], NAME_SERVER),
        From::Ourselves => address(PORT),
    }
}

async fn live_as(plan: PeerPlan, net: Net, from: Address) {
    let mut inbox = net.inbox(from.clone());
    let sending = async {
        for act in plan.acts {
            match act {
                Act::Send(bytes) => net.send_to_server(&from, &bytes),
                Act::Pause(pause) => sleep(pause).await,
            }
        }
    };
    let receiving = async {
        while let Some(bytes) = inbox.recv().await {
            if plan.echoes {
                // A short delay as of a real program, so that time goes on.
                sleep(Duration::from_millis(1)).await;
                net.send_to_server(&from, &bytes);
            }
        }
    };
    join!(sending, receiving);
}
