//! The files that `echoic bench` writes: JSON that matches its schema, a self-contained HTML page, and files that other
//! tools can read.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener},
    path::Path,
    thread,
};

use base64::prelude::{BASE64_STANDARD, Engine};
use harness::{Home, Ran, Serve};
use hdrhistogram::{Histogram, serialization::Deserializer};
use serde_json::{Value, json};

const SCHEMA: &str = include_str!("../../../docs/bench-result.schema.json");

/// What an attacker may try to inject into the page.
const HOSTILE: &[u8] =
    b"</pre><script>alert(1)</script><img src=x onerror=alert(2)>&amp;\"'\x1b[31m\xff\n";

fn bench(home: &Home, endpoint: &str, more: &[&str]) -> Ran {
    let mut words = vec![
        "bench",
        endpoint,
        "--frame",
        "line",
        "-d",
        "300ms",
        "--warmup",
        "0s",
        "-o",
        "json",
        "-q",
        "--no-floor",
    ];
    words.extend(more);
    home.run(&words)
}

fn json(ran: &Ran) -> Value {
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
    serde_json::from_slice(&ran.out).unwrap_or_else(|why| panic!("{why}: {ran:?}"))
}

/// A server whose replies are not the expected ones.
fn hostile_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                for _ in BufReader::new(&client).lines().map_while(Result::ok) {
                    (&client).write_all(HOSTILE).unwrap();
                }
            });
        }
    });
    addr
}

/// Returns the schema, tightened so that no undocumented key passes.
fn strict() -> Value {
    fn close(schema: &mut Value) {
        if let Some(object) = schema.as_object_mut() {
            if object.contains_key("properties") {
                object.insert("additionalProperties".to_owned(), json!(false));
            }
            object.values_mut().for_each(close);
        }
    }
    let mut schema: Value = serde_json::from_str(SCHEMA).unwrap();
    close(&mut schema);
    schema
}

#[track_caller]
fn conforms(report: &Value) {
    let validator = jsonschema::validator_for(&strict()).unwrap();
    let errors: Vec<_> = validator
        .iter_errors(report)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}\nin {report:#}");
}

#[test]
fn json_result_matches_its_schema() {
    let serve = Serve::start(&["upper=127.0.0.1:0", "--frame", "line"]);
    let (home, endpoint) = (&serve.home, serve.at[0].to_string());
    let closed = json(&bench(home, &endpoint, &["-c", "2"]));
    conforms(&closed);
    let open = json(&bench(home, &endpoint, &["-r", "500", "--expect", "upper"]));
    conforms(&open);
    let wrong = json(&bench(
        home,
        &hostile_server().to_string(),
        &["--expect", "echo"],
    ));
    conforms(&wrong);
    assert_eq!((&wrong["wrong"], &wrong["ok"]), (&wrong["sent"], &json!(0)));
    let own = Serve::start(&["upper=udp://127.0.0.1:0"]);
    let datagrams = format!("udp://{}", own.at[0]);
    conforms(&json(&bench(home, &datagrams, &["-r", "500"])));
    let many = |more: &str| {
        let words = format!("bench {endpoint} --frame line -o json -q --no-floor {more}");
        let ran = home.run(&words.split(' ').collect::<Vec<_>>());
        // A search without a result prints its tries.
        assert!(matches!(ran.code, Some(0 | 7)), "{ran:?}");
        let report = serde_json::from_slice(&ran.out).unwrap();
        conforms(&report);
        assert!(
            report["tries"]
                .as_array()
                .is_some_and(|tries| tries.len() > 1)
        );
    };
    many("--steps 100..200:+100@300ms --report run.html --svg .");
    many("--find max --slo p99<1us --trial 200ms --confirm 200ms --within 100%");
    many(&format!("--against {endpoint} -d 100ms --assert rate>1"));
    inert(&fs::read_to_string(home.path().join("run.html")).unwrap());
    // The control: the schema can reject.
    let validator = jsonschema::validator_for(&strict()).unwrap();
    for (member, value) in [
        ("version", json!(2)),
        ("asked", json!(-1)),
        ("loop", json!("half")),
        ("new", json!(1)),
    ] {
        let mut other = open.clone();
        other[member] = value;
        assert!(!validator.is_valid(&other), "{member} may be anything");
    }
}

/// Asserts that the page contains only what the program wrote: tables, texts and charts, without a link, a script, or
/// anything that would be fetched. Returns its text.
fn inert(page: &str) -> String {
    let options = roxmltree::ParsingOptions {
        allow_dtd: true,
        ..roxmltree::ParsingOptions::default()
    };
    let document = roxmltree::Document::parse_with_options(page, options)
        .unwrap_or_else(|why| panic!("{why}\n{page}"));
    let known = "html head meta title style body main header footer h1 h2 p b div dl dt dd figure figcaption table \
                 caption thead tbody tr th td pre svg desc defs clipPath g rect circle line polyline path text";
    for node in document.descendants().filter(roxmltree::Node::is_element) {
        let name = node.tag_name().name();
        assert!(
            known.split_whitespace().any(|known| known == name),
            "<{name}>"
        );
        for attribute in node.attributes() {
            let (key, value) = (attribute.name(), attribute.value());
            assert!(
                !key.starts_with("on") && !["href", "src", "style", "action"].contains(&key),
                "{key}={value:?}"
            );
            assert!(
                !value.contains("url(") || value.starts_with("url(#"),
                "{key}={value:?}"
            );
        }
    }
    let mut policies = document
        .descendants()
        .filter(|node| node.attribute("http-equiv") == Some("Content-Security-Policy"));
    let policy = policies
        .next()
        .and_then(|policy| policy.attribute("content"));
    assert_eq!(
        policy,
        Some("default-src 'none'; style-src 'unsafe-inline'")
    );
    let texts = document
        .descendants()
        .filter_map(|node| node.is_text().then(|| node.text()).flatten());
    texts.collect::<Vec<_>>().join(" ")
}

#[test]
fn report_page_is_complete_and_inert() {
    let serve = Serve::start(&["upper=127.0.0.1:0", "--frame", "line"]);
    let endpoint = serve.at[0].to_string();
    let report = json(&bench(
        &serve.home,
        &endpoint,
        &[
            "-r", "900", "-c", "3", "--expect", "upper", "--report", "run.html",
        ],
    ));
    let page = fs::read_to_string(serve.home.path().join("run.html")).unwrap();
    let text = inert(&page);
    let asked = report["asked"].as_u64().unwrap().to_string();
    for part in [
        &*endpoint,
        "open loop, 900 asked per second",
        "3 connections",
        report["verdict_why"].as_str().unwrap(),
        "schedule lag p99",
        "seed",
        &asked,
    ] {
        assert!(text.contains(part), "no {part:?} in the page: {text}");
    }
    let command = format!(
        "echoic bench {endpoint} --frame line -d 300ms --warmup 0s -o json -q --no-floor -r 900 -c 3 --expect upper --report run.html"
    );
    assert!(
        page.contains(&command),
        "the command to repeat the run is missing"
    );
    for chart in ["rate", "latency", "percentiles", "heat"] {
        assert!(
            page.contains(&format!("{chart}-description")),
            "no chart {chart}"
        );
    }
    assert!(page.contains("prefers-color-scheme: dark"));
}

#[test]
fn peer_bytes_in_the_report_are_escaped() {
    let home = Home::new();
    let peer = hostile_server().to_string();
    let asking = "<b onclick=alert(3)>hello</b>";
    let args = ["-m", asking, "--expect", "echo", "--report", "run.html"];
    let report = json(&bench(&home, &peer, &args));
    let page = fs::read_to_string(home.path().join("run.html")).unwrap();
    inert(&page);
    assert!(
        page.contains("&lt;/pre&gt;&lt;script&gt;alert(1)"),
        "the reply is not shown"
    );
    assert!(
        page.contains(r"\x1b[31m\xff"),
        "controls and other bytes are not shown as escapes"
    );
    assert!(
        page.contains("&lt;b onclick=alert(3)&gt;hello"),
        "nor is the command line"
    );
    assert!(page.contains("The server was the limit"));
    assert!(report["wrong"].as_u64() > Some(0));
}

#[test]
fn exported_files_are_readable_by_other_tools() {
    let serve = Serve::start(&["upper=127.0.0.1:0", "--frame", "line"]);
    let endpoint = serve.at[0].to_string();
    let files = ["--hgrm", "run.hgrm", "--svg", "charts/of/it"];
    let report = json(&bench(
        &serve.home,
        &endpoint,
        &[&["-c", "2"], &files[..]].concat(),
    ));
    let read = |name: &str| fs::read_to_string(serve.home.path().join(name)).unwrap();

    let asked = report["asked"].as_u64().unwrap();
    let whole = unpacked(report["histograms"]["due"].as_str().unwrap());
    assert_eq!(whole.len(), asked);
    assert!(near(
        whole.max(),
        report["latency_due_us"]["max"].as_f64().unwrap()
    ));
    assert_eq!(
        unpacked(report["histograms"]["sent"].as_str().unwrap()).len(),
        report["sent"].as_u64().unwrap()
    );

    let text = read("run.hgrm");
    assert!(
        text.contains(&format!("Total count    = {asked:12}]")),
        "{text}"
    );
    let median = text
        .lines()
        .find(|line| line.contains(" 0.500000000000 "))
        .unwrap();
    let median: f64 = median.split_whitespace().next().unwrap().parse().unwrap();
    assert!(
        near(whole.value_at_quantile(0.5), median * 1e3),
        "{median} ms"
    );

    let words = [
        "bench",
        &endpoint,
        "--frame",
        "line",
        "-n",
        "9",
        "--no-floor",
        "--hgrm",
        "again.hgrm",
    ];
    let err = serve.home.run(&words).err;
    assert!(err.contains("wrote again.hgrm"), "{err}");

    for chart in ["rate", "latency", "percentiles", "heat"] {
        let svg = read(&format!("charts/of/it/{chart}.svg"));
        roxmltree::Document::parse(&svg).unwrap();
    }
}

fn unpacked(text: &str) -> Histogram<u64> {
    let bytes = BASE64_STANDARD.decode(text).unwrap();
    Deserializer::new().deserialize(&mut &bytes[..]).unwrap()
}

/// Three digits, printed with one after the decimal point.
fn near(nanos: u64, micros: f64) -> bool {
    (nanos as f64 / 1e3 - micros).abs() <= micros / 500.0 + 0.1
}

#[test]
fn unwritable_file_is_reported_before_the_run() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let home = Home::new();
    fs::create_dir(home.path().join("folder")).unwrap();
    fs::write(home.path().join("file"), "").unwrap();
    for (option, path, why) in [
        ("--report", "folder", "it is a folder; name a file in it"),
        (
            "--report",
            "none/run.html",
            "there is no folder none; make it first",
        ),
        ("--hgrm", "/dev/null", "it is not a regular file"),
        (
            "--svg",
            "file/charts",
            "cannot create the folder file/charts",
        ),
    ] {
        let ran = bench(&home, &endpoint, &[option, path]);
        assert_eq!(
            (ran.code, ran.out.len()),
            (Some(1), 0),
            "{option} {path}: {ran:?}"
        );
        assert!(
            ran.err.contains(path) && ran.err.contains(why),
            "{option} {path}: {}",
            ran.err
        );
        assert!(
            listener.accept().is_err(),
            "{option} {path}: it connected all the same"
        );
    }
    assert_eq!(names(home.path()), ["file", "folder"]);
}

#[test]
fn failed_run_leaves_the_old_report() {
    let home = Home::new();
    fs::write(home.path().join("run.html"), "old").unwrap();
    let unused = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let ran = bench(&home, &unused.to_string(), &["--report", "run.html"]);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert_eq!(
        fs::read_to_string(home.path().join("run.html")).unwrap(),
        "old"
    );
    assert_eq!(names(home.path()), ["run.html"]);
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}
