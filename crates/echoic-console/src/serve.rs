//! Serves HTTP/1.1 on a listener, plain or over TLS, within bounds.

use std::{cell::OnceCell, convert::Infallible, io, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode},
    response::{IntoResponse, Response},
};
use echoic_wire::Link;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::ServiceExt;

use crate::{
    guard, handshake, headers,
    hosts::ReachedAt,
    login::Caller,
    problem::Problem,
    routes,
    stall::StallGuard,
    state::App,
    strangers::{Connection, End, Strangers},
};

/// Most connections at a time, those included whose handshake of TLS is not done. A new one takes the place of the oldest that has not shown the token; if all have, it waits in the
/// backlog.
const CONNECTIONS_MAX: usize = 256;

/// Time for the head of a request, also of the next one on a connection.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// Size of the read buffer. The head of a request may be at most twice as long.
const HEAD_BYTES_MAX: usize = 32 << 10;

/// Time for an answer to begin. Routes that wait on purpose have a limit of their own.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Time for the answer to a connection that has not shown the token in time.
const LAST_ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Time for open requests to end at the stop.
const STOP_WITHIN: Duration = Duration::from_secs(1);

/// Pause after a failed accept: out of files, for example.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Serves until `stop` is done.
pub(crate) async fn serve(app: &Arc<App>, listener: &TcpListener, stop: impl Future<Output = ()>) {
    // Made for the first connection: most servers start without one.
    let router = OnceCell::new();
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let strangers = Arc::new(Strangers::default());
    let (stopping, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    // Accepted before there is a place: only then it is known that somebody needs one.
    let mut waiting: Option<(TcpStream, Caller)> = None;
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            Ok(permit) = Arc::clone(&permits).acquire_owned(), if waiting.is_some() => {
                let Some((stream, caller)) = waiting.take() else { continue };
                let router = router.get_or_init(|| routes::router(app)).clone();
                let shared = (Arc::clone(app), router, strangers.add());
                let connection = connection(shared, (stream, caller), stopped.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            accepted = listener.accept(), if waiting.is_none() => match accepted {
                Ok((stream, address)) => {
                    waiting = Some((stream, Caller(address.ip())));
                    if permits.available_permits() == 0 {
                        strangers.end_oldest();
                    }
                }
                Err(error) => pause_after(&error).await,
            },
        }
    }
    app.hub.close();
    stopping.send_replace(true);
    let ended = timeout(STOP_WITHIN, async {
        while connections.join_next().await.is_some() {}
    });
    if ended.await.is_err() {
        connections.shutdown().await;
    }
}

async fn pause_after(error: &io::Error) {
    tracing::warn!("the console cannot accept a connection: {error}");
    sleep(ACCEPT_AGAIN).await;
}

async fn connection(
    (app, router, peer): (Arc<App>, Router, Connection),
    (stream, caller): (TcpStream, Caller),
    mut stopped: watch::Receiver<bool>,
) {
    let peer = Arc::new(peer);
    let reached = stream.local_addr().ok();
    let reached = reached.map(|at| ReachedAt(at.ip().to_canonical()));
    let is_tls = app.config.tls.is_some();
    let Some(link) = opened(&app, Link::tcp(stream, None), &peer, &mut stopped).await else {
        return;
    };
    let of_requests = Arc::clone(&peer);
    let respond = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(caller);
        if let Some(reached) = reached {
            request.extensions_mut().insert(reached);
        }
        let (app, router, peer) = (Arc::clone(&app), router.clone(), Arc::clone(&of_requests));
        async move { Ok::<_, Infallible>(respond(&app, router, &peer, request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_BYTES_MAX)
        // Under TLS the parts of an answer are copied together, into one record.
        .writev(!is_tls)
        .serve_connection(TokioIo::new(StallGuard::new(link)), respond);
    let mut served = std::pin::pin!(served);
    let ended = tokio::select! {
        ended = &mut served => ended,
        () = async { let _ = stopped.wait_for(|stopped| *stopped).await; } => {
            served.as_mut().graceful_shutdown();
            served.await
        }
        end = peer.must_end() => {
            if end == End::GiveWay {
                return;
            }
            served.as_mut().graceful_shutdown();
            timeout(LAST_ANSWER_WITHIN, served).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection of the console ended: {error}");
    }
}

/// Returns the connection as HTTP uses it: after the handshake, with TLS. `None` if it ends before.
async fn opened(
    app: &App,
    link: Link,
    peer: &Connection,
    stopped: &mut watch::Receiver<bool>,
) -> Option<Link> {
    let Some(tls) = &app.config.tls else {
        return Some(link);
    };
    tokio::select! {
        opened = handshake::open(tls, link) => opened,
        _ = peer.must_end() => None,
        _ = stopped.wait_for(|stopped| *stopped) => None,
    }
}

/// Answers one request: the guard first, then the routes.
async fn respond(
    app: &App,
    router: Router,
    peer: &Connection,
    request: Request<Incoming>,
) -> Response {
    let (parts, body) = request.into_parts();
    let reached = parts.extensions.get::<ReachedAt>().copied();
    let is_remote_tls = app.hosts.is_remote_tls(&parts.headers, reached);
    let mut response = match guard::check(&parts, app) {
        Err(problem) => problem.into_response(),
        Ok(has_token) => {
            if has_token {
                peer.has_shown_the_token();
            }
            let is_bounded = routes::is_bounded_by_itself(parts.uri.path());
            let routed = router.oneshot(Request::from_parts(parts, Body::new(body)));
            let answered = async { routed.await.unwrap_or_else(|never| match never {}) };
            if is_bounded {
                answered.await
            } else {
                timeout(ANSWER_WITHIN, answered).await.unwrap_or_else(|_| {
                    let detail = "the answer took too long: ask for less";
                    Problem::new(StatusCode::GATEWAY_TIMEOUT, detail).into_response()
                })
            }
        }
    };
    headers::add(response.headers_mut(), is_remote_tls);
    response
}
