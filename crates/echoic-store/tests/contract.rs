//! The contract of stores: tests that run against every store.

#![allow(
    clippy::unwrap_used,
    reason = "clippy does not recognize helpers in a test file as tests"
)]

mod scenario;

use std::sync::Arc;

use echoic_core::{
    ending::CloseReason,
    event::{Batch, ClientCertificate, Event, Mark, Marked, Micros, Outcome, Role, TlsInfo},
    store::{
        BATCHES_KNOWN, ConversationPage, Durability, Gap, LabelChange, Labelled, Last,
        MessageBytes, Order, Page, Retention, Store, StoreError, StoreErrorKind,
    },
};
use echoic_store::{MemoryStore, SqliteStore};
use proptest::prelude::*;
use rstest::rstest;
use scenario::{
    NOON, Scenario, Seen, all, count, filter, pages, remote,
    stores::{Kind, everything, make},
};
use tempfile::TempDir;

/// A filter as a Rust predicate.
type Predicate = Box<dyn Fn(&Seen) -> bool>;

async fn append(store: &dyn Store, scenario: &mut Scenario) {
    store.append(scenario.take()).await.expect("stored");
}

#[rstest]
#[tokio::test]
async fn appended_runs_are_found_as_single_exchanges(
    #[values(Kind::Memory, Kind::Sqlite, Kind::Reader, Kind::Postgres)] kind: Kind,
) {
    let (store, _dir) = make(kind);
    assert_eq!(store.last().await.unwrap(), Last::default());
    assert_eq!(
        (all(&*store, "").await, count(&*store, "").await),
        (vec![], 0)
    );
    let mut scenario = everything();
    append(&*store, &mut scenario).await;

    assert_eq!(all(&*store, "").await, scenario.exchanges);
    assert_eq!(count(&*store, "").await, scenario.exchanges.len() as u64);
    assert_eq!(
        store.last().await.unwrap(),
        Last {
            exchange: scenario.last_id,
            conversation: 3
        }
    );
    let outcomes: Vec<_> = scenario.exchanges.iter().map(|seen| seen.outcome).collect();
    assert!(
        [Outcome::Ok, Outcome::Unanswered, Outcome::Unsent]
            .iter()
            .all(|outcome| outcomes.contains(outcome))
    );
}

#[rstest]
#[tokio::test]
async fn filter_finds_and_counts_matching_exchanges(
    #[values(Kind::Memory, Kind::Sqlite, Kind::Reader, Kind::Postgres)] kind: Kind,
) {
    let (store, _dir) = make(kind);
    let mut scenario = everything();
    append(&*store, &mut scenario).await;
    let of = |conversation| move |seen: &Seen| seen.conversation == conversation;
    let has = |text: &'static str| {
        move |seen: &Seen| String::from_utf8_lossy(&seen.request).contains(text)
    };
    let cases: [(&str, Predicate); 14] = [
        ("conv:1", Box::new(of(1))),
        ("conv:3", Box::new(of(3))),
        ("conv:9", Box::new(|_| false)),
        ("-conv:1", Box::new(|seen| seen.conversation != 1)),
        ("id:4", Box::new(|seen| seen.id == 4)),
        (
            "id:4..9 conv:1",
            Box::new(|seen| (4..=9).contains(&seen.id) && seen.conversation == 1),
        ),
        ("needle", Box::new(has("needle"))),
        (
            "ep:tcp:12345",
            Box::new(|seen| seen.endpoint_info == "tcp:12345"),
        ),
        ("svc:lower", Box::new(|_| false)),
        ("peer:127.0.0.1:40003", Box::new(of(3))),
        (
            "is:unsent",
            Box::new(|seen| seen.outcome == Outcome::Unsent),
        ),
        (
            "is:unanswered conv:3",
            Box::new(|s| s.outcome == Outcome::Unanswered && s.conversation == 3),
        ),
        ("is:open", Box::new(of(1))),
        (
            "end:rst OR end:fin",
            Box::new(|seen| seen.conversation != 1),
        ),
    ];
    for (text, predicate) in cases {
        let expected = scenario.expected(predicate);
        assert_eq!(all(&*store, text).await, expected, "{text}");
        assert_eq!(count(&*store, text).await, expected.len() as u64, "{text}");
    }
    let now = NOON + 20;
    let since = scenario.expected(|seen| seen.at >= now - 10);
    assert!(!since.is_empty() && since.len() < scenario.exchanges.len());
    assert_eq!(
        store.count(&filter("since:10us"), now).await.unwrap(),
        since.len() as u64
    );
}

#[rstest]
#[tokio::test]
async fn pages_join_without_gaps_from_any_start(
    #[values(Kind::Memory, Kind::Sqlite, Kind::Reader, Kind::Postgres)] kind: Kind,
    #[values("", "conv:1", "e", "nothing like it")] text: &str,
) {
    let (store, _dir) = make(kind);
    let mut scenario = everything();
    append(&*store, &mut scenario).await;
    let expected = all(&*store, text).await;
    let reversed: Vec<_> = expected.iter().rev().cloned().collect();
    for limit in 1..=scenario.exchanges.len() + 1 {
        assert_eq!(
            pages(&*store, text, Order::OldestFirst, limit).await,
            expected
        );
        assert_eq!(
            pages(&*store, text, Order::NewestFirst, limit).await,
            reversed
        );
    }
    for order in [Order::OldestFirst, Order::NewestFirst] {
        let page = Page {
            order,
            beyond: None,
            until: None,
            limit: 1_000,
            now: NOON,
        };
        assert_eq!(
            store.find(&filter(text), page).await.unwrap().next,
            None,
            "the last page"
        );
    }
}

#[rstest]
#[tokio::test]
async fn conversations_report_their_state_and_ending(
    #[values(Kind::Memory, Kind::Sqlite, Kind::Reader, Kind::Postgres)] kind: Kind,
) {
    let (store, _dir) = make(kind);
    append(&*store, &mut everything()).await;
    let open = store.conversation(1).await.unwrap().expect("there");
    assert!(open.exchanges > 0);
    let open = open.conversation;
    assert_eq!(
        (open.id, open.remote, open.half_closed),
        (1, remote(1), None)
    );
    assert!(open.ended.is_none());
    assert_eq!(open.endpoint_info, scenario::endpoint_info("tcp:5000"));
    let reset = store.conversation(3).await.unwrap().expect("there");
    let reset = reset.conversation;
    assert!(reset.half_closed.is_some_and(|at| at > reset.opened));
    let (at, ending) = reset.ended.expect("ended");
    assert!(at > reset.opened);
    assert_eq!(
        (ending.reason, ending.received, ending.unsent),
        (CloseReason::PeerReset, 11, 9)
    );
    assert!(store.conversation(4).await.unwrap().is_none());
    assert!(store.conversation(u64::MAX).await.unwrap().is_none());
}

/// Returns the conversations that `text` selects, read in pages of `limit`: id, exchanges, and whether it has ended.
async fn listed(
    store: &dyn Store,
    text: &str,
    order: Order,
    limit: usize,
) -> Vec<(u64, u64, bool)> {
    let (filter, mut all) = (filter(text), Vec::new());
    let mut page = conversation_page(order, limit);
    loop {
        let found = store.conversations(&filter, page).await.expect("listed");
        assert!(found.conversations.len() <= limit);
        all.extend(found.conversations.iter().map(|listed| {
            let conversation = &listed.conversation;
            (
                conversation.id,
                listed.exchanges,
                conversation.ended.is_some(),
            )
        }));
        let last = found.conversations.last();
        match found.next {
            Some(next) => assert_eq!(Some(next), last.map(|last| last.conversation.id)),
            None => return all,
        }
        page.beyond = found.next;
    }
}

fn conversation_page(order: Order, limit: usize) -> ConversationPage {
    ConversationPage {
        order,
        beyond: None,
        limit,
        now: NOON,
        without_exchanges: false,
    }
}

#[rstest]
#[tokio::test]
async fn conversations_are_listed_with_and_without_exchanges(
    #[values(Kind::Memory, Kind::Sqlite, Kind::Reader, Kind::Postgres)] kind: Kind,
) {
    let (store, _dir) = make(kind);
    let mut scenario = everything();
    scenario.open(4);
    scenario.end(4, CloseReason::TooManyConnections, 0);
    scenario.open(5);
    scenario.open_at(6, "tcp:12345");
    scenario.end(6, CloseReason::Denied, 0);
    append(&*store, &mut scenario).await;
    let of = |id| scenario.expected(|seen| seen.conversation == id).len() as u64;
    let conversations = [
        (1, of(1), false),
        (2, of(2), true),
        (3, of(3), true),
        (4, 0, true),
        (5, 0, false),
        (6, 0, true),
    ];
    for (text, ids) in [
        ("", &[1, 2, 3, 4, 5, 6][..]),
        ("end:limit", &[4, 6]),
        ("end:limit OR end:rst", &[3, 4, 6]),
        ("is:open", &[1, 5]),
        ("-is:open ep:tcp:5000", &[3, 4]),
        ("conv:2..4", &[2, 3, 4]),
        ("conv:9", &[]),
        ("id:4 conv:1..2 conv:3", &[]),
        // Conditions on exchanges are ignored.
        ("needle end:limit", &[4, 6]),
        ("-needle lat:>1h is:http", &[1, 2, 3, 4, 5, 6]),
    ] {
        let mut expected = conversations.to_vec();
        expected.retain(|(id, ..)| ids.contains(id));
        for limit in 1..=expected.len() + 1 {
            let oldest = listed(&*store, text, Order::OldestFirst, limit).await;
            assert_eq!(oldest, expected, "{text} by {limit}");
            let mut newest = listed(&*store, text, Order::NewestFirst, limit).await;
            newest.reverse();
            assert_eq!(newest, expected, "{text} by {limit}");
        }
    }
    let page = ConversationPage {
        without_exchanges: true,
        ..conversation_page(Order::NewestFirst, 10)
    };
    let empty = store.conversations(&filter(""), page).await.unwrap();
    let ids = empty
        .conversations
        .iter()
        .map(|listed| listed.conversation.id);
    assert_eq!(ids.collect::<Vec<_>>(), [6, 4]);
    assert_eq!(empty.next, None);
}

#[rstest]
#[tokio::test]
async fn open_conversation_has_the_bytes_of_its_messages_so_far(
    #[values(Kind::Memory, Kind::Sqlite, Kind::Reader, Kind::Postgres)] kind: Kind,
) {
    let (store, _dir) = make(kind);
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    scenario.open(2);
    scenario.open(3);
    // More exchanges than a store counts in memory: one part is in the row of the conversation, one is not.
    let many = vec!["ping"; 1_000];
    for _ in 0..66 {
        scenario.lines(1, &many, 1_000);
        append(&*store, &mut scenario).await;
    }
    scenario.lines(1, &["unanswered"], 0);
    scenario.lines(2, &["one"], 1);
    scenario.end(2, CloseReason::PeerClosed, 0);
    append(&*store, &mut scenario).await;
    let bytes = |id| {
        let of = |part: fn(&Seen) -> usize| -> u64 {
            let own = scenario.expected(|seen| seen.conversation == id);
            own.iter().map(|one| part(one) as u64).sum()
        };
        MessageBytes {
            requests: of(|one| one.request.len()),
            replies: of(|one| one.reply.len()),
        }
    };
    let expected = [Some(bytes(1)), None, Some(MessageBytes::default())];
    assert!(bytes(1).requests > bytes(1).replies && bytes(1).replies >= 66_000 * 5);
    let page = conversation_page(Order::OldestFirst, 10);
    let all = store.conversations(&filter(""), page).await.unwrap();
    let listed = all.conversations.iter().map(|listed| listed.so_far);
    assert_eq!(listed.collect::<Vec<_>>(), expected);
    for (id, expected) in (1..).zip(expected) {
        let one = store.conversation(id).await.unwrap().expect("there");
        assert_eq!(one.so_far, expected, "c{id}");
    }
}

#[rstest]
#[tokio::test]
async fn listed_conversation_has_its_opening_time(
    #[values(Kind::Memory, Kind::Sqlite, Kind::Reader, Kind::Postgres)] kind: Kind,
) {
    let (store, _dir) = make(kind);
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    scenario.now += 1_000_000;
    scenario.lines(1, &["later"], 1);
    scenario.open(2);
    append(&*store, &mut scenario).await;
    let page = ConversationPage {
        now: scenario.now,
        ..conversation_page(Order::OldestFirst, 10)
    };
    let found = store
        .conversations(&filter("since:500ms"), page)
        .await
        .unwrap();
    let ids = found
        .conversations
        .iter()
        .map(|listed| listed.conversation.id);
    assert_eq!(ids.collect::<Vec<_>>(), [2]);
}

#[rstest]
#[tokio::test]
async fn exchanges_of_a_conversation_are_counted_once(
    #[values(Kind::Memory, Kind::Sqlite, Kind::Reader, Kind::Postgres)] kind: Kind,
) {
    let (store, _dir) = make(kind);
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    scenario.lines(1, &["one", "two"], 2);
    let batches = scenario.take();
    for _ in 0..2 {
        store.append(batches.clone()).await.unwrap();
    }
    scenario.lines(1, &["three"], 1);
    append(&*store, &mut scenario).await;
    let list = || listed(&*store, "", Order::OldestFirst, 10);
    assert_eq!(list().await, [(1, 3, false)]);
    scenario.end(1, CloseReason::PeerClosed, 0);
    let batches = scenario.take();
    for _ in 0..2 {
        store.append(batches.clone()).await.unwrap();
    }
    assert_eq!(list().await, [(1, 3, true)]);
}

#[rstest]
#[tokio::test]
async fn gaps_are_returned_newest_first_and_pruned_by_age(
    #[values(Kind::Memory, Kind::Sqlite, Kind::Reader, Kind::Postgres)] kind: Kind,
) {
    let (store, _dir) = make(kind);
    let gap = |since, exchanges| Gap { since, exchanges };
    let mut number = 0;
    let mut add_gap = async |at: Micros, exchanges| {
        let mut batch = Batch::default();
        number += 1;
        batch.number = number;
        let what = Marked::Gap {
            exchanges,
            since: at,
        };
        batch.events.push(Event::Mark(Mark {
            conversation: 0,
            at,
            what,
        }));
        store.append(vec![batch.into()]).await.unwrap();
    };
    assert_eq!(store.gaps(Micros::MIN..=Micros::MAX, 9).await.unwrap(), []);
    for (at, exchanges) in [(NOON, 5), (NOON + 10, 6), (NOON + 20, 7)] {
        add_gap(at, exchanges).await;
    }
    // A repeated gap that has grown.
    add_gap(NOON + 10, 60).await;
    let all = [gap(NOON + 20, 7), gap(NOON + 10, 60), gap(NOON, 5)];
    let found = async |times, limit| store.gaps(times, limit).await.unwrap();
    assert_eq!(found(Micros::MIN..=Micros::MAX, 9).await, all);
    assert_eq!(found(Micros::MIN..=Micros::MAX, 2).await, all[..2]);
    assert_eq!(found(NOON..=NOON + 10, 9).await, all[1..]);
    assert_eq!(count(&*store, "").await, 0, "a gap is no exchange");
    let retention = Retention {
        age: Some(10),
        bytes: None,
    };
    store.prune(retention, NOON + 25).await.unwrap();
    assert_eq!(found(Micros::MIN..=Micros::MAX, 9).await, all[..1]);
}

#[rstest]
#[tokio::test]
async fn stats_are_totals_of_the_store(
    #[values(Kind::Memory, Kind::Sqlite, Kind::Reader, Kind::Postgres)] kind: Kind,
) {
    let (store, _dir) = make(kind);
    let stats = async || store.stats().await.unwrap();
    let empty = stats().await;
    assert_eq!((empty.exchanges, empty.conversations), (0, 0));
    assert_eq!((empty.oldest, empty.newest), (None, None));
    let mut scenario = everything();
    scenario.open(4);
    append(&*store, &mut scenario).await;
    let some = stats().await;
    assert_eq!(
        (some.exchanges, some.conversations),
        (scenario.exchanges.len() as u64, 4)
    );
    let times = [scenario.exchanges.first(), scenario.exchanges.last()];
    assert_eq!(
        [some.oldest, some.newest],
        times.map(|seen| seen.map(|seen| seen.at))
    );

    let later = scenario.now + 1_000_000;
    scenario.now = later;
    scenario.lines(1, &[&"long ".repeat(100_000)], 1);
    append(&*store, &mut scenario).await;
    let more = stats().await;
    assert!(
        more.bytes >= some.bytes + 900_000,
        "{more:?} after {some:?}"
    );
    let retention = Retention {
        age: Some(0),
        bytes: None,
    };
    store.prune(retention, later).await.unwrap();
    let left = stats().await;
    assert_eq!((left.exchanges, left.oldest), (1, left.newest));
    assert!(left.newest > Some(later));
    // Conversations 2 and 3 had ended, and have no exchanges left.
    assert_eq!(left.conversations, 2);
}

#[rstest]
#[tokio::test]
async fn closed_store_returns_closed(
    #[values(Kind::Memory, Kind::Sqlite, Kind::Reader, Kind::Postgres)] kind: Kind,
) {
    fn assert_closed<T: std::fmt::Debug>(result: Result<T, StoreError>) {
        let kind = result.map_err(|error| error.kind);
        assert!(matches!(kind, Err(StoreErrorKind::Closed)), "{kind:?}");
    }
    let (store, _dir) = make(kind);
    let mut scenario = everything();
    append(&*store, &mut scenario).await;
    store.close().await.unwrap();
    store
        .close()
        .await
        .expect("a second close has the same result");
    let (all, page) = (filter(""), conversation_page(Order::OldestFirst, 10));
    let exchanges = Page {
        order: Order::OldestFirst,
        beyond: None,
        until: None,
        limit: 10,
        now: NOON,
    };
    let retention = Retention {
        age: None,
        bytes: None,
    };
    assert_closed(store.last().await);
    assert_closed(store.append(scenario.take()).await);
    assert_closed(store.reserve_conversations(1).await);
    assert_closed(store.find(&all, exchanges).await);
    assert_closed(store.count(&all, NOON).await);
    assert_closed(store.count(&filter("needle"), NOON).await);
    assert_closed(store.conversations(&all, page).await);
    assert_closed(store.conversation(1).await);
    assert_closed(store.gaps(0..=NOON, 1).await);
    assert_closed(store.stats().await);
    assert_closed(store.prune(retention, NOON).await);
}

#[rstest]
#[tokio::test]
async fn discarding_a_store_with_content_only_closes_it(
    #[values(Kind::Memory, Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (store, dir) = make(kind);
    append(&*store, &mut everything()).await;
    store.discard().await.unwrap();
    let last = store.last().await.map_err(|error| error.kind);
    assert_eq!(last, Err(StoreErrorKind::Closed));
    if let Some(dir) = dir {
        assert!(dir.path().join("echoic.db").exists());
        let (fresh, empty) = make(kind);
        fresh.discard().await.unwrap();
        let left = std::fs::read_dir(empty.unwrap().path()).unwrap();
        assert_eq!(left.count(), 0, "nothing was stored in it");
    }
}

#[rstest]
#[tokio::test]
async fn append_is_all_or_nothing(
    #[values(Kind::Memory, Kind::Sqlite, Kind::Reader, Kind::Postgres)] kind: Kind,
) {
    let (store, _dir) = make(kind);
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    scenario.lines(1, &["stored"], 1);
    append(&*store, &mut scenario).await;
    let (stored, last) = (scenario.exchanges.clone(), store.last().await.unwrap());

    scenario.open(2);
    scenario.lines(2, &["one", "two"], 2);
    let mut batches = scenario.take();
    scenario.lines(2, &["three"], 1);
    batches.extend(scenario.take());
    // The last run of the last batch has no exchanges.
    let event = batches
        .last_mut()
        .and_then(Arc::get_mut)
        .unwrap()
        .events
        .last_mut();
    let Some(Event::Run(run)) = event else {
        panic!("{event:?}")
    };
    run.count = 0;
    let refused = store.append(batches).await;
    assert!(
        matches!(
            refused,
            Err(StoreError {
                kind: StoreErrorKind::Failed { .. },
                ..
            })
        ),
        "{refused:?}"
    );
    assert_eq!(all(&*store, "").await, stored);
    assert_eq!(store.last().await.unwrap(), last);
    assert!(store.conversation(2).await.unwrap().is_none());

    let mut scenario = Scenario::after(last.exchange);
    scenario.open(2);
    scenario.lines(2, &["after"], 1);
    append(&*store, &mut scenario).await;
    assert_eq!(count(&*store, "").await, 2, "the store still works");
}

#[rstest]
#[tokio::test]
async fn repeated_append_is_stored_once_and_has_the_same_ids(
    #[values(Kind::Memory, Kind::Sqlite, Kind::Reader, Kind::Postgres)] kind: Kind,
) {
    let (store, _dir) = make(kind);
    let mut scenario = everything();
    let first = scenario.take();
    scenario.lines(1, &["more", "and more"], 2);
    let both = [first.clone(), scenario.take()].concat();
    let ids = store.append(first.clone()).await.unwrap();
    assert_eq!(ids, [1]);
    // A part is stored already, as after an append whose answer was lost.
    let ids = store.append(both.clone()).await.unwrap();
    assert_eq!(ids, [1, first[0].exchanges() + 1]);
    assert_eq!(store.append(both).await.unwrap(), ids);
    assert_eq!(all(&*store, "").await, scenario.exchanges);
    assert_eq!(count(&*store, "").await, scenario.exchanges.len() as u64);
}

/// Ids follow the order of commits, not the numbers or the servers of the batches.
#[rstest]
#[tokio::test]
async fn ids_are_given_in_the_order_of_commits(
    #[values(Kind::Memory, Kind::Sqlite, Kind::Reader, Kind::Postgres)] kind: Kind,
) {
    let (store, _dir) = make(kind);
    let (mut one, mut other) = (Scenario::after(0), Scenario::after(0));
    one.open(1);
    one.lines(1, &["a", "b"], 2);
    let early = one.take();
    one.half_close(1);
    let empty = one.take();
    one.lines(1, &["c"], 1);
    let late = one.take();
    other.open(2);
    other.lines(2, &["x", "y", "z"], 3);
    let batches = [late, empty, other.take(), early].concat();
    let ids = store.append(batches.clone()).await.unwrap();
    assert_eq!(ids, [1, 2, 2, 5]);
    let requests: Vec<_> = all(&*store, "")
        .await
        .into_iter()
        .map(|seen| seen.request)
        .collect();
    assert_eq!(requests, [b"c\n", b"x\n", b"y\n", b"z\n", b"a\n", b"b\n"]);
    assert_eq!(store.append(batches).await.unwrap(), ids);
    let last = store.last().await.unwrap();
    assert_eq!((last.exchange, last.conversation), (6, 2));
}

#[rstest]
#[tokio::test]
async fn conversation_ids_are_reserved_without_overlap(
    #[values(Kind::Memory, Kind::Sqlite, Kind::Reader, Kind::Postgres)] kind: Kind,
) {
    let (store, _dir) = make(kind);
    assert_eq!(store.reserve_conversations(10).await.unwrap(), 1);
    assert_eq!(store.reserve_conversations(1).await.unwrap(), 11);
    assert_eq!(store.reserve_conversations(5).await.unwrap(), 12);
}

#[tokio::test]
async fn reopened_store_continues_its_ids_without_holes() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("echoic.db");
    let mut last_id = 0;
    for start in 1..=20 {
        let store = SqliteStore::open(&path, Durability::Off).unwrap();
        assert_eq!(store.reserve_conversations(65_536).await.unwrap(), start);
        let mut scenario = Scenario::after(last_id);
        scenario.open(start);
        scenario.lines(start, &["one", "two"], 2);
        let ids = store.append(scenario.take()).await.unwrap();
        assert_eq!(ids, [last_id + 1]);
        assert_eq!(
            all(&store, &format!("conv:{start}")).await,
            scenario.exchanges
        );
        last_id = scenario.last_id;
        store.close().await.unwrap();
    }
}

/// The number of remembered batch ids is bounded, and a batch far below the newest counts as stored.
#[rstest]
#[tokio::test]
async fn ids_of_old_batches_are_deleted(
    #[values(Kind::Memory, Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (store, dir) = make(kind);
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    scenario.lines(1, &["first"], 1);
    let first = scenario.take();
    store.append(first.clone()).await.unwrap();
    let others: Vec<_> = (0..BATCHES_KNOWN + 2_000)
        .flat_map(|_| {
            scenario.half_close(1);
            scenario.take()
        })
        .collect();
    let newest = others.last().cloned().unwrap();
    store.append(others).await.unwrap();
    assert_eq!(store.append(first).await.unwrap(), [0]);
    assert_eq!(store.append(vec![newest]).await.unwrap(), [2]);
    assert_eq!(count(&*store, "").await, 1);
    store.close().await.unwrap();
    if let Some(dir) = dir {
        let path = dir.path().join("echoic.db");
        let rows = rusqlite::Connection::open(path).unwrap();
        let rows = rows.query_row("SELECT count(*) FROM batch", [], |row| row.get::<_, u64>(0));
        assert!(rows.unwrap() < BATCHES_KNOWN + 1_500);
    }
}

#[rstest]
#[tokio::test]
async fn role_and_server_of_a_conversation_are_found(
    #[values(Kind::Memory, Kind::Sqlite, Kind::Reader, Kind::Postgres)] kind: Kind,
) {
    let (store, _dir) = make(kind);
    let mut served = Scenario::after(0);
    served.open(1);
    served.lines(1, &["served"], 1);
    served.end(1, CloseReason::PeerClosed, 7);
    append(&*store, &mut served).await;
    let mut dialed = Scenario::after(1);
    dialed.role = Role::Client;
    dialed.open(2);
    dialed.lines(2, &["dialed"], 1);
    append(&*store, &mut dialed).await;
    let (id, name) = (dialed.server().id, &dialed.server().name);
    for (text, expected) in [
        ("role:server".to_owned(), [1].as_slice()),
        ("role:client".to_owned(), &[2]),
        ("-role:client".to_owned(), &[1]),
        (format!("server:{id}"), &[2]),
        (format!("server:{name}"), &[2]),
        (format!("-server:{name}"), &[1]),
        ("server:unknown".to_owned(), &[]),
    ] {
        let found = all(&*store, &text).await;
        let ids: Vec<_> = found.iter().map(|seen| seen.id).collect();
        assert_eq!(ids, expected, "{text}");
        assert_eq!(count(&*store, &text).await, expected.len() as u64, "{text}");
        let ids: Vec<_> = listed(&*store, &text, Order::OldestFirst, 9).await;
        let ids: Vec<_> = ids.into_iter().map(|(id, ..)| id).collect();
        assert_eq!(ids, expected, "{text}");
    }
    let conversation = store.conversation(2).await.unwrap().expect("there");
    let conversation = conversation.conversation;
    assert_eq!(conversation.role, Role::Client);
    assert_eq!(*conversation.server, *dialed.server());
    assert_eq!(count(&*store, "is:unsent").await, 1, "unsent by a server");
}

#[rstest]
#[tokio::test]
async fn exchange_without_its_opening_is_found(
    #[values(Kind::Memory, Kind::Sqlite, Kind::Reader, Kind::Postgres)] kind: Kind,
) {
    let (store, _dir) = make(kind);
    let mut scenario = Scenario::after(0);
    scenario.open(7);
    drop(scenario.take());
    scenario.lines(7, &["unknown peer"], 1);
    append(&*store, &mut scenario).await;
    let found = all(&*store, "conv:7").await;
    assert_eq!(
        (found[0].request.as_slice(), found.len()),
        (&b"unknown peer\n"[..], 1)
    );
    assert_eq!(found[0].endpoint_info, "unknown");
}

#[rstest]
#[tokio::test]
async fn pruning_by_age_removes_the_oldest(
    #[values(Kind::Memory, Kind::Sqlite, Kind::Reader, Kind::Postgres)] kind: Kind,
) {
    let (store, _dir) = make(kind);
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    scenario.lines(1, &["old", "older"], 2);
    scenario.end(1, CloseReason::PeerClosed, 0);
    scenario.open(2);
    scenario.lines(2, &["old too"], 1);
    scenario.now += 1_000_000;
    let now = scenario.now;
    scenario.lines(2, &["young"], 1);
    append(&*store, &mut scenario).await;

    let retention = Retention {
        age: Some(500_000),
        bytes: None,
    };
    assert_eq!(
        store
            .prune(
                Retention {
                    age: None,
                    bytes: None
                },
                now
            )
            .await
            .unwrap(),
        0
    );
    assert_eq!(store.prune(retention, now).await.unwrap(), 3);
    assert_eq!(store.prune(retention, now).await.unwrap(), 0);
    assert_eq!(
        all(&*store, "").await,
        scenario.expected(|seen| seen.at > now)
    );
    assert_eq!(
        (count(&*store, "").await, count(&*store, "conv:2").await),
        (1, 1)
    );
    assert!(
        store.conversation(1).await.unwrap().is_none(),
        "it has no exchanges left"
    );
    assert!(store.conversation(2).await.unwrap().is_some());

    // Ids are not reused after pruning.
    assert_eq!(store.prune(retention, now + 10_000_000).await.unwrap(), 1);
    assert_eq!(count(&*store, "").await, 0);
    let last = Last {
        exchange: scenario.last_id,
        conversation: 2,
    };
    assert_eq!(store.last().await.unwrap(), last);
    scenario.end(2, CloseReason::PeerClosed, 0);
    append(&*store, &mut scenario).await;
    store.prune(retention, now + 10_000_000).await.unwrap();
    assert!(store.conversation(2).await.unwrap().is_none());
}

#[rstest]
#[tokio::test]
async fn pruning_by_size_removes_the_oldest(
    #[values(Kind::Memory, Kind::Sqlite, Kind::Reader, Kind::Postgres)] kind: Kind,
) {
    let (store, _dir) = make(kind);
    let mut scenario = Scenario::after(0);
    let line = "x".repeat(10_000);
    for conversation in 1..=200 {
        scenario.open(conversation);
        scenario.lines(conversation, &[&line], 1);
        scenario.end(conversation, CloseReason::PeerClosed, 0);
    }
    append(&*store, &mut scenario).await;
    let retention = Retention {
        age: None,
        bytes: Some(2_000_000),
    };
    let mut pruned = 0;
    loop {
        match store.prune(retention, NOON).await.unwrap() {
            0 => break,
            some => pruned += some,
        }
    }
    let left = all(&*store, "").await;
    assert!((60..=100).contains(&left.len()), "{} are left", left.len());
    assert_eq!(
        left,
        scenario.exchanges[scenario.exchanges.len() - left.len()..]
    );
    assert_eq!(
        (left.len() as u64 + pruned, count(&*store, "").await),
        (200, left.len() as u64)
    );
    assert!(store.conversation(1).await.unwrap().is_none());
    assert!(store.conversation(200).await.unwrap().is_some());
}

#[rstest]
#[tokio::test]
async fn bytes_that_made_no_message_are_returned_and_pruned_with_their_conversation(
    #[values(Kind::Memory, Kind::Sqlite, Kind::Reader, Kind::Postgres)] kind: Kind,
) {
    let (store, _dir) = make(kind);
    let mut scenario = Scenario::after(0);
    let long = vec![0xff; 5_000];
    for (id, bytes) in [(1, &b"\xff\xffab"[..]), (2, &long), (3, b"")] {
        scenario.open(id);
        scenario.lines(id, &["a"], 1);
        scenario.end_inside(id, bytes);
    }
    append(&*store, &mut scenario).await;
    let mut left = Vec::new();
    for id in 1..=3 {
        let conversation = store.conversation(id).await.unwrap().unwrap();
        left.push(conversation.conversation.ended.unwrap().1.left_over);
    }
    let short = left[0].as_ref().unwrap();
    assert_eq!((short.total, short.claimed), (4, Some(65_535)));
    assert_eq!(short.bytes, b"\xff\xffab");
    let cut = left[1].as_ref().unwrap();
    assert_eq!((cut.total, cut.bytes.len()), (5_000, 4_096));
    assert_eq!(left[2], None);
    let page = ConversationPage {
        order: Order::OldestFirst,
        beyond: None,
        limit: 9,
        now: NOON,
        without_exchanges: false,
    };
    let found = store.conversations(&filter("conv:1"), page).await.unwrap();
    let listed = &found.conversations[0].conversation;
    let ending = &listed.ended.as_ref().unwrap().1;
    assert_eq!(ending.left_over, left[0]);
}

#[rstest]
#[tokio::test]
async fn what_tls_agreed_on_is_returned_and_found(
    #[values(Kind::Memory, Kind::Sqlite, Kind::Reader)] kind: Kind,
) {
    let (store, _dir) = make(kind);
    let mut scenario = Scenario::after(0);
    let text = |text: &str| Some(text.to_owned());
    let agreed = TlsInfo {
        version: text("1.3"),
        cipher: text("TLS13_AES_256_GCM_SHA384"),
        sni: text("db.example"),
        alpn: text("echo/1"),
        client: Some(ClientCertificate {
            subject: "CN=alice".to_owned(),
            sha256: "ab".repeat(32),
        }),
        failure: None,
    };
    let failed = TlsInfo {
        failure: text("no cipher suite in common"),
        ..TlsInfo::default()
    };
    let both = [Some(agreed), Some(failed), None];
    for (id, tls) in (1..).zip(&both) {
        scenario.open_with(id, "tls:5443", tls.clone());
        scenario.lines(id, &["a"], 1);
    }
    append(&*store, &mut scenario).await;
    for (id, tls) in (1..).zip(&both) {
        let found = store.conversation(id).await.unwrap().unwrap();
        assert_eq!(found.conversation.tls.as_deref(), tls.as_ref());
    }
    for (text, found) in [
        ("sni:DB.Example", 1),
        ("sni:other", 0),
        ("tls:1.3", 1),
        ("tls:tls13_aes_256_gcm_sha384,1.2", 1),
        ("-tls:1.3", 2),
        ("tls:1.2", 0),
    ] {
        assert_eq!(count(&*store, text).await, found, "{text}");
    }
}

#[rstest]
#[tokio::test]
async fn appends_stay_within_the_size_of_the_last_retention(
    #[values(Kind::Memory, Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (store, _dir) = make(kind);
    let limit = 2 << 20;
    let retention = Retention {
        age: None,
        bytes: Some(limit),
    };
    store.prune(retention, NOON).await.unwrap();
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    let line = "x".repeat(500);
    for _ in 0..100 {
        for _ in 0..100 {
            scenario.exchange(1, Outcome::Ok, line.as_bytes(), line.as_bytes());
        }
        store.append(scenario.take()).await.unwrap();
        let bytes = store.stats().await.unwrap().bytes;
        assert!(bytes <= limit + limit / 10, "{bytes} bytes");
    }
}

#[tokio::test]
async fn memory_store_prunes_itself() {
    let store = MemoryStore::new(100_000);
    let mut scenario = Scenario::after(0);
    for conversation in 1..=1_000 {
        scenario.open(conversation);
        scenario.lines(conversation, &["hello"; 20], 20);
        scenario.end(conversation, CloseReason::PeerClosed, 0);
        append(&store, &mut scenario).await;
    }
    let left = all(&store, "").await;
    assert!(
        (1_500..10_000).contains(&left.len()),
        "{} are left",
        left.len()
    );
    assert_eq!(
        left,
        scenario.exchanges[scenario.exchanges.len() - left.len()..]
    );
    assert!(store.conversation(1).await.unwrap().is_none());
}

/// A step of a random scenario.
#[derive(Clone, Debug)]
enum Step {
    Lines(u64, Vec<&'static str>, usize),
    Greet(u64),
    End(u64, u64),
    Append,
}

fn step() -> impl Strategy<Value = Step> {
    let word = prop::sample::select(vec!["a", "", "bb", "needle", "c c"]);
    let talk = 1..5_u64;
    prop_oneof![
        6 => (talk.clone(), prop::collection::vec(word, 1..6), 0..7_usize)
            .prop_map(|(talk, lines, answered)| Step::Lines(talk, lines, answered)),
        1 => talk.clone().prop_map(Step::Greet),
        1 => (talk, 0..5_u64).prop_map(|(talk, unsent)| Step::End(talk, unsent)),
        2 => Just(Step::Append),
    ]
}

/// Returns the conversations of a random scenario: id, number of exchanges, and whether it has ended.
fn expected_conversations(scenario: &Scenario, ended: &[u64]) -> Vec<(u64, u64, bool)> {
    let exchanges = |talk| scenario.expected(|seen| seen.conversation == talk).len() as u64;
    (1..5)
        .map(|talk| (talk, exchanges(talk), ended.contains(&talk)))
        .collect()
}

/// Tags every seventh exchange and conversation 3, and writes a note on every fifth exchange.
fn label_some(runtime: &tokio::runtime::Runtime, stores: &[&dyn Store], last: u64) {
    let every =
        |n: u64, from: u64| Labelled::Exchanges((from..=last).step_by(n as usize).collect());
    let tag = |of| LabelChange {
        of,
        add: vec!["bug".into()],
        remove: vec![],
        note: None,
    };
    let note = LabelChange {
        of: every(5, 1),
        add: vec![],
        remove: vec![],
        note: Some(Some("Look at this".into())),
    };
    for store in stores {
        for change in [
            tag(every(7, 3)),
            tag(Labelled::Conversation(3)),
            note.clone(),
        ] {
            runtime.block_on(store.label(change)).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// All stores return the same as a plain list, for any events, filter and position.
    #[test]
    fn stores_agree_with_a_reference_list(
        steps in prop::collection::vec(step(), 0..30),
        limit in 1..9_usize,
        beyond in 0..60_u64,
        text in prop::sample::select(vec![
            "", "needle", "conv:2", "-conv:2..3", "id:5..30", "is:ok", "is:unsent", "bb conv:1",
            "tag:bug", "-tag:bug", "note:look needle", "needle THEN req:bb", "is:ok THEN tag:bug", "is:ok THEN needle THEN id:9..",
        ]),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (memory, _) = make(Kind::Memory);
        let (sqlite, _dir) = make(Kind::Sqlite);
        let (reader, _reader_dir) = make(Kind::Reader);
        let (postgres, _) = make(Kind::Postgres);
        let (mut scenario, mut ended) = (Scenario::after(0), Vec::new());
        for talk in 1..5 {
            scenario.open(talk);
        }
        let append_all = |scenario: &mut Scenario| runtime.block_on(async {
            let batches = scenario.take();
            for store in [&memory, &sqlite, &reader, &postgres] {
                store.append(batches.clone()).await.unwrap();
            }
        });
        for step in steps {
            match step {
                Step::Append => append_all(&mut scenario),
                Step::Lines(talk, ..) | Step::Greet(talk) | Step::End(talk, _) if ended.contains(&talk) => {}
                Step::Lines(talk, lines, answered) => {
                    let answered = answered.min(lines.len());
                    scenario.lines(talk, &lines, answered);
                }
                Step::Greet(talk) => scenario.exchange(talk, Outcome::Ok, b"", b"welcome"),
                Step::End(talk, unsent) => {
                    let reply_bytes: usize = scenario.exchanges.iter().filter(|s| s.conversation == talk).map(|s| s.reply.len()).sum();
                    scenario.end(talk, CloseReason::PeerReset, unsent.min(reply_bytes as u64));
                    ended.push(talk);
                }
            }
        }
        append_all(&mut scenario);
        label_some(&runtime, &[&*memory, &*sqlite, &*reader, &*postgres], scenario.last_id);
        let is_needle = |seen: &Seen| seen.request.starts_with(b"needle");
        let is_ok = |seen: &Seen| seen.outcome == Outcome::Ok;
        let has_bug = |seen: &Seen| seen.id % 7 == 3 || seen.conversation == 3;
        let follows = |seen: &Seen, before: &dyn Fn(&Seen) -> bool| {
            scenario.exchanges.iter().any(|b| b.conversation == seen.conversation && b.n < seen.n && before(b))
        };
        let predicate = |seen: &Seen| match text {
            "tag:bug" => has_bug(seen),
            "-tag:bug" => !has_bug(seen),
            "note:look needle" => seen.id % 5 == 1 && is_needle(seen),
            "needle THEN req:bb" => seen.request.starts_with(b"bb") && follows(seen, &is_needle),
            "is:ok THEN tag:bug" => has_bug(seen) && follows(seen, &is_ok),
            "is:ok THEN needle THEN id:9.." => seen.id >= 9 && follows(seen, &|b| is_needle(b) && follows(b, &is_ok)),
            "" => true,
            "needle" => seen.request.starts_with(b"needle"),
            "conv:2" => seen.conversation == 2,
            "-conv:2..3" => !(2..=3).contains(&seen.conversation),
            "id:5..30" => (5..=30).contains(&seen.id),
            "is:ok" => seen.outcome == Outcome::Ok,
            "is:unsent" => seen.outcome == Outcome::Unsent,
            _ => seen.request.starts_with(b"bb") && seen.conversation == 1,
        };
        let expected = scenario.expected(predicate);
        for store in [&memory, &sqlite, &reader, &postgres] {
            runtime.block_on(async {
                assert_eq!(pages(&**store, text, Order::OldestFirst, limit).await, expected);
                let mut newest = pages(&**store, text, Order::NewestFirst, limit).await;
                newest.reverse();
                assert_eq!(newest, expected);
                assert_eq!(count(&**store, text).await, expected.len() as u64);
                assert_eq!(listed(&**store, "", Order::OldestFirst, limit).await, expected_conversations(&scenario, &ended));
                for order in [Order::OldestFirst, Order::NewestFirst] {
                    let page = Page { order, beyond: Some(beyond), until: None, limit: 1_000, now: NOON };
                    let found = store.find(&filter(text), page).await.unwrap();
                    let mut expected = expected.clone();
                    expected.retain(|seen| match order {
                        Order::OldestFirst => seen.id > beyond,
                        Order::NewestFirst => seen.id < beyond,
                    });
                    if order == Order::NewestFirst {
                        expected.reverse();
                    }
                    assert_eq!(scenario::seen(&found), expected);
                }
            });
        }
    }
}
