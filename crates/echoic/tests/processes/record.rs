//! What a database tells, with NATS and without.

use std::sync::Arc;

use rustix::process::Signal;
use serde_json::json;
use trials_postgres::{PASSWORD, database};

use super::{
    harness::{Home, Nats, Serve, Talk, free_port, until},
    line,
    running::Running,
    server_of, status,
};

#[test]
fn database_tells_who_records_and_its_newest_exchange() {
    let Some(database) = database() else { return };
    let (home, url) = (Arc::new(Home::new()), database.url());
    let store = ["--store", url.as_str()];
    let start = || Serve::start_in(&home, &["upper=:0", "--frame", "line", "--store", &url]);
    let (first, second) = (start(), start());
    Talk::to(first.at[0]).ask("a\nb\n", "A\nB\n");
    until("it is recorded", || home.count(&store) == 2);
    until("both record", || {
        Talk::to(second.at[0]).ask("c\n", "C\n");
        let (lines, ..) = status(&home, &store);
        [&first, &second]
            .iter()
            .all(|serve| line(&lines, serve.id()).is_some())
    });
    let (lines, code, err) = status(&home, &store);
    assert_eq!((lines.len(), code), (3, Some(0)), "{err}");
    let told = line(&lines, first.id()).unwrap();
    assert_eq!(
        (&told["role"], &told["state"]),
        (&json!("serve"), &json!("recorded"))
    );
    assert!(told["seen_us"].as_u64() > Some(1 << 50), "{told}");
    let newest = &lines[2];
    assert_eq!(newest["role"], "store");
    assert!(newest["newest_id"].as_u64() >= Some(3), "{newest}");
    assert!(
        newest["newest_us"].as_i64() >= told["seen_us"].as_i64(),
        "{newest}"
    );
    assert!(!format!("{lines:?}{err}").contains(PASSWORD), "{lines:?}");
    let gone = first.id();
    first.stop();
    until("who has ended is gone", || {
        line(&status(&home, &store).0, gone).is_none()
    });
    second.stop();
    // What can be asked is listed, also if the rest cannot.
    let away = format!("nats://127.0.0.1:{}", free_port());
    let (lines, code, err) = status(&home, &["--on", &away, "--store", &url]);
    assert_eq!((lines.len(), code), (1, Some(4)), "{err}");
    assert_eq!(lines[0]["role"], "store");
}

/// The record tells of a server that hangs, and NATS that it is still connected.
#[test]
fn server_that_hangs_is_known_by_its_record() {
    let Some(database) = database() else { return };
    let nats = Nats::start(&[]);
    let (home, url, on) = (Arc::new(Home::new()), database.url(), server_of(&nats));
    let both = ["--on", on.as_str(), "--store", &url];
    let args = ["upper=:0", "--frame", "line", "--store", &url, "--on", &on];
    let serve = Serve::start_in(&home, &args);
    Talk::to(serve.at[0]).ask("a\n", "A\n");
    until("it records", || {
        line(&status(&home, &["--store", &url]).0, serve.id()).is_some()
    });
    let state = || {
        let (lines, code, _) = status(&home, &both);
        let state = line(&lines, serve.id()).map(|line| line["state"].clone());
        (state, code)
    };
    until("it answers", || {
        state() == (Some("running".into()), Some(0))
    });
    serve.signal(Signal::STOP);
    until("it is silent", || {
        state() == (Some("silent".into()), Some(5))
    });
    serve.signal(Signal::CONT);
    until("it answers again", || {
        state() == (Some("running".into()), Some(0))
    });
}

#[test]
fn console_controls_servers_that_record_into_postgresql() {
    let Some(database) = database() else { return };
    let nats = Nats::start(&[]);
    let (home, url, on) = (Arc::new(Home::new()), database.url(), server_of(&nats));
    let args = [
        "upper=127.0.0.1:0",
        "--frame",
        "line",
        "--store",
        &url,
        "--on",
        &on,
    ];
    let servers = [(); 2].map(|()| Serve::start_in(&home, &args));
    let console = ["console", "--console", ":0", "--store", &url, "--on", &on];
    let console = Running::start(&home, &console, "console on http://");
    let api = console.console();
    let endpoint = |serve: &Serve| {
        let address = json!(format!("tcp://{}", serve.at[0]));
        let mut found = None;
        until("the endpoint is listed", || {
            let listed = api.get("/api/v1/endpoints").json();
            let mut listed = listed["endpoints"].as_array().unwrap().iter();
            found = listed.find(|one| one["addrs"][0] == address).cloned();
            found.is_some()
        });
        found.unwrap()
    };
    let mut talks = servers.each_ref().map(|serve| Talk::to(serve.at[0]));
    for talk in &mut talks {
        talk.ask("hello\n", "HELLO\n");
    }
    for serve in &servers {
        endpoint(serve);
    }
    until("both are recorded", || home.count(&["--store", &url]) == 2);
    // Each conversation is reached at the server that has it.
    let open = api.get("/api/v1/conversations?q=is:open").json();
    let open = open["conversations"].as_array().unwrap().clone();
    assert_eq!(open.len(), 2, "{open:?}");
    for one in &open {
        let path = format!("/api/v1/conversations/{}/send", one["conv"]);
        let text = format!("to {}\n", one["peer"].as_str().unwrap());
        assert_eq!(api.submit(&path, &json!({"text": text})).status, 200);
    }
    for talk in &mut talks {
        let peer = talk.0.local_addr().unwrap();
        talk.expect_reply(format!("to {peer}\n"));
    }
    let id = endpoint(&servers[1])["id"].clone();
    let path = format!("/api/v1/endpoints/{id}");
    let paused = api.ask("PATCH", &path, Some(&json!({"state": "paused"})));
    assert_eq!(paused.json()["state"], "paused");
    assert_eq!(endpoint(&servers[0])["state"], "open");
}
