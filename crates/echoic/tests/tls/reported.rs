//! What `serve` reports about the certificates of its endpoints.

use std::sync::Arc;

use serde_json::Value;

use super::{ENDPOINT, home};
use crate::harness::{Home, Serve, run, tool};

/// The SHA-256 of a certificate in a file, as openssl computes it.
fn sha256(home: &Home, file: &str) -> String {
    let mut openssl = tool("openssl", "openssl");
    openssl.current_dir(home.path());
    openssl.args(["x509", "-noout", "-fingerprint", "-sha256", "-in", file]);
    let text = run(&mut openssl, b"").good();
    let (_, digits) = text.trim().split_once('=').unwrap();
    digits.replace(':', "").to_lowercase()
}

/// Both endpoints have port 0 on the command line, so the port says nothing.
#[test]
fn each_endpoint_names_its_own_authority() {
    let (home, _) = home();
    for own_first in [true, false] {
        let mut endpoints = [ENDPOINT, "lower=tls://127.0.0.1:0?frame=line"];
        if !own_first {
            endpoints.reverse();
        }
        let serve = Serve::start_in(&home, &endpoints);
        let own = serve.err.wait_for(" upper ");
        assert!(own.contains("try: echoic connect tls://"), "{own}");
        assert!(!own.contains("--ca"), "{own}");
        let made = serve.err.wait_for(" lower ");
        assert!(made.contains("--ca echoic.db-tls/ca.pem"), "{made}");
    }
}

#[test]
fn listening_event_has_the_certificates() {
    let (home, _) = home();
    let endpoints = ["127.0.0.1:0", ENDPOINT, "lower=tls://127.0.0.1:0"];
    let command = home.echoic(&[&["serve"], &endpoints[..], &["--print", "--json"]].concat());
    let serve = Serve::from(&Arc::clone(&home), &endpoints, command);
    let listening: Vec<Value> = serve.out.wait("three endpoints", |lines| {
        let events = lines.iter().filter(|line| line.contains("\"listening\""));
        let events: Vec<_> = events
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        (events.len() == 3).then_some(events)
    });
    let [plain, own, made] = &listening[..] else {
        panic!("{listening:?}")
    };
    assert_eq!((plain.get("ca"), plain.get("cert")), (None, None));
    assert_eq!(own.get("ca"), None, "{own}");
    assert_eq!(own["cert"]["file"], "server.pem");
    assert_eq!(own["cert"]["sha256"], *sha256(&home, "server.pem"));
    let (ca, cert) = ("echoic.db-tls/ca.pem", "echoic.db-tls/server.pem");
    assert_eq!(
        (&made["ca"]["file"], &made["cert"]["file"]),
        (&ca.into(), &cert.into())
    );
    assert_eq!(made["ca"]["sha256"], *sha256(&home, ca));
    assert_eq!(made["cert"]["sha256"], *sha256(&home, cert));
}
