//! Serves HTTP/1.1 for the routes of health, one request a connection, within bounds.

use std::{collections::VecDeque, convert::Infallible, pin::pin, sync::Arc, time::Duration};

use axum::http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    select,
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};

use super::HealthServer;

/// Most connections at a time. A new one takes the place of the oldest.
const CONNECTIONS_MAX: usize = 32;

/// Time for the head of a request.
const HEAD_WITHIN: Duration = Duration::from_secs(5);

/// Time of a connection, from its begin to the last byte of the answer.
const CONNECTION_WITHIN: Duration = Duration::from_secs(10);

/// Size of the read buffer. The head of a request may be at most twice as long.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Time for open requests to end at the stop.
const STOP_WITHIN: Duration = Duration::from_millis(500);

/// Pause after a failed accept: out of files, for example.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Serves until `stop` is done.
pub(super) async fn serve(
    health: Arc<HealthServer>,
    listener: &TcpListener,
    is_loopback: bool,
    stop: impl Future<Output = ()>,
) {
    let mut connections = JoinSet::new();
    let mut oldest_first = VecDeque::<AbortHandle>::new();
    let mut stop = pin!(stop);
    loop {
        select! {
            biased;
            () = &mut stop => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {
                oldest_first.retain(|connection| !connection.is_finished());
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    if connections.len() >= CONNECTIONS_MAX {
                        if let Some(oldest) = oldest_first.pop_front() {
                            oldest.abort();
                        }
                        let _ = connections.join_next().await;
                    }
                    let connection = connection(Arc::clone(&health), stream, is_loopback);
                    oldest_first.push_back(connections.spawn(connection));
                }
                Err(error) => {
                    tracing::warn!("the routes of health cannot accept a connection: {error}");
                    sleep(ACCEPT_AGAIN).await;
                }
            },
        }
    }
    let ended = timeout(STOP_WITHIN, async {
        while connections.join_next().await.is_some() {}
    });
    if ended.await.is_err() {
        connections.shutdown().await;
    }
}

async fn connection(health: Arc<HealthServer>, stream: TcpStream, is_loopback: bool) {
    let respond = service_fn(move |request: Request<Incoming>| {
        let health = Arc::clone(&health);
        async move { Ok::<_, Infallible>(health.respond(&request, is_loopback).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        // Probers make a connection each time.
        .keep_alive(false)
        // A client in a shell ends its half after the request.
        .half_close(true)
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), respond);
    if let Ok(Err(error)) = timeout(CONNECTION_WITHIN, served).await {
        tracing::debug!("a connection to the routes of health ended: {error}");
    }
}
