//! The load options of `echoic bench`: how much to send, and for how long.

use std::time::Duration;

use clap::Args;
use echoic_client::bench::{Arrivals, Length, Plan, Warmup, Workload};
use echoic_core::{
    endpoint::{Endpoint, Shape},
    framing::FramingPair,
    units::{Count, Rate, Span, UnitError, quoted},
};

use crate::cli::count;

/// Load options.
#[derive(Debug, Args)]
#[command(next_help_heading = "Load")]
pub(super) struct LoadArgs {
    /// Use N connections, all open before the first request
    #[arg(short = 'c', long, value_name = "N", value_parser = count::<u32>(1..=100_000))]
    pub(super) connections: Option<u32>,

    /// Open loop: send this many requests a second in total, at fixed times. Without it, each connection sends its next
    /// request when the reply has arrived (closed loop)
    #[arg(short = 'r', long, value_name = "RATE", value_parser = rate)]
    pub(super) rate: Option<f64>,

    /// Space the requests of an open loop: constant, poisson or burst:N
    #[arg(long, value_name = "HOW", value_parser = arrivals, default_value = "constant")]
    pub(super) arrivals: Arrivals,

    /// Keep up to N requests in flight on each connection [default: 1; datagrams with --rate: 4096]
    #[arg(long, value_name = "N", value_parser = count::<u32>(1..=65_536))]
    pub(super) pipeline: Option<u32>,

    /// Generate the load with N threads
    #[arg(long, value_name = "N", default_value = "1", value_parser = count::<u32>(1..=256))]
    pub(super) threads: u32,

    /// Measure for this time; a plain number is seconds [default: 10s]
    #[arg(short = 'd', long, value_name = "TIME")]
    pub(super) duration: Option<Span>,

    /// Measure this many requests instead
    #[arg(short = 'n', long, value_name = "COUNT", conflicts_with = "duration", value_parser = count::<u64>(1..=u64::MAX))]
    pub(super) count: Option<u64>,

    /// Run this long before measuring; auto: until two half seconds agree, at most 10s [default: 1s, or none with
    /// --count]
    #[arg(long, value_name = "TIME|auto", value_parser = warmup)]
    pub(super) warmup: Option<Warmup>,

    /// Open the connections evenly over this time, before measuring
    #[arg(long, value_name = "TIME", conflicts_with = "conn_rate")]
    pub(super) ramp: Option<Span>,

    /// Open at most this many connections a second, before measuring
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub(super) conn_rate: Option<f64>,

    /// Replace each connection after N messages
    #[arg(long, value_name = "N", value_parser = count::<u64>(1..=u64::MAX))]
    pub(super) churn: Option<u64>,

    /// Count a request as lost after this time, and close its connection if it is a stream; also the limit for connecting
    /// [default: 1s for datagrams, else 10s]
    #[arg(long, value_name = "TIME")]
    pub(super) timeout: Option<Span>,

    /// Wait this long for replies after the end [default: as --timeout]
    #[arg(long, value_name = "TIME")]
    pub(super) drain_timeout: Option<Span>,

    /// Sleep instead of spinning for the last 0.1 ms before a request is due: saves a core, costs precision
    #[arg(long)]
    pub(super) no_spin: bool,

    /// Allow any load on this host. Without it, other machines get at most 1,000 requests a second over 100 connections;
    /// may be repeated
    #[arg(long, value_name = "HOST")]
    pub(super) allow_load: Vec<String>,
}

/// Number of timeouts without any reply after which a run with `--count` ends.
const GIVE_UP_TIMEOUTS: u32 = 3;
/// The default of `--duration`.
const DURATION: Duration = Duration::from_secs(10);

impl LoadArgs {
    /// Returns whether no option sets the amount of load.
    pub(super) fn is_default(&self) -> bool {
        self.connections.is_none()
            && self.duration.is_none()
            && self.count.is_none()
            && self.pipeline.is_none()
    }

    /// Returns the plan for `endpoint`; `is_open` for an open loop.
    pub(super) fn plan(
        &self,
        endpoint: Endpoint,
        frames: FramingPair,
        workload: Workload,
        is_open: bool,
    ) -> Result<Plan, String> {
        let is_datagrams = endpoint.shape() == Some(Shape::Datagrams);
        let default = Duration::from_secs(if is_datagrams { 1 } else { 10 });
        let timeout = self.timeout.map_or(default, |timeout| timeout.0);
        if timeout.is_zero() {
            return Err("--timeout 0 leaves no time for a reply; expected at least 1ms".to_owned());
        }
        let connections = self.connections.unwrap_or(1);
        let plan = Plan::new(endpoint, frames, workload);
        let pipeline = if is_datagrams && is_open { 4096 } else { 1 };
        Ok(Plan {
            connections,
            threads: self.threads.min(connections),
            pipeline: self.pipeline.unwrap_or(pipeline),
            connects_per_s: match self.ramp {
                Some(Span(ramp)) => Some(f64::from(connections) / ramp.as_secs_f64().max(1e-6)),
                None => self.conn_rate,
            },
            churn: self.churn,
            timeout,
            drain_timeout: self.drain_timeout.map_or(timeout, |drain| drain.0),
            give_up: plan.give_up.max(timeout.saturating_mul(GIVE_UP_TIMEOUTS)),
            connect_within: self.timeout.map_or(plan.connect_within, |within| within.0),
            spin: plan.spin && !self.no_spin,
            ..plan
        })
    }

    /// Returns the length of the run; by default each of `recorded` requests is sent once.
    pub(super) fn length(&self, recorded: Option<u64>) -> Result<Length, String> {
        match (self.count, self.duration) {
            (Some(count), _) => Ok(Length::Count(count)),
            (None, Some(Span(time))) if time.is_zero() => {
                Err("--duration 0 measures nothing; expected more than 0".to_owned())
            }
            (None, Some(Span(time))) => Ok(Length::For(time)),
            (None, None) => Ok(recorded.map_or(Length::For(DURATION), Length::Count)),
        }
    }
}

fn rate(text: &str) -> Result<f64, UnitError> {
    text.parse().map(|Rate(rate)| rate)
}

fn warmup(text: &str) -> Result<Warmup, String> {
    if text.eq_ignore_ascii_case("auto") {
        return Ok(Warmup::Auto);
    }
    let span: Result<Span, UnitError> = text.parse();
    span.map(|Span(span)| Warmup::For(span))
        .map_err(|error| format!("{error}, or auto"))
}

fn arrivals(text: &str) -> Result<Arrivals, String> {
    let lower = text.to_ascii_lowercase();
    match lower.split_once(':') {
        None if lower == "constant" => Ok(Arrivals::Constant),
        None if lower == "poisson" => Ok(Arrivals::Poisson),
        Some(("burst", count)) => {
            let count = Count::within(count, 1..=u32::MAX.into());
            count
                .map(|count| Arrivals::Burst(count as u32))
                .map_err(|error| error.to_string())
        }
        _ => Err(format!(
            "invalid arrivals {}: expected constant, poisson or burst:N",
            quoted(text)
        )),
    }
}
