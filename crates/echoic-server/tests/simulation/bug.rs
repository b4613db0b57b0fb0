//! Bugs that are planted on purpose, to prove that the checks find them. Each is a wrapper around something that the
//! server is given: its service, limits, store, connections or socket. The server itself has no code for them.

use std::ops::ControlFlow;
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    ops::{Range, RangeInclusive},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use echoic_core::{
    ending::CloseReason,
    event::{Address, Batch, ConversationId, Event, ExchangeId, Mark, Micros},
    exchange::Exchange,
    filter::Filter,
    limits::Limits,
    message::{Message, Replies, Run},
    service::{BoxFuture, Handler, InlineHandler, Peer, Service},
    store::{
        ConversationPage, Found, FoundConversations, Gap, LabelChange, Last, ListedConversation,
        Page, Retention, Series, Stats, Store, StoreError, TagCount,
    },
};
use echoic_wire::Transport;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    /// The first two messages of a run get each other's reply.
    ReplySwapped,
    /// About every seventh run is counted as recorded and does not reach the store.
    RecordDropped,
    /// What the kernel has received is not read any more once the stop signal has come.
    DrainForgetsTheLast,
    /// A message may be one byte longer than the limit.
    LimitOffByOne,
    /// A reset by the peer is recorded as an orderly end.
    EndingFalsified,
    /// Of two requests that a spawned handler answers at once, the second gets the replies to both.
    PairingOffByOne,
    /// A datagram is answered to the peer that was answered before.
    AnswerMisaddressed,
    /// A datagram that goes round in a circle is answered for ever.
    CircleGoesOn,
    /// The number of datagrams that the kernel dropped is not recorded.
    DropsUnrecorded,
}

impl Bug {
    pub(super) const OF_STREAMS: [Self; 6] = [
        Self::ReplySwapped,
        Self::PairingOffByOne,
        Self::RecordDropped,
        Self::DrainForgetsTheLast,
        Self::LimitOffByOne,
        Self::EndingFalsified,
    ];

    pub(super) const OF_DATAGRAMS: [Self; 5] = [
        Self::RecordDropped,
        Self::DrainForgetsTheLast,
        Self::AnswerMisaddressed,
        Self::CircleGoesOn,
        Self::DropsUnrecorded,
    ];
}

/// The bug of one world, or none. Parts that the bug does not concern are passed on unchanged.
#[derive(Clone, Debug)]
pub(super) struct Planted {
    bug: Option<Bug>,
    has_stopped: Arc<AtomicBool>,
}

impl Planted {
    pub(super) fn new(bug: Option<Bug>) -> Self {
        Self {
            bug,
            has_stopped: Arc::default(),
        }
    }

    pub(super) fn bug(&self) -> Option<Bug> {
        self.bug
    }

    /// Called at the stop.
    pub(super) fn stop(&self) {
        self.has_stopped.store(true, Ordering::Relaxed);
    }

    /// Whether the transport blocks receives from now on.
    pub(super) fn blocks_receives(&self) -> bool {
        self.bug == Some(Bug::DrainForgetsTheLast) && self.has_stopped.load(Ordering::Relaxed)
    }

    pub(super) fn in_service(&self, service: Arc<dyn Service>) -> Arc<dyn Service> {
        match self.bug {
            Some(Bug::ReplySwapped) => Arc::new(SwappingService(service)),
            _ => service,
        }
    }

    pub(super) fn in_limits(&self, mut limits: Limits) -> Limits {
        if self.bug == Some(Bug::LimitOffByOne) {
            limits.message_bytes_max += 1;
        }
        limits
    }

    pub(super) fn in_store(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        match self.bug {
            Some(bug @ (Bug::RecordDropped | Bug::EndingFalsified | Bug::CircleGoesOn)) => {
                Arc::new(FalsifyingStore { store, bug })
            }
            _ => store,
        }
    }

    pub(super) fn in_transport(&self, transport: Box<dyn Transport>) -> Box<dyn Transport> {
        match self.bug {
            Some(Bug::DrainForgetsTheLast) => Box::new(BlockingTransport {
                transport,
                planted: self.clone(),
                has_finished: false,
            }),
            _ => transport,
        }
    }
}

#[derive(Debug)]
struct SwappingService(Arc<dyn Service>);

impl Service for SwappingService {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn handler(&self, peer: &Peer) -> Handler {
        match self.0.handler(peer) {
            Handler::Inline(handler) => Handler::Inline(Box::new(Swapping(handler))),
            spawned @ Handler::Spawned(_) => spawned,
        }
    }
}

struct Swapping(Box<dyn InlineHandler>);

impl InlineHandler for Swapping {
    fn open(&mut self, out: &mut Replies) -> ControlFlow<()> {
        self.0.open(out)
    }

    fn answer(&mut self, run: &Run<'_>, out: &mut Replies) -> ControlFlow<()> {
        let messages: Vec<Message<'_>> = run.messages().collect();
        if messages.len() < 2 {
            return self.0.answer(run, out);
        }
        for (i, message) in messages.iter().enumerate() {
            let body = messages[if i < 2 { 1 - i } else { i }].body;
            out.reply(message, |bytes| bytes.extend_from_slice(body));
        }
        ControlFlow::Continue(())
    }

    fn input_ended(&mut self, out: &mut Replies) {
        self.0.input_ended(out);
    }
}

/// Stands between the recorder and the store, and changes what is recorded.
struct FalsifyingStore {
    store: Arc<dyn Store>,
    bug: Bug,
}

impl FalsifyingStore {
    /// Gives the same result for the same batch, because a batch whose append failed is appended again.
    fn falsify(&self, batch: &Batch) -> Arc<Batch> {
        let mut batch = batch.clone();
        match self.bug {
            Bug::RecordDropped => drop_runs(&mut batch.events),
            Bug::EndingFalsified => batch.events.iter_mut().for_each(|event| match event {
                Event::Ended(ended) if ended.ending.reason == CloseReason::PeerReset => {
                    ended.ending.reason = CloseReason::PeerClosed;
                }
                _ => {}
            }),
            Bug::CircleGoesOn => batch.events.iter_mut().for_each(|event| {
                if let Event::Opened(opened) = event {
                    opened.remote = without_alias(&opened.remote);
                }
            }),
            _ => {}
        }
        Arc::new(batch)
    }
}

/// Removes about every seventh run, chosen by its position in the conversation.
fn drop_runs(events: &mut Vec<Event>) {
    events.retain(|event| match event {
        Event::Run(run) => (run.conversation + run.n) % 7 != 3,
        _ => true,
    });
}

impl Store for FalsifyingStore {
    fn last(&self) -> BoxFuture<'_, Result<Last, StoreError>> {
        self.store.last()
    }

    fn reserve_conversations(
        &self,
        count: u64,
    ) -> BoxFuture<'_, Result<ConversationId, StoreError>> {
        self.store.reserve_conversations(count)
    }

    fn append(
        &self,
        batches: Vec<Arc<Batch>>,
    ) -> BoxFuture<'_, Result<Vec<ExchangeId>, StoreError>> {
        let batches = batches.iter().map(|batch| self.falsify(batch));
        self.store.append(batches.collect())
    }

    fn find<'a>(
        &'a self,
        filter: &'a Filter,
        page: Page,
    ) -> BoxFuture<'a, Result<Found, StoreError>> {
        self.store.find(filter, page)
    }

    fn count<'a>(
        &'a self,
        filter: &'a Filter,
        now: Micros,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        self.store.count(filter, now)
    }

    fn conversation(
        &self,
        id: ConversationId,
    ) -> BoxFuture<'_, Result<Option<ListedConversation>, StoreError>> {
        self.store.conversation(id)
    }

    fn messages(
        &self,
        id: ConversationId,
        from_n: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Exchange>, StoreError>> {
        self.store.messages(id, from_n, limit)
    }

    fn marks(&self, id: ConversationId) -> BoxFuture<'_, Result<Vec<Mark>, StoreError>> {
        self.store.marks(id)
    }

    fn label(&self, change: LabelChange) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.store.label(change)
    }

    fn tags(&self) -> BoxFuture<'_, Result<Vec<TagCount>, StoreError>> {
        self.store.tags()
    }

    fn series<'a>(
        &'a self,
        filter: &'a Filter,
        times: Range<Micros>,
        step: Micros,
        now: Micros,
    ) -> BoxFuture<'a, Result<Series, StoreError>> {
        self.store.series(filter, times, step, now)
    }

    fn delete<'a>(
        &'a self,
        filter: &'a Filter,
        confirmed: u64,
        now: Micros,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        self.store.delete(filter, confirmed, now)
    }

    fn prune(&self, retention: Retention, now: Micros) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.store.prune(retention, now)
    }

    fn conversations<'a>(
        &'a self,
        filter: &'a Filter,
        page: ConversationPage,
    ) -> BoxFuture<'a, Result<FoundConversations, StoreError>> {
        self.store.conversations(filter, page)
    }

    fn gaps(
        &self,
        times: RangeInclusive<Micros>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Gap>, StoreError>> {
        self.store.gaps(times, limit)
    }

    fn stats(&self) -> BoxFuture<'_, Result<Stats, StoreError>> {
        self.store.stats()
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.store.close()
    }
}

/// Reads nothing after the stop, until our half of the stream is ended.
#[derive(Debug)]
struct BlockingTransport {
    transport: Box<dyn Transport>,
    planted: Planted,
    has_finished: bool,
}

impl Transport for BlockingTransport {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.planted.blocks_receives() && !self.has_finished {
            return Poll::Pending; // the drain wakes the session, nothing else has to
        }
        self.transport.poll_read(cx, buffer)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.transport.poll_write(cx, bytes)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.has_finished = true;
        self.transport.poll_finish(cx)
    }

    fn abort(&mut self) {
        self.transport.abort();
    }
}

/// Another address for a peer on 127.0.0.1: 127.0.0.0/8 has one for each number.
pub(super) fn with_alias(address: &Address, number: u16) -> Address {
    match address {
        Address::Net(SocketAddr::V4(at)) if *at.ip() == Ipv4Addr::LOCALHOST => {
            let [high, low] = number.to_be_bytes();
            Address::Net(SocketAddr::from(([127, high, low, 1], at.port())))
        }
        other => other.clone(),
    }
}

pub(super) fn without_alias(address: &Address) -> Address {
    match address {
        Address::Net(SocketAddr::V4(at)) if at.ip().is_loopback() => {
            Address::Net(SocketAddr::from((Ipv4Addr::LOCALHOST, at.port())))
        }
        other => other.clone(),
    }
}
