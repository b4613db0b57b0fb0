//! Searches over a record that is longer than a part of one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use echoic_console::Console;
use echoic_core::{
    event::{
        Address, Batch, EndpointInfo, Event, Mark, Marked, Opened, Outcome, Protocol, Role, RunMeta,
    },
    framing::FramingPair,
    store::Store,
};
use echoic_store::MemoryStore;
use serde_json::Value;
use tokio::{net::TcpListener, sync::oneshot};

use crate::common::{TOKEN, client::Client, config};

/// Exchanges of the record: several parts of a search.
const EXCHANGES: u64 = 45_000;

/// One exchange in so many is searched for.
const EVERY: u64 = 9_973;

/// Returns a store with one conversation.
async fn record() -> Arc<dyn Store> {
    let store = Arc::new(MemoryStore::new(256 << 20));
    let mut batch = Batch::default();
    batch.events.push(Event::Opened(Opened {
        conversation: 1,
        at: 1,
        remote: Address::Unix(None),
        local: Address::Unix(None),
        role: Role::Server,
        endpoint_info: Arc::new(EndpointInfo {
            name: "unix".to_owned(),
            proto: Protocol::Unix,
            service: "upper".to_owned(),
            framing: FramingPair::default(),
        }),
        tls: None,
    }));
    batch.events.push(Event::Mark(Mark {
        conversation: 1,
        at: 2,
        what: Marked::HalfClosed { received: 5 },
    }));
    for n in 1..=EXCHANGES {
        let meta = RunMeta {
            conversation: 1,
            n,
            at: n.cast_signed(),
            latency_ns: 1,
            reads: 1,
            reply_offset: 0,
        };
        let request: &[u8] = if n % EVERY == 0 { b"needle" } else { b"hay" };
        batch.push_exchange(meta, Outcome::Ok, request, b"");
    }
    batch.number = 1;
    store.append(vec![Arc::new(batch)]).await.unwrap();
    store
}

/// Reads all pages, and returns the ids of the exchanges and the number of pages.
async fn all(client: &Client, parameters: &str, direction: &str, from: u64) -> (Vec<u64>, usize) {
    let (mut ids, mut pages, mut from) = (Vec::new(), 0, from);
    loop {
        let target = format!("/api/v1/exchanges?{parameters}&{direction}={from}");
        let page = client.request("GET", &target, None).await.ok(200);
        let exchanges = page["exchanges"].as_array().unwrap();
        ids.extend(exchanges.iter().map(|one| one["id"].as_u64().unwrap()));
        pages += 1;
        match &page["next"] {
            Value::Null => return (ids, pages),
            next => {
                let next = next.as_u64().unwrap();
                assert_ne!(next, from, "no progress: {page}");
                from = next;
            }
        }
        assert!(pages < 10_000, "without end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_search_leave_nothing_out() {
    let store = record().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(listener.local_addr().unwrap(), TOKEN);
    let console = Console::new(config(false), store, None, None);
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(console.serve(listener, async {
        let _ = stopped.await;
    }));
    let upwards: Vec<u64> = (1..=EXCHANGES / EVERY).map(|n| n * EVERY).collect();
    let downwards: Vec<u64> = upwards.iter().copied().rev().collect();
    for limit in [1, 2, 100] {
        for budget in ["0ms", "1ms", "10s"] {
            let parameters = format!("q=needle&limit={limit}&budget={budget}");
            let (found, pages) = all(&client, &parameters, "after", 0).await;
            assert_eq!(found, upwards, "{parameters}");
            assert!(budget != "0ms" || pages > 2, "{pages} pages without time");
            let (found, _) = all(&client, &parameters, "before", EXCHANGES + 1).await;
            assert_eq!(found, downwards, "{parameters}");
        }
    }
    let page = client
        .request("GET", "/api/v1/exchanges?q=needle&budget=0ms", None)
        .await
        .ok(200);
    let searched = serde_json::json!({"to": 25_001, "left": 25_000, "done": false});
    assert_eq!(page["searched"], searched);
    assert_eq!(page["next"], 25_001);
    let (found, _) = all(&client, "q=needle%20id:20000..40000", "before", 1 << 40).await;
    assert_eq!(found, [39_892, 29_919]);
    let (found, pages) = all(&client, "limit=1000&preview=0&budget=10s", "after", 0).await;
    assert!(found.into_iter().eq(1..=EXCHANGES));
    assert_eq!(pages as u64, EXCHANGES / 1000);
    let (found, _) = all(&client, "q=id:0", "after", 0).await;
    assert!(found.is_empty());
    let page = client
        .request("GET", "/api/v1/conversations/1/messages?from=40000", None)
        .await
        .ok(200);
    let mark = serde_json::json!([{"t_us": 2, "what": "half-closed", "received": 5}]);
    assert_eq!(
        (&page["marks"], &page["total"], &page["next"]),
        (&mark, &EXCHANGES.into(), &40_100.into())
    );
    let half = client
        .request("GET", "/api/v1/conversations/1", None)
        .await
        .ok(200);
    assert_eq!(
        (&half["state"], &half["half_us"]),
        (&"half-closed".into(), &2.into())
    );
    drop(stop);
    serving.await.unwrap().unwrap();
}
