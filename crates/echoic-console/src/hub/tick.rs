//! The tick: the figures of the last second.

use std::sync::Arc;

use echoic_core::{
    control::{EndpointState, EndpointStatus, ServerCounts},
    event::{EndpointInfo, Micros},
    store::Stats,
};
use echoic_recorder::{Failure, RecorderStatus, wall_clock_now};
use serde::Serialize;

use super::{
    live::Live,
    message,
    queue::Message,
    second::{Client, OfEndpoint, busiest},
};

#[derive(Serialize)]
struct Tick<'a> {
    t_us: Micros,
    /// Another process records: what only its recorder counts is null.
    beside: bool,
    exchanges: u64,
    received: u64,
    sent: u64,
    p50_ns: Option<u64>,
    p99_ns: Option<u64>,
    max_ns: Option<u64>,
    open: u64,
    served: Option<u64>,
    /// Beside a server, the exchanges in the record.
    recorded: u64,
    waiting: Option<u64>,
    lost: Option<u64>,
    failing: Option<Failing<'a>>,
    behind_us: Option<i64>,
    bytes: u64,
    endpoints: Vec<Endpoint<'a>>,
    clients: Vec<Client>,
}

#[derive(Serialize)]
struct Failing<'a> {
    since_us: Micros,
    why: &'a str,
    exchanges: u64,
}

#[derive(Serialize)]
struct Endpoint<'a> {
    id: Option<u32>,
    ep: &'a str,
    svc: &'a str,
    exchanges: u64,
    opened: u64,
    ended: u64,
    open: u64,
    state: Option<EndpointState>,
}

/// Figures that others count.
#[derive(Debug)]
pub(super) struct Figures {
    /// Of the recorder, if this process has it.
    pub(super) recorder: Option<RecorderStatus>,
    /// Of the server, if this process runs it.
    pub(super) server: Option<(ServerCounts, Vec<EndpointStatus>)>,
    /// Of the store.
    pub(super) store: Stats,
}

/// Composes the tick, and begins the next second.
pub(super) fn tick(live: &mut Live, figures: &Figures) -> Message {
    let clients = busiest(live.take_clients());
    let status = figures.recorder.as_ref();
    let endpoints = figures.server.as_ref().map(|(_, endpoints)| &endpoints[..]);
    let second = &live.second;
    let tick = Tick {
        t_us: wall_clock_now(),
        beside: status.is_none(),
        exchanges: second.exchanges,
        received: second.received,
        sent: second.sent,
        p50_ns: second.latencies.quantile(0.5),
        p99_ns: second.latencies.quantile(0.99),
        max_ns: second.max_ns,
        open: match &figures.server {
            Some((counts, _)) => counts.open,
            None => live.open_count(),
        },
        served: status.map(|status| status.recorded + status.waiting + status.lost),
        recorded: status.map_or(figures.store.exchanges, |status| status.recorded),
        waiting: status.map(|status| status.waiting),
        lost: status.map(|status| status.lost),
        failing: status.and_then(|status| status.failure.as_ref().map(Failing::from)),
        behind_us: second.behind_us,
        bytes: figures.store.bytes,
        endpoints: list(endpoints.unwrap_or_default(), &second.endpoints),
        clients,
    };
    let message = message::replaceable("tick", &tick);
    live.second.restart();
    message
}

/// Joins the endpoints of the server with the counts of the second. Others are listed if they have conversations.
fn list<'a>(endpoints: &'a [EndpointStatus], counted: &'a [OfEndpoint]) -> Vec<Endpoint<'a>> {
    let is = |info: &Arc<EndpointInfo>| {
        let info = Arc::clone(info);
        move |counts: &&OfEndpoint| counts.info == info
    };
    let own = endpoints.iter().map(|status| {
        let counts = counted.iter().find(is(&status.info));
        Endpoint {
            id: Some(status.id),
            open: status.open,
            state: Some(status.state),
            ..Endpoint::new(&status.info, counts)
        }
    });
    let others = counted.iter().filter(|counts| {
        let is_own = endpoints.iter().any(|status| status.info == counts.info);
        !is_own && counts.exchanges + counts.opened + counts.ended + counts.open > 0
    });
    let others = others.map(|counts| Endpoint::new(&counts.info, Some(counts)));
    own.chain(others).collect()
}

impl<'a> Endpoint<'a> {
    fn new(info: &'a EndpointInfo, counts: Option<&OfEndpoint>) -> Self {
        let count = |of: fn(&OfEndpoint) -> u64| counts.map_or(0, of);
        Self {
            id: None,
            ep: &info.name,
            svc: &info.service,
            exchanges: count(|counts| counts.exchanges),
            opened: count(|counts| counts.opened),
            ended: count(|counts| counts.ended),
            open: count(|counts| counts.open),
            state: None,
        }
    }
}

impl<'a> From<&'a Failure> for Failing<'a> {
    fn from(failure: &'a Failure) -> Self {
        Self {
            since_us: failure.since,
            why: &failure.why,
            exchanges: failure.exchanges,
        }
    }
}
