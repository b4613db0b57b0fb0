//! The command line of `echoic bench`, and the plan that it describes.

use std::time::Duration;

use clap::{Args, ValueEnum};
use echoic_client::bench::{
    Arrivals, Benchmark, Length, Load, Other, Plan, Runs, Unframable, Warmup,
};
use echoic_core::{
    endpoint::{Endpoint, Shape},
    framing::{Framing, FramingPair},
};

use echoic_wire::{TlsClient, TlsClientOptions};

use super::{
    compare::CompareArgs, files::FileArgs, load::LoadArgs, payload::PayloadArgs, runs::RunArgs,
    target,
};
use crate::{
    connect::{TlsArgs, tls_only},
    term::sanitize,
};

/// Measure throughput and latency, and what limited them
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BenchArgs {
    /// Send requests here: 5000 or :5000 (this machine), HOST:PORT, udp://HOST:PORT, tls://HOST:PORT, unix:PATH or
    /// unixgram:PATH
    #[arg(value_name = "ENDPOINT")]
    endpoint: String,

    /// Divide the stream into messages, as for connect; IN/OUT if replies and requests differ. Does not apply to datagrams
    #[arg(
        long,
        value_name = "F",
        default_value = "chunk",
        env = "ECHOIC_FRAME",
        hide_env_values = true
    )]
    frame: FramingPair,

    /// `frame` came from `ECHOIC_FRAME` or a file.
    #[arg(skip)]
    pub(crate) frame_is_default: bool,

    #[command(flatten)]
    pub(super) payload: PayloadArgs,

    #[command(flatten)]
    load: LoadArgs,

    #[command(flatten)]
    tls: TlsArgs,

    /// Resume the TLS session of an earlier connection (with --churn). Without it, every handshake is a full one
    #[arg(long, help_heading = "TLS (tls://)")]
    tls_resume: bool,

    #[command(flatten)]
    runs: RunArgs,

    #[command(flatten)]
    pub(super) showing: ShowingArgs,

    #[command(flatten)]
    pub(super) compare: CompareArgs,

    #[command(flatten)]
    pub(super) files: FileArgs,
}

/// Output options.
#[derive(Debug, Args)]
#[command(next_help_heading = "Showing")]
pub(super) struct ShowingArgs {
    /// Print the result in this form [default: text on a terminal, else json]
    #[arg(short = 'o', long, value_name = "FORM")]
    pub(super) output: Option<Form>,

    /// Print no progress
    #[arg(short, long)]
    pub(super) quiet: bool,

    /// Skip measuring the generator's own floor (0.25 s against a server that does nothing)
    #[arg(long)]
    no_floor: bool,
}

const EXAMPLES: &str = "\
Examples:
  echoic bench :5000                                  one connection, then eight
  echoic bench :5000 --frame line -c 64 -d 10s        closed loop, full speed
  echoic bench :5000 --frame line -c 64 -r 20k        open loop, 20000 a second
  echoic bench :5000 --frame line -c 8 --pipeline 16  16 in flight on each
  echoic bench udp://:5000 -r 5k --slo 'loss<0.1%'    datagrams
  echoic bench :5000 --frame line -c 64 --steps '1k..20k:+1k@2s'
  echoic bench :5000 --frame line -c 64 --find max --slo 'p99<5ms, errors=0'
  echoic bench tls://:5443 --ca ca.pem --frame line -c 8 --churn 1
                                     full handshakes; --tls-resume: resumed
  echoic bench :5000 --frame line --from-store svc:upper --pace 2x
  echoic bench :5000 --frame line -c 8 -r 20k --report run.html
  echoic bench :5000 --against :6000 --frame line -c 8
  echoic bench :5000 --frame line -r 1k --assert 'p99<5ms' -o json > run.json

Latency counts from the moment a request was due, so a server that stalls is not
rewarded with fewer requests (coordinated omission); the time from the moment it
was sent is printed too. Every reply is checked.

Exit codes: 0 measured, and --assert and --slo hold; 2 usage; 3 name not
resolved; 4 refused or unreachable; 5 timed out while connecting; 7 --assert or
--slo does not hold, or --find found no rate; 8 TLS handshake failed; 130
interrupted before the first result, or twice (the first Ctrl-C stops the load,
waits at most 2s for replies and prints the result so far).";

/// The form of the printed result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    /// Tables and a histogram
    Text,
    /// One object
    Json,
    /// One object for each second, then a summary
    Jsonl,
    /// One row for each run
    Csv,
}

/// A benchmark as the command line describes it.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) plan: Plan,
    pub(super) load: Load,
    pub(super) length: Length,
    pub(super) warmup: Warmup,
    /// No load was given: run the two short default measurements.
    pub(super) is_first_look: bool,
}

impl BenchArgs {
    /// Returns the plan, or an error that names the option at fault.
    pub(super) fn plan(&self) -> Result<Planned, String> {
        let tells = !self.showing.quiet && !self.frame_is_default;
        let (endpoint, frames) = target::address(&self.endpoint, self.frame, tells)?;
        let is_datagrams = endpoint.shape() == Some(Shape::Datagrams);
        let corpus_framing = if is_datagrams {
            Framing::Chunk
        } else {
            frames.outbound
        };
        let recorded = self.payload.recorded(corpus_framing)?;
        let workload = match &recorded {
            Some(recorded) => recorded.workload.clone(),
            None => self.payload.workload(frames.outbound)?,
        };
        let checked = match endpoint {
            Endpoint::Udp(_) => workload.check_udp(),
            _ if is_datagrams => Ok(()),
            _ => workload.check(frames.outbound),
        };
        checked.map_err(|error| format!("{error}{}", unframable(&error)))?;
        let plan = self.load.plan(endpoint, frames, workload, self.is_open())?;
        let plan = Plan {
            expect: self.payload.expect.clone().unwrap_or_default(),
            seed: self.payload.seed,
            tls: self.tls_options(&plan.endpoint)?,
            ..plan
        };
        if self.load.arrivals != Arrivals::Constant && !self.is_open() {
            return Err("--arrivals applies to an open loop only; give it a --rate".to_owned());
        }
        let is_first_look = recorded.is_none()
            && !self.is_open()
            && self.load.is_default()
            && self.compare.repeats()?.is_none();
        let recorded = recorded.map(|recorded| (recorded.load, recorded.count));
        let (recorded_load, count) = recorded.unzip();
        let load = match self.load.rate {
            None => recorded_load.unwrap_or(Load::Closed),
            Some(rate) => self.open_loop(rate),
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

    /// Returns what TLS needs, and checks it; `None` without TLS.
    fn tls_options(&self, endpoint: &Endpoint) -> Result<Option<TlsClientOptions>, String> {
        let options = self.tls.options(endpoint)?.map(|options| TlsClientOptions {
            resume: self.tls_resume,
            ..options
        });
        match (endpoint, &options) {
            (Endpoint::Tls(at), Some(options)) => {
                TlsClient::new(at, options).map_err(sanitize)?;
            }
            _ if self.tls_resume => return Err(tls_only("--tls-resume")),
            _ => {}
        }
        Ok(options)
    }

    /// Returns the runs to make for a plan.
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
        let runs = if let Some(steps) = &self.runs.steps {
            Runs::Steps {
                rates: steps.ordered(self.runs.order.into(), self.payload.seed),
                each: steps.each,
            }
        } else if self.runs.find.is_some() {
            Runs::Search {
                trial: self.runs.trial.0,
                confirm: self.runs.confirm.0,
                within: self.runs.within,
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
            guesses: self.payload.expect.is_none(),
            measures_floor: !self.showing.no_floor,
            arrivals: self.load.arrivals,
            runs,
            slo: self.runs.slo.clone(),
            assert: self.runs.assert.clone(),
        })
    }

    /// Returns whether requests are due at fixed times (open loop).
    fn is_open(&self) -> bool {
        self.load.rate.is_some() || self.runs.steps.is_some() || self.runs.find.is_some()
    }

    /// Returns the open-loop load at `rate`.
    fn open_loop(&self, rate: f64) -> Load {
        Load::Open {
            rate,
            arrivals: self.load.arrivals,
        }
    }

    /// Returns the hosts that `--allow-load` names.
    pub(super) fn allowed(&self) -> &[String] {
        &self.load.allow_load
    }

    /// Returns the highest rate that the runs reach; `None` if nothing bounds it.
    pub(super) fn rate_max(&self) -> Option<f64> {
        match (&self.runs.steps, self.runs.find) {
            (Some(steps), _) => steps.rates.last().copied(),
            (None, Some(_)) => None,
            (None, None) => self.load.rate,
        }
    }
}

/// Returns the option that solves the problem.
fn unframable(error: &Unframable) -> &'static str {
    match error {
        Unframable::Terminator { .. } => "; use another --frame",
        Unframable::Length { .. } => "; use --size",
        Unframable::Empty { .. } => "; use --frame",
        Unframable::Datagram { .. } => "; use a shorter one",
        Unframable::Nothing | Unframable::TooLong { .. } => "",
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        args: BenchArgs,
    }

    fn plan(words: &str) -> Result<Planned, String> {
        let words = std::iter::once("bench").chain(words.split(' '));
        let parsed = CommandLine::try_parse_from(words).map_err(|error| error.to_string())?;
        parsed.args.plan()
    }

    #[test]
    fn invalid_bench_arguments_are_rejected_with_a_reason() {
        for (words, why) in [
            ("*:80", "for listening"),
            (":0", "port 0"),
            ("fd:3", "for listening"),
            (":80 --tls-resume", "--tls-resume applies to tls:// only"),
            (":80 --ca a.pem", "--ca applies to tls:// only"),
            ("ws://x:1", "bench loads"),
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
            (
                ":80 -m=",
                "message 1 is empty, which cannot be sent without a framing; use --frame",
            ),
            (":80 -m abc --frame fixed:2", "use --size"),
            (":80 -d 0", "measures nothing"),
            (":80 --corpus /nowhere/x", "cannot read"),
        ] {
            let error = plan(words).unwrap_err();
            assert!(error.contains(why), "{words}: {error}");
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
        assert!(plan("udp://:5000 --size 65507").is_ok());
        let error = plan("udp://:5000 --size 65508").unwrap_err();
        assert!(
            error.contains("65508 bytes, more than a UDP datagram holds"),
            "{error}"
        );
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
