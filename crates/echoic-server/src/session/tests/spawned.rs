//! Spawned handlers: they may reply at any time, both queues are bounded in bytes, and a handler that does nothing delays
//! no other conversation.

use std::collections::BTreeMap;

use echoic_core::{
    event::{Marked, Outcome},
    service::{PeerGone, QUEUE_BYTES, Reply},
};
use tokio::{sync::mpsc, time::sleep};

use super::{wire::Line, *};

const SECOND: Duration = Duration::from_secs(1);

/// A reply to the oldest unanswered request.
fn answer(bytes: impl AsRef<[u8]>) -> Reply {
    let bytes = bytes.as_ref().to_vec();
    let lengths = Some(vec![bytes.len() as u32]);
    Reply::Bytes { bytes, lengths }
}

/// Bytes that answer no request.
pub(super) fn unsolicited(bytes: impl AsRef<[u8]>) -> Reply {
    Reply::Bytes {
        bytes: bytes.as_ref().to_vec(),
        lengths: Some(Vec::new()),
    }
}

/// Bytes without lengths: the handler does not know which request they answer.
fn undivided(bytes: impl AsRef<[u8]>) -> Reply {
    Reply::Bytes {
        bytes: bytes.as_ref().to_vec(),
        lengths: None,
    }
}

/// The requests of a stream one by one, as they were received.
struct Requests {
    receiver: RequestReceiver,
    queued: std::vec::IntoIter<Vec<u8>>,
}

impl Requests {
    fn of(receiver: RequestReceiver) -> Self {
        Self {
            receiver,
            queued: Vec::new().into_iter(),
        }
    }

    /// Returns the next request; `None` after the end of the stream or when the peer is gone.
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(next) = self.queued.next() {
                return Some(next);
            }
            let run = self.receiver.recv().await.ok().flatten()?;
            let raw: Vec<_> = run.as_run().messages().map(|m| m.raw.to_vec()).collect();
            self.queued = raw.into_iter();
        }
    }
}

/// Replies that are ready out of order, sent in order.
#[derive(Default)]
struct InOrder {
    next: u64,
    early: BTreeMap<u64, Vec<u8>>,
}

impl InOrder {
    async fn send(
        &mut self,
        replies: &mut ReplySender,
        index: u64,
        bytes: Vec<u8>,
    ) -> Result<(), PeerGone> {
        self.early.insert(index, bytes);
        while let Some(bytes) = self.early.remove(&self.next) {
            self.next += 1;
            replies.send(answer(bytes)).await?;
        }
        Ok(())
    }
}

/// Answers each request with itself, one after the other.
fn echo_spawned() -> Handler {
    spawned(|requests, mut replies| async move {
        let mut requests = Requests::of(requests);
        while let Some(request) = requests.next().await {
            replies.send(answer(request)).await?;
        }
        Ok(())
    })
}

/// Answers each run by one reply, as an inline handler would.
fn echo_runs(framing: Framing) -> Handler {
    spawned(move |mut requests, mut replies| async move {
        let mut out = Replies::default();
        while let Some(run) = requests.recv().await? {
            out.clear(framing.into());
            for message in run.as_run().messages() {
                out.reply(&message, |bytes| bytes.extend_from_slice(message.body));
            }
            replies.send_replies(&mut out).await?;
        }
        Ok(())
    })
}

#[tokio::test(start_paused = true)]
async fn spawned_handler_greets_and_answers() {
    let service = spawned(|requests, mut replies| async move {
        let mut requests = Requests::of(requests);
        replies.send(unsolicited("hello\n")).await.unwrap();
        while let Some(request) = requests.next().await {
            replies.send(answer(request)).await.unwrap();
        }
        replies.send(unsolicited("bye\n")).await.unwrap();
        Ok(())
    });
    let talk = Setup::line().talk(service).await;
    talk.peer.receives("hello\n").await;
    talk.peer.send("a\nb\nc");
    talk.peer.receives("hello\na\nb\n").await;
    talk.peer.finish();
    let store = Arc::clone(&talk.store);
    let end = talk.end().await;
    assert_eq!(end.taken, b"hello\na\nb\ncbye\n");
    assert_eq!(end.reason(), CloseReason::PeerClosed);
    assert_eq!(end.recorded_bytes().0, b"a\nb\nc");
    assert_eq!(end.exchanges.len(), 5);
    let marks: Vec<_> = store.marks().into_iter().map(|(.., what)| what).collect();
    assert_eq!(marks, [Marked::HalfClosed { received: 5 }]);
}

#[tokio::test(start_paused = true)]
async fn d27_out_of_order_answers_are_sent_in_order() {
    let service = spawned(|requests, mut replies| async move {
        let (mut requests, mut in_order) = (Requests::of(requests), InOrder::default());
        let mut all = Vec::new();
        while let Some(request) = requests.next().await {
            all.push(request);
        }
        for (index, request) in (0..).zip(all).collect::<Vec<_>>().into_iter().rev() {
            in_order.send(&mut replies, index, request).await?;
        }
        Ok(())
    });
    let talk = Setup::line().talk(service).await;
    talk.peer.send("a\nbb\n\nccc\nd");
    talk.peer.finish();
    let end = talk.end().await;
    assert_eq!(end.taken, b"a\nbb\n\nccc\nd");
    for kept in &end.exchanges {
        assert_eq!((&kept.request, kept.outcome), (&kept.reply, Outcome::Ok));
    }
    assert_eq!(end.exchanges.len(), 5);
}

/// More requests than the pairing holds, in one read.
#[tokio::test(start_paused = true)]
async fn thousands_of_pipelined_lines_keep_their_terminators() {
    let talk = Setup::line().talk(echo_spawned()).await;
    let lines = (0..5000)
        .map(|i| format!("{i}\n"))
        .collect::<Vec<_>>()
        .concat();
    talk.peer.send(&lines);
    talk.peer.finish();
    let end = talk.end().await;
    assert_eq!(String::from_utf8_lossy(&end.taken), lines);
    assert_eq!(end.exchanges.len(), 5000);
    assert!(end.exchanges.iter().all(|kept| kept.request == kept.reply));
    assert_eq!(end.reason(), CloseReason::PeerClosed);
}

/// A handler that takes nothing: the queue is full after one read of newlines, which pass it because it was empty.
#[tokio::test(start_paused = true)]
async fn request_queue_is_bounded_in_bytes_for_short_messages() {
    const ROOM: usize = crate::inbox::READ_BUFFER_BYTES;
    for (framing, most) in [(Framing::Line, ROOM), (Framing::Chunk, QUEUE_BYTES + ROOM)] {
        let service = spawned(|requests, _replies| async move {
            std::future::pending::<()>().await;
            drop(requests);
            Ok(())
        });
        let talk = Setup::new(framing).talk(service).await;
        talk.peer.send("\n".repeat(2 * QUEUE_BYTES));
        sleep(SECOND).await;
        let left = talk.peer.look(Line::incoming_bytes);
        let taken = 2 * QUEUE_BYTES - left;
        assert!(taken > most - ROOM && taken <= most, "{framing}: {taken}");
        talk.session.abort();
        assert_eq!(talk.end().await.reason(), CloseReason::DrainTimeout);
    }
}

#[tokio::test(start_paused = true)]
async fn one_read_is_one_chunk_for_a_spawned_handler() {
    let talk = Setup::chunk().talk(echo_spawned()).await;
    talk.peer.send(vec![b'x'; 64 << 10]);
    talk.peer.finish();
    let end = talk.end().await;
    assert_eq!((end.taken.len(), end.exchanges.len()), (64 << 10, 1));
}

#[tokio::test(start_paused = true)]
async fn message_longer_than_the_queue_is_answered_as_one() {
    let talk = Setup::line().talk(echo_spawned()).await;
    let line = "x".repeat(300 << 10) + "\n";
    talk.peer.send(&line);
    talk.peer.send("y\n");
    talk.peer.finish();
    let end = talk.end().await;
    assert!(end.taken == (line.clone() + "y\n").into_bytes());
    assert_eq!(end.exchanges.len(), 2);
    assert!(
        end.exchanges[0].request == line.as_bytes() && end.exchanges[0].reply == line.as_bytes()
    );
}

/// Many requests are being answered at once, each in its own time.
#[tokio::test(start_paused = true)]
async fn concurrent_answers_are_sent_in_order() {
    let service = spawned(|requests, mut replies| async move {
        let (mut requests, mut in_order) = (Requests::of(requests), InOrder::default());
        let (done, mut ready) = mpsc::channel(100);
        let working = tokio::spawn(async move {
            let mut tasks = tokio::task::JoinSet::new();
            let mut index = 0_u64;
            while let Some(request) = requests.next().await {
                let (done, own) = (done.clone(), index);
                index += 1;
                tasks.spawn(async move {
                    sleep(Duration::from_millis(own * 7919 % 97)).await;
                    done.send((own, request)).await.unwrap();
                });
                if tasks.len() >= 100 {
                    tasks.join_next().await;
                }
            }
            while tasks.join_next().await.is_some() {}
        });
        while let Some((index, request)) = ready.recv().await {
            in_order.send(&mut replies, index, request).await?;
        }
        working.await.unwrap();
        Ok(())
    });
    let talk = Setup::line().talk(service).await;
    let lines = (0..2000)
        .map(|i| format!("{i}\n"))
        .collect::<Vec<_>>()
        .concat();
    talk.peer.send(&lines);
    talk.peer.finish();
    let end = talk.end().await;
    assert_eq!(String::from_utf8_lossy(&end.taken), lines);
    assert!(end.exchanges.iter().all(|kept| kept.request == kept.reply));
}

#[tokio::test(start_paused = true)]
async fn handler_that_never_answers_gets_everything_in_bounded_memory() {
    let (count, counted) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (c, done) = (Arc::clone(&count), Arc::clone(&counted));
    let service = spawned(move |requests, mut replies| async move {
        let mut requests = Requests::of(requests);
        while let Some(request) = requests.next().await {
            c.fetch_add(request.len() as u64, Ordering::SeqCst);
        }
        replies.send(unsolicited("done\n")).await.unwrap();
        done.store(1, Ordering::SeqCst);
        Ok(())
    });
    let talk = Setup::line().talk(service).await;
    for _ in 0..40 {
        talk.peer.send("x\n".repeat(1000));
    }
    talk.peer.send("y".repeat(600 << 10) + "\n");
    talk.peer.finish();
    let end = talk.end().await;
    assert_eq!(end.taken, b"done\n");
    assert_eq!(count.load(Ordering::SeqCst), 80_000 + (600 << 10) + 1);
    let requests = end.exchanges.iter().filter(|kept| !kept.request.is_empty());
    assert_eq!(requests.count(), 40_001, "each is recorded once");
    let order: Vec<u64> = end.exchanges.iter().map(|kept| kept.n).collect();
    assert!(order.is_sorted());
}

#[tokio::test(start_paused = true)]
async fn input_is_drained_if_the_handler_drops_its_receiver() {
    let service = spawned(|requests, mut replies| async move {
        drop(requests);
        for i in 0..5 {
            sleep(SECOND).await;
            replies.send(unsolicited(format!("{i}"))).await.unwrap();
        }
        Ok(())
    });
    let talk = Setup::line().talk(service).await;
    for _ in 0..10 {
        talk.peer.send("x\n".repeat(1000));
        sleep(SECOND / 10).await;
    }
    let end = talk.end().await;
    assert_eq!(
        (end.reason(), &end.taken[..]),
        (CloseReason::ServiceClosed, &b"01234"[..])
    );
    assert_eq!(end.exchanges.len(), 10_005);
}

#[tokio::test(start_paused = true)]
async fn failed_handler_ends_the_conversation_after_its_replies() {
    for panics in [false, true] {
        let service = spawned(move |requests, mut replies| async move {
            Requests::of(requests).next().await.unwrap();
            replies.send(answer("so far\n\n")).await.unwrap();
            assert!(!panics, "panics on purpose");
            Err(ServiceError("fails on purpose".into()))
        });
        let talk = Setup::line().talk(service).await;
        talk.peer.send("a\nb\n");
        let end = talk.end().await;
        assert_eq!(
            (end.reason(), &end.taken[..]),
            (CloseReason::ServiceFailed, &b"so far\n\n"[..])
        );
        let outcomes: Vec<_> = end.exchanges.iter().map(|kept| kept.outcome).collect();
        assert_eq!(outcomes, [Outcome::Ok, Outcome::Unanswered]);
    }
}

#[tokio::test(start_paused = true)]
async fn handler_may_answer_long_after_a_half_close() {
    let service = spawned(|requests, mut replies| async move {
        let (mut requests, mut all) = (Requests::of(requests), Vec::new());
        while let Some(request) = requests.next().await {
            all.push(request);
        }
        for request in all {
            sleep(20 * SECOND).await;
            let end = if request.ends_with(b"\n") { "\n" } else { "" };
            replies.send(answer(format!("ok{end}"))).await.unwrap();
        }
        Ok(())
    });
    let talk = Setup::line().talk(service).await;
    talk.peer.send("a\nb\nc");
    talk.peer.finish();
    let end = talk.end().await;
    assert_eq!(
        (end.reason(), &end.taken[..]),
        (CloseReason::PeerClosed, &b"ok\nok\nok"[..])
    );
}

/// A full request queue is back-pressure to the peer and does not start a timeout of the peer.
#[tokio::test(start_paused = true)]
async fn slow_handler_is_not_reported_as_a_slow_peer() {
    let mut setup = Setup::line();
    setup.limits.message_timeout = 5 * SECOND;
    let service = spawned(|requests, mut replies| async move {
        let mut requests = Requests::of(requests);
        while let Some(request) = requests.next().await {
            sleep(SECOND).await;
            replies.send(answer(request)).await.unwrap();
        }
        Ok(())
    });
    let talk = setup.talk(service).await;
    // The first read ends amid a line, and takes the handler a minute and a half.
    let lines = "x\n".repeat(100) + "half of it";
    talk.peer.send(&lines);
    sleep(SECOND).await;
    talk.peer.send(", the other half\n");
    talk.peer.finish();
    let end = talk.end().await;
    assert_eq!(end.reason(), CloseReason::PeerClosed, "{:?}", end.ending);
    assert_eq!(end.taken, (lines + ", the other half\n").into_bytes());
}

#[tokio::test(start_paused = true)]
async fn handler_output_resets_the_idle_timeout() {
    let mut setup = Setup::line();
    setup.limits.idle_timeout = 5 * SECOND;
    let service = spawned(|_requests, mut replies| async move {
        for _ in 0..20 {
            sleep(SECOND).await;
            replies.send(unsolicited("tick\n")).await.unwrap();
        }
        std::future::pending().await
    });
    let talk = setup.talk(service).await;
    let end = talk.end().await;
    assert_eq!(
        (end.reason(), end.taken.len()),
        (CloseReason::IdleTimeout, 100)
    );
    let finished = end.finished.unwrap();
    assert!(
        finished >= 25 * SECOND && finished < 26 * SECOND,
        "{finished:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn input_received_before_stop_reaches_the_handler() {
    let talk = Setup::line().talk(echo_spawned()).await;
    talk.peer.send("a\n");
    talk.peer.receives("a\n").await;
    for _ in 0..50 {
        talk.peer.send("b\n".repeat(10));
    }
    talk.drain.start();
    let end = talk.end().await;
    assert_eq!(
        (end.reason(), end.taken.len()),
        (CloseReason::ServerStopped, 2 + 1000)
    );
    assert_eq!(end.exchanges.len(), 501);
}

/// Both directions at once, neither waiting for the other to be done.
#[tokio::test(start_paused = true)]
async fn megabytes_flow_both_ways_at_once() {
    const BYTES: usize = 5 << 20;
    let received = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&received);
    let service = spawned(move |mut requests, mut replies| async move {
        let send = async move {
            for _ in 0..BYTES / 5000 {
                replies.send(unsolicited([b'.'; 5000])).await.unwrap();
            }
        };
        let receive = async {
            while let Ok(Some(run)) = requests.recv().await {
                count.fetch_add(run.into_bytes().len() as u64, Ordering::SeqCst);
            }
        };
        tokio::join!(send, receive);
        Ok(())
    });
    let mut setup = Setup::chunk();
    setup.window = 10_000;
    let talk = setup.talk(service).await;
    for _ in 0..BYTES / 50_000 {
        talk.peer.send(vec![b'x'; 50_000]);
        talk.peer.until("read", Line::incoming_is_empty).await;
        talk.peer.grant(50_000);
    }
    talk.peer.grant(AMPLE);
    talk.peer.finish();
    let end = talk.end().await;
    assert_eq!(end.taken.len(), BYTES / 5000 * 5000);
    assert_eq!(
        received.load(Ordering::SeqCst) as usize,
        BYTES / 50_000 * 50_000
    );
}

/// A reply whose write fails is recorded as a reply all the same.
#[tokio::test(start_paused = true)]
async fn replies_after_a_reset_are_recorded_as_unsent() {
    let service = spawned(|requests, mut replies| async move {
        let mut requests = Requests::of(requests);
        let _two = (requests.next().await, requests.next().await);
        sleep(SECOND).await;
        let (bytes, lengths) = (b"A\nB\n".to_vec(), Some(vec![2, 2]));
        let both = Reply::Bytes { bytes, lengths };
        replies.send(both).await.unwrap();
        std::future::pending().await
    });
    let talk = Setup::line().talk(service).await;
    talk.peer.send("a\nb\n");
    talk.peer.until("read", Line::incoming_is_empty).await;
    talk.peer.reset_on_write();
    let end = talk.end().await;
    assert_eq!(end.reason(), CloseReason::PeerReset);
    let recorded: Vec<_> = end
        .exchanges
        .iter()
        .map(|kept| (&kept.request[..], &kept.reply[..], kept.outcome))
        .collect();
    assert_eq!(
        recorded,
        [
            (&b"a\n"[..], &b"A\n"[..], Outcome::Ok),
            (&b"b\n"[..], &b"B\n"[..], Outcome::Ok)
        ]
    );
    assert_eq!(end.ending.unsent, 4);
}

#[tokio::test(start_paused = true)]
async fn answer_to_no_request_is_sent_at_once() {
    let service = spawned(|_requests, mut replies| async move {
        replies.send(answer("early\n")).await.unwrap();
        std::future::pending().await
    });
    let talk = Setup::line().talk(service).await;
    talk.peer.send("a\n");
    talk.peer.receives("early\n").await;
    talk.peer.finish();
    talk.session.abort();
    assert_eq!(talk.end().await.reason(), CloseReason::DrainTimeout);
}

/// A peer that sends without end and a handler that has a reply take turns.
#[tokio::test(start_paused = true)]
async fn input_flood_does_not_starve_handler_output() {
    let service = spawned(|requests, mut replies| async move {
        drop(requests);
        replies.send(unsolicited("let me reply\n")).await.unwrap();
        std::future::pending().await
    });
    let talk = Setup::line().talk(service).await;
    for _ in 0..1000 {
        talk.peer.send("x\n");
    }
    let store = Arc::clone(&talk.store);
    talk.peer.until("read", Line::incoming_is_empty).await;
    talk.session.abort();
    let _ = talk.session.await;
    talk.recorder.close(talk.recording, SECOND).await;
    let exchanges = store.exchanges();
    let reply = exchanges
        .iter()
        .find(|kept| !kept.reply.is_empty())
        .unwrap();
    assert!(reply.n < 10, "after {} messages", reply.n);
    assert_eq!(exchanges.len(), 1001);
}

/// A session takes no more replies from its handler while the peer's window is full.
#[tokio::test(start_paused = true)]
async fn handler_output_beyond_the_peer_window_is_bounded() {
    let mut setup = Setup::line();
    setup.window = 0;
    let service = spawned(|_requests, mut replies| async move {
        while replies.send(unsolicited([b'.'; 1024])).await.is_ok() {}
        Ok(())
    });
    let talk = setup.talk(service).await;
    sleep(SECOND).await;
    talk.session.abort();
    let end = talk.end().await;
    assert_eq!(
        (end.reason(), end.ending.unsent),
        (CloseReason::DrainTimeout, 64 << 10)
    );
}

/// `send_replies` has each run recorded as one row of as many exchanges.
#[tokio::test(start_paused = true)]
async fn run_answered_by_one_reply_is_recorded_as_its_exchanges() {
    let talk = Setup::line().talk(echo_runs(Framing::Line)).await;
    talk.peer.send("a\nbb\n\nc");
    talk.peer.finish();
    let end = talk.end().await;
    assert_eq!(end.taken, b"a\nbb\n\nc");
    let recorded: Vec<_> = end
        .exchanges
        .iter()
        .map(|kept| (&kept.request[..], &kept.reply[..]))
        .collect();
    let lines: [&[u8]; 4] = [b"a\n", b"bb\n", b"\n", b"c"];
    assert_eq!(recorded, lines.map(|line| (line, line)));
}

/// One read longer than the bound of the queue passes it when it is empty.
#[tokio::test(start_paused = true)]
async fn run_above_the_queue_bound_passes_an_empty_queue() {
    let mut setup = Setup::line();
    setup.limits.message_bytes_max = 1 << 20;
    let talk = setup.talk(echo_runs(Framing::Line)).await;
    let line = "x".repeat(3 * QUEUE_BYTES) + "\n";
    talk.peer.send(&line);
    talk.peer.receives(&line).await;
    talk.peer.finish();
    assert_eq!(talk.end().await.exchanges.len(), 1);
}

/// Returns what a handler receives last when the conversation ends.
async fn last_received(act: impl FnOnce(&Talk)) -> Vec<Result<bool, PeerGone>> {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let all = Arc::clone(&seen);
    let service = spawned(move |mut requests, replies| async move {
        for _ in 0..3 {
            let next = requests.recv().await.map(|run| run.is_some());
            all.lock().unwrap().push(next);
        }
        drop(replies);
        Ok(())
    });
    let talk = Setup::line().talk(service).await;
    talk.peer.send("a\n");
    talk.peer.until("read", Line::incoming_is_empty).await;
    sleep(SECOND).await;
    act(&talk);
    talk.end().await;
    sleep(SECOND).await;
    seen.lock().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn handler_distinguishes_end_of_stream_close_and_reset() {
    let ended = last_received(|talk| talk.peer.finish()).await;
    assert_eq!(ended, [Ok(true), Ok(false), Ok(false)]);
    let drained = last_received(|talk| talk.drain.start()).await;
    assert_eq!(drained, [Ok(true), Ok(false), Ok(false)]);
    let gone = Err(PeerGone { reset: false });
    let aborted = last_received(|talk| talk.session.abort()).await;
    assert_eq!(aborted, [Ok(true), gone, gone]);
    let reset = Err(PeerGone { reset: true });
    assert_eq!(
        last_received(|talk| talk.peer.reset()).await,
        [Ok(true), reset, reset]
    );
}

#[tokio::test(start_paused = true)]
async fn requests_still_arrive_after_finish() {
    let service = spawned(|requests, mut replies| async move {
        let mut requests = Requests::of(requests);
        replies.send(unsolicited("bye\n")).await?;
        replies.send(Reply::Finish).await?;
        let mut received = 0;
        while requests.next().await.is_some() {
            received += 1;
        }
        assert_eq!(received, 2);
        Ok(())
    });
    let talk = Setup::line().talk(service).await;
    talk.peer
        .until("finished", |line| line.finished.is_some())
        .await;
    assert_eq!(talk.peer.taken(), b"bye\n");
    talk.peer.send("a\n");
    sleep(SECOND).await;
    talk.peer.send("b\n");
    talk.peer.finish();
    let end = talk.end().await;
    assert_eq!(
        (end.reason(), end.ending.received),
        (CloseReason::PeerClosed, 4)
    );
    let outcomes: Vec<_> = end.exchanges.iter().map(|kept| kept.outcome).collect();
    let unanswered = Outcome::Unanswered;
    assert_eq!(outcomes, [Outcome::Ok, unanswered, unanswered]);
}

#[tokio::test(start_paused = true)]
async fn finish_waits_until_all_replies_are_sent() {
    let mut setup = Setup::line();
    setup.window = 0;
    let service = spawned(|_requests, mut replies| async move {
        replies.send(unsolicited("bye\n")).await?;
        replies.send(Reply::Finish).await?;
        Ok(())
    });
    let talk = setup.talk(service).await;
    sleep(SECOND).await;
    assert!(talk.peer.look(|line| line.finished.is_none()));
    talk.peer.grant(AMPLE);
    talk.peer
        .until("finished", |line| line.finished.is_some())
        .await;
    talk.peer.finish();
    let end = talk.end().await;
    assert_eq!(
        (end.reason(), &end.taken[..]),
        (CloseReason::ServiceClosed, &b"bye\n"[..])
    );
}

#[tokio::test(start_paused = true)]
async fn reply_after_finish_fails_the_service() {
    let service = spawned(|_requests, mut replies| async move {
        replies.send(Reply::Finish).await?;
        replies.send(unsolicited("too late\n")).await?;
        std::future::pending().await
    });
    let end = Setup::line().talk(service).await.end().await;
    assert_eq!(
        (end.reason(), &end.taken[..]),
        (CloseReason::ServiceFailed, &b""[..])
    );
}

#[tokio::test(start_paused = true)]
async fn lengths_that_do_not_add_up_fail_the_service() {
    let service = spawned(|mut requests, mut replies| async move {
        requests.recv().await?;
        let (bytes, lengths) = (b"abc".to_vec(), Some(vec![2]));
        replies.send(Reply::Bytes { bytes, lengths }).await?;
        std::future::pending().await
    });
    let talk = Setup::line().talk(service).await;
    talk.peer.send("a\n");
    let end = talk.end().await;
    assert_eq!(
        (end.reason(), &end.taken[..]),
        (CloseReason::ServiceFailed, &b""[..])
    );
}

#[tokio::test(start_paused = true)]
async fn handler_may_reset_the_connection() {
    let service = spawned(|requests, mut replies| async move {
        Requests::of(requests).next().await;
        replies.send(Reply::Reset).await?;
        std::future::pending().await
    });
    let talk = Setup::line().talk(service).await;
    talk.peer.send("a\n");
    let end = talk.end().await;
    assert_eq!((end.reason(), end.finished), (CloseReason::ResetByUs, None));
    assert_eq!(end.exchanges[0].outcome, Outcome::Unanswered);
}

#[tokio::test(start_paused = true)]
async fn reply_too_long_for_its_framing_ends_the_conversation() {
    let framing: Framing = "u8".parse().unwrap();
    let service = spawned(move |mut requests, mut replies| async move {
        let mut out = Replies::default();
        while let Some(run) = requests.recv().await? {
            out.clear(framing.into());
            for message in run.as_run().messages() {
                let long = message.body.repeat(100);
                out.reply(&message, |bytes| bytes.extend_from_slice(&long));
            }
            replies.send_replies(&mut out).await?;
        }
        Ok(())
    });
    let talk = Setup::new(framing).talk(service).await;
    talk.peer.send(b"\x01a\x03bcd\x01e");
    let end = talk.end().await;
    assert_eq!(
        (end.reason(), end.taken.len()),
        (CloseReason::ReplyTooLong, 101)
    );
    let outcomes: Vec<_> = end.exchanges.iter().map(|kept| kept.outcome).collect();
    assert_eq!(
        outcomes,
        [Outcome::Ok, Outcome::Unanswered, Outcome::Unanswered]
    );
}

/// A handler that does not return is aborted after `--linger-timeout`; one that cleans up has that long.
#[tokio::test(start_paused = true)]
async fn handler_has_the_linger_timeout_to_return() {
    let grace = Limits::default().linger_timeout;
    for (pause, returns) in [(grace / 2, true), (grace * 2, false)] {
        let (alive, returned) = (Arc::new(()), Arc::new(AtomicU64::new(0)));
        let (held, done) = (Arc::clone(&alive), Arc::clone(&returned));
        let service = spawned(move |mut requests, _replies| async move {
            while requests.recv().await.is_ok() {}
            sleep(pause).await;
            done.store(1, Ordering::SeqCst);
            drop(held);
            Ok(())
        });
        let talk = Setup::line().talk(service).await;
        talk.peer.until("polled", |_| true).await;
        sleep(SECOND).await;
        talk.session.abort();
        talk.end().await;
        sleep(grace + SECOND).await;
        assert_eq!(returned.load(Ordering::SeqCst) == 1, returns);
        assert_eq!(Arc::strong_count(&alive), 1, "its task is gone");
    }
}

/// Like a proxy: it passes bytes on and knows no messages.
#[tokio::test(start_paused = true)]
async fn replies_without_lengths_are_divided_for_the_record() {
    let service = spawned(|mut requests, mut replies| async move {
        while let Some(run) = requests.recv().await? {
            for piece in run.into_bytes().chunks(3) {
                replies.send(undivided(piece)).await?;
            }
        }
        Ok(())
    });
    let talk = Setup::line().talk(service).await;
    talk.peer.send("first\nsecond\n\nlast");
    talk.peer.finish();
    let end = talk.end().await;
    let recorded: Vec<_> = end
        .exchanges
        .iter()
        .map(|kept| (&kept.request[..], &kept.reply[..]))
        .collect();
    let lines: [&[u8]; 4] = [b"first\n", b"second\n", b"\n", b"last"];
    assert_eq!(recorded, lines.map(|line| (line, line)));
}

/// With strict durability no part of a reply is sent before it is recorded, also if it is longer than the limit
/// of unsent bytes.
#[tokio::test(start_paused = true)]
async fn strict_durability_holds_a_reply_until_its_end_is_known() {
    let mut setup = Setup::strict();
    setup.limits.message_bytes_max = 1 << 20;
    let service = spawned(|mut requests, mut replies| async move {
        requests.recv().await?;
        for _ in 0..200 {
            replies.send(undivided([b'x'; 1024])).await?;
        }
        sleep(SECOND).await;
        replies.send(undivided("\n")).await?;
        requests.recv().await?;
        Ok(())
    });
    let talk = setup.talk(service).await;
    talk.peer.send("a\n");
    sleep(SECOND / 2).await;
    assert!(talk.peer.taken().is_empty(), "nothing is recorded yet");
    sleep(SECOND).await;
    assert_eq!(talk.peer.taken().len(), 200 * 1024 + 1);
    talk.peer.finish();
    let end = talk.end().await;
    assert_eq!(
        (end.reason(), end.exchanges.len()),
        (CloseReason::PeerClosed, 1)
    );
}

/// More unanswered requests than the pairing holds: the flow goes on, and the oldest are recorded as unanswered.
#[tokio::test(start_paused = true)]
async fn pairing_is_bounded_and_the_flow_goes_on() {
    const REQUESTS: usize = 150_000;
    let service = spawned(|requests, mut replies| async move {
        let (mut requests, mut count) = (Requests::of(requests), 0);
        while requests.next().await.is_some() {
            count += 1;
        }
        for _ in 0..count {
            replies.send(answer("R\n")).await?;
        }
        Ok(())
    });
    let talk = Setup::line().talk(service).await;
    for _ in 0..10 {
        talk.peer.send("x\n".repeat(REQUESTS / 10));
    }
    talk.peer.finish();
    let end = talk.end().await;
    assert_eq!(end.taken.len(), 2 * REQUESTS);
    let paired = end
        .exchanges
        .iter()
        .filter(|kept| !kept.request.is_empty() && !kept.reply.is_empty());
    assert_eq!(paired.count(), 96 << 10);
    assert_eq!(
        end.recorded_bytes().0.len(),
        2 * REQUESTS,
        "each request is recorded once"
    );
}
