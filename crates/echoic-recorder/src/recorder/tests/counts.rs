//! Counts by endpoint.

use super::*;

#[tokio::test(start_paused = true)]
async fn counts_by_endpoint_add_up_to_the_recorded_exchanges() {
    let mut recording = Recording::start(StoreMode::Commits, RecorderOptions::default()).await;
    let mut early = recording.talk(0);
    recording.record(&mut early, 5);
    sleep(SECOND).await;
    recording.recorder.count();
    let before = recording.recorder.status().recorded;

    let mut talk = recording.talk(0);
    for _ in 0..3 {
        recording.record(&mut talk, 10);
    }
    recording.record(&mut early, 5);
    talk.end();
    sleep(SECOND).await;

    let counts = recording.recorder.endpoint_counts();
    let recorded = recording.recorder.status().recorded - before;
    let exchanges = counts.iter().flat_map(|counts| counts.exchanges);
    assert_eq!(exchanges.map(|(_, count)| count).sum::<u64>(), recorded);
    let named = counts
        .iter()
        .find(|counts| counts.endpoint_info.is_some())
        .unwrap();
    assert_eq!((named.received, named.opened), (30, 1));
    assert_eq!(named.exchanges[0], (Outcome::Ok, 3));
    assert_eq!(named.ended, [("fin", 1)]);
    assert_eq!(named.latencies.iter().sum::<u64>(), 3);
    let unnamed = counts
        .iter()
        .find(|counts| counts.endpoint_info.is_none())
        .unwrap();
    assert_eq!(unnamed.exchanges[0], (Outcome::Ok, 1));
    recording.close(SECOND).await;
}
