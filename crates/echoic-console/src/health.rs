//! The routes for whoever watches a process: `/livez`, `/readyz` and `/metrics`, on a socket of their own.
//!
//! They carry no recorded data and need no token, so that any prober and any Prometheus can ask. What they cost is bounded: the
//! store or NATS is asked once a second at most, whoever asks.

mod serve;

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    http::{HeaderValue, Method, Request, StatusCode, header},
    response::{IntoResponse, Response},
};
use echoic_core::{control::Control, service::BoxFuture, store::Store};
use echoic_recorder::Recorder;
use tokio::{
    net::TcpListener,
    sync::{Mutex, watch},
    time::{Instant, timeout},
};

use crate::{
    figure::{Figure, FigureSet},
    guard::one,
    headers,
    problem::Problem,
    routes::metrics::{Figures, answer, text},
    watched::Watched,
};

/// Time for what is asked to answer: the store, or NATS.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Age up to which an answer is given again.
const FRESH: Duration = Duration::from_secs(1);

/// What a process knows about itself.
pub trait Vitals: Send + Sync + 'static {
    /// Whether the process does its work; an error says why not. It is given to anybody who asks, so it has no password.
    fn readiness(&self) -> BoxFuture<'_, Result<(), String>>;

    /// Returns the figures of now.
    fn figures(&self) -> BoxFuture<'_, Vec<Figure>>;
}

/// The phase of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// It does not work yet.
    #[default]
    Starting,
    /// It works, as far as it depends on itself.
    Working,
    /// It ends what it has begun, and takes nothing more.
    Stopping,
}

/// Serves the three routes.
pub struct HealthServer {
    version: &'static str,
    source: Source,
    phase: watch::Receiver<Phase>,
    readiness: Cached<Result<(), String>>,
    metrics: Cached<Result<String, Problem>>,
}

/// What is watched.
enum Source {
    Process(Arc<dyn Vitals>),
    Server {
        store: Option<Arc<dyn Store>>,
        recorder: Option<Recorder>,
        control: Option<Arc<dyn Control>>,
    },
}

impl std::fmt::Debug for HealthServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HealthServer")
            .field("phase", &*self.phase.borrow())
            .finish_non_exhaustive()
    }
}

impl HealthServer {
    /// Creates one for a process that counts by itself.
    pub fn new(
        version: &'static str,
        phase: watch::Receiver<Phase>,
        vitals: Arc<dyn Vitals>,
    ) -> Self {
        Self::of(version, phase, Source::Process(vitals))
    }

    /// Creates one for a server or the console of a record, with the readiness and metrics of a console. `store` is one that
    /// can be read.
    pub fn of_server(
        version: &'static str,
        phase: watch::Receiver<Phase>,
        store: Option<Arc<dyn Store>>,
        recorder: Option<Recorder>,
        control: Option<Arc<dyn Control>>,
    ) -> Self {
        if let Some(recorder) = &recorder {
            recorder.count();
        }
        let source = Source::Server {
            store,
            recorder,
            control,
        };
        Self::of(version, phase, source)
    }

    fn of(version: &'static str, phase: watch::Receiver<Phase>, source: Source) -> Self {
        Self {
            version,
            source,
            phase,
            readiness: Cached::default(),
            metrics: Cached::default(),
        }
    }

    /// Serves until `stop` is done; then open requests have a moment to end.
    ///
    /// # Errors
    /// If the listener has no address.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()>,
    ) -> std::io::Result<()> {
        let is_loopback = listener.local_addr()?.ip().is_loopback();
        serve::serve(Arc::new(self), &listener, is_loopback, stop).await;
        Ok(())
    }

    /// Answers a request.
    async fn respond<B>(&self, request: &Request<B>, is_loopback: bool) -> Response {
        let answered = self.answer(request, is_loopback).await;
        let mut response = answered.unwrap_or_else(Problem::into_response);
        headers::add(response.headers_mut(), false);
        response
    }

    async fn answer<B>(
        &self,
        request: &Request<B>,
        is_loopback: bool,
    ) -> Result<Response, Problem> {
        let host = one(request.headers(), &header::HOST)?;
        if is_loopback && !host.is_none_or(is_own_host) {
            return Err(Problem::forbidden(
                "the Host of the request is none of this process: use its address, or localhost",
            ));
        }
        let path = request.uri().path();
        if !["/livez", "/readyz", "/metrics"].contains(&path) {
            let why = "there is nothing at this path: there are /livez, /readyz and /metrics";
            return Err(Problem::not_found(why));
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let why = "this path has GET and HEAD only";
            let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, why);
            let mut response = problem.into_response();
            let allowed = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(header::ALLOW, allowed);
            return Ok(response);
        }
        match path {
            "/readyz" => self.readiness().await.map_err(unready)?,
            "/metrics" => return self.metrics().await.map(answer),
            _ => {}
        }
        Ok("ok\n".into_response())
    }

    async fn readiness(&self) -> Result<(), String> {
        match *self.phase.borrow() {
            Phase::Starting => return Err("it is starting".to_owned()),
            Phase::Stopping => {
                return Err(
                    "it is stopping: what has begun ends, and nothing more is taken".into(),
                );
            }
            Phase::Working => {}
        }
        let asked = async {
            let answered = timeout(ANSWER_WITHIN, self.source.readiness()).await;
            answered.unwrap_or_else(|_| Err(late()))
        };
        self.readiness.get(asked).await
    }

    async fn metrics(&self) -> Result<String, Problem> {
        let asked = async {
            let answered = timeout(ANSWER_WITHIN, self.source.metrics(self.version)).await;
            answered.unwrap_or_else(|_| Err(unready(late())))
        };
        self.metrics.get(asked).await
    }
}

fn late() -> String {
    let seconds = ANSWER_WITHIN.as_secs();
    format!("the store or NATS gave no answer within {seconds} s")
}

fn unready(why: String) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, why)
}

impl Source {
    async fn readiness(&self) -> Result<(), String> {
        match self {
            Self::Process(vitals) => vitals.readiness().await,
            Self::Server { .. } => {
                let ready = self.watched().readiness().await;
                ready.map_err(|why| why.to_string())
            }
        }
    }

    async fn metrics(&self, version: &'static str) -> Result<String, Problem> {
        match self {
            Self::Process(vitals) => text(FigureSet {
                version,
                figures: vitals.figures().await,
            }),
            Self::Server { .. } => text(Figures::read(version, self.watched(), None).await),
        }
    }

    fn watched(&self) -> Watched<'_> {
        match self {
            Self::Process(_) => Watched {
                store: None,
                recorder: None,
                control: None,
            },
            Self::Server {
                store,
                recorder,
                control,
            } => Watched {
                store: store.as_ref(),
                recorder: recorder.as_ref(),
                control: control.as_ref(),
            },
        }
    }
}

/// An answer that is given again while it is fresh. Whoever asks meanwhile waits for the one that is being made.
#[derive(Debug)]
struct Cached<T>(Mutex<Option<(Instant, T)>>);

impl<T> Default for Cached<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> Cached<T> {
    async fn get(&self, make: impl Future<Output = T>) -> T {
        let mut last = self.0.lock().await;
        match &*last {
            Some((made, answer)) if made.elapsed() < FRESH => answer.clone(),
            _ => {
                let answer = make.await;
                *last = Some((Instant::now(), answer.clone()));
                answer
            }
        }
    }
}

/// Whether a Host can be that of a socket on loopback: an address, or localhost. Another name is one that a page of another
/// site has resolve to this machine (DNS rebinding), to read the answers. Any port will do, since a tunnel has its own.
fn is_own_host(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, _)) => name,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests;
