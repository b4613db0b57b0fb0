use echoic_core::event::{Address, EndpointInfo, Opened, Outcome, Protocol, Role, RunMeta};
use echoic_recorder::{Journal, Recorder, RecorderOptions};
use echoic_store::MemoryStore;

use super::*;

/// Longest wait for what should happen at once, on a loaded machine.
const SOON: Duration = Duration::from_secs(20);

/// Records exchange `n`, without waiting until it is stored.
fn record(journal: &mut Journal, n: u64) {
    let meta = RunMeta {
        conversation: journal.conversation(),
        n,
        at: 1_000_000,
        latency_ns: 1000,
        reads: 1,
        reply_offset: 0,
    };
    journal.record_exchange(meta, Outcome::Ok, b"a\n", b"A\n");
}

fn opened(conversation: u64) -> Opened {
    Opened {
        conversation,
        at: 1_000_000,
        remote: Address::Net(([127, 0, 0, 1], 40_000).into()),
        local: Address::Net(([127, 0, 0, 1], 5000).into()),
        role: Role::Server,
        endpoint_info: Arc::new(EndpointInfo {
            name: "tcp:5000".to_owned(),
            proto: Protocol::Tcp,
            service: "upper".to_owned(),
            framing: "line".parse().unwrap(),
        }),
        tls: None,
    }
}

/// The store is asked after a minute: only a notice can end these waits in time.
#[tokio::test]
async fn waiters_are_told_of_what_this_process_records() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(1 << 20));
    let recorder = Recorder::new(Some(Arc::clone(&store)), RecorderOptions::default());
    let (recorder, task) = recorder.await.unwrap();
    let task = tokio::spawn(task.run());
    let waiters = Waiters {
        poll_told: Duration::from_mins(1),
        ..Waiters::default()
    };
    let (conversation, mut journal) = recorder.journal(0);
    journal.record_opened(opened(conversation));
    let mut first = waiters.notices.follow(&recorder);
    let mut second = waiters.notices.follow(&recorder);
    for n in 1..=3 {
        record(&mut journal, n);
        for noticed in [&mut first, &mut second] {
            let changed = waiters.changed(&*store, n - 1, Some(noticed));
            timeout(SOON, changed).await.expect("a notice").unwrap();
        }
        assert_eq!(store.last().await.unwrap().exchange, n);
    }
    let quiet = waiters.changed(&*store, 3, Some(&mut first));
    assert!(timeout(Duration::from_millis(200), quiet).await.is_err());
    assert!(waiters.newest.lock().await.is_none(), "the store was asked");
    drop((first, second));
    let ended = async {
        while waiters.notices.is_running() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, ended).await.expect("the task ends");
    // Who waits afterwards starts another one.
    let mut third = waiters.notices.follow(&recorder);
    record(&mut journal, 4);
    let changed = waiters.changed(&*store, 3, Some(&mut third));
    timeout(SOON, changed).await.expect("a notice").unwrap();
    recorder.close(task, SOON).await;
}

/// Nothing tells of what another process records: the store is asked.
#[tokio::test]
async fn waiters_find_what_another_process_records() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(1 << 20));
    let elsewhere = Recorder::new(Some(Arc::clone(&store)), RecorderOptions::default());
    let (elsewhere, task) = elsewhere.await.unwrap();
    let task = tokio::spawn(task.run());
    let waiters = Waiters::default();
    let recorder = Recorder::none();
    for own in [None, Some(&recorder)] {
        let before = store.last().await.unwrap().exchange;
        let mut noticed = own.map(|own| waiters.notices.follow(own));
        let (conversation, mut journal) = elsewhere.journal(0);
        journal.record_opened(opened(conversation));
        record(&mut journal, 1);
        let changed = waiters.changed(&*store, before, noticed.as_mut());
        timeout(SOON, changed).await.expect("a look").unwrap();
        assert_eq!(store.last().await.unwrap().exchange, before + 1);
    }
    elsewhere.close(task, SOON).await;
}
