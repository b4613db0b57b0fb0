//! Load: how much, how fast, and who was the limit.
//!
//! A [`Plan`] says whom to load and how to speak with it; a [`LoadGenerator`] holds its connections; a [`Run`] is one load over
//! one window; [`Figures`] are what it has shown. A [`Benchmark`] makes the runs of a whole investigation (steps of rates,
//! a search, repeats beside another target), tells an [`Observer`], and ends as [`Measured`]. All of these are plain values: nothing here reads a command line or
//! prints, so that a test can make a plan, and a chart can be drawn of figures that were read from a file.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use echoic_client::bench::{Expect, LoadGenerator, Length, Load, Plan, Run, Workload, percentile};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let plan = Plan {
//!     expect: Expect::Upper,
//!     connections: 64,
//!     ..Plan::new("127.0.0.1:5000".parse()?, "line".parse()?, Workload::one("hello {seq}".parse()?))
//! };
//! let run = Run {
//!     load: Load::Open { rate: 20_000.0, arrivals: Default::default() },
//!     warmup: Duration::from_secs(2),
//!     length: Length::For(Duration::from_secs(10)),
//! };
//! let figures = LoadGenerator::open(&plan)?.run(&run)?;
//! println!("{:.0} replies a second, p99 {:?}", figures.done_per_s(), percentile(&figures.due, 0.99));
//! # Ok(())
//! # }
//! ```
//!
//! # What is measured
//!
//! The schedule is fixed before the run ([`Schedule`]): request i is due at its moment, whatever the server does. One
//! that is late is sent at once and timed from when it was due ([`Figures::due`]), since that is what a user waits;
//! beside it stands the time from when it was sent ([`Figures::service`]). One that found no connection until the end
//! is a failure, and is in the histogram with what it has waited. In a closed loop a reply is what makes the next
//! request due: a stalled server is asked nothing, so the figures leave out what users would have waited.

mod benchmark;
mod clock;
mod compare;
mod connection;
mod cpu;
mod divide;
mod expect;
mod figures;
mod fleet;
mod flow;
mod guess;
mod hgrm;
mod live;
mod measured;
mod null;
mod observer;
mod pace;
mod packed;
mod plan;
mod ratio;
mod ready;
mod recorded;
mod runner;
mod schedule;
mod search;
mod seen;
mod sizes;
mod slo;
mod steady;
mod steps;
mod stream;
mod tally;
mod template;
mod tries;
mod turn;
mod verdict;
mod worker;
mod workload;

pub use benchmark::{Benchmark, BenchmarkError, Runs};
pub use compare::{Baseline, Caveat, Compared, Comparison, Other, Samples};
pub use divide::{Undivided, divide};
pub use expect::{Expect, InvalidExpectation};
pub use figures::{
    DatagramOutcomes, Failures, Figures, GeneratorStats, SAMPLE_BYTES_MAX, SAMPLES_MAX, Sample,
    Second, latencies, percentile,
};
pub use fleet::{BenchError, LoadGenerator, ProgressReader, StopHandle};
pub use guess::guess;
pub use hgrm::hgrm;
pub use live::Progress;
pub use measured::{Measured, SearchResult};
pub use null::floor;
pub use observer::{Observer, StopSwitch};
pub use packed::{InvalidHistogram, packed, unpacked};
pub use plan::{Arrivals, IndivisibleReplies, Length, Load, Plan, Run, Warmup};
pub use ratio::{REPEATS_MIN, Ratio};
pub use recorded::{InvalidPace, Pace, Recorded, RecordedError};
pub use schedule::Schedule;
pub use search::{Search, SearchStep, TrialOutcome};
pub use seen::{Arrival, ArrivalTracker};
pub use sizes::{InvalidSizes, SIZE_MAX, Sizes};
pub use slo::{InvalidSlo, Judged, Slo, Term};
pub use steady::{Mean, Steady};
pub use steps::{InvalidSteps, Order, Steps};
pub use template::{InvalidTemplate, Template, TemplateValues};
pub use tries::{Attempt, Purpose};
pub use verdict::{Limit, Verdict};
pub use workload::{MessageKind, Unframable, Workload};
