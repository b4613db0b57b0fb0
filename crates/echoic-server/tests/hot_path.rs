//! The cost of a message: no allocation, and one send for sixteen messages that arrive at once.

#![allow(clippy::unwrap_used, reason = "in a test that is the failure")]

#[path = "../../echoic-recorder/tests/common/mod.rs"]
mod common;
#[path = "common/serving.rs"]
mod serving;

use std::{
    future::poll_fn,
    io::{Read, Write},
    net::{TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::sync_channel,
    },
    thread,
    time::Duration,
};

use allocation_counter::{AllocationInfo, measure};
use common::{StoreMode, TestStore};
use echoic_core::{
    event::Address, framing::Framing, limits::Limits, service::Service, store::Store,
};
use echoic_recorder::{Recorder, RecorderOptions};
use echoic_server::{EndpointConfig, Server};
use echoic_service::NamedService;
use echoic_wire::{Call, DialOptions, Explain, ListenOptions, dial};
use serving::Doing;
use tokio::{
    runtime::{Builder, Runtime},
    sync::oneshot,
};

const LINE: &[u8] = b"The quick brown fox jumps over the lazy dog\n";

/// A client on its own thread. Each command has it send so many runs of so many lines.
struct Client {
    commands: std::sync::mpsc::SyncSender<(usize, usize, oneshot::Sender<()>)>,
    thread: thread::JoinHandle<()>,
}

impl Client {
    fn of(addr: std::net::SocketAddr) -> Self {
        let (commands, receiver) = sync_channel::<(usize, usize, oneshot::Sender<()>)>(1);
        let thread = thread::spawn(move || {
            let mut peer = TcpStream::connect(addr).unwrap();
            peer.set_nodelay(true).unwrap();
            peer.set_read_timeout(Some(Duration::from_secs(30)))
                .unwrap();
            while let Ok((runs, depth, done)) = receiver.recv() {
                let asked = LINE.repeat(depth);
                let mut reply = vec![0; asked.len()];
                for _ in 0..runs {
                    peer.write_all(&asked).unwrap();
                    peer.read_exact(&mut reply).unwrap();
                    assert!(reply == asked.to_ascii_uppercase());
                }
                let _ = done.send(());
            }
        });
        Self { commands, thread }
    }
}

/// A server on this thread, so the allocations counted here are the server's.
struct Bench {
    runtime: Runtime,
    client: Client,
    sends: Arc<AtomicU64>,
    recvs: Arc<AtomicU64>,
}

impl Bench {
    fn new(store: Option<Arc<TestStore>>, counted: bool) -> Self {
        let upper = "upper".parse::<NamedService>().unwrap().0;
        Self::of(upper, store, counted)
    }

    fn of(service: Arc<dyn Service>, store: Option<Arc<TestStore>>, counted: bool) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let (sends, recvs) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (s, r) = (Arc::clone(&sends), Arc::clone(&recvs));
        let explain = Explain::new(move |_, call| match call {
            Call::Send { .. } => _ = s.fetch_add(1, Ordering::Relaxed),
            Call::Recv { .. } => _ = r.fetch_add(1, Ordering::Relaxed),
            _ => {}
        });
        let addr = runtime.block_on(async move {
            let recorder = match store {
                None => Recorder::none(),
                Some(store) => {
                    let store = store as Arc<dyn Store>;
                    let options = RecorderOptions::default();
                    let (recorder, task) = Recorder::new(Some(store), options).await.unwrap();
                    tokio::spawn(task.run());
                    recorder
                }
            };
            let mut server = Server::new(recorder, Limits::default());
            let config = EndpointConfig {
                framing: Framing::Line.into(),
                listen: ListenOptions {
                    explain: counted.then_some(explain),
                    ..ListenOptions::default()
                },
                ..EndpointConfig::new("127.0.0.1:0".parse().unwrap(), service)
            };
            let Address::Net(addr) = server.open(config).await.unwrap()[0] else {
                unreachable!("the endpoint is tcp")
            };
            tokio::spawn(server.run(std::future::pending::<()>()));
            addr
        });
        Self {
            runtime,
            client: Client::of(addr),
            sends,
            recvs,
        }
    }

    /// Serves while the client sends its runs; returns the allocations of this thread.
    fn ask(&self, runs: usize, depth: usize) -> AllocationInfo {
        let (done, mut ended) = oneshot::channel();
        self.client.commands.send((runs, depth, done)).unwrap();
        measure(|| self.runtime.block_on(&mut ended).unwrap())
    }

    fn end(self) {
        drop(self.client.commands);
        self.client.thread.join().unwrap();
    }
}

#[test]
fn unrecorded_message_allocates_nothing() {
    let bench = Bench::new(None, false);
    for depth in [1, 16, 1000] {
        bench.ask(200, depth);
        let allocations = bench.ask(2000, depth);
        assert_eq!(
            allocations.count_total, 0,
            "at depth {depth}: {allocations:?}"
        );
    }
    bench.end();
}

/// Counter-test: one allocation per message is counted as such.
#[test]
fn allocation_counter_sees_handler_allocations() {
    let wasteful = Doing(|body: &[u8], out: &mut Vec<u8>| out.extend(body.to_ascii_uppercase()));
    let bench = Bench::of(Arc::new(wasteful), None, false);
    bench.ask(200, 16);
    let allocations = bench.ask(1000, 16);
    assert_eq!(allocations.count_total, 16_000);
    bench.end();
}

/// The recorder allocates once per round, of which there are fifty a second, and nothing per message.
#[test]
fn recorded_message_allocates_nothing() {
    let store = TestStore::new(StoreMode::Discards);
    let bench = Bench::new(Some(Arc::clone(&store)), false);
    for depth in [1, 16] {
        bench.ask(2000, depth);
        let (arrived, rounds) = (load(&store.arrived), load(&store.rounds));
        let allocations = bench.ask(20_000, depth);
        let (arrived, rounds) = (load(&store.arrived) - arrived, load(&store.rounds) - rounds);
        assert!(arrived > 10_000 * depth as u64 && rounds < 10_000);
        let each = allocations.count_total as f64 / (rounds + 1) as f64;
        assert!(
            each < 12.0,
            "{each} per round at depth {depth}: {allocations:?}"
        );
    }
    bench.end();
}

/// Waiting for datagrams one after the other allocates nothing; `bench` waits so for each reply.
#[test]
fn waiting_for_a_datagram_allocates_nothing() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = server.local_addr().unwrap();
    let answering = thread::spawn(move || {
        let mut room = [0; 8];
        loop {
            let (len, peer) = server.recv_from(&mut room).unwrap();
            if len == 0 {
                return;
            }
            thread::sleep(Duration::from_micros(200));
            server.send_to(&room[..len], peer).unwrap();
        }
    });
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let endpoint = format!("udp://{addr}").parse().unwrap();
    let mut link = runtime
        .block_on(dial(&endpoint, &DialOptions::default()))
        .unwrap()
        .link;
    let mut waited = 0;
    let mut ask = async |times: usize| {
        let mut room = [0; 8];
        for _ in 0..times {
            poll_fn(|cx| link.poll_write(cx, b"ping")).await.unwrap();
            let read = poll_fn(|cx| {
                let read = link.poll_read(cx, &mut room);
                waited += usize::from(read.is_pending());
                read
            });
            assert_eq!(read.await.unwrap(), 4);
        }
    };
    runtime.block_on(ask(10));
    let allocations = measure(|| runtime.block_on(ask(200)));
    runtime
        .block_on(poll_fn(|cx| link.poll_write(cx, b"")))
        .unwrap();
    answering.join().unwrap();
    assert!(waited > 100, "it waited only {waited} times");
    assert_eq!(allocations.count_total, 0, "{allocations:?}");
}

fn load(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

/// Returns the server's send and receive calls per message.
fn calls(store: Option<Arc<TestStore>>, depth: usize) -> (f64, f64) {
    let bench = Bench::new(store, true);
    bench.ask(2000, depth);
    let messages = (2000 * depth) as f64;
    let each = (load(&bench.sends) as f64, load(&bench.recvs) as f64);
    bench.end();
    (each.0 / messages, each.1 / messages)
}

#[test]
fn d20_sixteen_lines_leave_in_one_send() {
    for store in [None, Some(TestStore::new(StoreMode::Discards))] {
        let (sends, recvs) = calls(store, 16);
        assert!(sends <= 0.07, "{sends} sends per message");
        assert!(
            recvs <= 0.07,
            "{recvs} receives per message: none finds nothing"
        );
    }
}

/// Counter-test: lines that arrive one by one cost a call each.
#[test]
fn single_line_costs_one_send_and_one_receive() {
    let (sends, recvs) = calls(None, 1);
    assert!((0.99..=1.01).contains(&sends), "{sends} sends per message");
    assert!(
        (0.99..=1.01).contains(&recvs),
        "{recvs} receives per message: none finds nothing"
    );
}
