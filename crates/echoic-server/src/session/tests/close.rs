//! The lingering close: a peer that sends before it reads still gets all replies, and no peer can hold a session open
//! for ever.

use tokio::time::sleep;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn greeting(bytes: usize) -> Handler {
    named(&format!("greet:{}", "x".repeat(bytes)), Framing::Line)
}

#[tokio::test(start_paused = true)]
async fn bytes_read_while_lingering_count_as_discarded() {
    let talk = Setup::line().talk(greeting(10)).await;
    for _ in 0..5 {
        sleep(SECOND).await;
        talk.peer.send(vec![0; 100_000]);
    }
    talk.peer.finish();
    let end = talk.end().await;
    assert_eq!(end.reason(), CloseReason::ServiceClosed);
    assert_eq!((end.ending.received, end.ending.discarded), (0, 500_000));
    assert_eq!(end.finished, Some(Duration::ZERO));
    assert!(end.closed >= 5 * SECOND && end.closed < 6 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn linger_ends_after_two_seconds_of_silence() {
    let talk = Setup::line().talk(greeting(10)).await;
    sleep(SECOND).await;
    talk.peer.send("x");
    let end = talk.end().await;
    assert_eq!(end.ending.discarded, 1);
    assert!(end.closed >= 3 * SECOND && end.closed < 3 * SECOND + SECOND / 100);
}

#[tokio::test(start_paused = true)]
async fn endless_sender_is_closed_after_ten_linger_timeouts() {
    let talk = Setup::line().talk(greeting(10)).await;
    let peer = talk.peer.clone();
    let sending = tokio::spawn(async move {
        loop {
            peer.send("x");
            sleep(SECOND).await;
        }
    });
    let end = talk.end().await;
    sending.abort();
    assert!(
        end.closed >= 20 * SECOND && end.closed < 21 * SECOND,
        "{end:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn stop_signal_shortens_the_linger() {
    let talk = Setup::line().talk(greeting(10)).await;
    let peer = talk.peer.clone();
    let sending = tokio::spawn(async move {
        loop {
            peer.send("x");
            sleep(SECOND).await;
        }
    });
    sleep(5 * SECOND).await;
    talk.drain.start();
    let end = talk.end().await;
    sending.abort();
    assert!(
        end.closed >= 7 * SECOND && end.closed <= 8 * SECOND,
        "{end:?}"
    );
    assert_eq!(end.reason(), CloseReason::ServiceClosed);
}

#[tokio::test(start_paused = true)]
async fn slow_reader_gets_the_whole_greeting_before_the_close() {
    let mut setup = Setup::line();
    setup.window = 1000;
    let talk = setup.talk(greeting(5000)).await;
    talk.peer.send("sent before reading");
    for _ in 0..4 {
        sleep(9 * SECOND).await;
        assert!(talk.peer.look(|line| line.finished.is_none()));
        talk.peer.grant(1000);
    }
    let end = talk.end().await;
    assert_eq!(
        (end.reason(), end.taken.len()),
        (CloseReason::ServiceClosed, 5000)
    );
    assert_eq!(end.ending.discarded, 19);
}

#[tokio::test(start_paused = true)]
async fn unread_greeting_ends_by_write_timeout() {
    let mut setup = Setup::line();
    setup.window = 1000;
    let talk = setup.talk(greeting(5000)).await;
    let end = talk.end().await;
    assert_eq!(
        (end.reason(), end.ending.unsent),
        (CloseReason::WriteTimeout, 4000)
    );
    let finished = end.finished.unwrap();
    assert!(finished >= 10 * SECOND && finished < 11 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn reset_during_a_greeting_is_recorded() {
    let mut setup = Setup::line();
    setup.window = 1000;
    let talk = setup.talk(greeting(5000)).await;
    sleep(SECOND).await;
    talk.peer.reset();
    let end = talk.end().await;
    assert_eq!(
        (end.reason(), end.ending.unsent),
        (CloseReason::PeerReset, 4000)
    );
}

/// The kernel has taken the whole greeting, but a reset leaves open whether the peer has received it: the close reason
/// must say so.
#[tokio::test(start_paused = true)]
async fn reset_after_a_greeting_was_sent_is_recorded() {
    let talk = Setup::line().talk(greeting(10)).await;
    sleep(SECOND).await;
    talk.peer.reset();
    let end = talk.end().await;
    assert_eq!(
        (end.reason(), end.ending.sent),
        (CloseReason::PeerReset, 10)
    );
    // An earlier close reason stays.
    let talk = Setup::line().talk(named("upper", Framing::Line)).await;
    talk.peer.send(vec![b'x'; 2 << 20]);
    sleep(SECOND).await;
    talk.peer.reset();
    assert_eq!(talk.end().await.reason(), CloseReason::MessageTooLong);
}

/// A peer that does not take the end of our half is not read afterwards: there is one wait, not two.
#[tokio::test(start_paused = true)]
async fn unfinished_shutdown_is_waited_for_once() {
    let talk = Setup::line().talk(greeting(10)).await;
    talk.peer.block_finish();
    talk.peer.send("x");
    let end = talk.end().await;
    assert_eq!(
        (end.reason(), end.ending.discarded),
        (CloseReason::ServiceClosed, 0)
    );
    assert!(
        end.closed >= 2 * SECOND && end.closed < 2 * SECOND + SECOND / 100,
        "{end:?}"
    );
}

/// After a write timeout a peer that goes on sending gets one linger timeout and no more.
#[tokio::test(start_paused = true)]
async fn peer_that_does_not_read_gets_no_extra_linger() {
    let mut setup = Setup::line();
    setup.window = 0;
    let talk = setup.talk(greeting(10)).await;
    let peer = talk.peer.clone();
    let sending = tokio::spawn(async move {
        loop {
            peer.send("x");
            sleep(SECOND).await;
        }
    });
    let end = talk.end().await;
    sending.abort();
    assert_eq!(end.reason(), CloseReason::WriteTimeout);
    let lingered = end.closed.saturating_sub(end.finished.unwrap());
    assert!(
        lingered >= 2 * SECOND && lingered < 3 * SECOND,
        "{lingered:?}"
    );
}
