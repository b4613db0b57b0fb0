//! The recorder with a test store: commit interval, store failures, exact counts of losses, and back-pressure.

mod counts;
mod room;

use std::{
    future::{Future, poll_fn},
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    task::Poll,
};

use echoic_core::{
    ending::{CloseReason, Ending},
    event::{
        Address, Batch, EndpointInfo, Event, ExchangeId, Marked, Opened, Outcome, Protocol, Role,
        RunMeta, take_ids,
    },
    framing::Framing,
};
use proptest::prelude::*;
use tokio::{
    runtime::Builder,
    task::yield_now,
    time::{Instant, advance, sleep},
};

use super::*;
use crate::{
    common::{StoreMode, TestStore},
    feed::Seen,
    lock::lock,
    options::WhenFull,
    shard::{EMPTY_BATCHES_MAX, ROUND_BYTES},
    status::RecorderStatus,
    task::RETRY,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A running recorder, and the number of exchanges recorded with it.
struct Recording {
    recorder: Recorder,
    task: JoinHandle<()>,
    store: Arc<TestStore>,
    exchanges: u64,
    began: Instant,
}

/// A test conversation.
struct Talk {
    journal: Journal,
    id: ConversationId,
    n: u64,
}

impl Recording {
    async fn start(mode: StoreMode, options: RecorderOptions) -> Self {
        let store = TestStore::new(mode);
        let shared = Arc::clone(&store) as Arc<dyn Store>;
        let (recorder, task) = Recorder::new(Some(shared), options).await.unwrap();
        Self {
            recorder,
            task: tokio::spawn(task.run()),
            store,
            exchanges: 0,
            began: Instant::now(),
        }
    }

    fn talk(&self, shard: usize) -> Talk {
        let (id, mut journal) = self.recorder.journal(shard);
        let at = Address::Net(SocketAddr::from((Ipv4Addr::LOCALHOST, 5000)));
        journal.record_opened(Opened {
            conversation: id,
            at: 0,
            remote: at.clone(),
            local: at,
            role: Role::Server,
            endpoint_info: Arc::new(EndpointInfo {
                name: "tcp:5000".into(),
                proto: Protocol::Tcp,
                service: "test".into(),
                framing: Framing::Line.into(),
            }),
            tls: None,
        });
        Talk { journal, id, n: 0 }
    }

    fn record(&mut self, talk: &mut Talk, bytes: usize) {
        self.exchanges += 1;
        talk.record(bytes);
    }

    /// Returns when appends began, in milliseconds since the start.
    fn appends(&self) -> Vec<u128> {
        let appends = self.store.appends();
        appends
            .iter()
            .map(|(at, _)| (*at - self.began).as_millis())
            .collect()
    }

    /// Closes the recorder and checks that every exchange is counted as either recorded or lost.
    async fn close(self, deadline: Duration) -> (RecorderStatus, Arc<TestStore>) {
        self.recorder.close(self.task, deadline).await;
        let status = self.recorder.status();
        assert_eq!(status.recorded + status.lost, self.exchanges, "{status:?}");
        assert_eq!(self.store.exchanges().len() as u64, status.recorded);
        let marks = self.store.marks();
        let mut gaps = marks.iter().map(|(.., what)| what);
        let gap = gaps.any(|what| matches!(what, Marked::Gap { .. }));
        assert!(!gap || status.lost > 0, "a gap without a loss");
        let appends = self.store.appends();
        assert!(appends.iter().all(|(_, bytes)| *bytes > 0), "{appends:?}");
        (status, self.store)
    }
}

impl Talk {
    fn record(&mut self, bytes: usize) {
        self.n += 1;
        let meta = RunMeta {
            conversation: self.id,
            n: self.n,
            at: 0,
            latency_ns: 0,
            reads: 1,
            reply_offset: 0,
        };
        self.journal
            .record_exchange(meta, Outcome::Ok, &vec![7; bytes], b"");
    }

    fn end(&mut self) {
        let ending = Ending {
            reason: CloseReason::PeerClosed,
            received: 0,
            sent: 0,
            unsent: 0,
            discarded: 0,
            left_over: None,
        };
        self.journal.record_ended(0, ending);
    }

    /// Whether the conversation may read more now.
    async fn has_room(&mut self) -> bool {
        poll_fn(|cx| Poll::Ready(self.journal.poll_read_budget(cx).is_ready())).await
    }

    /// Returns how many bytes the conversation may read now.
    async fn read_budget(&mut self) -> Option<usize> {
        let room = poll_fn(|cx| Poll::Ready(self.journal.poll_read_budget(cx))).await;
        match room {
            Poll::Ready(bytes) => Some(bytes),
            Poll::Pending => None,
        }
    }

    async fn wait_for_room(&mut self) {
        poll_fn(|cx| self.journal.poll_read_budget(cx)).await;
    }

    async fn is_committed(&mut self) -> bool {
        let epoch = self.journal.epoch();
        poll_fn(|cx| self.journal.poll_committed(cx, epoch))
            .await
            .is_ok()
    }
}

#[tokio::test(start_paused = true)]
async fn events_are_committed_at_once_when_idle_and_collected_under_load() {
    let mut recording = Recording::start(StoreMode::Commits, RecorderOptions::default()).await;
    sleep(SECOND).await;
    let mut talk = recording.talk(0);
    for _ in 0..10 {
        recording.record(&mut talk, 10);
        sleep(MS).await;
    }
    sleep(100 * MS).await;
    // An opening, an exchange and an end are seen at once; then one round in an interval.
    let busy = [1000, 1001, 1002, 1020];
    assert_eq!(recording.appends(), busy);
    recording.record(&mut talk, 10);
    sleep(100 * MS).await;
    assert_eq!(recording.appends(), [&busy[..], &[1110]].concat());
    recording.close(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn large_round_commits_without_waiting() {
    let mut recording = Recording::start(StoreMode::Commits, RecorderOptions::default()).await;
    let mut talk = recording.talk(0);
    recording.record(&mut talk, ROUND_BYTES);
    sleep(MS).await;
    assert_eq!(recording.appends(), [0]);
    recording.close(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn round_that_grew_during_a_commit_commits_at_once() {
    let mut recording =
        Recording::start(StoreMode::Slow(40 * MS), RecorderOptions::default()).await;
    let mut talk = recording.talk(0);
    recording.record(&mut talk, ROUND_BYTES);
    sleep(10 * MS).await;
    recording.record(&mut talk, ROUND_BYTES);
    sleep(100 * MS).await;
    let appends = recording.appends();
    assert!(appends[1] <= 42, "{appends:?}");
    recording.close(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn strict_durability_commits_at_once() {
    let options = RecorderOptions {
        hold_replies: true,
        ..RecorderOptions::default()
    };
    let mut recording = Recording::start(StoreMode::Commits, options).await;
    let mut talk = recording.talk(0);
    recording.record(&mut talk, 1);
    assert!(talk.is_committed().await);
    assert_eq!(recording.appends(), [0]);
    recording.close(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn ids_continue_across_rounds_and_shards() {
    let options = RecorderOptions {
        shards: 3,
        ..RecorderOptions::default()
    };
    let mut recording = Recording::start(StoreMode::Commits, options).await;
    let mut talks: Vec<_> = (0..6).map(|i| recording.talk(i)).collect();
    for round in 0..5 {
        for talk in &mut talks {
            for _ in 0..=round {
                recording.record(talk, 3);
            }
        }
        sleep(50 * MS).await;
    }
    let (_, store) = recording.close(SECOND).await;
    let exchanges = store.exchanges();
    assert!(
        (1..)
            .zip(&exchanges)
            .all(|(id, exchange)| exchange.id == id)
    );
    for talk in &talks {
        let mine = exchanges
            .iter()
            .filter(|exchange| exchange.conversation == talk.id);
        assert!((1..=15).eq(mine.map(|exchange| exchange.n)));
    }
}

#[tokio::test(start_paused = true)]
async fn unresponsive_store_fails_after_five_seconds() {
    for hold_replies in [false, true] {
        let options = RecorderOptions {
            hold_replies,
            ..RecorderOptions::default()
        };
        let mut recording = Recording::start(StoreMode::Hangs, options).await;
        let mut talk = recording.talk(0);
        recording.record(&mut talk, 2 << 20);
        assert!(!talk.has_room().await, "over its budget");
        let began = Instant::now();
        if hold_replies {
            assert!(!talk.is_committed().await);
        } else {
            talk.wait_for_room().await;
        }
        let waited = began.elapsed();
        assert!(
            waited >= 5 * SECOND && waited < 5 * SECOND + 30 * MS,
            "{waited:?}"
        );
        assert!(recording.recorder.status().failure.is_some());

        recording.store.set(StoreMode::Commits);
        sleep(SECOND).await;
        assert!(talk.is_committed().await);
        assert_eq!(recording.recorder.status().failure, None);
        let (status, _) = recording.close(SECOND).await;
        assert_eq!(
            status.lost, 0,
            "events recorded in time are committed in the end"
        );
    }
}

/// The last attempt has no time left to wait for an answer.
#[tokio::test(start_paused = true)]
async fn failure_tells_the_error_of_the_store() {
    let mut recording = Recording::start(StoreMode::Fails, RecorderOptions::default()).await;
    let mut talk = recording.talk(0);
    recording.record(&mut talk, 10);
    sleep(4_800 * MS).await;
    recording.store.set(StoreMode::Hangs);
    sleep(SECOND).await;
    let failure = recording.recorder.status().failure.unwrap();
    assert!(failure.why.contains("set to fail"), "{}", failure.why);
    recording.store.set(StoreMode::Commits);
    sleep(SECOND).await;
    recording.close(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn failure_does_not_tell_an_error_from_before_the_last_commit() {
    let mut recording = Recording::start(StoreMode::Fails, RecorderOptions::default()).await;
    let mut talk = recording.talk(0);
    recording.record(&mut talk, 10);
    sleep(SECOND).await;
    recording.store.set(StoreMode::Commits);
    sleep(SECOND).await;
    assert!(talk.is_committed().await);
    recording.store.set(StoreMode::Hangs);
    recording.record(&mut talk, 10);
    sleep(6 * SECOND).await;
    let failure = recording.recorder.status().failure.unwrap();
    assert_eq!(failure.why, "the store gave no answer");
    recording.store.set(StoreMode::Commits);
    sleep(SECOND).await;
    recording.close(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn transient_store_error_is_not_a_failure() {
    let options = RecorderOptions {
        hold_replies: true,
        ..RecorderOptions::default()
    };
    let mut recording = Recording::start(StoreMode::Fails, options).await;
    let mut talk = recording.talk(0);
    recording.record(&mut talk, 10);
    sleep(4 * SECOND).await;
    assert_eq!(recording.recorder.status().failure, None);
    recording.store.set(StoreMode::Commits);
    assert!(talk.is_committed().await);

    recording.store.set(StoreMode::Fails);
    recording.record(&mut talk, 10);
    let began = Instant::now();
    assert!(
        !talk.is_committed().await,
        "an error that lasts is a failure"
    );
    assert_eq!(began.elapsed().as_secs(), 5);
    assert!(began.elapsed() < 5 * SECOND + RETRY);
    recording.store.set(StoreMode::Commits);
    sleep(SECOND).await;
    recording.close(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn failing_store_stops_no_conversation_and_losses_are_counted() {
    for mode in [StoreMode::Fails, StoreMode::Hangs] {
        let options = RecorderOptions {
            uncommitted_bytes_max: 1 << 20,
            ..RecorderOptions::default()
        };
        let mut recording = Recording::start(mode, options).await;
        let mut talk = recording.talk(0);
        recording.record(&mut talk, 1);
        sleep(6 * SECOND).await;
        for i in 0..100 {
            recording.record(&mut talk, 50_000);
            assert!(talk.has_room().await, "waiting would be of no use");
            if i % 10 == 0 {
                sleep(SECOND).await;
            }
        }
        let status = recording.recorder.status();
        assert!(status.lost >= 70 && status.lost < 90, "{status:?}");
        recording.store.set(StoreMode::Commits);
        sleep(SECOND).await;
        recording.record(&mut talk, 1);
        let (status, store) = recording.close(SECOND).await;
        assert_eq!(store.gaps(), status.lost, "the record contains the losses");
        assert_eq!(status.failure, None);
    }
}

/// A disk that was full has room again, but not for the whole backlog at once: a single append (`part` without its
/// bound) would always fail.
#[tokio::test(start_paused = true)]
async fn backlog_is_committed_in_parts() {
    const ROOM: usize = 10 << 20;
    let mut recording = Recording::start(StoreMode::Fails, RecorderOptions::default()).await;
    let mut talks: Vec<_> = (0..40).map(|_| recording.talk(0)).collect();
    recording.record(&mut talks[0], 1);
    sleep(6 * SECOND).await;
    for _ in 0..20 {
        for talk in &mut talks {
            recording.record(talk, 50_000);
        }
    }
    recording.store.set(StoreMode::FailsAbove(ROOM));
    sleep(SECOND).await;
    let status = recording.recorder.status();
    assert_eq!((status.waiting, status.failure), (0, None));
    assert_eq!((status.recorded, status.lost), (801, 0));
    let (_, store) = recording.close(SECOND).await;
    let last = store.appends().pop().map(|(_, bytes)| bytes);
    assert!(last < Some(ROOM), "{last:?}");
    let exchanges = store.exchanges();
    assert!(
        exchanges.iter().map(|exchange| exchange.id).eq(1..=801),
        "in order"
    );
}

/// Parts that were committed stay counted as recorded when the store fails at the next part.
#[tokio::test(start_paused = true)]
async fn store_failing_mid_backlog_retains_the_earlier_parts() {
    let mut recording = Recording::start(StoreMode::Fails, RecorderOptions::default()).await;
    let mut talk = recording.talk(0);
    for _ in 0..30 {
        recording.record(&mut talk, 1 << 20);
        sleep(MS).await;
    }
    recording.store.set(StoreMode::Slow(SECOND));
    sleep(SECOND + SECOND / 2).await;
    recording.store.set(StoreMode::Fails);
    sleep(2 * SECOND).await;
    let status = recording.recorder.status();
    let stored = recording.store.exchanges().len() as u64;
    assert!(stored > 0 && stored < 30, "{stored}");
    assert_eq!((status.recorded, status.waiting), (stored, 30 - stored));
    recording.store.set(StoreMode::Commits);
    let (status, store) = recording.close(10 * SECOND).await;
    assert_eq!((status.recorded, status.lost), (30, 0));
    assert!(
        store
            .exchanges()
            .iter()
            .map(|exchange| exchange.id)
            .eq(1..=30)
    );
}

/// A failed append may have been committed. Its gap is appended again in the same batch: in a new batch it would be
/// counted twice.
#[tokio::test(start_paused = true)]
async fn repeated_gap_counts_once() {
    let options = RecorderOptions {
        when_full: WhenFull::Drop,
        uncommitted_bytes_max: 100_000,
        ..RecorderOptions::default()
    };
    let mut recording = Recording::start(StoreMode::CommitsAndFails, options).await;
    let mut talk = recording.talk(0);
    for _ in 0..40 {
        recording.record(&mut talk, 10_000);
        sleep(100 * MS).await;
    }
    assert!(recording.store.gaps() > 0, "a gap is stored");
    recording.store.set(StoreMode::Commits);
    let (status, store) = recording.close(10 * SECOND).await;
    assert!(status.lost > 10, "{status:?}");
    assert_eq!(store.gaps(), status.lost);
}

/// The store may recover between a loss and the check for it, and commit the events before and after. The reply to the
/// lost exchange must still not be sent.
#[tokio::test(start_paused = true)]
async fn lost_event_is_not_reported_as_committed_after_recovery() {
    let options = RecorderOptions {
        hold_replies: true,
        uncommitted_bytes_max: 100_000,
        ..RecorderOptions::default()
    };
    let mut recording = Recording::start(StoreMode::Fails, options).await;
    let (mut recorded, mut talk) = (recording.talk(0), recording.talk(0));
    recording.record(&mut recorded, 100_000);
    sleep(6 * SECOND).await;
    recording.record(&mut talk, 1);
    recording.record(&mut talk, 1);
    assert_eq!(recording.recorder.status().lost, 2);
    let mut newcomer = recording.talk(0);
    recording.store.set(StoreMode::Commits);
    sleep(SECOND).await;
    assert!(recorded.is_committed().await);
    assert!(!talk.is_committed().await);
    recording.record(&mut newcomer, 1);
    assert!(
        newcomer.is_committed().await,
        "only its opening had found no room"
    );
    recording.close(SECOND).await;
}

/// Exchanges lost before the failure do not count; exchanges that wait for the store's recovery do.
#[tokio::test(start_paused = true)]
async fn store_failure_counts_only_the_losses_it_caused() {
    let options = RecorderOptions {
        when_full: WhenFull::Drop,
        uncommitted_bytes_max: 100_000,
        ..RecorderOptions::default()
    };
    let mut recording = Recording::start(StoreMode::Slow(SECOND), options).await;
    let mut talk = recording.talk(0);
    for _ in 0..6 {
        recording.record(&mut talk, 100_000);
    }
    sleep(3 * SECOND).await;
    assert_eq!(recording.recorder.status().lost, 5);
    recording.store.set(StoreMode::Fails);
    for _ in 0..3 {
        recording.record(&mut talk, 10);
    }
    sleep(6 * SECOND).await;
    let failed = |recording: &Recording| {
        let failure = recording.recorder.status().failure;
        failure.map(|failure| failure.exchanges)
    };
    assert_eq!(failed(&recording), Some(3));
    recording.record(&mut talk, 100_000);
    assert_eq!(failed(&recording), Some(4));
    recording.record(&mut talk, 1);
    assert_eq!(failed(&recording), Some(5));
    sleep(SECOND).await;
    assert_eq!(failed(&recording), Some(5));
    recording.store.set(StoreMode::Commits);
    let (status, _) = recording.close(10 * SECOND).await;
    assert_eq!((status.lost, status.recorded), (6, 5));
}

#[tokio::test(start_paused = true)]
async fn drop_mode_counts_losses_exactly_and_never_waits() {
    let options = RecorderOptions {
        when_full: WhenFull::Drop,
        uncommitted_bytes_max: 1 << 20,
        ..RecorderOptions::default()
    };
    let mut recording = Recording::start(StoreMode::Slow(SECOND), options).await;
    let mut talk = recording.talk(0);
    for _ in 0..500 {
        recording.record(&mut talk, 10_000);
        assert!(talk.has_room().await);
        sleep(5 * MS).await;
    }
    let (status, store) = recording.close(30 * SECOND).await;
    assert!(status.lost > 100 && status.recorded > 100, "{status:?}");
    assert_eq!(store.gaps(), status.lost);
}

#[tokio::test(start_paused = true)]
async fn close_commits_pending_events_and_counts_the_rest_as_lost() {
    let mut recording = Recording::start(StoreMode::Commits, RecorderOptions::default()).await;
    let mut talk = recording.talk(0);
    recording.record(&mut talk, 10);
    let (status, _) = recording.close(SECOND).await;
    assert_eq!((status.recorded, status.lost), (1, 0));

    for mode in [StoreMode::Hangs, StoreMode::Fails] {
        let options = RecorderOptions {
            uncommitted_bytes_max: 100_000,
            ..RecorderOptions::default()
        };
        let mut recording = Recording::start(mode, options).await;
        let mut talk = recording.talk(0);
        recording.record(&mut talk, 10);
        sleep(6 * SECOND).await;
        for _ in 0..20 {
            recording.record(&mut talk, 10_000);
        }
        assert!(
            recording.recorder.status().lost > 0,
            "counted while the store fails"
        );
        let (status, _) = recording.close(3 * SECOND).await;
        assert_eq!((status.recorded, status.lost), (0, 21));
    }
}

/// Without other events to append, the gap was not recorded (seed 339 of the simulation of datagrams).
#[tokio::test(start_paused = true)]
async fn final_loss_is_recorded_without_other_events() {
    let options = RecorderOptions {
        when_full: WhenFull::Drop,
        uncommitted_bytes_max: 1000,
        ..RecorderOptions::default()
    };
    let mut recording = Recording::start(StoreMode::Hangs, options).await;
    let mut talk = recording.talk(0);
    recording.record(&mut talk, 2000);
    sleep(options.commit_interval * 2).await;
    // This one is being appended now, and leaves no room for another.
    recording.record(&mut talk, 10);
    assert_eq!(recording.recorder.status().lost, 1);
    recording.store.set(StoreMode::Commits);
    let (status, store) = recording.close(SECOND).await;
    assert_eq!((status.recorded, status.lost), (1, 1));
    assert_eq!(store.gaps(), 1, "the record contains the losses");
}

#[tokio::test(start_paused = true)]
async fn event_recorded_too_late_is_counted_as_lost() {
    let mut recording = Recording::start(StoreMode::Slow(SECOND), RecorderOptions::default()).await;
    let mut talk = recording.talk(0);
    recording.record(&mut talk, 10);
    recording.exchanges += 1;
    let late = tokio::spawn(async move {
        sleep(SECOND / 2).await;
        talk.record(10);
    });
    let (status, _) = recording.close(10 * SECOND).await;
    late.await.unwrap();
    assert_eq!((status.recorded, status.lost), (1, 1));
}

/// A reply to it is not sent, whereas a reply to an earlier event may be.
#[tokio::test(start_paused = true)]
async fn event_recorded_too_late_is_not_reported_as_committed() {
    let options = RecorderOptions {
        hold_replies: true,
        ..RecorderOptions::default()
    };
    let recording = Recording::start(StoreMode::Commits, options).await;
    let (mut in_time, mut late) = (recording.talk(0), recording.talk(0));
    in_time.record(1);
    late.record(1);
    recording.recorder.close(recording.task, SECOND).await;
    in_time.end();
    assert!(in_time.is_committed().await);
    assert!(late.is_committed().await);
    for _ in 0..2 {
        late.record(1);
        assert!(!late.is_committed().await);
    }
}

#[tokio::test(start_paused = true)]
async fn close_does_not_wait_for_the_commit_interval() {
    for begun in [false, true] {
        let options = RecorderOptions {
            commit_interval: 60 * SECOND,
            ..RecorderOptions::default()
        };
        let mut recording = Recording::start(StoreMode::Commits, options).await;
        let mut talk = recording.talk(0);
        recording.record(&mut talk, 10);
        if begun {
            sleep(SECOND).await;
        }
        let closing = Instant::now();
        let (status, _) = recording.close(SECOND).await;
        assert_eq!((status.recorded, closing.elapsed()), (1, Duration::ZERO));
    }
}

#[tokio::test(start_paused = true)]
async fn waiters_are_released_when_the_recorder_dies() {
    let options = RecorderOptions {
        hold_replies: true,
        ..RecorderOptions::default()
    };
    let mut recording = Recording::start(StoreMode::Hangs, options).await;
    let (mut over_budget, mut holding) = (recording.talk(0), recording.talk(0));
    recording.record(&mut over_budget, 2 << 20);
    recording.record(&mut holding, 1);
    let began = Instant::now();
    let task = recording.task;
    let killer = tokio::spawn(async move {
        sleep(SECOND).await;
        task.abort();
    });
    let waiting = timeout(SECOND * 60, async {
        over_budget.wait_for_room().await;
        holding.is_committed().await
    });
    assert_eq!(waiting.await, Ok(false));
    assert!(began.elapsed() < 2 * SECOND);
    killer.await.unwrap();
}

/// A heavy conversation uses up its budget and waits; the others are not affected.
#[tokio::test(start_paused = true)]
async fn only_the_conversation_over_its_budget_waits() {
    let mut recording = Recording::start(StoreMode::Slow(SECOND), RecorderOptions::default()).await;
    let (mut heavy, mut light) = (recording.talk(0), recording.talk(0));
    let mut heavy_bytes = 0;
    while heavy.has_room().await {
        recording.record(&mut heavy, 100_000);
        heavy_bytes += 100_000;
    }
    assert!(
        heavy_bytes > 1 << 20 && heavy_bytes < 1_200_000,
        "1 MiB and a run: {heavy_bytes}"
    );
    for _ in 0..100 {
        recording.record(&mut light, 100);
        assert!(light.has_room().await);
    }
    heavy.wait_for_room().await;
    let (status, _) = recording.close(10 * SECOND).await;
    assert_eq!(status.lost, 0);
}

/// While the budget was nearly used up, new conversations took the rest of it with a read of 64 KiB each, and a light
/// conversation had to wait for a commit like a heavy one. That still happens if reads exceed the read budget.
#[tokio::test(start_paused = true)]
async fn new_conversations_leave_room_for_light_ones() {
    const READ: usize = 64 << 10;
    for limited in [true, false] {
        let mut recording =
            Recording::start(StoreMode::Slow(SECOND), RecorderOptions::default()).await;
        let mut light = recording.talk(0);
        let (mut total, mut waited) = (0, false);
        for _wave in 0..4 {
            let mut heavy: Vec<_> = (0..150).map(|_| recording.talk(0)).collect();
            let mut moved = true;
            while moved {
                moved = false;
                for talk in &mut heavy {
                    let Some(budget) = talk.read_budget().await else {
                        continue;
                    };
                    let bytes = if limited { READ.min(budget) } else { READ };
                    recording.record(talk, bytes);
                    total += bytes;
                    moved = true;
                }
            }
            recording.record(&mut light, 10);
            waited |= !light.has_room().await;
        }
        assert_eq!(waited, !limited, "{total} recorded");
        assert!((50 << 20..=64 << 20).contains(&total), "{total} recorded");
        let (status, _) = recording.close(600 * SECOND).await;
        assert_eq!(status.lost, 0);
    }
}

/// Heavy conversations share the budget, and some of it is always left for a light one.
#[tokio::test(start_paused = true)]
async fn heavy_conversations_share_and_light_ones_never_wait() {
    const RUN: usize = 64 << 10;
    for heavy in [2, 30, 64, 100, 200] {
        let mut recording =
            Recording::start(StoreMode::Slow(SECOND), RecorderOptions::default()).await;
        let mut light = recording.talk(0);
        let mut all: Vec<_> = (0..heavy).map(|_| recording.talk(0)).collect();
        let mut heavy_bytes = vec![0_usize; heavy];
        loop {
            let mut moved = false;
            for (talk, sum) in all.iter_mut().zip(&mut heavy_bytes) {
                if talk.has_room().await {
                    recording.record(talk, RUN);
                    *sum += RUN;
                    moved = true;
                }
                recording.record(&mut light, 10);
                assert!(light.has_room().await, "{heavy} heavy at {sum}");
            }
            if !moved {
                break;
            }
        }
        let total: usize = heavy_bytes.iter().sum();
        assert!(total <= (64 << 20) + RUN, "{heavy} heavy have {total}");
        assert!(
            total >= 50 << 20 || heavy < 60,
            "{heavy} heavy ones have only {total}"
        );
        let (least, most) = (
            heavy_bytes.iter().min().unwrap(),
            heavy_bytes.iter().max().unwrap(),
        );
        assert!(most - least <= 2 * RUN, "{heavy} heavy: {least} to {most}");
        let (status, _) = recording.close(600 * SECOND).await;
        assert_eq!(status.lost, 0);
    }
}

/// While the store fails, connections still open and close, each with small events and in unbounded number.
#[tokio::test(start_paused = true)]
async fn openings_and_endings_are_bounded_while_the_store_fails() {
    let options = RecorderOptions {
        uncommitted_bytes_max: 100_000,
        ..RecorderOptions::default()
    };
    let mut recording = Recording::start(StoreMode::Fails, options).await;
    let mut first = recording.talk(0);
    recording.record(&mut first, 10);
    sleep(6 * SECOND).await;
    let mut known = recording.talk(0);
    for _ in 0..10_000 {
        let mut talk = recording.talk(0);
        recording.record(&mut talk, 100);
        talk.end();
    }
    known.end();
    let mut late = recording.talk(0);
    recording.record(&mut late, 1);
    sleep(SECOND).await;
    recording.store.set(StoreMode::Commits);
    sleep(SECOND).await;
    // Recording resumes for a conversation that began amid the failure.
    recording.record(&mut late, 2);
    late.end();
    let late = late.id;
    let known = known.id;
    let (status, store) = recording.close(SECOND).await;
    assert_eq!(store.gaps(), status.lost);
    let most = store.appends().iter().map(|(_, bytes)| *bytes).max();
    assert!(most < Some(150_000), "{most:?}");
    assert!(
        store.ending(known).is_some(),
        "an earlier conversation is recorded to its end"
    );
    assert!(store.ending(late).is_some());
    let exchanges = store.exchanges();
    let of_late = exchanges
        .iter()
        .filter(|exchange| exchange.conversation == late);
    assert_eq!(of_late.map(|exchange| exchange.n).collect::<Vec<_>>(), [2]);
}

/// Ids and numbers of the exchanges in a batch.
fn ids_in(mut first_id: ExchangeId, batch: &Batch) -> Vec<(ExchangeId, u64)> {
    let run = |event: &Event| match event {
        Event::Run(run) => Some((take_ids(&mut first_id, run), run.n)),
        _ => None,
    };
    batch.events.iter().filter_map(run).collect()
}

/// What a watcher received: exchanges, and the recovered ids in each status.
#[derive(Debug, Default)]
struct Received {
    exchanges: Vec<(Instant, ExchangeId, u64)>,
    recovered: Vec<Option<(ExchangeId, ExchangeId)>>,
}

fn watch(recorder: &Recorder) -> JoinHandle<Received> {
    let mut watcher = recorder.watch();
    tokio::spawn(async move {
        let mut received = Received::default();
        while let Some(seen) = watcher.next().await {
            match seen {
                Seen::Batch { first_id, batch } => {
                    let ids = ids_in(first_id, &batch).into_iter();
                    let now = Instant::now();
                    received.exchanges.extend(ids.map(|(id, n)| (now, id, n)));
                }
                Seen::RecorderStatus(status) if status.failure.is_none() => {
                    received.recovered.push(status.recovered);
                }
                Seen::RecorderStatus(_) => {}
                Seen::Gap(missed) => panic!("{missed:?}"),
            }
        }
        received
    })
}

/// Watchers receive each exchange once: with its id after the commit, or without an id at once while the store fails.
#[tokio::test(start_paused = true)]
async fn watcher_sees_each_exchange_once_while_the_store_fails() {
    for mode in [StoreMode::Fails, StoreMode::Hangs] {
        let mut recording = Recording::start(mode, RecorderOptions::default()).await;
        let watching = watch(&recording.recorder);
        let mut talk = recording.talk(0);
        for i in 0..90 {
            recording.record(&mut talk, 10);
            sleep(100 * MS).await;
            if i == 80 {
                recording.store.set(StoreMode::Commits);
            }
        }
        let began = recording.began;
        let (_, store) = recording.close(SECOND).await;
        let received = watching.await.unwrap();
        assert!(received.exchanges.iter().map(|(.., n)| *n).eq(1..=90));
        let without = received.exchanges.iter().filter(|(_, id, _)| *id == 0);
        let without = without.count() as u64;
        assert!((75..=85).contains(&without), "{without}");
        let ids = received.exchanges.iter().map(|(_, id, _)| *id);
        let named: Vec<_> = ids.skip(without as usize).collect();
        assert!(named.into_iter().eq(without + 1..=90));
        assert_eq!(received.recovered, [Some((1, without))]);
        // The backlog is published once the store counts as failing, and later events within a retry.
        let (first, ..) = received.exchanges[0];
        assert_eq!((first - began).as_secs(), 5);
        let (at, ..) = received.exchanges[60];
        assert!(
            at - began <= 6000 * MS + 2 * RETRY + 100 * MS,
            "{:?}",
            at - began
        );
        assert!(
            store
                .exchanges()
                .iter()
                .map(|exchange| exchange.id)
                .eq(1..=90)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn watcher_receives_ids_after_the_commit() {
    let mut recording = Recording::start(StoreMode::Slow(SECOND), RecorderOptions::default()).await;
    let watching = watch(&recording.recorder);
    let mut talk = recording.talk(0);
    recording.record(&mut talk, 10);
    recording.record(&mut talk, 10);
    let began = recording.began;
    recording.close(10 * SECOND).await;
    let received = watching.await.unwrap().exchanges;
    let ids: Vec<_> = received.iter().map(|(_, id, n)| (*id, *n)).collect();
    assert_eq!(ids, [(1, 1), (2, 2)]);
    assert!(received[0].0 - began >= SECOND);
}

#[tokio::test(start_paused = true)]
async fn exchanges_without_a_store_have_the_id_zero() {
    let (recorder, task) = Recorder::new(None, RecorderOptions::default())
        .await
        .unwrap();
    let task = tokio::spawn(task.run());
    let watching = watch(&recorder);
    let mut recording = Recording {
        recorder,
        task,
        store: TestStore::new(StoreMode::Commits),
        exchanges: 0,
        began: Instant::now(),
    };
    let mut talk = recording.talk(0);
    recording.record(&mut talk, 10);
    recording.recorder.close(recording.task, SECOND).await;
    let received = watching.await.unwrap().exchanges;
    let ids: Vec<_> = received.iter().map(|(_, id, n)| (*id, *n)).collect();
    assert_eq!(ids, [(0, 1)]);
}

/// Losses after the first attempt to append a gap go into the next one: the first attempt may have been stored.
#[tokio::test(start_paused = true)]
async fn gap_batch_is_frozen_at_its_first_attempt() {
    let options = RecorderOptions {
        when_full: WhenFull::Drop,
        uncommitted_bytes_max: 1000,
        ..RecorderOptions::default()
    };
    let mut recording = Recording::start(StoreMode::Slow(SECOND), options).await;
    let mut talk = recording.talk(0);
    recording.record(&mut talk, 2000);
    sleep(50 * MS).await;
    recording.record(&mut talk, 10);
    recording.store.set(StoreMode::CommitsAndFails);
    sleep(2 * SECOND).await;
    recording.record(&mut talk, 2000);
    for _ in 0..3 {
        recording.record(&mut talk, 10);
    }
    sleep(2 * SECOND).await;
    recording.record(&mut talk, 10);
    recording.store.set(StoreMode::Commits);
    let (status, store) = recording.close(10 * SECOND).await;
    let gaps = store
        .marks()
        .into_iter()
        .filter_map(|(.., what)| match what {
            Marked::Gap { exchanges, .. } => Some(exchanges),
            _ => None,
        });
    let gaps: Vec<_> = gaps.collect();
    assert!(gaps.len() >= 2, "{gaps:?}");
    assert_eq!(gaps.iter().sum::<u64>(), status.lost);
}

/// Conversations without an id are served while the store reserves none, and their exchanges count as lost.
#[tokio::test(start_paused = true)]
async fn conversations_without_an_id_are_counted_as_lost() {
    let mut recording = Recording::start(StoreMode::Commits, RecorderOptions::default()).await;
    recording.store.set_fails_to_reserve(true);
    for id in 1..=BLOCK {
        assert_eq!(recording.recorder.journal(0).0, id);
    }
    let mut without_id = recording.talk(0);
    assert_eq!(without_id.id, 0);
    recording.record(&mut without_id, 10);
    assert!(without_id.has_room().await);
    sleep(SECOND).await;
    assert!(!without_id.is_committed().await, "a held reply is not sent");
    recording.store.set_fails_to_reserve(false);
    sleep(SECOND).await;
    let mut talk = recording.talk(0);
    assert_eq!(talk.id, BLOCK + 1);
    recording.record(&mut talk, 10);
    let (status, store) = recording.close(SECOND).await;
    assert_eq!((status.recorded, status.lost), (1, 1));
    assert_eq!(store.gaps(), 1);
}

#[tokio::test(start_paused = true)]
async fn recorder_without_store_or_watcher_is_inactive() {
    let none = Recorder::none();
    let (_, mut journal) = none.journal(0);
    assert!(!journal.is_active());
    poll_fn(|cx| journal.poll_read_budget(cx)).await;
    let _watcher = none.watch();
    assert!(!none.journal(0).1.is_active(), "no task takes the events");

    let (without, _task) = Recorder::new(None, RecorderOptions::default())
        .await
        .unwrap();
    assert!(!without.journal(0).1.is_active());
    let _watcher = without.watch();
    assert!(without.journal(0).1.is_active());
}

#[tokio::test(start_paused = true)]
async fn conversation_gets_a_unique_id_and_the_shard_of_its_worker() {
    let options = RecorderOptions {
        shards: 3,
        ..RecorderOptions::default()
    };
    let recording = Recording::start(StoreMode::Commits, options).await;
    for worker in 0..6 {
        let talk = recording.talk(worker);
        assert_eq!(talk.id, worker as u64 + 1);
        assert_eq!(talk.journal.conversation(), talk.id);
        let shards = recording.recorder.0.shards.iter();
        let events = shards.map(|shard| lock(&shard.state).batch.events.len());
        let expected = (0..3).map(|shard| worker / 3 + usize::from(shard <= worker % 3));
        assert!(events.eq(expected), "of worker {worker}");
    }
    assert_eq!(recording.recorder.journal(0).1.conversation(), 7);
    recording.close(SECOND).await;
}

/// A step of a property test.
#[derive(Clone, Copy, Debug)]
enum Act {
    Record { talk: usize, bytes: usize },
    Mode(StoreMode),
    Pass(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let mode = prop_oneof![
        3 => Just(StoreMode::Commits),
        2 => (1_u64..3000).prop_map(|ms| StoreMode::Slow(Duration::from_millis(ms))),
        1 => Just(StoreMode::Fails),
        1 => Just(StoreMode::Hangs),
    ];
    let act = prop_oneof![
        8 => (0_usize..4, 0_usize..20_000).prop_map(|(talk, bytes)| Act::Record { talk, bytes }),
        1 => mode.prop_map(Act::Mode),
        4 => (0_u64..40).prop_map(Act::Pass),
        1 => (0_u64..9000).prop_map(Act::Pass),
    ];
    prop::collection::vec(act, 0..150)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Served = recorded + lost, and the recorded gaps add up to the losses.
    #[test]
    fn recorded_plus_lost_equals_served(acts in acts(), drop: bool, commits_at_last: bool) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let options = RecorderOptions {
                when_full: if drop { WhenFull::Drop } else { WhenFull::Block },
                uncommitted_bytes_max: 200_000,
                shards: 2,
                ..RecorderOptions::default()
            };
            let mut recording = Recording::start(StoreMode::Commits, options).await;
            let mut talks: Vec<_> = (0..4).map(|i| recording.talk(i)).collect();
            for act in acts {
                match act {
                    Act::Record { talk, bytes } => recording.record(&mut talks[talk], bytes),
                    Act::Mode(mode) => recording.store.set(mode),
                    Act::Pass(ms) => {
                        yield_now().await;
                        advance(Duration::from_millis(ms)).await;
                    }
                }
            }
            talks.iter_mut().for_each(Talk::end);
            if commits_at_last {
                recording.store.set(StoreMode::Commits);
            }
                        let (status, store) = recording.close(20 * SECOND).await;
            if commits_at_last {
                assert_eq!(store.gaps(), status.lost);
            }
        });
    }
}

/// Tasks on several threads wait for commits all the time: a wake-up lost between check and registration would leave one
/// of them waiting for ever.
#[test]
fn no_waiter_misses_its_wakeup() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(4)
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let options = RecorderOptions {
            hold_replies: true,
            conversation_uncommitted_bytes_max: 1000,
            shards: 2,
            ..RecorderOptions::default()
        };
        let recording = Recording::start(StoreMode::Commits, options).await;
        let mut tasks = tokio::task::JoinSet::new();
        for i in 0..8 {
            let mut talk = recording.talk(i);
            tasks.spawn(async move {
                for _ in 0..3000 {
                    talk.record(600);
                    if i % 2 == 0 {
                        within(talk.wait_for_room()).await;
                    } else {
                        assert!(within(talk.is_committed()).await);
                    }
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        assert_eq!(recording.recorder.status().lost, 0);
        let recording = Recording {
            exchanges: 8 * 3000,
            ..recording
        };
        recording.close(30 * SECOND).await;
    });
}

async fn within<T>(wait: impl Future<Output = T>) -> T {
    timeout(20 * SECOND, wait)
        .await
        .expect("a task was not woken")
}
