//! Parameters that several routes have.

use std::time::{Duration, Instant};

use echoic_core::{
    event::{ExchangeId, Micros},
    filter::Filter,
    store::Order,
    units::Span,
};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{json::Preview, problem::Problem, routes::HistogramFormat, search, series::Range};

/// Results of a page unless the request says how many.
const LIMIT: usize = 100;

/// Most results of a page.
const LIMIT_MAX: usize = 1000;

/// How long a search takes unless the request says.
const SEARCH_BUDGET: Duration = Duration::from_millis(250);

/// Most time to search or to count: less than that within which an answer must begin.
const BUDGET_MAX: Duration = Duration::from_secs(25);

/// A duration with its unit: `10s`, `250ms`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Time(pub(crate) Duration);

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let span = text.parse::<Span>();
        span.map(|Span(duration)| Self(duration))
            .map_err(|error| error.to_string())
    }
}

/// A filter alone.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OfFilter {
    /// A filter, as `echoic log` takes it.
    #[param(example = "since:10m rep:ERROR")]
    pub(crate) q: Option<String>,
}

/// A stream of events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OfEvents {
    /// A filter for the exchanges, as `echoic log` takes it.
    #[param(example = "rep:ERROR")]
    pub(crate) q: Option<String>,
    /// Begin with the exchanges after this id. The header `Last-Event-ID` has precedence.
    pub(crate) after: Option<ExchangeId>,
}

/// A time in steps.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OfStats {
    /// A filter, as `echoic log` takes it.
    #[param(example = "ep:tcp:5000")]
    q: Option<String>,
    /// Beginning, in microseconds since the Unix epoch: by default five minutes before the end.
    from_us: Option<Micros>,
    /// End: by default now.
    to_us: Option<Micros>,
    /// Length of a step: by default so that there are about 30. At most 720 steps.
    #[param(value_type = Option<String>, example = "10s")]
    step: Option<Time>,
    /// How long to count before the answer is 503: at most `25s`, which is the default. The next request goes on from there.
    #[param(value_type = Option<String>, example = "2s")]
    budget: Option<Time>,
}

impl OfStats {
    pub(crate) fn range(&self) -> Result<Range, Problem> {
        range(self.q.as_deref(), (self.from_us, self.to_us), self.step)
    }

    /// Returns when to give up.
    pub(crate) fn until(&self) -> Result<Instant, Problem> {
        Ok(Instant::now() + budget(self.budget, BUDGET_MAX)?)
    }
}

/// A time.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OfHistogram {
    /// A filter, as `echoic log` takes it.
    #[param(example = "ep:tcp:5000")]
    q: Option<String>,
    /// Beginning, in microseconds since the Unix epoch: by default five minutes before the end.
    from_us: Option<Micros>,
    /// End: by default now.
    to_us: Option<Micros>,
    /// The times are extended to multiples of this, as those of `/stats` are.
    #[param(value_type = Option<String>, example = "10s")]
    step: Option<Time>,
    /// `json`, by default, or `hgrm`.
    #[param(value_type = Option<String>, example = "hgrm")]
    pub(crate) format: Option<HistogramFormat>,
}

impl OfHistogram {
    pub(crate) fn range(&self) -> Result<Range, Problem> {
        range(self.q.as_deref(), (self.from_us, self.to_us), self.step)
    }
}

/// A time in steps, and the size of its chart.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OfChart {
    /// A filter, as `echoic log` takes it.
    #[param(example = "ep:tcp:5000")]
    q: Option<String>,
    /// Beginning, in microseconds since the Unix epoch: by default five minutes before the end.
    from_us: Option<Micros>,
    /// End: by default now.
    to_us: Option<Micros>,
    /// Length of a step: by default so that there are about 30. At most 720 steps.
    #[param(value_type = Option<String>, example = "10s")]
    step: Option<Time>,
    /// Width in pixels: 160 to 4000, by default 600.
    pub(crate) width: Option<u32>,
    /// Height in pixels: 80 to 2000, by default 180.
    pub(crate) height: Option<u32>,
    /// What the reader's clock is ahead of UTC, in minutes.
    pub(crate) offset: Option<i32>,
}

impl OfChart {
    pub(crate) fn range(&self) -> Result<Range, Problem> {
        range(self.q.as_deref(), (self.from_us, self.to_us), self.step)
    }
}

fn range(
    q: Option<&str>,
    times: (Option<Micros>, Option<Micros>),
    step: Option<Time>,
) -> Result<Range, Problem> {
    let filter = search::filter(q)?;
    Range::new(filter, times, step.map(|Time(step)| step))
}

/// A page of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OfPage {
    /// A filter, as `echoic log` takes it.
    #[param(example = "since:10m rep:ERROR")]
    pub(crate) q: Option<String>,
    /// Maximum number of results: 1 to 1000, by default 100.
    #[param(minimum = 1, maximum = 1000)]
    pub(crate) limit: Option<usize>,
    /// Only older ones than this id, newest first, which is the default order.
    pub(crate) before: Option<ExchangeId>,
    /// Only newer ones than this id, oldest first.
    pub(crate) after: Option<ExchangeId>,
    /// Bytes of each request and reply: a number, by default 4096, or `full`.
    #[param(value_type = Option<String>, example = "256")]
    pub(crate) preview: Option<Preview>,
    /// How long to search before the answer comes with what was found: at most `25s`, by default `250ms`.
    #[param(value_type = Option<String>, example = "250ms")]
    pub(crate) budget: Option<Time>,
}

impl OfPage {
    /// Returns the filter, the order and the id from which the page goes.
    pub(crate) fn parse(&self) -> Result<(Filter, Order, Option<u64>), Problem> {
        let filter = search::filter(self.q.as_deref())?;
        let sorted = search::order(&filter)?;
        let (order, beyond) = match (self.before, self.after, sorted) {
            (Some(_), Some(_), _) => {
                return Err(Problem::invalid(
                    "before and after are two directions: leave one out",
                ));
            }
            (Some(_), None, Some(Order::OldestFirst))
            | (None, Some(_), Some(Order::NewestFirst)) => {
                return Err(Problem::invalid(
                    "sort: is the other direction than before or after: leave one out",
                ));
            }
            (before @ Some(_), None, _) => (Order::NewestFirst, before),
            (None, after @ Some(_), _) => (Order::OldestFirst, after),
            (None, None, sorted) => (sorted.unwrap_or(Order::NewestFirst), None),
        };
        Ok((filter, order, beyond))
    }

    /// Returns the number of results: the smaller of the parameter's and the filter's.
    pub(crate) fn limit(&self, filter: &Filter) -> Result<usize, Problem> {
        let limit = limit(self.limit)?;
        let of_filter = filter.limit().and_then(|limit| usize::try_from(limit).ok());
        Ok(limit.min(of_filter.unwrap_or(LIMIT_MAX)))
    }

    /// Returns how long to search.
    pub(crate) fn budget(&self) -> Result<Duration, Problem> {
        budget(self.budget, SEARCH_BUDGET)
    }
}

/// Checks a number of results.
pub(crate) fn limit(limit: Option<usize>) -> Result<usize, Problem> {
    match limit.unwrap_or(LIMIT) {
        limit @ 1..=LIMIT_MAX => Ok(limit),
        _ => Err(Problem::invalid(format!(
            "invalid limit: expected 1 to {LIMIT_MAX}"
        ))),
    }
}

/// Returns when to give up to count for a request that does not say.
pub(crate) fn until() -> Instant {
    Instant::now() + BUDGET_MAX
}

/// Checks a time to search or to count.
fn budget(budget: Option<Time>, default: Duration) -> Result<Duration, Problem> {
    match budget.map_or(default, |Time(budget)| budget) {
        budget if budget <= BUDGET_MAX => Ok(budget),
        _ => Err(Problem::invalid("invalid budget: expected at most 25s")),
    }
}
