//! Tests of a session over an in-memory transport with paused time: deadlines are exact, and the test decides what each
//! read returns.

mod bound;
mod close;
mod ending;
mod in_place;
mod left_over;
mod order;
mod rate;
mod slow;
mod spawned;
mod strict;
mod wire;

use std::ops::ControlFlow;
use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use echoic_core::{
    ending::{CloseReason, Ending},
    endpoint::Shape,
    event::{Address, EndpointInfo, Opened, Protocol, Role},
    framing::{Framing, FramingPair},
    limits::Limits,
    message::{Replies, Run},
    service::{
        BoxFuture, Handler, InPlace, InlineHandler, Peer as Known, ReplySender, RequestReceiver,
        ServiceError, SpawnedHandler,
    },
    store::Store,
};
use echoic_recorder::{Journal, Recorder, RecorderOptions, WhenFull, wall_clock_now};
use echoic_service::NamedService;
use echoic_wire::Link;
use tokio::{
    runtime::Handle,
    task::{JoinError, JoinHandle},
    time::Instant,
};

use self::wire::{Peer, wire};
use super::{Session, SessionContext};
use crate::{
    accepted::Accepted,
    common::{StoreMode, Stored, TestStore},
    control::{Mailbox, ServedEndpoint},
    drain::Drain,
    sources::SourcePermit,
    tally::Totals,
};

const AMPLE: usize = usize::MAX;

/// Settings of a conversation under test.
struct Setup {
    framing: FramingPair,
    limits: Limits,
    options: RecorderOptions,
    store: Arc<TestStore>,
    /// Its permit, if the source has limits.
    permit: Option<SourcePermit>,
    /// Bytes the peer takes before it grants more.
    window: usize,
}

/// A running conversation.
struct Talk {
    peer: Peer,
    drain: Drain,
    session: JoinHandle<()>,
    recorder: Recorder,
    recording: JoinHandle<()>,
    store: Arc<TestStore>,
    totals: Arc<Totals>,
    began: Instant,
}

/// The result of a conversation.
#[derive(Debug)]
struct End {
    ending: Ending,
    /// Time from the start until the session ended its half, and until it closed the link.
    finished: Option<Duration>,
    closed: Duration,
    taken: Vec<u8>,
    /// The recorded exchanges.
    exchanges: Vec<Stored>,
    session: Result<(), JoinError>,
}

impl Setup {
    fn new(framing: impl Into<FramingPair>) -> Self {
        Self {
            framing: framing.into(),
            limits: Limits::default(),
            options: RecorderOptions::default(),
            store: TestStore::new(StoreMode::Commits),
            permit: None,
            window: AMPLE,
        }
    }

    fn line() -> Self {
        Self::new(Framing::Line)
    }

    fn chunk() -> Self {
        Self::new(Framing::Chunk)
    }

    fn strict() -> Self {
        let mut setup = Self::line();
        setup.options.hold_replies = true;
        setup
    }

    async fn talk(self, handler: Handler) -> Talk {
        let (link, peer) = wire(self.window);
        self.talk_over(link, peer, handler, Session::run).await
    }

    async fn talk_over<F: Future<Output = ()> + Send + 'static>(
        self,
        link: Link,
        peer: Peer,
        handler: Handler,
        run: impl FnOnce(Box<Session>) -> F,
    ) -> Talk {
        let store = Arc::clone(&self.store) as Arc<dyn Store>;
        let (recorder, task) = Recorder::new(Some(store), self.options).await.unwrap();
        let (drain, totals) = (Drain::default(), Arc::default());
        let (known, opened, journal) = conversation(&recorder, self.framing);
        let context = SessionContext {
            limits: Arc::new(self.limits),
            endpoint: endpoint_of(&opened),
            drain: drain.clone(),
            journal,
            permit: self.permit,
            totals: Arc::clone(&totals),
            control: Handle::current(),
        };
        let session = Session::new(link, handler, &known, opened, context);
        Talk {
            peer,
            drain,
            session: tokio::spawn(run(session)),
            recorder,
            recording: tokio::spawn(task.run()),
            store: self.store,
            totals,
            began: Instant::now(),
        }
    }
}

impl Talk {
    /// Waits for the end and checks what holds for every conversation.
    async fn end(self) -> End {
        let ended = self.session.await;
        self.recorder
            .close(self.recording, Duration::from_secs(30))
            .await;
        let status = self.recorder.status();
        let exchanges = self.store.exchanges();
        assert_eq!(
            self.totals.served.load(Ordering::SeqCst),
            status.recorded + status.lost,
            "served = recorded + lost: {status:?}"
        );
        assert_eq!(exchanges.len() as u64, status.recorded);
        assert!(
            (1..)
                .zip(&exchanges)
                .all(|(id, exchange)| exchange.id == id),
            "{exchanges:?}"
        );
        let since = |at: Instant| at - self.began;
        let (finished, closed, taken) = self.peer.look(|line| {
            let closed = line.closed.expect("the link is dropped with the session");
            (line.finished.map(since), since(closed), line.taken.clone())
        });
        let ending = self.store.ending(1).expect("its ending was recorded");
        assert_eq!(ending.sent, taken.len() as u64);
        let panicked = ended.as_ref().is_err_and(JoinError::is_panic);
        assert_eq!(
            panicked,
            ending.reason == CloseReason::Panicked,
            "{ended:?}"
        );
        End {
            ending,
            finished,
            closed,
            taken,
            exchanges,
            session: ended,
        }
    }
}

impl End {
    fn reason(&self) -> CloseReason {
        self.ending.reason
    }

    /// All recorded request bytes and all recorded reply bytes.
    fn recorded_bytes(&self) -> (Vec<u8>, Vec<u8>) {
        let requests = self.exchanges.iter().flat_map(|kept| kept.request.clone());
        let replies = self.exchanges.iter().flat_map(|kept| kept.reply.clone());
        (requests.collect(), replies.collect())
    }
}

fn address(port: u16) -> Address {
    Address::Net(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

fn conversation(recorder: &Recorder, framing: FramingPair) -> (Known, Opened, Journal) {
    let (conversation, journal) = recorder.journal(0);
    let known = Known {
        conversation,
        remote: address(40_000),
        local: address(5000),
        framing,
        shape: Shape::Stream,
    };
    let opened = Opened {
        conversation,
        at: wall_clock_now(),
        remote: known.remote.clone(),
        local: known.local.clone(),
        role: Role::Server,
        endpoint_info: Arc::new(EndpointInfo {
            name: "tcp:5000".into(),
            proto: Protocol::Tcp,
            service: "test".into(),
            framing,
        }),
        tls: None,
    };
    (known, opened, journal)
}

/// The endpoint of a conversation.
fn endpoint_of(opened: &Opened) -> Arc<ServedEndpoint> {
    let (info, addresses) = (
        Arc::clone(&opened.endpoint_info),
        vec![opened.local.clone()],
    );
    let service = "echo".parse::<NamedService>().expect("a service");
    Arc::new(ServedEndpoint::new(1, info, addresses, service.0))
}

/// A handler of the service with this name.
fn named(name: &str, framing: Framing) -> Handler {
    let known = Known {
        conversation: 1,
        remote: address(40_000),
        local: address(5000),
        framing: framing.into(),
        shape: Shape::Stream,
    };
    name.parse::<NamedService>().unwrap().0.handler(&known)
}

fn echo() -> Handler {
    named("echo", Framing::Line)
}

struct Answering<F>(F);

impl<F: FnMut(&Run<'_>, &mut Replies) -> ControlFlow<()> + Send> InlineHandler for Answering<F> {
    fn answer(&mut self, run: &Run<'_>, out: &mut Replies) -> ControlFlow<()> {
        (self.0)(run, out)
    }
}

/// An inline handler that calls a closure.
fn inline(
    answer: impl FnMut(&Run<'_>, &mut Replies) -> ControlFlow<()> + Send + 'static,
) -> Handler {
    Handler::Inline(Box::new(Answering(answer)))
}

struct Running<F>(F);

impl<F, D> SpawnedHandler for Running<F>
where
    F: FnOnce(RequestReceiver, ReplySender) -> D + Send,
    D: Future<Output = Result<(), ServiceError>> + Send + 'static,
{
    fn run(
        self: Box<Self>,
        requests: RequestReceiver,
        replies: ReplySender,
    ) -> BoxFuture<'static, Result<(), ServiceError>> {
        Box::pin((self.0)(requests, replies))
    }
}

/// A spawned handler that runs a closure.
fn spawned<F, D>(run: F) -> Handler
where
    F: FnOnce(RequestReceiver, ReplySender) -> D + Send + 'static,
    D: Future<Output = Result<(), ServiceError>> + Send + 'static,
{
    Handler::Spawned(Box::new(Running(run)))
}

/// A thousand idle connections take 2 MiB in all; this is the part that grows unnoticed.
#[test]
fn open_conversation_is_small() {
    fn size<A, F: Future>(_: impl Fn(A) -> F) -> usize {
        size_of::<F>()
    }
    assert!(size_of::<Session>() <= 896, "{}", size_of::<Session>());
    let task = size(Accepted::run);
    assert!(task <= 128, "{task}");
    assert!(size_of::<Mailbox>() <= 72, "{}", size_of::<Mailbox>());
}
