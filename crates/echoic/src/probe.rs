//! `echoic probe`: checks whether an endpoint can be reached, and explains why not.

mod args;
mod json;
mod text;
mod tls;
mod words;

use std::time::{Duration, Instant};

use echoic_client::probe::{Advice, ProbeOptions, State, probe};
use tokio::runtime;

pub(crate) use args::ProbeArgs;

use self::args::{Plan, Target};
use crate::{
    exit::{CliError, CommandResult, Exit},
    explain,
    term::{OutputError, Payload},
};

/// Time for an endpoint after others that have used up the wait: each is tried once.
const WAIT_MIN: Duration = Duration::from_millis(250);

/// Probes the endpoints one after the other and prints a report for each. The exit code is that of the first endpoint that
/// could not be reached.
pub(crate) fn run(args: &ProbeArgs) -> CommandResult {
    let plan = args.plan().map_err(CliError::usage)?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::system(format!("cannot start: {error}")))?;
    let mut exit = Exit::Done;
    let printed = runtime.block_on(probe_all(&plan, &mut exit));
    // Do not wait for getaddrinfo calls that are still running.
    runtime.shutdown_background();
    match printed {
        Ok(()) => Ok(exit),
        Err(error) => error.into_result(exit),
    }
}

/// Sets `exit` to the code of the first endpoint that could not be reached.
async fn probe_all(plan: &Plan, exit: &mut Exit) -> Result<(), OutputError> {
    let began = Instant::now();
    let mut payload = Payload::new(plan.json);
    for (number, target) in plan.targets.iter().enumerate() {
        let least = if number > 0 { WAIT_MIN } else { Duration::ZERO };
        let options = ProbeOptions {
            timeout: plan.timeout,
            all: plan.all,
            count: plan.count,
            check: plan.check.clone(),
            tls: target.tls.clone(),
            wait: plan
                .wait
                .map(|wait| wait.saturating_sub(began.elapsed()).max(least)),
            explain: plan.explain.then(explain::on_stderr),
            ..ProbeOptions::default()
        };
        let Target {
            endpoint,
            port_assumed,
            ..
        } = target;
        let report = probe(endpoint, &options).await;
        let mut verdict = report.verdict();
        verdict.sentence += verdict.advice.map_or("", next_step);
        let code = exit_code(verdict.state);
        if *exit == Exit::Done {
            *exit = code;
        }
        if plan.json {
            payload.json(&json::JsonReport::of(
                &report,
                &verdict,
                code,
                *port_assumed,
            ))?;
        } else {
            if number > 0 {
                payload.line(format_args!(""))?;
            }
            text::write(&mut payload, &report, &verdict, *port_assumed)?;
        }
        payload.flush()?;
    }
    Ok(())
}

/// Returns the option that would give more information.
fn next_step(advice: Advice) -> &'static str {
    match advice {
        Advice::Longer => "; try again with --timeout 5s",
        Advice::EachAlone => "; try each address with --all",
    }
}

fn exit_code(state: State) -> Exit {
    match state {
        State::Reachable | State::Open | State::Ready | State::Trusted => Exit::Done,
        State::Untrusted | State::HandshakeFailed => Exit::Handshake,
        State::NotReady => Exit::NotMet,
        State::NotResolved => Exit::NotResolved,
        State::Refused | State::Closed | State::Unreachable => Exit::Refused,
        State::Filtered | State::TimedOut | State::Silent => Exit::TimedOut,
    }
}
