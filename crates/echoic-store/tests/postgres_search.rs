//! Tests of searching a PostgreSQL database: what only a database of many partitions, servers and readers can show.

#![allow(
    clippy::unwrap_used,
    reason = "clippy does not recognize helpers in a test file as tests"
)]

mod scenario;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use echoic_core::{
    ending::CloseReason,
    event::{Outcome, Role},
    filter::Filter,
    store::{Durability, LabelChange, Labelled, Order, Page, Store},
};
use echoic_store::{MemoryStore, PostgresMode, PostgresStore};
use proptest::{prelude::*, sample::select};
use scenario::{NOON, Scenario, all, count, filter, pages, seen, stores::everything, wait};
use tokio::time::timeout;
use trials_postgres::{Database, database};

/// Time for anything on a busy machine.
const DEADLINE: Duration = Duration::from_mins(1);

fn open(database: &Database) -> PostgresStore {
    let mode = PostgresMode::Write(Durability::Off);
    PostgresStore::open(&database.url().parse().unwrap(), mode).unwrap()
}

fn tag(of: Labelled) -> LabelChange {
    LabelChange {
        of,
        add: vec!["bug".into()],
        remove: vec![],
        note: None,
    }
}

/// Appends the same to both stores.
fn append(stores: &[&dyn Store], scenario: &mut Scenario) {
    let batches = scenario.take();
    for store in stores {
        wait(store.append(batches.clone())).unwrap();
    }
}

/// Records what filters tell apart: roles, servers, endpoints, ends, outcomes, sizes, labels, and a conversation whose opening
/// is missing.
fn record_variety(stores: &[&dyn Store]) -> u64 {
    let mut scenario = everything();
    scenario.open(4);
    scenario.lines(4, &["order 12345", "x"], 2);
    scenario.exchange(4, Outcome::Ok, b"\x01\x02\x03\x04", b"");
    scenario.end(4, CloseReason::IdleTimeout, 2);
    scenario.open(5);
    scenario.end(5, CloseReason::Denied, 0);
    scenario.open(6);
    scenario.half_close(6);
    append(stores, &mut scenario);
    let mut client = Scenario::after(scenario.last_id);
    client.role = Role::Client;
    client.now += 1_000_000;
    client.open_at(7, "tcp:12345");
    client.lines(7, &["dialed", &"long ".repeat(500)], 1);
    client.end(7, CloseReason::PeerClosed, 1);
    client.open(8);
    drop(client.take());
    client.lines(8, &["lost opening", "needle"], 1);
    append(stores, &mut client);
    let last = client.last_id;
    for store in stores {
        for of in [
            Labelled::Exchanges(vec![2, 7, last]),
            Labelled::Conversation(4),
        ] {
            wait(store.label(tag(of))).unwrap();
        }
        let note = LabelChange {
            add: vec![],
            note: Some(Some("Look here".into())),
            ..tag(Labelled::Exchanges(vec![3]))
        };
        wait(store.label(note)).unwrap();
    }
    last
}

const CONDITIONS: [&str; 40] = [
    "needle",
    "req:e",
    "rep:NEEDLE",
    "12345",
    "\"order 12345\"",
    "req~^t",
    "hex:010203",
    "hex:01??03",
    "lat:<1ms",
    "lat:>1h",
    "size:>20",
    "size:..4",
    "size:5..9",
    "n:2..3",
    "n:1",
    "id:4..9",
    "conv:3",
    "conv:1,7,8",
    "conv:8",
    "ep:tcp:12345",
    "ep:unknown",
    "proto:tcp",
    "svc:upper",
    "svc:unknown",
    "role:client",
    "role:server",
    "is:ok",
    "is:unsent",
    "is:unanswered",
    "is:withheld,unpaired",
    "is:open",
    "is:closed,ok",
    "is:half",
    "is:timeout",
    "end:fin",
    "end:rst,limit",
    "tag:bug",
    "note:look",
    "after:2026-01-01T12:00:01Z",
    "is:binary",
];

/// Conditions joined by AND, OR, NOT and THEN.
fn filters() -> impl Strategy<Value = String> {
    let atom = (any::<bool>(), select(&CONDITIONS[..]));
    let atom = atom.prop_map(|(negated, text)| format!("{}{text}", if negated { "-" } else { "" }));
    let leaf = atom.boxed();
    let inner = leaf.prop_recursive(3, 6, 3, |part| {
        prop_oneof![
            prop::collection::vec(part.clone(), 1..4).prop_map(|parts| parts.join(" ")),
            prop::collection::vec(part.clone(), 2..4)
                .prop_map(|parts| format!("({})", parts.join(" OR "))),
            part.prop_map(|part| format!("-({part})")),
        ]
    });
    prop_oneof![
        6 => inner.clone(),
        1 => (inner.clone(), inner).prop_map(|(one, other)| format!("{one} THEN {other}")),
    ]
}

/// What a filter lets PostgreSQL leave out loses no match, and what PostgreSQL counts alone is exact.
#[test]
fn conditions_of_sql_lose_no_match_of_any_filter() {
    let Some(database) = database() else { return };
    let (postgres, memory) = (open(&database), MemoryStore::new(64 << 20));
    let last = record_variety(&[&postgres, &memory]);
    let check = |text: &str, beyond: Option<u64>, limit: usize| {
        let expected = wait(all(&memory, text));
        assert_eq!(wait(all(&postgres, text)), expected, "{text}");
        assert_eq!(
            wait(count(&postgres, text)),
            expected.len() as u64,
            "{text}"
        );
        for order in [Order::OldestFirst, Order::NewestFirst] {
            let paged = wait(pages(&postgres, text, order, limit));
            let mut expected = expected.clone();
            if order == Order::NewestFirst {
                expected.reverse();
            }
            assert_eq!(paged, expected, "{text} by {limit}, {order:?}");
            let page = Page {
                order,
                beyond,
                until: None,
                limit,
                now: NOON,
            };
            let found = |store: &dyn Store| seen(&wait(store.find(&filter(text), page)).unwrap());
            assert_eq!(found(&postgres), found(&memory), "{text} {page:?}");
        }
        let listed = |store: &dyn Store| {
            let page = echoic_core::store::ConversationPage {
                order: Order::NewestFirst,
                beyond: None,
                limit: 20,
                now: NOON,
                without_exchanges: false,
            };
            let found = wait(store.conversations(&filter(text), page)).unwrap();
            let ids = found.conversations.iter();
            ids.map(|one| (one.conversation.id, one.exchanges))
                .collect::<Vec<_>>()
        };
        assert_eq!(listed(&postgres), listed(&memory), "{text}");
    };
    for text in CONDITIONS {
        check(text, None, 100);
        check(&format!("-{text}"), None, 100);
    }
    let config = ProptestConfig::with_cases(150);
    proptest!(config, |(text in filters(), beyond in prop::option::of(0..=last), limit in 1..9_usize)| {
        if text.parse::<Filter>().is_ok() {
            check(&text, beyond, limit);
        }
    });
}

#[test]
fn long_database_is_searched_whole_across_chunks_and_partitions() {
    let Some(database) = database() else { return };
    let store = open(&database);
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    scenario.open(2);
    // More rows than a chunk has, and more ids than a statement covers.
    for i in 0..5_u64 {
        for _ in 0..60 {
            scenario.lines(1, &["a"; 999], 999);
        }
        for _ in 0..4_500 {
            scenario.lines(1, &["b"], 1);
        }
        scenario.lines(2, &[if i % 2 == 0 { "needle" } else { "straw" }], 1);
        wait(store.append(scenario.take())).unwrap();
        // Runs go on in the next partition.
        database.psql("SELECT echoic.make_part(); UPDATE echoic.state SET part = part + 1");
    }
    let parts = database.psql("SELECT count(*) FROM echoic.part WHERE exchanges > 0");
    assert_eq!(parts, "5");
    let total = scenario.last_id;
    assert!(total > 300_000);
    let expected = scenario.expected(|seen| seen.request == b"needle\n");
    assert_eq!(wait(all(&store, "needle")), expected);
    let newest = wait(pages(&store, "needle", Order::NewestFirst, 2));
    assert_eq!(newest, expected.iter().rev().cloned().collect::<Vec<_>>());
    assert_eq!(wait(count(&store, "a")), 5 * 60 * 999 + 2, "straw has an a");
    assert_eq!(
        wait(count(&store, "lat:<1s")),
        total,
        "counted by SQL alone"
    );
    assert_eq!(wait(count(&store, "-is:unanswered size:2..6")), total - 5);
    assert_eq!(wait(count(&store, "conv:2")), 5);
    assert_eq!(wait(count(&store, "req:b THEN req:b")), 22_499);
    let n = 4 * (60 * 999 + 4_500) + 1;
    let page = wait(store.messages(1, n, 2)).unwrap();
    let found: Vec<_> = page.iter().map(|one| (one.n, one.id)).collect();
    assert_eq!(found, [(n, n + 4), (n + 1, n + 5)]);
}

#[test]
fn large_messages_are_read_a_few_at_a_time() {
    let Some(database) = database() else { return };
    let store = open(&database);
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    let line = "x".repeat(3 << 20);
    for _ in 0..12 {
        scenario.exchange(1, Outcome::Ok, line.as_bytes(), b"");
        wait(store.append(scenario.take())).unwrap();
    }
    scenario.exchange(1, Outcome::Ok, b"the last", b"");
    wait(store.append(scenario.take())).unwrap();
    for order in [Order::OldestFirst, Order::NewestFirst] {
        let mut found = wait(pages(&store, "req:x OR req:last", order, 5));
        found.sort_by_key(|seen| seen.id);
        assert!(found == scenario.exchanges, "{order:?}");
    }
    // A page is bounded in bytes too.
    let page = Page {
        order: Order::OldestFirst,
        beyond: None,
        until: None,
        limit: 1_000,
        now: NOON,
    };
    let found = wait(store.find(&filter(""), page)).unwrap();
    assert_eq!((found.exchanges.len(), found.next), (13, None));
}

/// The labels of one process and the exchanges of another, and a third that deletes inside of runs: all is as if one had done it.
#[test]
fn deletion_beside_other_writers_keeps_the_totals() {
    let Some(database) = database() else { return };
    let (store, other) = (open(&database), open(&database));
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    for _ in 0..50 {
        scenario.lines(1, &["keep", "the-password", "keep", "the-password"], 4);
    }
    scenario.open(2);
    scenario.lines(2, &["the-password"], 1);
    scenario.end(2, CloseReason::PeerClosed, 0);
    wait(store.append(scenario.take())).unwrap();
    let stop = AtomicBool::new(false);
    let appended = thread::scope(|scope| {
        let appending = scope.spawn(|| {
            let mut other_scenario = Scenario::after(1_000_000);
            other_scenario.open(3);
            let mut appended = 0;
            while !stop.load(Ordering::Relaxed) || appended == 0 {
                other_scenario.lines(3, &["more", "and more"], 2);
                wait(other.append(other_scenario.take())).unwrap();
                appended += 2;
            }
            appended
        });
        let delete = |confirmed| wait(store.delete(&filter("the-password"), confirmed, NOON));
        assert_eq!(delete(7).unwrap(), 101, "not confirmed");
        assert_eq!(wait(count(&store, "the-password")), 101);
        assert_eq!(delete(101).unwrap(), 101);
        stop.store(true, Ordering::Relaxed);
        appending.join().unwrap()
    });
    assert_eq!(wait(count(&store, "the-password")), 0);
    assert_eq!(wait(count(&store, "keep")), 100);
    let ids: Vec<_> = wait(all(&store, "keep"))
        .iter()
        .map(|seen| seen.n)
        .collect();
    assert_eq!(ids, (1..=200).step_by(2).collect::<Vec<u64>>());
    let total = 100 + appended;
    assert_eq!(wait(count(&store, "")), total);
    for sum in [
        "sum(count) FROM echoic.run",
        "sum(exchanges) FROM echoic.part",
    ] {
        assert_eq!(database.psql(&format!("SELECT {sum}")), total.to_string());
    }
    assert!(
        wait(store.conversation(2)).unwrap().is_none(),
        "it has none left"
    );
    assert!(wait(store.conversation(1)).unwrap().is_some(), "it is open");
    let sizes = database.psql(
        "SELECT sum(bytes) = (SELECT sum(octet_length(req) + octet_length(rep) + 120
            + coalesce(24 + 4 * cardinality(lengths), 0)) FROM echoic.run) FROM echoic.part",
    );
    assert_eq!(sizes, "t");
}

#[test]
fn who_follows_is_woken_by_what_another_records_also_after_a_lost_connection() {
    let Some(database) = database() else { return };
    let (writer, mut scenario) = (open(&database), Scenario::after(0));
    scenario.open(1);
    scenario.lines(1, &["one", "two"], 2);
    wait(writer.append(scenario.take())).unwrap();
    let url = database.url().parse().unwrap();
    let follower = PostgresStore::open(&url, PostgresMode::Read).unwrap();
    wait(async {
        let changed = |beyond| timeout(DEADLINE, follower.changed(beyond).unwrap());
        changed(0).await.expect("what is recorded already");
        let quiet = timeout(Duration::from_millis(200), follower.changed(2).unwrap());
        assert!(quiet.await.is_err(), "nothing is new");
        for (round, last) in [(0, 2), (1, 3)] {
            let change = changed(last);
            if round == 1 {
                let listening = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                    WHERE query = 'LISTEN echoic' AND pid <> pg_backend_pid()";
                assert_eq!(
                    database.psql(listening),
                    "1",
                    "one connection for all who wait"
                );
            }
            scenario.lines(1, &["more"], 1);
            writer.append(scenario.take()).await.unwrap();
            change.await.expect("told");
        }
        follower.close().await.unwrap();
        assert!(
            follower.changed(0).is_none(),
            "nobody is told by a closed store"
        );
    });
}

#[test]
fn reads_go_on_after_their_connections_were_cut() {
    let Some(database) = database() else { return };
    let store = open(&database);
    let mut scenario = everything();
    wait(store.append(scenario.take())).unwrap();
    for text in ["", "needle", "needle THEN req:e", "tag:bug OR conv:1"] {
        let expected = wait(all(&store, text));
        let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()";
        database.psql(cut);
        assert_eq!(wait(all(&store, text)), expected, "{text}");
    }
}
