//! Timeouts of a conversation whose peer takes bytes slowly, under paused time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    future::pending,
    io,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use echoic_client::{ClientCommand, ConversationSummary, Ending, TimeoutKind, Timeouts, converse};
use echoic_core::framing::FramingPair;
use echoic_wire::{Link, SendQueue, Transport};
use tokio::{sync::mpsc, time::sleep};

/// A peer in memory that sends nothing, with a kernel that accepts `room` bytes and holds some of them.
#[derive(Debug)]
struct Slow {
    room: usize,
    queue: Queue,
}

/// What the peer has not acknowledged, as the system tells it.
type Queue = Arc<Mutex<u64>>;

impl Transport for Slow {
    fn poll_read(&mut self, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn poll_write(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let n = bytes.len().min(self.room);
        self.room -= n;
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

    fn send_queue(&self) -> Option<SendQueue> {
        Some(SendQueue {
            unacknowledged: *self.queue.lock().unwrap(),
            unread: None,
        })
    }
}

/// Sends five bytes and the end of the stream. The kernel accepts `room` of them, and holds as many as `queue` says, which
/// changes every 4 s.
async fn upload(room: usize, queue: &[u64], timeouts: Timeouts) -> ConversationSummary {
    let held = Queue::default();
    let link = Link::layered(Box::new(Slow {
        room,
        queue: Arc::clone(&held),
    }));
    let (sender, commands) = mpsc::channel(1);
    let (event_sender, mut events) = mpsc::channel(1);
    let send = ClientCommand::Send(b"hello".to_vec());
    sender.send(send).await.unwrap();
    drop(sender);
    let taking = async {
        for left in queue {
            *held.lock().unwrap() = *left;
            sleep(Duration::from_secs(4)).await;
        }
    };
    let reading = async { while events.recv().await.is_some() {} };
    let framings = FramingPair::default();
    let conversation = converse(link, framings, commands, event_sender, pending(), timeouts);
    tokio::join!(taking, reading, conversation).2
}

fn assert_timed_out(summary: &ConversationSummary, kind: TimeoutKind, secs: std::ops::Range<f64>) {
    assert!(
        matches!(summary.ending, Ending::TimedOut(timeout) if timeout == kind),
        "{summary:?}"
    );
    assert!(secs.contains(&summary.elapsed.as_secs_f64()), "{summary:?}");
}

/// The last byte is seen to be taken within a second after 20 s.
const FALLING: [u64; 6] = [5, 4, 3, 2, 1, 0];

#[tokio::test(start_paused = true)]
async fn linger_timeout_counts_from_the_last_byte_taken() {
    let summary = upload(5, &FALLING, Timeouts::default()).await;
    assert_timed_out(&summary, TimeoutKind::Linger, 25.0..26.1);
    assert_eq!(summary.unacknowledged, 0);
    let summary = upload(5, &[5, 4, 4], Timeouts::default()).await;
    assert_timed_out(&summary, TimeoutKind::Linger, 9.0..10.1);
    assert_eq!(summary.unacknowledged, 4);
}

#[tokio::test(start_paused = true)]
async fn write_timeout_counts_from_the_last_byte_taken() {
    let summary = upload(3, &FALLING, Timeouts::default()).await;
    assert_timed_out(&summary, TimeoutKind::Write, 30.0..31.1);
    assert_eq!(summary.unsent, 2);
}

#[tokio::test(start_paused = true)]
async fn idle_timeout_counts_from_the_last_byte_taken() {
    let timeouts = Timeouts {
        linger_timeout: None,
        idle_timeout: Some(Duration::from_secs(6)),
        ..Timeouts::default()
    };
    let summary = upload(5, &FALLING, timeouts).await;
    assert_timed_out(&summary, TimeoutKind::Idle, 26.0..27.1);
}

#[tokio::test(start_paused = true)]
async fn settling_waits_until_everything_is_acknowledged() {
    let timeouts = Timeouts {
        settle: Some(Duration::from_millis(100)),
        ..Timeouts::default()
    };
    for (queue, secs) in [(&[0][..], 0.1..0.2), (&FALLING, 20.1..20.3)] {
        let summary = upload(5, queue, timeouts.clone()).await;
        assert_timed_out(&summary, TimeoutKind::Linger, secs);
        assert_eq!(summary.unacknowledged, 0);
    }
    let summary = upload(5, &[5], timeouts).await;
    assert_timed_out(&summary, TimeoutKind::Linger, 5.0..5.7);
    assert_eq!(summary.unacknowledged, 5, "it stopped");
}
