//! The JSON object of `-o json`. Keys may be added, but never change their meaning.

use std::time::{Duration, UNIX_EPOCH};

use echoic_client::bench::{self, Load, Measured, packed, percentile};
use echoic_core::escape;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::host::{Environment, Host};
use crate::term::{OutputError, Payload};

/// The result of a run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Version of this format; grows only if a key changes its meaning.
    version: u32,
    /// The command line that repeats the run.
    command: String,
    host: Host,
    endpoint: String,
    frame: String,
    /// `closed`, `open` or `recorded`.
    r#loop: &'static str,
    connections: u32,
    pipeline: u32,
    threads: usize,
    expect: String,
    seed: u64,
    /// When the measurement began, in seconds since 1970.
    opened: f64,
    warmup_s: f64,
    seconds: f64,
    asked: u64,
    sent: u64,
    ok: u64,
    wrong: u64,
    late: u64,
    lost: u64,
    unsent: u64,
    done: u64,
    /// `None` in a closed loop.
    asked_per_s: Option<f64>,
    sent_per_s: f64,
    done_per_s: f64,
    bytes_sent: u64,
    bytes_heard: u64,
    latency_due_us: Latency,
    latency_sent_us: Latency,
    /// Half the width of the 95 % confidence interval of the mean.
    mean_within_us: Option<f64>,
    /// Whether both halves of the run agree; `None` if the run was too short.
    steady: Option<bool>,
    failures: Failures,
    /// Handshakes of TLS; left out without TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<Handshakes>,
    /// The longest time of at least a second in which requests waited and no reply came.
    stall: Option<Stall>,
    /// Counts of datagrams by outcome; `None` for streams.
    datagrams: Option<DatagramOutcomes>,
    series: Vec<Second>,
    samples: Vec<Sample>,
    generator: Generator,
    /// What was the limit: `healthy` (nothing), `server`, `network`, `slo` or `generator`.
    verdict: &'static str,
    verdict_why: String,
    /// A signal stopped the run before its end.
    cut: bool,
    slo: Vec<Judged>,
    assert: Vec<Judged>,
    /// The single runs of steps, a search or repeats.
    tries: Vec<Try>,
    search: Option<Search>,
    comparison: Option<Comparison>,
    histograms: Histograms,
}

#[derive(Debug, Serialize)]
struct Stall {
    /// Seconds from the start of the window.
    start_s: f64,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct DatagramOutcomes {
    lost: u64,
    late: u64,
    duplicate: u64,
    reordered: u64,
    reordered_by: u64,
    wrong: u64,
    truncated: u64,
    dropped_here: u64,
}

#[derive(Debug, Serialize)]
struct Judged {
    term: String,
    value: Option<String>,
    met: bool,
}

#[derive(Debug, Serialize)]
struct Try {
    run: &'static str,
    asked_per_s: Option<f64>,
    done_per_s: f64,
    p50_us: Option<f64>,
    p99_us: Option<f64>,
    delivered: f64,
    loss: f64,
    errors: u64,
    lag_p99_us: f64,
    #[serde(rename = "kept")]
    passed: bool,
    verdict: &'static str,
    verdict_why: String,
}

#[derive(Debug, Serialize)]
struct Search {
    /// `None` if no rate was found.
    found_per_s: Option<f64>,
    /// Whether that rate passed the confirmation.
    confirmed: bool,
    within: f64,
    limited_by: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct Comparison {
    with: String,
    in_turn: bool,
    figures: Vec<Compared>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Compared {
    figure: &'static str,
    this: Option<f64>,
    other: Option<f64>,
    /// `this` divided by `other`.
    ratio: Option<f64>,
    low: Option<f64>,
    high: Option<f64>,
    /// `None` if there are too few repeats.
    differs: Option<bool>,
}

/// HDR histograms of nanoseconds, in base64.
#[derive(Debug, Serialize)]
struct Histograms {
    /// The encoding of the values.
    encoding: &'static str,
    due: String,
    sent: String,
    lag: String,
}

#[derive(Debug, Serialize)]
struct Latency {
    count: u64,
    min: Option<f64>,
    mean: Option<f64>,
    p50: Option<f64>,
    p90: Option<f64>,
    p99: Option<f64>,
    p999: Option<f64>,
    p9999: Option<f64>,
    max: Option<f64>,
    /// The highest percentile, as a share, with at least ten slower requests; those above it are not reliable.
    enough_to: f64,
}

#[derive(Debug, Serialize)]
struct Failures {
    timed_out: u64,
    cut: u64,
    pending: u64,
    extra: u64,
    closed: u64,
    reset: u64,
    refused: u64,
    no_port: u64,
    reconnects: u64,
    not_sent: u64,
}

#[derive(Debug, Serialize)]
struct Handshakes {
    full: u64,
    resumed: u64,
    per_s: f64,
}

#[derive(Debug, Serialize)]
struct Second {
    sent: u64,
    ok: u64,
    wrong: u64,
    lost: u64,
    p50_us: Option<f64>,
    p99_us: Option<f64>,
    max_us: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Sample {
    connection: u32,
    number: u64,
    request: String,
    reply: String,
    expected: String,
}

#[derive(Debug, Serialize)]
struct Generator {
    lag_p99_us: Option<f64>,
    lag_max_us: Option<f64>,
    cpu: f64,
    busy: f64,
    cores: usize,
    threads: usize,
    standstill: Option<Stall>,
    floor_us: Option<f64>,
}

/// Writes one object for each second, then the summary.
pub(super) fn lines(
    payload: &mut Payload,
    measured: &Measured,
    environment: &Environment,
) -> Result<(), OutputError> {
    #[derive(Serialize)]
    struct Numbered<'a> {
        ev: &'static str,
        second: usize,
        #[serde(flatten)]
        of: &'a Second,
    }
    #[derive(Serialize)]
    struct Summary {
        ev: &'static str,
        #[serde(flatten)]
        of: Report,
    }
    let mut report = Report::of(measured, environment);
    for (second, of) in std::mem::take(&mut report.series).iter().enumerate() {
        payload.json(&Numbered {
            ev: "second",
            second,
            of,
        })?;
    }
    payload.json(&Summary {
        ev: "summary",
        of: report,
    })
}

impl Report {
    pub(super) fn of(measured: &Measured, environment: &Environment) -> Self {
        let Measured {
            plan, run, figures, ..
        } = measured;
        let opened = figures.opened.duration_since(UNIX_EPOCH);
        let mean = bench::Mean::of(&figures.series);
        Self {
            version: 1,
            command: environment.command.clone(),
            host: environment.host.clone(),
            endpoint: plan.endpoint.to_string(),
            frame: plan.frames.to_string(),
            r#loop: match run.load {
                Load::Closed => "closed",
                Load::Open { .. } => "open",
                Load::Recorded(_) => "recorded",
            },
            connections: plan.connections,
            pipeline: plan.pipeline,
            threads: figures.generator.threads,
            expect: plan.expect.to_string(),
            seed: plan.seed,
            opened: opened.unwrap_or_default().as_secs_f64(),
            warmup_s: run.warmup.as_secs_f64(),
            seconds: figures.seconds,
            asked: figures.asked,
            sent: figures.sent,
            ok: figures.ok,
            wrong: figures.wrong,
            late: figures.late,
            lost: figures.lost,
            unsent: figures.unsent,
            done: figures.done,
            asked_per_s: figures.rate,
            sent_per_s: rounded(figures.sent_per_s()),
            done_per_s: rounded(figures.done_per_s()),
            bytes_sent: figures.bytes_sent,
            bytes_heard: figures.bytes_received,
            latency_due_us: Latency::of(&figures.due),
            latency_sent_us: Latency::of(&figures.service),
            mean_within_us: mean.map(|mean| rounded(mean.within / 1e3)),
            steady: bench::Steady::of(&figures.series).map(|steady| steady.is_steady),
            failures: Failures::of(&figures.failures),
            tls: figures
                .handshakes
                .map(|handshakes| Handshakes::of(handshakes, figures.seconds)),
            stall: figures.stall.as_ref().map(Stall::of),
            datagrams: DatagramOutcomes::of(figures),
            series: figures.series.iter().map(Second::of).collect(),
            samples: figures.samples.iter().map(Sample::of).collect(),
            generator: Generator::of(&figures.generator),
            verdict: measured.verdict.limit.word(),
            verdict_why: measured.verdict.why.clone(),
            cut: measured.is_cut,
            slo: measured.slo.iter().map(Judged::of).collect(),
            assert: measured.asserted.iter().map(Judged::of).collect(),
            tries: measured.tries.iter().map(Try::of).collect(),
            search: measured.search.as_ref().map(Search::of),
            comparison: measured.comparison.as_ref().map(Comparison::of),
            histograms: Histograms::of(figures),
        }
    }
}

impl DatagramOutcomes {
    fn of(figures: &bench::Figures) -> Option<Self> {
        figures.outcomes.map(|outcomes| Self {
            lost: figures.lost,
            late: figures.late,
            duplicate: outcomes.duplicate,
            reordered: outcomes.reordered,
            reordered_by: outcomes.reordered_by,
            wrong: figures.wrong,
            truncated: outcomes.truncated,
            dropped_here: outcomes.dropped_here,
        })
    }
}

impl Judged {
    fn of(judged: &bench::Judged) -> Self {
        Self {
            term: judged.term.clone(),
            value: judged.value.clone(),
            met: judged.met,
        }
    }
}

impl Try {
    fn of(attempt: &bench::Attempt) -> Self {
        let micros = |ms: Option<f64>| ms.map(|ms| rounded(ms * 1e3));
        Self {
            run: attempt.purpose.word(),
            asked_per_s: attempt.asked_per_s,
            done_per_s: rounded(attempt.done_per_s),
            p50_us: micros(attempt.p50_ms),
            p99_us: micros(attempt.p99_ms),
            delivered: attempt.delivered,
            loss: attempt.loss,
            errors: attempt.errors,
            lag_p99_us: rounded(attempt.lag_p99_ms * 1e3),
            passed: attempt.passed,
            verdict: attempt.verdict.limit.word(),
            verdict_why: attempt.verdict.why.clone(),
        }
    }
}

impl Search {
    fn of(search: &bench::SearchResult) -> Self {
        Self {
            found_per_s: search.found.map(|found| rounded(found.rate)),
            confirmed: search.found.is_some_and(|found| found.is_confirmed),
            within: search.within,
            limited_by: search
                .stopped_by
                .as_ref()
                .map(|verdict| verdict.limit.word()),
        }
    }
}

impl Comparison {
    fn of(comparison: &bench::Comparison) -> Self {
        let compared = |figure: &bench::Compared| {
            let digits = |ratio: f64| (ratio * 1e4).round() / 1e4;
            Compared {
                figure: figure.name,
                this: figure.this.map(rounded),
                other: figure.other.map(rounded),
                ratio: figure.ratio.map(|ratio| digits(ratio.ratio)),
                low: figure.ratio.map(|ratio| digits(ratio.low)),
                high: figure.ratio.map(|ratio| digits(ratio.high)),
                differs: figure.ratio.map(|ratio| ratio.differs()),
            }
        };
        Self {
            with: comparison.with.clone(),
            in_turn: comparison.in_turn,
            figures: comparison.figures.iter().map(compared).collect(),
            notes: comparison.caveats.iter().map(ToString::to_string).collect(),
        }
    }
}

impl Histograms {
    fn of(figures: &bench::Figures) -> Self {
        Self {
            encoding: "HdrHistogram V2, base64, nanoseconds",
            due: packed(&figures.due),
            sent: packed(&figures.service),
            lag: packed(&figures.generator.lag),
        }
    }
}

impl Stall {
    fn of(stall: &bench::Stall) -> Self {
        Self {
            start_s: rounded(stall.start.as_secs_f64()),
            seconds: rounded(stall.length.as_secs_f64()),
        }
    }
}

impl Failures {
    fn of(failures: &bench::Failures) -> Self {
        Self {
            timed_out: failures.timed_out,
            cut: failures.cut,
            pending: failures.pending,
            extra: failures.extra,
            closed: failures.closed,
            reset: failures.reset,
            refused: failures.refused,
            no_port: failures.no_port,
            reconnects: failures.reconnects,
            not_sent: failures.not_sent,
        }
    }
}

impl Handshakes {
    fn of(handshakes: bench::Handshakes, seconds: f64) -> Self {
        let bench::Handshakes { full, resumed } = handshakes;
        Self {
            full,
            resumed,
            per_s: rounded((full + resumed) as f64 / seconds.max(1e-9)),
        }
    }
}

impl Second {
    fn of(second: &bench::Second) -> Self {
        Self {
            sent: second.sent,
            ok: second.ok,
            wrong: second.wrong,
            lost: second.lost,
            p50_us: percentile(&second.due, 0.5).map(micros),
            p99_us: percentile(&second.due, 0.99).map(micros),
            max_us: max(&second.due),
        }
    }
}

impl Sample {
    fn of(sample: &bench::Sample) -> Self {
        let text = |bytes: &[u8]| escape::text(bytes).to_string();
        Self {
            connection: sample.connection,
            number: sample.number,
            request: text(&sample.request),
            reply: text(&sample.reply),
            expected: text(&sample.expected),
        }
    }
}

impl Generator {
    fn of(generator: &bench::GeneratorStats) -> Self {
        let thousandths = |share: f64| (share * 1e3).round() / 1e3;
        let lag = &generator.lag;
        Self {
            lag_p99_us: (!lag.is_empty())
                .then(|| micros(Duration::from_nanos(lag.value_at_quantile(0.99)))),
            lag_max_us: max(lag),
            cpu: thousandths(generator.cpu),
            busy: thousandths(generator.busy),
            cores: generator.cores,
            threads: generator.threads,
            standstill: generator.standstill.as_ref().map(Stall::of),
            floor_us: generator.floor.map(micros),
        }
    }
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Self {
        let any = !histogram.is_empty();
        let at = |q| any.then(|| micros(Duration::from_nanos(histogram.value_at_quantile(q))));
        Self {
            count: histogram.len(),
            min: any.then(|| micros(Duration::from_nanos(histogram.min()))),
            mean: any.then(|| rounded(histogram.mean() / 1e3)),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: max(histogram),
            enough_to: [0.9999, 0.999, 0.99, 0.9, 0.5]
                .into_iter()
                .find(|q| percentile(histogram, *q).is_some())
                .unwrap_or(0.0),
        }
    }
}

fn max(of: &Histogram<u64>) -> Option<f64> {
    (!of.is_empty()).then(|| micros(Duration::from_nanos(of.max())))
}

fn micros(time: Duration) -> f64 {
    rounded(time.as_nanos() as f64 / 1e3)
}

/// Rounds to one decimal place.
fn rounded(figure: f64) -> f64 {
    (figure * 10.0).round() / 10.0
}
