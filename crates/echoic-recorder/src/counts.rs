//! Counts of committed events by endpoint, for metrics.
//!
//! They are made from the batches at their commit, on the recorder's task: a conversation pays nothing for them. Without a
//! reader nothing is counted ([`Recorder::count`](crate::Recorder::count)).

use std::{collections::HashMap, sync::Arc};

use echoic_core::{
    ending::CloseReason,
    event::{Batch, ConversationId, EndpointInfo, Event, Outcome, RunEvent},
};
use foldhash::fast::RandomState;

/// Upper bounds of the latencies that [`EndpointCounts::latencies`] counts, in nanoseconds: 10 µs to 10 s.
pub const LATENCY_BOUNDS_NS: [u64; 19] = [
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// Most endpoints that are counted apart: metrics must have few labels. Conversations of more endpoints count as those
/// without one.
const ENDPOINTS_MAX: usize = 256;

/// Counts of the committed events of one endpoint, since counting began. Endpoints with the same name and service count as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointCounts {
    /// The endpoint; `None` for conversations whose opening was not counted.
    pub endpoint_info: Option<Arc<EndpointInfo>>,
    /// Exchanges by outcome, as far as it was known when they were recorded.
    pub exchanges: [(Outcome, u64); 5],
    /// Bytes of messages received by our socket.
    pub received: u64,
    /// Bytes of messages for the peer.
    pub sent: u64,
    /// Conversations opened.
    pub opened: u64,
    /// Conversations ended, by the class of their close reason.
    pub ended: Vec<(&'static str, u64)>,
    /// Exchanges by latency: one more than [`LATENCY_BOUNDS_NS`], for those beyond the last bound.
    pub latencies: [u64; LATENCY_BOUNDS_NS.len() + 1],
    /// Sum of all latencies.
    pub latency_sum_ns: u64,
}

/// Counts by endpoint, and the endpoint of each open conversation.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    endpoints: Vec<EndpointCounts>,
    /// Position in `endpoints`. Bounded by the number of open conversations.
    conversations: HashMap<ConversationId, u16, RandomState>,
}

impl EndpointCounts {
    fn new(endpoint_info: Option<Arc<EndpointInfo>>) -> Self {
        let outcomes = [
            Outcome::Ok,
            Outcome::Unanswered,
            Outcome::Withheld,
            Outcome::Unsent,
            Outcome::Unpaired,
        ];
        Self {
            endpoint_info,
            exchanges: outcomes.map(|outcome| (outcome, 0)),
            received: 0,
            sent: 0,
            opened: 0,
            ended: Vec::new(),
            latencies: [0; LATENCY_BOUNDS_NS.len() + 1],
            latency_sum_ns: 0,
        }
    }

    fn add_run(&mut self, run: &RunEvent) {
        let count = u64::from(run.count);
        for (outcome, exchanges) in &mut self.exchanges {
            if *outcome == run.outcome {
                *exchanges += count;
            }
        }
        let bucket = LATENCY_BOUNDS_NS.partition_point(|bound| *bound < run.latency_ns);
        self.latencies[bucket] += count;
        let sum = run.latency_ns.saturating_mul(count);
        self.latency_sum_ns = self.latency_sum_ns.saturating_add(sum);
        let (requests, replies) = (run.request.len() as u64, run.reply.len() as u64);
        // Only the record of a client has no service.
        let info = self.endpoint_info.as_ref();
        let (received, sent) = if info.is_some_and(|info| info.service.is_empty()) {
            (replies, requests)
        } else {
            (requests, replies)
        };
        self.received += received;
        self.sent += sent;
    }

    fn add_ended(&mut self, reason: CloseReason) {
        let class = reason.class();
        match self.ended.iter_mut().find(|(known, _)| *known == class) {
            Some((_, count)) => *count += 1,
            None => self.ended.push((class, 1)),
        }
    }
}

impl Counts {
    pub(crate) fn endpoints(&self) -> &[EndpointCounts] {
        &self.endpoints
    }

    /// Counts the events of a committed batch.
    pub(crate) fn add(&mut self, batch: &Batch) {
        for event in &batch.events {
            match event {
                Event::Opened(opened) => {
                    let at = self.endpoint(Some(&opened.endpoint_info));
                    self.endpoints[at].opened += 1;
                    self.conversations.insert(opened.conversation, at as u16);
                }
                Event::Run(run) => {
                    let known = self.conversations.get(&run.conversation);
                    let at = match known {
                        Some(at) => usize::from(*at),
                        None => self.endpoint(None),
                    };
                    self.endpoints[at].add_run(run);
                }
                Event::Ended(ended) => {
                    let at = match self.conversations.remove(&ended.conversation) {
                        Some(at) => usize::from(at),
                        None => self.endpoint(None),
                    };
                    self.endpoints[at].add_ended(ended.ending.reason);
                }
                Event::Mark(_) => {}
            }
        }
    }

    fn endpoint(&mut self, info: Option<&Arc<EndpointInfo>>) -> usize {
        let info = info.filter(|_| self.endpoints.len() < ENDPOINTS_MAX);
        // Labels of metrics: two endpoints with the same names would be two values of one metric.
        let names = info.map(|info| (&info.name, &info.service));
        let known = self.endpoints.iter().position(|counts| {
            let known = counts.endpoint_info.as_deref();
            let known = known.map(|info| (&info.name, &info.service));
            known == names
        });
        known.unwrap_or_else(|| {
            self.endpoints.push(EndpointCounts::new(info.cloned()));
            self.endpoints.len() - 1
        })
    }
}
