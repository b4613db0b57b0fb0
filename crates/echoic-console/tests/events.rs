//! The stream of live events, over real connections.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep},
};

use crate::common::{
    Kind, Options, Site,
    stream::{Event, EventStream},
};

impl Site {
    async fn events(&self, query: &str) -> EventStream {
        EventStream::open(self.console, query, None).await
    }
}

/// Lines of a conversation.
fn lines(count: usize) -> Vec<String> {
    (1..=count).map(|n| format!("line {n}\n")).collect()
}

/// Sends lines over one connection, many at a time, and waits for all replies.
async fn pour(site: &Site, count: usize) {
    let peer = TcpStream::connect(site.endpoint).await.unwrap();
    let (mut receive, mut send) = peer.into_split();
    let text = lines(count).concat();
    let expected = text.len();
    let sending = tokio::spawn(async move {
        send.write_all(text.as_bytes()).await.unwrap();
        send
    });
    let mut replies = vec![0; expected];
    receive.read_exact(&mut replies).await.unwrap();
    drop(sending.await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_begins_with_hello_and_ends_with_bye() {
    let site = Site::new(Kind::Memory).await;
    site.talk(&["one\n"]).await;
    let mut events = site.events("").await;
    let hello = events.next().await.unwrap();
    assert_eq!(hello.name, "hello");
    assert_eq!(
        (hello.count("v"), hello.count("seq"), events.id),
        (1, 1, Some(1))
    );
    assert_eq!(hello.data["instance"].as_str().unwrap().len(), 16);
    assert_eq!(
        (&hello.data["version"], &hello.data["readonly"]),
        (&json!("0.1.0"), &json!(false))
    );
    let stopping = tokio::spawn(site.stop());
    events.next_named("bye").await;
    assert!(events.next().await.is_none());
    stopping.await.unwrap();
}

/// Everything that one conversation causes, in the process of the server and in another.
#[tokio::test(flavor = "multi_thread")]
async fn conversation_is_seen_from_its_opening_to_its_end() {
    for owns in [true, false] {
        let options = Options {
            owns,
            ..Options::of(Kind::Sqlite)
        };
        let site = Site::with(options).await;
        let mut events = site.events("").await;
        let mut peer = TcpStream::connect(site.endpoint).await.unwrap();
        peer.write_all(b"hello\n").await.unwrap();
        let opened = events
            .until("conversations", |event| event.data["opened"][0].is_object())
            .await;
        let opened = &opened.data["opened"][0];
        assert_eq!(
            (&opened["state"], &opened["svc"]),
            (&json!("open"), &json!("upper"))
        );
        let mut batch = None;
        let mut half = false;
        peer.shutdown().await.unwrap();
        let mut rest = String::new();
        peer.read_to_string(&mut rest).await.unwrap();
        let ended_half = loop {
            let event = events.next().await.unwrap();
            match event.name.as_str() {
                "batch" => batch = Some(event),
                "conversations" => {
                    half |= event.data["half"][0]["conv"] == opened["conv"];
                    if event.data["ended"][0].is_object() {
                        let ended = &event.data["ended"][0];
                        assert_eq!(
                            (&ended["conv"], &ended["reason"]),
                            (&opened["conv"], &json!("peer-closed"))
                        );
                        assert_eq!(
                            (&ended["received"], &ended["exchanges"]),
                            (&json!(6), &json!(1))
                        );
                        break ended["half_us"].clone();
                    }
                }
                _ => {}
            }
        };
        let batch = match batch {
            Some(batch) => batch,
            None => events.next_named("batch").await,
        };
        assert_eq!(
            half,
            !ended_half.is_null(),
            "the half-close, if it is recorded"
        );
        assert_eq!((batch.ids(), batch.count("more")), (vec![1], 0));
        assert_eq!(
            (batch.count("first"), batch.count("last"), events.id),
            (1, 1, Some(1))
        );
        let exchange = &batch.data["exchanges"][0];
        assert_eq!(
            exchange["rep"],
            json!({"len": 6, "text": "HELLO\n", "writes": 1})
        );
        let listed = site.get("/api/v1/exchanges/1").await.ok(200);
        assert_eq!(*exchange, listed, "the same object as that of the list");
        site.stop().await;
    }
}

/// What a stream has, by its own account.
#[derive(Debug, Default)]
struct Account {
    listed: Vec<u64>,
    more: u64,
    gap: u64,
    ticks: u64,
}

impl Account {
    fn add(&mut self, event: &Event) {
        match event.name.as_str() {
            "batch" => {
                self.listed.extend(event.ids());
                self.more += event.count("more");
                assert!(event.ids().len() <= 100);
            }
            "gap" => self.gap += event.count("n"),
            "tick" => self.ticks += event.count("exchanges"),
            _ => {}
        }
    }

    fn total(&self) -> u64 {
        self.listed.len() as u64 + self.more + self.gap
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exchanges_in_batches_and_more_add_up_to_those_served() {
    for (kind, owns) in [
        (Kind::Memory, true),
        (Kind::Sqlite, true),
        (Kind::Sqlite, false),
    ] {
        let site = Site::with(Options {
            owns,
            ..Options::of(kind)
        })
        .await;
        let mut events = site.events("").await;
        let mut account = Account::default();
        for count in [1, 700, 5_000, 3] {
            pour(&site, count).await;
        }
        while account.total() < 5_704 || account.ticks < 5_704 {
            account.add(&events.next().await.unwrap());
        }
        let tick = events.next_named("tick").await;
        assert_eq!(
            (account.total(), account.ticks),
            (5_704, 5_704),
            "{account:?}"
        );
        let served = if owns { json!(5_704) } else { json!(null) };
        assert_eq!(tick.count("recorded"), 5_704);
        assert_eq!(tick.data["served"], served);
        assert_eq!(events.id, Some(5_704));
        let distinct: BTreeSet<_> = account.listed.iter().collect();
        assert_eq!(distinct.len(), account.listed.len(), "none twice");
        assert!(account.listed.is_sorted());
        site.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_subscriber_gets_what_its_filter_selects() {
    for owns in [true, false] {
        let site = Site::with(Options {
            owns,
            ..Options::of(Kind::Sqlite)
        })
        .await;
        let mut all = site.events("").await;
        let mut some = site.events("?q=req:apple").await;
        let mut none = site.events("?q=svc:echo").await;
        let mut after = site.events("?q=req:pear%20THEN%20req:plum").await;
        for events in [&mut all, &mut some, &mut none, &mut after] {
            assert_eq!(events.next().await.unwrap().name, "hello");
        }
        site.talk(&["pear\n", "apple\n", "plum\n", "apple pie\n"])
            .await;
        let mut seen = Vec::new();
        while seen.len() < 4 {
            seen.extend(all.next_named("batch").await.ids());
        }
        assert_eq!(seen, [1, 2, 3, 4]);
        let mut seen = Vec::new();
        while seen.len() < 2 {
            seen.extend(some.next_named("batch").await.ids());
        }
        assert_eq!(seen, [2, 4]);
        assert_eq!(after.next_named("batch").await.ids(), [3]);
        for _ in 0..2 {
            loop {
                let event = none.next().await.unwrap();
                assert!(
                    !["batch", "conversations", "gap"].contains(&event.name.as_str()),
                    "{event:?}"
                );
                if event.name == "tick" {
                    break;
                }
            }
        }
        site.stop().await;
    }
}

/// The connection is cut at any point, 50 times, while exchanges come; each is in exactly one event of the connections.
#[tokio::test(flavor = "multi_thread")]
async fn resumed_stream_neither_loses_nor_doubles_an_exchange() {
    for owns in [true, false] {
        let site = Site::with(Options {
            owns,
            ..Options::of(Kind::Sqlite)
        })
        .await;
        let (endpoint, console) = (site.endpoint, site.console);
        let talking = tokio::spawn(async move {
            let mut peer = TcpStream::connect(endpoint).await.unwrap();
            let mut reply = [0; 64];
            let started = Instant::now();
            let mut sent = 0;
            while started.elapsed() < Duration::from_secs(6) {
                peer.write_all(b"word\n").await.unwrap();
                assert_eq!(peer.read(&mut reply).await.unwrap(), 5);
                sent += 1;
                // A hundred a second at most: only a commit or a poll that is a second late has more than a batch lists.
                sleep(Duration::from_millis(10)).await;
            }
            sent
        });
        let mut last = Some(0);
        let mut account = Account::default();
        for cut in 0..50_u64 {
            let mut events = EventStream::open(console, "", last).await;
            let until = Instant::now() + Duration::from_millis(20 + cut * 37 % 190);
            while let Ok(event) = tokio::time::timeout_at(until, events.next()).await {
                account.add(&event.unwrap());
                last = events.id.or(last);
            }
        }
        let sent = talking.await.unwrap();
        let mut events = EventStream::open(console, "", last).await;
        while account.total() < sent {
            account.add(&events.next().await.unwrap());
        }
        sleep(Duration::from_millis(300)).await;
        let after = site.get("/api/v1/exchanges/count").await.ok(200);
        assert_eq!(
            (account.total(), after["count"].as_u64().unwrap()),
            (sent, sent)
        );
        assert_eq!((account.gap, account.more), (0, 0), "each is listed");
        let expected: Vec<_> = (1..=sent).collect();
        assert_eq!(account.listed, expected);
        site.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_resumes_from_the_store_or_reports_a_gap() {
    let site = Site::new(Kind::Sqlite).await;
    pour(&site, 1_200).await;
    let mut events = site.events("").await;
    events.next_named("hello").await;
    site.talk(&["last\n"]).await;
    events.next_named("batch").await;

    let mut resumed = site.events("?after=1000").await;
    assert_eq!(resumed.next().await.unwrap().count("seq"), 1_201);
    assert_eq!(resumed.id, Some(1_000));
    let mut account = Account::default();
    while account.total() < 201 {
        account.add(&resumed.next().await.unwrap());
    }
    let expected: Vec<_> = (1_001..=1_201).collect();
    assert_eq!(account.listed, expected);

    let mut behind = EventStream::open(site.console, "?after=1000", Some(1)).await;
    behind.next_named("hello").await;
    let gap = behind.next().await.unwrap();
    assert_eq!(
        (gap.name.as_str(), gap.data),
        ("gap", json!({"from": 2, "to": 1_201, "n": 1_200}))
    );
    assert_eq!(behind.id, Some(1_201));

    let mut filtered = site.events("?q=%22line%207%22&after=0").await;
    filtered.next_named("hello").await;
    assert_eq!(filtered.next().await.unwrap().ids().len(), 50);
    let wrong = site.get("/api/v1/events?q=nokey:x").await;
    assert!(wrong.problem(400).contains("nokey"));
    site.stop().await;
}

/// A reader that does not read keeps a bounded queue, delays nobody, and gets its gap once it reads.
#[tokio::test(flavor = "multi_thread")]
async fn slow_reader_gets_its_gap_and_delays_nobody() {
    let site = Site::new(Kind::Memory).await;
    let mut slow = site.events("").await;
    let mut quick = site.events("").await;
    quick.next_named("hello").await;
    let mut account = Account::default();
    let mut sent = 0;
    // Each byte takes six in JSON, so that the buffers of the system are full soon.
    let line = format!("{}\n", "\x01".repeat(100));
    for _ in 0..80 {
        let lines = [line.as_str(); 100].concat();
        assert_eq!(site.talk(&[&lines]).await.len(), lines.len());
        sent += 100;
        while account.total() < sent {
            account.add(&quick.next().await.unwrap());
        }
    }
    assert_eq!((account.total(), account.gap), (sent, 0));
    let mut late = Account::default();
    while late.total() < sent {
        late.add(&slow.next().await.unwrap());
    }
    assert_eq!(late.total(), sent);
    assert!(late.gap > 0, "it read all in time");
    let after = site.talk(&["after\n"]).await;
    assert_eq!(after, "AFTER\n");
    assert_eq!(slow.next_named("batch").await.ids(), [sent + 1]);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_by_requests_reach_the_stream() {
    let site = Site::new(Kind::Sqlite).await;
    let mut events = site.events("").await;
    events.next_named("hello").await;
    site.talk(&["one\n"]).await;
    site.patch("/api/v1/exchanges/1", r#"{"add":["seen"]}"#)
        .await
        .ok(200);
    let labels = events.next_named("labels").await;
    assert_eq!(labels.data, json!({"exchanges": [1], "conversation": null}));
    site.patch("/api/v1/endpoints/1", r#"{"state":"paused"}"#)
        .await
        .ok(200);
    let endpoint = events.next_named("endpoint").await;
    assert_eq!(
        (&endpoint.data["id"], &endpoint.data["state"]),
        (&json!(1), &json!("paused"))
    );
    site.patch("/api/v1/endpoints/1", r#"{"state":"open"}"#)
        .await
        .ok(200);
    assert_eq!(events.next_named("endpoint").await.data["state"], "open");
    assert_eq!(site.submit("/api/v1/explain", "{}").await.status, 202);
    site.talk(&["two\n"]).await;
    let explained = events.next_named("explain").await;
    let calls = explained.data["calls"].as_array().unwrap();
    assert!(
        calls
            .iter()
            .any(|call| call["call"].as_str().unwrap().starts_with("recv")),
        "{calls:?}"
    );
    site.stop().await;
}

/// A process that records nothing has no counters of what is served, waits or is lost.
#[tokio::test(flavor = "multi_thread")]
async fn tick_and_info_of_a_console_beside_a_server_are_null_where_it_has_no_counter() {
    for owns in [true, false] {
        let options = Options {
            owns,
            ..Options::of(Kind::Sqlite)
        };
        let site = Site::with(options).await;
        site.talk(&["one\n"]).await;
        let info = site.get("/api/v1/info").await.ok(200);
        assert_eq!(info["beside"], json!(!owns), "{info}");
        assert_eq!(info["recorder"].is_null(), !owns, "{info}");
        let mut events = site.events("").await;
        let tick = events.next_named("tick").await.data;
        assert_eq!(tick["beside"], json!(!owns), "{tick}");
        for key in ["served", "waiting", "lost"] {
            assert_eq!(tick[key].is_null(), !owns, "{key}: {tick}");
        }
        assert_eq!(
            (&tick["behind_us"], &tick["failing"]),
            (&json!(null), &json!(null))
        );
        assert_eq!(tick["recorded"], json!(1), "{tick}");
        site.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tick_has_the_figures_of_the_second() {
    let site = Site::new(Kind::Memory).await;
    let mut events = site.events("").await;
    events.next_named("tick").await;
    let mut peer = TcpStream::connect(site.endpoint).await.unwrap();
    let mut reply = [0; 64];
    for _ in 0..10 {
        peer.write_all(b"four\n").await.unwrap();
        assert_eq!(peer.read(&mut reply).await.unwrap(), 5);
    }
    let (mut exchanges, mut bytes) = (0, 0);
    let tick = loop {
        let tick = events.next_named("tick").await;
        exchanges += tick.count("exchanges");
        bytes += tick.count("received");
        if exchanges == 10 {
            break tick;
        }
    };
    assert_eq!(bytes, 50);
    assert!(tick.count("p50_ns") > 0 && tick.count("p99_ns") >= tick.count("p50_ns"));
    assert_eq!((tick.count("open"), tick.count("lost")), (1, 0));
    let endpoint = &tick.data["endpoints"][0];
    assert_eq!(
        (&endpoint["id"], &endpoint["open"], &endpoint["state"]),
        (&json!(1), &json!(1), &json!("open"))
    );
    let client = &tick.data["clients"][0];
    assert_eq!(
        (&client["peer"], &client["state"]),
        (
            &json!(peer.local_addr().unwrap().to_string()),
            &json!("open")
        )
    );
    let quiet = events.next_named("tick").await;
    assert_eq!(
        (quiet.count("exchanges"), &quiet.data["p50_ns"]),
        (0, &json!(null))
    );
    site.stop().await;
}
