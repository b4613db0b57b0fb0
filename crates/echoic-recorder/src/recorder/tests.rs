//! The recorder with a store that does as it is told: pace, failure, loss counted to the exchange, and who has to wait.

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
    common::{Mood, TestStore},
    feed::Seen,
    filling::{ROUND_BYTES, SPARE_MAX},
    lock::lock,
    options::WhenFull,
    status::RecorderStatus,
    task::RETRY,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A recorder at work, and how many exchanges it has been told of.
struct Recording {
    recorder: Recorder,
    task: JoinHandle<()>,
    store: Arc<TestStore>,
    told: u64,
    began: Instant,
}

/// A conversation as the recorder sees it.
struct Teller {
    journal: Journal,
    id: ConversationId,
    n: u64,
}

impl Recording {
    async fn start(mood: Mood, options: RecorderOptions) -> Self {
        let store = TestStore::new(mood);
        let shared = Arc::clone(&store) as Arc<dyn Store>;
        let (recorder, task) = Recorder::new(Some(shared), options).await.unwrap();
        Self {
            recorder,
            task: tokio::spawn(task.run()),
            store,
            told: 0,
            began: Instant::now(),
        }
    }

    fn teller(&self, shard: usize) -> Teller {
        let (id, mut journal) = self.recorder.journal(shard);
        let at = Address::Net(SocketAddr::from((Ipv4Addr::LOCALHOST, 5000)));
        journal.opened(Opened {
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
        });
        Teller { journal, id, n: 0 }
    }

    fn tell(&mut self, teller: &mut Teller, bytes: usize) {
        self.told += 1;
        teller.tell(bytes);
    }

    /// When appends began, from the start, in milliseconds.
    fn appends(&self) -> Vec<u128> {
        let appends = self.store.appends();
        appends
            .iter()
            .map(|(at, _)| (*at - self.began).as_millis())
            .collect()
    }

    /// Closes it and checks that every exchange is in exactly one of the two numbers.
    async fn close(self, deadline: Duration) -> (RecorderStatus, Arc<TestStore>) {
        self.recorder.close(self.task, deadline).await;
        let status = self.recorder.status();
        assert_eq!(status.recorded + status.lost, self.told, "{status:?}");
        assert_eq!(self.store.exchanges().len() as u64, status.recorded);
        let marks = self.store.marks();
        let mut gaps = marks.iter().map(|(.., what)| what);
        let gap = gaps.any(|what| matches!(what, Marked::Gap { .. }));
        assert!(!gap || status.lost > 0, "a gap of nothing");
        let appends = self.store.appends();
        assert!(appends.iter().all(|(_, bytes)| *bytes > 0), "{appends:?}");
        (status, self.store)
    }
}

impl Teller {
    fn tell(&mut self, bytes: usize) {
        self.n += 1;
        let told = RunMeta {
            conversation: self.id,
            n: self.n,
            at: 0,
            latency_ns: 0,
            reads: 1,
            reply_offset: 0,
        };
        self.journal
            .exchange(told, Outcome::Ok, &vec![7; bytes], b"");
    }

    fn end(&mut self) {
        let ending = Ending {
            reason: CloseReason::PeerClosed,
            received: 0,
            sent: 0,
            unsent: 0,
            discarded: 0,
        };
        self.journal.ended(0, ending);
    }

    /// Whether it may hear more, as its task would find.
    async fn has_room(&mut self) -> bool {
        poll_fn(|cx| Poll::Ready(self.journal.poll_room(cx).is_ready())).await
    }

    /// How much it may hear now.
    async fn hearing(&mut self) -> Option<usize> {
        let room = poll_fn(|cx| Poll::Ready(self.journal.poll_room(cx))).await;
        match room {
            Poll::Ready(bytes) => Some(bytes),
            Poll::Pending => None,
        }
    }

    async fn room(&mut self) {
        poll_fn(|cx| self.journal.poll_room(cx)).await;
    }

    async fn kept(&mut self) -> bool {
        let epoch = self.journal.epoch();
        poll_fn(|cx| self.journal.poll_kept(cx, epoch))
            .await
            .is_ok()
    }
}

#[tokio::test(start_paused = true)]
async fn round_collects_events_for_one_commit_interval() {
    let mut recording = Recording::start(Mood::Willing, RecorderOptions::default()).await;
    sleep(SECOND).await;
    let mut teller = recording.teller(0);
    for _ in 0..10 {
        recording.tell(&mut teller, 10);
        sleep(MS).await;
    }
    sleep(100 * MS).await;
    assert_eq!(recording.appends(), [1020]);
    recording.tell(&mut teller, 10);
    sleep(100 * MS).await;
    assert_eq!(recording.appends(), [1020, 1130]);
    recording.close(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn large_round_commits_without_waiting() {
    let mut recording = Recording::start(Mood::Willing, RecorderOptions::default()).await;
    let mut teller = recording.teller(0);
    recording.tell(&mut teller, ROUND_BYTES);
    sleep(MS).await;
    assert_eq!(recording.appends(), [0]);
    recording.close(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn round_that_grew_during_a_commit_commits_at_once() {
    let mut recording = Recording::start(Mood::Slow(40 * MS), RecorderOptions::default()).await;
    let mut teller = recording.teller(0);
    recording.tell(&mut teller, ROUND_BYTES);
    sleep(10 * MS).await;
    recording.tell(&mut teller, ROUND_BYTES);
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
    let mut recording = Recording::start(Mood::Willing, options).await;
    let mut teller = recording.teller(0);
    recording.tell(&mut teller, 1);
    assert!(teller.kept().await);
    assert_eq!(recording.appends(), [0]);
    recording.close(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn ids_continue_across_rounds_and_shards() {
    let options = RecorderOptions {
        shards: 3,
        ..RecorderOptions::default()
    };
    let mut recording = Recording::start(Mood::Willing, options).await;
    let mut tellers: Vec<_> = (0..6).map(|i| recording.teller(i)).collect();
    for round in 0..5 {
        for teller in &mut tellers {
            for _ in 0..=round {
                recording.tell(teller, 3);
            }
        }
        sleep(50 * MS).await;
    }
    let (_, store) = recording.close(SECOND).await;
    let exchanges = store.exchanges();
    assert!((1..).zip(&exchanges).all(|(id, kept)| kept.id == id));
    for teller in &tellers {
        let mine = exchanges
            .iter()
            .filter(|kept| kept.conversation == teller.id);
        assert!((1..=15).eq(mine.map(|kept| kept.n)));
    }
}

#[tokio::test(start_paused = true)]
async fn unresponsive_store_fails_after_five_seconds() {
    for hold_replies in [false, true] {
        let options = RecorderOptions {
            hold_replies,
            ..RecorderOptions::default()
        };
        let mut recording = Recording::start(Mood::Silent, options).await;
        let mut teller = recording.teller(0);
        recording.tell(&mut teller, 2 << 20);
        assert!(!teller.has_room().await, "it is ahead");
        let began = Instant::now();
        if hold_replies {
            assert!(!teller.kept().await);
        } else {
            teller.room().await;
        }
        let waited = began.elapsed();
        assert!(
            waited >= 5 * SECOND && waited < 5 * SECOND + 30 * MS,
            "{waited:?}"
        );
        assert!(recording.recorder.status().failure.is_some());

        recording.store.set(Mood::Willing);
        sleep(SECOND).await;
        assert!(teller.kept().await);
        assert_eq!(recording.recorder.status().failure, None);
        let (status, _) = recording.close(SECOND).await;
        assert_eq!(status.lost, 0, "what was told in time is kept in the end");
    }
}

#[tokio::test(start_paused = true)]
async fn transient_store_error_is_not_a_failure() {
    let options = RecorderOptions {
        hold_replies: true,
        ..RecorderOptions::default()
    };
    let mut recording = Recording::start(Mood::Refusing, options).await;
    let mut teller = recording.teller(0);
    recording.tell(&mut teller, 10);
    sleep(4 * SECOND).await;
    assert_eq!(recording.recorder.status().failure, None);
    recording.store.set(Mood::Willing);
    assert!(teller.kept().await);

    recording.store.set(Mood::Refusing);
    recording.tell(&mut teller, 10);
    let began = Instant::now();
    assert!(!teller.kept().await, "but one that goes on so has");
    assert_eq!(began.elapsed().as_secs(), 5);
    assert!(began.elapsed() < 5 * SECOND + RETRY);
    recording.store.set(Mood::Willing);
    sleep(SECOND).await;
    recording.close(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn failing_store_stops_no_conversation_and_losses_are_counted() {
    for mood in [Mood::Refusing, Mood::Silent] {
        let options = RecorderOptions {
            behind_bytes_max: 1 << 20,
            ..RecorderOptions::default()
        };
        let mut recording = Recording::start(mood, options).await;
        let mut teller = recording.teller(0);
        recording.tell(&mut teller, 1);
        sleep(6 * SECOND).await;
        for i in 0..100 {
            recording.tell(&mut teller, 50_000);
            assert!(teller.has_room().await, "nothing would come of waiting");
            if i % 10 == 0 {
                sleep(SECOND).await;
            }
        }
        let status = recording.recorder.status();
        assert!(status.lost >= 70 && status.lost < 90, "{status:?}");
        recording.store.set(Mood::Willing);
        sleep(SECOND).await;
        recording.tell(&mut teller, 1);
        let (status, store) = recording.close(SECOND).await;
        assert_eq!(store.gaps(), status.lost, "the record says what it lacks");
        assert_eq!(status.failure, None);
    }
}

/// A disk that was full has room again, not for all that waits at once. In one transaction (`part` without its bound)
/// nothing would ever be kept.
#[tokio::test(start_paused = true)]
async fn backlog_is_committed_in_parts() {
    const ROOM: usize = 10 << 20;
    let mut recording = Recording::start(Mood::Refusing, RecorderOptions::default()).await;
    let mut tellers: Vec<_> = (0..40).map(|_| recording.teller(0)).collect();
    recording.tell(&mut tellers[0], 1);
    sleep(6 * SECOND).await;
    for _ in 0..20 {
        for teller in &mut tellers {
            recording.tell(teller, 50_000);
        }
    }
    recording.store.set(Mood::Narrow(ROOM));
    sleep(SECOND).await;
    let status = recording.recorder.status();
    assert_eq!((status.waiting, status.failure), (0, None));
    assert_eq!((status.recorded, status.lost), (801, 0));
    let (_, store) = recording.close(SECOND).await;
    let last = store.appends().pop().map(|(_, bytes)| bytes);
    assert!(last < Some(ROOM), "{last:?}");
    let kept = store.exchanges();
    assert!(kept.iter().map(|kept| kept.id).eq(1..=801), "in order");
}

/// What was kept of the parts stays counted as such when the store fails at the next one.
#[tokio::test(start_paused = true)]
async fn store_failing_mid_backlog_keeps_the_earlier_parts() {
    let mut recording = Recording::start(Mood::Refusing, RecorderOptions::default()).await;
    let mut teller = recording.teller(0);
    for _ in 0..30 {
        recording.tell(&mut teller, 1 << 20);
        sleep(MS).await;
    }
    recording.store.set(Mood::Slow(SECOND));
    sleep(SECOND + SECOND / 2).await;
    recording.store.set(Mood::Refusing);
    sleep(2 * SECOND).await;
    let status = recording.recorder.status();
    let kept = recording.store.exchanges().len() as u64;
    assert!(kept > 0 && kept < 30, "{kept}");
    assert_eq!((status.recorded, status.waiting), (kept, 30 - kept));
    recording.store.set(Mood::Willing);
    let (status, store) = recording.close(10 * SECOND).await;
    assert_eq!((status.recorded, status.lost), (30, 0));
    assert!(store.exchanges().iter().map(|kept| kept.id).eq(1..=30));
}

/// An append may be kept and yet be said to have failed. Its gap is told again with the next, in the same batch: in a new
/// one the record would count it twice.
#[tokio::test(start_paused = true)]
async fn repeated_gap_counts_once() {
    let options = RecorderOptions {
        when_full: WhenFull::Drop,
        behind_bytes_max: 100_000,
        ..RecorderOptions::default()
    };
    let mut recording = Recording::start(Mood::Unsure, options).await;
    let mut teller = recording.teller(0);
    for _ in 0..40 {
        recording.tell(&mut teller, 10_000);
        sleep(100 * MS).await;
    }
    assert!(recording.store.gaps() > 0, "it has been told");
    recording.store.set(Mood::Willing);
    let (status, store) = recording.close(10 * SECOND).await;
    assert!(status.lost > 10, "{status:?}");
    assert_eq!(store.gaps(), status.lost);
}

/// Between a loss and the look for it the store may have recovered, and kept what was told before and after. The reply
/// to what was lost must not leave for that.
#[tokio::test(start_paused = true)]
async fn lost_event_is_not_reported_as_committed_after_recovery() {
    let options = RecorderOptions {
        hold_replies: true,
        behind_bytes_max: 100_000,
        ..RecorderOptions::default()
    };
    let mut recording = Recording::start(Mood::Refusing, options).await;
    let (mut lucky, mut teller) = (recording.teller(0), recording.teller(0));
    recording.tell(&mut lucky, 100_000);
    sleep(6 * SECOND).await;
    recording.tell(&mut teller, 1);
    recording.tell(&mut teller, 1);
    assert_eq!(recording.recorder.status().lost, 2);
    let mut newcomer = recording.teller(0);
    recording.store.set(Mood::Willing);
    sleep(SECOND).await;
    assert!(lucky.kept().await);
    assert!(!teller.kept().await);
    recording.tell(&mut newcomer, 1);
    assert!(newcomer.kept().await, "only its opening had found no room");
    recording.close(SECOND).await;
}

/// What it is to blame for: not what had been lost before it, and what waits for the store's return as well.
#[tokio::test(start_paused = true)]
async fn store_failure_counts_only_the_losses_it_caused() {
    let options = RecorderOptions {
        when_full: WhenFull::Drop,
        behind_bytes_max: 100_000,
        ..RecorderOptions::default()
    };
    let mut recording = Recording::start(Mood::Slow(SECOND), options).await;
    let mut teller = recording.teller(0);
    for _ in 0..6 {
        recording.tell(&mut teller, 100_000);
    }
    sleep(3 * SECOND).await;
    assert_eq!(recording.recorder.status().lost, 5);
    recording.store.set(Mood::Refusing);
    for _ in 0..3 {
        recording.tell(&mut teller, 10);
    }
    sleep(6 * SECOND).await;
    let blamed = |recording: &Recording| {
        let failure = recording.recorder.status().failure;
        failure.map(|failure| failure.exchanges)
    };
    assert_eq!(blamed(&recording), Some(3));
    recording.tell(&mut teller, 100_000);
    assert_eq!(blamed(&recording), Some(4));
    recording.tell(&mut teller, 1);
    assert_eq!(blamed(&recording), Some(5));
    sleep(SECOND).await;
    assert_eq!(blamed(&recording), Some(5));
    recording.store.set(Mood::Willing);
    let (status, _) = recording.close(10 * SECOND).await;
    assert_eq!((status.lost, status.recorded), (6, 5));
}

#[tokio::test(start_paused = true)]
async fn drop_mode_counts_losses_exactly_and_never_waits() {
    let options = RecorderOptions {
        when_full: WhenFull::Drop,
        behind_bytes_max: 1 << 20,
        ..RecorderOptions::default()
    };
    let mut recording = Recording::start(Mood::Slow(SECOND), options).await;
    let mut teller = recording.teller(0);
    for _ in 0..500 {
        recording.tell(&mut teller, 10_000);
        assert!(teller.has_room().await);
        sleep(5 * MS).await;
    }
    let (status, store) = recording.close(30 * SECOND).await;
    assert!(status.lost > 100 && status.recorded > 100, "{status:?}");
    assert_eq!(store.gaps(), status.lost);
}

#[tokio::test(start_paused = true)]
async fn close_commits_pending_events_and_counts_the_rest_as_lost() {
    let mut recording = Recording::start(Mood::Willing, RecorderOptions::default()).await;
    let mut teller = recording.teller(0);
    recording.tell(&mut teller, 10);
    let (status, _) = recording.close(SECOND).await;
    assert_eq!((status.recorded, status.lost), (1, 0));

    for mood in [Mood::Silent, Mood::Refusing] {
        let options = RecorderOptions {
            behind_bytes_max: 100_000,
            ..RecorderOptions::default()
        };
        let mut recording = Recording::start(mood, options).await;
        let mut teller = recording.teller(0);
        recording.tell(&mut teller, 10);
        sleep(6 * SECOND).await;
        for _ in 0..20 {
            recording.tell(&mut teller, 10_000);
        }
        assert!(
            recording.recorder.status().lost > 0,
            "seen while it happens"
        );
        let (status, _) = recording.close(3 * SECOND).await;
        assert_eq!((status.recorded, status.lost), (0, 21));
    }
}

/// Told while, or after, the recorder closed: by whoever does not wait for its conversations.
/// With nothing else to write, the record did not say what it lacked (seed 339 of the simulation of datagrams).
#[tokio::test(start_paused = true)]
async fn final_loss_is_recorded_without_other_events() {
    let options = RecorderOptions {
        when_full: WhenFull::Drop,
        behind_bytes_max: 1000,
        ..RecorderOptions::default()
    };
    let mut recording = Recording::start(Mood::Silent, options).await;
    let mut teller = recording.teller(0);
    recording.tell(&mut teller, 2000);
    sleep(options.pace * 2).await;
    // That is on its way now, and there is no room for anything beside it.
    recording.tell(&mut teller, 10);
    assert_eq!(recording.recorder.status().lost, 1);
    recording.store.set(Mood::Willing);
    let (status, store) = recording.close(SECOND).await;
    assert_eq!((status.recorded, status.lost), (1, 1));
    assert_eq!(store.gaps(), 1, "the record says what it lacks");
}

#[tokio::test(start_paused = true)]
async fn event_recorded_too_late_is_counted_as_lost() {
    let mut recording = Recording::start(Mood::Slow(SECOND), RecorderOptions::default()).await;
    let mut teller = recording.teller(0);
    recording.tell(&mut teller, 10);
    recording.told += 1;
    let late = tokio::spawn(async move {
        sleep(SECOND / 2).await;
        teller.tell(10);
    });
    let (status, _) = recording.close(10 * SECOND).await;
    late.await.unwrap();
    assert_eq!((status.recorded, status.lost), (1, 1));
}

/// And a reply to it does not leave, while one to what was told before may.
#[tokio::test(start_paused = true)]
async fn event_recorded_too_late_is_not_reported_as_committed() {
    let options = RecorderOptions {
        hold_replies: true,
        ..RecorderOptions::default()
    };
    let recording = Recording::start(Mood::Willing, options).await;
    let (mut in_time, mut late) = (recording.teller(0), recording.teller(0));
    in_time.tell(1);
    late.tell(1);
    recording.recorder.close(recording.task, SECOND).await;
    in_time.end();
    assert!(in_time.kept().await);
    assert!(late.kept().await);
    for _ in 0..2 {
        late.tell(1);
        assert!(!late.kept().await);
    }
}

#[tokio::test(start_paused = true)]
async fn close_does_not_wait_for_the_commit_interval() {
    for begun in [false, true] {
        let options = RecorderOptions {
            pace: 60 * SECOND,
            ..RecorderOptions::default()
        };
        let mut recording = Recording::start(Mood::Willing, options).await;
        let mut teller = recording.teller(0);
        recording.tell(&mut teller, 10);
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
    let mut recording = Recording::start(Mood::Silent, options).await;
    let (mut ahead, mut holding) = (recording.teller(0), recording.teller(0));
    recording.tell(&mut ahead, 2 << 20);
    recording.tell(&mut holding, 1);
    let began = Instant::now();
    let task = recording.task;
    let killer = tokio::spawn(async move {
        sleep(SECOND).await;
        task.abort();
    });
    let waiting = timeout(SECOND * 60, async {
        ahead.room().await;
        holding.kept().await
    });
    assert_eq!(waiting.await, Ok(false));
    assert!(began.elapsed() < 2 * SECOND);
    killer.await.unwrap();
}

/// A hog takes what the store lets it and waits; the others do not notice.
#[tokio::test(start_paused = true)]
async fn only_the_conversation_over_its_budget_waits() {
    let mut recording = Recording::start(Mood::Slow(SECOND), RecorderOptions::default()).await;
    let (mut hog, mut light) = (recording.teller(0), recording.teller(0));
    let mut hogged = 0;
    while hog.has_room().await {
        recording.tell(&mut hog, 100_000);
        hogged += 100_000;
    }
    assert!(
        hogged > 1 << 20 && hogged < 1_200_000,
        "1 MiB and a run: {hogged}"
    );
    for _ in 0..100 {
        recording.tell(&mut light, 100);
        assert!(light.has_room().await);
    }
    hog.room().await;
    let (status, _) = recording.close(10 * SECOND).await;
    assert_eq!(status.lost, 0);
}

/// While all is taken others came anew, a read of 64 KiB each, until nothing was left, and who had hardly anything
/// unkept waited for a commit like a hog. So it is still if a read is not held to what may be heard.
#[tokio::test(start_paused = true)]
async fn new_conversations_leave_room_for_light_ones() {
    const READ: usize = 64 << 10;
    for held in [true, false] {
        let mut recording = Recording::start(Mood::Slow(SECOND), RecorderOptions::default()).await;
        let mut light = recording.teller(0);
        let (mut total, mut waited) = (0, false);
        for _wave in 0..4 {
            let mut hogs: Vec<_> = (0..150).map(|_| recording.teller(0)).collect();
            let mut moved = true;
            while moved {
                moved = false;
                for hog in &mut hogs {
                    let Some(may) = hog.hearing().await else {
                        continue;
                    };
                    let heard = if held { READ.min(may) } else { READ };
                    recording.tell(hog, heard);
                    total += heard;
                    moved = true;
                }
            }
            recording.tell(&mut light, 10);
            waited |= !light.has_room().await;
        }
        assert_eq!(waited, !held, "{total} told");
        assert!((50 << 20..=64 << 20).contains(&total), "{total} told");
        let (status, _) = recording.close(600 * SECOND).await;
        assert_eq!(status.lost, 0);
    }
}

/// Many hogs share what all may have, and something is always left for one that is not.
#[tokio::test(start_paused = true)]
async fn heavy_conversations_share_and_light_ones_never_wait() {
    const RUN: usize = 64 << 10;
    for hogs in [2, 30, 64, 100, 200] {
        let mut recording = Recording::start(Mood::Slow(SECOND), RecorderOptions::default()).await;
        let mut light = recording.teller(0);
        let mut all: Vec<_> = (0..hogs).map(|_| recording.teller(0)).collect();
        let mut hogged = vec![0_usize; hogs];
        loop {
            let mut moved = false;
            for (hog, sum) in all.iter_mut().zip(&mut hogged) {
                if hog.has_room().await {
                    recording.tell(hog, RUN);
                    *sum += RUN;
                    moved = true;
                }
                recording.tell(&mut light, 10);
                assert!(light.has_room().await, "{hogs} hogs at {sum}");
            }
            if !moved {
                break;
            }
        }
        let total: usize = hogged.iter().sum();
        assert!(total <= (64 << 20) + RUN, "{hogs} hogs have {total}");
        assert!(
            total >= 50 << 20 || hogs < 60,
            "{hogs} hogs have {total} only"
        );
        let (least, most) = (hogged.iter().min().unwrap(), hogged.iter().max().unwrap());
        assert!(most - least <= 2 * RUN, "{hogs} hogs: {least} to {most}");
        let (status, _) = recording.close(600 * SECOND).await;
        assert_eq!(status.lost, 0);
    }
}

/// While the store fails callers still come and go; they are small, and there is no end of them.
#[tokio::test(start_paused = true)]
async fn openings_and_endings_are_bounded_while_the_store_fails() {
    let options = RecorderOptions {
        behind_bytes_max: 100_000,
        ..RecorderOptions::default()
    };
    let mut recording = Recording::start(Mood::Refusing, options).await;
    let mut first = recording.teller(0);
    recording.tell(&mut first, 10);
    sleep(6 * SECOND).await;
    let mut known = recording.teller(0);
    for _ in 0..10_000 {
        let mut teller = recording.teller(0);
        recording.tell(&mut teller, 100);
        teller.end();
    }
    known.end();
    let mut late = recording.teller(0);
    recording.tell(&mut late, 1);
    sleep(SECOND).await;
    recording.store.set(Mood::Willing);
    sleep(SECOND).await;
    // Recording resumes for a conversation that began amid the failure.
    recording.tell(&mut late, 2);
    late.end();
    let late = late.id;
    let known = known.id;
    let (status, store) = recording.close(SECOND).await;
    assert_eq!(store.gaps(), status.lost);
    let most = store.appends().iter().map(|(_, bytes)| *bytes).max();
    assert!(most < Some(150_000), "{most:?}");
    assert!(
        store.ending(known).is_some(),
        "who was there is told to the end"
    );
    assert!(store.ending(late).is_some());
    let kept = store.exchanges();
    let kept = kept.iter().filter(|kept| kept.conversation == late);
    assert_eq!(kept.map(|kept| kept.n).collect::<Vec<_>>(), [2]);
}

/// Ids and numbers of the exchanges in a batch.
fn ids_in(mut first_id: ExchangeId, batch: &Batch) -> Vec<(ExchangeId, u64)> {
    let run = |event: &Event| match event {
        Event::Run(run) => Some((take_ids(&mut first_id, run), run.n)),
        _ => None,
    };
    batch.events.iter().filter_map(run).collect()
}

/// What a watcher was shown: exchanges, and the ids that recording again has told.
#[derive(Debug, Default)]
struct Shown {
    exchanges: Vec<(Instant, ExchangeId, u64)>,
    recovered: Vec<Option<(ExchangeId, ExchangeId)>>,
}

fn watch(recorder: &Recorder) -> JoinHandle<Shown> {
    let mut watcher = recorder.watch();
    tokio::spawn(async move {
        let mut shown = Shown::default();
        while let Some(seen) = watcher.next().await {
            match seen {
                Seen::Batch { first_id, batch } => {
                    let ids = ids_in(first_id, &batch).into_iter();
                    let now = Instant::now();
                    shown.exchanges.extend(ids.map(|(id, n)| (now, id, n)));
                }
                Seen::RecorderStatus(status) if status.failure.is_none() => {
                    shown.recovered.push(status.recovered);
                }
                Seen::RecorderStatus(_) => {}
                Seen::Gap(missed) => panic!("{missed:?}"),
            }
        }
        shown
    })
}

/// Watchers see each exchange once, whether or not it can be stored: with its id after the commit, and at once without
/// one while the store fails.
#[tokio::test(start_paused = true)]
async fn watcher_sees_each_exchange_once_while_the_store_fails() {
    for mood in [Mood::Refusing, Mood::Silent] {
        let mut recording = Recording::start(mood, RecorderOptions::default()).await;
        let watching = watch(&recording.recorder);
        let mut teller = recording.teller(0);
        for i in 0..90 {
            recording.tell(&mut teller, 10);
            sleep(100 * MS).await;
            if i == 80 {
                recording.store.set(Mood::Willing);
            }
        }
        let began = recording.began;
        let (_, store) = recording.close(SECOND).await;
        let shown = watching.await.unwrap();
        assert!(shown.exchanges.iter().map(|(.., n)| *n).eq(1..=90));
        let without = shown.exchanges.iter().filter(|(_, id, _)| *id == 0);
        let without = without.count() as u64;
        assert!((75..=85).contains(&without), "{without}");
        let ids = shown.exchanges.iter().map(|(_, id, _)| *id);
        let named: Vec<_> = ids.skip(without as usize).collect();
        assert!(named.into_iter().eq(without + 1..=90));
        assert_eq!(shown.recovered, [Some((1, without))]);
        // All that waited is shown once the store counts as failing, what comes then within a retry.
        let (first, ..) = shown.exchanges[0];
        assert_eq!((first - began).as_secs(), 5);
        let (at, ..) = shown.exchanges[60];
        assert!(
            at - began <= 6000 * MS + 2 * RETRY + 100 * MS,
            "{:?}",
            at - began
        );
        assert!(store.exchanges().iter().map(|kept| kept.id).eq(1..=90));
    }
}

#[tokio::test(start_paused = true)]
async fn watcher_is_told_after_the_commit_with_ids() {
    let mut recording = Recording::start(Mood::Slow(SECOND), RecorderOptions::default()).await;
    let watching = watch(&recording.recorder);
    let mut teller = recording.teller(0);
    recording.tell(&mut teller, 10);
    recording.tell(&mut teller, 10);
    let began = recording.began;
    recording.close(10 * SECOND).await;
    let shown = watching.await.unwrap().exchanges;
    let ids: Vec<_> = shown.iter().map(|(_, id, n)| (*id, *n)).collect();
    assert_eq!(ids, [(1, 1), (2, 2)]);
    assert!(shown[0].0 - began >= SECOND);
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
        store: TestStore::new(Mood::Willing),
        told: 0,
        began: Instant::now(),
    };
    let mut teller = recording.teller(0);
    recording.tell(&mut teller, 10);
    recording.recorder.close(recording.task, SECOND).await;
    let shown = watching.await.unwrap().exchanges;
    let ids: Vec<_> = shown.iter().map(|(_, id, n)| (*id, *n)).collect();
    assert_eq!(ids, [(0, 1)]);
}

/// What is lost after the first attempt to tell of a gap goes into the next one: the first may have been stored.
#[tokio::test(start_paused = true)]
async fn gap_batch_is_frozen_at_its_first_attempt() {
    let options = RecorderOptions {
        when_full: WhenFull::Drop,
        behind_bytes_max: 1000,
        ..RecorderOptions::default()
    };
    let mut recording = Recording::start(Mood::Slow(SECOND), options).await;
    let mut teller = recording.teller(0);
    recording.tell(&mut teller, 2000);
    sleep(50 * MS).await;
    recording.tell(&mut teller, 10);
    recording.store.set(Mood::Unsure);
    sleep(2 * SECOND).await;
    recording.tell(&mut teller, 2000);
    for _ in 0..3 {
        recording.tell(&mut teller, 10);
    }
    sleep(2 * SECOND).await;
    recording.tell(&mut teller, 10);
    recording.store.set(Mood::Willing);
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

/// A store that reserves no ids stops no conversation: those without one are served, and count as lost.
#[tokio::test(start_paused = true)]
async fn conversations_without_an_id_are_counted_as_lost() {
    let mut recording = Recording::start(Mood::Willing, RecorderOptions::default()).await;
    recording.store.set_miserly(true);
    for id in 1..=BLOCK {
        assert_eq!(recording.recorder.journal(0).0, id);
    }
    let mut nameless = recording.teller(0);
    assert_eq!(nameless.id, 0);
    recording.tell(&mut nameless, 10);
    assert!(nameless.has_room().await);
    sleep(SECOND).await;
    assert!(!nameless.kept().await, "a held reply does not leave");
    recording.store.set_miserly(false);
    sleep(SECOND).await;
    let mut teller = recording.teller(0);
    assert_eq!(teller.id, BLOCK + 1);
    recording.tell(&mut teller, 10);
    let (status, store) = recording.close(SECOND).await;
    assert_eq!((status.recorded, status.lost), (1, 1));
    assert_eq!(store.gaps(), 1);
}

#[tokio::test(start_paused = true)]
async fn recorder_without_store_or_watcher_is_inactive() {
    let none = Recorder::none();
    let (_, mut journal) = none.journal(0);
    assert!(!journal.is_active());
    poll_fn(|cx| journal.poll_room(cx)).await;
    let _watcher = none.watch();
    assert!(!none.journal(0).1.is_active(), "nobody takes what is told");

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
    let recording = Recording::start(Mood::Willing, options).await;
    for worker in 0..6 {
        let teller = recording.teller(worker);
        assert_eq!(teller.id, worker as u64 + 1);
        assert_eq!(teller.journal.conversation(), teller.id);
        let shards = recording.recorder.0.shards.iter();
        let events = shards.map(|shard| lock(&shard.filling).batch.events.len());
        let expected = (0..3).map(|shard| worker / 3 + usize::from(shard <= worker % 3));
        assert!(events.eq(expected), "of worker {worker}");
    }
    assert_eq!(recording.recorder.journal(0).1.conversation(), 7);
    recording.close(SECOND).await;
}

/// What may happen to a recorder.
#[derive(Clone, Copy, Debug)]
enum Act {
    Tell { who: usize, bytes: usize },
    Mood(Mood),
    Pass(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let mood = prop_oneof![
        3 => Just(Mood::Willing),
        2 => (1_u64..3000).prop_map(|ms| Mood::Slow(Duration::from_millis(ms))),
        1 => Just(Mood::Refusing),
        1 => Just(Mood::Silent),
    ];
    let act = prop_oneof![
        8 => (0_usize..4, 0_usize..20_000).prop_map(|(who, bytes)| Act::Tell { who, bytes }),
        1 => mood.prop_map(Act::Mood),
        4 => (0_u64..40).prop_map(Act::Pass),
        1 => (0_u64..9000).prop_map(Act::Pass),
    ];
    prop::collection::vec(act, 0..150)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// I9: served = recorded + lost, and the record itself says how much it lacks.
    #[test]
    fn recorded_plus_lost_equals_served(acts in acts(), drop: bool, willing_at_last: bool) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let options = RecorderOptions {
                when_full: if drop { WhenFull::Drop } else { WhenFull::Block },
                behind_bytes_max: 200_000,
                shards: 2,
                ..RecorderOptions::default()
            };
            let mut recording = Recording::start(Mood::Willing, options).await;
            let mut tellers: Vec<_> = (0..4).map(|i| recording.teller(i)).collect();
            for act in acts {
                match act {
                    Act::Tell { who, bytes } => recording.tell(&mut tellers[who], bytes),
                    Act::Mood(mood) => recording.store.set(mood),
                    Act::Pass(ms) => {
                        yield_now().await;
                        advance(Duration::from_millis(ms)).await;
                    }
                }
            }
            tellers.iter_mut().for_each(Teller::end);
            if willing_at_last {
                recording.store.set(Mood::Willing);
            }
            let all_kept = willing_at_last;
            let (status, store) = recording.close(20 * SECOND).await;
            if all_kept {
                assert_eq!(store.gaps(), status.lost);
            }
        });
    }
}

/// Tasks on several threads that wait for the record all the time: a wake-up lost between looking and waiting would
/// leave one waiting for ever.
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
            conversation_behind_bytes_max: 1000,
            shards: 2,
            ..RecorderOptions::default()
        };
        let recording = Recording::start(Mood::Willing, options).await;
        let mut tasks = tokio::task::JoinSet::new();
        for i in 0..8 {
            let mut teller = recording.teller(i);
            tasks.spawn(async move {
                for _ in 0..3000 {
                    teller.tell(600);
                    if i % 2 == 0 {
                        within(teller.room()).await;
                    } else {
                        assert!(within(teller.kept()).await);
                    }
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        assert_eq!(recording.recorder.status().lost, 0);
        let recording = Recording {
            told: 8 * 3000,
            ..recording
        };
        recording.close(30 * SECOND).await;
    });
}

async fn within<T>(wait: impl Future<Output = T>) -> T {
    timeout(20 * SECOND, wait).await.expect("left waiting")
}
