//! The contract of what a store does beside recording and searching: it pages the messages of a conversation, labels, counts
//! over time, and deletes.

#![allow(
    clippy::unwrap_used,
    reason = "clippy does not recognize helpers in a test file as tests"
)]

mod scenario;

use std::collections::BTreeMap;

use echoic_core::{
    ending::CloseReason,
    event::{ConversationId, ExchangeId, Mark, Marked, Outcome},
    store::{
        Bucket, LabelChange, Labelled, Labels, Order, Page, Retention, Store, StoreErrorKind,
        TagCount,
    },
};
use rstest::rstest;
use scenario::{
    NOON, Scenario, Seen, all, count, filter,
    stores::{Kind, everything, make},
};

async fn append(store: &dyn Store, scenario: &mut Scenario) {
    store.append(scenario.take()).await.expect("stored");
}

fn change(of: Labelled) -> LabelChange {
    LabelChange {
        of,
        add: vec![],
        remove: vec![],
        note: None,
    }
}

fn tag(of: Labelled, tag: &str) -> LabelChange {
    LabelChange {
        add: vec![tag.to_owned()],
        ..change(of)
    }
}

fn exchanges(ids: &[ExchangeId]) -> Labelled {
    Labelled::Exchanges(ids.to_vec())
}

async fn ids(store: &dyn Store, text: &str) -> Vec<ExchangeId> {
    let found = all(store, text).await;
    assert_eq!(count(store, text).await, found.len() as u64, "{text}");
    found.iter().map(|seen| seen.id).collect()
}

#[rstest]
#[tokio::test]
async fn messages_are_paged_by_their_number(
    #[values(Kind::Memory, Kind::Sqlite, Kind::Reader, Kind::Postgres)] kind: Kind,
) {
    let (store, _dir) = make(kind);
    let mut scenario = everything();
    append(&*store, &mut scenario).await;
    for conversation in 1..=3 {
        let expected = scenario.expected(|seen| seen.conversation == conversation);
        for from_n in 0..=expected.len() as u64 + 2 {
            for limit in 0..4 {
                let page = store.messages(conversation, from_n, limit).await.unwrap();
                let page: Vec<Seen> = page.iter().map(Seen::from).collect();
                let mut wanted = expected.clone();
                wanted.retain(|seen| seen.n >= from_n);
                wanted.truncate(limit);
                assert_eq!(page, wanted, "conversation {conversation} from {from_n}");
            }
        }
    }
    for unknown in [9, u64::MAX] {
        assert!(store.messages(unknown, 1, 10).await.unwrap().is_empty());
    }
}

#[rstest]
#[tokio::test]
async fn marks_of_a_conversation_are_listed(
    #[values(Kind::Memory, Kind::Sqlite, Kind::Reader, Kind::Postgres)] kind: Kind,
) {
    let (store, _dir) = make(kind);
    let mut scenario = everything();
    append(&*store, &mut scenario).await;
    let marks = store.marks(3).await.unwrap();
    let [
        Mark {
            conversation: 3,
            at,
            what: Marked::HalfClosed { received: 7 },
        },
    ] = marks[..]
    else {
        panic!("{marks:?}");
    };
    let conversation = store.conversation(3).await.unwrap().unwrap().conversation;
    assert_eq!(conversation.half_closed, Some(at));
    assert!(store.marks(1).await.unwrap().is_empty());
    assert!(store.marks(u64::MAX).await.unwrap().is_empty());
}

#[rstest]
#[tokio::test]
async fn page_ends_at_the_id_until(
    #[values(Kind::Memory, Kind::Sqlite, Kind::Reader, Kind::Postgres)] kind: Kind,
) {
    let (store, _dir) = make(kind);
    let mut scenario = everything();
    append(&*store, &mut scenario).await;
    for until in 0..=scenario.last_id + 1 {
        for order in [Order::OldestFirst, Order::NewestFirst] {
            let page = Page {
                order,
                beyond: None,
                until: Some(until),
                limit: 1_000,
                now: NOON,
            };
            let found = store.find(&filter("e"), page).await.unwrap();
            assert_eq!(found.next, None);
            let mut found = scenario::seen(&found);
            found.sort_by_key(|seen| seen.id);
            let mut expected = all(&*store, "e").await;
            expected.retain(|seen| match order {
                Order::OldestFirst => seen.id <= until,
                Order::NewestFirst => seen.id >= until,
            });
            assert_eq!(found, expected, "{order:?} until {until}");
        }
    }
}

#[rstest]
#[tokio::test]
async fn labels_are_found_changed_and_removed(
    #[values(Kind::Memory, Kind::Sqlite, Kind::Reader, Kind::Postgres)] kind: Kind,
) {
    let (store, _dir) = make(kind);
    let mut scenario = everything();
    append(&*store, &mut scenario).await;
    let last = scenario.last_id;
    assert!(store.tags().await.unwrap().is_empty());
    assert!(ids(&*store, "tag:bug").await.is_empty());

    let labelled = store.label(tag(exchanges(&[2, 5, last + 1, u64::MAX]), "bug"));
    assert_eq!(labelled.await.unwrap(), 2, "those that are stored");
    let again = store.label(tag(exchanges(&[5]), "bug")).await.unwrap();
    assert_eq!(again, 1, "it had the tag");
    let note = LabelChange {
        add: vec!["a".into()],
        note: Some(Some("Look HERE".into())),
        ..change(exchanges(&[5]))
    };
    store.label(note).await.unwrap();
    assert_eq!(ids(&*store, "tag:bug").await, [2, 5]);
    assert_eq!(ids(&*store, "tag:bug -tag:a").await, [2]);
    assert_eq!(ids(&*store, "note:here").await, [5]);
    assert_eq!(ids(&*store, "tag:a,none OR id:1").await, [1, 5]);
    let found = store.messages(1, 1, 100).await.unwrap();
    let found = found.iter().find(|exchange| exchange.id == 5).unwrap();
    let expected = Labels {
        tags: vec!["a".into(), "bug".into()],
        note: Some("Look HERE".into()),
    };
    assert_eq!(found.labels, expected);
    assert_eq!(found.tags().collect::<Vec<_>>(), ["a", "bug"]);

    let conversation = tag(Labelled::Conversation(3), "bug");
    assert_eq!(store.label(conversation).await.unwrap(), 1);
    let unknown = tag(Labelled::Conversation(99), "bug");
    assert_eq!(store.label(unknown).await.unwrap(), 0);
    let of_three = scenario.expected(|seen| seen.conversation == 3 || [2, 5].contains(&seen.id));
    assert_eq!(all(&*store, "tag:bug").await, of_three);
    assert_eq!(
        store
            .conversation(3)
            .await
            .unwrap()
            .unwrap()
            .conversation
            .labels
            .tags,
        ["bug"]
    );
    let counts = |tag: &str, exchanges, conversations| TagCount {
        tag: tag.into(),
        exchanges,
        conversations,
    };
    assert_eq!(
        store.tags().await.unwrap(),
        [counts("a", 1, 0), counts("bug", 2, 1)]
    );

    let removal = LabelChange {
        remove: vec!["bug".into(), "a".into()],
        note: Some(None),
        ..change(exchanges(&[2, 5]))
    };
    assert_eq!(store.label(removal).await.unwrap(), 2);
    let removal = LabelChange {
        remove: vec!["bug".into()],
        ..change(Labelled::Conversation(3))
    };
    store.label(removal).await.unwrap();
    assert!(store.tags().await.unwrap().is_empty());
    assert!(ids(&*store, "tag:bug OR note:here").await.is_empty());
    assert_eq!(all(&*store, "").await, scenario.exchanges);
}

#[rstest]
#[tokio::test]
async fn invalid_labels_change_nothing(
    #[values(Kind::Memory, Kind::Sqlite, Kind::Reader, Kind::Postgres)] kind: Kind,
) {
    let (store, _dir) = make(kind);
    append(&*store, &mut everything()).await;
    let fill: Vec<String> = (0..Labels::TAGS_MAX).map(|i| format!("t{i}")).collect();
    let fill = LabelChange {
        add: fill,
        ..change(exchanges(&[2]))
    };
    store.label(fill).await.unwrap();
    let long = LabelChange {
        note: Some(Some("x".repeat(Labels::NOTE_BYTES_MAX + 1))),
        ..change(exchanges(&[1]))
    };
    for invalid in [
        tag(exchanges(&[1]), "two words"),
        long,
        tag(exchanges(&[1, 2]), "more"),
    ] {
        let error = store.label(invalid.clone()).await.unwrap_err();
        assert!(
            matches!(error.kind, StoreErrorKind::InvalidLabel { .. }),
            "{error}"
        );
    }
    assert_eq!(
        store.messages(2, 1, 1).await.unwrap()[0].labels,
        Labels::default()
    );
    assert_eq!(store.tags().await.unwrap().len(), Labels::TAGS_MAX);
    append(&*store, &mut Scenario::after(100)).await;
}

#[rstest]
#[tokio::test]
async fn labels_are_pruned_with_what_they_are_on(
    #[values(Kind::Memory, Kind::Sqlite, Kind::Reader, Kind::Postgres)] kind: Kind,
) {
    let (store, _dir) = make(kind);
    let mut scenario = everything();
    append(&*store, &mut scenario).await;
    let last = scenario.last_id;
    store
        .label(tag(exchanges(&[1, 3, last]), "x"))
        .await
        .unwrap();
    store
        .label(tag(Labelled::Conversation(2), "x"))
        .await
        .unwrap();
    let retention = Retention {
        age: Some(1),
        bytes: None,
    };
    let now = scenario.exchanges.last().unwrap().at + 1;
    while store.prune(retention, now).await.unwrap() > 0 {}
    assert_eq!(ids(&*store, "tag:x").await, [last]);
    let left = TagCount {
        tag: "x".into(),
        exchanges: 1,
        conversations: 0,
    };
    assert_eq!(store.tags().await.unwrap(), [left]);
}

#[rstest]
#[tokio::test]
async fn series_counts_what_the_filter_selects(
    #[values(Kind::Memory, Kind::Sqlite, Kind::Reader, Kind::Postgres)] kind: Kind,
    #[values("", "needle", "conv:3", "is:unsent", "size:>12", "is:ok THEN size:>12")] text: &str,
) {
    let (store, _dir) = make(kind);
    let mut scenario = everything();
    append(&*store, &mut scenario).await;
    let (first, last) = (NOON + 4, NOON + 13);
    for step in [1, 3, 1_000_000] {
        let mut expected: BTreeMap<(i64, String, Outcome), Bucket> = BTreeMap::new();
        let found = all(&*store, text).await;
        for seen in found.iter().filter(|seen| (first..last).contains(&seen.at)) {
            let at = first + (seen.at - first) / step * step;
            let bucket = expected
                .entry((at, seen.endpoint_info.clone(), seen.outcome))
                .or_default();
            bucket.exchanges += 1;
            bucket.request_bytes += seen.request.len() as u64;
            bucket.reply_bytes += seen.reply.len() as u64;
            bucket.latencies.add(seen.latency_ns, 1);
        }
        let series = store
            .series(&filter(text), first..last, step, NOON)
            .await
            .unwrap();
        let counted: BTreeMap<_, _> = series
            .buckets
            .into_iter()
            .map(|(key, bucket)| ((key.at, key.endpoint, key.outcome), bucket))
            .collect();
        assert_eq!(counted, expected, "{text} in steps of {step}");
    }
}

#[rstest]
#[tokio::test]
async fn delete_removes_the_confirmed_exchanges_alone(
    #[values(Kind::Memory, Kind::Sqlite, Kind::Postgres)] kind: Kind,
    #[values(
        "",
        "needle",
        "conv:3",
        "id:4..6",
        "is:ok",
        "n:2..3",
        "req:o THEN req:e"
    )]
    text: &str,
) {
    let (store, _dir) = make(kind);
    let mut scenario = everything();
    append(&*store, &mut scenario).await;
    let everything: Vec<ExchangeId> = (1..=scenario.last_id).collect();
    store.label(tag(exchanges(&everything), "x")).await.unwrap();
    let found = all(&*store, text).await;
    let number = found.len() as u64;
    assert!(number > 0, "{text}");
    for wrong in [0, number - 1, number + 1] {
        if wrong != number {
            let refused = store.delete(&filter(text), wrong, NOON).await.unwrap();
            assert_eq!(refused, number);
            assert_eq!(
                all(&*store, "").await,
                scenario.exchanges,
                "nothing is deleted"
            );
        }
    }
    let deleted = store.delete(&filter(text), number, NOON).await.unwrap();
    assert_eq!(deleted, number);
    let left = scenario.expected(|seen| found.iter().all(|gone| gone.id != seen.id));
    assert_eq!(all(&*store, "").await, left, "{text}");
    assert_eq!(all(&*store, "tag:x").await, left);
    assert_eq!(count(&*store, "").await, left.len() as u64);
    let tagged: u64 = store
        .tags()
        .await
        .unwrap()
        .iter()
        .map(|tag| tag.exchanges)
        .sum();
    assert_eq!(tagged, left.len() as u64);
    for conversation in 1..=3 {
        let has_left = left.iter().any(|seen| seen.conversation == conversation);
        let is_open = conversation == 1;
        let known = store.conversation(conversation).await.unwrap();
        assert_eq!(
            known.is_some(),
            has_left || is_open,
            "conversation {conversation}"
        );
    }
    // Ids are not given again.
    scenario.lines(1, &["after"], 1);
    append(&*store, &mut scenario).await;
    assert_eq!(store.last().await.unwrap().exchange, scenario.last_id);
}

#[rstest]
#[tokio::test]
async fn sequence_is_searched_across_chunks_and_conversations(
    #[values(Kind::Memory, Kind::Sqlite, Kind::Reader, Kind::Postgres)] kind: Kind,
) {
    let (store, _dir) = make(kind);
    let mut scenario = Scenario::after(0);
    let conversations: Vec<ConversationId> = (1..=40).collect();
    for id in &conversations {
        scenario.open(*id);
        if id % 2 == 0 {
            scenario.lines(*id, &["login"], 1);
        }
    }
    // Conversation 42 makes a later chunk read from before where 41 was read to: nothing of 41 may count twice.
    scenario.open(41);
    scenario.lines(41, &["xyzzy"], 1);
    scenario.lines(41, &["zebra"], 1);
    scenario.open(42);
    scenario.lines(42, &["xyzzy", "xyzzy"], 2);
    for round in 0..1_200 {
        for id in &conversations {
            let line = if (round + id) % 500 == 0 {
                "ERROR"
            } else {
                "work"
            };
            scenario.lines(*id, &[line], 1);
        }
    }
    scenario.lines(41, &["zebra"], 1);
    scenario.lines(42, &["zebra"], 1);
    scenario.end(2, CloseReason::PeerClosed, 0);
    append(&*store, &mut scenario).await;
    assert!(scenario.last_id > 40_000, "more than two chunks");
    let expected: Vec<Seen> =
        scenario.expected(|seen| seen.request == b"ERROR\n" && seen.conversation % 2 == 0);
    assert_eq!(all(&*store, "req:login THEN rep:ERROR").await, expected);
    let newest = scenario::pages(&*store, "req:login THEN rep:ERROR", Order::NewestFirst, 7).await;
    assert_eq!(newest.into_iter().rev().collect::<Vec<_>>(), expected);
    let twice = all(&*store, "req:xyzzy THEN req:xyzzy THEN req:zebra").await;
    assert_eq!(twice.len(), 1);
    assert_eq!(twice[0].conversation, 42);
    assert_eq!(
        count(&*store, "rep:ERROR THEN rep:ERROR").await,
        scenario.expected(|seen| seen.request == b"ERROR\n").len() as u64 - 40
    );
}
