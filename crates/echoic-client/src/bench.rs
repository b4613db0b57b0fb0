//! Load generation: throughput, latency, and what limited them.
//!
//! A [`Plan`] describes the target and its protocol, a [`LoadGenerator`] holds the connections, a [`Run`] is one load over
//! one time window, and [`Figures`] are its result. A [`Benchmark`] makes a series of runs (steps of rates, a search,
//! repeats in turn with another target), reports progress to an [`Observer`], and returns [`Measured`]. All of these are
//! plain values: nothing here reads a command line or prints, so that tests can build plans, and charts can be drawn from
//! figures that were read from a file.
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
//! The schedule is fixed before the run ([`Schedule`]): request i is due at a given time, whatever the server does. A late
//! request is sent at once and its latency counts from when it was due ([`Figures::due`]), because that is how long a user
//! waits; [`Figures::service`] counts from when it was sent. A request that found no free connection until the end is a
//! failure, and its waiting time is in the histogram. In a closed loop, a reply makes the next request due: a stalled server
//! gets no requests, so the figures omit the time that users would have waited.

mod arrivals;
mod attempt;
mod benchmark;
mod clock;
mod compare;
mod connection;
mod cpu;
mod datagram_flow;
mod divide;
mod expect;
mod figures;
mod generator;
mod guess;
mod hgrm;
mod live;
mod measured;
mod null;
mod observer;
mod packed;
mod plan;
mod ratio;
mod ready;
mod recorded;
mod run_loop;
mod runner;
mod schedule;
mod search;
mod sizes;
mod slo;
mod stall;
mod steady;
mod steps;
mod stream;
mod tally;
mod template;
mod timer;
mod verdict;
mod worker;
mod workload;

pub use arrivals::{Arrival, ArrivalTracker};
pub use attempt::{Attempt, Purpose};
pub use benchmark::{Benchmark, BenchmarkError, Runs};
pub use compare::{Baseline, Caveat, Compared, Comparison, Other, Samples};
pub use divide::{Undivided, divide};
pub use expect::{Expect, InvalidExpectation};
pub use figures::{
    DatagramOutcomes, Failures, Figures, GeneratorStats, Handshakes, SAMPLE_BYTES_MAX, SAMPLES_MAX,
    Sample, Second, latencies, percentile,
};
pub use generator::{BenchError, LoadGenerator, ProgressReader, StopHandle};
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
pub use search::{Found, Search, SearchStep, TrialOutcome};
pub use sizes::{InvalidSizes, SIZE_MAX, Sizes};
pub use slo::{InvalidSlo, Judged, Slo, Term};
pub use stall::Stall;
pub use steady::{Mean, Steady};
pub use steps::{InvalidSteps, Order, Steps};
pub use template::{InvalidTemplate, Template, TemplateValues};
pub use verdict::{Limit, Verdict};
pub use workload::{MessageKind, Unframable, Workload};
