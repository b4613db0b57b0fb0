//! What this console shows: version, store, recorder, server, limits.

use std::sync::Arc;

use axum::{Json, extract::State};
use echoic_recorder::{RecorderStatus, wall_clock_now};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    json::{CountsJson, EndpointJson},
    problem::Problem,
    state::App,
};

/// What this console shows.
#[derive(Serialize, ToSchema)]
pub(super) struct Info {
    /// Version of the API.
    v: u32,
    /// Version of echoic.
    version: &'static str,
    /// Identifies this start.
    instance: String,
    /// The process.
    pid: u32,
    /// Wall-clock time of its start, in microseconds since the Unix epoch.
    started_us: i64,
    /// Wall-clock time of this answer.
    now_us: i64,
    /// Whether nothing can be changed.
    readonly: bool,
    /// Whether this is a console beside a server, or without one: another process serves and records, and this one has no counter
    /// of what that process serves, has waiting or loses.
    beside: bool,
    /// What can be done.
    features: Features,
    /// The store.
    store: StoreJson,
    /// The recorder; null if another process records.
    recorder: Option<RecorderJson>,
    /// Counts of the server; null if this console runs none.
    counts: Option<CountsJson>,
    /// The limits in force.
    limits: Vec<LimitJson>,
    /// The endpoints of the server.
    endpoints: Vec<EndpointJson>,
    /// Targets beside the endpoints that may be sent to.
    targets: Vec<TargetJson>,
}

/// What can be done.
#[derive(Serialize, ToSchema)]
pub(super) struct Features {
    /// Endpoints can be paused, conversations closed.
    control: bool,
    /// Messages can be sent.
    send: bool,
    /// Tags and notes can be written.
    labels: bool,
    /// `GET /processes` tells of other processes, and may change.
    processes: bool,
    /// Where live events come from: `feed` from the recorder, `poll` from the store.
    #[schema(example = "feed")]
    live: &'static str,
}

/// The store.
#[derive(Serialize, ToSchema)]
pub(super) struct StoreJson {
    /// Its location.
    #[schema(example = "sqlite:echoic.db")]
    url: String,
    /// Its kind.
    #[schema(example = "sqlite")]
    kind: String,
    /// Its short name.
    #[schema(example = "echoic.db")]
    name: String,
    /// Bytes used.
    bytes: u64,
    /// Exchanges stored.
    exchanges: u64,
    /// Conversations stored.
    conversations: u64,
    /// Time of the oldest exchange.
    oldest_us: Option<i64>,
    /// Time of the newest exchange.
    newest_us: Option<i64>,
    /// The retention.
    retention: Option<String>,
    /// The durability.
    durability: Option<String>,
}

/// The recorder.
#[derive(Serialize, ToSchema)]
pub(super) struct RecorderJson {
    /// Exchanges committed.
    recorded: u64,
    /// Exchanges served and not yet committed or lost.
    waiting: u64,
    /// Exchanges that will never be in the store.
    lost: u64,
    /// The failure of the store, while it lasts.
    failing: Option<FailureJson>,
}

/// A failure of the store.
#[derive(Serialize, ToSchema)]
pub(super) struct FailureJson {
    /// Time of the first failed attempt.
    since_us: i64,
    /// The error of the store.
    why: String,
    /// Exchanges since then that are not stored.
    exchanges: u64,
}

/// A limit in force.
#[derive(Serialize, ToSchema)]
pub(super) struct LimitJson {
    /// The option that sets it.
    #[schema(example = "--max-message")]
    flag: String,
    /// Its value.
    #[schema(example = "1M")]
    value: String,
    /// What it limits.
    meaning: String,
}

/// A target that may be sent to.
#[derive(Serialize, ToSchema)]
pub(super) struct TargetJson {
    /// Its number.
    id: u32,
    /// Its URL.
    url: String,
}

impl From<RecorderStatus> for RecorderJson {
    fn from(status: RecorderStatus) -> Self {
        Self {
            recorded: status.recorded,
            waiting: status.waiting,
            lost: status.lost,
            failing: status.failure.map(|failure| FailureJson {
                since_us: failure.since,
                why: failure.why,
                exchanges: failure.exchanges,
            }),
        }
    }
}

/// Version, store, recorder, server and limits
#[utoipa::path(get, path = "/api/v1/info", tag = "server",
    extensions(("x-example" = json!("GET /api/v1/info"))), responses(
    (status = 200, description = "all of it", body = Info),
    (status = 503, description = "the store cannot be read", body = Problem)))]
pub(super) async fn info(State(app): State<Arc<App>>) -> Result<Json<Info>, Problem> {
    let control = app.control.as_ref();
    let endpoints = control
        .map(|control| control.endpoints())
        .unwrap_or_default();
    let targets = control.map(|control| control.targets()).unwrap_or_default();
    let has_control = control.is_some() && !app.config.readonly;
    Ok(Json(Info {
        v: 1,
        version: app.config.version,
        instance: app.instance.clone(),
        pid: std::process::id(),
        started_us: app.started,
        now_us: wall_clock_now(),
        readonly: app.config.readonly,
        beside: app.recorder.is_none(),
        features: Features {
            control: has_control,
            send: has_control,
            labels: !app.config.readonly,
            processes: control.is_some() && app.recorder.is_none(),
            live: if app.recorder.is_some() {
                "feed"
            } else {
                "poll"
            },
        },
        store: store(&app).await?,
        recorder: app
            .recorder
            .as_ref()
            .map(|recorder| recorder.status().into()),
        counts: control.map(|control| control.counts().into()),
        limits: limits(&app),
        endpoints: endpoints.iter().map(EndpointJson::from).collect(),
        targets: targets
            .into_iter()
            .map(|target| TargetJson {
                id: target.id,
                url: target.url,
            })
            .collect(),
    }))
}

async fn store(app: &App) -> Result<StoreJson, Problem> {
    let stats = app.store.stats().await?;
    let described = app.config.store.clone();
    Ok(StoreJson {
        url: described.url,
        kind: described.kind,
        name: described.name,
        bytes: stats.bytes,
        exchanges: stats.exchanges,
        conversations: stats.conversations,
        oldest_us: stats.oldest,
        newest_us: stats.newest,
        retention: described.retention,
        durability: described.durability,
    })
}

fn limits(app: &App) -> Vec<LimitJson> {
    let limits = app.config.limits.iter().cloned();
    limits
        .map(|limit| LimitJson {
            flag: limit.flag,
            value: limit.value,
            meaning: limit.meaning,
        })
        .collect()
}
