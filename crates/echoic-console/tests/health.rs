//! The routes of health over real sockets: whoever connects, a prober gets its answer.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use echoic_console::{Figure, HealthServer, Phase, Vitals};
use echoic_core::service::BoxFuture;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{Instant, timeout},
};

/// A process that is always well.
struct Well;

impl Vitals for Well {
    fn readiness(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }

    fn figures(&self) -> BoxFuture<'_, Vec<Figure>> {
        Box::pin(async { Vec::new() })
    }
}

/// Starts the routes of a process that works. They end with the sender.
async fn start() -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let (_, phase) = watch::channel(Phase::Working);
    let server = HealthServer::new("1.2.3", phase, Arc::new(Well));
    let serving = tokio::spawn(async move {
        let stop = async { _ = stopped.await };
        server.serve(listener, stop).await.unwrap();
    });
    (at, stop, serving)
}

async fn ask(at: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn connections_that_say_nothing_keep_no_prober_out() {
    let (at, _stop, _serving) = start().await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(at).await.unwrap());
    }
    for _ in 0..10 {
        let asked = ask(at, "GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        let answer = timeout(Duration::from_secs(4), asked).await;
        let answer = answer.expect("an answer before any of them times out");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
    // The oldest has given way.
    let mut end = [0];
    let ended = timeout(Duration::from_secs(4), silent[0].read(&mut end)).await;
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
}

/// The time is simulated, and passes once all wait.
#[tokio::test(start_paused = true)]
async fn head_that_does_not_come_ends_the_connection() {
    let (at, _stop, _serving) = start().await;
    for sent in [
        "",
        "GET /livez HT",
        "GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ",
    ] {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let began = Instant::now();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let took = began.elapsed();
        assert!(took <= Duration::from_secs(11), "{sent:?}: {took:?}");
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{sent:?}");
    }
}

/// The health check of a container ends its half after the request, and speaks HTTP/1.0 without a Host.
#[tokio::test]
async fn client_that_ends_its_half_gets_its_answer() {
    let (at, _stop, _serving) = start().await;
    for _ in 0..20 {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.0\r\n\r\n")
            .await
            .unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
        assert!(
            answer.contains("echoic_build_info{version=\"1.2.3\"} 1"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn one_request_a_connection_and_no_more_than_a_head() {
    let (at, _stop, _serving) = start().await;
    let one = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    // It is read to its end.
    let answer = ask(at, one).await;
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    let mut stream = TcpStream::connect(at).await.unwrap();
    let long = format!("GET /livez HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let _ = stream.write_all(long.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", answer.len());
}

#[tokio::test]
async fn stop_ends_within_a_moment_whoever_is_connected() {
    let (at, stop, serving) = start().await;
    let silent = TcpStream::connect(at).await.unwrap();
    ask(at, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    drop(stop);
    timeout(Duration::from_secs(20), serving)
        .await
        .unwrap()
        .unwrap();
    drop(silent);
}
