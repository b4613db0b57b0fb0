//! Strict durability: a reply is sent after its exchange is committed, and never if the commit fails.

use tokio::time::sleep;

use super::{spawned::unsolicited, *};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn reply_waits_for_its_commit() {
    let setup = Setup::strict();
    setup.store.set(StoreMode::Slow(30 * MS));
    let talk = setup.talk(echo()).await;
    // The event of the opening has an append of its own.
    sleep(SECOND).await;
    let began = Instant::now();
    talk.peer.send("a\n");
    talk.peer.receives("a\n").await;
    let waited = began.elapsed();
    assert_eq!(
        talk.store.exchanges().len(),
        1,
        "committed before it was sent"
    );
    assert!(waited >= 30 * MS && waited < 35 * MS, "{waited:?}");
    talk.peer.finish();
    assert_eq!(talk.end().await.reason(), CloseReason::PeerClosed);
}

#[tokio::test(start_paused = true)]
async fn greeting_waits_for_its_commit() {
    let setup = Setup::strict();
    setup.store.set(StoreMode::Hangs);
    let store = Arc::clone(&setup.store);
    let talk = setup.talk(named("greet:hi", Framing::Line)).await;
    sleep(SECOND).await;
    assert!(talk.peer.taken().is_empty());
    store.set(StoreMode::Commits);
    talk.peer.receives("hi").await;
    assert_eq!(talk.end().await.reason(), CloseReason::ServiceClosed);
}

#[tokio::test(start_paused = true)]
async fn failing_store_withholds_the_reply_and_ends_the_conversation() {
    for mood in [StoreMode::Fails, StoreMode::Hangs] {
        let setup = Setup::strict();
        let store = Arc::clone(&setup.store);
        let talk = setup.talk(echo()).await;
        talk.peer.send("good\n");
        talk.peer.receives("good\n").await;
        store.set(mood);
        talk.peer.send("lost\n");
        talk.peer
            .until("finished", |line| line.finished.is_some())
            .await;
        assert_eq!(talk.peer.taken(), b"good\n");
        assert!(talk.recorder.status().failure.is_some());
        talk.peer.finish();
        store.set(StoreMode::Commits);
        let end = talk.end().await;
        assert_eq!(
            (end.reason(), &end.taken[..]),
            (CloseReason::StoreFailed, &b"good\n"[..])
        );
        assert_eq!((end.ending.sent, end.ending.unsent), (5, 5));
        assert_eq!(end.exchanges.len(), 2, "recorded in the end, as unsent");
    }
}

/// The write timeout does not run while a reply waits for the store.
#[tokio::test(start_paused = true)]
async fn slow_store_does_not_trigger_the_write_timeout() {
    let mut setup = Setup::strict();
    setup.limits.write_timeout = 3 * SECOND;
    setup.store.set(StoreMode::Slow(4 * SECOND));
    let talk = setup.talk(echo()).await;
    sleep(5 * SECOND).await;
    talk.peer.send("a\n");
    talk.peer.receives("a\n").await;
    talk.peer.finish();
    let end = talk.end().await;
    assert_eq!(
        (end.reason(), &end.taken[..]),
        (CloseReason::PeerClosed, &b"a\n"[..])
    );
}

#[tokio::test(start_paused = true)]
async fn slow_store_does_not_trigger_the_write_timeout_at_the_end() {
    let mut setup = Setup::strict();
    setup.limits.write_timeout = 3 * SECOND;
    setup.store.set(StoreMode::Slow(4 * SECOND));
    let talk = setup.talk(echo()).await;
    sleep(5 * SECOND).await;
    talk.peer.send("a\n");
    talk.peer.finish();
    let end = talk.end().await;
    assert_eq!(
        (end.reason(), &end.taken[..]),
        (CloseReason::PeerClosed, &b"a\n"[..])
    );
}

/// A handler that sends all the time always has a reply that is not committed yet.
#[tokio::test(start_paused = true)]
async fn committed_replies_are_sent_while_more_is_produced() {
    let setup = Setup::strict();
    setup.store.set(StoreMode::Slow(20 * MS));
    let service = spawned(|_requests, mut replies| async move {
        loop {
            replies.send(unsolicited("tick\n")).await?;
            sleep(5 * MS).await;
        }
    });
    let talk = setup.talk(service).await;
    sleep(SECOND).await;
    let taken = talk.peer.taken().len();
    assert!(taken > 500, "{taken} bytes in a second of 200 ticks");
    for _ in 0..100 {
        sleep(7 * MS).await;
        let exchanges = talk.store.exchanges();
        let committed: usize = exchanges.iter().map(|kept| kept.reply.len()).sum();
        assert!(
            talk.peer.taken().len() <= committed,
            "sent before it was committed"
        );
    }
    sleep(10 * SECOND).await;
    assert!(talk.peer.look(|line| line.finished.is_none()), "it goes on");
    talk.drain.start();
    talk.session.abort();
    assert_eq!(talk.end().await.reason(), CloseReason::DrainTimeout);
}

/// With `WhenFull::Drop`, an exchange whose reply waits for the commit is not dropped: its conversation waits for room
/// (seed 83 of the simulation).
#[tokio::test(start_paused = true)]
async fn held_replies_are_never_dropped() {
    let mut setup = Setup::strict();
    setup.options.when_full = WhenFull::Drop;
    setup.options.uncommitted_bytes_max = 1;
    setup.store.set(StoreMode::Slow(30 * MS));
    let talk = setup.talk(echo()).await;
    for _ in 0..3 {
        talk.peer.send("a\n");
    }
    talk.peer.receives("a\na\na\n").await;
    assert_eq!(
        talk.store.exchanges().len(),
        3,
        "committed before they were sent"
    );
    talk.peer.finish();
    assert_eq!(talk.end().await.reason(), CloseReason::PeerClosed);
}

#[tokio::test(start_paused = true)]
async fn pipelined_lines_share_commits() {
    let setup = Setup::strict();
    setup.store.set(StoreMode::Slow(10 * MS));
    let store = Arc::clone(&setup.store);
    let talk = setup.talk(echo()).await;
    for _ in 0..50 {
        talk.peer.send("a\n".repeat(16));
    }
    talk.peer.finish();
    let end = talk.end().await;
    assert_eq!((end.exchanges.len(), end.taken.len()), (800, 1600));
    assert!(
        store.appends().len() <= 53,
        "at most one per read: {}",
        store.appends().len()
    );
}
