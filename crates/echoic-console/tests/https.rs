//! The console over TLS and with a password, attacked: hosts, origins, guesses, and clients that do not do the handshake.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::{Duration, Instant};

use base64::{Engine, prelude::BASE64_STANDARD};
use echoic_wire::Link;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::common::{
    Kind, Options, Site, TOKEN,
    client::{Connection, Reply, raw},
    write_certificate,
};

const PASSWORD: &str = "größer: als acht";
const JSON: &str = "Content-Type: application/json";
const SOON: Duration = Duration::from_secs(20);

async fn site(tls: bool) -> Site {
    Site::with(Options {
        tls,
        password: Some(PASSWORD),
        ..Options::of(Kind::Memory)
    })
    .await
}

fn basic(password: &str) -> String {
    let pair = BASE64_STANDARD.encode(format!("anybody:{password}"));
    format!("Authorization: Basic {pair}")
}

/// Logs in with a password, from 127.0.0.1.
async fn log_in(site: &Site, password: &str) -> Reply {
    let body = serde_json::json!({ "password": password }).to_string();
    let client = &site.client;
    client
        .with("POST", "/api/v1/session", &[JSON], Some(&body))
        .await
}

/// Returns the header with the cookie of a login.
fn cookie(reply: &Reply) -> String {
    let cookie = reply.header("set-cookie").unwrap();
    format!("Cookie: {}", cookie.split(';').next().unwrap())
}

/// Values of Host, whether each is accepted, and whether it is another machine's name.
fn hosts(port: u16) -> Vec<(String, bool, bool)> {
    let other = port ^ 1;
    vec![
        (format!("127.0.0.1:{port}"), true, false),
        (format!("localhost:{port}"), true, false),
        (format!("console.example:{port}"), true, true),
        (format!("Console.Example:{port}"), true, true),
        (format!("a.wild.example:{port}"), true, true),
        (format!("a.b.wild.example:{port}"), false, false),
        (format!("wild.example:{port}"), false, false),
        ("console.example".to_owned(), false, false),
        (format!("console.example:{other}"), false, false),
        (format!("evil.example:{port}"), false, false),
        (format!("192.0.2.1:{port}"), false, false),
    ]
}

/// Headers with an Origin, and whether each is right.
fn origins(host: &str) -> Vec<(String, bool)> {
    let mut headers = vec![(String::new(), true)];
    let named = [
        (format!("https://{host}"), true),
        (format!("http://{host}"), false),
        (format!("https://{host}.evil.example"), false),
        ("https://evil.example".to_owned(), false),
        ("null".to_owned(), false),
    ];
    headers.extend(named.map(|(origin, right)| (format!("Origin: {origin}\r\n"), right)));
    headers
}

#[tokio::test(flavor = "multi_thread")]
async fn https_console_takes_its_own_names_and_https_origins_alone() {
    let site = site(true).await;
    let cookie = cookie(&log_in(&site, PASSWORD).await);
    let credentials = [
        (String::new(), false, false),
        (format!("Authorization: Bearer {TOKEN}\r\n"), true, false),
        (format!("{}\r\n", basic(PASSWORD)), true, false),
        (format!("{cookie}\r\n"), true, true),
        ("Cookie: echoic-1=wrong\r\n".to_owned(), false, false),
    ];
    let targets = [
        ("GET", "/", true),
        ("GET", "/livez", true),
        ("GET", "/api/v1/info", false),
        ("GET", "/nothing", false),
        ("POST", "/api/v1/explain", false),
    ];
    let mut passed = 0;
    for (method, target, is_open) in targets {
        let mut connection = site.client.connect().await;
        for (host, has_host, is_remote) in hosts(site.console.port()) {
            for (origin, has_origin) in origins(&host) {
                for (credential, is_known, is_cookie) in &credentials {
                    let head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{origin}");
                    let raw = format!("{head}{credential}{JSON}\r\nContent-Length: 2\r\n\r\n{{}}");
                    connection.send(raw.as_bytes()).await;
                    let reply = connection.receive(method).await;
                    let says_origin = !is_cookie || method == "GET" || !origin.is_empty();
                    let is_allowed =
                        has_host && has_origin && (is_open || *is_known) && says_origin;
                    assert_eq!(reply.status != 403, is_allowed, "{}: {raw}", reply.status);
                    let strict = reply.header("strict-transport-security");
                    assert_eq!(strict.is_some(), is_remote, "{raw}");
                    passed += usize::from((200..300).contains(&reply.status));
                }
            }
        }
    }
    assert!(passed > 100, "{passed} passed");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn session_of_a_password_is_a_secure_cookie() {
    for tls in [true, false] {
        let site = site(tls).await;
        let reply = log_in(&site, PASSWORD).await;
        reply.ok(204);
        let set = reply.header("set-cookie").unwrap();
        let secure = if tls { " Secure;" } else { "" };
        let end = format!("; HttpOnly;{secure} SameSite=Strict; Path=/api/v1");
        assert!(set.ends_with(&end), "{set}");
        let cookie = cookie(&reply);
        let client = &site.client;
        let info = client.with("GET", "/api/v1/info", &[&cookie], None).await;
        info.ok(200);
        assert!(!info.text().contains(PASSWORD));
        let basic = basic(PASSWORD);
        client
            .with("GET", "/api/v1/info", &[&basic], None)
            .await
            .ok(200);
        site.get("/api/v1/info").await.ok(200);
        let denied = client.with("GET", "/api/v1/info", &[], None).await;
        assert_eq!(denied.json()["needs"], "password");
        denied.problem(403);
        for body in ["{}", "{\"token\":\"a\",\"password\":\"b\"}"] {
            let reply = client
                .with("POST", "/api/v1/session", &[JSON], Some(body))
                .await;
            reply.problem(400);
        }
        site.stop().await;
    }
    // Without a password there is none to log in with.
    let site = Site::new(Kind::Memory).await;
    log_in(&site, PASSWORD).await.problem(403);
    let denied = site.client.with("GET", "/api/v1/info", &[], None).await;
    assert_eq!(denied.json()["needs"], "token");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn eleventh_password_of_a_minute_is_not_looked_at() {
    let site = site(true).await;
    let session = cookie(&log_in(&site, PASSWORD).await);
    for n in 0..10 {
        let reply = if n % 2 == 0 {
            log_in(&site, "wrong password").await
        } else {
            let wrong = basic("wrong password");
            site.client
                .with("GET", "/api/v1/info", &[&wrong], None)
                .await
        };
        let told = reply.problem(403);
        assert!(told.contains("the password is wrong"), "{told}");
    }
    // Also the right one: an answer would tell that it is.
    let refused = log_in(&site, PASSWORD).await;
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds));
    assert!(refused.header("set-cookie").is_none());
    refused.problem(429);
    let right = basic(PASSWORD);
    let client = &site.client;
    let refused = client.with("GET", "/api/v1/info", &[&right], None).await;
    assert!(refused.header("retry-after").is_some());
    refused.problem(429);
    // Neither sessions nor the token depend on it, nor do other addresses.
    client
        .with("GET", "/api/v1/info", &[&session], None)
        .await
        .ok(200);
    site.get("/api/v1/info").await.ok(200);
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let stream = socket.connect(site.console).await.unwrap();
    let link = client.open(Link::tcp(stream, None), &[]).await.unwrap();
    let mut other = Connection::over(link);
    let host = format!("Host: {}", site.console);
    let request = raw("GET", "/api/v1/info", &[&host, &right], None);
    other.send(request.as_bytes()).await;
    other.receive("GET").await.ok(200);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_sent_at_once_are_not_more_than_the_limit() {
    let site = std::sync::Arc::new(site(false).await);
    let mut logins = JoinSet::new();
    for _ in 0..60 {
        let site = std::sync::Arc::clone(&site);
        logins.spawn(async move { log_in(&site, "wrong password").await.status });
    }
    let statuses = logins.join_all().await;
    let of = |wanted: u16| statuses.iter().filter(|status| **status == wanted).count();
    assert_eq!((of(403), of(429)), (10, 50), "{statuses:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn open_routes_tell_nothing_of_a_password() {
    let site = site(false).await;
    let host = format!("Host: {}", site.console);
    let right = basic(PASSWORD);
    let wrong = basic("wrong password");
    let request = |credential: &str| raw("GET", "/livez", &[&host, credential], None);
    // Wrong ones are not counted either.
    let requests = request(&wrong).repeat(15);
    let mut other = site.client.connect().await;
    other.send(requests.as_bytes()).await;
    for _ in 0..15 {
        assert_eq!(other.receive("GET").await.status, 200);
    }
    // A right one does not make the connection last.
    let mut holder = TcpStream::connect(site.console).await.unwrap();
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < Duration::from_mins(1), "it lasts");
        if holder.write_all(request(&right).as_bytes()).await.is_err() {
            break;
        }
        match holder.read(&mut [0; 4096]).await {
            Ok(read) if read > 0 => sleep(Duration::from_millis(200)).await,
            _ => break,
        }
    }
    log_in(&site, PASSWORD).await.ok(204);
    site.stop().await;
}

/// Sends bytes as they are, and returns what comes until the end.
async fn answer(site: &Site, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(site.console).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = timeout(SOON, stream.read_to_end(&mut answer)).await;
    read.unwrap().unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_handshake_is_answered_and_ends_its_connection_alone() {
    let site = site(true).await;
    let (host, token) = (
        format!("Host: {}", site.console),
        format!("Authorization: Bearer {TOKEN}"),
    );
    let info = raw("GET", "/api/v1/info", &[&host, &token], None);
    let mut open = site.client.connect().await;
    open.send(info.as_bytes()).await;
    open.receive("GET").await.ok(200);
    let mut posted = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n".to_vec();
    posted.resize(100_000, b'x');
    for request in [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", &posted[..]] {
        let answer = String::from_utf8(answer(&site, request).await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(answer.contains("https://"), "{answer}");
    }
    let alert = answer(&site, b"\x05\x01\0").await;
    assert_eq!(alert, b"\x15\x03\x01\0\x02\x02\x32");
    // What offers HTTP/2 alone has no protocol in common.
    for (alpn, expected) in [(&["h2"][..], None), (&["h2", "http/1.1"], Some("http/1.1"))] {
        let stream = TcpStream::connect(site.console).await.unwrap();
        let link = site.client.open(Link::tcp(stream, None), alpn).await;
        let agreed = link.ok().map(|link| link.tls().unwrap().alpn.clone());
        assert_eq!(agreed.flatten().as_deref(), expected, "{alpn:?}");
    }
    open.send(info.as_bytes()).await;
    open.receive("GET").await.ok(200);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_handshake_ends_and_keeps_nobody_out() {
    let site = site(true).await;
    let mut slow = TcpStream::connect(site.console).await.unwrap();
    slow.write_all(b"\x16\x03\x01").await.unwrap();
    let ended = timeout(SOON, slow.read_to_end(&mut Vec::new())).await;
    assert!(ended.is_ok(), "a handshake that never ends stays");
    // On a busy machine the time of the slow ones may pass meanwhile, which shows nothing.
    for _ in 0..5 {
        let started = Instant::now();
        let mut others = Vec::new();
        for _ in 0..256 {
            let mut other = TcpStream::connect(site.console).await.unwrap();
            other.write_all(b"\x16\x03\x01").await.unwrap();
            others.push(other);
        }
        let reply = site.get("/api/v1/info").await;
        assert_eq!(reply.status, 200);
        if started.elapsed() < Duration::from_secs(4) {
            let oldest = timeout(SOON, others[0].read(&mut [0])).await.unwrap();
            assert_eq!(oldest.unwrap_or(0), 0, "the oldest gave way");
            site.stop().await;
            return;
        }
    }
    panic!("it gets in only once the slow ones are gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_those_of_the_certificate_in_use() {
    let site = site(true).await;
    let (tls, files) = site.tls.clone().unwrap();
    let port = site.console.port();
    let status = async |name: &str| {
        let mut connection = site.client.connect().await;
        let host = format!("Host: {name}:{port}");
        connection
            .send(raw("GET", "/livez", &[&host], None).as_bytes())
            .await;
        connection.receive("GET").await.status
    };
    assert_eq!(status("console.example").await, 200);
    assert_eq!(status("renamed.example").await, 403);
    write_certificate(&files, &["localhost", "renamed.example"]);
    tls.reload().unwrap().unwrap();
    assert_eq!(status("console.example").await, 403);
    assert_eq!(status("renamed.example").await, 200);
    site.stop().await;
}
