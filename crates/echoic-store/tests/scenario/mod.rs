//! Test scenarios: conversations as a server records them, and the exchanges that every store must return for them.

#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod reader;
pub(crate) mod sqlite;
pub(crate) mod stores;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use echoic_core::{
    ending::{CloseReason, Ending},
    event::{
        Address, Batch, ConversationId, Ended, EndpointInfo, Event, ExchangeId, Mark, Marked,
        Micros, Opened, Outcome, Protocol, Role, RunMeta, ServerId, ServerInfo, TlsInfo,
    },
    exchange::Exchange,
    filter::Filter,
    framing::{Framing, Splitter},
    left_over::LeftOver,
    message::{Replies, Run},
    store::{Found, Order, Page, Store},
};

/// Start time of scenarios: 2026-01-01, in microseconds.
pub(crate) const NOON: Micros = 1_767_268_800_000_000;

/// The compared fields of an exchange: all that a view shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) id: ExchangeId,
    pub(crate) conversation: ConversationId,
    pub(crate) n: u64,
    pub(crate) at: Micros,
    pub(crate) latency_ns: u64,
    pub(crate) outcome: Outcome,
    pub(crate) reads: u32,
    pub(crate) request: Vec<u8>,
    pub(crate) reply: Vec<u8>,
    pub(crate) endpoint_info: String,
    pub(crate) remote: String,
}

impl From<&Exchange> for Seen {
    fn from(exchange: &Exchange) -> Self {
        Self {
            id: exchange.id,
            conversation: exchange.conversation.id,
            n: exchange.n,
            at: exchange.at,
            latency_ns: exchange.latency_ns,
            outcome: exchange.outcome,
            reads: exchange.reads,
            request: exchange.request.clone(),
            reply: exchange.reply.clone(),
            endpoint_info: exchange.conversation.endpoint_info.name.clone(),
            remote: exchange.conversation.remote.to_string(),
        }
    }
}

pub(crate) fn seen(found: &Found) -> Vec<Seen> {
    found.exchanges.iter().map(Seen::from).collect()
}

pub(crate) fn endpoint_info(name: &str) -> Arc<EndpointInfo> {
    Arc::new(EndpointInfo {
        name: name.into(),
        proto: if name.starts_with("tls:") {
            Protocol::Tls
        } else {
            Protocol::Tcp
        },
        service: "upper".into(),
        framing: Framing::Line.into(),
    })
}

pub(crate) fn remote(conversation: ConversationId) -> Address {
    Address::Net(([127, 0, 0, 1], 40_000 + conversation as u16).into())
}

/// Builds batches as the recorder does, predicts the ids that a store gives, and lists the expected exchanges.
#[derive(Debug)]
pub(crate) struct Scenario {
    server: Arc<ServerInfo>,
    number: u64,
    batch: Batch,
    /// Role of conversations opened next.
    pub(crate) role: Role,
    pub(crate) last_id: ExchangeId,
    pub(crate) now: Micros,
    talks: Vec<Talk>,
    /// The expected exchanges.
    pub(crate) exchanges: Vec<Seen>,
}

#[derive(Clone, Debug)]
struct Talk {
    id: ConversationId,
    endpoint_info: String,
    n: u64,
    reply_bytes: u64,
}

impl Scenario {
    /// Starts a scenario with its own server, for a store that has given ids up to `last_id`.
    pub(crate) fn after(last_id: ExchangeId) -> Self {
        static SCENARIOS: AtomicU64 = AtomicU64::new(1);
        // Differs between processes too: several write to one file one after the other.
        let id = u64::from(std::process::id()) << 32 | SCENARIOS.fetch_add(1, Ordering::Relaxed);
        let server = ServerInfo {
            id: ServerId(id),
            name: format!("scenario:{id}"),
            started: NOON,
        };
        Self {
            server: Arc::new(server),
            number: 0,
            batch: Batch::default(),
            role: Role::Server,
            last_id,
            now: NOON,
            talks: Vec::new(),
            exchanges: Vec::new(),
        }
    }

    pub(crate) fn server(&self) -> &ServerInfo {
        &self.server
    }

    /// Takes the events recorded since the last call.
    pub(crate) fn take(&mut self) -> Vec<Arc<Batch>> {
        let mut batch = std::mem::take(&mut self.batch);
        self.number += 1;
        batch.number = self.number;
        batch.server = Arc::clone(&self.server);
        vec![Arc::new(batch)]
    }

    pub(crate) fn open(&mut self, id: ConversationId) {
        self.open_at(id, "tcp:5000");
    }

    pub(crate) fn open_at(&mut self, id: ConversationId, name: &str) {
        self.open_with(id, name, None);
    }

    /// Opens a conversation over TLS.
    pub(crate) fn open_with(&mut self, id: ConversationId, name: &str, tls: Option<TlsInfo>) {
        self.now += 1;
        self.talks.push(Talk {
            id,
            endpoint_info: name.into(),
            n: 1,
            reply_bytes: 0,
        });
        self.batch.events.push(Event::Opened(Opened {
            conversation: id,
            at: self.now,
            remote: remote(id),
            local: Address::Net(([127, 0, 0, 1], 5000).into()),
            role: self.role,
            endpoint_info: endpoint_info(name),
            tls: tls.map(Arc::new),
        }));
    }

    /// Records a run of lines. The first `answered` lines are answered in upper case, the others not at all.
    pub(crate) fn lines(&mut self, id: ConversationId, lines: &[&str], answered: usize) {
        let bytes: Vec<u8> = lines
            .iter()
            .flat_map(|l| format!("{l}\n").into_bytes())
            .collect();
        let mut spans = Vec::new();
        Splitter::new(Framing::Line, 1 << 20).split(&bytes, &mut spans);
        let run = Run::new(&bytes, &spans, 0);
        let mut replies = Replies::default();
        replies.clear(Framing::Line.into());
        for message in run.messages().take(answered) {
            replies.reply(&message, |out| {
                out.extend(message.body.to_ascii_uppercase());
            });
        }
        let meta = self.meta(id, 3);
        self.batch.push_run(meta, &run, &replies);
        for (i, line) in lines.iter().enumerate() {
            let (reply, outcome) = if i < answered {
                (format!("{}\n", line.to_ascii_uppercase()), Outcome::Ok)
            } else {
                (String::new(), Outcome::Unanswered)
            };
            let reads = if i == 0 { 3 } else { 1 };
            self.expect(
                id,
                outcome,
                reads,
                format!("{line}\n").as_bytes(),
                reply.as_bytes(),
            );
        }
        self.assign_ids();
    }

    /// Records a single exchange.
    pub(crate) fn exchange(
        &mut self,
        id: ConversationId,
        outcome: Outcome,
        request: &[u8],
        reply: &[u8],
    ) {
        let meta = self.meta(id, 1);
        self.batch.push_exchange(meta, outcome, request, reply);
        self.expect(id, outcome, u32::from(!request.is_empty()), request, reply);
        self.assign_ids();
    }

    pub(crate) fn half_close(&mut self, id: ConversationId) {
        self.now += 1;
        self.batch.events.push(Event::Mark(Mark {
            conversation: id,
            at: self.now,
            what: Marked::HalfClosed { received: 7 },
        }));
    }

    /// Records that exchanges are missing.
    pub(crate) fn gap(&mut self, exchanges: u64) {
        self.now += 1;
        self.batch.events.push(Event::Mark(Mark {
            conversation: 0,
            at: self.now,
            what: Marked::Gap {
                exchanges,
                since: self.now,
            },
        }));
    }

    /// Ends a conversation inside the message that begins with `bytes`.
    pub(crate) fn end_inside(&mut self, id: ConversationId, bytes: &[u8]) {
        self.end(id, CloseReason::Incomplete, 0);
        if let Some(Event::Ended(ended)) = self.batch.events.last_mut() {
            let framing = Framing::Prefix(echoic_core::framing::Width::U16Be);
            ended.ending.left_over = LeftOver::new(framing, bytes);
        }
    }

    /// Ends a conversation with the last `unsent` bytes of its replies unsent.
    pub(crate) fn end(&mut self, id: ConversationId, reason: CloseReason, unsent: u64) {
        self.now += 1;
        let talk = self.talk(id).clone();
        let sent = talk.reply_bytes - unsent;
        self.batch.events.push(Event::Ended(Ended {
            conversation: id,
            at: self.now,
            ending: Ending {
                reason,
                received: 11,
                sent,
                unsent,
                discarded: 0,
                left_over: None,
            },
        }));
        let mut end = 0;
        for exchange in self
            .exchanges
            .iter_mut()
            .filter(|seen| seen.conversation == id)
        {
            end += exchange.reply.len() as u64;
            if !exchange.reply.is_empty() && end > sent {
                exchange.outcome = Outcome::Unsent;
            }
        }
    }

    /// Returns the expected exchanges that match `filter`.
    pub(crate) fn expected(&self, filter: impl Fn(&Seen) -> bool) -> Vec<Seen> {
        self.exchanges
            .iter()
            .filter(|seen| filter(seen))
            .cloned()
            .collect()
    }

    fn talk(&mut self, id: ConversationId) -> &mut Talk {
        self.talks
            .iter_mut()
            .find(|talk| talk.id == id)
            .expect("opened")
    }

    fn meta(&mut self, conversation: ConversationId, reads: u32) -> RunMeta {
        self.now += 1;
        let at = self.now;
        let talk = self.talk(conversation);
        let (n, reply_offset) = (talk.n, talk.reply_bytes);
        RunMeta {
            conversation,
            n,
            at,
            latency_ns: 1_000,
            reads,
            reply_offset,
        }
    }

    fn expect(
        &mut self,
        id: ConversationId,
        outcome: Outcome,
        reads: u32,
        request: &[u8],
        reply: &[u8],
    ) {
        let talk = self.talk(id);
        let (n, name) = (talk.n, talk.endpoint_info.clone());
        talk.n += 1;
        talk.reply_bytes += reply.len() as u64;
        let seen = Seen {
            id: 0,
            conversation: id,
            n,
            at: self.now,
            latency_ns: 1_000,
            outcome,
            reads,
            request: request.to_vec(),
            reply: reply.to_vec(),
            endpoint_info: name,
            remote: remote(id).to_string(),
        };
        self.exchanges.push(seen);
    }

    /// Assigns the ids that the store will give to new exchanges.
    fn assign_ids(&mut self) {
        let known = self.exchanges.iter().rposition(|seen| seen.id != 0);
        for seen in self.exchanges.iter_mut().skip(known.map_or(0, |at| at + 1)) {
            self.last_id += 1;
            seen.id = self.last_id;
        }
    }
}

pub(crate) fn filter(text: &str) -> Filter {
    Filter::parse(text).expect("a filter")
}

/// Returns all exchanges that `text` selects, read in pages of `limit`.
pub(crate) async fn pages(store: &dyn Store, text: &str, order: Order, limit: usize) -> Vec<Seen> {
    let (filter, mut beyond, mut all) = (filter(text), None, Vec::new());
    loop {
        let page = Page {
            order,
            beyond,
            until: None,
            limit,
            now: NOON,
        };
        let found = store.find(&filter, page).await.expect("found");
        assert!(found.exchanges.len() <= limit);
        all.extend(seen(&found));
        match found.next {
            Some(next) => {
                assert_eq!(Some(next), found.exchanges.last().map(|last| last.id));
                beyond = Some(next);
            }
            None => return all,
        }
    }
}

pub(crate) async fn all(store: &dyn Store, text: &str) -> Vec<Seen> {
    pages(store, text, Order::OldestFirst, 1_000).await
}

pub(crate) async fn count(store: &dyn Store, text: &str) -> u64 {
    store.count(&filter(text), NOON).await.expect("counted")
}

pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(future)
}
