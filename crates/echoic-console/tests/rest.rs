//! The REST API of a running server, with each store.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::sleep,
};

use crate::common::{Kind, Options, Site, client::Connection};

const KINDS: [Kind; 2] = [Kind::Memory, Kind::Sqlite];

fn ids(page: &Value, list: &str, key: &str) -> Vec<u64> {
    let list = page[list].as_array().unwrap();
    list.iter().map(|one| one[key].as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn exchanges_are_listed_in_pages_both_ways() {
    for kind in KINDS {
        let site = Site::new(kind).await;
        site.talk(&["one\n", "two\n", "three\n", "four\n", "five\n"])
            .await;
        let page = site.get("/api/v1/exchanges?limit=2").await.ok(200);
        assert_eq!(ids(&page, "exchanges", "id"), [5, 4]);
        assert_eq!(page["next"], 4);
        assert_eq!(page["searched"], json!({"to": 4, "left": 3, "done": true}));
        let page = site.get("/api/v1/exchanges?limit=3&before=4").await.ok(200);
        assert_eq!(ids(&page, "exchanges", "id"), [3, 2, 1]);
        assert_eq!(page["next"], Value::Null);
        let page = site.get("/api/v1/exchanges?limit=2&after=1").await.ok(200);
        assert_eq!(ids(&page, "exchanges", "id"), [2, 3]);
        assert_eq!(page["next"], 3);
        let page = site.get("/api/v1/exchanges?q=rep:FOUR").await.ok(200);
        assert_eq!(ids(&page, "exchanges", "id"), [4]);
        assert_eq!(page["exchanges"][0]["rep"]["text"], "FOUR\n");
        let page = site
            .get("/api/v1/exchanges?q=sort:id%20limit:1")
            .await
            .ok(200);
        assert_eq!(ids(&page, "exchanges", "id"), [1]);
        let cut = site
            .get("/api/v1/exchanges?q=three&preview=2")
            .await
            .ok(200);
        let request = json!({"len": 6, "text": "th", "reads": 1, "cut": true});
        assert_eq!(cut["exchanges"][0]["req"], request);
        let nothing = site.get("/api/v1/exchanges?q=nothing").await.ok(200);
        let end =
            json!({"exchanges": [], "next": null, "searched": {"to": 1, "left": 0, "done": true}});
        assert_eq!(nothing, end);
        site.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_exchange_is_found_by_id_and_as_the_latest() {
    for kind in KINDS {
        let site = Site::new(kind).await;
        site.talk(&["one\n", "two\n"]).await;
        let one = site.get("/api/v1/exchanges/1").await.ok(200);
        assert_eq!(
            (&one["req"]["text"], &one["rep"]["text"]),
            (&"one\n".into(), &"ONE\n".into())
        );
        let latest = site.get("/api/v1/exchanges/latest").await.ok(200);
        assert_eq!(latest["id"], 2);
        let latest = site.get("/api/v1/exchanges/latest?q=one").await.ok(200);
        assert_eq!(latest["id"], 1);
        site.get("/api/v1/exchanges/latest?q=three")
            .await
            .problem(404);
        let count = site
            .get("/api/v1/exchanges/count?q=svc:upper")
            .await
            .ok(200);
        assert_eq!(count, json!({"count": 2}));
        let why = site.get("/api/v1/exchanges/7").await.problem(404);
        assert!(why.contains("exchange 7"), "{why}");
        site.get("/api/v1/exchanges/seven").await.problem(404);
        site.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_named() {
    let site = Site::new(Kind::Memory).await;
    for (target, expected) in [
        (
            "/api/v1/exchanges?Q=1",
            "unknown parameter \"Q\": expected one of after, before",
        ),
        (
            "/api/v1/info?q=1",
            "unknown parameter \"q\": this route has no parameters",
        ),
        (
            "/api/v1/exchanges/1?preview=1",
            "this route has no parameters",
        ),
        (
            "/api/v1/exchanges?limit=0",
            "invalid limit: expected 1 to 1000",
        ),
        ("/api/v1/exchanges?limit=x", "limit: invalid digit"),
        (
            "/api/v1/exchanges?limit=1&limit=2",
            "duplicate field `limit`",
        ),
        ("/api/v1/exchanges?before=1&after=2", "two directions"),
        ("/api/v1/exchanges?q=sort:lat", "pages go by id"),
        ("/api/v1/exchanges?budget=1h", "invalid budget"),
        ("/api/v1/exchanges?preview=all", "invalid preview"),
        ("/api/v1/exchanges/wait?timeout=11m", "invalid timeout"),
        (
            "/api/v1/exchanges/wait?timeout=soon",
            "timeout: invalid duration",
        ),
        ("/api/v1/conversations/1/bytes", "missing field `dir`"),
        ("/api/v1/export?format=xml", "unknown variant `xml`"),
    ] {
        let why = site.get(target).await.problem(400);
        assert!(why.contains(expected), "{target}: {why}");
    }
    let problem = site
        .get("/api/v1/exchanges?q=rep:x%20per:10.0.0.1")
        .await
        .ok(400);
    assert_eq!(
        (&problem["column"], &problem["suggestion"]),
        (&7.into(), &"peer:".into())
    );
    for (target, body, expected) in [
        (
            "/api/v1/send",
            r#"{"endpoint":1,"mesages":[]}"#,
            "unknown field `mesages`",
        ),
        (
            "/api/v1/send",
            r#"{"endpoint":1,"messages":[]}"#,
            "invalid messages",
        ),
        (
            "/api/v1/send",
            r#"{"messages":[{"text":"a"}]}"#,
            "expected endpoint or target",
        ),
        (
            "/api/v1/send",
            r#"{"endpoint":1,"messages":[{"text":"a","hex":"61"}]}"#,
            "in one form",
        ),
        (
            "/api/v1/send",
            r#"{"endpoint":1,"messages":[{"hex":"6"}]}"#,
            "invalid hex",
        ),
        (
            "/api/v1/send",
            r#"{"endpoint":1,"messages":[{"text":"a"}],"repeat":10001}"#,
            "invalid messages",
        ),
        (
            "/api/v1/send",
            r#"{"endpoint":1,"messages":[{"text":"a"}],"wait":"2m"}"#,
            "invalid wait",
        ),
        (
            "/api/v1/send",
            r#"{"endpoint":1,"messages":[{"text":"a"}],"frame":"lines"}"#,
            "invalid framing",
        ),
        (
            "/api/v1/conversations/1/close",
            r#"{"how":"kill"}"#,
            "unknown variant `kill`",
        ),
        ("/api/v1/explain", "[", "invalid body"),
    ] {
        let why = site.submit(target, body).await.problem(400);
        assert!(why.contains(expected), "{target} {body}: {why}");
    }
    for (body, expected) in [
        (r#"{"add":["two words"]}"#, "invalid tag"),
        (r#"{"add":[""]}"#, "invalid tag"),
        ("{}", "nothing to change"),
        (r#"{"tags":["a"]}"#, "unknown field `tags`"),
    ] {
        let why = site.patch("/api/v1/exchanges/1", body).await.problem(400);
        assert!(why.contains(expected), "{body}: {why}");
    }
    // Longer than a login may be, and short enough to be sent before the answer.
    let long = format!("{{\"token\":\"{}\"}}", "x".repeat(8 << 10));
    site.submit("/api/v1/session", &long).await.problem(413);
    site.get("/api/v1/nothing").await.problem(404);
    site.client
        .request("DELETE", "/api/v1/info", None)
        .await
        .problem(405);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wait_ends_when_the_exchange_is_recorded() {
    for kind in KINDS {
        let site = Site::new(kind).await;
        site.talk(&["before\n"]).await;
        let known = site.get("/api/v1/exchanges/wait?q=before").await.ok(200);
        assert_eq!(ids(&known, "exchanges", "id"), [1]);
        let started = Instant::now();
        let late = site
            .get("/api/v1/exchanges/wait?q=before&after=1&timeout=200ms")
            .await;
        let why = late.problem(408);
        assert!(why.starts_with("0 of 1"), "{why}");
        assert!(started.elapsed() >= Duration::from_millis(200));
        let waiting = site.get("/api/v1/exchanges/wait?q=login&after=1&count=2&timeout=20s");
        let talking = async {
            sleep(Duration::from_millis(150)).await;
            site.talk(&["login a\n", "other\n"]).await;
            sleep(Duration::from_millis(150)).await;
            site.talk(&["login b\n"]).await;
        };
        let (waited, ()) = tokio::join!(waiting, talking);
        assert_eq!(ids(&waited.ok(200), "exchanges", "id"), [2, 4]);
        site.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wait_collects_at_most_16_mib() {
    let site = Site::new(Kind::Memory).await;
    let mut peer = TcpStream::connect(site.endpoint).await.unwrap();
    let line = format!("{}\n", "x".repeat(59_999));
    for _ in 0..150 {
        peer.write_all(line.as_bytes()).await.unwrap();
        peer.read_exact(&mut vec![0; line.len()]).await.unwrap();
    }
    let wait = "/api/v1/exchanges/wait?count=150&timeout=20s";
    let why = site.get(&format!("{wait}&preview=full")).await.problem(400);
    assert!(why.contains("ask for a smaller preview"), "{why}");
    let waited = site.get(wait).await.ok(200);
    assert_eq!(ids(&waited, "exchanges", "id").len(), 150);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_most_a_hundred_requests_wait() {
    let site = Site::new(Kind::Memory).await;
    let raw = format!(
        "GET /api/v1/exchanges/wait?timeout=30s HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\r\n",
        site.console,
        common::TOKEN
    );
    // Of 101, which of them arrives last is not known: the first that is answered.
    let mut waiting = JoinSet::new();
    for _ in 0..101 {
        let mut connection = Connection::new(site.console).await;
        connection.send(raw.as_bytes()).await;
        waiting.spawn(async move { (connection.receive("GET").await, connection) });
    }
    let (refused, _) = waiting.join_next().await.unwrap().unwrap();
    let why = refused.problem(429);
    assert!(why.starts_with("100 requests wait"), "{why}");
    waiting.shutdown().await;
    for _ in 0..1000 {
        let reply = site.get("/api/v1/exchanges/wait?timeout=0s").await;
        if reply.status == 408 {
            return site.stop().await;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("requests whose client is gone still wait");
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_are_listed_with_their_ends() {
    for kind in KINDS {
        let site = Site::new(kind).await;
        site.talk(&["one\n", "two\n"]).await;
        site.talk(&["three\n"]).await;
        site.conversation_with(2, "state", "ended").await;
        let page = site.get("/api/v1/conversations?limit=1").await.ok(200);
        assert_eq!(ids(&page, "conversations", "conv"), [2]);
        assert_eq!(page["next"], 2);
        let page = site.get("/api/v1/conversations?before=2").await.ok(200);
        assert_eq!(ids(&page, "conversations", "conv"), [1]);
        assert_eq!(page["next"], Value::Null);
        let with_exchange = site.get("/api/v1/conversations?q=req:two").await.ok(200);
        assert_eq!(ids(&with_exchange, "conversations", "conv"), [1]);
        let one = &with_exchange["conversations"][0];
        assert_eq!(
            (&one["end"], &one["reason"]),
            (&"fin".into(), &"peer-closed".into())
        );
        assert_eq!((&one["received"], &one["sent"]), (&8.into(), &8.into()));
        assert_eq!(
            (&one["exchanges"], &one["frame"]),
            (&2.into(), &"line".into())
        );
        let none = site
            .get("/api/v1/conversations?q=req:two%20end:rst")
            .await
            .ok(200);
        assert_eq!(ids(&none, "conversations", "conv"), [0_u64; 0]);
        site.get("/api/v1/conversations/9").await.problem(404);
        site.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn list_of_conversations_without_time_comes_in_parts() {
    for kind in KINDS {
        let site = Site::new(kind).await;
        for line in ["one\n", "two\n", "three\n"] {
            site.talk(&[line]).await;
        }
        site.conversation_with(3, "state", "ended").await;
        for (q, expected) in [("req:one", 1), ("role:server", 3)] {
            let (mut before, mut found) = (100, 0);
            for part in 0.. {
                assert!(part < 10, "without end");
                let target = format!("/api/v1/conversations?q={q}&budget=0ms&before={before}");
                let page = site.get(&target).await.ok(200);
                found += page["conversations"].as_array().unwrap().len();
                match page["next"].as_u64() {
                    Some(next) => before = next,
                    None => break,
                }
            }
            assert_eq!(found, expected, "{q}");
        }
        site.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_conversation_come_in_pages() {
    for kind in KINDS {
        let site = Site::new(kind).await;
        site.talk(&["one\n", "two\n", "three\n"]).await;
        site.talk(&["two\n"]).await;
        site.conversation_with(1, "state", "ended").await;
        let page = site
            .get("/api/v1/conversations/1/messages?limit=2")
            .await
            .ok(200);
        assert_eq!(ids(&page, "exchanges", "n"), [1, 2]);
        assert_eq!((&page["next"], &page["total"]), (&3.into(), &3.into()));
        let page = site
            .get("/api/v1/conversations/1/messages?from=3")
            .await
            .ok(200);
        assert_eq!(ids(&page, "exchanges", "n"), [3]);
        assert_eq!(page["next"], Value::Null);
        let page = site
            .get("/api/v1/conversations/1/messages?q=two")
            .await
            .ok(200);
        assert_eq!(ids(&page, "exchanges", "id"), [2]);
        site.get("/api/v1/conversations/9/messages")
            .await
            .problem(404);
        site.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_come_raw_and_in_ranges() {
    for kind in KINDS {
        let site = Site::new(kind).await;
        site.talk(&["one\n", "two\n", "three\n"]).await;
        let reply = site.get("/api/v1/exchanges/3/reply").await;
        assert_eq!((reply.status, reply.text()), (200, "THREE\n"));
        for (header, value) in [
            ("content-type", "application/octet-stream"),
            (
                "content-disposition",
                "attachment; filename=\"exchange-3-reply.bin\"",
            ),
            ("x-content-type-options", "nosniff"),
            ("accept-ranges", "bytes"),
        ] {
            assert_eq!(reply.header(header), Some(value));
        }
        let request = site.get("/api/v1/exchanges/3/request").await;
        assert_eq!(request.text(), "three\n");
        let token = format!("Authorization: Bearer {}", common::TOKEN);
        for (dir, range, expected, status) in [
            ("in", "bytes=0-", "one\ntwo\nthree\n", 200),
            ("out", "lines=1", "ONE\nTWO\nTHREE\n", 200),
            ("out", "bytes=2-9", "E\nTWO\nTH", 206),
            ("out", "bytes=-6", "THREE\n", 206),
            ("in", "bytes=5-5", "w", 206),
        ] {
            let target = format!("/api/v1/conversations/1/bytes?dir={dir}");
            let range = format!("Range: {range}");
            let reply = site
                .client
                .with("GET", &target, &[&token, &range], None)
                .await;
            assert_eq!((reply.status, reply.text()), (status, expected), "{range}");
            let part = reply.header("content-range");
            assert_eq!(part.is_some(), status == 206, "{part:?}");
        }
        let beyond = ["Range: bytes=14-", &token];
        let target = "/api/v1/conversations/1/bytes?dir=in";
        let reply = site.client.with("GET", target, &beyond, None).await;
        assert_eq!(reply.header("content-range"), Some("bytes */14"));
        reply.problem(416);
        site.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn export_has_every_exchange_as_lines() {
    for kind in KINDS {
        let site = Site::new(kind).await;
        let lines: Vec<String> = (0..450).map(|n| format!("=line {n}\n")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        site.talk(&lines).await;
        let reply = site.get("/api/v1/export").await;
        let disposition = reply.header("content-disposition").unwrap();
        assert_eq!(disposition, "attachment; filename=\"echoic.jsonl\"");
        let exported: Vec<Value> = reply
            .text()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(exported.len(), 450);
        let one = site.get("/api/v1/exchanges/450").await.ok(200);
        let mut last = exported[449].clone();
        let time = last.as_object_mut().unwrap().remove("time").unwrap();
        assert!(time.as_str().unwrap().ends_with('Z'), "{time}");
        assert_eq!(last, one);
        let reply = site.get("/api/v1/export?format=csv&q=id:1..2").await;
        let rows: Vec<&str> = reply.text().lines().collect();
        assert_eq!(rows.len(), 3);
        assert!(rows[0].starts_with("id,time,conv,n,ep,"), "{}", rows[0]);
        assert!(
            rows[1].contains(",8,8,'=line 0\\n,'=LINE 0\\n,"),
            "{}",
            rows[1]
        );
        site.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tagged_conversation_without_exchanges_is_found() {
    for kind in KINDS {
        let site = Site::new(kind).await;
        for id in 1..=2 {
            assert_eq!(site.talk(&[]).await, "");
            site.conversation_with(id, "state", "ended").await;
        }
        site.talk(&["one\n"]).await;
        site.conversation_with(3, "state", "ended").await;
        let label = r#"{"add":["bug"],"note":"Why"}"#;
        let changed = site.patch("/api/v1/conversations/1", label).await;
        assert_eq!(changed.ok(200), json!({"changed": 1}));
        for (query, expected) in [
            ("tag:bug", &[1][..]),
            ("note:why", &[1]),
            ("-tag:bug", &[3, 2]),
            ("tag:other", &[]),
            ("tag:bug%20req:one", &[]),
            ("tag:bug%20OR%20req:one", &[3]),
        ] {
            let target = format!("/api/v1/conversations?q={query}");
            let found = site.get(&target).await.ok(200);
            assert_eq!(ids(&found, "conversations", "conv"), expected, "{query}");
        }
        site.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_are_written_found_and_removed() {
    for kind in KINDS {
        let site = Site::new(kind).await;
        site.talk(&["one\n", "two\n"]).await;
        let change = r#"{"add":["bug","odd"],"note":"why"}"#;
        let changed = site.patch("/api/v1/exchanges/1", change).await.ok(200);
        assert_eq!(changed, json!({"changed": 1}));
        let one = site.get("/api/v1/exchanges/1").await.ok(200);
        assert_eq!(
            (&one["tags"], &one["note"]),
            (&json!(["bug", "odd"]), &"why".into())
        );
        let found = site.get("/api/v1/exchanges?q=tag:bug").await.ok(200);
        assert_eq!(ids(&found, "exchanges", "id"), [1]);
        let all = site
            .patch(
                "/api/v1/exchanges?q=svc:upper",
                r#"{"add":["all"],"remove":["odd"]}"#,
            )
            .await;
        assert_eq!(all.ok(200), json!({"changed": 2}));
        site.patch("/api/v1/exchanges/1", r#"{"note":null}"#)
            .await
            .ok(200);
        site.patch("/api/v1/conversations/1", r#"{"add":["talk"]}"#)
            .await
            .ok(200);
        let one = site.get("/api/v1/exchanges/1").await.ok(200);
        assert_eq!(
            (&one["tags"], &one["note"]),
            (&json!(["all", "bug"]), &Value::Null)
        );
        let conversation = site.get("/api/v1/conversations/1").await.ok(200);
        assert_eq!(conversation["tags"], json!(["talk"]));
        let tags = site.get("/api/v1/tags").await.ok(200);
        let expected = json!({"tags": [
            {"tag": "all", "exchanges": 2, "conversations": 0},
            {"tag": "bug", "exchanges": 1, "conversations": 0},
            {"tag": "talk", "exchanges": 0, "conversations": 1},
        ]});
        assert_eq!(tags, expected);
        site.patch("/api/v1/exchanges/9", r#"{"add":["bug"]}"#)
            .await
            .problem(404);
        site.patch("/api/v1/conversations/9", r#"{"add":["bug"]}"#)
            .await
            .problem(404);
        site.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn live_conversation_is_sent_to_and_closed() {
    let site = Site::new(Kind::Sqlite).await;
    let mut peer = TcpStream::connect(site.endpoint).await.unwrap();
    peer.write_all(b"hi\n").await.unwrap();
    let mut reply = [0; 3];
    peer.read_exact(&mut reply).await.unwrap();
    let id = site.get("/api/v1/exchanges/wait").await.ok(200)["exchanges"][0]["conv"].clone();
    let target = format!("/api/v1/conversations/{id}");
    let sent = site
        .submit(
            &format!("{target}/send"),
            r#"{"text":"news","frame":"line"}"#,
        )
        .await;
    assert_eq!(sent.ok(200), json!({"sent": 5}));
    let mut pushed = [0; 5];
    peer.read_exact(&mut pushed).await.unwrap();
    assert_eq!(&pushed, b"news\n");
    let empty = site
        .submit(&format!("{target}/send"), r#"{"text":""}"#)
        .await;
    empty.problem(400);
    site.submit(&format!("{target}/close"), r#"{"how":"fin"}"#)
        .await
        .ok(204);
    let mut rest = Vec::new();
    peer.read_to_end(&mut rest).await.unwrap();
    drop(peer);
    let ended = site
        .conversation_with(id.as_u64().unwrap(), "state", "ended")
        .await;
    assert_eq!(ended["reason"], "closed-by-operator");
    let gone = site
        .submit(&format!("{target}/send"), r#"{"text":"late"}"#)
        .await;
    gone.problem(404);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoint_is_paused_and_opened() {
    let site = Site::new(Kind::Memory).await;
    let endpoints = site.get("/api/v1/endpoints").await.ok(200);
    let one = &endpoints["endpoints"][0];
    assert_eq!(
        (&one["id"], &one["svc"], &one["state"]),
        (&1.into(), &"upper".into(), &"open".into())
    );
    assert_eq!(one["addrs"][0], format!("tcp://{}", site.endpoint));
    let paused = site
        .patch("/api/v1/endpoints/1", r#"{"state":"paused"}"#)
        .await
        .ok(200);
    assert_eq!(paused["state"], "paused");
    let unready = site.get("/readyz").await.problem(503);
    assert_eq!(unready, "no endpoint is open");
    let mut peer = TcpStream::connect(site.endpoint).await.unwrap();
    peer.write_all(b"hi\n").await.unwrap();
    let mut reply = [0; 3];
    let early = tokio::time::timeout(Duration::from_millis(300), peer.read_exact(&mut reply));
    assert!(early.await.is_err(), "a paused endpoint answers");
    let open = site
        .patch("/api/v1/endpoints/1", r#"{"state":"open"}"#)
        .await
        .ok(200);
    assert_eq!(open["state"], "open");
    peer.read_exact(&mut reply).await.unwrap();
    assert_eq!(&reply, b"HI\n");
    site.patch("/api/v1/endpoints/3", r#"{"state":"open"}"#)
        .await
        .problem(404);
    drop(peer);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn call_is_made_and_its_reply_compared() {
    let site = Site::new(Kind::Memory).await;
    let call = r#"{"endpoint":1,"messages":[{"text":"n={n}"}],"repeat":2,"counter":true,"expect":{"text":"N=2"}}"#;
    let result = site.submit("/api/v1/send", call).await.ok(200);
    assert_eq!(result["expected"], true);
    assert_eq!(
        result["replies"][1]["req"],
        json!({"len": 4, "text": "n=2\n"})
    );
    assert_eq!(
        result["replies"][1]["rep"],
        json!({"len": 4, "text": "N=2\n"})
    );
    let call = r#"{"endpoint":1,"messages":[{"hex":"7b 6e 7d"}],"expect":{"b64":"bm8="}}"#;
    let result = site.submit("/api/v1/send", call).await.ok(200);
    assert_eq!(result["expected"], false);
    assert_eq!(result["replies"][0]["rep"]["text"], "{N}\n");
    site.submit(
        "/api/v1/send",
        r#"{"endpoint":7,"messages":[{"text":"a"}]}"#,
    )
    .await
    .problem(404);
    site.submit("/api/v1/send", r#"{"target":1,"messages":[{"text":"a"}]}"#)
        .await
        .problem(404);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn explained_conversation_has_its_calls() {
    let site = Site::new(Kind::Memory).await;
    site.get("/api/v1/conversations/1/calls").await.problem(404);
    site.submit("/api/v1/explain", "{}").await.ok(202);
    site.talk(&["hi\n"]).await;
    site.conversation_with(1, "state", "ended").await;
    let calls = site.get("/api/v1/conversations/1/calls").await.ok(200);
    let calls = calls["calls"].as_array().unwrap();
    let received = calls.iter().find(|call| call["call"] == "recv").unwrap();
    assert_eq!(received["result"], "3");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conversation_that_was_not_explained_has_no_calls() {
    for owns in [true, false] {
        let site = Site::with(Options {
            owns,
            ..Options::of(Kind::Memory)
        })
        .await;
        site.talk(&["hi\n"]).await;
        let calls = site.get("/api/v1/conversations/1/calls").await.ok(200);
        assert_eq!(calls, json!({"calls": []}));
        let why = site.get("/api/v1/conversations/9/calls").await.problem(404);
        assert!(why.contains("conversation 9 is not in the store"), "{why}");
        site.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn info_and_health_report_the_state() {
    let site = Site::new(Kind::Sqlite).await;
    site.talk(&["hi\n"]).await;
    let info = site.get("/api/v1/info").await.ok(200);
    assert_eq!((&info["v"], &info["version"]), (&1.into(), &"0.1.0".into()));
    assert_eq!(
        info["features"],
        json!({"control": true, "send": true, "labels": true, "live": "feed", "processes": false})
    );
    assert_eq!(
        (&info["store"]["exchanges"], &info["store"]["name"]),
        (&1.into(), &"echoic.db".into())
    );
    assert_eq!(
        (&info["recorder"]["recorded"], &info["recorder"]["lost"]),
        (&1.into(), &0.into())
    );
    assert_eq!(
        (&info["counts"]["served"], &info["counts"]["accepted"]),
        (&1.into(), &1.into())
    );
    assert_eq!(info["limits"][0]["flag"], "--max-message");
    assert_eq!(info["pid"], std::process::id());
    let open = site.client.with("GET", "/readyz", &[], None).await;
    assert_eq!((open.status, open.text()), (200, "ok\n"));
    site.store.close().await.unwrap();
    let unready = site.client.with("GET", "/readyz", &[], None).await;
    assert_eq!(unready.problem(503), "the store cannot be read");
    let live = site.client.with("GET", "/livez", &[], None).await;
    assert_eq!(live.status, 200);
    site.get("/api/v1/exchanges").await.problem(503);
}

#[tokio::test(flavor = "multi_thread")]
async fn console_of_a_record_alone_can_label_and_nothing_else() {
    let site = Site::with(Options {
        owns: false,
        ..Options::of(Kind::Sqlite)
    })
    .await;
    site.talk(&["hi\n"]).await;
    let info = site.get("/api/v1/info").await.ok(200);
    assert_eq!(
        info["features"],
        json!({"control": false, "send": false, "labels": true, "live": "poll", "processes": false})
    );
    assert_eq!(
        (&info["recorder"], &info["counts"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(
        site.get("/api/v1/endpoints").await.ok(200),
        json!({"endpoints": []})
    );
    site.patch("/api/v1/exchanges/1", r#"{"add":["bug"]}"#)
        .await
        .ok(200);
    for (target, body) in [
        (
            "/api/v1/send",
            r#"{"endpoint":1,"messages":[{"text":"a"}]}"#,
        ),
        ("/api/v1/conversations/1/send", r#"{"text":"a"}"#),
        ("/api/v1/conversations/1/close", r#"{"how":"fin"}"#),
        ("/api/v1/explain", "{}"),
    ] {
        let why = site.submit(target, body).await.problem(409);
        assert!(why.contains("runs no server"), "{why}");
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readonly_console_changes_nothing() {
    let site = Site::with(Options {
        readonly: true,
        ..Options::of(Kind::Memory)
    })
    .await;
    site.talk(&["hi\n"]).await;
    for (method, target, body) in [
        (
            "POST",
            "/api/v1/send",
            r#"{"endpoint":1,"messages":[{"text":"a"}]}"#,
        ),
        ("POST", "/api/v1/conversations/1/send", r#"{"text":"a"}"#),
        ("POST", "/api/v1/conversations/1/close", r#"{"how":"fin"}"#),
        ("POST", "/api/v1/explain", "{}"),
        ("PATCH", "/api/v1/endpoints/1", r#"{"state":"paused"}"#),
        ("PATCH", "/api/v1/exchanges/1", r#"{"add":["bug"]}"#),
        ("PATCH", "/api/v1/exchanges?q=hi", r#"{"add":["bug"]}"#),
        ("PATCH", "/api/v1/conversations/1", r#"{"add":["bug"]}"#),
    ] {
        let why = site
            .client
            .request(method, target, Some(body))
            .await
            .problem(403);
        assert!(why.contains("read-only"), "{why}");
    }
    let info = site.get("/api/v1/info").await.ok(200);
    assert_eq!(info["features"]["control"], false);
    site.stop().await;
}
