//! What is typed after `echoic bench`, and what it means.

use std::time::Duration;

use clap::{Args, ValueEnum};
use echoic_client::bench::{
    Arrivals, Benchmark, Length, Load, Order, Other, Plan, Runs, Slo, Steps, Unframable, Warmup,
    Workload,
};
use echoic_core::{
    endpoint::{Endpoint, Shape},
    framing::{Framing, FramingPair},
    units::{Count, Percent, Rate, Span, UnitError, quoted},
};

use super::{compare::CompareArgs, files::FileArgs, said::SaidArgs, target};
use crate::cli::count;

/// How much, how fast, and who was the limit
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BenchArgs {
    /// Whom to load: 5000 or :5000 (this machine), HOST:PORT, udp://HOST:PORT, unix:PATH, unixgram:PATH
    #[arg(value_name = "ENDPOINT")]
    endpoint: String,

    /// What one message is, as for connect; IN/OUT where what is heard and what is said differ. Datagrams are whole anyway
    #[arg(
        long,
        value_name = "F",
        default_value = "chunk",
        env = "ECHOIC_FRAME",
        hide_env = true
    )]
    frame: FramingPair,

    #[command(flatten)]
    pub(super) said: SaidArgs,

    #[command(flatten)]
    load: LoadArgs,

    #[command(flatten)]
    tries: TriesArgs,

    #[command(flatten)]
    pub(super) showing: ShowingArgs,

    #[command(flatten)]
    pub(super) compare: CompareArgs,

    #[command(flatten)]
    pub(super) files: FileArgs,
}

/// How much is asked, and for how long.
#[derive(Debug, Args)]
#[command(next_help_heading = "Load")]
pub(super) struct LoadArgs {
    /// Connections, all open before the first request
    #[arg(short = 'c', long, value_name = "N", value_parser = count::<u32>(1..=100_000))]
    connections: Option<u32>,

    /// Open loop: so many requests a second in all, due at fixed times whatever the server does. Without it each
    /// connection asks again when its reply has come (closed loop)
    #[arg(short = 'r', long, value_name = "RATE", value_parser = rate)]
    rate: Option<f64>,

    /// How requests of an open loop are spread: constant, poisson, or burst:N
    #[arg(long, value_name = "HOW", value_parser = arrivals, default_value = "constant")]
    arrivals: Arrivals,

    /// Requests in flight on each connection at most [default: 1; datagrams with --rate: 4096]
    #[arg(long, value_name = "N", value_parser = count::<u32>(1..=65_536))]
    pipeline: Option<u32>,

    /// Threads that make the load
    #[arg(long, value_name = "N", default_value = "1", value_parser = count::<u32>(1..=256))]
    threads: u32,

    /// How long to measure; a plain number is seconds [default: 10s]
    #[arg(short = 'd', long, value_name = "TIME")]
    duration: Option<Span>,

    /// Measure so many requests instead
    #[arg(short = 'n', long, value_name = "COUNT", conflicts_with = "duration", value_parser = count::<u64>(1..=u64::MAX))]
    count: Option<u64>,

    /// Load before that and do not count it; auto: until two half seconds are alike, 10s at most [default: 1s, or
    /// nothing with --count]
    #[arg(long, value_name = "TIME|auto", value_parser = warmup)]
    warmup: Option<Warmup>,

    /// Spread the opening of the connections over this time, before anything is measured
    #[arg(long, value_name = "TIME", conflicts_with = "conn_rate")]
    ramp: Option<Span>,

    /// Open so many connections a second at most, before anything is measured
    #[arg(long, value_name = "RATE", value_parser = rate)]
    conn_rate: Option<f64>,

    /// Close each connection after so many messages, and open another
    #[arg(long, value_name = "N", value_parser = count::<u64>(1..=u64::MAX))]
    churn: Option<u64>,

    /// Unanswered for so long is lost; a stream's connection is then closed [default: 1s for datagrams, else 10s]
    #[arg(long, value_name = "TIME")]
    timeout: Option<Span>,

    /// How long replies are waited for after the end [default: as --timeout]
    #[arg(long, value_name = "TIME")]
    drain_timeout: Option<Span>,

    /// Do not wait at full speed for a due moment that is less than 0.1 ms away: saves a core, costs precision
    #[arg(long)]
    no_spin: bool,

    /// This host is yours to load: beyond this machine there are at most 1,000 requests a second and 100 connections
    /// otherwise
    #[arg(long, value_name = "HOST")]
    allow_load: Vec<String>,
}

/// More than one run, and what has to come of them.
#[derive(Debug, Args)]
#[command(next_help_heading = "Steps, search, judgement")]
pub(super) struct TriesArgs {
    /// Rates one after the other: 1k..50k:+1k@5s adds, 1k..50k:x1.5@5s multiplies; the first fifth of each is warm-up
    #[arg(long, value_name = "STEPS", conflicts_with_all = ["rate", "duration", "count", "find", "warmup"])]
    steps: Option<Steps>,

    /// In which order: up, shuffled, or mirror (up and down again)
    #[arg(long, value_name = "ORDER", default_value = "up", requires = "steps")]
    order: Ordered,

    /// Search the highest rate that keeps --slo
    #[arg(long, value_name = "max", requires = "slo", conflicts_with_all = ["rate", "duration", "count", "warmup"])]
    find: Option<Find>,

    /// What is promised: p99<5ms, loss<0.1%, errors=0, … (also p50, p99.9, mean, max, wrong, delivered, rate)
    #[arg(long, value_name = "TERMS")]
    slo: Option<Slo>,

    /// How long one try of a search takes; the first fifth is warm-up
    #[arg(long, value_name = "TIME", default_value = "2s", requires = "find")]
    trial: Span,

    /// How long the rate that was found has to hold
    #[arg(long, value_name = "TIME", default_value = "10s", requires = "find")]
    confirm: Span,

    /// How closely to search
    #[arg(long, value_name = "SHARE", default_value = "5%", value_parser = percent, requires = "find")]
    within: f64,

    /// Exit with 7 unless these hold; words as for --slo
    #[arg(long, value_name = "TERMS")]
    assert: Option<Slo>,
}

/// How it is shown.
#[derive(Debug, Args)]
#[command(next_help_heading = "Showing")]
pub(super) struct ShowingArgs {
    /// How to print what came of it [default: text on a terminal, else json]
    #[arg(short = 'o', long, value_name = "FORM")]
    pub(super) output: Option<Form>,

    /// Tell nothing while it runs
    #[arg(short, long)]
    pub(super) quiet: bool,

    /// Do not measure what a server that does nothing would give; that takes a quarter of a second
    #[arg(long)]
    no_floor: bool,
}

const EXAMPLES: &str = "\
Examples:
  echoic bench :5000                                  a first picture: one connection, then eight at half of that
  echoic bench :5000 --frame line -c 64 -d 10s        closed loop: as fast as replies come
  echoic bench :5000 --frame line -c 64 -r 20k        open loop: latency as users would see it
  echoic bench :5000 --frame line -c 8 --pipeline 16  16 requests in flight on each connection
  echoic bench udp://:5000 -r 5k --slo 'loss<0.1%'    lost, late, doubled, reordered datagrams
  echoic bench :5000 --frame line -c 64 --steps '1k..20k:+1k@2s'
  echoic bench :5000 --frame line -c 64 --find max --slo 'p99<5ms, errors=0'
  echoic bench :5000 --frame line --from-store svc:upper --pace 2x
  echoic bench :5000 --frame line -c 8 -r 20k --report run.html
  echoic bench :5000 --against :6000 --frame line -c 8    is it faster, or was it chance?
  echoic bench :5000 --frame line -r 1k --assert 'p99<5ms, rate>900' -o json > run.json

A latency counts from when the request was due, so that a server that stalls is not asked less and
praised for it; beside it stands the time from when it was sent. Every reply is checked.

Exit codes: 0 measured (and --assert and --slo hold), 2 usage, 3 name not resolved, 4 refused or
unreachable, 5 timed out while connecting, 7 --assert or --slo does not hold, or --find found
nothing, 130 interrupted twice; after one Ctrl-C what there is is printed.";

/// How long is measured, unless told otherwise.
const DURATION: Duration = Duration::from_secs(10);

/// How figures are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    /// For people.
    Text,
    /// One object.
    Json,
    /// An object for each second, and then the summary.
    Jsonl,
    /// A row for each run.
    Csv,
}

/// The order of steps.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Ordered {
    Up,
    Shuffled,
    Mirror,
}

impl From<Ordered> for Order {
    fn from(order: Ordered) -> Self {
        match order {
            Ordered::Up => Self::Up,
            Ordered::Shuffled => Self::Shuffled,
            Ordered::Mirror => Self::Mirror,
        }
    }
}

/// What is searched.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Find {
    /// The highest rate.
    Max,
}

/// What is to be done.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) plan: Plan,
    pub(super) load: Load,
    pub(super) length: Length,
    pub(super) warmup: Warmup,
    /// Nothing was asked for: the first picture.
    pub(super) is_first_look: bool,
}

impl BenchArgs {
    /// What was typed means this.
    pub(super) fn plan(&self) -> Result<Planned, String> {
        let (endpoint, frames) = target::address(&self.endpoint, self.frame)?;
        let is_datagrams = endpoint.shape() == Some(Shape::Datagrams);
        let dividing = if is_datagrams {
            Framing::Chunk
        } else {
            frames.outbound
        };
        let recorded = self.said.recorded(dividing)?;
        let workload = match &recorded {
            Some(recorded) => recorded.workload.clone(),
            None => self.said.workload(frames.outbound)?,
        };
        if !is_datagrams {
            workload.check(frames.outbound).map_err(|error| {
                let remedy = unframable(&error);
                format!("{error}{remedy}")
            })?;
        }
        let plan = self
            .load
            .speaking(endpoint, frames, workload, self.is_open())?;
        let plan = Plan {
            expect: self.said.expect.clone().unwrap_or_default(),
            seed: self.said.seed,
            ..plan
        };
        if self.load.arrivals != Arrivals::Constant && !self.is_open() {
            return Err(
                "--arrivals spreads the requests of an open loop; give it a --rate".to_owned(),
            );
        }
        let is_first_look = recorded.is_none()
            && !self.is_open()
            && self.load.is_unsaid()
            && self.compare.repeats()?.is_none();
        let recorded = recorded.map(|recorded| (recorded.load, recorded.count));
        let (again, count) = recorded.unzip();
        let load = match self.load.rate {
            None => again.unwrap_or(Load::Closed),
            Some(rate) => self.at(rate),
        };
        let length = self.load.length(count)?;
        let warmup = match self.load.warmup {
            Some(warmup) => warmup,
            None if matches!(length, Length::Count(_)) => Warmup::For(Duration::ZERO),
            None => Warmup::For(Duration::from_secs(1)),
        };
        Ok(Planned {
            plan,
            load,
            length,
            warmup,
            is_first_look,
        })
    }

    /// The runs to make for what was planned.
    pub(super) fn benchmark(
        &self,
        planned: Planned,
        other: Option<Other>,
    ) -> Result<Benchmark, String> {
        let Planned {
            plan,
            load,
            length,
            warmup,
            is_first_look,
        } = planned;
        let runs = if let Some(steps) = &self.tries.steps {
            Runs::Steps {
                rates: steps.ordered(self.tries.order.into(), self.said.seed),
                each: steps.each,
            }
        } else if self.tries.find.is_some() {
            Runs::Search {
                trial: self.tries.trial.0,
                confirm: self.tries.confirm.0,
                within: self.tries.within,
            }
        } else if let Some(count) = self.compare.repeats()? {
            let is_given = self.load.duration.is_some() || self.load.count.is_some();
            Runs::Repeats {
                count,
                load,
                length: is_given.then_some(length),
                warmup: self.load.warmup,
                other,
            }
        } else if is_first_look {
            Runs::FirstLook { warmup }
        } else {
            Runs::Once {
                load,
                length,
                warmup,
            }
        };
        Ok(Benchmark {
            plan,
            guesses: self.said.expect.is_none(),
            measures_floor: !self.showing.no_floor,
            arrivals: self.load.arrivals,
            runs,
            slo: self.tries.slo.clone(),
            assert: self.tries.assert.clone(),
        })
    }

    /// Whether requests are due by the clock.
    fn is_open(&self) -> bool {
        self.load.rate.is_some() || self.tries.steps.is_some() || self.tries.find.is_some()
    }

    /// How requests are spread at a rate.
    fn at(&self, rate: f64) -> Load {
        Load::Open {
            rate,
            arrivals: self.load.arrivals,
        }
    }

    /// Hosts that may be loaded.
    pub(super) fn allowed(&self) -> &[String] {
        &self.load.allow_load
    }

    /// The highest rate there will be, if anything bounds it.
    pub(super) fn rate_max(&self) -> Option<f64> {
        match (&self.tries.steps, self.tries.find) {
            (Some(steps), _) => steps.rates.last().copied(),
            (None, Some(_)) => None,
            (None, None) => self.load.rate,
        }
    }
}

impl LoadArgs {
    /// Nothing was said of how much is to be asked.
    fn is_unsaid(&self) -> bool {
        self.connections.is_none()
            && self.duration.is_none()
            && self.count.is_none()
            && self.pipeline.is_none()
    }

    /// How to speak with the target.
    fn speaking(
        &self,
        endpoint: Endpoint,
        frames: FramingPair,
        workload: Workload,
        is_open: bool,
    ) -> Result<Plan, String> {
        let is_datagrams = endpoint.shape() == Some(Shape::Datagrams);
        let patience = Duration::from_secs(if is_datagrams { 1 } else { 10 });
        let timeout = self.timeout.map_or(patience, |timeout| timeout.0);
        if timeout.is_zero() {
            return Err("--timeout 0 leaves no time for a reply".to_owned());
        }
        let connections = self.connections.unwrap_or(1);
        let plan = Plan::new(endpoint, frames, workload);
        let unsaid = if is_datagrams && is_open { 4096 } else { 1 };
        Ok(Plan {
            connections,
            threads: self.threads.min(connections),
            pipeline: self.pipeline.unwrap_or(unsaid),
            connects_per_s: match self.ramp {
                Some(Span(ramp)) => Some(f64::from(connections) / ramp.as_secs_f64().max(1e-6)),
                None => self.conn_rate,
            },
            churn: self.churn,
            timeout,
            drain_timeout: self.drain_timeout.map_or(timeout, |drain| drain.0),
            spin: plan.spin && !self.no_spin,
            ..plan
        })
    }

    /// How long; `recorded` requests are asked once each, unless told otherwise.
    fn length(&self, recorded: Option<u64>) -> Result<Length, String> {
        match (self.count, self.duration) {
            (Some(count), _) => Ok(Length::Count(count)),
            (None, Some(Span(time))) if time.is_zero() => {
                Err("--duration 0 measures nothing".to_owned())
            }
            (None, Some(Span(time))) => Ok(Length::For(time)),
            (None, None) => Ok(recorded.map_or(Length::For(DURATION), Length::Count)),
        }
    }
}

/// The option that mends it.
fn unframable(error: &Unframable) -> &'static str {
    match error {
        Unframable::Terminator { .. } => "; use another --frame",
        Unframable::Length { .. } => "; use --size",
        Unframable::Empty { .. } => "; use --frame",
        Unframable::Nothing | Unframable::TooLong { .. } => "",
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

fn percent(text: &str) -> Result<f64, String> {
    const LEAST: f64 = 0.001;
    let share: Result<Percent, UnitError> = text.parse();
    match share {
        Ok(Percent(share)) if share >= LEAST => Ok(share),
        Ok(_) => Err(format!(
            "invalid share {}: expected at least 0.1%",
            quoted(text)
        )),
        Err(error) => Err(error.to_string()),
    }
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        args: BenchArgs,
    }

    fn plan(words: &str) -> Result<Planned, String> {
        let words = std::iter::once("bench").chain(words.split(' '));
        let typed = Typed::try_parse_from(words).map_err(|error| error.to_string())?;
        typed.args.plan()
    }

    #[test]
    fn invalid_bench_arguments_are_rejected_with_a_reason() {
        for (words, why) in [
            ("*:80", "for listening"),
            (":0", "port 0"),
            ("fd:3", "nothing to call"),
            ("tls://x:1", "bench loads"),
            (":80 -r x", "invalid rate x: expected a number a second"),
            (
                ":80 -c 0",
                "invalid count 0: expected at least 1 and at most 100000",
            ),
            (":80 --find max", "--slo"),
            (
                ":80 --slo p99",
                "invalid term p99: expected one of < <= > >= =",
            ),
            (":80 --arrivals poisson", "give it a --rate"),
            (
                ":80 -r 5 --arrivals burst:0",
                "invalid count 0: expected at least 1",
            ),
            (":80 --size 5 -m x", "cannot be used with"),
            (":80 -n 5 -d 5s", "cannot be used with"),
            (
                ":80 --within 5 --find max --slo p99<1ms",
                "invalid share 5: expected a percentage",
            ),
            (
                ":80 -c 1x",
                "invalid count 1x: expected a number, optionally with k, M or G",
            ),
            (
                ":80 -c 200k",
                "invalid count 200k: expected at least 1 and at most 100000",
            ),
            (
                ":80 --arrivals even",
                "invalid arrivals even: expected constant, poisson or burst:N",
            ),
            (":80 --warmup soon", "or auto"),
            (":80 --timeout 0", "no time"),
            (":80 -m=", "nothing would be sent; use --frame"),
            (":80 -m abc --frame fixed:2", "use --size"),
            (":80 -d 0", "measures nothing"),
            (":80 --corpus /nowhere/x", "cannot read"),
        ] {
            let said = plan(words).unwrap_err();
            assert!(said.contains(why), "{words}: {said}");
        }
    }

    #[test]
    fn omitted_options_follow_from_the_given_ones() {
        let first = plan("5000").unwrap();
        assert!(first.is_first_look && first.plan.pipeline == 1);
        let counted = plan("5000 -n 5").unwrap();
        assert_eq!(
            (counted.warmup, counted.length),
            (Warmup::For(Duration::ZERO), Length::Count(5))
        );
        let datagrams = plan("udp://:5000 -r 5k").unwrap();
        assert_eq!(
            (datagrams.plan.pipeline, datagrams.plan.timeout),
            (4096, Duration::from_secs(1))
        );
        assert!(!datagrams.is_first_look);
        let short = plan("5000 -c 1k -n 1.5M --pipeline 2k").unwrap();
        assert_eq!((short.plan.connections, short.plan.pipeline), (1000, 2000));
        assert_eq!(short.length, Length::Count(1_500_000));
        let ramp = plan("5000 -c 50 --ramp 2s").unwrap();
        assert_eq!(ramp.plan.connects_per_s, Some(25.0));
    }

    #[test]
    fn pipelining_requires_divisible_replies() {
        let divisible = |words: &str| plan(words).unwrap().plan.is_divisible();
        let error = divisible("5000 --pipeline 2").unwrap_err();
        assert!(super::super::indivisible(&error).contains("--frame"));
        assert!(divisible("5000 --pipeline 2 --expect upper").is_ok());
        assert!(divisible("5000 --pipeline 2 --frame line").is_ok());
        assert!(divisible("udp://:5000 --pipeline 2").is_ok());
    }
}
