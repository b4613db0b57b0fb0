//! What a result is compared with: another endpoint, or an earlier result read from its JSON.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use clap::Args;
use echoic_client::bench::{Baseline, Other, Plan, Purpose, REPEATS_MIN, Samples};
use serde::Deserialize;

use super::target;

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

/// What of an earlier result is compared.
#[derive(Debug, Deserialize)]
struct Old {
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
            let (endpoint, frames) = target::address(name, plan.frames)?;
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
            let baseline = read(path).map_err(|why| format!("{name}: {why}"))?;
            Ok(Other::Result { name, baseline })
        };
        self.compare.as_ref().map(result).transpose()
    }
}

fn read(path: &Path) -> Result<Baseline, String> {
    let file = fs::File::open(path).map_err(|why| why.to_string())?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|why| why.to_string())?;
    let old: Old = serde_json::from_str(&text)
        .map_err(|why| format!("no result of echoic bench, as -o json prints it: {why}"))?;
    match old.version {
        1 => Ok(old.into()),
        version => Err(format!(
            "a result of form {version}; this echoic reads form 1"
        )),
    }
}

impl From<Old> for Baseline {
    /// The figures are those of its repeats, or the one figure that it has.
    fn from(old: Old) -> Self {
        let repeats = || {
            old.tries
                .iter()
                .filter(|attempt| attempt.run == Purpose::Repeat.word())
        };
        let samples = if repeats().next().is_some() {
            Samples {
                done_per_s: repeats().map(|attempt| attempt.done_per_s).collect(),
                p50_us: repeats().filter_map(|attempt| attempt.p50_us).collect(),
                p99_us: repeats().filter_map(|attempt| attempt.p99_us).collect(),
            }
        } else {
            Samples {
                done_per_s: vec![old.done_per_s],
                p50_us: old.latency_due_us.p50.into_iter().collect(),
                p99_us: old.latency_due_us.p99.into_iter().collect(),
            }
        };
        Self {
            is_closed_loop: old.r#loop == "closed",
            connections: old.connections,
            pipeline: old.pipeline,
            asked_per_s: old.asked_per_s,
            samples,
        }
    }
}
