//! What is to be measured: finished values, made by whoever reads a command line or writes a test.

use std::time::Duration;

use echoic_core::{
    endpoint::{Endpoint, Shape},
    framing::{Framing, FramingPair},
};
use thiserror::Error;

use super::{expect::Expect, workload::Workload};

/// A target, and how to speak with it. Connections are opened once for all its runs.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Whom to load.
    pub endpoint: Endpoint,
    /// How messages are divided on a stream: heard are replies, said are requests. Datagrams are whole anyway.
    pub frames: FramingPair,
    /// What is said.
    pub workload: Workload,
    /// What is to come back, for what has no expectation of its own.
    pub expect: Expect,
    /// Connections (or sockets of datagrams), all open before the clock starts.
    pub connections: u32,
    /// Threads that share them.
    pub threads: u32,
    /// Requests in flight on one connection at most.
    pub pipeline: u32,
    /// Connections opened a second; none opens them as fast as the peer answers.
    pub connects_per_s: Option<f64>,
    /// After so many messages a connection is closed, and another opened in its place.
    pub churn: Option<u64>,
    /// Unanswered for so long is lost.
    pub timeout: Duration,
    /// After the window, replies are waited for so long.
    pub drain_timeout: Duration,
    /// For a call to be answered.
    pub connect_within: Duration,
    /// What all that is random comes from.
    pub seed: u64,
    /// Wait at full speed for a moment that is near, rather than have the system wake us too late.
    pub spin: bool,
}

/// One run of a [`Plan`].
#[derive(Clone, Debug)]
pub struct Run {
    /// When requests are due.
    pub load: Load,
    /// Time before the window opens; what is due in it is sent and not counted.
    pub warmup: Duration,
    /// The window.
    pub length: Length,
}

/// What decides when the next request is sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Load {
    /// A reply. The rate is what comes of it, and a server that stalls is asked less: not what users would see.
    Closed,
    /// The clock: requests are due at times fixed beforehand, whatever the server does.
    Open {
        /// Requests a second, over all connections.
        rate: f64,
        /// How they are spread.
        arrivals: Arrivals,
    },
    /// The clock, as it was when the traffic was recorded: nanoseconds from the start, ascending.
    Recorded(std::sync::Arc<[u64]>),
}

/// How requests of an open loop are spread over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arrivals {
    /// Evenly.
    #[default]
    Constant,
    /// As independent users come: exponential gaps.
    Poisson,
    /// So many at once, then none until the rate has caught up.
    Burst(u32),
}

/// How long a window is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// So long.
    For(Duration),
    /// Until so many requests have been asked.
    Count(u64),
}

/// How long a load is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warmup {
    /// So long.
    For(Duration),
    /// Until two half seconds have medians that are alike, at most 10 s.
    Auto,
}

/// Several replies in flight that cannot be told apart.
#[derive(Clone, Debug, Error)]
#[error(
    "replies without a framing cannot be told apart when several are in flight and {expect} is expected"
)]
pub struct IndivisibleReplies {
    /// What is expected: it says nothing of a reply's length.
    pub expect: Expect,
}

impl Plan {
    /// Checks that replies can be told apart: by their framing, by the length expected of each, or since each is alone.
    pub fn is_divisible(&self) -> Result<(), IndivisibleReplies> {
        let is_stream = self.endpoint.shape() != Some(Shape::Datagrams);
        let is_unknown = self.expect.expects_reply() && self.expect.reply_bytes(b"").is_none();
        if is_stream && self.pipeline > 1 && self.frames.inbound == Framing::Chunk && is_unknown {
            let expect = self.expect.clone();
            return Err(IndivisibleReplies { expect });
        }
        Ok(())
    }

    /// One connection, one request at a time, any reply.
    pub fn new(endpoint: Endpoint, frames: FramingPair, workload: Workload) -> Self {
        Self {
            endpoint,
            frames,
            workload,
            expect: Expect::Any,
            connections: 1,
            threads: 1,
            pipeline: 1,
            connects_per_s: None,
            churn: None,
            timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(10),
            connect_within: Duration::from_secs(10),
            seed: 0,
            spin: std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1),
        }
    }
}
