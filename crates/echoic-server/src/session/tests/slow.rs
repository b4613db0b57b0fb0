//! Slow peers: one that takes bytes is not stalled, however long the kernel calls the socket full, and an idle one does
//! not delay the stop.

use tokio::time::sleep;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Asserts that something happened between `from` and `to`, with 2 ms for the timer, which rounds up.
fn assert_between(moment: Duration, from: Duration, to: Duration) {
    let to = to + Duration::from_millis(2);
    assert!(moment >= from && moment <= to, "{moment:?}");
}

/// A conversation whose peer has taken three bytes of a reply of 11; the kernel holds none of the rest.
async fn unsent_reply(setup: Setup) -> Talk {
    let talk = Setup { window: 3, ..setup };
    let talk = talk.talk(echo()).await;
    talk.peer.send("0123456789\n");
    talk.peer.receives("012").await;
    talk
}

/// Each 9 s the peer takes a byte of what the kernel holds, and the kernel takes nothing from us.
#[tokio::test(start_paused = true)]
async fn reader_of_a_byte_now_and_then_is_not_stalled() {
    let talk = unsent_reply(Setup::line()).await;
    for left in (0..20).rev() {
        talk.peer.set_queue(1000 + left, Some(0));
        sleep(9 * SECOND).await;
    }
    assert!(!talk.session.is_finished());
    let at = talk.began.elapsed();
    talk.peer.grant(AMPLE);
    talk.peer.finish();
    let end = talk.end().await;
    assert_eq!(
        (end.reason(), &end.taken[..]),
        (CloseReason::PeerClosed, &b"0123456789\n"[..])
    );
    assert_between(end.closed, at, at);
}

#[tokio::test(start_paused = true)]
async fn reading_of_the_peers_program_is_progress_too() {
    let talk = unsent_reply(Setup::line()).await;
    for left in (0..6).rev() {
        talk.peer.set_queue(1000, Some(1000 + left));
        sleep(9 * SECOND).await;
    }
    assert!(!talk.session.is_finished());
    talk.peer.grant(AMPLE);
    talk.peer.finish();
    assert_eq!(talk.end().await.reason(), CloseReason::PeerClosed);
}

#[tokio::test(start_paused = true)]
async fn stalled_reader_ends_by_the_write_timeout_and_one_look() {
    let talk = unsent_reply(Setup::line()).await;
    talk.peer.set_queue(1000, Some(0));
    sleep(30 * SECOND).await;
    let end = talk.end().await;
    assert_eq!(end.reason(), CloseReason::WriteTimeout);
    assert_eq!(end.ending.unsent, 8);
    assert_between(end.finished.unwrap(), 10 * SECOND, 11 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn reader_that_stops_after_a_while_ends_by_the_write_timeout() {
    let talk = unsent_reply(Setup::line()).await;
    for left in [5, 4, 3] {
        talk.peer.set_queue(left, None);
        sleep(9 * SECOND).await;
    }
    let end = talk.end().await;
    assert_eq!(end.reason(), CloseReason::WriteTimeout);
    // It was last seen to take a byte within a second after 18 s.
    assert_between(end.finished.unwrap(), 28 * SECOND, 29 * SECOND);
}

/// Without room in the kernel and without its numbers, there is nothing to wait for.
#[tokio::test(start_paused = true)]
async fn unknown_queue_leaves_the_write_timeout_exact() {
    let end = unsent_reply(Setup::line()).await.end().await;
    assert_eq!(end.reason(), CloseReason::WriteTimeout);
    assert_between(end.finished.unwrap(), 10 * SECOND, 10 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn drain_waits_for_a_slow_reader() {
    let talk = unsent_reply(Setup::line()).await;
    talk.drain.start();
    for left in (0..6).rev() {
        talk.peer.set_queue(1000 + left, None);
        sleep(9 * SECOND).await;
    }
    talk.peer.set_queue(0, None);
    talk.peer.grant(AMPLE);
    let end = talk.end().await;
    assert_eq!(
        (end.reason(), end.ending.unsent),
        (CloseReason::ServerStopped, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn reply_on_its_way_is_traffic_for_the_idle_timeout() {
    let mut setup = Setup::line();
    setup.limits.idle_timeout = 5 * SECOND;
    let talk = setup.talk(echo()).await;
    talk.peer.send("a\n");
    for left in (0..6).rev() {
        talk.peer.set_queue(left, None);
        sleep(4 * SECOND).await;
    }
    let end = talk.end().await;
    assert_eq!(end.reason(), CloseReason::IdleTimeout);
    assert_between(end.finished.unwrap(), 24 * SECOND, 26 * SECOND);
}

/// The peer sends now and then, so that a close would be a reset, and takes 16 bytes a second for 40 s.
#[tokio::test(start_paused = true)]
async fn linger_waits_while_the_peer_takes_the_reply() {
    let talk = Setup::line()
        .talk(named("greet:hello", Framing::Line))
        .await;
    for left in (0..40).rev() {
        talk.peer.set_queue(16 * left, None);
        sleep(SECOND).await;
        assert!(!talk.session.is_finished());
    }
    talk.peer.finish();
    let end = talk.end().await;
    assert_eq!(end.reason(), CloseReason::ServiceClosed);
    assert_between(end.closed, 40 * SECOND, 40 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn linger_ends_when_the_peer_stops_taking() {
    let talk = Setup::line()
        .talk(named("greet:hello", Framing::Line))
        .await;
    for left in (0..10).rev() {
        talk.peer.set_queue(1000 + left, None);
        sleep(SECOND).await;
    }
    let end = talk.end().await;
    assert_between(end.closed, 11 * SECOND, 11 * SECOND + SECOND / 4);
}

/// Its program has read everything, so a reset could take nothing from it.
#[tokio::test(start_paused = true)]
async fn idle_peer_is_closed_at_once_at_the_stop() {
    for (request, age, closed_after) in [("", 0, 100), ("", 60, 0), ("a\n", 0, 100), ("a\n", 60, 0)]
    {
        let talk = Setup::line().talk(echo()).await;
        if !request.is_empty() {
            talk.peer.send(request);
        }
        talk.peer.receives(request).await;
        talk.peer.set_queue(0, Some(0));
        sleep(age * SECOND).await;
        talk.drain.start();
        let end = talk.end().await;
        assert_eq!(end.reason(), CloseReason::ServerStopped);
        let expected = age * SECOND + Duration::from_millis(closed_after);
        assert_between(end.closed, expected, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn stop_waits_for_a_peer_that_may_lose_its_reply() {
    let (read, acknowledged) = ((0, Some(0)), (0, None));
    for ((unacknowledged, unread), sends, silence) in [
        (acknowledged, false, SECOND),
        ((0, Some(2)), false, 2 * SECOND),
        ((2, None), false, 2 * SECOND),
        (read, true, SECOND / 10),
    ] {
        let talk = Setup::line().talk(echo()).await;
        talk.peer.send("a\n");
        talk.peer.receives("a\n").await;
        talk.peer.set_queue(unacknowledged, unread);
        talk.drain.start();
        if sends {
            sleep(SECOND / 20).await;
            talk.peer.send("late\n");
        }
        let sent_at = talk.began.elapsed();
        let end = talk.end().await;
        assert_eq!(end.reason(), CloseReason::ServerStopped);
        let expected = sent_at + silence;
        assert_between(end.closed, expected, expected + SECOND / 4);
    }
}

/// A conversation that had ended before the stop does not delay it either.
#[tokio::test(start_paused = true)]
async fn stop_ends_the_linger_of_an_idle_peer() {
    let talk = Setup::line()
        .talk(named("greet:hello", Framing::Line))
        .await;
    talk.peer.receives("hello").await;
    talk.peer.set_queue(0, Some(0));
    sleep(SECOND).await;
    talk.drain.start();
    let end = talk.end().await;
    assert_eq!(end.reason(), CloseReason::ServiceClosed);
    assert_between(end.closed, SECOND, SECOND);
}
