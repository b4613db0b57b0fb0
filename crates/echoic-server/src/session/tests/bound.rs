//! Waits end when they should, whatever else happens at that moment, and nothing is taken in that cannot be let out.

use tokio::time::sleep;

use super::{wire::Line, *};

const SECOND: Duration = Duration::from_secs(1);

/// The runtime lets a task do so much at a time and then makes everything pend, the timer too. A deadline that is
/// first looked at in such a moment must not be forgotten.
#[tokio::test(start_paused = true)]
async fn idle_timeout_holds_when_first_polled_during_a_flood() {
    for reads in 0..140 {
        let mut setup = Setup::chunk();
        setup.limits.idle_timeout = 5 * SECOND;
        let talk = setup.talk(named("echo", Framing::Chunk)).await;
        talk.peer.be_cooperative();
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

/// The same at the stop signal: what pends for want of budget is not the end of what was received.
#[tokio::test(start_paused = true)]
async fn drain_reads_everything_received_during_a_flood() {
    for reads in [50, 63, 64, 65, 100, 200, 1000] {
        let talk = Setup::chunk().talk(named("echo", Framing::Chunk)).await;
        talk.peer.be_cooperative();
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

/// What a kernel may hold of one connection at the stop signal is heard to the last byte, whatever was heard before.
#[tokio::test(start_paused = true)]
async fn drain_reads_as_much_as_the_kernel_buffers() {
    let talk = Setup::line().talk(echo()).await;
    talk.peer.be_cooperative();
    let line = "x".repeat(999) + "\n";
    for _ in 0..100 {
        talk.peer.send(line.repeat(60));
    }
    talk.peer.until("heard", Line::coming_is_empty).await;
    for _ in 0..100 {
        talk.peer.send(line.repeat(60));
    }
    talk.drain.start();
    let end = talk.end().await;
    assert_eq!(
        (end.reason(), end.kept.len()),
        (CloseReason::ServerStopped, 12_000)
    );
}

/// While the peer does not take its reply nothing more is heard of it, however it is woken.
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

/// The time a message takes to come is the peer's; the time we did not listen is not.
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

/// Wake-ups without a reason change no deadline.
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
