//! Derives the expectation from one request, if none was given.

use std::time::Duration;

use super::{
    expect::Expect,
    generator::{BenchError, LoadGenerator},
    plan::{Length, Load, Plan, Run},
};
use crate::pattern::Pattern;

/// Time limit for the reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(1);

/// Sends one request over a separate connection. A reply that is neither upper, lower nor echo gives [`Expect::Any`].
pub fn guess(plan: &Plan) -> Result<Expect, BenchError> {
    // An expectation that no reply meets, so that the reply becomes a sample.
    let Ok(unmatchable) = Pattern::new(r"[^\x00-\x{10FFFF}]") else {
        return Ok(Expect::Any);
    };
    let plan = Plan {
        expect: Expect::Regex(unmatchable),
        connections: 1,
        threads: 1,
        pipeline: 1,
        timeout: REPLY_TIMEOUT.min(plan.timeout),
        drain_timeout: REPLY_TIMEOUT.min(plan.drain_timeout),
        connects_per_s: None,
        ..plan.clone()
    };
    let run = Run {
        load: Load::Closed,
        warmup: Duration::ZERO,
        length: Length::Count(1),
    };
    let figures = LoadGenerator::open(&plan)?.run(&run)?;
    let sample = figures.samples.first();
    Ok(sample.map_or(Expect::Any, |sample| {
        Expect::guess(&sample.request, &sample.reply)
    }))
}
