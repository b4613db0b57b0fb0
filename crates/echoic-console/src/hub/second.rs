//! Counts of the last second, for the tick.

use std::sync::Arc;

use echoic_core::{
    event::{ConversationId, EndpointInfo, Micros, Role},
    exchange::Conversation,
    store::Latencies,
};
use serde::Serialize;

/// Most clients in a tick: the busiest.
const CLIENTS_MAX: usize = 8;

/// Most endpoints that are counted apart. Counts of others are in the totals.
const ENDPOINTS_MAX: usize = 256;

/// Counts since the last tick.
#[derive(Debug, Default)]
pub(super) struct Second {
    pub(super) exchanges: u64,
    /// Bytes of messages received and sent by our sockets.
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) max_ns: Option<u64>,
    /// Longest time from an exchange to its commit.
    pub(super) behind_us: Option<i64>,
    /// With an error of at most 1/32.
    pub(super) latencies: Latencies,
    pub(super) endpoints: Vec<OfEndpoint>,
    /// Conversations that had an exchange.
    pub(super) busy: Vec<ConversationId>,
    /// Those of them that have ended.
    pub(super) gone: Vec<Client>,
}

/// Counts of an endpoint.
#[derive(Debug)]
pub(super) struct OfEndpoint {
    pub(super) info: Arc<EndpointInfo>,
    pub(super) exchanges: u64,
    pub(super) opened: u64,
    pub(super) ended: u64,
    /// Conversations known to be open.
    pub(super) open: u64,
}

/// A conversation that had exchanges.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Client {
    conv: ConversationId,
    ep: String,
    peer: String,
    exchanges: u64,
    state: &'static str,
}

/// Exchanges with one latency.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    pub(super) exchanges: u64,
    pub(super) request_bytes: u64,
    pub(super) reply_bytes: u64,
    pub(super) latency_ns: u64,
}

impl Second {
    pub(super) fn add(&mut self, counted: Counted, role: Role, endpoint: usize) {
        self.exchanges += counted.exchanges;
        let (received, sent) = match role {
            Role::Server => (counted.request_bytes, counted.reply_bytes),
            Role::Client => (counted.reply_bytes, counted.request_bytes),
        };
        self.received += received;
        self.sent += sent;
        self.max_ns = self.max_ns.max(Some(counted.latency_ns));
        self.latencies.add(counted.latency_ns, counted.exchanges);
        if let Some(endpoint) = self.endpoints.get_mut(endpoint) {
            endpoint.exchanges += counted.exchanges;
        }
    }

    /// Notes how long it took until exchanges that were read at `at` were committed.
    pub(super) fn committed(&mut self, at: Micros, now: Micros) {
        self.behind_us = self.behind_us.max(Some((now - at).max(0)));
    }

    /// Returns the position of an endpoint in the list, which it joins.
    pub(super) fn endpoint(&mut self, info: &Arc<EndpointInfo>) -> usize {
        let known = self
            .endpoints
            .iter()
            .position(|known| Arc::ptr_eq(&known.info, info) || known.info == *info);
        if let Some(known) = known {
            return known;
        }
        if self.endpoints.len() < ENDPOINTS_MAX {
            self.endpoints.push(OfEndpoint {
                info: Arc::clone(info),
                exchanges: 0,
                opened: 0,
                ended: 0,
                open: 0,
            });
            return self.endpoints.len() - 1;
        }
        ENDPOINTS_MAX
    }

    /// Begins the next second. Endpoints stay, with their open conversations.
    pub(super) fn restart(&mut self) {
        self.latencies = Latencies::default();
        (self.exchanges, self.received, self.sent) = (0, 0, 0);
        (self.max_ns, self.behind_us) = (None, None);
        for endpoint in &mut self.endpoints {
            (endpoint.exchanges, endpoint.opened, endpoint.ended) = (0, 0, 0);
        }
        self.busy.clear();
        self.gone.clear();
    }
}

impl Client {
    pub(super) fn new(conversation: &Conversation, exchanges: u64) -> Self {
        Self {
            conv: conversation.id,
            ep: conversation.endpoint_info.name.clone(),
            peer: conversation.remote.to_string(),
            exchanges,
            state: match (&conversation.ended, conversation.half_closed) {
                (Some(_), _) => "ended",
                (None, Some(_)) => "half-closed",
                (None, None) => "open",
            },
        }
    }
}

/// Returns the busiest of these clients, the busiest first.
pub(super) fn busiest(mut clients: Vec<Client>) -> Vec<Client> {
    clients.sort_by_key(|client| (u64::MAX - client.exchanges, client.conv));
    clients.truncate(CLIENTS_MAX);
    clients
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_adds_up_and_begins_anew() {
        let mut second = Second::default();
        for us in 1..=1000 {
            let counted = Counted {
                exchanges: 1,
                request_bytes: 2,
                reply_bytes: 3,
                latency_ns: us * 1000,
            };
            second.add(counted, Role::Server, 0);
        }
        assert_eq!((second.received, second.sent), (2000, 3000));
        assert_eq!(second.max_ns, Some(1_000_000));
        assert_eq!(second.latencies.count(), 1000);
        second.restart();
        assert_eq!((second.exchanges, second.max_ns), (0, None));
        assert_eq!(second.latencies.quantile(0.5), None);
    }
}
