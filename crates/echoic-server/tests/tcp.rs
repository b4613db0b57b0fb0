//! A whole server on real sockets, with blocking clients.

#![allow(clippy::unwrap_used, reason = "in a test that is the failure")]

#[path = "../../echoic-recorder/tests/common/mod.rs"]
mod common;
#[path = "common/serving.rs"]
mod serving;

use std::{
    collections::HashMap,
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use echoic_core::{
    ending::CloseReason,
    framing::Framing,
    service::{
        BoxFuture, Handler, Peer, Reply, ReplySender, RequestReceiver, Service, ServiceError,
        SpawnedHandler,
    },
};
use serving::*;

const MB: usize = 1_000_000;

#[test]
fn greeting_arrives_whole_if_the_peer_sends_first() {
    let greeting = "g".repeat(MB);
    let serving = Serve::named(&format!("greet:{greeting}"), Framing::Chunk).start();
    for sent in [0, 1, MB] {
        let mut peer = serving.call();
        peer.write_all(&vec![b'x'; sent]).unwrap();
        assert_eq!(rest(&mut peer).len(), MB, "having sent {sent}");
    }
    let (_, store) = serving.end();
    assert_eq!(store.endings().len(), 3);
    for (_, ending) in store.endings() {
        assert_eq!(
            (ending.reason, ending.sent),
            (CloseReason::ServiceClosed, MB as u64)
        );
    }
}

/// The same with a plain close, as many tutorials show it: closing with unread input makes the kernel reset the connection, and the
/// peer loses what it has not read yet.
#[test]
fn plain_close_loses_most_of_a_greeting() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut first = [0];
        stream.read_exact(&mut first).unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut sent = 0;
        // Fills the send buffer, then closes.
        while let Ok(n) = stream.write(&vec![b'g'; MB - sent]) {
            sent += n;
            if sent == MB {
                break;
            }
        }
        sent
    });
    let mut peer = TcpStream::connect(addr).unwrap();
    peer.write_all(&[b'x'; 1000]).unwrap();
    let sent = server.join().unwrap();
    let mut got = Vec::new();
    let error = peer.read_to_end(&mut got).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(got.len() < sent / 2, "{} of {sent}", got.len());
}

#[test]
fn two_clients_are_served_independently() {
    let serving = Serve::named("upper", Framing::Chunk).start();
    let (mut slow, mut fast) = (serving.call(), serving.call());
    slow.write_all(b"slow").unwrap();
    for _ in 0..100 {
        fast.write_all(b"fast").unwrap();
        assert_eq!(read(&mut fast, 4), b"FAST");
    }
    assert_eq!(read(&mut slow, 4), b"SLOW");
    drop((slow, fast));
    let (drained, store) = serving.end();
    assert_eq!(drained.served, 101);
    let reasons: Vec<_> = store.endings().iter().map(|(_, end)| end.reason).collect();
    assert_eq!(reasons.len(), 2);
}

#[test]
fn echo_returns_fifty_megabytes_to_a_concurrent_reader() {
    for workers in [0, 1] {
        let mut serve = Serve::named("echo", Framing::Chunk);
        serve.workers = workers;
        let serving = serve.start();
        let data: Vec<u8> = (0..50 * MB).map(|i| (i * 7 % 253) as u8).collect();
        let peer = serving.call();
        let mut reader = peer.try_clone().unwrap();
        let reading = thread::spawn(move || rest(&mut reader));
        (&peer).write_all(&data).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        assert!(reading.join().unwrap() == data);
        let (_, store) = serving.end();
        let ending = store.ending(1).unwrap();
        assert_eq!(
            (ending.reason, ending.sent),
            (CloseReason::PeerClosed, 50 * MB as u64)
        );
    }
}

#[test]
fn empty_lines_and_split_characters_are_answered() {
    let line = Serve::named("upper", Framing::Line).start();
    assert_eq!(line.ask("\n"), b"\n");
    assert_eq!(line.ask("a\n\nb"), b"A\n\nB");
    assert_eq!(line.ask(""), b"");
    let mut peer = line.call();
    peer.write_all(b"\n").unwrap();
    assert_eq!(
        read(&mut peer, 1),
        b"\n",
        "an empty line is answered at once"
    );
    drop(peer);
    line.end();

    let chunk = Serve::named("upper", Framing::Chunk).start();
    assert_eq!(chunk.ask("hello"), b"HELLO");
    let mut peer = chunk.call();
    peer.set_nodelay(true).unwrap();
    for byte in "straße".bytes() {
        peer.write_all(&[byte]).unwrap();
        thread::sleep(Duration::from_millis(2)); // so each byte is likely to be a read of its own
    }
    peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut peer), b"STRASSE");
    let (_, store) = chunk.end();
    assert!(store.exchanges().len() > 3, "several reads");
}

#[test]
fn all_lines_are_answered_after_a_half_close() {
    let serving = Serve::named("upper", Framing::Line).start();
    let lines = (0..1000)
        .map(|i| format!("line {i}\n"))
        .collect::<Vec<_>>()
        .concat();
    for _ in 0..20 {
        let asked = lines.clone() + "the last";
        assert_eq!(serving.ask(&asked), asked.to_uppercase().as_bytes());
    }
    let (drained, _) = serving.end();
    assert_eq!(drained.served, 20 * 1001);
}

#[tokio::test]
async fn reset_mid_reply_is_recorded_and_others_continue() {
    use tokio::io::AsyncWriteExt;
    let serving = Serve::named("echo", Framing::Line).start();
    for _ in 0..20 {
        let mut peer = tokio::net::TcpStream::connect(serving.addr).await.unwrap();
        let line = "x".repeat((1 << 20) - 1) + "\n";
        for _ in 0..4 {
            peer.write_all(line.as_bytes()).await.unwrap();
            if peer.try_read(&mut [0; 1000]).is_ok() {
                break;
            }
        }
        peer.set_zero_linger().unwrap();
    }
    let good = tokio::task::spawn_blocking(move || {
        assert_eq!(serving.ask("good\n"), b"good\n");
        let store = Arc::clone(&serving.store);
        until("21 endings", || store.endings().len() == 21);
        serving.end()
    });
    let (_, store) = good.await.unwrap();
    let reset = store.endings();
    let reset = reset
        .iter()
        .filter(|(_, end)| end.reason == CloseReason::PeerReset);
    assert_eq!(reset.count(), 20);
}

#[test]
fn excess_connection_gets_a_clean_close() {
    let mut serve = Serve::named("upper", Framing::Line);
    serve.limits.connections_max = 2;
    let serving = serve.start();
    let mut served = [serving.call(), serving.call()];
    for peer in &mut served {
        peer.write_all(b"a\n").unwrap();
        assert_eq!(read(peer, 2), b"A\n");
    }
    for _ in 0..10 {
        let mut extra = serving.call();
        let _ = extra.write_all(b"hello\n");
        assert_eq!(rest(&mut extra), b"");
    }
    let [first, _second] = served;
    drop(first);
    let store = Arc::clone(&serving.store);
    until("a connection has ended", || {
        store
            .endings()
            .iter()
            .any(|(_, end)| end.reason == CloseReason::PeerClosed)
    });
    until("a new connection is served", || {
        let mut peer = serving.call();
        peer.write_all(b"b\n").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        rest(&mut peer) == b"B\n"
    });
    let (drained, store) = serving.end();
    assert!(drained.served >= 3);
    let endings = store.endings();
    let rejected = endings
        .iter()
        .filter(|(_, end)| end.reason == CloseReason::TooManyConnections);
    assert!(rejected.count() >= 10);
}

#[test]
fn panic_ends_one_conversation_and_is_counted() {
    let service = Doing(|body: &[u8], out: &mut Vec<u8>| {
        assert!(body != b"!", "panics on purpose");
        out.extend(body);
    });
    let serving = Serve::with(Arc::new(service), Framing::Line).start();
    let mut good = serving.call();
    for _ in 0..20 {
        let mut bad = serving.call();
        bad.write_all(b"a\n!\n").unwrap();
        let _ = bad.read_to_end(&mut Vec::new());
        good.write_all(b"good\n").unwrap();
        assert_eq!(read(&mut good, 5), b"good\n");
    }
    drop(good);
    let (drained, store) = serving.end();
    assert_eq!(drained.panicked, 20);
    let panicked = store.endings();
    let panicked = panicked
        .iter()
        .filter(|(_, end)| end.reason == CloseReason::Panicked);
    assert_eq!(panicked.count(), 20);
}

/// A stop under pipelined load: every reply that a client has is recorded, in order, and the end is clean.
#[test]
fn replies_sent_before_stop_are_recorded() {
    for (round, workers) in [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 2)] {
        let mut serve = Serve::named("upper", Framing::Line);
        serve.workers = workers;
        serve.options.shards = workers.max(1);
        let serving = serve.start();
        let replies = Arc::new(AtomicU64::new(0));
        let clients: Vec<_> = (0..20)
            .map(|client| {
                let mut peer = serving.call();
                let replies = Arc::clone(&replies);
                thread::spawn(move || {
                    let mut got: Vec<u8> = Vec::new();
                    let mut buffer = [0; 4096];
                    for i in 0_u64.. {
                        let run = (0..16)
                            .map(|j| format!("c{client} {i}.{j}\n"))
                            .collect::<Vec<_>>()
                            .concat();
                        if peer.write_all(run.as_bytes()).is_err() {
                            break;
                        }
                        match peer.read(&mut buffer) {
                            Ok(0) => break,
                            Ok(n) => got.extend(&buffer[..n]),
                            Err(error) => panic!("the end is not clean: {error}"),
                        }
                        replies.fetch_add(1, Ordering::Relaxed);
                    }
                    (client, got)
                })
            })
            .collect();
        until("under way", || {
            replies.load(Ordering::Relaxed) > 100 + 300 * round
        });
        let stopping = serving.stop();
        let got: Vec<_> = clients.into_iter().map(|c| c.join().unwrap()).collect();
        let (drained, store) = stopping.end();
        assert_eq!((drained.cut, drained.panicked), (0, 0));
        let mut recorded: HashMap<u64, Vec<u8>> = HashMap::new();
        for kept in store.exchanges() {
            recorded
                .entry(kept.conversation)
                .or_default()
                .extend(kept.reply);
        }
        for (client, got) in got {
            let replies = recorded
                .values()
                .find(|replies| replies.starts_with(format!("C{client} ").as_bytes()));
            let replies = replies.cloned().unwrap_or_default();
            assert!(replies == got, "client {client} received what is recorded");
        }
    }
}

/// Connections in the backlog, with a request each, are accepted and answered at the stop.
#[test]
fn callers_in_the_backlog_at_stop_are_answered() {
    const CALLERS: usize = 600;
    let asleep = Arc::new(AtomicBool::new(false));
    let awake = Arc::new(AtomicBool::new(false));
    let (notify, wait_for) = (Arc::clone(&asleep), Arc::clone(&awake));
    let service = Doing(move |body: &[u8], out: &mut Vec<u8>| {
        if body == b"sleep" {
            notify.store(true, Ordering::SeqCst);
            until("all clients are connected", || {
                wait_for.load(Ordering::SeqCst)
            });
        }
        out.extend(body);
    });
    let serving = Serve::with(Arc::new(service), Framing::Line).start();
    let mut first = serving.call();
    first.write_all(b"sleep\n").unwrap();
    until("the server's only thread sleeps", || {
        asleep.load(Ordering::SeqCst)
    });
    let mut callers: Vec<_> = (0..CALLERS).map(|_| serving.call()).collect();
    for caller in &mut callers {
        caller.write_all(b"hello\n").unwrap();
    }
    let stopping = serving.stop();
    awake.store(true, Ordering::SeqCst);
    let answered = callers
        .iter_mut()
        .filter_map(|caller| {
            let mut reply = Vec::new();
            caller.read_to_end(&mut reply).ok()?;
            (reply == b"hello\n").then_some(())
        })
        .count();
    drop(callers);
    drop(first);
    stopping.end();
    assert_eq!(answered, CALLERS);
}

/// Everything that the kernel has received at the stop is answered, on every connection.
#[test]
fn everything_received_before_stop_is_answered() {
    const PEERS: usize = 200;
    let (sleeping, all_sent) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let (notify, wait_for) = (Arc::clone(&sleeping), Arc::clone(&all_sent));
    let service = Doing(move |body: &[u8], out: &mut Vec<u8>| {
        if body == b"sleep" {
            notify.fetch_add(1, Ordering::SeqCst);
            until("everything is sent", || wait_for.load(Ordering::SeqCst));
        }
        out.extend(body);
    });
    for workers in [0, 2] {
        sleeping.store(0, Ordering::SeqCst);
        all_sent.store(false, Ordering::SeqCst);
        let mut serve = Serve::with(Arc::new(Doing(service.0.clone())), Framing::Line);
        serve.workers = workers;
        let serving = serve.start();
        let mut peers: Vec<_> = (0..PEERS).map(|_| serving.call()).collect();
        for peer in &mut peers {
            peer.write_all(b"hello\n").unwrap();
            assert_eq!(read(peer, 6), b"hello\n");
        }
        // One conversation of each thread blocks it.
        for peer in &mut peers[..2] {
            peer.write_all(b"sleep\n").unwrap();
        }
        let threads = workers.max(1) as u64;
        until("every thread sleeps", || {
            sleeping.load(Ordering::SeqCst) >= threads
        });
        let lines = "a line\n".repeat(1000);
        for peer in &mut peers {
            peer.write_all(lines.as_bytes()).unwrap();
        }
        let stopping = serving.stop();
        all_sent.store(true, Ordering::SeqCst);
        for (i, peer) in peers.iter_mut().enumerate() {
            let slept = if i < 2 { "sleep\n" } else { "" };
            let (got, all) = (rest(peer), slept.to_owned() + &lines);
            assert!(
                got == all.as_bytes(),
                "peer {i}: {} of {}",
                got.len(),
                all.len()
            );
        }
        let (drained, store) = stopping.end();
        assert_eq!((drained.cut, drained.served), (0, 200 * 1001 + 2));
        assert!(
            store
                .endings()
                .iter()
                .all(|(_, end)| end.reason == CloseReason::ServerStopped)
        );
    }
}

/// Sends and receives at the same time, each as fast as possible.
#[derive(Clone, Debug)]
struct BothWays {
    bytes: usize,
    received: Arc<AtomicU64>,
}

impl Service for BothWays {
    fn name(&self) -> &'static str {
        "both-ways"
    }

    fn handler(&self, _: &Peer) -> Handler {
        Handler::Spawned(Box::new(self.clone()))
    }
}

impl SpawnedHandler for BothWays {
    fn run(
        self: Box<Self>,
        mut requests: RequestReceiver,
        mut replies: ReplySender,
    ) -> BoxFuture<'static, Result<(), ServiceError>> {
        let Self { bytes, received } = *self;
        Box::pin(async move {
            let send = async move {
                for _ in 0..bytes / 10_000 {
                    let block = Reply::Bytes {
                        bytes: vec![b'.'; 10_000],
                        lengths: Some(Vec::new()),
                    };
                    if replies.send(block).await.is_err() {
                        break;
                    }
                }
            };
            let receive = async {
                while let Ok(Some(run)) = requests.recv().await {
                    received.fetch_add(run.into_bytes().len() as u64, Ordering::Relaxed);
                }
            };
            tokio::join!(send, receive);
            Ok(())
        })
    }
}

#[test]
fn d07_fifty_megabytes_flow_both_ways_at_once() {
    let received = Arc::new(AtomicU64::new(0));
    let service = BothWays {
        bytes: 50 * MB,
        received: Arc::clone(&received),
    };
    let serving = Serve::with(Arc::new(service), Framing::Chunk).start();
    let peer = serving.call();
    let mut reader = peer.try_clone().unwrap();
    let reading = thread::spawn(move || rest(&mut reader).len());
    (&peer).write_all(&vec![b'x'; 50 * MB]).unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(reading.join().unwrap(), 50 * MB);
    let (_, store) = serving.end();
    assert_eq!(received.load(Ordering::Relaxed), 50 * MB as u64);
    assert_eq!(store.ending(1).unwrap().reason, CloseReason::PeerClosed);
}

/// Answers its first request by resetting the connection.
#[derive(Debug)]
struct Resetting;

impl Service for Resetting {
    fn name(&self) -> &'static str {
        "resetting"
    }

    fn handler(&self, _: &Peer) -> Handler {
        Handler::Spawned(Box::new(Self))
    }
}

impl SpawnedHandler for Resetting {
    fn run(
        self: Box<Self>,
        mut requests: RequestReceiver,
        mut replies: ReplySender,
    ) -> BoxFuture<'static, Result<(), ServiceError>> {
        Box::pin(async move {
            requests.recv().await?;
            replies.send(Reply::Reset).await?;
            Ok(())
        })
    }
}

#[test]
fn reset_by_a_spawned_handler_reaches_the_peer() {
    let serving = Serve::with(Arc::new(Resetting), Framing::Line).start();
    let mut peer = serving.call();
    peer.write_all(b"a\n").unwrap();
    let error = peer.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let (_, store) = serving.end();
    assert_eq!(store.ending(1).unwrap().reason, CloseReason::ResetByUs);
}

#[test]
fn workers_share_conversations_evenly() {
    let threads = Arc::new(std::sync::Mutex::new(HashMap::new()));
    let seen = Arc::clone(&threads);
    let service = Doing(move |body: &[u8], out: &mut Vec<u8>| {
        *seen
            .lock()
            .unwrap()
            .entry(thread::current().id())
            .or_insert(0) += 1;
        out.extend(body);
    });
    let mut serve = Serve::with(Arc::new(service), Framing::Line);
    serve.workers = 2;
    serve.options.shards = 2;
    let serving = serve.start();
    let mut peers: Vec<_> = (0..10).map(|_| serving.call()).collect();
    for peer in &mut peers {
        peer.write_all(b"a\n").unwrap();
        assert_eq!(read(peer, 2), b"a\n");
    }
    drop(peers);
    let (drained, _) = serving.end();
    assert_eq!(drained.served, 10);
    let threads = threads.lock().unwrap();
    assert_eq!(threads.values().copied().collect::<Vec<i32>>(), [5, 5]);
}
