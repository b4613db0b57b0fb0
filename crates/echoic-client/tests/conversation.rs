//! Conversations with real peers, and the timeouts against silent peers under paused time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    future::{pending, ready},
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    thread,
    time::Duration,
};

use echoic_client::{
    ClientCommand, ClientEvent, CloseMode, ConversationSummary, Ending, Observer, TimeoutKind,
    Timeouts, WireEvent, converse, converse_observed,
};
use echoic_core::framing::{Framing, FramingPair};
use echoic_wire::{DialOptions, Link, Transport, dial};
use tokio::{sync::mpsc, time::Instant};

/// Starts a server thread that accepts one connection; returns its address.
fn server<T: Send + 'static>(
    peer: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (String, thread::JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    (
        addr,
        thread::spawn(move || peer(listener.accept().unwrap().0)),
    )
}

async fn connect(addr: &str) -> Link {
    dial(&addr.parse().unwrap(), &DialOptions::default())
        .await
        .unwrap()
        .link
}

/// Sends all `commands`, then ends the stream; returns the received bytes.
async fn run(
    link: Link,
    input: Vec<ClientCommand>,
    timeouts: Timeouts,
) -> (Vec<u8>, ConversationSummary) {
    let (sender, commands) = mpsc::channel(1);
    let (event_sender, events) = mpsc::channel(1);
    let sending = tokio::spawn(async move {
        for command in input {
            if sender.send(command).await.is_err() {
                break;
            }
        }
    });
    let conversation = converse(
        link,
        FramingPair::default(),
        commands,
        event_sender,
        pending(),
        timeouts,
    );
    let (bytes, summary) = tokio::join!(collect_events(events), conversation);
    sending.await.unwrap();
    (bytes, summary)
}

async fn collect_events(mut events: mpsc::Receiver<ClientEvent>) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(event) = events.recv().await {
        if let ClientEvent::Received { bytes, .. } = event {
            all.extend(bytes);
        }
    }
    all
}

fn text(text: &str) -> ClientCommand {
    ClientCommand::Send(text.as_bytes().to_vec())
}

#[tokio::test]
async fn greeting_is_received_without_sending() {
    let (addr, _) = server(|mut peer| peer.write_all(b"Thank you for connecting").unwrap());
    let (_sender, commands) = mpsc::channel(1);
    let (event_sender, events) = mpsc::channel(1);
    let conversation = converse(
        connect(&addr).await,
        FramingPair::default(),
        commands,
        event_sender,
        pending(),
        Timeouts::default(),
    );
    let (bytes, summary) = tokio::join!(collect_events(events), conversation);
    assert_eq!(bytes, b"Thank you for connecting");
    assert!(matches!(summary.ending, Ending::PeerClosed), "{summary:?}");
    assert!(summary.elapsed < Duration::from_secs(2), "{summary:?}");
}

#[tokio::test]
async fn end_of_input_is_sent_and_the_reply_awaited() {
    let (addr, peer) = server(|mut peer| {
        let mut received = String::new();
        peer.read_to_string(&mut received).unwrap();
        peer.write_all(received.to_uppercase().as_bytes()).unwrap();
    });
    let input = vec![text("he"), text("llo\n")];
    let (bytes, summary) = run(connect(&addr).await, input, Timeouts::default()).await;
    peer.join().unwrap();
    assert_eq!(bytes, b"HELLO\n");
    assert!(matches!(summary.ending, Ending::PeerClosed), "{summary:?}");
    assert_eq!(
        (summary.counts.sent.bytes, summary.counts.received.bytes),
        (6, 6)
    );
    assert_eq!(summary.counts.sent.messages(Framing::Line), 1);
    assert_eq!(summary.counts.sent.messages(Framing::Chunk), 2);
}

/// The echo deadlock: the peer does not read while its own replies are unread.
#[tokio::test(flavor = "multi_thread")]
async fn echo_returns_fifty_megabytes() {
    const BYTES: usize = 50_000_000;
    let (addr, peer) = server(|mut peer| {
        let mut buffer = [0; 4096];
        loop {
            let n = peer.read(&mut buffer).unwrap();
            if n == 0 {
                return;
            }
            peer.write_all(&buffer[..n]).unwrap();
        }
    });
    let all: Vec<u8> = (0..BYTES).map(|i| (i % 251) as u8).collect();
    // One command of 50 MB, so that all of it is written before the next one starts.
    let (bytes, summary) = run(
        connect(&addr).await,
        vec![ClientCommand::Send(all.clone())],
        Timeouts::default(),
    )
    .await;
    peer.join().unwrap();
    assert!(bytes == all, "{} bytes came back", bytes.len());
    assert!(matches!(summary.ending, Ending::PeerClosed), "{summary:?}");
}

#[tokio::test]
async fn reset_mid_reply_reports_the_bytes_received() {
    let (addr, _) = server(|mut peer| {
        let mut byte = [0];
        peer.read_exact(&mut byte).unwrap();
        peer.write_all(b"half a rep").unwrap();
        // Not all of the request is read, so the close sends a reset.
    });
    let (bytes, summary) = run(
        connect(&addr).await,
        vec![text("request\n")],
        Timeouts::default(),
    )
    .await;
    assert_eq!(bytes, b"half a rep");
    assert!(
        matches!(summary.ending, Ending::PeerReset { after: 10 }),
        "{summary:?}"
    );
}

#[tokio::test]
async fn peer_that_half_closes_first_gets_the_whole_upload() {
    let (addr, peer) = server(|mut peer| {
        peer.shutdown(Shutdown::Write).unwrap();
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        all.len()
    });
    let input = (0..200)
        .map(|_| ClientCommand::Send(vec![b'x'; 64 << 10]))
        .collect();
    let (_, summary) = run(connect(&addr).await, input, Timeouts::default()).await;
    assert_eq!(peer.join().unwrap(), 200 * (64 << 10));
    assert!(matches!(summary.ending, Ending::PeerClosed), "{summary:?}");
    assert_eq!(summary.unsent, 0);
}

/// The peer's FIN ends its half, not ours: a pause in our input is longer than any timeout here.
#[tokio::test(flavor = "multi_thread")]
async fn input_after_the_peers_fin_arrives_whole() {
    let (addr, peer) = server(|mut peer| {
        peer.shutdown(Shutdown::Write).unwrap();
        let mut all = String::new();
        peer.read_to_string(&mut all).unwrap();
        all
    });
    let timeouts = Timeouts {
        linger_timeout: Some(Duration::from_millis(200)),
        write_timeout: Duration::from_millis(300),
        ..Timeouts::default()
    };
    let (sender, commands) = mpsc::channel(1);
    let (event_sender, mut events) = mpsc::channel(1);
    let sending = tokio::spawn(async move {
        for (part, after) in [("one ", 500), ("two ", 1200), ("three", 500)] {
            tokio::time::sleep(Duration::from_millis(after)).await;
            sender.send(text(part)).await.unwrap();
        }
    });
    let conversation = converse(
        connect(&addr).await,
        FramingPair::default(),
        commands,
        event_sender,
        pending(),
        timeouts,
    );
    let told = async {
        let mut told = 0;
        while let Some(event) = events.recv().await {
            told += u32::from(event == ClientEvent::HalfClosed);
        }
        told
    };
    let (told, summary) = tokio::join!(told, conversation);
    sending.await.unwrap();
    assert_eq!(peer.join().unwrap(), "one two three");
    assert!(matches!(summary.ending, Ending::PeerClosed), "{summary:?}");
    assert_eq!((summary.upload_cut, summary.unsent, told), (false, 0, 1));
}

/// Nothing wakes us for it, and nothing is sent that would be answered with a reset.
#[tokio::test]
async fn close_of_both_halves_ends_it_while_nothing_is_sent() {
    let (addr, peer) = server(drop);
    let (_sender, commands) = mpsc::channel(1);
    let (event_sender, events) = mpsc::channel(1);
    let conversation = converse(
        connect(&addr).await,
        FramingPair::default(),
        commands,
        event_sender,
        pending(),
        Timeouts::default(),
    );
    let (_, summary) = tokio::join!(collect_events(events), conversation);
    peer.join().unwrap();
    assert!(matches!(summary.ending, Ending::PeerClosed), "{summary:?}");
    assert!(!summary.upload_cut, "{summary:?}");
    assert!(summary.elapsed < Duration::from_secs(2), "{summary:?}");
}

/// The kernel has accepted the bytes, and the peer closes without reading them.
#[tokio::test]
async fn bytes_unread_by_a_peer_that_closed_are_reported() {
    let (addr, peer) = server(|peer| {
        peer.shutdown(Shutdown::Write).unwrap();
        peer.peek(&mut [0]).unwrap();
        thread::sleep(Duration::from_millis(200));
    });
    let (sender, commands) = mpsc::channel(1);
    let (event_sender, events) = mpsc::channel(1);
    sender.send(text("lost")).await.unwrap();
    let conversation = converse(
        connect(&addr).await,
        FramingPair::default(),
        commands,
        event_sender,
        pending(),
        Timeouts::default(),
    );
    let (_, summary) = tokio::join!(collect_events(events), conversation);
    peer.join().unwrap();
    drop(sender);
    assert!(matches!(summary.ending, Ending::PeerClosed), "{summary:?}");
    assert!(summary.upload_cut, "{summary:?}");
}

/// Our half stays open for the peer only.
#[tokio::test]
async fn held_half_is_ended_after_the_peers() {
    let (addr, peer) = server(|mut peer| {
        peer.read_exact(&mut [0; 2]).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        peer.read_to_end(&mut Vec::new()).unwrap()
    });
    let (sender, commands) = mpsc::channel(2);
    let (event_sender, events) = mpsc::channel(1);
    sender.send(text("hi")).await.unwrap();
    sender.send(ClientCommand::Hold).await.unwrap();
    let conversation = converse(
        connect(&addr).await,
        FramingPair::default(),
        commands,
        event_sender,
        pending(),
        Timeouts::default(),
    );
    let (_, summary) = tokio::join!(collect_events(events), conversation);
    assert!(matches!(summary.ending, Ending::PeerClosed), "{summary:?}");
    assert_eq!(peer.join().unwrap(), 0);
}

#[tokio::test]
async fn unsent_bytes_are_counted_when_the_peer_closes() {
    let (addr, peer) = server(|mut peer| {
        let mut buffer = vec![0; 1 << 16];
        peer.read_exact(&mut buffer).unwrap();
    });
    let input = (0..800)
        .map(|_| ClientCommand::Send(vec![b'x'; 64 << 10]))
        .collect();
    let (_, summary) = run(connect(&addr).await, input, Timeouts::default()).await;
    peer.join().unwrap();
    // Either the FIN or the reset may arrive first.
    assert!(
        matches!(
            summary.ending,
            Ending::PeerClosed | Ending::PeerReset { .. }
        ),
        "{summary:?}"
    );
    assert!(summary.unsent > 0, "{summary:?}");
}

#[tokio::test]
async fn conversation_ends_when_the_event_receiver_is_dropped() {
    let (addr, _) = server(|mut peer| while peer.write_all(&[b'y'; 1024]).is_ok() {});
    let (_sender, commands) = mpsc::channel(1);
    let (event_sender, mut events) = mpsc::channel(1);
    let conversation = tokio::spawn(converse(
        connect(&addr).await,
        FramingPair::default(),
        commands,
        event_sender,
        pending(),
        Timeouts::default(),
    ));
    assert!(matches!(
        events.recv().await,
        Some(ClientEvent::Received { .. })
    ));
    drop(events);
    let summary = conversation.await.unwrap();
    assert!(
        matches!(summary.ending, Ending::OutputClosed),
        "{summary:?}"
    );
}

#[tokio::test]
async fn graceful_close_sends_pending_input_first() {
    let (addr, peer) = server(|mut peer| {
        let mut all = String::new();
        peer.read_to_string(&mut all).unwrap();
        all
    });
    let (sender, commands) = mpsc::channel(2);
    let (event_sender, events) = mpsc::channel(1);
    sender.send(text("last ")).await.unwrap();
    sender.send(text("words")).await.unwrap();
    let conversation = converse(
        connect(&addr).await,
        FramingPair::default(),
        commands,
        event_sender,
        ready(CloseMode::Graceful),
        Timeouts::default(),
    );
    let (_, summary) = tokio::join!(collect_events(events), conversation);
    assert!(matches!(summary.ending, Ending::ClosedByUs), "{summary:?}");
    assert_eq!(peer.join().unwrap(), "last words");
}

#[tokio::test]
async fn reset_mode_resets_the_connection() {
    let (addr, peer) = server(|mut peer| peer.read(&mut [0]).unwrap_err().kind());
    let (_sender, commands) = mpsc::channel(1);
    let (event_sender, _events) = mpsc::channel(1);
    let link = connect(&addr).await;
    let summary = converse(
        link,
        FramingPair::default(),
        commands,
        event_sender,
        ready(CloseMode::Reset),
        Timeouts::default(),
    )
    .await;
    assert!(matches!(summary.ending, Ending::ResetByUs), "{summary:?}");
    assert_eq!(peer.join().unwrap(), io::ErrorKind::ConnectionReset);
}

/// An in-memory peer that accepts up to `room` bytes, sends one byte at each time in `sends`, and never ends.
#[derive(Debug)]
struct Slow {
    room: Arc<Mutex<usize>>,
    sends: Vec<Instant>,
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Slow {
    fn link(room: usize, send_after_secs: &[u64]) -> Link {
        let now = Instant::now();
        Link::layered(Box::new(Self {
            room: Arc::new(Mutex::new(room)),
            sends: send_after_secs
                .iter()
                .map(|s| now + Duration::from_secs(*s))
                .collect(),
            timer: None,
        }))
    }
}

impl Transport for Slow {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let Some(&at) = self.sends.first() else {
            return Poll::Pending;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        timer.as_mut().poll(cx).map(|()| {
            self.sends.remove(0);
            self.timer = None;
            buffer[0] = b'.';
            Ok(1)
        })
    }

    fn poll_write(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut room = self.room.lock().unwrap();
        let n = bytes.len().min(*room);
        *room -= n;
        if n == 0 {
            Poll::Pending
        } else {
            Poll::Ready(Ok(n))
        }
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn abort(&mut self) {}
}

#[tokio::test(start_paused = true)]
async fn linger_timeout_is_renewed_by_each_received_byte() {
    let link = Slow::link(100, &[4, 8]);
    let (bytes, summary) = run(link, vec![text("hi")], Timeouts::default()).await;
    assert_eq!(bytes, b"..");
    assert!(
        matches!(summary.ending, Ending::TimedOut(TimeoutKind::Linger)),
        "{summary:?}"
    );
    assert_eq!(summary.elapsed.as_secs(), 8 + 5);
    assert_eq!(summary.counts.unanswered, 0);
}

#[tokio::test(start_paused = true)]
async fn write_timeout_ends_and_counts_unsent_bytes() {
    let link = Slow::link(3, &[]);
    let (_, summary) = run(link, vec![text("hello")], Timeouts::default()).await;
    assert!(
        matches!(summary.ending, Ending::TimedOut(TimeoutKind::Write)),
        "{summary:?}"
    );
    assert_eq!((summary.elapsed.as_secs(), summary.unsent), (10, 2));
    assert_eq!(summary.counts.sent.bytes, 3);
}

#[tokio::test(start_paused = true)]
async fn idle_timeout_applies_only_if_set() {
    let idle = Timeouts {
        idle_timeout: Some(Duration::from_mins(1)),
        ..Timeouts::default()
    };
    let (_sender, commands) = mpsc::channel(1);
    let (event_sender, events) = mpsc::channel(1);
    let conversation = converse(
        Slow::link(0, &[50]),
        FramingPair::default(),
        commands,
        event_sender,
        pending(),
        idle,
    );
    let (_, summary) = tokio::join!(collect_events(events), conversation);
    assert!(
        matches!(summary.ending, Ending::TimedOut(TimeoutKind::Idle)),
        "{summary:?}"
    );
    assert_eq!(summary.elapsed.as_secs(), 110);
}

/// While we do not take received bytes, a peer that stops reading is not at fault.
#[tokio::test(start_paused = true)]
async fn timeouts_pause_while_the_event_receiver_is_blocked() {
    let (sender, commands) = mpsc::channel(1);
    let (event_sender, mut events) = mpsc::channel(1);
    let conversation = tokio::spawn(converse(
        Slow::link(1, &[0, 0, 0]),
        FramingPair::default(),
        commands,
        event_sender,
        pending(),
        Timeouts::default(),
    ));
    sender.send(text("hello")).await.unwrap();
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert!(!conversation.is_finished());
    while events.recv().await.is_some() {}
    let summary = conversation.await.unwrap();
    assert!(
        matches!(summary.ending, Ending::TimedOut(TimeoutKind::Write)),
        "{summary:?}"
    );
    assert_eq!(summary.elapsed.as_secs(), 3600 + 10);
}

/// An observer that is busy for an hour.
struct Busy(Pin<Box<tokio::time::Sleep>>);

impl Observer for Busy {
    fn observe(&mut self, _: WireEvent<'_>) {
        assert!(self.0.is_elapsed(), "observed while busy");
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

/// The conversation waits for the observer, and its timeouts do not count that time against the peer.
#[tokio::test(start_paused = true)]
async fn timeouts_pause_while_the_observer_is_busy() {
    async fn elapsed_secs(observer: impl Observer) -> u64 {
        let (sender, commands) = mpsc::channel(1);
        let (event_sender, events) = mpsc::channel(1);
        sender.send(text("hello")).await.unwrap();
        drop(sender);
        let timeouts = Timeouts {
            idle_timeout: Some(Duration::from_secs(7)),
            ..Timeouts::default()
        };
        let (link, framings) = (Slow::link(100, &[0, 0, 0]), FramingPair::default());
        let conversation = converse_observed(
            link,
            framings,
            commands,
            event_sender,
            pending(),
            timeouts,
            observer,
        );
        let (received, summary) = tokio::join!(collect_events(events), conversation);
        assert_eq!(received, b"...");
        assert_eq!((summary.counts.sent.bytes, summary.unsent), (5, 0));
        assert!(
            matches!(summary.ending, Ending::TimedOut(TimeoutKind::Linger)),
            "{summary:?}"
        );
        summary.elapsed.as_secs()
    }
    assert_eq!(elapsed_secs(()).await, 5);
    let hour = tokio::time::sleep(Duration::from_hours(1));
    assert_eq!(elapsed_secs(Busy(Box::pin(hour))).await, 3600 + 5);
}

/// A graceful close during that time still has its second to send queued data.
#[tokio::test(start_paused = true)]
async fn busy_observer_does_not_delay_close() {
    let (_sender, commands) = mpsc::channel(1);
    let (event_sender, _events) = mpsc::channel(1);
    let hour = tokio::time::sleep(Duration::from_hours(1));
    let summary = converse_observed(
        Slow::link(100, &[0]),
        FramingPair::default(),
        commands,
        event_sender,
        ready(CloseMode::Graceful),
        Timeouts::default(),
        Busy(Box::pin(hour)),
    )
    .await;
    assert!(matches!(summary.ending, Ending::ClosedByUs), "{summary:?}");
    assert_eq!(summary.elapsed.as_secs(), 1);
}
