//! Derives the expectation from replies, if none was given.

use std::time::Duration;

use echoic_core::framing::Framing;

use super::{
    expect::Expect,
    figures::Sample,
    generator::{BenchError, LoadGenerator, StopHandle},
    plan::{Length, Load, Plan, Run},
    template::Template,
    workload::Workload,
};
use crate::pattern::Pattern;

/// Time limit for the reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(1);
/// Letters of both cases and digits: its upper, its lower and its echo differ.
const MIXED: &[u8] = b"Ab1 Cd2 Ef3";

/// Sends one request over a separate connection. If more than one of upper, lower and echo gives its reply, a message of
/// both cases is sent over another one. A reply that none of them gives, or no reply, gives [`Expect::Any`].
pub fn guess(plan: &Plan) -> Result<Expect, BenchError> {
    guess_unless_stopped(plan, &StopHandle::default())
}

/// Does the same, until `stop` is triggered.
pub(super) fn guess_unless_stopped(plan: &Plan, stop: &StopHandle) -> Result<Expect, BenchError> {
    let Some(sample) = ask(plan, stop)? else {
        return Ok(Expect::Any);
    };
    let fitting = Expect::fitting(&sample.request, &sample.reply);
    if fitting.len() > 1
        && let Some(plan) = mixed(plan)
        && let Some(sample) = ask(&plan, stop)?
    {
        return Ok(Expect::guess(&sample.request, &sample.reply));
    }
    Ok(Expect::guess(&sample.request, &sample.reply))
}

/// Returns a plan that sends a message of both cases, if its framing allows one.
fn mixed(plan: &Plan) -> Option<Plan> {
    let framing = plan.frames.outbound;
    let bytes = match framing {
        Framing::Fixed(bytes) => bytes.get() as usize,
        _ => MIXED.len(),
    };
    let message: Vec<u8> = MIXED.iter().copied().cycle().take(bytes).collect();
    let workload = Workload::one(Template::literal(message));
    workload.check(framing).ok()?;
    Some(Plan {
        workload,
        ..plan.clone()
    })
}

/// Sends one request and returns it with its reply, if there was one.
fn ask(plan: &Plan, stop: &StopHandle) -> Result<Option<Sample>, BenchError> {
    // An expectation that no reply meets, so that the reply becomes a sample.
    let Ok(unmatchable) = Pattern::new(r"[^\x00-\x{10FFFF}]") else {
        return Ok(None);
    };
    let plan = Plan {
        expect: Expect::Regex(unmatchable),
        connections: 1,
        threads: 1,
        pipeline: 1,
        timeout: REPLY_TIMEOUT.min(plan.timeout),
        drain_timeout: REPLY_TIMEOUT.min(plan.drain_timeout),
        give_up: REPLY_TIMEOUT,
        connects_per_s: None,
        ..plan.clone()
    };
    let run = Run {
        load: Load::Closed,
        warmup: Duration::ZERO,
        length: Length::Count(1),
    };
    let figures = LoadGenerator::open_unless_stopped(&plan, stop.clone())?.run(&run)?;
    Ok(figures.samples.into_iter().next())
}
