//! Each close reason: when it applies, and that it is recorded correctly.

use std::io;
use std::ops::ControlFlow;

use echoic_core::event::{Marked, Outcome};
use tokio::time::sleep;

use super::*;
use crate::accepted::silent_handler;

/// Allows 2 ms: the timer counts milliseconds and rounds up.
fn assert_at(moment: Option<Duration>, expected: Duration) {
    let moment = moment.expect("our half was ended");
    assert!(
        moment >= expected && moment <= expected + Duration::from_millis(2),
        "at {moment:?}, not {expected:?}"
    );
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn half_closing_peer_is_answered_in_full_and_closed_at_once() {
    let talk = Setup::line().talk(named("upper", Framing::Line)).await;
    talk.peer.send("one\n\ntwo");
    talk.peer.finish();
    let store = Arc::clone(&talk.store);
    let end = talk.end().await;
    assert_eq!(store.marks(), [], "the ending has the same information");
    assert_eq!(end.taken, b"ONE\n\nTWO");
    assert_eq!(end.reason(), CloseReason::PeerClosed);
    assert_eq!((end.ending.received, end.ending.sent), (8, 8));
    assert_at(end.finished, Duration::ZERO);
    assert_eq!(Some(end.closed), end.finished, "nothing to linger for");
}

#[tokio::test(start_paused = true)]
async fn character_cut_by_the_end_is_returned_unchanged() {
    let talk = Setup::chunk().talk(named("upper", Framing::Chunk)).await;
    talk.peer.send(b"a\xc3");
    talk.peer.receives("A").await;
    talk.peer.finish();
    let end = talk.end().await;
    assert_eq!(end.taken, b"A\xc3");
    assert_eq!(end.recorded_bytes().1, b"A\xc3");
}

#[tokio::test(start_paused = true)]
async fn greeting_ends_as_service_closed() {
    let talk = Setup::line()
        .talk(named("greet:hello", Framing::Line))
        .await;
    talk.peer
        .until("finished", |line| line.finished.is_some())
        .await;
    talk.peer.finish();
    let end = talk.end().await;
    assert_eq!(
        (end.reason(), &end.taken[..]),
        (CloseReason::ServiceClosed, &b"hello"[..])
    );
    assert_eq!(end.recorded_bytes(), (vec![], b"hello".to_vec()));
    assert_eq!(end.exchanges.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn handler_close_mid_run_leaves_the_rest_unanswered() {
    let service = inline(|run, out| {
        if let Some(first) = run.messages().next() {
            out.reply(&first, |bytes| bytes.extend(b"bye"));
        }
        ControlFlow::Break(())
    });
    let talk = Setup::line().talk(service).await;
    talk.peer.send("a\nb\nc\nd");
    let end = talk.end().await;
    assert_eq!(
        (end.reason(), &end.taken[..]),
        (CloseReason::ServiceClosed, &b"bye\n"[..])
    );
    let outcomes: Vec<_> = end
        .exchanges
        .iter()
        .map(|kept| (kept.n, kept.outcome))
        .collect();
    let (ok, not) = (Outcome::Ok, Outcome::Unanswered);
    assert_eq!(outcomes, [(1, ok), (2, not), (3, not)]);
}

#[tokio::test(start_paused = true)]
async fn peer_reset_reports_unsent_bytes() {
    let mut setup = Setup::line();
    setup.window = 4;
    let talk = setup.talk(echo()).await;
    talk.peer.send("0123456789\n");
    talk.peer.receives("0123").await;
    talk.peer.reset();
    let end = talk.end().await;
    assert_eq!(end.reason(), CloseReason::PeerReset);
    assert_eq!(
        (end.ending.received, end.ending.sent, end.ending.unsent),
        (11, 4, 7)
    );
    assert_eq!(end.recorded_bytes().1, b"0123456789\n");
}

/// The write of the reply finds the connection reset, so the reply is lost.
#[tokio::test(start_paused = true)]
async fn reply_written_into_a_reset_counts_as_unsent() {
    let peer = Arc::new(std::sync::OnceLock::<Peer>::new());
    let seen = Arc::clone(&peer);
    let service = inline(move |run, out| {
        for message in run.messages() {
            out.reply(&message, |bytes| bytes.extend(message.body));
        }
        seen.get().unwrap().reset();
        ControlFlow::Continue(())
    });
    let talk = Setup::line().talk(service).await;
    peer.set(talk.peer.clone()).unwrap();
    talk.peer.send("hello\n");
    let end = talk.end().await;
    assert_eq!(end.reason(), CloseReason::PeerReset);
    assert_eq!((end.ending.sent, end.ending.unsent), (0, 6));
}

#[tokio::test(start_paused = true)]
async fn broken_socket_ends_as_system_error() {
    let talk = Setup::line().talk(echo()).await;
    talk.peer.break_with(io::ErrorKind::OutOfMemory);
    assert_eq!(talk.end().await.reason(), CloseReason::SystemError);
}

#[tokio::test(start_paused = true)]
async fn idle_timeout_counts_from_the_last_message() {
    let mut setup = Setup::line();
    setup.limits.idle_timeout = 90 * SECOND;
    let talk = setup.talk(echo()).await;
    for _ in 0..3 {
        sleep(70 * SECOND).await;
        talk.peer.send("a\n");
    }
    let end = talk.end().await;
    assert_eq!(
        (end.reason(), &end.taken[..]),
        (CloseReason::IdleTimeout, &b"a\na\na\n"[..])
    );
    assert_at(end.finished, (210 + 90) * SECOND);
    assert_at(Some(end.closed), (210 + 90 + 2) * SECOND);
}

#[tokio::test(start_paused = true)]
async fn message_timeout_is_not_extended_by_more_bytes() {
    let mut setup = Setup::line();
    setup.limits.message_timeout = 5 * SECOND;
    let talk = setup.talk(echo()).await;
    sleep(3 * SECOND).await;
    talk.peer.send("whole\nbe");
    let peer = talk.peer.clone();
    let dribble = tokio::spawn(async move {
        loop {
            sleep(SECOND).await;
            peer.send("g");
        }
    });
    let peer = talk.peer.clone();
    peer.until("finished", |line| line.finished.is_some()).await;
    dribble.abort();
    let end = talk.end().await;
    assert_eq!(
        (end.reason(), &end.taken[..]),
        (CloseReason::MessageTimeout, &b"whole\n"[..])
    );
    assert_at(end.finished, 8 * SECOND);
    assert_eq!(
        end.exchanges.len(),
        1,
        "the unfinished message is no exchange"
    );
}

#[tokio::test(start_paused = true)]
async fn completed_message_restarts_the_message_timeout() {
    let mut setup = Setup::line();
    setup.limits.message_timeout = 5 * SECOND;
    let talk = setup.talk(echo()).await;
    for _ in 0..4 {
        talk.peer.send("b");
        sleep(4 * SECOND).await;
        talk.peer.send("\nc");
    }
    let end = talk.end().await;
    assert_eq!(
        (end.reason(), &end.taken[..]),
        (CloseReason::MessageTimeout, &b"b\ncb\ncb\ncb\n"[..])
    );
    assert_at(end.finished, (16 + 5) * SECOND);
}

#[tokio::test(start_paused = true)]
async fn write_timeout_is_exact_and_reset_by_progress() {
    let mut setup = Setup::line();
    setup.limits.write_timeout = 10 * SECOND;
    setup.window = 3;
    let talk = setup.talk(echo()).await;
    sleep(SECOND).await;
    talk.peer.send("0123456789\n");
    talk.peer.send("never taken\n");
    for _ in 0..3 {
        sleep(9 * SECOND).await;
        talk.peer.grant(1);
    }
    let peer = talk.peer.clone();
    let end = talk.end().await;
    assert_eq!(
        (end.reason(), &end.taken[..]),
        (CloseReason::WriteTimeout, &b"012345"[..])
    );
    assert_eq!((end.ending.received, end.ending.unsent), (11, 5));
    assert_eq!(end.ending.discarded, 12, "read only while lingering");
    assert_at(end.finished, (1 + 27 + 10) * SECOND);
    assert_eq!(peer.look(|line| line.reads), 2);
}

#[tokio::test(start_paused = true)]
async fn too_long_message_is_not_answered_but_earlier_ones_are() {
    for (data, answered) in [
        ("ok\n0123456789\n", "ok\n0123456789\n"),
        ("ok\n0123456789a", "ok\n"),
        ("ok\n0123456789a\nnot\n", "ok\n"),
    ] {
        let mut setup = Setup::line();
        setup.limits.message_bytes_max = 10;
        let talk = setup.talk(echo()).await;
        talk.peer.send(data);
        talk.peer
            .until("answered", |line| line.taken.len() >= answered.len())
            .await;
        talk.peer.finish();
        let end = talk.end().await;
        assert_eq!(String::from_utf8_lossy(&end.taken), answered);
        let reason = if data.ends_with("9\n") {
            CloseReason::PeerClosed
        } else {
            CloseReason::MessageTooLong
        };
        assert_eq!(end.reason(), reason, "{data:?}");
        assert_eq!(end.exchanges.len(), answered.lines().count());
    }
}

#[tokio::test(start_paused = true)]
async fn rejected_connection_gets_a_clean_close_and_is_recorded() {
    let setup = Setup::line();
    let (link, peer) = wire(AMPLE);
    peer.send("hello\n");
    let talk = setup
        .talk_over(link, peer, Handler::Inline(silent_handler()), |session| {
            session.reject(CloseReason::TooManyConnections)
        })
        .await;
    let end = talk.end().await;
    assert_eq!(
        (end.reason(), end.taken.len()),
        (CloseReason::TooManyConnections, 0)
    );
    assert_eq!((end.ending.received, end.ending.discarded), (0, 6));
    assert!(end.exchanges.is_empty());
}

#[tokio::test(start_paused = true)]
async fn data_received_before_stop_is_answered_first() {
    for unfinished in ["", "half a li"] {
        let talk = Setup::line().talk(named("upper", Framing::Line)).await;
        talk.peer.send("a\n");
        talk.peer.receives("A\n").await;
        for _ in 0..100 {
            talk.peer.send("bc\nd\n");
        }
        if !unfinished.is_empty() {
            talk.peer.send(unfinished);
        }
        talk.drain.start();
        let end = talk.end().await;
        assert_eq!(end.reason(), CloseReason::ServerStopped);
        assert_eq!(end.exchanges.len(), 201);
        assert_eq!(end.taken.len(), 2 + 5 * 100);
        assert_at(end.finished, Duration::ZERO);
    }
}

/// The stop signal wakes an idle conversation.
#[tokio::test(start_paused = true)]
async fn idle_conversation_is_drained_at_once() {
    for request in ["", "a\n"] {
        let talk = Setup::line().talk(echo()).await;
        if !request.is_empty() {
            talk.peer.send(request);
        }
        sleep(SECOND).await;
        talk.drain.start();
        let end = talk.end().await;
        assert_eq!(
            (end.reason(), &end.taken[..]),
            (CloseReason::ServerStopped, request.as_bytes())
        );
        assert_at(end.finished, SECOND);
    }
}

/// The stop signal comes while a reply is being sent.
#[tokio::test(start_paused = true)]
async fn drain_lets_the_peer_take_its_reply() {
    let mut setup = Setup::line();
    setup.window = 2;
    let talk = setup.talk(echo()).await;
    talk.peer.send("hello\n");
    talk.peer.send("again\n");
    talk.peer.receives("he").await;
    talk.drain.start();
    sleep(3 * SECOND).await;
    talk.peer.grant(AMPLE);
    let end = talk.end().await;
    assert_eq!(
        (end.reason(), &end.taken[..]),
        (CloseReason::ServerStopped, &b"hello\nagain\n"[..])
    );
    assert_at(end.finished, 3 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn endless_sender_does_not_delay_the_drain() {
    let talk = Setup::chunk().talk(named("echo", Framing::Chunk)).await;
    for _ in 0..1000 {
        talk.peer.send(vec![0; 65_536]);
    }
    talk.drain.start();
    let end = talk.end().await;
    assert_eq!(end.reason(), CloseReason::ServerStopped);
    assert_eq!(end.ending.received, end.ending.sent);
    assert_eq!(end.ending.received, (8 << 20) + 65_536, "and a read");
    assert_at(end.finished, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn aborted_session_reports_the_unsent_bytes() {
    let mut setup = Setup::line();
    setup.window = 1;
    let talk = setup.talk(echo()).await;
    talk.peer.send("ab\n");
    talk.peer.receives("a").await;
    talk.session.abort();
    let end = talk.end().await;
    assert_eq!(
        (end.reason(), end.ending.unsent),
        (CloseReason::DrainTimeout, 2)
    );
}

/// The session had a close reason already, but had not sent everything: `service-closed` with 2 unsent bytes would be
/// wrong and would not count as cut (seed 31 of the simulation).
#[tokio::test(start_paused = true)]
async fn abort_before_the_last_bytes_overrides_the_close_reason() {
    let mut setup = Setup::line();
    setup.window = 1;
    let talk = setup.talk(named("greet:bye", Framing::Line)).await;
    talk.peer.receives("b").await;
    talk.session.abort();
    let totals = Arc::clone(&talk.totals);
    let end = talk.end().await;
    assert_eq!(
        (end.reason(), end.ending.unsent),
        (CloseReason::DrainTimeout, 2)
    );
    assert_eq!(totals.cut.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn panic_in_a_handler_is_recorded() {
    let service = inline(|run, out| {
        for message in run.messages() {
            assert!(message.body != b"!", "panics on purpose");
            out.reply(&message, |bytes| bytes.extend(message.body));
        }
        ControlFlow::Continue(())
    });
    let talk = Setup::line().talk(service).await;
    talk.peer.send("fine\n");
    talk.peer.receives("fine\n").await;
    talk.peer.send("!\n");
    let end = talk.end().await;
    assert_eq!(
        (end.reason(), &end.taken[..]),
        (CloseReason::Panicked, &b"fine\n"[..])
    );
    assert!(end.session.unwrap_err().is_panic());
    // The thread's scratch is whole again for the next conversation.
    let talk = Setup::line().talk(echo()).await;
    talk.peer.send("next\n");
    talk.peer.receives("next\n").await;
    talk.peer.finish();
    assert_eq!(talk.end().await.reason(), CloseReason::PeerClosed);
}

#[tokio::test(start_paused = true)]
async fn half_close_is_recorded_while_a_reply_is_pending() {
    let mut setup = Setup::line();
    setup.window = 0;
    let talk = setup.talk(echo()).await;
    talk.peer.send("last");
    talk.peer.finish();
    sleep(SECOND).await;
    talk.peer.grant(AMPLE);
    let store = Arc::clone(&talk.store);
    let end = talk.end().await;
    assert_eq!(
        (end.reason(), &end.taken[..]),
        (CloseReason::PeerClosed, &b"last"[..])
    );
    let marks: Vec<_> = store.marks().into_iter().map(|(.., what)| what).collect();
    assert_eq!(marks, [Marked::HalfClosed { received: 4 }]);
}
