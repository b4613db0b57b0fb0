//! The guard, attacked: every route with every method, Origin, Host, spelling of the path, and token.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};

use crate::common::{
    Kind, Site, TOKEN,
    client::{Connection, Reply, raw},
};

/// Methods, and what each adds to the request.
const METHODS: [(&str, &str); 9] = [
    ("GET", ""),
    ("POST", ""),
    ("PATCH", ""),
    ("PUT", ""),
    ("DELETE", ""),
    ("OPTIONS", "Access-Control-Request-Method: POST\r\n"),
    ("HEAD", ""),
    ("TRACE", ""),
    (
        "GET",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    ),
];

/// Spellings of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spelling {
    Plain,
    Encoded,
    DoubleSlash,
    Dot,
    DotDot,
    Parameter,
    Case,
    TrailingSlash,
    EncodedSlash,
}

const SPELLINGS: [Spelling; 9] = [
    Spelling::Plain,
    Spelling::Encoded,
    Spelling::DoubleSlash,
    Spelling::Dot,
    Spelling::DotDot,
    Spelling::Parameter,
    Spelling::Case,
    Spelling::TrailingSlash,
    Spelling::EncodedSlash,
];

impl Spelling {
    /// Returns the path spelled in this way.
    fn of(self, path: &str) -> String {
        let rest = &path[1..];
        match self {
            Self::Plain => path.to_owned(),
            Self::Encoded => match rest.chars().next() {
                Some(first) => format!("/%{:02x}{}", first as u32, &rest[1..]),
                None => "/%2f".to_owned(),
            },
            Self::DoubleSlash => format!("//{rest}"),
            Self::Dot => format!("/./{rest}"),
            Self::DotDot => format!("/assets/../{rest}"),
            Self::Parameter => format!("{path};x"),
            Self::Case => path.to_ascii_uppercase(),
            Self::TrailingSlash => format!("{path}/"),
            Self::EncodedSlash => format!("/assets%2f..%2f{rest}"),
        }
    }
}

/// A request of the matrix, and whether each of its parts is right.
struct Attack {
    method: &'static str,
    raw: String,
    path: String,
    spelling: Spelling,
    is_open: bool,
    has_host: bool,
    has_origin: bool,
    has_token: bool,
}

impl Attack {
    /// Whether the guard must let it pass.
    fn is_allowed(&self) -> bool {
        self.has_host && self.has_origin && (self.is_open || self.has_token)
    }

    /// Checks an answer. What does not pass may not even learn whether there is something.
    fn check(&self, reply: &Reply) {
        let Self { raw, .. } = self;
        if self.is_allowed() {
            assert_ne!(reply.status, 403, "denied: {raw}");
        } else {
            // Too many wrong tokens are told so, but only to who may know that there is a console.
            let is_counted = self.has_host && self.has_origin && raw.contains("Authorization");
            let is_limited = is_counted && reply.status == 429;
            assert!(reply.status == 403 || is_limited, "{}: {raw}", reply.status);
        }
        let is_other =
            self.spelling != Spelling::Plain && self.spelling.of(&self.path) != self.path;
        let has_worked = (200..300).contains(&reply.status);
        assert!(!has_worked || !is_other, "another spelling works: {raw}");
        let has_secret = reply.body.windows(6).any(|part| part == b"SECRET");
        assert!(!has_secret || self.has_token && self.is_allowed(), "{raw}");
        assert!(
            reply.header("access-control-allow-origin").is_none(),
            "{raw}"
        );
        let policy = reply.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none';"), "{raw}");
        assert_eq!(
            reply.header("x-content-type-options"),
            Some("nosniff"),
            "{raw}"
        );
    }
}

/// Returns the paths of the OpenAPI document, which is the router's own table, with numbers for parameters.
async fn paths(site: &Site) -> Vec<String> {
    let document = site.get("/api/v1/openapi.json").await.ok(200);
    let paths = document["paths"].as_object().unwrap().keys();
    paths
        .map(|path| {
            path.replace("{id}", "1")
                .replace("{*path}", "index.html")
                .replace("{path}", "index.html")
        })
        .collect()
}

fn is_open(method: &str, path: &str) -> bool {
    match method {
        "GET" | "HEAD" => {
            ["/", "/livez", "/readyz"].contains(&path) || path == "/assets/index.html"
        }
        "POST" => path == "/api/v1/session",
        _ => false,
    }
}

/// Values of a part of a request, and whether each is right.
type Values = Vec<(String, bool)>;

fn hosts(port: u16) -> Values {
    let other = port ^ 1;
    vec![
        (format!("127.0.0.1:{port}"), true),
        ("evil.example".to_owned(), false),
        (format!("localhost:{port}"), true),
        (format!("0.0.0.0:{port}"), false),
        (format!("127.0.0.1:{other}"), false),
        ("127.0.0.1".to_owned(), false),
        (format!("127.0.0.1:{port}.evil.example"), false),
    ]
}

/// Headers with an Origin.
fn origins(host: &str, port: u16) -> Values {
    let other = port ^ 1;
    let origins = [
        (format!("http://{host}"), true),
        ("http://evil.example".to_owned(), false),
        ("null".to_owned(), false),
        (format!("http://{host}.evil.example"), false),
        (format!("https://{host}"), false),
        (format!("http://127.0.0.1:{other}"), false),
    ];
    let mut headers = vec![(String::new(), true)];
    headers.extend(origins.map(|(origin, right)| (format!("Origin: {origin}\r\n"), right)));
    headers
}

/// Headers with a token.
fn tokens() -> Values {
    vec![
        (String::new(), false),
        (
            "Authorization: Bearer a-token-of-the-testt\r\n".to_owned(),
            false,
        ),
        ("Authorization: Bearer \r\n".to_owned(), false),
        (format!("Authorization: Bearer {TOKEN}\r\n"), true),
    ]
}

/// Returns all requests for one path. Other spellings than the plain one are tried with two hosts and three origins only.
fn attacks(site: &Site, path: &str) -> Vec<Attack> {
    let port = site.console.port();
    let mut all = Vec::new();
    for (method, more) in METHODS {
        for spelling in SPELLINGS {
            let is_plain = spelling == Spelling::Plain;
            let target = spelling.of(path);
            let (most_hosts, most_origins) = if is_plain { (7, 7) } else { (2, 3) };
            for (host, has_host) in hosts(port).into_iter().take(most_hosts) {
                for (origin, has_origin) in origins(&host, port).into_iter().take(most_origins) {
                    for (token, has_token) in tokens() {
                        let head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
                        all.push(Attack {
                            method,
                            raw: format!("{head}{origin}{token}{more}Content-Length: 0\r\n\r\n"),
                            is_open: is_open(method, &target),
                            path: path.to_owned(),
                            spelling,
                            has_host,
                            has_origin,
                            has_token,
                        });
                    }
                }
            }
        }
    }
    all
}

/// What waits on purpose must not: it is only to be let pass or denied.
fn quick(attack: &Attack) -> bool {
    !attack.path.ends_with("/wait") && !attack.path.ends_with("/events") || !attack.is_allowed()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_right_host_origin_and_token_together_pass() {
    let site = Site::new(Kind::Memory).await;
    site.talk(&["secret\n"]).await;
    let mut paths = paths(&site).await;
    assert!(paths.len() > 20, "{paths:?}");
    paths.push("/nothing".to_owned());
    paths.push("/api/v1/nothing".to_owned());
    let (mut checked, mut passed) = (0, 0);
    for path in &paths {
        let attacks: Vec<Attack> = attacks(&site, path).into_iter().filter(quick).collect();
        // Requests are sent together, and answered in order.
        for part in attacks.chunks(128) {
            let mut connection = Connection::new(site.console).await;
            let all: String = part.iter().map(|attack| attack.raw.as_str()).collect();
            connection.send(all.as_bytes()).await;
            for attack in part {
                let reply = connection.receive(attack.method).await;
                attack.check(&reply);
                checked += 1;
                passed += usize::from((200..300).contains(&reply.status));
            }
        }
    }
    assert!(
        checked > 80_000 && passed > 100,
        "{checked} checked, {passed} passed"
    );
    site.stop().await;
}

/// Sends a request with these headers, and returns the status.
async fn status(
    site: &Site,
    method: &str,
    target: &str,
    headers: &[&str],
    body: Option<&str>,
) -> u16 {
    site.client.with(method, target, headers, body).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_and_doubled_headers_are_denied() {
    let site = Site::new(Kind::Memory).await;
    let token = format!("Authorization: Bearer {TOKEN}");
    let host = format!("Host: {}", site.console);
    let origin = format!("Origin: http://{}", site.console);
    for headers in [
        &["Host: evil.example", &*token][..],
        &[&*host, &*token],
        &[&*origin, &*origin, &*token],
        &["Origin: http://evil.example", &*origin, &*token],
        &["Origin: \u{fc}", &*token],
        &["Sec-Fetch-Site: cross-site", &*token],
        &["Sec-Fetch-Site: same-site", &*token],
        &["Sec-Fetch-Site: ", &*token],
    ] {
        assert_eq!(
            status(&site, "GET", "/api/v1/info", headers, None).await,
            403,
            "{headers:?}"
        );
    }
    for headers in [
        &["Sec-Fetch-Site: same-origin", &*origin, &*token][..],
        &["Sec-Fetch-Site: none", &*token],
    ] {
        assert_eq!(
            status(&site, "GET", "/api/v1/info", headers, None).await,
            200,
            "{headers:?}"
        );
    }
    let absolute = format!("http://{}/api/v1/info", site.console);
    assert_eq!(status(&site, "GET", &absolute, &[&token], None).await, 200);
    let elsewhere = "http://evil.example/api/v1/info";
    assert_eq!(status(&site, "GET", elsewhere, &[&token], None).await, 403);
    let mut connection = Connection::new(site.console).await;
    connection
        .send(format!("GET /api/v1/info HTTP/1.1\r\n{token}\r\n\r\n").as_bytes())
        .await;
    assert_eq!(connection.receive("GET").await.status, 403, "without Host");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cookie_is_set_by_the_token_and_bound_to_the_port() {
    let site = Site::new(Kind::Memory).await;
    let json = "Content-Type: application/json";
    let right = format!("{{\"token\":\"{TOKEN}\"}}");
    let reply = site
        .client
        .with("POST", "/api/v1/session", &[json], Some(&right))
        .await;
    reply.ok(204);
    let cookie = reply.header("set-cookie").unwrap();
    let name = format!("echoic-{}=", site.console.port());
    assert!(cookie.starts_with(&name), "{cookie}");
    assert!(
        cookie.ends_with("; HttpOnly; SameSite=Strict; Path=/api/v1"),
        "{cookie}"
    );
    let pair = cookie.split(';').next().unwrap();
    let own = format!("Cookie: other=1; {pair}; more=2");
    let value = pair.strip_prefix(&name).unwrap();
    let other_port = format!("Cookie: echoic-1={value}");
    let wrong = format!("Cookie: {name}{}", "A".repeat(value.len()));
    for (cookie, expected) in [(&own, 200), (&other_port, 403), (&wrong, 403)] {
        assert_eq!(
            status(&site, "GET", "/api/v1/info", &[cookie], None).await,
            expected,
            "{cookie}"
        );
    }
    // A request that changes something must also say where it comes from, and be JSON.
    let origin = format!("Origin: http://{}", site.console);
    let tag = Some("{}");
    for (headers, expected) in [
        (&[&*own, json][..], 403),
        (&[&*own, json, "Sec-Fetch-Site: none"], 403),
        (&[&*own, json, "Origin: null"], 403),
        (&[&*own, json, &*origin], 202),
        (&[&*own, json, "Sec-Fetch-Site: same-origin"], 202),
        (&[&*own, "Content-Type: text/plain", &*origin], 415),
        (&[&*own, &*origin], 415),
    ] {
        assert_eq!(
            status(&site, "POST", "/api/v1/explain", headers, tag).await,
            expected,
            "{headers:?}"
        );
    }
    // A wrong token in Authorization is not made good by the cookie.
    let both = [own.as_str(), "Authorization: Bearer wrong-wrong-wrong-w"];
    assert_eq!(status(&site, "GET", "/api/v1/info", &both, None).await, 403);
    site.stop().await;
}

/// Logs in, and returns the value of the cookie.
async fn session_of(site: &Site) -> String {
    let json = ["Content-Type: application/json"];
    let body = format!("{{\"token\":\"{TOKEN}\"}}");
    let client = &site.client;
    let reply = client
        .with("POST", "/api/v1/session", &json, Some(&body))
        .await;
    let pair = reply.header("set-cookie").unwrap().split(';').next();
    let (_, value) = pair.unwrap().split_once('=').unwrap();
    value.to_owned()
}

/// A browser sends the cookie of one port to every port of the host: whoever records it there must not have the token.
#[tokio::test(flavor = "multi_thread")]
async fn cookie_is_no_token_and_the_token_no_cookie() {
    let site = Site::new(Kind::Memory).await;
    let value = session_of(&site).await;
    assert!(!value.contains(TOKEN), "the cookie has the token");
    assert_eq!(
        session_of(&site).await,
        value,
        "an earlier session has ended"
    );
    let cookie = format!("Cookie: echoic-{}", site.console.port());
    for (header, expected) in [
        (format!("{cookie}={value}"), 200),
        (format!("{cookie}={TOKEN}"), 403),
        (format!("Authorization: Bearer {value}"), 403),
    ] {
        assert_eq!(
            status(&site, "GET", "/api/v1/info", &[&header], None).await,
            expected,
            "{header}"
        );
    }
    let other = Site::new(Kind::Memory).await;
    assert_ne!(session_of(&other).await, value, "two ports have one value");
    let stolen = format!("Cookie: echoic-{}={value}", other.console.port());
    assert_eq!(
        status(&other, "GET", "/api/v1/info", &[&stolen], None).await,
        403
    );
    other.stop().await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn login_has_at_most_4_kib() {
    let site = Site::new(Kind::Memory).await;
    let json = ["Content-Type: application/json"];
    // Spaces are JSON, so that only the length differs.
    for (length, expected) in [(4096, 204), (4097, 413)] {
        let body = format!("{:length$}", format!("{{\"token\":\"{TOKEN}\"}}"));
        assert_eq!(
            status(&site, "POST", "/api/v1/session", &json, Some(&body)).await,
            expected,
            "{length} bytes"
        );
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn eleventh_wrong_login_of_a_minute_is_refused_and_a_right_one_never() {
    let site = Site::new(Kind::Memory).await;
    let login = |token: &'static str| {
        let body = format!("{{\"token\":\"{token}\"}}");
        let client = &site.client;
        async move {
            let json = ["Content-Type: application/json"];
            client
                .with("POST", "/api/v1/session", &json, Some(&body))
                .await
        }
    };
    for _ in 0..10 {
        login("wrong").await.problem(403);
    }
    let refused = login("wrong").await;
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds));
    refused.problem(429);
    // Who has the token is not kept out by who has not.
    login(TOKEN).await.ok(204);
    login("wrong").await.problem(429);
    site.get("/api/v1/info").await.ok(200);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bearer_tokens_are_limited_for_their_address_alone() {
    let site = Site::new(Kind::Memory).await;
    let host = format!("Host: {}", site.console);
    let ask = |from: &'static str, token: &str| {
        let token = format!("Authorization: Bearer {token}");
        let request = raw("GET", "/api/v1/info", &[&host, &token], None);
        let to = site.console;
        async move {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
            let mut stream = socket.connect(to).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut head = vec![0; 4096];
            let read = timeout(Duration::from_secs(20), stream.read(&mut head)).await;
            head.truncate(read.unwrap().unwrap());
            String::from_utf8_lossy(&head).to_lowercase()
        }
    };
    let wrong = "wrong-wrong-wrong-w";
    for _ in 0..10 {
        let reply = ask("127.0.0.2", wrong).await;
        assert!(reply.starts_with("http/1.1 403 "), "{reply}");
    }
    let refused = ask("127.0.0.2", wrong).await;
    assert!(refused.starts_with("http/1.1 429 "), "{refused}");
    assert!(refused.contains("\r\nretry-after: "), "{refused}");
    let other = ask("127.0.0.3", wrong).await;
    assert!(other.starts_with("http/1.1 403 "), "{other}");
    let right = ask("127.0.0.2", TOKEN).await;
    assert!(right.starts_with("http/1.1 200 "), "{right}");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn page_and_its_files_are_open_and_checked() {
    let site = Site::new(Kind::Memory).await;
    let page = site.client.with("GET", "/", &[], None).await;
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let tag = format!("If-None-Match: {}", page.header("etag").unwrap());
    assert_eq!(status(&site, "GET", "/", &[&tag], None).await, 304);
    assert_eq!(
        status(&site, "GET", "/assets/index.html", &[], None).await,
        200
    );
    for target in ["/assets/nothing.js", "/assets/index"] {
        assert_eq!(
            status(&site, "GET", target, &[], None).await,
            404,
            "{target}"
        );
    }
    for target in [
        "/assets/../Cargo.toml",
        "/assets/..%2fCargo.toml",
        "/assets//index.html",
    ] {
        assert_eq!(
            status(&site, "GET", target, &[], None).await,
            403,
            "{target}"
        );
    }
    for (header, value) in [
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("x-frame-options", "DENY"),
        ("cache-control", "no-cache"),
    ] {
        assert_eq!(page.header(header), Some(value), "{header}");
    }
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        !policy.contains("unsafe") && !policy.contains('*'),
        "{policy}"
    );
    let info = site.get("/api/v1/info").await;
    assert_eq!(info.header("cache-control"), Some("no-store"));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_heads_and_long_ones_end() {
    let site = Site::new(Kind::Memory).await;
    let long = format!("X-Long: {}", "x".repeat(100 << 10));
    assert_eq!(status(&site, "GET", "/livez", &[&long], None).await, 431);
    let mut slow = TcpStream::connect(site.console).await.unwrap();
    let mut rest = Vec::new();
    let ended = timeout(Duration::from_secs(20), slow.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "a connection without a request stays");
    site.stop().await;
}

/// A request with the token.
fn authorized(site: &Site, target: &str) -> Vec<u8> {
    let host = format!("Host: {}", site.console);
    let token = format!("Authorization: Bearer {TOKEN}");
    raw("GET", target, &[&host, &token], None).into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn token_holder_gets_in_while_256_strangers_sit() {
    let site = Site::new(Kind::Memory).await;
    // On a busy machine the time of the strangers may pass meanwhile, which shows nothing.
    for _ in 0..5 {
        let started = Instant::now();
        let mut strangers = Vec::new();
        for _ in 0..256 {
            strangers.push(TcpStream::connect(site.console).await.unwrap());
        }
        let mut holder = Connection::new(site.console).await;
        holder.send(&authorized(&site, "/api/v1/info")).await;
        assert_eq!(holder.receive("GET").await.status, 200);
        if started.elapsed() < Duration::from_secs(4) {
            let oldest = strangers[0].read(&mut [0]).await;
            assert_eq!(oldest.unwrap_or(0), 0, "the oldest gave way");
            site.stop().await;
            return;
        }
    }
    panic!("it gets in only once the strangers are gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_without_the_token_ends_whatever_it_asks_for() {
    let site = Site::new(Kind::Memory).await;
    let mut holder = Connection::new(site.console).await;
    let mut stranger = TcpStream::connect(site.console).await.unwrap();
    let open = raw("GET", "/livez", &[&format!("Host: {}", site.console)], None);
    let started = Instant::now();
    let mut answers = 0;
    loop {
        assert!(started.elapsed() < Duration::from_mins(1), "it stays");
        holder.send(&authorized(&site, "/api/v1/info")).await;
        assert_eq!(holder.receive("GET").await.status, 200);
        if stranger.write_all(open.as_bytes()).await.is_err() {
            break;
        }
        match stranger.read(&mut [0; 4096]).await {
            Ok(read) if read > 0 => answers += 1,
            _ => break,
        }
        sleep(Duration::from_millis(200)).await;
    }
    assert!(answers > 0, "a stranger gets the open routes");
    // The other one has shown the token, and stays.
    sleep(Duration::from_secs(2)).await;
    holder.send(&authorized(&site, "/api/v1/info")).await;
    assert_eq!(holder.receive("GET").await.status, 200);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_256_connections_with_the_token_wait() {
    let site = Site::new(Kind::Memory).await;
    let mut known = Vec::new();
    for _ in 0..256 {
        let mut connection = Connection::new(site.console).await;
        connection.send(&authorized(&site, "/api/v1/info")).await;
        assert_eq!(connection.receive("GET").await.status, 200);
        known.push(connection);
    }
    let waiting = status(&site, "GET", "/livez", &[], None);
    let mut waiting = Box::pin(waiting);
    let early = timeout(Duration::from_millis(500), &mut waiting).await;
    assert!(early.is_err(), "answered beyond the limit");
    drop(known);
    assert_eq!(waiting.await, 200);
    site.stop().await;
}

/// The stop ends idle connections at once, and one that waits within a second.
#[tokio::test(flavor = "multi_thread")]
async fn stop_does_not_wait_for_clients() {
    let site = Site::new(Kind::Memory).await;
    let _idle = TcpStream::connect(site.console).await.unwrap();
    let mut waiting = Connection::new(site.console).await;
    let host = format!("Host: {}", site.console);
    let token = format!("Authorization: Bearer {TOKEN}");
    let request = raw(
        "GET",
        "/api/v1/exchanges/wait?timeout=5m",
        &[&host, &token],
        None,
    );
    waiting.send(request.as_bytes()).await;
    sleep(Duration::from_millis(500)).await;
    timeout(Duration::from_secs(10), site.stop()).await.unwrap();
}

/// Every operation of the document answers, and with the schema that it says.
#[tokio::test(flavor = "multi_thread")]
async fn responses_follow_the_document() {
    let site = Site::new(Kind::Sqlite).await;
    site.talk(&["hi\n", "GET / HTTP/1.1\n"]).await;
    site.patch("/api/v1/exchanges/1", r#"{"add":["bug"],"note":"why"}"#)
        .await
        .ok(200);
    site.submit("/api/v1/explain", "{}").await.ok(202);
    site.talk(&["again\n"]).await;
    let document = site.get("/api/v1/openapi.json").await.ok(200);
    let plain = site.get("/api/v1").await;
    assert_eq!(site.get("/llms.txt").await.body, plain.body);
    let head = plain.text().split("\n## ").next().unwrap().to_owned();
    for key in ["note:", "tag:", "role:", "id:", "THEN", "req~"] {
        assert!(head.contains(key), "the summary of filters has no {key}");
    }
    let (mut compared, mut operations) = (0, 0);
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            operations += 1;
            let method = method.to_uppercase();
            let is_page = operation["tags"][0] == "page";
            let named = format!("\n{method} {path}\n");
            assert!(
                is_page || plain.text().contains(&named),
                "{named} is not in the plain page"
            );
            let has_no_end = operation["responses"]["200"]["content"]
                .get("text/event-stream")
                .is_some();
            if is_page || has_no_end || path == "/api/v1/session" {
                continue;
            }
            let plain = format!("{method} {path}");
            let example = operation["x-example"].as_str().unwrap_or(&plain);
            assert!(
                !example.contains('{') || method != "GET",
                "{plain} has no example"
            );
            let reply = try_example(&site, &method, path, example).await;
            compared += usize::from(compare(&document, operation, &reply, example));
        }
    }
    assert!(
        operations > 25 && compared > 15,
        "{operations} operations, {compared} compared"
    );
    site.stop().await;
}

/// Sends the example of an operation, with ids that are there.
async fn try_example(site: &Site, method: &str, path: &str, example: &str) -> Reply {
    let example = example
        .replace("/17", "/1")
        .replace("conversations/3/calls", "conversations/2/calls");
    let example = example
        .replace("conversations/3", "conversations/1")
        .replace("req:login", "req:hi");
    let mut parts = example.splitn(3, ' ');
    assert_eq!(parts.next(), Some(method), "{example}");
    let target = parts.next().unwrap();
    let (sent, pattern) = (target.split('?').next().unwrap(), path.split('/'));
    let follows = sent
        .split('/')
        .zip(pattern)
        .all(|(part, pattern)| pattern.starts_with('{') || part == pattern);
    assert!(
        follows && sent.matches('/').count() == path.matches('/').count(),
        "{example}: {path}"
    );
    site.client.request(method, target, parts.next()).await
}

/// Compares an answer with the schema of its status. Returns whether it had one.
fn compare(document: &Value, operation: &Value, reply: &Reply, example: &str) -> bool {
    let response = &operation["responses"][reply.status.to_string()];
    let text = String::from_utf8_lossy(&reply.body);
    assert!(
        response.is_object(),
        "{example}: undocumented status {}: {text}",
        reply.status
    );
    let media = reply.header("content-type").unwrap_or_default();
    let media = media.split(';').next().unwrap();
    let is_problem = media == "application/problem+json";
    let media = if is_problem {
        "application/json"
    } else {
        media
    };
    let schema = &response["content"][media]["schema"];
    if media != "application/json" || schema.is_null() {
        return false;
    }
    let mut schema = schema.clone();
    schema["components"] = document["components"].clone();
    let components = schema["components"]["schemas"].clone();
    join(&mut schema, &components);
    close(&mut schema);
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(&reply.json())
        .map(|error| error.to_string())
        .collect();
    assert!(errors.is_empty(), "{example}: {errors:?}: {text}");
    true
}

/// Makes one object of the parts of a flattened one (`allOf`), so that it can be closed.
fn join(schema: &mut Value, components: &Value) {
    match schema {
        Value::Object(keys) => {
            if let Some(Value::Array(parts)) = keys.remove("allOf") {
                keys.insert("type".to_owned(), "object".into());
                for mut part in parts {
                    if let Some(name) = part["$ref"].as_str() {
                        part = components[name.rsplit('/').next().unwrap()].clone();
                    }
                    let own = keys
                        .entry("properties")
                        .or_insert_with(|| Value::Object(Map::new()));
                    let own = own.as_object_mut().unwrap();
                    own.extend(part["properties"].as_object().unwrap().clone());
                    let required = keys
                        .entry("required")
                        .or_insert_with(|| Value::Array(Vec::new()));
                    let more = part["required"].as_array().cloned().unwrap_or_default();
                    required.as_array_mut().unwrap().extend(more);
                }
            }
            keys.values_mut().for_each(|one| join(one, components));
        }
        Value::Array(all) => all.iter_mut().for_each(|one| join(one, components)),
        _ => {}
    }
}

/// Denies undocumented keys in every schema of an object with known ones.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(keys) => {
            if keys.contains_key("properties") && keys.get("type") == Some(&"object".into()) {
                keys.insert("additionalProperties".to_owned(), false.into());
            }
            keys.values_mut().for_each(close);
        }
        Value::Array(all) => all.iter_mut().for_each(close),
        _ => {}
    }
}

#[test]
fn every_route_is_in_the_table() {
    let text = include_str!("../src/routes.rs");
    for other in [
        ".route(",
        ".merge(",
        ".nest(",
        ".route_service(",
        ".fallback_service(",
    ] {
        assert!(
            !text.contains(other),
            "{other}: add routes with routes!(…), so that they are documented"
        );
    }
}
