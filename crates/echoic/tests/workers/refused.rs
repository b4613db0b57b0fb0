//! What cannot work is refused at the start, with a remedy, the right exit code, and no password in it.

use super::{
    harness::{Home, Nats, Ran, free_port},
    worker::Worker,
};

/// Runs a command that must fail; returns its message.
#[track_caller]
fn refused(args: &[&str], code: i32) -> String {
    let Ran { code: was, err, .. } = Home::new().run(args);
    assert_eq!(was, Some(code), "{args:?}: {err}");
    assert!(!err.contains("s3cret"), "{args:?}: {err}");
    err
}

#[test]
fn subject_without_a_worker_is_refused_at_once() {
    let nats = Nats::start(&[]);
    let url = nats.url("nobody");
    let err = refused(&["serve", ":0", "--as", &url], 4);
    let expected =
        format!("no worker serves {url}; start one with `echoic work SERVICE --on {url}`");
    assert!(err.contains(&expected), "{err}");
}

#[test]
fn unreachable_nats_is_refused() {
    let url = format!("nats://me:s3cret@127.0.0.1:{}/x", free_port());
    for args in [
        &["serve", ":0", "--as", &url][..],
        &["work", "upper", "--on", &url],
    ] {
        let err = refused(args, 4);
        assert!(
            err.contains("cannot reach NATS at nats://127.0.0.1:"),
            "{err}"
        );
        assert!(err.contains("start it with `nats-server`"), "{err}");
    }
    let err = refused(
        &["work", "upper", "--on", "nats://no-such-host.invalid/x"],
        3,
    );
    assert!(err.contains("cannot resolve the host"), "{err}");
}

#[test]
fn login_that_nats_does_not_accept_is_refused() {
    let nats = Nats::start(&["--user", "me", "--pass", "right"]);
    for login in ["me:s3cret", "s3cret"] {
        let url = nats.url_as(login, "x");
        for args in [
            &["serve", ":0", "--as", &url][..],
            &["work", "upper", "--on", &url],
        ] {
            let err = refused(args, 4);
            assert!(err.contains("did not accept user and password"), "{err}");
            assert!(err.contains("USER:PASSWORD@ or TOKEN@"), "{err}");
        }
    }
    let url = nats.url_as("me:right", "upper");
    let home = Home::new();
    let mut work = home.echoic(&["work", "upper", "--on", &url]);
    let mut child = work.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let err = super::harness::Lines::of(child.stderr.take().unwrap());
    let line = err.wait_for("working: ");
    assert!(!line.contains("right"), "{line}");
    super::harness::kill(&mut child);
}

#[test]
fn url_without_host_or_subject_is_refused() {
    for (url, why) in [
        ("nats://", "host"),
        ("nats://me:s3cret@/x", "host"),
        (
            "nats://me:s3cret@host:4222",
            "name after the host is missing",
        ),
        (
            "nats://me:s3cret@host:4222/",
            "name after the host is missing",
        ),
        ("nats://me:s3cret@host/a b", "letters, digits"),
    ] {
        for args in [
            &["serve", ":0", "--as", url][..],
            &["work", "upper", "--on", url],
        ] {
            let err = refused(args, 2);
            assert!(err.contains(why), "{url}: {err}");
            assert!(err.contains("nats://HOST:PORT/NAME"), "{url}: {err}");
        }
        let endpoint = format!(":0?as={url}");
        let err = refused(&["serve", &endpoint], 2);
        assert!(err.contains(why), "{url}: {err}");
    }
}

#[test]
fn service_that_sends_without_being_asked_cannot_work() {
    let nats = Nats::start(&[]);
    let err = refused(&["work", "chargen", "--on", &nats.url("x")], 2);
    assert!(err.contains("chargen cannot run in a worker"), "{err}");
}

#[test]
fn subject_is_taken_by_the_letter() {
    let nats = Nats::start(&[]);
    let worker = Worker::start(&nats, "echo", "echo");
    let err = refused(&["serve", ":0", "--as", &nats.url("echo.other")], 4);
    assert!(err.contains("no worker serves"), "{err}");
    worker.stop();
}
