//! Accepting on real sockets: which connections are served, which are rejected, and when accepting pauses.

use std::ops::ControlFlow;
use std::{
    collections::HashSet,
    future::pending,
    io::{Read, Write},
    sync::Mutex,
    thread::{self, ThreadId},
    time::Duration,
};

use echoic_core::{
    access::AccessList,
    event::{EndpointInfo, Protocol},
    framing::Framing,
    limits::Limits,
    message::{Replies, Run},
    service::{Handler, InlineHandler, Peer, Service},
    store::Store,
};
use echoic_recorder::{Recorder, RecorderOptions};
use echoic_wire::{Accept, Link, Listener};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    runtime::Builder,
    sync::oneshot,
    time::{sleep, timeout},
};

use super::{
    shortage::{PAUSE_MAX, PAUSE_MIN, WARN_EVERY},
    *,
};
use crate::server::BoundListener;
use crate::{
    common::{StoreMode, TestStore},
    sources::lock,
};

const LONG: Duration = Duration::from_secs(20);

/// Echoes, and panics at `!`. Records the listener and the thread of each connection.
#[derive(Clone, Debug, Default)]
struct RecordingService(Arc<Mutex<Vec<(Address, ThreadId)>>>);

impl Service for RecordingService {
    fn name(&self) -> &'static str {
        "recording"
    }

    fn handler(&self, peer: &Peer) -> Handler {
        let note = (peer.local.clone(), thread::current().id());
        lock(&self.0).push(note);
        Handler::Inline(Box::new(self.clone()))
    }
}

impl InlineHandler for RecordingService {
    fn answer(&mut self, run: &Run<'_>, out: &mut Replies) -> ControlFlow<()> {
        for message in run.messages() {
            assert!(message.body != b"!", "panics on purpose");
            out.reply(&message, |bytes| bytes.extend(message.body));
        }
        ControlFlow::Continue(())
    }
}

fn server() -> Server {
    Server::new(Recorder::none(), Limits::default())
}

async fn open(server: &mut Server, endpoint: &str, service: &RecordingService) -> SocketAddr {
    let endpoint = endpoint.parse().unwrap();
    let addresses = server.listen(&endpoint, Arc::new(service.clone())).await;
    match &addresses.unwrap()[..] {
        [Address::Net(addr)] => *addr,
        other => panic!("{other:?}"),
    }
}

async fn call(at: SocketAddr) -> TcpStream {
    TcpStream::connect(at).await.unwrap()
}

/// Sends a request and returns a reply of the same length, or nothing if the connection is closed instead.
async fn ask(peer: &mut TcpStream, request: &[u8]) -> Vec<u8> {
    let mut back = vec![0; request.len()];
    let asked = async {
        peer.write_all(request).await?;
        peer.read_exact(&mut back).await
    };
    let asked = timeout(LONG, asked).await.expect("a reply or the end");
    asked.map_or(Vec::new(), |_| back)
}

/// All clients connect while the server, which has polled its listeners before, does not run.
#[tokio::test]
async fn busy_listener_does_not_starve_the_others() {
    let (mut server, service) = (server(), RecordingService::default());
    let busy = open(&mut server, "127.0.0.1:0", &service).await;
    let other = open(&mut server, "127.0.0.1:0", &service).await;
    let serving = tokio::spawn(server.run(pending::<()>()));
    yield_now().await;
    let calls = [[busy; 20].as_slice(), &[other; 2]].concat();
    let calls = calls.into_iter().map(|at| {
        let peer = std::net::TcpStream::connect(at).unwrap();
        peer.set_nonblocking(true).unwrap();
        TcpStream::from_std(peer).unwrap()
    });
    for peer in &mut calls.collect::<Vec<_>>() {
        assert_eq!(ask(peer, b"a").await, b"a");
    }
    let accepted: Vec<Address> = lock(&service.0).iter().map(|(at, _)| at.clone()).collect();
    let turns = accepted[..4]
        .iter()
        .filter(|at| **at == Address::Net(other));
    assert_eq!(turns.count(), 2, "{accepted:?}");
    serving.abort();
}

/// A datagram socket is served until the end, but its conversations are not among those counted.
#[tokio::test]
async fn stop_after_rejects_further_callers_and_ends_with_the_last() {
    let (mut server, service) = (server().stop_after(2), RecordingService::default());
    let at = open(&mut server, "127.0.0.1:0", &service).await;
    open(&mut server, "udp://127.0.0.1:0", &service).await;
    let serving = tokio::spawn(server.run(pending::<()>()));
    let [mut first, mut second, mut third] = [call(at).await, call(at).await, call(at).await];
    assert_eq!(ask(&mut first, b"a").await, b"a");
    assert_eq!(ask(&mut second, b"b").await, b"b");
    drop(first);
    sleep(Duration::from_millis(20)).await;
    assert_eq!(ask(&mut second, b"c").await, b"c", "it is still served");
    drop(second);
    let drained = timeout(LONG, serving)
        .await
        .expect("the server ends by itself");
    assert_eq!(drained.unwrap().served, 3);
    assert_eq!(ask(&mut third, b"d").await, b"");
}

/// Two connections are served and two more are rejected cleanly; those that arrive while these are being rejected are
/// closed and not recorded.
#[tokio::test]
async fn excess_connections_are_rejected_and_the_rest_closed() {
    let store = TestStore::new(StoreMode::Commits);
    let shared = Arc::clone(&store) as Arc<dyn Store>;
    let recorder = Recorder::new(Some(shared), RecorderOptions::default()).await;
    let (recorder, task) = recorder.unwrap();
    let recording = tokio::spawn(task.run());
    let limits = Limits {
        connections_max: 2,
        ..Limits::default()
    };
    let mut server = Server::new(recorder, limits).max_rejecting(2);
    let at = open(&mut server, "127.0.0.1:0", &RecordingService::default()).await;
    let serving = tokio::spawn(server.run(pending::<()>()));
    let mut served = [call(at).await, call(at).await];
    for peer in &mut served {
        assert_eq!(ask(peer, b"a").await, b"a");
    }
    for wave in 1..=2 {
        let mut extra = Vec::new();
        for _ in 0..5 {
            extra.push(call(at).await);
        }
        for peer in &mut extra {
            assert_eq!(ask(peer, b"b").await, b"");
        }
        drop(extra);
        let rejected = || store.endings().len();
        let all_recorded = async {
            while rejected() < 2 * wave {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(LONG, all_recorded).await.expect("two in each wave");
        assert_eq!(rejected(), 2 * wave);
    }
    assert_eq!(store.callers().len(), 2 + 4);
    for peer in &mut served {
        assert_eq!(ask(peer, b"c").await, b"c");
    }
    serving.abort();
    recording.abort();
}

#[tokio::test]
async fn panics_are_counted_for_streams_and_datagrams() {
    let (mut server, service) = (server(), RecordingService::default());
    let at = open(&mut server, "127.0.0.1:0", &service).await;
    let datagrams = open(&mut server, "udp://127.0.0.1:0", &service).await;
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(server.run(async { _ = stopped.await }));
    for _ in 0..2 {
        assert_eq!(ask(&mut call(at).await, b"!").await, b"");
    }
    let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    peer.connect(datagrams).await.unwrap();
    peer.send(b"!").await.unwrap();
    peer.send(b"a").await.unwrap();
    let mut back = [0; 9];
    let answered = timeout(LONG, peer.recv(&mut back)).await;
    assert_eq!(answered.expect("it goes on").unwrap(), 1);
    stop.send(()).unwrap();
    let drained = timeout(LONG, serving).await.expect("it stops").unwrap();
    assert_eq!((drained.panicked, drained.served), (3, 2));
}

/// More connections than a task may accept in one turn.
#[tokio::test]
async fn callers_waiting_at_the_stop_signal_are_accepted() {
    let (mut server, service) = (server(), RecordingService::default());
    let at = open(&mut server, "127.0.0.1:0", &service).await;
    let mut peers = Vec::new();
    for _ in 0..200 {
        peers.push(call(at).await);
    }
    for peer in &mut peers {
        peer.write_all(b"a").await.unwrap();
    }
    let serving = tokio::spawn(server.run(async {}));
    for peer in &mut peers {
        let mut back = [0];
        let read = timeout(LONG, peer.read_exact(&mut back)).await;
        assert_eq!(read.expect("a reply or the end").unwrap(), 1);
    }
    drop(peers);
    assert_eq!(serving.await.unwrap().served, 200);
}

/// The kernel has the data by then, but the runtime has not polled the kernel since.
#[tokio::test]
async fn data_received_before_the_stop_signal_is_answered() {
    let (mut server, service) = (server(), RecordingService::default());
    let at = open(&mut server, "127.0.0.1:0", &service).await;
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(server.run(async { _ = stopped.await }));
    let mut peers = Vec::new();
    for _ in 0..10 {
        let mut peer = call(at).await;
        assert_eq!(ask(&mut peer, b"a").await, b"a");
        peers.push(peer);
    }
    for peer in &peers {
        assert_eq!(peer.try_write(b"b").unwrap(), 1);
    }
    stop.send(()).unwrap();
    for peer in &mut peers {
        let mut rest = Vec::new();
        let ended = timeout(LONG, peer.read_to_end(&mut rest)).await;
        ended.expect("an end").unwrap();
        assert_eq!(rest, b"b");
    }
    drop(peers);
    assert_eq!(serving.await.unwrap().served, 20);
}

/// A listener without connections, that counts how often it is polled.
#[derive(Debug)]
struct EmptyListener(Arc<AtomicUsize>);

impl Accept for EmptyListener {
    fn poll_accept(&self, _: &mut Context<'_>) -> Poll<io::Result<(Link, Address)>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Poll::Pending
    }

    fn stop(&self) {}
}

#[tokio::test(start_paused = true)]
async fn stop_signal_polls_an_empty_listener_once() {
    let polls = Arc::new(AtomicUsize::new(0));
    let mut server = server();
    let address = Address::Net("127.0.0.1:5000".parse().unwrap());
    let endpoint_info = EndpointInfo {
        name: "tcp:5000".into(),
        proto: Protocol::Tcp,
        service: "recording".into(),
        framing: Framing::Chunk.into(),
    };
    let service: Arc<dyn Service> = Arc::new(RecordingService::default());
    let endpoint = server.add_endpoint(
        std::slice::from_ref(&address),
        Arc::new(endpoint_info),
        &service,
    );
    server.listeners.push(BoundListener {
        listener: Listener::from_source(Box::new(EmptyListener(Arc::clone(&polls))), address),
        endpoint,
        service,
        limits: Arc::default(),
        access: Arc::new(AccessList::default()),
        layers: Arc::new([]),
    });
    server.run(async {}).await;
    assert_eq!(polls.load(Ordering::SeqCst), 1);
}

/// A runtime of one thread, which runs until the sender is dropped.
fn worker() -> (Handle, oneshot::Sender<()>) {
    let (end, ended) = oneshot::channel::<()>();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let handle = runtime.handle().clone();
    thread::spawn(move || _ = runtime.block_on(ended));
    (handle, end)
}

/// A worker's own runtime serves its conversations: here the acceptor's runtime is blocked.
#[tokio::test]
async fn worker_serves_while_the_acceptor_is_blocked() {
    let (worker, _end) = worker();
    let (mut server, service) = (
        server().on_workers(vec![worker]),
        RecordingService::default(),
    );
    let at = open(&mut server, "127.0.0.1:0", &service).await;
    let serving = tokio::spawn(server.run(pending::<()>()));
    let mut peer = call(at).await;
    assert_eq!(ask(&mut peer, b"a").await, b"a");
    let mut peer = peer.into_std().unwrap();
    peer.set_nonblocking(false).unwrap();
    peer.set_read_timeout(Some(LONG)).unwrap();
    peer.write_all(b"b").unwrap();
    let mut back = [0];
    peer.read_exact(&mut back).expect("an answer");
    assert_eq!(back, *b"b");
    serving.abort();
}

/// The kernel assigns each source to one of the sockets; of 64 sources, not all get the same.
#[tokio::test]
async fn each_worker_has_a_datagram_socket() {
    let (workers, _ends): (Vec<_>, Vec<_>) = [worker(), worker()].into_iter().unzip();
    let (mut server, service) = (server().on_workers(workers), RecordingService::default());
    let at = open(&mut server, "udp://127.0.0.1:0", &service).await;
    let serving = tokio::spawn(server.run(pending::<()>()));
    lock(&service.0).clear(); // it was called once to see whether the handler is spawned
    for _ in 0..64 {
        let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        peer.send_to(b"a", at).await.unwrap();
        let answered = timeout(LONG, peer.recv(&mut [0; 9])).await;
        assert_eq!(answered.expect("an answer").unwrap(), 1);
    }
    let threads: HashSet<_> = lock(&service.0).iter().map(|(_, on)| *on).collect();
    assert_eq!(threads.len(), 2);
    serving.abort();
}

#[tokio::test(start_paused = true)]
async fn accept_error_of_one_caller_does_not_pause_accepting() {
    let mut acceptor = Acceptor::new(server(), Handle::current());
    let mut fail = |errno| {
        let error = io::Error::from_raw_os_error(errno);
        acceptor.on_event(AcceptEvent::Failed(error), None)
    };
    assert_eq!(fail(103), None); // ECONNABORTED
    assert_eq!(fail(24), Some(Instant::now() + PAUSE_MIN)); // EMFILE
}

#[test]
fn resource_shortage_backs_off_and_warns_every_ten_seconds() {
    let start = Instant::now();
    let full = io::Error::from_raw_os_error(24); // EMFILE
    let (mut shortage, mut now) = (Shortage::default(), start);
    let (mut pauses, mut warnings) = (Vec::new(), 0);
    while now < start + Duration::from_mins(1) {
        let again = shortage.on_failure(now, &full);
        warnings += u32::from(shortage.unreported == 0);
        pauses.push(again - now);
        now = again;
    }
    assert_eq!(pauses[..3], [10, 20, 40].map(Duration::from_millis));
    assert_eq!(pauses.last(), Some(&PAUSE_MAX));
    assert!(
        pauses.len() < 70 && warnings == 6,
        "{warnings} of {}",
        pauses.len()
    );
    shortage.pause = None; // a connection was accepted
    assert_eq!(shortage.on_failure(now, &full) - now, PAUSE_MIN);
    let warned_at = shortage.warned_at.unwrap();
    shortage.on_failure(warned_at + WARN_EVERY, &full);
    assert_eq!(
        shortage.unreported, 0,
        "warns again after ten seconds, not later"
    );
}

#[test]
fn only_system_shortages_pause_accepting() {
    let errno = io::Error::from_raw_os_error;
    let lacking = [24, 23, 105, 12]; // EMFILE, ENFILE, ENOBUFS, ENOMEM
    assert!(
        lacking
            .into_iter()
            .all(|code| !concerns_one_connection(&errno(code)))
    );
    let gone = [103, 1, 100, 101, 113]; // ECONNABORTED, EPERM, ENETDOWN, ENETUNREACH, EHOSTUNREACH
    assert!(
        gone.into_iter()
            .all(|code| concerns_one_connection(&errno(code)))
    );
}
