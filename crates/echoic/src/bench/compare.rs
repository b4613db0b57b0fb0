//! The options of `echoic bench` that compare results: with another endpoint, or with an earlier result in JSON.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use clap::Args;
use echoic_client::bench::{Baseline, Other, Plan, Purpose, REPEATS_MIN, Samples};
use serde::Deserialize;

use super::target;

/// Comparison options.
#[derive(Debug, Args)]
#[command(next_help_heading = "Comparison")]
pub(super) struct CompareArgs {
    /// Measure ENDPOINT and this endpoint in turn (A B A B), and print the difference
    #[arg(long, value_name = "OTHER", conflicts_with_all = ["steps", "find", "compare"])]
    against: Option<String>,

    /// Compare with an earlier result of -o json; results with --repeats give an interval
    #[arg(long, value_name = "OLD.json", conflicts_with_all = ["steps", "find"])]
    compare: Option<PathBuf>,

    /// Measure N times, 2s each unless -d is given [default: 5 with --against or --compare, else once]
    #[arg(long, value_name = "N", conflicts_with_all = ["steps", "find"], value_parser = crate::cli::count::<u32>(1..=1000))]
    repeats: Option<u32>,
}

/// The part of an earlier result that is compared.
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

/// Longest file that is read; the result of a run over a day has a tenth of it.
const FILE_BYTES_MAX: u64 = 256 << 20;

impl CompareArgs {
    /// Returns the number of repeats; `None` for a single run.
    pub(super) fn repeats(&self) -> Result<Option<u32>, String> {
        let compares = self.against.is_some() || self.compare.is_some();
        match self.repeats {
            Some(repeats) if compares && (repeats as usize) < REPEATS_MIN => Err(format!(
                "invalid --repeats {repeats}: expected at least {REPEATS_MIN} for a comparison"
            )),
            None if compares => Ok(Some(REPEATS_MIN as u32)),
            repeats => Ok(repeats),
        }
    }

    /// Returns what to compare with. Reads the earlier result, so that errors show before the run.
    pub(super) fn other(&self, plan: &Plan) -> Result<Option<Other>, String> {
        if let Some(name) = &self.against {
            let (endpoint, frames) = target::address(name, plan.frames, false)?;
            if frames != plan.frames {
                return Err(format!(
                    "invalid endpoint {name}: its framing differs; both must use the same (--frame)"
                ));
            }
            if endpoint.shape() != plan.endpoint.shape() {
                return Err(format!(
                    "cannot compare {name} with {}: one is a stream, the other sends datagrams",
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
        .map_err(|why| format!("expected a result of echoic bench -o json: {why}"))?;
    match old.version {
        1 => Ok(old.into()),
        version => Err(format!(
            "invalid version {version}: this echoic reads version 1"
        )),
    }
}

impl From<Old> for Baseline {
    /// Takes the figures of all repeats, or the single result of a run without repeats.
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
