//! `echoic bench tls://`.

use std::fs;

use serde_json::Value;

use super::{ENDPOINT, home, openssl::SServer};
use crate::harness::{Home, Ran, Serve};

fn bench(home: &Home, endpoint: &str, more: &[&str]) -> Ran {
    let args = [
        "bench",
        endpoint,
        "--ca",
        "ca.pem",
        "--frame",
        "line",
        "--warmup",
        "0s",
        "-q",
        "--no-floor",
    ];
    home.run(&[&args[..], more].concat())
}

#[track_caller]
fn measured(ran: &Ran) -> Value {
    assert_eq!(ran.code, Some(0), "{ran:?}");
    serde_json::from_slice(&ran.out).unwrap()
}

#[test]
fn handshakes_are_counted_and_resumed_only_if_asked_to() {
    let (home, _) = home();
    let serve = Serve::start_in(&home, &[ENDPOINT]);
    let ours = format!("tls://localhost:{}", serve.at[0].port());
    let churn = ["-n", "60", "--churn", "1", "-c", "2", "-o", "json"];
    let full = measured(&bench(&home, &ours, &churn));
    assert_eq!(full["ok"], 60);
    let tls = &full["tls"];
    assert_eq!(tls["resumed"], 0, "{tls}");
    // The two of the beginning are open before the window begins.
    let count = tls["full"].as_u64().unwrap();
    assert!((56..=60).contains(&count), "{tls}");
    assert!(tls["per_s"].as_f64().unwrap() > 0.0, "{tls}");

    // The first handshake of each connection cannot be resumed, and tickets must have come before one can be used.
    let resumed = measured(&bench(
        &home,
        &ours,
        &[&churn[..], &["--tls-resume"]].concat(),
    ));
    assert_eq!(resumed["ok"], 60);
    let tls = &resumed["tls"];
    let (full, again) = (&tls["full"], &tls["resumed"]);
    let total = full.as_u64().unwrap() + again.as_u64().unwrap();
    assert!((56..=60).contains(&total), "{tls}");
    assert!(again.as_u64().unwrap() >= 40, "{tls}");

    let text = bench(&home, &ours, &[&churn[..6], &["-o", "text"]].concat());
    let out = String::from_utf8_lossy(&text.out);
    assert!(
        out.contains(" TLS        ") && out.contains(" 0 resumed"),
        "{out}"
    );
    // Without churn there is none in the window.
    let kept = measured(&bench(&home, &ours, &["-n", "60", "-o", "json"]));
    assert_eq!((&kept["ok"], &kept["tls"]["full"]), (&60.into(), &0.into()));
    serve.stop();
    // What tells the expected reply is recorded too.
    assert!(home.count(&["tls:1.3"]) >= 240);

    for version in ["-tls1_3", "-tls1_2"] {
        let server = SServer::start(
            &home,
            &["-cert", "server.pem", "-key", "server.key", version],
        );
        let at = server.named("localhost");
        let args = [
            "-n",
            "20",
            "--churn",
            "1",
            "-o",
            "json",
            "--tls-resume",
            "--expect",
            "any",
        ];
        let resumed = measured(&bench(&home, &at, &args));
        let again = resumed["tls"]["resumed"].as_u64().unwrap();
        assert!(again >= 10, "{version}: {}", resumed["tls"]);
    }
}

#[test]
fn result_fits_its_schema_and_an_untrusted_server_is_not_loaded() {
    let (home, _) = home();
    let serve = Serve::start_in(&home, &[ENDPOINT]);
    let at = format!("tls://localhost:{}", serve.at[0].port());
    let args = ["-n", "10", "--churn", "2", "-o", "json"];
    let result = measured(&bench(&home, &at, &args));
    let schema = include_str!("../../../../docs/bench-result.schema.json");
    let schema: Value = serde_json::from_str(schema).unwrap();
    let properties = &schema["properties"];
    assert!(properties["tls"].is_object(), "the schema has the key");
    let validator = jsonschema::validator_for(&schema).unwrap();
    assert!(validator.is_valid(&result), "{result}");
    fs::remove_file(home.path().join("ca.pem")).unwrap();
    let missing = bench(&home, &at, &["-n", "1"]);
    assert_eq!(missing.code, Some(2), "{missing:?}");
    assert!(missing.err.contains("cannot read ca.pem"), "{missing:?}");
    let args = ["bench", &at, "-n", "1", "-q", "--frame", "line"];
    let untrusted = home.run(&args);
    assert_eq!(untrusted.code, Some(8), "{untrusted:?}");
    assert!(untrusted.err.contains("unknown issuer"), "{untrusted:?}");
}
