//! `echoic bench`: how much, how fast, and who was the limit.

mod args;
mod json;

use echoic_client::bench::{BenchError, Fleet};

pub(crate) use args::BenchArgs;

use self::args::Planned;
use crate::{
    exit::{Exit, Failed, Outcome},
    term::Payload,
};

/// Loads an endpoint and prints what that has shown.
pub(crate) fn run(args: &BenchArgs) -> Outcome {
    let Planned { plan, run } = args.plan().map_err(Failed::usage)?;
    let figures = Fleet::open(&plan)?.run(&run)?;
    let mut payload = Payload::new(true);
    // A reader that has gone is a quiet end.
    let _ = payload
        .json(&json::Report::of(&plan, &run, &figures))
        .and_then(|()| payload.flush());
    Ok(Exit::Done)
}

impl From<BenchError> for Failed {
    fn from(error: BenchError) -> Self {
        match error {
            BenchError::Dial(error) => error.into(),
            error @ BenchError::System(_) => Self::system(error),
        }
    }
}
