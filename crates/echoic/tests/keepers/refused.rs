//! What cannot record is refused at the start, with a remedy, the right exit code, and no password in it.

use super::harness::{Home, Nats, Ran, free_port};

/// Runs `serve` and `keep` on a URL, which must fail; returns their messages.
#[track_caller]
fn refused(url: &str, code: i32) -> [String; 2] {
    let run = |args: &[&str]| {
        let home = Home::new();
        let Ran { code: was, err, .. } = home.run(args);
        assert_eq!(was, Some(code), "{args:?}: {err}");
        assert!(!err.contains("s3cret"), "{args:?}: {err}");
        assert!(!home.store().exists(), "{args:?} left a database");
        err
    };
    [
        run(&["serve", ":0", "--store", url]),
        run(&["keep", "--from", url]),
    ]
}

#[test]
fn nats_without_jetstream_is_refused() {
    let nats = Nats::start(&[]);
    for err in refused(&nats.url("record"), 1) {
        assert!(err.contains("has no JetStream"), "{err}");
        assert!(err.contains("`nats-server --jetstream`"), "{err}");
    }
}

#[test]
fn stream_with_other_settings_is_refused_by_name() {
    let nats = Nats::with_jetstream();
    let subjects =
        r#"["echoic.record.batches.*","echoic.record.parts.>","echoic.record.unreadable"]"#;
    let config = format!(
        r#"{{"name":"record","subjects":{subjects},"retention":"limits","discard":"old","storage":"file",
            "max_consumers":-1,"max_msgs":-1,"max_bytes":-1,"max_age":0,"num_replicas":1}}"#
    );
    let created = nats.request("$JS.API.STREAM.CREATE.record", &config);
    assert!(!created.contains("error"), "{created}");
    for err in refused(&nats.url("record"), 1) {
        let expected = "the stream record at nats://127.0.0.1:";
        assert!(err.contains(expected), "{err}");
        assert!(
            err.contains("its retention is Limits: expected WorkQueue"),
            "{err}"
        );
        assert!(err.contains("name another stream in the URL"), "{err}");
    }
}

/// The remedy that the message names works: a stream that is small enough.
#[test]
fn jetstream_with_too_little_storage_is_refused_with_a_remedy() {
    let nats = Nats::with_config("jetstream { max_file_store: 100MB }", &["--jetstream"]);
    for err in refused(&nats.url("record"), 1) {
        let expected = "has too little storage for the stream record, which reserves 1 GiB";
        assert!(err.contains(expected), "{err}");
        assert!(err.contains("raise `max_file_store`"), "{err}");
        assert!(err.contains("a smaller max_bytes"), "{err}");
    }
    create_small_stream(&nats);
    super::serve(&nats, &["echo=:0"]).stop();
}

/// The administrator may choose the size.
#[test]
fn stream_of_another_size_is_accepted() {
    let nats = Nats::with_jetstream();
    create_small_stream(&nats);
    super::serve(&nats, &["echo=:0"]).stop();
}

/// One batch would fill it: what does not fit would never be recorded.
#[test]
fn stream_that_holds_no_batch_is_refused() {
    let nats = Nats::with_jetstream();
    create_stream(&nats, 30_000);
    for err in refused(&nats.url("record"), 1) {
        let expected = "its max_bytes is 30000: expected at least 8388608";
        assert!(err.contains(expected), "{err}");
    }
}

/// Creates the stream as the program does, but of 16 MB.
#[track_caller]
fn create_small_stream(nats: &Nats) {
    create_stream(nats, 16_000_000);
}

#[track_caller]
pub(super) fn create_stream(nats: &Nats, bytes: u64) {
    let subjects =
        r#"["echoic.record.batches.*","echoic.record.parts.>","echoic.record.unreadable"]"#;
    let config = format!(
        r#"{{"name":"record","subjects":{subjects},"retention":"workqueue","discard":"new","storage":"file",
            "max_consumers":-1,"max_msgs":-1,"max_bytes":{bytes},"max_age":0,"num_replicas":1}}"#
    );
    let created = nats.request("$JS.API.STREAM.CREATE.record", &config);
    assert!(!created.contains("error"), "{created}");
}

#[test]
fn unreachable_nats_and_wrong_login_are_refused() {
    let url = format!("nats://me:s3cret@127.0.0.1:{}/record", free_port());
    for err in refused(&url, 4) {
        assert!(
            err.contains("cannot reach NATS at nats://127.0.0.1:"),
            "{err}"
        );
    }
    let nats = Nats::with_jetstream_and("", &["--user", "me", "--pass", "right"]);
    for err in refused(&nats.url_as("me:s3cret", "record"), 4) {
        assert!(err.contains("did not accept user and password"), "{err}");
    }
}

#[test]
fn url_without_host_or_stream_is_refused() {
    for (url, why) in [
        ("nats://me:s3cret@/record", "host"),
        (
            "nats://me:s3cret@host:4222",
            "name after the host is missing",
        ),
        ("nats://me:s3cret@host/a b", "letters, digits"),
    ] {
        for err in refused(url, 2) {
            assert!(err.contains(why), "{url}: {err}");
            assert!(err.contains("nats://HOST:PORT/NAME"), "{url}: {err}");
        }
    }
    let nats = Nats::with_jetstream();
    for err in refused(&nats.url("a.b"), 1) {
        assert!(err.contains("the name of a stream has no dots"), "{err}");
    }
}

#[test]
fn keeper_needs_a_file() {
    let nats = Nats::with_jetstream();
    for store in ["memory", "none", &nats.url("other")] {
        let url = nats.url("record");
        let Ran { code, err, .. } = Home::new().run(&["keep", "--from", &url, "--store", store]);
        assert_eq!(code, Some(2), "{err}");
        assert!(
            err.contains("expected a file or postgres://… to write to"),
            "{err}"
        );
    }
}

/// A node alone keeps one copy: the message says what to write instead.
#[test]
fn replicas_on_a_node_alone_are_refused_with_a_remedy() {
    let nats = Nats::with_jetstream();
    for err in refused(&format!("{}?replicas=3", nats.url("record")), 1) {
        let expected = "has too few nodes with JetStream for 3 replicas of the stream record";
        assert!(err.contains(expected), "{err}");
        assert!(err.contains("ask for fewer with ?replicas=N"), "{err}");
    }
}
