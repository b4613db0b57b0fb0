//! What cannot work is refused at the start, with a remedy, the right exit code, and no password in it.

use super::{
    certs::{Ca, Valid},
    harness::{Home, Nats, Ran, Serve, Talk, free_port},
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

/// The certificate is verified: with the issuer of the URL, or with those of the system, which do not know it.
#[test]
fn nats_over_tls_is_verified_with_the_ca_of_the_url() {
    let (ca, home) = (Ca::new("ours"), Home::new());
    let pair = ca.server(&["127.0.0.1"], Valid::Now);
    let file = |name: &str, text: &str| {
        let path = home.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (certificate, key) = (file("c.pem", &pair.certificate), file("k.pem", &pair.key));
    // NATS allows 2 s for a handshake, which is too little on a busy machine.
    let config =
        format!("tls {{ cert_file: \"{certificate}\", key_file: \"{key}\", timeout: 30 }}");
    let nats = Nats::with_config(&config, &["--user", "me", "--pass", "s3cret"]);
    let url = nats.url_as("me:s3cret", "upper");
    let trusting = format!("{url}?ca={}", file("ca.pem", &ca.pem));
    let worker = Worker::start_on(&trusting, "upper");
    let serve = Serve::start(&[":0", "--as", &trusting]);
    Talk::to(serve.at[0]).ask("a", "A");
    let said = serve.err.so_far().join("\n");
    assert!(
        !said.contains("s3cret") && !said.contains("ca.pem"),
        "{said}"
    );

    let other = file("other.pem", &Ca::new("theirs").pem);
    for (url, code, why) in [
        (
            url.clone(),
            8,
            "the TLS handshake with NATS at nats://127.0.0.1:",
        ),
        (
            format!("{url}?ca={other}"),
            8,
            "the TLS handshake with NATS at nats://127.0.0.1:",
        ),
        (format!("{url}?ca={key}"), 1, "it has no certificate (PEM)"),
        (
            format!("{url}?ca=none.pem"),
            1,
            "the ca none.pem: No such file",
        ),
        (
            format!("{url}?creds=f"),
            2,
            "nkeys are not supported: put user and password",
        ),
    ] {
        let err = refused(&["work", "upper", "--on", &url], code);
        assert!(err.contains(why), "{url}: {err}");
    }
    serve.stop();
    worker.stop();
    // What has no TLS is not talked to without it.
    let plain = Nats::start(&[]);
    let url = plain.url("upper") + "?ca=" + &file("ca.pem", &ca.pem);
    refused(&["work", "upper", "--on", &url], 8);
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
