//! Descriptions of a load: plain values, built from a command line or by a test.

use std::time::Duration;

use echoic_core::{
    endpoint::{Endpoint, Shape},
    framing::{Framing, FramingPair},
};
use echoic_wire::TlsClientOptions;
use thiserror::Error;

use super::{expect::Expect, workload::Workload};

/// The target and its protocol. Connections are opened once for all runs of a plan.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The target.
    pub endpoint: Endpoint,
    /// Framing on a stream: inbound for replies, outbound for requests. Not used for datagrams.
    pub frames: FramingPair,
    /// The requests.
    pub workload: Workload,
    /// Expected reply for messages without an expectation of their own.
    pub expect: Expect,
    /// Number of connections (or datagram sockets), all open before the clock starts.
    pub connections: u32,
    /// Number of threads that share them.
    pub threads: u32,
    /// Maximum number of requests in flight on one connection.
    pub pipeline: u32,
    /// Connections opened per second; `None` opens them as fast as the peer accepts.
    pub connects_per_s: Option<f64>,
    /// Number of messages after which a connection is closed and replaced.
    pub churn: Option<u64>,
    /// Time after which a request without a reply is lost.
    pub timeout: Duration,
    /// Time to wait for replies after the window.
    pub drain_timeout: Duration,
    /// Time without any reply after which a run with a request count ends before it has sent all.
    pub give_up: Duration,
    /// Time limit for establishing a connection.
    pub connect_within: Duration,
    /// What connections over TLS need, for an endpoint of [`Endpoint::Tls`].
    pub tls: Option<TlsClientOptions>,
    /// Seed of all random values.
    pub seed: u64,
    /// Busy-wait for times that are near, because the kernel would wake us too late.
    pub spin: bool,
}

/// One run of a [`Plan`].
#[derive(Clone, Debug)]
pub struct Run {
    /// When requests are due.
    pub load: Load,
    /// Time before the window; requests due in it are sent and not counted.
    pub warmup: Duration,
    /// The window.
    pub length: Length,
}

/// Determines when the next request is sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Load {
    /// Closed loop: a reply triggers the next request. The rate follows from the replies, and a server that stalls gets fewer
    /// requests, which is not what users would experience.
    Closed,
    /// Open loop: requests are due at times fixed in advance, whatever the server does.
    Open {
        /// Requests per second over all connections.
        rate: f64,
        /// Distribution over time.
        arrivals: Arrivals,
    },
    /// Open loop with recorded times: nanoseconds from the start, ascending.
    Recorded(std::sync::Arc<[u64]>),
}

/// Arrival process of an open loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arrivals {
    /// Constant gaps.
    #[default]
    Constant,
    /// Exponential gaps, as of independent users.
    Poisson,
    /// This many requests at once, then none until the average rate is reached.
    Burst(u32),
}

/// Length of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// A fixed time.
    For(Duration),
    /// Until this many requests have been sent.
    Count(u64),
}

/// Length of a warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warmup {
    /// A fixed time.
    For(Duration),
    /// Until two consecutive half seconds have similar medians, at most 10 s.
    Auto,
}

/// Error: several replies may be in flight and their boundaries are unknown.
#[derive(Clone, Debug, Error)]
#[error(
    "replies without a framing cannot be distinguished when several are in flight and {expect} is expected"
)]
pub struct IndivisibleReplies {
    /// The expectation, which does not determine the length of a reply.
    pub expect: Expect,
}

impl Plan {
    /// Checks that the boundaries of replies are known: from the framing, from the expected lengths, or because only one is in
    /// flight.
    pub fn is_divisible(&self) -> Result<(), IndivisibleReplies> {
        let is_stream = self.endpoint.shape() != Some(Shape::Datagrams);
        let is_unknown = self.expect.expects_reply() && self.expect.reply_bytes(b"").is_none();
        if is_stream && self.pipeline > 1 && self.frames.inbound == Framing::Chunk && is_unknown {
            let expect = self.expect.clone();
            return Err(IndivisibleReplies { expect });
        }
        Ok(())
    }

    /// Creates a plan with one connection, one request at a time and any reply.
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
            give_up: Duration::from_secs(30),
            connect_within: Duration::from_secs(10),
            tls: None,
            seed: 0,
            spin: std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1),
        }
    }
}
