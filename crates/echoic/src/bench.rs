//! `echoic bench`: how much, how fast, and who was the limit.

mod args;
mod command;
mod compare;
mod csv;
mod file;
mod files;
mod host;
mod json;
mod progress;
mod report;
mod said;
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
    host::Made,
    progress::Screen,
    target::Intent,
};
use crate::{
    exit::{CliError, CommandResult, Exit},
    signals::Signals,
    term::{Payload, ReaderGone},
};

/// Loads an endpoint and prints what that has shown.
pub(crate) fn run(args: &BenchArgs) -> CommandResult {
    let planned = args.plan().map_err(CliError::usage)?;
    let files = args.files.open()?;
    let stops = Arc::new(StopSwitch::default());
    let screen = Screen::new(args.showing.quiet);
    let other = args.compare.other(&planned.plan).map_err(CliError::usage)?;
    prepare(args, &planned, other.as_ref(), &screen)?;
    let benchmark = args.benchmark(planned, other).map_err(CliError::usage)?;
    catch_signals(Arc::clone(&stops))?;
    let measured = benchmark.run(&stops, &screen)?;
    // A reader that has gone is a quiet end.
    let made = Made::here();
    let _ = print(args.showing.output, &measured, &made);
    for written in files.write(&measured, &made)? {
        screen.note(&format!("wrote {}", written.display()));
    }
    Ok(if measured.holds() {
        Exit::Done
    } else {
        Exit::NotMet
    })
}

/// Whether it may be done, and can be.
fn prepare(
    args: &BenchArgs,
    planned: &Planned,
    other: Option<&Other>,
    screen: &Screen,
) -> Result<(), CliError> {
    let plan = &planned.plan;
    let intent = Intent {
        rate: args.rate_max(),
        connections: plan.connections,
        churns: plan.churn.is_some(),
    };
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(CliError::system)?;
    runtime.block_on(target::is_allowed(&plan.endpoint, args.allowed(), intent))?;
    if let Some(Other::Endpoint { endpoint, .. }) = other {
        runtime.block_on(target::is_allowed(endpoint, args.allowed(), intent))?;
    }
    if let Some(note) = target::has_means(&plan.endpoint, intent)? {
        screen.note(&note);
    }
    Ok(())
}

/// The first signal stops the load, and what there is is printed; the second ends the process.
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
                signals.next().await;
                stops.stop();
                signals.next().await;
                #[expect(
                    clippy::exit,
                    reason = "asked twice, and whatever is under way is not to be waited for"
                )]
                std::process::exit(Exit::Interrupted as i32);
            });
        });
    caught.map(|_| ()).map_err(CliError::system)
}

fn print(form: Option<Form>, measured: &Measured, made: &Made) -> Result<(), ReaderGone> {
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
        Form::Json => payload.json(&json::Report::of(measured, made))?,
        Form::Jsonl => json::lines(&mut payload, measured, made)?,
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

/// What is wrong, and which options mend it.
fn indivisible(IndivisibleReplies { expect }: &IndivisibleReplies) -> String {
    format!(
        "without a framing, several replies in flight cannot be told apart where --expect is {expect}; say --frame, or \
         --expect upper, lower, echo, exact or len"
    )
}

impl From<BenchError> for CliError {
    fn from(error: BenchError) -> Self {
        match error {
            BenchError::Dial(error) => error.into(),
            error @ BenchError::System(_) => Self::system(error),
        }
    }
}
