//! The stream of live events.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use echoic_core::event::ExchangeId;
use futures_core::Stream;

use crate::{
    extract::Query,
    hub::{NotJoined, Resume, Subscription},
    params::OfEvents,
    problem::Problem,
    search,
    state::App,
};

/// Live events, as server-sent events
///
/// `batch` has new exchanges, `conversations` those that opened, were half-closed or ended, `tick` the figures of each second, `gap`
/// the exchanges that were not sent. `labels`, `endpoint`, `explain` and `prune` report changes. The first event is `hello`, the
/// last one `bye`. The `id` of an event is the last exchange that the stream has reached. In a `tick` of a console beside a server
/// `beside` is true; `served`, `waiting`, `lost`, `failing` and `behind_us` are null, and `recorded` counts the record.
#[utoipa::path(get, path = "/api/v1/events", tag = "events", params(OfEvents), responses(
    (status = 200, description = "the stream", content_type = "text/event-stream", body = String),
    (status = 400, description = "a mistake in the filter", body = Problem),
    (status = 503, description = "too many streams, or the store cannot be read", body = Problem)))]
pub(super) async fn events(
    State(app): State<Arc<App>>,
    Query(parameters): Query<OfEvents>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let query = parameters.q.unwrap_or_default();
    let filter = search::filter(Some(&query))?;
    let after = match headers.get("last-event-id") {
        // A browser sends it empty before there was an id.
        Some(id) if !id.is_empty() => Some(parse_id(id.as_bytes())?),
        _ => parameters.after,
    };
    let (subscription, position) = app
        .hub
        .subscribe(&query, filter.clone())
        .await
        .map_err(unavailable)?;
    let resume = Resume::new(&app.store, filter, after, position);
    let config = &app.config;
    let hello = resume.hello(config.version, &app.instance, config.readonly);
    let events = Events {
        hello: Some(hello),
        resume: Some(next(resume)),
        subscription,
    };
    let kind = [(header::CONTENT_TYPE, "text/event-stream")];
    Ok((kind, Body::from_stream(events)).into_response())
}

fn parse_id(id: &[u8]) -> Result<ExchangeId, Problem> {
    let id = str::from_utf8(id).ok().and_then(|id| id.parse().ok());
    id.ok_or_else(|| Problem::invalid("invalid Last-Event-ID: expected the id of an exchange"))
}

fn unavailable(why: NotJoined) -> Problem {
    let detail = match why {
        NotJoined::Full => "too many event streams are open: close one, or use one for all",
        NotJoined::Failed => "the record cannot be read: GET /api/v1/info says why",
    };
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
}

type Resumed = Pin<Box<dyn Future<Output = Option<(Bytes, Resume)>> + Send>>;

/// The hello, what was missed, and the live events.
struct Events {
    hello: Option<Bytes>,
    resume: Option<Resumed>,
    subscription: Subscription,
}

fn next(mut resume: Resume) -> Resumed {
    Box::pin(async move {
        let event = resume.next().await?;
        Some((event, resume))
    })
}

impl Stream for Events {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(hello) = self.hello.take() {
            return Poll::Ready(Some(Ok(hello)));
        }
        if let Some(resume) = &mut self.resume {
            match resume.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some((event, rest))) => {
                    self.resume = Some(next(rest));
                    return Poll::Ready(Some(Ok(event)));
                }
                Poll::Ready(None) => self.resume = None,
            }
        }
        self.subscription.poll_next(cx).map(|event| event.map(Ok))
    }
}
