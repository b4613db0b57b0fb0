//! Services apart: they speak when they like, answers leave in the order of the messages, and what a service does not
//! do costs nobody else anything.

use echoic_core::{
    event::{Marked, Outcome},
    service::SaidMessage,
};
use tokio::time::sleep;

use super::{wire::Line, *};

const SECOND: Duration = Duration::from_secs(1);

fn answer(index: u64, body: impl AsRef<[u8]>) -> SaidMessage {
    SaidMessage {
        in_answer_to: Some(index),
        body: body.as_ref().to_vec(),
    }
}

fn unasked(body: impl AsRef<[u8]>) -> SaidMessage {
    SaidMessage {
        in_answer_to: None,
        body: body.as_ref().to_vec(),
    }
}

/// Answers each message with itself, one after the other.
fn echo_apart() -> Handler {
    apart(|mut heard, mut said| async move {
        while let Some(message) = heard.next().await {
            if said
                .say(answer(message.index, &message.body))
                .await
                .is_err()
            {
                break;
            }
        }
        Ok(())
    })
}

#[tokio::test(start_paused = true)]
async fn spawned_handler_greets_and_answers() {
    let service = apart(|mut heard, mut said| async move {
        said.say(unasked("hello\n")).await.unwrap();
        while let Some(message) = heard.next().await {
            said.say(answer(message.index, &message.body))
                .await
                .unwrap();
        }
        said.say(unasked("bye\n")).await.unwrap();
        Ok(())
    });
    let talk = Setup::line().talk(service).await;
    talk.peer.hears("hello\n").await;
    talk.peer.send("a\nb\nc");
    talk.peer.hears("hello\na\nb\n").await;
    talk.peer.finish();
    let store = Arc::clone(&talk.store);
    let end = talk.end().await;
    assert_eq!(end.taken, b"hello\na\nb\ncbye\n");
    assert_eq!(end.reason(), CloseReason::PeerClosed);
    assert_eq!(end.whole().0, b"a\nb\nc");
    assert_eq!(end.kept.len(), 5);
    let marks: Vec<_> = store.marks().into_iter().map(|(.., what)| what).collect();
    assert_eq!(marks, [Marked::HalfClosed { received: 5 }]);
}

#[tokio::test(start_paused = true)]
async fn d27_out_of_order_answers_are_sent_in_order() {
    let service = apart(|mut heard, mut said| async move {
        let mut messages = Vec::new();
        while let Some(message) = heard.next().await {
            messages.push(message);
        }
        for message in messages.iter().rev() {
            said.say(answer(message.index, &message.body))
                .await
                .unwrap();
        }
        Ok(())
    });
    let talk = Setup::line().talk(service).await;
    talk.peer.send("a\nbb\n\nccc\nd");
    talk.peer.finish();
    let end = talk.end().await;
    assert_eq!(end.taken, b"a\nbb\n\nccc\nd");
    for kept in &end.kept {
        assert_eq!((&kept.heard, kept.outcome), (&kept.said, Outcome::Ok));
    }
    assert_eq!(end.kept.len(), 5);
}

/// A read may complete far more messages than may wait for an answer.
#[tokio::test(start_paused = true)]
async fn thousands_of_pipelined_lines_keep_their_terminators() {
    let talk = Setup::line().talk(echo_apart()).await;
    let lines = (0..5000)
        .map(|i| format!("{i}\n"))
        .collect::<Vec<_>>()
        .concat();
    talk.peer.send(&lines);
    talk.peer.finish();
    let end = talk.end().await;
    assert_eq!(String::from_utf8_lossy(&end.taken), lines);
    assert_eq!(end.kept.len(), 5000);
    assert!(end.kept.iter().all(|kept| kept.heard == kept.said));
    assert_eq!(end.reason(), CloseReason::PeerClosed);
}

/// A read of nothing but newlines was 65,536 messages at once, and about 13 MB in the queues of a service apart.
#[tokio::test(start_paused = true)]
async fn request_queue_is_bounded_in_bytes_for_short_messages() {
    let messages = 4096;
    let each = size_of::<crate::apart::Pending>() + size_of::<echoic_core::service::HeardMessage>();
    assert!(messages * (each + 32) < 1 << 20, "{each} bytes each");
    for (framing, waits) in [(Framing::Line, messages), (Framing::Chunk, 64 << 10)] {
        let service = apart(|heard, _said| async move {
            std::future::pending::<()>().await;
            drop(heard);
            Ok(())
        });
        let talk = Setup::new(framing).talk(service).await;
        talk.peer.send("\n".repeat(128 << 10));
        sleep(SECOND).await;
        let left = talk.peer.look(Line::coming_bytes);
        // A chunk is one message, and the queue takes a few of them.
        let taken = (128 << 10) - left;
        assert!(taken >= waits, "{framing}: {taken}");
        assert!(
            framing == Framing::Chunk || taken == waits,
            "{framing}: {taken}"
        );
        talk.session.abort();
        assert_eq!(talk.end().await.reason(), CloseReason::DrainTimeout);
    }
}

#[tokio::test(start_paused = true)]
async fn one_read_is_one_chunk_for_a_spawned_handler() {
    let talk = Setup::chunk().talk(echo_apart()).await;
    talk.peer.send(vec![b'x'; 64 << 10]);
    talk.peer.finish();
    let end = talk.end().await;
    assert_eq!((end.taken.len(), end.kept.len()), (64 << 10, 1));
}

#[tokio::test(start_paused = true)]
async fn message_longer_than_the_queue_is_answered_as_one() {
    let talk = Setup::line().talk(echo_apart()).await;
    let line = "x".repeat(300 << 10) + "\n";
    talk.peer.send(&line);
    talk.peer.send("y\n");
    talk.peer.finish();
    let end = talk.end().await;
    assert!(end.taken == (line.clone() + "y\n").into_bytes());
    assert_eq!(end.kept.len(), 2);
    assert!(end.kept[0].heard == line.as_bytes() && end.kept[0].said == line.as_bytes());
}

/// Many at work at once, each done in its own time.
#[tokio::test(start_paused = true)]
async fn concurrent_answers_are_sent_in_order() {
    let service = apart(|mut heard, said| async move {
        let mut tasks = tokio::task::JoinSet::new();
        while let Some(message) = heard.next().await {
            let mut said = said.clone();
            tasks.spawn(async move {
                let pause = message.index * 7919 % 97;
                sleep(Duration::from_millis(pause)).await;
                said.say(answer(message.index, &message.body))
                    .await
                    .unwrap();
            });
            if tasks.len() >= 100 {
                tasks.join_next().await;
            }
        }
        while tasks.join_next().await.is_some() {}
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
    assert!(end.kept.iter().all(|kept| kept.heard == kept.said));
}

#[tokio::test(start_paused = true)]
async fn handler_that_never_answers_gets_everything_in_bounded_memory() {
    let (count, counted) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (c, done) = (Arc::clone(&count), Arc::clone(&counted));
    let service = apart(move |mut heard, mut said| async move {
        while let Some(message) = heard.next().await {
            c.fetch_add(message.body.len() as u64, Ordering::SeqCst);
        }
        said.say(unasked("done\n")).await.unwrap();
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
    assert_eq!(count.load(Ordering::SeqCst), 40_000 + (600 << 10));
    let heard = end.kept.iter().filter(|kept| !kept.heard.is_empty());
    assert_eq!(heard.count(), 40_001, "each is recorded once");
    let order: Vec<u64> = end.kept.iter().map(|kept| kept.n).collect();
    assert!(order.is_sorted());
}

#[tokio::test(start_paused = true)]
async fn input_is_drained_if_the_handler_drops_its_receiver() {
    let service = apart(|heard, mut said| async move {
        drop(heard);
        for i in 0..5 {
            sleep(SECOND).await;
            said.say(unasked(format!("{i}"))).await.unwrap();
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
    assert_eq!(end.kept.len(), 10_005);
}

#[tokio::test(start_paused = true)]
async fn failed_handler_ends_the_conversation_after_its_replies() {
    for panics in [false, true] {
        let service = apart(move |mut heard, mut said| async move {
            let message = heard.next().await.unwrap();
            said.say(answer(message.index, "so far\n")).await.unwrap();
            assert!(!panics, "told to panic");
            Err(ServiceError("told to fail".into()))
        });
        let talk = Setup::line().talk(service).await;
        talk.peer.send("a\nb\n");
        let end = talk.end().await;
        assert_eq!(
            (end.reason(), &end.taken[..]),
            (CloseReason::ServiceFailed, &b"so far\n\n"[..])
        );
        let outcomes: Vec<_> = end.kept.iter().map(|kept| kept.outcome).collect();
        assert_eq!(outcomes, [Outcome::Ok, Outcome::Unanswered]);
    }
}

#[tokio::test(start_paused = true)]
async fn handler_may_answer_long_after_a_half_close() {
    let service = apart(|mut heard, mut said| async move {
        let mut messages = Vec::new();
        while let Some(message) = heard.next().await {
            messages.push(message);
        }
        for message in messages {
            sleep(20 * SECOND).await;
            said.say(answer(message.index, "ok")).await.unwrap();
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

/// What it hears is back-pressure to the peer, and the peer is not blamed for it.
#[tokio::test(start_paused = true)]
async fn slow_handler_is_not_reported_as_a_slow_peer() {
    let mut setup = Setup::line();
    setup.limits.message_timeout = 5 * SECOND;
    let service = apart(|mut heard, mut said| async move {
        while let Some(message) = heard.next().await {
            sleep(SECOND).await;
            said.say(answer(message.index, &message.body))
                .await
                .unwrap();
        }
        Ok(())
    });
    let talk = setup.talk(service).await;
    // The first read ends amid a line, and takes the service a minute and a half.
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
    let service = apart(|_heard, mut said| async move {
        for _ in 0..20 {
            sleep(SECOND).await;
            said.say(unasked("tick\n")).await.unwrap();
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
    let talk = Setup::line().talk(echo_apart()).await;
    talk.peer.send("a\n");
    talk.peer.hears("a\n").await;
    for _ in 0..50 {
        talk.peer.send("b\n".repeat(10));
    }
    talk.drain.start();
    let end = talk.end().await;
    assert_eq!(
        (end.reason(), end.taken.len()),
        (CloseReason::ServerStopped, 2 + 1000)
    );
    assert_eq!(end.kept.len(), 501);
}

/// Both directions at once, neither waiting for the other to be done.
#[tokio::test(start_paused = true)]
async fn megabytes_flow_both_ways_at_once() {
    const BYTES: usize = 5 << 20;
    let heard_bytes = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&heard_bytes);
    let service = apart(move |mut heard, mut said| async move {
        let speak = async move {
            for _ in 0..BYTES / 5000 {
                said.say(unasked([b'.'; 5000])).await.unwrap();
            }
        };
        let hear = async {
            while let Some(message) = heard.next().await {
                count.fetch_add(message.body.len() as u64, Ordering::SeqCst);
            }
        };
        tokio::join!(speak, hear);
        Ok(())
    });
    let mut setup = Setup::chunk();
    setup.window = 10_000;
    let talk = setup.talk(service).await;
    for _ in 0..BYTES / 50_000 {
        talk.peer.send(vec![b'x'; 50_000]);
        talk.peer.until("heard", Line::coming_is_empty).await;
        talk.peer.grant(50_000);
    }
    talk.peer.grant(AMPLE);
    talk.peer.finish();
    let end = talk.end().await;
    assert_eq!(end.taken.len(), BYTES / 5000 * 5000);
    assert_eq!(
        heard_bytes.load(Ordering::SeqCst) as usize,
        BYTES / 50_000 * 50_000
    );
}

/// What leaves after a write has failed was answered all the same.
#[tokio::test(start_paused = true)]
async fn replies_after_a_reset_are_recorded_as_unsent() {
    let service = apart(|mut heard, mut said| async move {
        let (a, b) = (heard.next().await.unwrap(), heard.next().await.unwrap());
        sleep(SECOND).await;
        said.say(answer(b.index, "B")).await.unwrap();
        said.say(answer(a.index, "A")).await.unwrap();
        std::future::pending().await
    });
    let talk = Setup::line().talk(service).await;
    talk.peer.send("a\nb\n");
    talk.peer.until("heard", Line::coming_is_empty).await;
    talk.peer.be_deaf();
    let end = talk.end().await;
    assert_eq!(end.reason(), CloseReason::PeerReset);
    let kept: Vec<_> = end
        .kept
        .iter()
        .map(|kept| (&kept.heard[..], &kept.said[..], kept.outcome))
        .collect();
    assert_eq!(
        kept,
        [
            (&b"a\n"[..], &b"A\n"[..], Outcome::Ok),
            (&b"b\n"[..], &b"B\n"[..], Outcome::Ok)
        ]
    );
    assert_eq!(end.ending.unsent, 4);
}

#[tokio::test(start_paused = true)]
async fn answer_to_an_unknown_request_is_sent_at_once() {
    let service = apart(|_heard, mut said| async move {
        said.say(answer(7, "early\n")).await.unwrap();
        std::future::pending().await
    });
    let talk = Setup::line().talk(service).await;
    talk.peer.send("a\n");
    talk.peer.hears("early\n").await;
    talk.peer.finish();
    talk.session.abort();
    assert_eq!(talk.end().await.reason(), CloseReason::DrainTimeout);
}

/// A peer that sends without end and a service that has something to say take turns.
#[tokio::test(start_paused = true)]
async fn input_flood_does_not_starve_handler_output() {
    let service = apart(|heard, mut said| async move {
        drop(heard);
        said.say(unasked("let me speak\n")).await.unwrap();
        std::future::pending().await
    });
    let talk = Setup::line().talk(service).await;
    for _ in 0..1000 {
        talk.peer.send("x\n");
    }
    let store = Arc::clone(&talk.store);
    talk.peer.until("heard", Line::coming_is_empty).await;
    talk.session.abort();
    let _ = talk.session.await;
    talk.recorder.close(talk.recording, SECOND).await;
    let kept = store.exchanges();
    let spoke = kept.iter().find(|kept| !kept.said.is_empty()).unwrap();
    assert!(spoke.n < 10, "after {} messages", spoke.n);
    assert_eq!(kept.len(), 1001);
}

/// Nothing is taken from a service that the peer is that far behind with.
#[tokio::test(start_paused = true)]
async fn handler_output_beyond_the_peer_window_is_bounded() {
    let mut setup = Setup::line();
    setup.window = 0;
    let service = apart(|_heard, mut said| async move {
        while said.say(unasked([b'.'; 1024])).await.is_ok() {}
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
