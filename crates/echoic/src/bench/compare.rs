//! Whether one thing is faster than another: what is compared with what, and what comes of it.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use clap::Args;
use echoic_client::bench::{Load, Plan, REPEATS_MIN, Ratio, Run};
use echoic_core::endpoint::Endpoint;
use serde::Deserialize;

use super::{
    measured::{Kind, Try},
    target,
};

/// Measured several times, and compared.
#[derive(Debug, Args)]
#[command(next_help_heading = "Comparison")]
pub(super) struct CompareArgs {
    /// Measure ENDPOINT in turn with this one (A B A B), and say by how much it differs, or that no difference was seen
    #[arg(long, value_name = "OTHER", conflicts_with_all = ["steps", "find", "compare"])]
    against: Option<String>,

    /// Compare with a result that -o json printed; one of --repeats gives an interval
    #[arg(long, value_name = "OLD.json", conflicts_with_all = ["steps", "find"])]
    compare: Option<PathBuf>,

    /// Measure so many times, 2s each unless -d says otherwise [default: 5 with --against or --compare, else once]
    #[arg(long, value_name = "N", conflicts_with_all = ["steps", "find"], value_parser = crate::cli::count::<u32>(1..=1000))]
    repeats: Option<u32>,
}

/// What is compared with.
#[derive(Debug)]
pub(super) enum Other {
    /// An endpoint, measured in turn.
    Endpoint {
        /// As it was typed.
        name: String,
        endpoint: Endpoint,
    },
    /// A result of earlier.
    Result {
        /// The file.
        name: String,
        old: Old,
    },
}

/// What of an earlier result is compared.
#[derive(Debug, Deserialize)]
pub(super) struct Old {
    version: u32,
    r#loop: String,
    connections: u32,
    pipeline: u32,
    asked_per_s: Option<f64>,
    done_per_s: f64,
    latency_due_us: OldLatency,
    #[serde(default)]
    tries: Vec<OldTry>,
}

#[derive(Debug, Deserialize)]
struct OldLatency {
    p50: Option<f64>,
    p99: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct OldTry {
    run: String,
    done_per_s: f64,
    p50_us: Option<f64>,
    p99_us: Option<f64>,
}

/// A file longer than this is none of ours: a day of seconds is a tenth of it.
const FILE_BYTES_MAX: u64 = 256 << 20;

impl CompareArgs {
    /// How often to measure, if more than once was thought of.
    pub(super) fn repeats(&self) -> Result<Option<u32>, String> {
        let compares = self.against.is_some() || self.compare.is_some();
        match self.repeats {
            Some(repeats) if compares && (repeats as usize) < REPEATS_MIN => Err(format!(
                "{repeats} repeats bear no difference out; it takes {REPEATS_MIN} at least"
            )),
            None if compares => Ok(Some(REPEATS_MIN as u32)),
            repeats => Ok(repeats),
        }
    }

    /// What to compare with; read before anything is measured.
    pub(super) fn other(&self, plan: &Plan) -> Result<Option<Other>, String> {
        if let Some(name) = &self.against {
            let (endpoint, frames) = target::place(name, plan.frames)?;
            if frames != plan.frames {
                return Err(format!(
                    "{name} has a framing of its own; both are asked the same (--frame)"
                ));
            }
            if endpoint.shape() != plan.endpoint.shape() {
                return Err(format!(
                    "{name} and {} are not of one kind: streams and datagrams cannot be compared",
                    plan.endpoint
                ));
            }
            let name = name.clone();
            return Ok(Some(Other::Endpoint { name, endpoint }));
        }
        let result = |path: &PathBuf| {
            let name = path.display().to_string();
            let old = read(path).map_err(|why| format!("{name}: {why}"))?;
            Ok(Other::Result { name, old })
        };
        self.compare.as_ref().map(result).transpose()
    }
}

fn read(path: &Path) -> Result<Old, String> {
    let file = fs::File::open(path).map_err(|why| why.to_string())?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|why| why.to_string())?;
    let old: Old = serde_json::from_str(&text)
        .map_err(|why| format!("no result of echoic bench, as -o json prints it: {why}"))?;
    match old.version {
        1 => Ok(old),
        version => Err(format!(
            "a result of form {version}; this echoic reads form 1"
        )),
    }
}

/// What came of a comparison.
#[derive(Debug)]
pub(super) struct Comparison {
    /// With what.
    pub(super) with: String,
    /// Measured in turn, so that what wanders slowly is in both.
    pub(super) in_turn: bool,
    pub(super) figures: Vec<Compared>,
    /// What makes it less sure.
    pub(super) notes: Vec<String>,
}

/// One figure of both.
#[derive(Debug)]
pub(super) struct Compared {
    /// As in the JSON.
    pub(super) name: &'static str,
    /// The medians.
    pub(super) this: Option<f64>,
    pub(super) other: Option<f64>,
    /// By how much this is the other, if the repeats bear anything out.
    pub(super) ratio: Option<Ratio>,
}

impl Comparison {
    pub(super) fn of(other: &Other, plan: &Plan, run: &Run, tries: &[Try]) -> Self {
        let ours = figures(tries, Kind::Repeat);
        let (with, in_turn, theirs, mut notes) = match other {
            Other::Endpoint { name, .. } => (name, true, figures(tries, Kind::Other), Vec::new()),
            Other::Result { name, old } => (name, false, old.figures(), old.differences(plan, run)),
        };
        let limited = tries
            .iter()
            .filter(|attempt| attempt.verdict.who == echoic_client::bench::Who::Generator);
        let (limited, all) = (limited.count(), tries.len());
        if limited > 0 {
            notes.push(format!("the generator was the limit in {limited} of {all} runs: they say more of it than of what was loaded"));
        }
        if !in_turn {
            notes.push(
                "measured at another time: what else changed in between is in the difference too"
                    .to_owned(),
            );
        }
        let names = ["done_per_s", "p50_us", "p99_us"];
        let figures =
            names
                .into_iter()
                .zip(ours.iter().zip(&theirs))
                .map(|(name, (ours, theirs))| Compared {
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
            notes,
        }
    }
}

impl Compared {
    /// In words: `1.12 times (1.08 to 1.16)`, or that there is nothing to be said.
    pub(super) fn words(&self) -> String {
        match self.ratio {
            Some(ratio) if ratio.differs() => format!(
                "{:.3} times ({:.3} to {:.3})",
                ratio.ratio, ratio.low, ratio.high
            ),
            Some(ratio) => format!(
                "no difference seen ({:.3} to {:.3} times)",
                ratio.low, ratio.high
            ),
            None => format!("not known: it takes {REPEATS_MIN} repeats of both"),
        }
    }
}

/// Replies a second, p50 and p99 of each run of this kind. What a run was too short for is left out.
fn figures(tries: &[Try], what: Kind) -> [Vec<f64>; 3] {
    let tries = || tries.iter().filter(move |attempt| attempt.what == what);
    let micros = |ms: Option<f64>| ms.map(|ms| ms * 1e3);
    [
        tries().map(|attempt| attempt.done_per_s).collect(),
        tries()
            .filter_map(|attempt| micros(attempt.p50_ms))
            .collect(),
        tries()
            .filter_map(|attempt| micros(attempt.p99_ms))
            .collect(),
    ]
}

impl Old {
    /// Of its repeats, or the one figure that it has.
    fn figures(&self) -> [Vec<f64>; 3] {
        let repeats = || {
            self.tries
                .iter()
                .filter(|attempt| attempt.run == Kind::Repeat.word())
        };
        if repeats().next().is_none() {
            let latency = &self.latency_due_us;
            return [Some(self.done_per_s), latency.p50, latency.p99]
                .map(|figure| figure.into_iter().collect());
        }
        [
            repeats().map(|attempt| attempt.done_per_s).collect(),
            repeats().filter_map(|attempt| attempt.p50_us).collect(),
            repeats().filter_map(|attempt| attempt.p99_us).collect(),
        ]
    }

    /// Where it was not made under the same load.
    fn differences(&self, plan: &Plan, run: &Run) -> Vec<String> {
        let rate = match run.load {
            Load::Open { rate, .. } => Some(rate),
            Load::Closed | Load::Recorded(_) => None,
        };
        let open = matches!(run.load, Load::Closed) != (self.r#loop == "closed");
        let all = [
            (open, "it was not the same loop (open, closed)"),
            (
                self.connections != plan.connections,
                "it was not over as many connections",
            ),
            (
                self.pipeline != plan.pipeline,
                "it had not as many requests in flight",
            ),
            (
                self.asked_per_s != rate,
                "it was not asked at the same rate",
            ),
        ];
        let differing = all.into_iter().filter(|(differs, _)| *differs);
        differing.map(|(_, what)| what.to_owned()).collect()
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
