//! Figures over time.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use echoic_core::{
    event::Outcome,
    store::{Bucket, Latencies, Series},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    extract::Query,
    params::{self, OfHistogram, OfStats},
    problem::Problem,
    series::{OfStep, Range, largest},
    state::App,
};

/// Figures of a time, in steps.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StatsJson {
    /// Beginning of the first step.
    from_us: i64,
    /// End of the last step.
    to_us: i64,
    /// Length of a step.
    step_us: i64,
    /// Each step, also without exchanges.
    buckets: Vec<StepJson>,
    /// All steps together.
    total: StepJson,
    /// All steps together, by endpoint and service.
    by: Vec<EndpointFigures>,
    /// True if there were too many conversations to look at all: then old ones are not counted as open, and the figures of
    /// conversations are null in steps before the oldest one that was looked at.
    conversations_partial: bool,
}

/// Figures of a step.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StepJson {
    /// Its beginning.
    t_us: i64,
    #[serde(flatten)]
    figures: Figures,
    /// Conversations opened; null if it is not known, as the next three.
    opened: Option<u64>,
    /// Conversations ended.
    ended: Option<u64>,
    /// Conversations that ended by a reset.
    reset: Option<u64>,
    /// Conversations open at its end.
    open: Option<u64>,
}

/// Figures of an endpoint.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EndpointFigures {
    /// Short name of the endpoint.
    ep: String,
    /// The service.
    svc: String,
    #[serde(flatten)]
    figures: Figures,
}

/// Counts and latencies of exchanges.
#[derive(Debug, Serialize, ToSchema)]
struct Figures {
    /// Number of exchanges.
    exchanges: u64,
    /// Those that were answered.
    ok: u64,
    /// Those whose request was not answered.
    unanswered: u64,
    /// Those whose reply was not sent in full.
    unsent: u64,
    /// Those whose reply a rule suppressed.
    withheld: u64,
    /// Those of which it is not known whether they were answered: datagrams of a client.
    unpaired: u64,
    /// Bytes of the requests.
    request_bytes: u64,
    /// Bytes of the replies.
    reply_bytes: u64,
    /// Median latency; this and the next two have an error of at most 1/32.
    p50_ns: Option<u64>,
    /// Latency that 99 of 100 do not exceed.
    p99_ns: Option<u64>,
    /// Largest latency.
    max_ns: Option<u64>,
}

/// Exchanges that are counted together.
#[derive(Clone, Debug, Default)]
pub(super) struct Sum {
    pub(super) exchanges: u64,
    outcomes: BTreeMap<Outcome, u64>,
    request_bytes: u64,
    reply_bytes: u64,
    pub(super) latencies: Latencies,
}

impl Sum {
    pub(super) fn add(&mut self, outcome: Outcome, bucket: &Bucket) {
        self.exchanges += bucket.exchanges;
        *self.outcomes.entry(outcome).or_default() += bucket.exchanges;
        self.request_bytes += bucket.request_bytes;
        self.reply_bytes += bucket.reply_bytes;
        self.latencies.merge(&bucket.latencies);
    }

    pub(super) fn failed(&self) -> u64 {
        self.exchanges - self.of(Outcome::Ok)
    }

    fn of(&self, outcome: Outcome) -> u64 {
        self.outcomes.get(&outcome).copied().unwrap_or(0)
    }
}

impl From<&Sum> for Figures {
    fn from(sum: &Sum) -> Self {
        Self {
            exchanges: sum.exchanges,
            ok: sum.of(Outcome::Ok),
            unanswered: sum.of(Outcome::Unanswered),
            unsent: sum.of(Outcome::Unsent),
            withheld: sum.of(Outcome::Withheld),
            unpaired: sum.of(Outcome::Unpaired),
            request_bytes: sum.request_bytes,
            reply_bytes: sum.reply_bytes,
            p50_ns: sum.latencies.quantile(0.5),
            p99_ns: sum.latencies.quantile(0.99),
            max_ns: largest(&sum.latencies),
        }
    }
}

impl StepJson {
    fn new(t_us: i64, sum: &Sum, of_step: Option<OfStep>) -> Self {
        Self {
            t_us,
            figures: Figures::from(sum),
            opened: of_step.map(|step| step.opened),
            ended: of_step.map(|step| step.ended),
            reset: of_step.map(|step| step.reset),
            open: of_step.map(|step| step.open),
        }
    }
}

/// Returns the sum of each step.
pub(super) fn by_step(series: &Series, range: &Range) -> Vec<Sum> {
    let mut sums = vec![Sum::default(); range.steps()];
    for (key, bucket) in &series.buckets {
        let step = usize::try_from((key.at - range.from) / range.step);
        if let Some(sum) = step.ok().and_then(|step| sums.get_mut(step)) {
            sum.add(key.outcome, bucket);
        }
    }
    sums
}

/// Returns the sum of all steps.
pub(super) fn total(series: &Series) -> Sum {
    let mut sum = Sum::default();
    for (key, bucket) in &series.buckets {
        sum.add(key.outcome, bucket);
    }
    sum
}

/// Figures over time, from the record
#[utoipa::path(get, path = "/api/v1/stats", tag = "figures", params(OfStats), responses(
    (status = 200, description = "each step, their total, and each endpoint", body = StatsJson),
    (status = 400, description = "a mistake in the filter or the times", body = Problem),
    (status = 503, description = "the record is long, and not counted yet: ask again", body = Problem)))]
pub(super) async fn stats(
    State(app): State<Arc<App>>,
    Query(parameters): Query<OfStats>,
) -> Result<Json<StatsJson>, Problem> {
    let range = parameters.range()?;
    let until = parameters.until()?;
    let series = app.series.series(&*app.store, &range, until).await?;
    let (conversations, partial) = app.series.conversations(&*app.store, &range).await?;
    let sums = by_step(&series, &range);
    let steps = range.times().zip(sums.iter().zip(&conversations));
    let buckets = steps.map(|(at, (sum, of_step))| StepJson::new(at, sum, *of_step));
    let buckets = buckets.collect();
    let mut by: BTreeMap<(&str, &str), Sum> = BTreeMap::new();
    for (key, bucket) in &series.buckets {
        let names = (key.endpoint.as_str(), key.service.as_str());
        by.entry(names).or_default().add(key.outcome, bucket);
    }
    let by = by.into_iter().map(|((ep, svc), sum)| EndpointFigures {
        ep: ep.to_owned(),
        svc: svc.to_owned(),
        figures: Figures::from(&sum),
    });
    let all: Option<Vec<OfStep>> = conversations.iter().copied().collect();
    let of_all = all.map(|steps| OfStep {
        opened: steps.iter().map(|step| step.opened).sum(),
        ended: steps.iter().map(|step| step.ended).sum(),
        reset: steps.iter().map(|step| step.reset).sum(),
        open: steps.last().map_or(0, |step| step.open),
    });
    Ok(Json(StatsJson {
        from_us: range.from,
        to_us: range.to,
        step_us: range.step,
        buckets,
        total: StepJson::new(range.from, &total(&series), of_all),
        by: by.collect(),
        conversations_partial: partial,
    }))
}

/// The form of a histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum HistogramFormat {
    #[default]
    Json,
    Hgrm,
}

/// Latencies of a time.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HistogramJson {
    /// Beginning of the time.
    from_us: i64,
    /// Its end.
    to_us: i64,
    /// Number of exchanges.
    exchanges: u64,
    /// Ranges of latencies that have exchanges.
    buckets: Vec<HistogramBucket>,
}

/// Exchanges with about the same latency.
#[derive(Debug, Serialize, ToSchema)]
struct HistogramBucket {
    /// Smallest latency.
    from_ns: u64,
    /// Smallest latency above it.
    to_ns: u64,
    /// Number of exchanges.
    n: u64,
}

/// Latencies of a time, merged without loss
#[utoipa::path(get, path = "/api/v1/histogram", tag = "figures", params(OfHistogram), responses(
    (status = 200, description = "the histogram; `format=hgrm` is text as HdrHistogram prints it, in milliseconds", body = HistogramJson),
    (status = 400, description = "a mistake in the filter or the times", body = Problem),
    (status = 503, description = "the record is long, and not counted yet: ask again", body = Problem)))]
pub(super) async fn histogram(
    State(app): State<Arc<App>>,
    Query(parameters): Query<OfHistogram>,
) -> Result<Response, Problem> {
    let range = parameters.range()?;
    let series = app
        .series
        .series(&*app.store, &range, params::until())
        .await?;
    let sum = total(&series);
    if parameters.format.unwrap_or_default() == HistogramFormat::Hgrm {
        let kind = [
            (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
            (
                header::CONTENT_DISPOSITION,
                "attachment; filename=\"echoic.hgrm\"",
            ),
        ];
        return Ok((kind, hgrm(&sum.latencies)).into_response());
    }
    let buckets = sum.latencies.buckets();
    let buckets = buckets.map(|(from_ns, to_ns, n)| HistogramBucket { from_ns, to_ns, n });
    let json = HistogramJson {
        from_us: range.from,
        to_us: range.to,
        exchanges: sum.exchanges,
        buckets: buckets.collect(),
    };
    Ok(Json(json).into_response())
}

/// Prints a histogram as HdrHistogram does: values in milliseconds.
fn hgrm(latencies: &Latencies) -> String {
    let mut text = "       Value     Percentile TotalCount 1/(1-Percentile)\n\n".to_owned();
    let (all, mut seen) = (latencies.count(), 0);
    let mut weighted = 0.0;
    for (from, to, count) in latencies.buckets() {
        seen += count;
        let middle = from as f64 + to.saturating_sub(from) as f64 / 2.0;
        weighted += middle * count as f64;
        let part = seen as f64 / all as f64;
        let inverse = if seen < all {
            format!(" {:14.2}", 1.0 / (1.0 - part))
        } else {
            String::new()
        };
        text.push_str(&format!(
            "{:12.6} {part:14.12} {seen:10}{inverse}\n",
            middle / 1e6
        ));
    }
    let mean = if all == 0 {
        0.0
    } else {
        weighted / all as f64 / 1e6
    };
    let max = largest(latencies).unwrap_or(0) as f64 / 1e6;
    text.push_str(&format!(
        "#[Mean    = {mean:12.6}]\n#[Max     = {max:12.6}, Total count    = {all:12}]\n"
    ));
    text
}
