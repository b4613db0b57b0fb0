//! Deadlines hold under load, and a session does not read what it cannot answer.

use tokio::time::sleep;

use super::{wire::Line, *};

const SECOND: Duration = Duration::from_secs(1);

/// A task that has used up its coop budget finds everything pending, also the timer. A deadline that is first polled at
/// such a moment must still fire.
#[tokio::test(start_paused = true)]
async fn idle_timeout_holds_when_first_polled_during_a_flood() {
    for reads in 0..140 {
        let mut setup = Setup::chunk();
        setup.limits.idle_timeout = 5 * SECOND;
        let talk = setup.talk(named("echo", Framing::Chunk)).await;
        talk.peer.use_coop_budget();
        for _ in 0..reads {
            talk.peer.send("x");
        }
        let end = tokio::time::timeout(60 * SECOND, talk.end()).await;
        let end = end.unwrap_or_else(|_| panic!("never idle after {reads} reads at once"));
        assert_eq!(
            (end.reason(), end.taken.len()),
            (CloseReason::IdleTimeout, reads)
        );
        assert!(end.finished.unwrap() < 5 * SECOND + SECOND / 100);
    }
}

/// At the stop, a read that is pending only for lack of budget is not taken as the end of the received data.
#[tokio::test(start_paused = true)]
async fn drain_reads_everything_received_during_a_flood() {
    for reads in [50, 63, 64, 65, 100, 200, 1000] {
        let talk = Setup::chunk().talk(named("echo", Framing::Chunk)).await;
        talk.peer.use_coop_budget();
        for _ in 0..reads {
            talk.peer.send("x");
        }
        talk.drain.start();
        let end = talk.end().await;
        assert_eq!(
            (end.reason(), end.taken.len()),
            (CloseReason::ServerStopped, reads)
        );
    }
}

/// At the stop, everything a kernel may buffer for a connection is read, however much was read before.
#[tokio::test(start_paused = true)]
async fn drain_reads_as_much_as_the_kernel_buffers() {
    let talk = Setup::line().talk(echo()).await;
    talk.peer.use_coop_budget();
    let line = "x".repeat(999) + "\n";
    for _ in 0..100 {
        talk.peer.send(line.repeat(60));
    }
    talk.peer.until("read", Line::incoming_is_empty).await;
    for _ in 0..100 {
        talk.peer.send(line.repeat(60));
    }
    talk.drain.start();
    let end = talk.end().await;
    assert_eq!(
        (end.reason(), end.exchanges.len()),
        (CloseReason::ServerStopped, 12_000)
    );
}

/// While a reply is not sent in full nothing more is read, whatever wakes the task.
#[tokio::test(start_paused = true)]
async fn nothing_is_read_while_a_reply_is_unsent() {
    let mut setup = Setup::line();
    setup.window = 1;
    let talk = setup.talk(echo()).await;
    talk.peer.send("ab\n");
    for _ in 0..50 {
        talk.peer.send("more\n");
    }
    sleep(SECOND).await;
    assert_eq!(talk.peer.look(|line| line.reads), 1);
    talk.peer.grant(1);
    sleep(SECOND).await;
    assert_eq!(talk.peer.look(|line| line.reads), 1);
    talk.peer.grant(AMPLE);
    talk.peer.finish();
    assert_eq!(talk.end().await.taken.len(), 3 + 250);
}

/// Only time in which the session reads counts against the message timeout.
#[tokio::test(start_paused = true)]
async fn message_timeout_excludes_time_spent_not_reading() {
    let mut setup = Setup::line();
    setup.limits.message_timeout = 5 * SECOND;
    setup.window = 0;
    let talk = setup.talk(echo()).await;
    let long = "x".repeat(200_000) + "\n";
    talk.peer.send("short\n".to_owned() + &long);
    for _ in 0..7 {
        sleep(SECOND).await;
        talk.peer.grant(1);
    }
    talk.peer.grant(AMPLE);
    talk.peer.finish();
    let end = talk.end().await;
    assert_eq!(end.reason(), CloseReason::PeerClosed, "{:?}", end.ending);
    assert_eq!(end.taken.len(), 6 + 200_001);
}

/// Spurious wake-ups change no deadline.
#[tokio::test(start_paused = true)]
async fn spurious_wakeups_do_not_extend_the_idle_timeout() {
    let mut setup = Setup::line();
    setup.limits.idle_timeout = 5 * SECOND;
    let talk = setup.talk(echo()).await;
    let peer = talk.peer.clone();
    let nudging = tokio::spawn(async move {
        loop {
            sleep(Duration::from_millis(7)).await;
            peer.nudge();
        }
    });
    let peer = talk.peer.clone();
    peer.until("finished", |line| line.finished.is_some()).await;
    nudging.abort();
    let end = talk.end().await;
    assert_eq!(end.reason(), CloseReason::IdleTimeout);
    assert!(end.finished.unwrap() < 5 * SECOND + SECOND / 100);
}
