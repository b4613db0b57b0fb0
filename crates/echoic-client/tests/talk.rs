//! The loop against real peers, and its waits against silent ones with paused time.
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
    ClientEvent, Ending, Happened, Leave, Phase, Say, Talked, Timeouts, Watch, talk, talk_watched,
};
use echoic_core::framing::{Framing, FramingPair};
use echoic_wire::{DialOptions, Link, Transport, dial};
use tokio::{sync::mpsc, time::Instant};

/// A server of one caller, on a thread of its own.
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

async fn call(addr: &str) -> Link {
    dial(&addr.parse().unwrap(), &DialOptions::default())
        .await
        .unwrap()
        .link
}

/// Says all of `said`, then ends; returns what came back.
async fn converse(link: Link, said: Vec<Say>, waits: Timeouts) -> (Vec<u8>, Talked) {
    let (say, says) = mpsc::channel(1);
    let (news, heard) = mpsc::channel(1);
    let speaking = tokio::spawn(async move {
        for said in said {
            if say.send(said).await.is_err() {
                break;
            }
        }
    });
    let talking = talk(link, FramingPair::default(), says, news, pending(), waits);
    let (bytes, talked) = tokio::join!(collect_events(heard), talking);
    speaking.await.unwrap();
    (bytes, talked)
}

async fn collect_events(mut news: mpsc::Receiver<ClientEvent>) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(news) = news.recv().await {
        if let ClientEvent::Heard { bytes, .. } = news {
            all.extend(bytes);
        }
    }
    all
}

fn text(text: &str) -> Say {
    Say::Bytes(text.as_bytes().to_vec())
}

#[tokio::test]
async fn greeting_is_received_without_sending() {
    let (addr, _) = server(|mut peer| peer.write_all(b"Thank you for connecting").unwrap());
    let (_say, says) = mpsc::channel(1);
    let (news, heard) = mpsc::channel(1);
    let talking = talk(
        call(&addr).await,
        FramingPair::default(),
        says,
        news,
        pending(),
        Timeouts::default(),
    );
    let (bytes, talked) = tokio::join!(collect_events(heard), talking);
    assert_eq!(bytes, b"Thank you for connecting");
    assert!(matches!(talked.ending, Ending::PeerClosed), "{talked:?}");
    assert!(talked.took < Duration::from_secs(2), "{talked:?}");
}

#[tokio::test]
async fn end_of_input_is_sent_and_the_reply_awaited() {
    let (addr, peer) = server(|mut peer| {
        let mut heard = String::new();
        peer.read_to_string(&mut heard).unwrap();
        peer.write_all(heard.to_uppercase().as_bytes()).unwrap();
    });
    let said = vec![text("he"), text("llo\n")];
    let (bytes, talked) = converse(call(&addr).await, said, Timeouts::default()).await;
    peer.join().unwrap();
    assert_eq!(bytes, b"HELLO\n");
    assert!(matches!(talked.ending, Ending::PeerClosed), "{talked:?}");
    assert_eq!(
        (talked.counts.sent.bytes, talked.counts.heard.bytes),
        (6, 6)
    );
    assert_eq!(talked.counts.sent.messages(Framing::Line), 1);
    assert_eq!(talked.counts.sent.messages(Framing::Chunk), 2);
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
    // One thing to say of 50 MB, so that all of it is written before anything else is done.
    let (bytes, talked) = converse(
        call(&addr).await,
        vec![Say::Bytes(all.clone())],
        Timeouts::default(),
    )
    .await;
    peer.join().unwrap();
    assert!(bytes == all, "{} bytes came back", bytes.len());
    assert!(matches!(talked.ending, Ending::PeerClosed), "{talked:?}");
}

#[tokio::test]
async fn reset_mid_reply_reports_the_bytes_received() {
    let (addr, _) = server(|mut peer| {
        let mut byte = [0];
        peer.read_exact(&mut byte).unwrap();
        peer.write_all(b"half a rep").unwrap();
        // More was said than is read, so the close is a reset.
    });
    let (bytes, talked) = converse(
        call(&addr).await,
        vec![text("request\n")],
        Timeouts::default(),
    )
    .await;
    assert_eq!(bytes, b"half a rep");
    assert!(
        matches!(talked.ending, Ending::PeerReset { after: 10 }),
        "{talked:?}"
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
    let said = (0..200).map(|_| Say::Bytes(vec![b'x'; 64 << 10])).collect();
    let (_, talked) = converse(call(&addr).await, said, Timeouts::default()).await;
    assert_eq!(peer.join().unwrap(), 200 * (64 << 10));
    assert!(matches!(talked.ending, Ending::PeerClosed), "{talked:?}");
    assert_eq!(talked.unsent, 0);
}

/// As long as it takes what comes, a pause in the input is not the end of it.
#[tokio::test(flavor = "multi_thread")]
async fn paused_upload_continues_and_stopped_upload_is_reported() {
    for (pause, upload_cut) in [(300, false), (2000, true)] {
        let (addr, peer) = server(|mut peer| {
            peer.shutdown(Shutdown::Write).unwrap();
            let mut all = String::new();
            peer.read_to_string(&mut all).unwrap();
            all
        });
        let waits = Timeouts {
            linger_timeout: Some(Duration::from_secs(1)),
            after_fin: Duration::from_secs(1),
            ..Timeouts::default()
        };
        let (say, says) = mpsc::channel(1);
        let (news, heard) = mpsc::channel(1);
        let speaking = tokio::spawn(async move {
            for (part, after) in [("one ", 0), ("two ", 300), ("three", pause)] {
                tokio::time::sleep(Duration::from_millis(after)).await;
                if say.send(text(part)).await.is_err() {
                    break;
                }
            }
        });
        let talking = talk(
            call(&addr).await,
            FramingPair::default(),
            says,
            news,
            pending(),
            waits,
        );
        let (_, talked) = tokio::join!(collect_events(heard), talking);
        speaking.await.unwrap();
        assert!(matches!(talked.ending, Ending::PeerClosed), "{talked:?}");
        assert_eq!(talked.upload_cut, upload_cut, "{talked:?}");
        assert_eq!(peer.join().unwrap() == "one two three", !upload_cut);
    }
}

#[tokio::test]
async fn unsent_bytes_are_counted_when_the_peer_closes() {
    let (addr, peer) = server(|mut peer| {
        let mut buffer = vec![0; 1 << 16];
        peer.read_exact(&mut buffer).unwrap();
    });
    let said = (0..800).map(|_| Say::Bytes(vec![b'x'; 64 << 10])).collect();
    let (_, talked) = converse(call(&addr).await, said, Timeouts::default()).await;
    peer.join().unwrap();
    // Its end or its reset may be seen first.
    assert!(
        matches!(talked.ending, Ending::PeerClosed | Ending::PeerReset { .. }),
        "{talked:?}"
    );
    assert!(talked.unsent > 0, "{talked:?}");
}

#[tokio::test]
async fn conversation_ends_when_the_event_receiver_is_dropped() {
    let (addr, _) = server(|mut peer| while peer.write_all(&[b'y'; 1024]).is_ok() {});
    let (_say, says) = mpsc::channel(1);
    let (news, mut heard) = mpsc::channel(1);
    let talking = tokio::spawn(talk(
        call(&addr).await,
        FramingPair::default(),
        says,
        news,
        pending(),
        Timeouts::default(),
    ));
    assert!(matches!(
        heard.recv().await,
        Some(ClientEvent::Heard { .. })
    ));
    drop(heard);
    let talked = talking.await.unwrap();
    assert!(matches!(talked.ending, Ending::Unheard), "{talked:?}");
}

#[tokio::test]
async fn quit_sends_pending_input_and_ends_cleanly() {
    let (addr, peer) = server(|mut peer| {
        let mut all = String::new();
        peer.read_to_string(&mut all).unwrap();
        all
    });
    let (say, says) = mpsc::channel(2);
    let (news, heard) = mpsc::channel(1);
    say.send(text("last ")).await.unwrap();
    say.send(text("words")).await.unwrap();
    let talking = talk(
        call(&addr).await,
        FramingPair::default(),
        says,
        news,
        ready(Leave::Quit),
        Timeouts::default(),
    );
    let (_, talked) = tokio::join!(collect_events(heard), talking);
    assert!(matches!(talked.ending, Ending::Quit), "{talked:?}");
    assert_eq!(peer.join().unwrap(), "last words");
}

#[tokio::test]
async fn abort_resets_the_connection() {
    let (addr, peer) = server(|mut peer| peer.read(&mut [0]).unwrap_err().kind());
    let (_say, says) = mpsc::channel(1);
    let (news, _heard) = mpsc::channel(1);
    let link = call(&addr).await;
    let talked = talk(
        link,
        FramingPair::default(),
        says,
        news,
        ready(Leave::Abort),
        Timeouts::default(),
    )
    .await;
    assert!(matches!(talked.ending, Ending::Aborted), "{talked:?}");
    assert_eq!(peer.join().unwrap(), io::ErrorKind::ConnectionReset);
}

/// A peer in memory that takes up to `room` bytes, says each of `says` at its time, and never ends.
#[derive(Debug)]
struct Slow {
    room: Arc<Mutex<usize>>,
    says: Vec<Instant>,
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Slow {
    fn link(room: usize, says_after: &[u64]) -> Link {
        let now = Instant::now();
        Link::layered(Box::new(Self {
            room: Arc::new(Mutex::new(room)),
            says: says_after
                .iter()
                .map(|s| now + Duration::from_secs(*s))
                .collect(),
            timer: None,
        }))
    }
}

impl Transport for Slow {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let Some(&at) = self.says.first() else {
            return Poll::Pending;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        timer.as_mut().poll(cx).map(|()| {
            self.says.remove(0);
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
    let (bytes, talked) = converse(link, vec![text("hi")], Timeouts::default()).await;
    assert_eq!(bytes, b"..");
    assert!(
        matches!(talked.ending, Ending::TimedOut(Phase::Linger)),
        "{talked:?}"
    );
    assert_eq!(talked.took.as_secs(), 8 + 5);
    assert_eq!(talked.counts.unanswered, 0);
}

#[tokio::test(start_paused = true)]
async fn write_timeout_ends_and_counts_unsent_bytes() {
    let link = Slow::link(3, &[]);
    let (_, talked) = converse(link, vec![text("hello")], Timeouts::default()).await;
    assert!(
        matches!(talked.ending, Ending::TimedOut(Phase::WriteStall)),
        "{talked:?}"
    );
    assert_eq!((talked.took.as_secs(), talked.unsent), (10, 2));
    assert_eq!(talked.counts.sent.bytes, 3);
}

#[tokio::test(start_paused = true)]
async fn idle_timeout_applies_only_if_set() {
    let idle = Timeouts {
        idle_timeout: Some(Duration::from_mins(1)),
        ..Timeouts::default()
    };
    let (_say, says) = mpsc::channel(1);
    let (news, heard) = mpsc::channel(1);
    let talking = talk(
        Slow::link(0, &[50]),
        FramingPair::default(),
        says,
        news,
        pending(),
        idle,
    );
    let (_, talked) = tokio::join!(collect_events(heard), talking);
    assert!(
        matches!(talked.ending, Ending::TimedOut(Phase::Idle)),
        "{talked:?}"
    );
    assert_eq!(talked.took.as_secs(), 110);
}

/// While we do not take what was heard, a peer that stops reading is our own doing.
#[tokio::test(start_paused = true)]
async fn timeouts_pause_while_the_event_receiver_is_blocked() {
    let (say, says) = mpsc::channel(1);
    let (news, mut heard) = mpsc::channel(1);
    let talking = tokio::spawn(talk(
        Slow::link(1, &[0, 0, 0]),
        FramingPair::default(),
        says,
        news,
        pending(),
        Timeouts::default(),
    ));
    say.send(text("hello")).await.unwrap();
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert!(!talking.is_finished());
    while heard.recv().await.is_some() {}
    let talked = talking.await.unwrap();
    assert!(
        matches!(talked.ending, Ending::TimedOut(Phase::WriteStall)),
        "{talked:?}"
    );
    assert_eq!(talked.took.as_secs(), 3600 + 10);
}

/// Has no room for an hour.
struct Behind(Pin<Box<tokio::time::Sleep>>);

impl Watch for Behind {
    fn happened(&mut self, _: Happened<'_>) {
        assert!(self.0.is_elapsed(), "told while there is no room");
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

/// What is not yet recorded is waited for, and the peer is not held to be slow for it.
#[tokio::test(start_paused = true)]
async fn timeouts_pause_while_the_watcher_is_behind() {
    async fn took(watch: impl Watch) -> u64 {
        let (say, says) = mpsc::channel(1);
        let (news, heard) = mpsc::channel(1);
        say.send(text("hello")).await.unwrap();
        drop(say);
        let waits = Timeouts {
            idle_timeout: Some(Duration::from_secs(7)),
            ..Timeouts::default()
        };
        let (link, frames) = (Slow::link(100, &[0, 0, 0]), FramingPair::default());
        let talking = talk_watched(link, frames, says, news, pending(), waits, watch);
        let (heard, talked) = tokio::join!(collect_events(heard), talking);
        assert_eq!(heard, b"...");
        assert_eq!((talked.counts.sent.bytes, talked.unsent), (5, 0));
        assert!(
            matches!(talked.ending, Ending::TimedOut(Phase::Linger)),
            "{talked:?}"
        );
        talked.took.as_secs()
    }
    assert_eq!(took(()).await, 5);
    let hour = tokio::time::sleep(Duration::from_hours(1));
    assert_eq!(took(Behind(Box::pin(hour))).await, 3600 + 5);
}

/// Who leaves meanwhile has a second for what was said, as ever.
#[tokio::test(start_paused = true)]
async fn slow_watcher_does_not_delay_quit() {
    let (_say, says) = mpsc::channel(1);
    let (news, _heard) = mpsc::channel(1);
    let hour = tokio::time::sleep(Duration::from_hours(1));
    let talked = talk_watched(
        Slow::link(100, &[0]),
        FramingPair::default(),
        says,
        news,
        ready(Leave::Quit),
        Timeouts::default(),
        Behind(Box::pin(hour)),
    )
    .await;
    assert!(matches!(talked.ending, Ending::Quit), "{talked:?}");
    assert_eq!(talked.took.as_secs(), 1);
}
