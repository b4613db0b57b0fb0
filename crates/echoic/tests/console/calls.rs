//! Calls that the console makes: real ones, recorded once.

use std::{
    io::Write,
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    first, free_port,
    harness::{Talk, until},
    with_console,
};

/// A wait that a reply ends.
const LONG: &str = "20s";

#[test]
fn call_to_an_own_endpoint_is_recorded_once_by_the_server() {
    let (serve, console) = with_console(&[
        "upper=:0",
        "udp://:0",
        "unix:./u.sock",
        "upper=:0?frame=u16be",
    ]);
    for endpoint in 1..=4 {
        let call = json!({"endpoint": endpoint, "messages": [{"text": "hello"}, {"text": "straße {n}"}],
            "counter": true, "wait": LONG});
        let result = console.submit("/api/v1/send", &call).json();
        let id = result["conv"]
            .as_u64()
            .unwrap_or_else(|| panic!("{endpoint}: {result}"));
        let replies = result["replies"].as_array().unwrap();
        assert_eq!(replies.len(), 2, "{result}");
        assert!(
            replies
                .iter()
                .all(|reply| reply["lat_ns"].as_u64() > Some(0)),
            "{result}"
        );
        let filter = format!("conv:{id}");
        until("it is recorded", || serve.home.count(&[&filter]) == 2);
        let logged = serve.home.log(&[&filter]);
        for (reply, logged) in replies.iter().zip(&logged) {
            for side in ["req", "rep"] {
                for form in ["len", "text", "b64"] {
                    assert_eq!(reply[side][form], logged[side][form], "{logged}");
                }
            }
            assert_eq!(logged["role"], "server");
        }
        // A message with a header of zeros is no text.
        if endpoint < 4 {
            assert_eq!(logged[1]["rep"]["text"], "STRASSE 2");
        }
    }
    assert_eq!(serve.home.count(&[]), 8, "each call is in the record once");
}

#[test]
fn call_reports_silence_and_a_greeting() {
    let (_serve, console) = with_console(&["discard=:0", "greet=:0"]);
    let silent = json!({"endpoint": 1, "messages": [{"text": "a"}, {"text": "b"}], "wait": "50ms"});
    let result = console.submit("/api/v1/send", &silent).json();
    assert!(
        result["replies"]
            .as_array()
            .unwrap()
            .iter()
            .all(|reply| reply["lat_ns"] == Value::Null),
        "{result}"
    );
    let greeting = json!({"endpoint": 2, "messages": [{"text": "x"}], "wait": LONG});
    let result = console.submit("/api/v1/send", &greeting).json();
    let all = result["replies"].to_string();
    assert!(all.contains("Thank you for connecting"), "{result}");
}

#[test]
fn call_ends_once_more_came_than_it_takes() {
    let (_serve, console) = with_console(&["chargen=:0"]);
    let messages = [(); 5].map(|()| json!({"text": "a"}));
    let call = json!({"endpoint": 1, "messages": messages, "frame": "line",
        "every": "10s", "wait": "60s"});
    let started = Instant::now();
    let result = console.submit("/api/v1/send", &call).json();
    let took = started.elapsed();
    let end = result["end"].as_str().unwrap();
    assert!(end.contains("more came in reply"), "{end}");
    let replies = result["replies"].as_array().unwrap().len();
    assert!((20_000..21_000).contains(&replies), "{replies}");
    // Its four pauses alone take longer.
    assert!(took < Duration::from_secs(30), "{took:?}");
}

#[test]
fn call_to_a_peer_that_never_ends_has_a_deadline() {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = target.local_addr().unwrap().to_string();
    let peer = thread::spawn(move || {
        let mut peer = target.accept().unwrap().0;
        let started = Instant::now();
        while started.elapsed() < Duration::from_mins(1) && peer.write_all(b".").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
        started.elapsed()
    });
    let (_serve, console) = with_console(&["upper=:0", "--console-send", &at]);
    // A peer that runs late keeps within this wait too.
    let call = json!({"target": 1, "messages": [{"text": "a"}], "wait": "2s"});
    let result = console.submit("/api/v1/send", &call).json();
    let end = result["end"].as_str().unwrap();
    assert!(end.contains("the call took longer"), "{end}");
    let took = peer.join().unwrap();
    // It has 5 s, and the peer a minute.
    assert!(took < Duration::from_secs(30), "{took:?}");
}

#[test]
fn call_to_an_allowed_target_is_recorded_once_as_a_client() {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = target.local_addr().unwrap().to_string();
    let peer = thread::spawn(move || {
        let mut talk = Talk(target.accept().unwrap().0);
        talk.expect_reply("ping\n");
        talk.send("pong\n");
        talk.rest()
    });
    let (serve, console) = with_console(&["upper=:0", "--console-send", &at]);
    let info = console.get("/api/v1/info").json();
    assert_eq!(
        info["targets"],
        json!([{"id": 1, "url": format!("tcp://{at}")}])
    );
    let call = json!({"target": 1, "messages": [{"text": "ping"}], "frame": "line", "wait": LONG});
    let result = console.submit("/api/v1/send", &call).json();
    assert_eq!(peer.join().unwrap(), b"");
    let id = result["conv"]
        .as_u64()
        .unwrap_or_else(|| panic!("{result}"));
    until("it is recorded", || serve.home.count(&[]) == 1);
    let logged = &serve.home.log(&[])[0];
    assert_eq!(
        (&logged["conv"], &logged["role"]),
        (&json!(id), &json!("client"))
    );
    assert_eq!(
        (&logged["req"]["text"], &logged["rep"]["text"]),
        (&json!("ping\n"), &json!("pong\n"))
    );
    let unknown = json!({"target": 2, "messages": [{"text": "ping"}]});
    assert_eq!(console.submit("/api/v1/send", &unknown).status, 404);
}

#[test]
fn call_never_goes_to_the_console() {
    let port = free_port();
    let at = format!("127.0.0.1:{port}");
    let targets = [
        format!("localhost:{port}"),
        format!("0.0.0.0:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
        at.clone(),
    ];
    let mut args = vec!["upper=:0", "--console", &at];
    for target in &targets {
        args.extend(["--console-send", target]);
    }
    let serve = crate::serve(&args);
    let console = crate::console_of(&serve.err);
    for target in 1..=targets.len() {
        let call = json!({"target": target, "messages": [{"text": "GET /livez HTTP/1.1\r\n\r\n"}]});
        let answer = console.submit("/api/v1/send", &call);
        assert_eq!(answer.status, 400, "{}: {answer:?}", targets[target - 1]);
        assert!(answer.body.contains("the console itself"), "{answer:?}");
    }
}

#[test]
fn readonly_console_sends_nothing() {
    let (serve, console) = with_console(&["upper=:0", "--console-readonly"]);
    let call = json!({"endpoint": 1, "messages": [{"text": "hello"}]});
    assert_eq!(console.submit("/api/v1/send", &call).status, 403);
    let pause = json!({"state": "paused"});
    assert_eq!(
        console
            .ask("PATCH", "/api/v1/endpoints/1", Some(&pause))
            .status,
        403
    );
    assert_eq!(console.get("/api/v1/info").json()["readonly"], true);
    assert_eq!(serve.home.count(&[]), 0);
}

#[test]
fn paused_endpoint_is_not_called_and_open_resumes_it() {
    let (serve, console) = with_console(&["upper=:0", "--frame", "line"]);
    let set = |state: &str| {
        let answer = console.ask(
            "PATCH",
            "/api/v1/endpoints/1",
            Some(&json!({"state": state})),
        );
        answer.json()["state"].clone()
    };
    assert_eq!(set("paused"), "paused");
    let call = json!({"endpoint": 1, "messages": [{"text": "hello"}], "wait": LONG});
    let answer = console.submit("/api/v1/send", &call);
    assert_eq!(answer.status, 400, "{answer:?}");
    assert!(answer.body.contains("open it first"), "{answer:?}");
    let mut waiting = Talk::to(first(&serve));
    waiting.send("waits\n");
    assert_eq!(set("open"), "open");
    waiting.expect_reply("WAITS\n");
    assert_eq!(
        console.submit("/api/v1/send", &call).json()["replies"][0]["rep"]["text"],
        "HELLO\n"
    );
}
