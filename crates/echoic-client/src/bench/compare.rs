//! Comparison of two targets: the figures of both, and whether they differ.

use std::fmt;

use echoic_core::endpoint::Endpoint;

use super::{
    attempt::{Attempt, Purpose},
    plan::{Load, Plan, Run},
    ratio::Ratio,
    verdict::Limit,
};

/// Reference of a comparison.
#[derive(Clone, Debug)]
pub enum Other {
    /// Another endpoint, measured in turn.
    Endpoint {
        /// Name for display.
        name: String,
        /// Its address.
        endpoint: Endpoint,
    },
    /// An earlier result.
    Result {
        /// Name for display.
        name: String,
        /// Its figures.
        baseline: Baseline,
    },
}

/// The compared part of an earlier result.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    /// Whether it was a closed loop.
    pub is_closed_loop: bool,
    /// Number of connections.
    pub connections: u32,
    /// Requests in flight on each connection.
    pub pipeline: u32,
    /// Requests per second; `None` without a fixed rate.
    pub asked_per_s: Option<f64>,
    /// Figures of its repeats, or of its only run.
    pub samples: Samples,
}

/// Compared figures of several repeats.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// Replies per second of each run.
    pub done_per_s: Vec<f64>,
    /// Median latency from the due time in microseconds; runs that were too short for a percentile are omitted.
    pub p50_us: Vec<f64>,
    /// 99th percentile, likewise.
    pub p99_us: Vec<f64>,
}

/// The result of a comparison.
#[derive(Debug)]
pub struct Comparison {
    /// Name of the reference.
    pub with: String,
    /// Whether both were measured in turn, so that slow drift affects both equally.
    pub in_turn: bool,
    /// The compared figures.
    pub figures: Vec<Compared>,
    /// Reservations about the comparison.
    pub caveats: Vec<Caveat>,
}

/// One figure of both targets.
#[derive(Debug)]
pub struct Compared {
    /// Name of the figure.
    pub name: &'static str,
    /// Median of this target.
    pub this: Option<f64>,
    /// Median of the reference.
    pub other: Option<f64>,
    /// Ratio of this target to the reference, if there are enough repeats.
    pub ratio: Option<Ratio>,
}

/// Reservation about a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caveat {
    /// The baseline was measured with the other kind of loop, open or closed.
    Loop,
    /// The baseline had a different number of connections.
    Connections,
    /// The baseline had a different number of requests in flight.
    Pipeline,
    /// The baseline was measured at a different rate.
    Rate,
    /// The generator was the limit in some of the runs.
    Generator {
        /// Number of runs in which it was.
        limited: usize,
        /// Number of all runs.
        all: usize,
    },
    /// The two were not measured in turn.
    AnotherTime,
}

impl fmt::Display for Caveat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loop => "it was not the same loop (open, closed)",
            Self::Connections => "it was not over as many connections",
            Self::Pipeline => "it had not as many requests in flight",
            Self::Rate => "it was not asked at the same rate",
            Self::Generator { limited, all } => {
                return write!(
                    f,
                    "the generator was the limit in {limited} of {all} runs: the figures describe the generator more than the server"
                );
            }
            Self::AnotherTime => {
                "measured at another time: what else changed in between is in the difference too"
            }
        })
    }
}

impl Comparison {
    /// Compares the repeats among `tries`, which were made with `plan` and `run`, with `other`.
    pub fn of(other: &Other, plan: &Plan, run: &Run, tries: &[Attempt]) -> Self {
        let ours = Samples::of(tries, Purpose::Repeat);
        let (with, in_turn, theirs, mut caveats) = match other {
            Other::Endpoint { name, .. } => {
                (name, true, Samples::of(tries, Purpose::Other), Vec::new())
            }
            Other::Result { name, baseline } => {
                let differences = baseline.differences(plan, run);
                (name, false, baseline.samples.clone(), differences)
            }
        };
        let limited = tries
            .iter()
            .filter(|attempt| attempt.verdict.limit == Limit::Generator);
        let (limited, all) = (limited.count(), tries.len());
        if limited > 0 {
            caveats.push(Caveat::Generator { limited, all });
        }
        if !in_turn {
            caveats.push(Caveat::AnotherTime);
        }
        let figures =
            ours.named()
                .into_iter()
                .zip(theirs.named())
                .map(|((name, ours), (_, theirs))| Compared {
                    name,
                    this: median(ours),
                    other: median(theirs),
                    ratio: if in_turn {
                        Ratio::of_pairs(theirs, ours)
                    } else {
                        Ratio::of_two(theirs, ours)
                    },
                });
        Self {
            with: with.clone(),
            in_turn,
            figures: figures.collect(),
            caveats,
        }
    }
}

impl Samples {
    /// Collects the figures of the runs with this purpose.
    fn of(tries: &[Attempt], purpose: Purpose) -> Self {
        let tries = || {
            tries
                .iter()
                .filter(move |attempt| attempt.purpose == purpose)
        };
        let micros = |ms: Option<f64>| ms.map(|ms| ms * 1e3);
        Self {
            done_per_s: tries().map(|attempt| attempt.done_per_s).collect(),
            p50_us: tries()
                .filter_map(|attempt| micros(attempt.p50_ms))
                .collect(),
            p99_us: tries()
                .filter_map(|attempt| micros(attempt.p99_ms))
                .collect(),
        }
    }

    fn named(&self) -> [(&'static str, &[f64]); 3] {
        [
            ("done_per_s", &self.done_per_s),
            ("p50_us", &self.p50_us),
            ("p99_us", &self.p99_us),
        ]
    }
}

impl Baseline {
    /// Returns the differences in load.
    fn differences(&self, plan: &Plan, run: &Run) -> Vec<Caveat> {
        let rate = match run.load {
            Load::Open { rate, .. } => Some(rate),
            Load::Closed | Load::Recorded(_) => None,
        };
        let is_closed_loop = matches!(run.load, Load::Closed);
        let all = [
            (is_closed_loop != self.is_closed_loop, Caveat::Loop),
            (self.connections != plan.connections, Caveat::Connections),
            (self.pipeline != plan.pipeline, Caveat::Pipeline),
            (self.asked_per_s != rate, Caveat::Rate),
        ];
        let differing = all.into_iter().filter(|(differs, _)| *differs);
        differing.map(|(_, caveat)| caveat).collect()
    }
}

fn median(figures: &[f64]) -> Option<f64> {
    let mut figures = figures.to_vec();
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    let upper = *figures.get(middle)?;
    Some(if figures.len().is_multiple_of(2) {
        f64::midpoint(figures[middle - 1], upper)
    } else {
        upper
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::{Length, Verdict, Workload, figures, plan::Arrivals, template::Template};

    fn plan() -> Plan {
        let workload = Workload::one(Template::literal("x"));
        Plan::new("5000".parse().unwrap(), "line".parse().unwrap(), workload)
    }

    fn run(load: Load) -> Run {
        Run {
            load,
            warmup: Duration::ZERO,
            length: Length::For(Duration::from_secs(1)),
        }
    }

    fn attempt(purpose: Purpose, done_per_s: f64, limit: Limit) -> Attempt {
        let why = String::new();
        let mut attempt = Attempt::of(
            purpose,
            None,
            &figures::tests::empty(1.0),
            true,
            Verdict { limit, why },
        );
        attempt.done_per_s = done_per_s;
        attempt
    }

    fn baseline(done_per_s: &[f64]) -> Other {
        Other::Result {
            name: "old.json".to_owned(),
            baseline: Baseline {
                is_closed_loop: true,
                connections: 1,
                pipeline: 1,
                asked_per_s: None,
                samples: Samples {
                    done_per_s: done_per_s.to_vec(),
                    ..Samples::default()
                },
            },
        }
    }

    #[test]
    fn paired_repeats_give_a_ratio_with_its_interval() {
        let tries: Vec<_> = (0..5)
            .flat_map(|n| {
                let speed = 1000.0 + f64::from(n);
                [
                    attempt(Purpose::Other, speed, Limit::None),
                    attempt(Purpose::Repeat, speed * 2.0, Limit::None),
                ]
            })
            .collect();
        let other = Other::Endpoint {
            name: ":6000".to_owned(),
            endpoint: "6000".parse().unwrap(),
        };
        let compared = Comparison::of(&other, &plan(), &run(Load::Closed), &tries);
        assert!(compared.in_turn && compared.caveats.is_empty());
        let rate = &compared.figures[0];
        assert_eq!((rate.this, rate.other), (Some(2004.0), Some(1002.0)));
        let ratio = rate.ratio.unwrap();
        assert!((ratio.ratio - 2.0).abs() < 1e-9 && ratio.differs());
        // No latencies were recorded, so there is no ratio.
        assert_eq!(
            (compared.figures[1].this, compared.figures[1].ratio),
            (None, None)
        );
    }

    #[test]
    fn single_baseline_run_gives_medians_but_no_ratio() {
        let tries: Vec<_> = (0..5)
            .map(|_| attempt(Purpose::Repeat, 500.0, Limit::None))
            .collect();
        let compared = Comparison::of(&baseline(&[400.0]), &plan(), &run(Load::Closed), &tries);
        let rate = &compared.figures[0];
        assert_eq!((rate.this, rate.other), (Some(500.0), Some(400.0)));
        assert!(rate.ratio.is_none());
        assert_eq!(compared.caveats, [Caveat::AnotherTime]);
    }

    #[test]
    fn another_load_and_a_limited_generator_are_caveats() {
        let load = Load::Open {
            rate: 50.0,
            arrivals: Arrivals::Constant,
        };
        let plan = Plan {
            connections: 2,
            pipeline: 3,
            ..plan()
        };
        let tries = [
            attempt(Purpose::Repeat, 50.0, Limit::Generator),
            attempt(Purpose::Repeat, 50.0, Limit::None),
        ];
        let compared = Comparison::of(&baseline(&[50.0]), &plan, &run(load), &tries);
        assert_eq!(
            compared.caveats,
            [
                Caveat::Loop,
                Caveat::Connections,
                Caveat::Pipeline,
                Caveat::Rate,
                Caveat::Generator { limited: 1, all: 2 },
                Caveat::AnotherTime,
            ]
        );
    }

    #[test]
    fn median_of_an_even_count_is_between_the_two_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
