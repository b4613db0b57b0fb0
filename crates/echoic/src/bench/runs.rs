//! The options of `echoic bench` that make several runs, or judge their results.

use clap::{Args, ValueEnum};
use echoic_client::bench::{Order, Slo, Steps};
use echoic_core::units::{Percent, Span, UnitError, quoted};

/// Options for several runs and for judging them.
#[derive(Debug, Args)]
#[command(next_help_heading = "Steps, search, assertions")]
pub(super) struct RunArgs {
    /// Run these rates in turn: 1k..50k:+1k@5s adds, 1k..50k:x1.5@5s multiplies; the first fifth of each is warm-up
    #[arg(long, value_name = "STEPS", conflicts_with_all = ["rate", "duration", "count", "find", "warmup"])]
    pub(super) steps: Option<Steps>,

    /// Run the steps in this order
    #[arg(long, value_name = "ORDER", default_value = "up", requires = "steps")]
    pub(super) order: StepOrder,

    /// Search for the highest rate that meets --slo
    #[arg(long, value_name = "max", requires = "slo", conflicts_with_all = ["rate", "duration", "count", "warmup"])]
    pub(super) find: Option<Find>,

    /// Require this of every run: p99<5ms, loss<0.1%, errors=0 (also p50, p99.9, mean, max, wrong, delivered, rate)
    #[arg(long, value_name = "TERMS")]
    pub(super) slo: Option<Slo>,

    /// Run each trial of a search for this time; the first fifth is warm-up
    #[arg(long, value_name = "TIME", default_value = "2s", requires = "find")]
    pub(super) trial: Span,

    /// Confirm the rate that was found for this time
    #[arg(long, value_name = "TIME", default_value = "10s", requires = "find")]
    pub(super) confirm: Span,

    /// Stop the search when the rate is known this precisely
    #[arg(long, value_name = "SHARE", default_value = "5%", value_parser = percent, requires = "find")]
    pub(super) within: f64,

    /// Exit with 7 unless the result meets this; same terms as --slo
    #[arg(long, value_name = "TERMS")]
    pub(super) assert: Option<Slo>,
}

/// The order of steps.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum StepOrder {
    /// From the lowest rate to the highest
    Up,
    /// At random
    Shuffled,
    /// Up, then down again
    Mirror,
}

impl From<StepOrder> for Order {
    fn from(order: StepOrder) -> Self {
        match order {
            StepOrder::Up => Self::Up,
            StepOrder::Shuffled => Self::Shuffled,
            StepOrder::Mirror => Self::Mirror,
        }
    }
}

/// What `--find` searches for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Find {
    /// The highest rate
    Max,
}

fn percent(text: &str) -> Result<f64, String> {
    const SHARE_MIN: f64 = 0.001;
    let share: Result<Percent, UnitError> = text.parse();
    match share {
        Ok(Percent(share)) if share >= SHARE_MIN => Ok(share),
        Ok(_) => Err(format!(
            "invalid share {}: expected at least 0.1%",
            quoted(text)
        )),
        Err(error) => Err(error.to_string()),
    }
}
