//! `echoic bench`: measures throughput and latency, and what limited them.

mod args;
mod command;
mod compare;
mod csv;
mod files;
mod host;
mod json;
mod load;
mod output_file;
mod payload;
mod progress;
mod report;
mod runs;
mod target;
mod text;

use std::{
    io::{self, IsTerminal},
    sync::Arc,
    thread,
};

use echoic_client::bench::{
    BenchError, BenchmarkError, IndivisibleReplies, Measured, Other, StopSwitch,
};
use tokio::runtime;

pub(crate) use args::BenchArgs;
pub(crate) use target::{BEYOND_CONNECTIONS_MAX, BEYOND_RATE_MAX};

use self::{
    args::{Form, Planned},
    host::Environment,
    progress::Progress,
    target::LoadSize,
};
use crate::{
    exit::{CliError, CommandResult, Exit},
    signals::Signals,
    term::{OutputError, Payload},
};

/// Runs the benchmark, prints the result and writes the output files.
pub(crate) fn run(args: &BenchArgs) -> CommandResult {
    let planned = args.plan().map_err(CliError::usage)?;
    let files = args.files.open()?;
    let stops = Arc::new(StopSwitch::default());
    let progress = Progress::new(args.showing.quiet);
    let other = args.compare.other(&planned.plan).map_err(CliError::usage)?;
    check_load(args, &planned, other.as_ref(), &progress)?;
    let benchmark = args.benchmark(planned, other).map_err(CliError::usage)?;
    catch_signals(Arc::clone(&stops))?;
    let measured = benchmark.run(&stops, &progress)?;
    let environment = Environment::current();
    // The files are written also if standard output takes no more.
    let printed = print(args.showing.output, &measured, &environment);
    for written in files.write(&measured, &environment)? {
        progress.note(&format!("wrote {}", written.display()));
    }
    let exit = if measured.holds() {
        Exit::Done
    } else {
        Exit::NotMet
    };
    match printed {
        Ok(()) => Ok(exit),
        Err(error) => error.into_result(exit),
    }
}

/// Checks that the load is allowed, and that this process has the files and ports for it.
fn check_load(
    args: &BenchArgs,
    planned: &Planned,
    other: Option<&Other>,
    progress: &Progress,
) -> Result<(), CliError> {
    let plan = &planned.plan;
    let size = LoadSize {
        rate: args.rate_max(),
        connections: plan.connections,
        churns: plan.churn.is_some(),
    };
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(CliError::system)?;
    runtime.block_on(target::check_allowed(&plan.endpoint, args.allowed(), size))?;
    if let Some(Other::Endpoint { endpoint, .. }) = other {
        runtime.block_on(target::check_allowed(endpoint, args.allowed(), size))?;
    }
    if let Some(warning) = target::check_resources(&plan.endpoint, size)? {
        progress.note(&warning);
    }
    Ok(())
}

/// Handles signals: the first stops the load, and the result so far is printed; a second SIGINT or SIGTERM ends the process.
fn catch_signals(stops: Arc<StopSwitch>) -> Result<(), CliError> {
    let caught = thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else {
                return;
            };
            runtime.block_on(async {
                let Ok(mut signals) = Signals::catch() else {
                    return;
                };
                signals.first().await;
                stops.stop();
                signals.second().await;
                #[expect(
                    clippy::exit,
                    reason = "the user interrupted twice and does not want to wait"
                )]
                std::process::exit(Exit::Interrupted as i32);
            });
        });
    caught.map(|_| ()).map_err(CliError::system)
}

fn print(
    form: Option<Form>,
    measured: &Measured,
    environment: &Environment,
) -> Result<(), OutputError> {
    let form = form.unwrap_or_else(|| {
        if io::stdout().is_terminal() {
            Form::Text
        } else {
            Form::Json
        }
    });
    let mut payload = Payload::new(form != Form::Text);
    match form {
        Form::Text => text::write(&mut payload, measured)?,
        Form::Json => payload.json(&json::Report::of(measured, environment))?,
        Form::Jsonl => json::lines(&mut payload, measured, environment)?,
        Form::Csv => csv::write(&mut payload, measured)?,
    }
    payload.flush()
}

impl From<BenchmarkError> for CliError {
    fn from(error: BenchmarkError) -> Self {
        match error {
            BenchmarkError::Bench(error) => error.into(),
            BenchmarkError::Indivisible(error) => Self::usage(indivisible(&error)),
            error @ BenchmarkError::NoRuns => Self::usage(error),
            error @ BenchmarkError::Stopped => Self::new(Exit::Interrupted, error),
        }
    }
}

/// Returns the error text with the options that solve the problem.
fn indivisible(IndivisibleReplies { expect }: &IndivisibleReplies) -> String {
    format!(
        "cannot tell several replies in flight apart with --expect {expect} and no framing; give --frame, or \
         --expect upper, lower, echo, exact or len"
    )
}

impl From<BenchError> for CliError {
    fn from(error: BenchError) -> Self {
        match error {
            BenchError::Dial(error) => error.into(),
            error @ BenchError::Stopped => Self::new(Exit::Interrupted, error),
            error @ BenchError::System(_) => Self::system(error),
        }
    }
}
