//! Figures over time, charts and metrics of a running server.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{net::TcpStream, time::sleep};

use crate::common::{Kind, Options, Site};

const KINDS: [Kind; 2] = [Kind::Memory, Kind::Sqlite];

const CHARTS: [&str; 4] = ["exchanges", "latency", "conversations", "percentiles"];

fn sum(stats: &Value, key: &str) -> u64 {
    let buckets = stats["buckets"].as_array().unwrap();
    buckets
        .iter()
        .map(|bucket| bucket[key].as_u64().unwrap())
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn stats_add_up_to_the_record() {
    for kind in KINDS {
        let site = Site::new(kind).await;
        site.talk(&["one\n", "two\n", "three\n"]).await;
        site.conversation_with(1, "state", "ended").await;
        let stats = site.get("/api/v1/stats?step=1s").await.ok(200);
        for (key, expected) in [
            ("exchanges", 3),
            ("ok", 3),
            ("unanswered", 0),
            ("unpaired", 0),
            ("request_bytes", 14),
            ("reply_bytes", 14),
            ("opened", 1),
            ("ended", 1),
            ("reset", 0),
        ] {
            assert_eq!(sum(&stats, key), expected, "{key}");
            assert_eq!(stats["total"][key], expected, "total {key}");
        }
        assert_eq!(
            stats["buckets"].as_array().unwrap().last().unwrap()["open"],
            0
        );
        let by = &stats["by"][0];
        assert_eq!((&by["svc"], &by["exchanges"]), (&json!("upper"), &json!(3)));
        assert!(by["p50_ns"].as_u64().unwrap() <= by["p99_ns"].as_u64().unwrap());
        let empty = &stats["buckets"][0];
        assert_eq!(
            (&empty["exchanges"], &empty["p50_ns"]),
            (&json!(0), &json!(null))
        );

        // A refresh has what is new, and what is old once.
        let _open = TcpStream::connect(site.endpoint).await.unwrap();
        site.talk(&["four\n"]).await;
        site.conversation_with(3, "state", "ended").await;
        sleep(Duration::from_millis(1100)).await;
        let stats = site.get("/api/v1/stats?step=1s").await.ok(200);
        assert_eq!((sum(&stats, "exchanges"), sum(&stats, "opened")), (4, 3));
        assert_eq!(stats["total"]["open"], 1);
        let stats = site.get("/api/v1/stats?step=1s&q=req:four").await.ok(200);
        assert_eq!(
            (sum(&stats, "exchanges"), sum(&stats, "request_bytes")),
            (1, 5)
        );
        site.stop().await;
    }
}

/// More steps than are held: what was read for the answer must not be among those that are forgotten for it.
#[tokio::test(flavor = "multi_thread")]
async fn stats_have_every_exchange_however_many_steps_were_asked_for() {
    let site = Site::new(Kind::Sqlite).await;
    site.talk(&["one\n"]).await;
    let first = site.get("/api/v1/exchanges/1").await.ok(200)["t_us"].clone();
    let first = first.as_i64().unwrap() / 1_000_000 * 1_000_000;
    // Later times first, then back to that of the exchange.
    for part in (0..6).rev() {
        let from = first + part * 700_000_000;
        let to = from + 700_000_000;
        let target = format!("/api/v1/stats?step=1s&from_us={from}&to_us={to}");
        let stats = site.get(&target).await.ok(200);
        assert_eq!(stats["total"]["exchanges"], i64::from(part == 0), "{part}");
    }
    site.stop().await;
}

/// A record whose exchanges take several parts to count.
async fn long_record(site: &Site, exchanges: u64) {
    let batch = common::batch(1_000_000, exchanges);
    site.store.append(vec![Arc::new(batch)]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn counting_a_long_record_goes_on_in_the_next_request() {
    for kind in KINDS {
        let site = Site::new(kind).await;
        long_record(&site, 45_000).await;
        let target = "/api/v1/stats?from_us=0&step=1000000h&budget=0s";
        let mut parts = 0;
        let stats = loop {
            let reply = site.get(target).await;
            if reply.status == 200 {
                break reply.json();
            }
            let problem = reply.problem(503);
            assert!(problem.contains("% of the record is counted"), "{problem}");
            parts += 1;
            assert!(parts < 1000, "it goes on from where it was");
        };
        assert!(parts > 0, "one part has 20,000 exchanges");
        assert_eq!(stats["total"]["exchanges"], 45_000);
        // What comes later is added.
        site.talk(&["one\n"]).await;
        let target = "/api/v1/stats?from_us=0&step=1000000h";
        let stats = site.get(target).await.ok(200);
        assert_eq!(stats["total"]["exchanges"], 45_001);
        site.stop().await;
    }
}

/// A label that is taken away is not found in the figures, whatever is held of them.
#[tokio::test(flavor = "multi_thread")]
async fn stats_by_label_follow_the_labels() {
    let site = Site::new(Kind::Sqlite).await;
    site.talk(&["one\n", "two\n"]).await;
    for (change, expected) in [(r#"{"add":["seen"]}"#, 1), (r#"{"remove":["seen"]}"#, 0)] {
        site.patch("/api/v1/exchanges/1", change).await.ok(200);
        let stats = site.get("/api/v1/stats?q=tag:seen").await.ok(200);
        assert_eq!(sum(&stats, "exchanges"), expected);
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stats_refuse_what_they_cannot_answer() {
    let site = Site::new(Kind::Memory).await;
    for (query, named) in [
        ("step=1ms", "step"),
        ("step=0s", "step"),
        ("from_us=5&to_us=4", "from_us"),
        ("from_us=-1", "from_us"),
        ("to_us=9223372036854775807", "to_us"),
        ("to_us=-9223372036854775808", "to_us"),
        ("colour=red", "colour"),
        ("q=nokey:x", "nokey"),
    ] {
        let reply = site.get(&format!("/api/v1/stats?{query}")).await;
        let problem = reply.problem(400);
        assert!(problem.contains(named), "{query}: {problem}");
    }
    for query in ["width=1", "height=100000", "offset=100000"] {
        let reply = site
            .get(&format!("/api/v1/charts/latency.svg?{query}"))
            .await;
        assert!(!reply.problem(400).is_empty());
    }
    assert_eq!(site.get("/api/v1/charts/other.svg").await.status, 404);
    // A span of all times has steps of a day and more.
    let all = site.get("/api/v1/stats?from_us=0").await.ok(200);
    assert!(all["buckets"].as_array().unwrap().len() <= 32);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn histogram_has_every_exchange_in_both_forms() {
    let site = Site::new(Kind::Sqlite).await;
    site.talk(&["one\n", "two\n", "three\n"]).await;
    let json = site.get("/api/v1/histogram").await.ok(200);
    assert_eq!((&json["exchanges"], sum(&json, "n")), (&json!(3), 3));
    let text = site.get("/api/v1/histogram?format=hgrm").await;
    let text = text.text().to_owned();
    assert!(text.starts_with("       Value     Percentile TotalCount 1/(1-Percentile)\n\n"));
    assert!(text.contains(" 1.000000000000          3\n"), "{text}");
    assert!(text.contains("Total count    =            3]"), "{text}");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn charts_are_well_formed_and_leave_the_style_to_the_page() {
    let site = Site::new(Kind::Memory).await;
    for lines in [&[][..], &["one\n", "two\n"]] {
        if !lines.is_empty() {
            site.talk(lines).await;
        }
        for name in CHARTS {
            let reply = site
                .get(&format!(
                    "/api/v1/charts/{name}.svg?width=500&height=200&offset=60&step=10s"
                ))
                .await;
            assert_eq!(
                (reply.status, reply.header("content-type")),
                (200, Some("image/svg+xml"))
            );
            let text = reply.text();
            let chart =
                roxmltree::Document::parse(text).unwrap_or_else(|error| panic!("{error}: {text}"));
            let root = chart.root_element();
            assert_eq!(
                (root.attribute("width"), root.attribute("class")),
                (Some("500"), Some("plot"))
            );
            let texts = ["title", "desc"].map(|tag| {
                let found = root
                    .children()
                    .find(|child| child.has_tag_name(("http://www.w3.org/2000/svg", tag)));
                found.and_then(|found| found.text()).unwrap_or_default()
            });
            assert!(texts.iter().all(|text| !text.is_empty()), "{text}");
            for element in chart.descendants().filter(roxmltree::Node::is_element) {
                assert!(
                    !["script", "style", "a", "image", "foreignObject"]
                        .contains(&element.tag_name().name())
                );
                for attribute in element.attributes() {
                    let name = attribute.name();
                    assert!(
                        name != "style" && !name.starts_with("on") && name != "href",
                        "{name}"
                    );
                }
            }
            if !lines.is_empty() && name == "exchanges" {
                assert!(texts[1].contains("all 2 were answered"), "{texts:?}");
            }
        }
    }
    site.stop().await;
}

/// Values of metrics by name and labels.
fn metrics(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let mut values = BTreeMap::new();
    for line in lines {
        let (name, value) = line.rsplit_once(' ').unwrap();
        let is_new = values
            .insert(name.to_owned(), value.parse().unwrap())
            .is_none();
        assert!(is_new, "{name} has two values");
    }
    values
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_add_up_to_the_record() {
    let site = Site::new(Kind::Sqlite).await;
    site.talk(&["one\n", "two\n", "three\n"]).await;
    site.conversation_with(1, "state", "ended").await;
    let reply = site.get("/metrics").await;
    assert!(
        reply
            .header("content-type")
            .unwrap()
            .starts_with("application/openmetrics-text")
    );
    let text = reply.text();
    assert!(text.ends_with("# EOF\n"));
    let values = metrics(text);
    let sum = |name: &str| -> f64 {
        let found = values
            .iter()
            .filter(|(key, _)| key.split('{').next() == Some(name));
        found.map(|(_, value)| value).sum()
    };
    for (name, expected) in [
        ("echoic_exchanges_total", 3.0),
        ("echoic_exchanges_recorded_total", 3.0),
        ("echoic_exchanges_served_total", 3.0),
        ("echoic_exchange_duration_seconds_count", 3.0),
        ("echoic_bytes_total", 28.0),
        ("echoic_connections_total", 1.0),
        ("echoic_connections_accepted_total", 1.0),
        ("echoic_connections_active", 0.0),
        ("echoic_store_queue_depth", 0.0),
        ("echoic_store_dropped_total", 0.0),
        ("echoic_store_failing", 0.0),
        ("echoic_store_exchanges", 3.0),
        ("echoic_build_info", 1.0),
    ] {
        assert_eq!(
            sum(name).to_bits(),
            f64::to_bits(expected),
            "{name}: {text}"
        );
    }
    let name = format!("tcp:{}", site.endpoint.port());
    let ok =
        format!("echoic_exchanges_total{{endpoint=\"{name}\",service=\"upper\",outcome=\"ok\"}}");
    assert_eq!(values[&ok].to_bits(), 3.0_f64.to_bits());
    assert!(!text.contains("peer"), "labels are bounded");
    site.stop().await;
}

/// The names of metrics in the expressions of a dashboard.
fn names_in(dashboard: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = dashboard.split(|c| !is_part(c));
    words
        .filter(|word| word.starts_with("echoic_"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn dashboard_and_guide_name_metrics_that_exist() {
    let site = Site::new(Kind::Sqlite).await;
    site.talk(&["one\n"]).await;
    site.conversation_with(1, "state", "ended").await;
    let text = site.get("/metrics").await;
    let values = metrics(text.text());
    let known: BTreeSet<&str> = values
        .keys()
        .map(|key| key.split('{').next().unwrap())
        .collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for file in ["deploy/grafana-dashboard.json", "docs/how-to-monitor.md"] {
        let content = fs::read_to_string(root.join(file)).unwrap();
        let named = names_in(&content);
        assert!(named.len() > 5, "{file} names {named:?}");
        // Those of workers and keepers are asked of these, in the tests of the program.
        let elsewhere = ["echoic_worker_", "echoic_keeper_", "echoic_nats_"];
        let is_here = |name: &String| !elsewhere.iter().any(|prefix| name.starts_with(prefix));
        for name in named.into_iter().filter(is_here) {
            assert!(
                known.contains(name.as_str()),
                "{file} names {name}, which does not exist"
            );
        }
    }
    let dashboard = fs::read_to_string(root.join("deploy/grafana-dashboard.json")).unwrap();
    serde_json::from_str::<Value>(&dashboard).unwrap();
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn console_of_another_process_has_the_metrics_of_the_store() {
    let options = Options {
        owns: false,
        ..Options::of(Kind::Sqlite)
    };
    let site = Site::with(options).await;
    site.talk(&["one\n"]).await;
    let text = site.get("/metrics").await;
    let values = metrics(text.text());
    assert_eq!(
        values["echoic_store_exchanges"].to_bits(),
        1.0_f64.to_bits()
    );
    assert!(
        !values.contains_key("echoic_store_dropped_total"),
        "this process does not know"
    );
    site.stop().await;
}
