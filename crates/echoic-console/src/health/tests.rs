use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::to_bytes;
use tokio::{
    task::JoinSet,
    time::{advance, sleep},
};

use super::*;
use crate::figure::FigureUnit;

/// A process whose state a test sets.
#[derive(Debug, Default)]
struct Process {
    asked: AtomicU64,
    hangs: bool,
    fails: bool,
}

impl Vitals for Process {
    fn readiness(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async {
            self.asked.fetch_add(1, Ordering::Relaxed);
            if self.hangs {
                std::future::pending::<()>().await;
            }
            if self.fails {
                return Err("not connected to NATS".to_owned());
            }
            sleep(Duration::from_millis(5)).await;
            Ok(())
        })
    }

    fn figures(&self) -> BoxFuture<'_, Vec<Figure>> {
        Box::pin(async {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let bytes = [("received", 3), ("sent", 4)];
            vec![
                Figure::counter("worker_runs", "Runs.", 7),
                Figure::counter("worker_busy", "Time.", 0.5).in_unit(FigureUnit::Seconds),
                Figure::counters("worker_bytes", "Bytes.", "direction", &bytes),
                Figure::gauge("nats_connected", "Is it.", 1),
            ]
        })
    }
}

fn server(process: Process) -> (HealthServer, watch::Sender<Phase>, Arc<Process>) {
    let process = Arc::new(process);
    let (phase, watched) = watch::channel(Phase::Working);
    let health = HealthServer::new("1.2.3", watched, Arc::clone(&process) as _);
    (health, phase, process)
}

async fn ask(health: &HealthServer, method: &str, path: &str, host: Option<&str>) -> (u16, String) {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(host) = host {
        request = request.header("Host", host);
    }
    let response = health.respond(&request.body(()).unwrap(), true).await;
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn readiness_follows_the_phase_at_once() {
    let (health, phase, _) = server(Process::default());
    assert_eq!(
        ask(&health, "GET", "/readyz", None).await,
        (200, "ok\n".into())
    );
    phase.send_replace(Phase::Stopping);
    let (status, why) = ask(&health, "GET", "/readyz", None).await;
    assert_eq!(status, 503);
    assert!(why.contains("it is stopping"), "{why}");
    assert_eq!(ask(&health, "GET", "/livez", None).await.0, 200);
    phase.send_replace(Phase::Starting);
    let (status, why) = ask(&health, "GET", "/readyz", None).await;
    assert_eq!(status, 503);
    assert!(why.contains("it is starting"), "{why}");
}

/// Whoever asks, and however often, the store and NATS are asked once a second.
#[tokio::test(start_paused = true)]
async fn many_requests_ask_the_process_once_a_second() {
    let (health, _phase, process) = server(Process::default());
    let health = Arc::new(health);
    for second in 1..=3 {
        let mut asking = JoinSet::new();
        for _ in 0..50 {
            let health = Arc::clone(&health);
            asking.spawn(async move { ask(&health, "GET", "/readyz", None).await });
        }
        for (status, _) in asking.join_all().await {
            assert_eq!(status, 200);
        }
        assert_eq!(process.asked.load(Ordering::Relaxed), second);
        advance(FRESH).await;
    }
}

#[tokio::test(start_paused = true)]
async fn process_that_does_not_answer_is_unready_in_time() {
    let (health, _phase, _) = server(Process {
        hangs: true,
        ..Process::default()
    });
    let began = Instant::now();
    let (status, why) = ask(&health, "GET", "/readyz", None).await;
    assert_eq!((status, began.elapsed()), (503, ANSWER_WITHIN));
    assert!(why.contains("gave no answer within 3 s"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn process_that_fails_says_why() {
    let (health, _phase, _) = server(Process {
        fails: true,
        ..Process::default()
    });
    let (status, why) = ask(&health, "GET", "/readyz", None).await;
    assert_eq!(status, 503);
    assert!(why.contains("not connected to NATS"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn metrics_have_names_units_and_labels() {
    let (health, _phase, _) = server(Process::default());
    let (status, text) = ask(&health, "GET", "/metrics", None).await;
    assert_eq!(status, 200);
    for line in [
        "echoic_build_info{version=\"1.2.3\"} 1",
        "echoic_worker_runs_total 7",
        "echoic_worker_busy_seconds_total 0.5",
        "echoic_worker_bytes_total{direction=\"received\"} 3",
        "echoic_worker_bytes_total{direction=\"sent\"} 4",
        "echoic_nats_connected 1",
        "# EOF",
    ] {
        assert!(text.lines().any(|one| one == line), "{line} in\n{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_three_routes_are_read_and_nothing_is_written() {
    let (health, _phase, _) = server(Process::default());
    for path in ["/", "/api/v1/exchanges", "/livez/", "//livez", "/%6civez"] {
        assert_eq!(ask(&health, "GET", path, None).await.0, 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
        for path in ["/livez", "/readyz", "/metrics"] {
            let (status, _) = ask(&health, method, path, None).await;
            assert_eq!(status, 405, "{method} {path}");
        }
    }
    assert_eq!(ask(&health, "HEAD", "/livez", None).await.0, 200);
}

/// A page of another site must not read the answers by a name that resolves to this machine.
#[tokio::test(start_paused = true)]
async fn on_loopback_only_addresses_and_localhost_are_hosts() {
    let (health, _phase, _) = server(Process::default());
    for host in [
        "127.0.0.1:8008",
        "localhost",
        "LOCALHOST:9",
        "[::1]:80",
        "10.0.0.7",
    ] {
        let (status, _) = ask(&health, "GET", "/metrics", Some(host)).await;
        assert_eq!(status, 200, "{host}");
    }
    for host in [
        "rebound.example:8008",
        "localhost.example",
        "",
        "[::1",
        "127.0.0.1.example",
    ] {
        let (status, why) = ask(&health, "GET", "/metrics", Some(host)).await;
        assert_eq!(status, 403, "{host}: {why}");
    }
    // Beyond loopback, names are the network's own.
    let request = Request::builder()
        .uri("/livez")
        .header("Host", "echoic.example");
    let response = health.respond(&request.body(()).unwrap(), false).await;
    assert_eq!(response.status(), 200);
}
