//! What there is room for, to the byte: what finds none, who waits for it, and how much each may hear.

use super::*;

const EVENT: usize = size_of::<Event>();

/// Bytes told and not yet taken, in each shard.
fn filled(recording: &Recording) -> Vec<usize> {
    let shards = recording.recorder.0.shards.iter();
    shards.map(|shard| lock(&shard.filling).size()).collect()
}

impl Recording {
    /// Tells so much that the first shard holds `bytes`.
    fn fill(&mut self, teller: &mut Teller, bytes: usize) {
        let more = bytes - filled(self)[0] - EVENT;
        self.tell(teller, more);
        assert_eq!(filled(self)[0], bytes);
    }
}

fn dropping(behind_bytes_max: usize, shards: usize) -> RecorderOptions {
    RecorderOptions {
        when_full: WhenFull::Drop,
        behind_bytes_max,
        shards,
        ..RecorderOptions::default()
    }
}

/// Whatever of it the recorder has taken in the meantime, and however many shards have a part of it.
#[tokio::test(start_paused = true)]
async fn event_is_lost_only_if_it_exceeds_the_remaining_bytes() {
    for (shards, amid) in [(1, 0), (1, 1000), (1, 6000), (2, 0), (3, 1000)] {
        for (spare, lost) in [(0, 1), (1, 0)] {
            let room = 6000 + spare;
            let options = dropping(room * shards, shards);
            let mut recording = Recording::start(Mood::Slow(SECOND), options).await;
            let mut teller = recording.teller(0);
            if amid > 0 {
                recording.fill(&mut teller, amid);
                sleep(100 * MS).await;
            }
            if amid < 6000 {
                recording.fill(&mut teller, 6000 - amid);
            }
            assert_eq!(recording.recorder.status().lost, 0);
            recording.tell(&mut teller, 1);
            assert_eq!(recording.recorder.status().lost, lost, "{shards} {amid}");
            recording.close(10 * SECOND).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn read_budget_is_half_the_rest_and_an_eighth_is_reserved() {
    let options = RecorderOptions {
        behind_bytes_max: 800_000,
        ..RecorderOptions::default()
    };
    for (others, own, hears) in [
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
        let mut recording = Recording::start(Mood::Slow(SECOND), options).await;
        let mut one = recording.recorder.journal(0);
        let mut other = recording.recorder.journal(0);
        let told = |n, conversation| RunMeta {
            conversation,
            n,
            at: 0,
            latency_ns: 0,
            reads: 1,
            reply_offset: 0,
        };
        for ((id, journal), bytes) in [(&mut other, others), (&mut one, own)] {
            // In two goes, which must be added up.
            for n in 1..=u64::from(bytes > 0) * 2 {
                let bytes = vec![7; bytes / 2 - EVENT];
                journal.exchange(told(n, *id), Outcome::Ok, &bytes, b"");
                recording.told += 1;
            }
        }
        let heard = poll_fn(|cx| Poll::Ready(one.1.poll_room(cx))).await;
        let heard = match heard {
            Poll::Ready(bytes) => Some(bytes),
            Poll::Pending => None,
        };
        assert_eq!(heard, hears, "{own} of it, {others} of others");
        recording.close(10 * SECOND).await;
    }
}

/// Where a conversation may have less than is worth hearing anywhere else, that is what it hears.
#[tokio::test(start_paused = true)]
async fn small_budget_is_available_in_full() {
    let options = RecorderOptions {
        conversation_behind_bytes_max: 400,
        ..RecorderOptions::default()
    };
    let mut recording = Recording::start(Mood::Slow(SECOND), options).await;
    let (_, mut fresh) = recording.recorder.journal(0);
    let mut fresh_hears = async || {
        let heard = poll_fn(|cx| Poll::Ready(fresh.poll_room(cx))).await;
        heard.map(Some)
    };
    assert_eq!(fresh_hears().await, Poll::Ready(Some(512)), "a first word");
    let mut one = recording.teller(0);
    assert_eq!(fresh_hears().await, Poll::Ready(Some(200)));
    assert_eq!(one.hearing().await, None, "its opening is unkept");
    recording.tell(&mut one, 400);
    assert_eq!(one.hearing().await, None);
    recording.close(10 * SECOND).await;
}

/// A store that errs has each attempt begin an epoch. What a conversation told in all of them it has unkept.
#[tokio::test(start_paused = true)]
async fn uncommitted_bytes_add_up_over_failed_attempts() {
    let options = RecorderOptions {
        conversation_behind_bytes_max: 100_000,
        ..RecorderOptions::default()
    };
    let mut recording = Recording::start(Mood::Refusing, options).await;
    let mut teller = recording.teller(0);
    for round in 1..=6 {
        recording.tell(
            &mut teller,
            10_000 - if round == 1 { 2 * EVENT } else { EVENT },
        );
        assert_eq!(
            teller.hearing().await,
            Some((100_000 - round * 10_000) / 2),
            "in round {round}"
        );
        sleep(600 * MS).await;
    }
    recording.store.set(Mood::Willing);
    sleep(SECOND).await;
    for _ in 0..4 {
        recording.tell(&mut teller, 10_000 - EVENT);
        assert_eq!(teller.hearing().await, Some(45_000), "all is kept but this");
        sleep(100 * MS).await;
    }
    recording.close(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn shared_reader_waits_only_when_the_budget_is_used_up() {
    let looks = async |journal: &mut Journal| {
        poll_fn(|cx| Poll::Ready(journal.poll_room_for_all(cx).is_ready())).await
    };
    for (when_full, bytes, waits) in [
        (WhenFull::Block, 5999, false),
        (WhenFull::Block, 6000, true),
        (WhenFull::Drop, 6000, false),
    ] {
        let options = RecorderOptions {
            when_full,
            behind_bytes_max: 2 * 6000,
            shards: 2,
            ..RecorderOptions::default()
        };
        let mut recording = Recording::start(Mood::Slow(SECOND), options).await;
        let mut all = recording.recorder.journal_of_all(0);
        let mut beside = recording.recorder.journal_of_all(1);
        let mut teller = recording.teller(0);
        recording.fill(&mut teller, bytes);
        assert_eq!(looks(&mut all).await, !waits, "{bytes}");
        assert!(looks(&mut beside).await, "it is of the other shard");
        let began = Instant::now();
        poll_fn(|cx| all.poll_room_for_all(cx)).await;
        assert_eq!(began.elapsed() > 500 * MS, waits);
        recording.close(10 * SECOND).await;
    }
    assert!(looks(&mut Recorder::none().journal_of_all(0)).await);
}

/// A batch that is exactly full is as full as any.
#[tokio::test(start_paused = true)]
async fn round_is_large_at_exactly_its_limit() {
    for (bytes, full, began) in [(ROUND_BYTES, 1, 0), (ROUND_BYTES - 1, 0, 20)] {
        let mut recording = Recording::start(Mood::Willing, RecorderOptions::default()).await;
        let mut teller = recording.teller(0);
        recording.fill(&mut teller, bytes - EVENT);
        for _ in 0..5 {
            yield_now().await; // the recorder waits for the pace by then
        }
        recording.tell(&mut teller, 0);
        let batches = lock(&recording.recorder.0.shards[0].filling).full.len();
        assert_eq!(batches, full);
        sleep(100 * MS).await;
        assert_eq!(recording.appends(), [began]);
        recording.close(SECOND).await;
    }
}

/// Nobody is woken for what can wait for the pace: by the first event of a round, and by the one that makes it large.
#[tokio::test(start_paused = true)]
async fn recorder_is_woken_twice_per_round() {
    let recording = Recording::start(Mood::Willing, RecorderOptions::default()).await;
    // It is never let run: this test is woken in its place.
    let woken = async || {
        let due = recording.recorder.0.due.notified();
        let mut due = std::pin::pin!(due);
        poll_fn(|cx| Poll::Ready(due.as_mut().poll(cx).is_ready())).await
    };
    let mut teller = recording.teller(0);
    assert!(woken().await, "something is there");
    teller.tell(10);
    assert!(!woken().await);
    teller.tell(ROUND_BYTES - filled(&recording)[0] - EVENT);
    assert!(woken().await, "it is much");
    for _ in 0..3 {
        teller.tell(10);
        assert!(!woken().await);
    }
}

/// Batches are filled again: none is made anew while there is an empty one, and no more are kept than a worker needs.
#[tokio::test(start_paused = true)]
async fn empty_batches_are_reused_and_bounded() {
    let options = RecorderOptions {
        shards: 2,
        ..RecorderOptions::default()
    };
    // One that keeps nothing, batches neither.
    let recording = Recording::start(Mood::Forgetful, options).await;
    let mut tellers = [recording.teller(0), recording.teller(1)];
    let spare = || {
        let shards = recording.recorder.0.shards.iter();
        let spare = shards.map(|shard| lock(&shard.filling).spare.len());
        spare.collect::<Vec<_>>()
    };
    for bytes in [ROUND_BYTES, ROUND_BYTES, ROUND_BYTES, 0] {
        for teller in &mut tellers {
            for _ in 0..10 {
                teller.tell(bytes);
            }
        }
        sleep(100 * MS).await;
        assert!(spare().iter().all(|spare| *spare <= SPARE_MAX));
    }
    assert_eq!(spare(), [SPARE_MAX; 2]);
    recording.recorder.close(recording.task, SECOND).await;
}
