//! What a target does, where nobody said what to expect: one request beforehand shows.

use std::time::Duration;

use regex::bytes::Regex;

use super::{
    expect::Expect,
    fleet::{BenchError, LoadGenerator},
    plan::{Length, Load, Plan, Run},
};

/// How long the one reply is waited for.
const REPLY_TIMEOUT: Duration = Duration::from_secs(1);

/// Asks once over a connection of its own. Whatever is neither upper, lower nor echo is [`Expect::Any`].
pub fn guess(plan: &Plan) -> Result<Expect, BenchError> {
    // An expectation that nothing meets, so that the reply is shown.
    let Ok(nothing) = Regex::new(r"[^\x00-\x{10FFFF}]") else {
        return Ok(Expect::Any);
    };
    let plan = Plan {
        expect: Expect::Regex(nothing),
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
