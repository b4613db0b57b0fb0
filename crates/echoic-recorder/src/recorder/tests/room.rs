//! Back-pressure to the byte: which events are lost, which conversations wait, and how much each may read.

use super::*;

const EVENT: usize = size_of::<Event>();

/// Returns the bytes recorded and not yet taken, for each shard.
fn filled(recording: &Recording) -> Vec<usize> {
    let shards = recording.recorder.0.shards.iter();
    shards.map(|shard| lock(&shard.state).size()).collect()
}

impl Recording {
    /// Records an exchange that fills the first shard up to `bytes`.
    fn fill(&mut self, talk: &mut Talk, bytes: usize) {
        let more = bytes - filled(self)[0] - EVENT;
        self.record(talk, more);
        assert_eq!(filled(self)[0], bytes);
    }
}

fn dropping(uncommitted_bytes_max: usize, shards: usize) -> RecorderOptions {
    RecorderOptions {
        when_full: WhenFull::Drop,
        uncommitted_bytes_max,
        shards,
        ..RecorderOptions::default()
    }
}

/// Holds for any part that the recorder has taken in the meantime, and any number of shards.
#[tokio::test(start_paused = true)]
async fn event_is_lost_only_if_it_exceeds_the_remaining_bytes() {
    for (shards, amid) in [(1, 0), (1, 1000), (1, 6000), (2, 0), (3, 1000)] {
        for (free, lost) in [(0, 1), (1, 0)] {
            let room = 6000 + free;
            let options = dropping(room * shards, shards);
            let mut recording = Recording::start(StoreMode::Slow(SECOND), options).await;
            let mut talk = recording.talk(0);
            if amid > 0 {
                recording.fill(&mut talk, amid);
                sleep(100 * MS).await;
            }
            if amid < 6000 {
                recording.fill(&mut talk, 6000 - amid);
            }
            assert_eq!(recording.recorder.status().lost, 0);
            recording.record(&mut talk, 1);
            assert_eq!(recording.recorder.status().lost, lost, "{shards} {amid}");
            recording.close(10 * SECOND).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn read_budget_is_half_the_rest_and_an_eighth_is_reserved() {
    let options = RecorderOptions {
        uncommitted_bytes_max: 800_000,
        ..RecorderOptions::default()
    };
    for (others, own, expected) in [
        (0, 0, Some(350_000)),
        (300_000, 0, Some(200_000)),
        (300_000, 100_000, Some(100_000)),
        (0, 100_000, Some(250_000)),
        (690_000, 0, Some(8192)),
        (690_000, 384, Some(8000)),
        (690_000, 20_000, None),
        (795_000, 0, Some(2500)),
        (798_976, 0, Some(512)),
        (798_978, 0, None),
        (900_000, 0, None),
    ] {
        let mut recording = Recording::start(StoreMode::Slow(SECOND), options).await;
        let mut one = recording.recorder.journal(0);
        let mut other = recording.recorder.journal(0);
        let meta = |n, conversation| RunMeta {
            conversation,
            n,
            at: 0,
            latency_ns: 0,
            reads: 1,
            reply_offset: 0,
        };
        for ((id, journal), bytes) in [(&mut other, others), (&mut one, own)] {
            // In two events, whose bytes must be added up.
            for n in 1..=u64::from(bytes > 0) * 2 {
                let bytes = vec![7; bytes / 2 - EVENT];
                journal.record_exchange(meta(n, *id), Outcome::Ok, &bytes, b"");
                recording.exchanges += 1;
            }
        }
        let budget = poll_fn(|cx| Poll::Ready(one.1.poll_read_budget(cx))).await;
        let budget = match budget {
            Poll::Ready(bytes) => Some(bytes),
            Poll::Pending => None,
        };
        assert_eq!(budget, expected, "{own} of its own, {others} of others");
        recording.close(10 * SECOND).await;
    }
}

/// A budget below the minimum of a read is available in full.
#[tokio::test(start_paused = true)]
async fn small_budget_is_available_in_full() {
    let options = RecorderOptions {
        conversation_uncommitted_bytes_max: 400,
        ..RecorderOptions::default()
    };
    let mut recording = Recording::start(StoreMode::Slow(SECOND), options).await;
    let (_, mut fresh) = recording.recorder.journal(0);
    let mut fresh_budget = async || {
        let budget = poll_fn(|cx| Poll::Ready(fresh.poll_read_budget(cx))).await;
        budget.map(Some)
    };
    assert_eq!(fresh_budget().await, Poll::Ready(Some(512)), "a first read");
    let mut one = recording.talk(0);
    assert_eq!(fresh_budget().await, Poll::Ready(Some(200)));
    assert_eq!(
        one.read_budget().await,
        None,
        "its opening is not committed"
    );
    recording.record(&mut one, 400);
    assert_eq!(one.read_budget().await, None);
    recording.close(10 * SECOND).await;
}

/// Each attempt on a failing store begins an epoch. The bytes of all these epochs are uncommitted.
#[tokio::test(start_paused = true)]
async fn uncommitted_bytes_add_up_over_failed_attempts() {
    let options = RecorderOptions {
        conversation_uncommitted_bytes_max: 100_000,
        ..RecorderOptions::default()
    };
    let mut recording = Recording::start(StoreMode::Fails, options).await;
    let mut talk = recording.talk(0);
    for round in 1..=6 {
        recording.record(
            &mut talk,
            10_000 - if round == 1 { 2 * EVENT } else { EVENT },
        );
        assert_eq!(
            talk.read_budget().await,
            Some((100_000 - round * 10_000) / 2),
            "in round {round}"
        );
        sleep(600 * MS).await;
    }
    recording.store.set(StoreMode::Commits);
    sleep(SECOND).await;
    for _ in 0..4 {
        recording.record(&mut talk, 10_000 - EVENT);
        assert_eq!(
            talk.read_budget().await,
            Some(45_000),
            "all others are committed"
        );
        sleep(100 * MS).await;
    }
    recording.close(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn shared_reader_waits_only_when_the_budget_is_used_up() {
    let has_room = async |journal: &mut Journal| {
        poll_fn(|cx| Poll::Ready(journal.poll_shard_budget(cx).is_ready())).await
    };
    for (when_full, bytes, waits) in [
        (WhenFull::Block, 5999, false),
        (WhenFull::Block, 6000, true),
        (WhenFull::Drop, 6000, false),
    ] {
        let options = RecorderOptions {
            when_full,
            uncommitted_bytes_max: 2 * 6000,
            shards: 2,
            ..RecorderOptions::default()
        };
        let mut recording = Recording::start(StoreMode::Slow(SECOND), options).await;
        let mut all = recording.recorder.journal_of_all(0);
        let mut other = recording.recorder.journal_of_all(1);
        let mut talk = recording.talk(0);
        recording.fill(&mut talk, bytes);
        assert_eq!(has_room(&mut all).await, !waits, "{bytes}");
        assert!(has_room(&mut other).await, "the other shard has room");
        let began = Instant::now();
        poll_fn(|cx| all.poll_shard_budget(cx)).await;
        assert_eq!(began.elapsed() > 500 * MS, waits);
        recording.close(10 * SECOND).await;
    }
    assert!(has_room(&mut Recorder::none().journal_of_all(0)).await);
}

/// A batch of exactly the limit counts as full.
#[tokio::test(start_paused = true)]
async fn round_is_large_at_exactly_its_limit() {
    for (bytes, full, began) in [(ROUND_BYTES, 1, 3), (ROUND_BYTES - 1, 0, 20)] {
        let mut recording = Recording::start(StoreMode::Commits, RecorderOptions::default()).await;
        let mut talk = recording.talk(0);
        // After these the recorder no longer commits at once what comes.
        for _ in 0..3 {
            recording.record(&mut talk, 0);
            sleep(MS).await;
        }
        recording.fill(&mut talk, bytes - EVENT);
        for _ in 0..5 {
            yield_now().await; // by then the recorder waits for the commit interval
        }
        recording.record(&mut talk, 0);
        let batches = lock(&recording.recorder.0.shards[0].state).full.len();
        assert_eq!(batches, full);
        sleep(100 * MS).await;
        assert_eq!(recording.appends(), [0, 1, 2, began]);
        recording.close(SECOND).await;
    }
}

/// The first event of a round and the one that makes it large wake the recorder; the others can wait.
#[tokio::test(start_paused = true)]
async fn recorder_is_woken_twice_per_round() {
    let recording = Recording::start(StoreMode::Commits, RecorderOptions::default()).await;
    // The recorder never runs: this test polls its notification.
    let woken = async || {
        let due = recording.recorder.0.due.notified();
        let mut due = std::pin::pin!(due);
        poll_fn(|cx| Poll::Ready(due.as_mut().poll(cx).is_ready())).await
    };
    let mut talk = recording.talk(0);
    assert!(woken().await, "first event");
    talk.record(10);
    assert!(!woken().await);
    talk.record(ROUND_BYTES - filled(&recording)[0] - EVENT);
    assert!(woken().await, "large round");
    for _ in 0..3 {
        talk.record(10);
        assert!(!woken().await);
    }
}

/// Batches are reused: none is allocated while there is an empty one, and their number is bounded.
#[tokio::test(start_paused = true)]
async fn empty_batches_are_reused_and_bounded() {
    let options = RecorderOptions {
        shards: 2,
        ..RecorderOptions::default()
    };
    // A store that retains no batch.
    let recording = Recording::start(StoreMode::Discards, options).await;
    let mut talks = [recording.talk(0), recording.talk(1)];
    let empty = || {
        let shards = recording.recorder.0.shards.iter();
        let empty = shards.map(|shard| lock(&shard.state).empty.len());
        empty.collect::<Vec<_>>()
    };
    for bytes in [ROUND_BYTES, ROUND_BYTES, ROUND_BYTES, 0] {
        for talk in &mut talks {
            for _ in 0..10 {
                talk.record(bytes);
            }
        }
        sleep(100 * MS).await;
        assert!(empty().iter().all(|empty| *empty <= EMPTY_BATCHES_MAX));
    }
    assert_eq!(empty(), [EMPTY_BATCHES_MAX; 2]);
    recording.recorder.close(recording.task, SECOND).await;
}
