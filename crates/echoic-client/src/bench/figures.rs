//! The figures of a run: plain data, complete enough to print, to draw and to compare without running again.
//!
//! Times are nanoseconds unless the name has another unit. Latencies are [`Histogram`]s of three significant digits, which
//! can be added: threads, repeats and files merge without loss.

use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;

use super::stall::Stall;

/// Result of one run over one window, without the warm-up (except for process-wide values in [`GeneratorStats`]).
///
/// A request belongs to the window in which it was due. In a closed loop it is due when its connection is free, so that the
/// due time and the send time are nearly equal.
///
/// `asked = sent + unsent` and `sent = ok + wrong + late + lost`, always.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Start of the window.
    pub opened: SystemTime,
    /// Length of the window in seconds.
    pub seconds: f64,
    /// Target rate in requests per second; `None` in a closed loop.
    pub rate: Option<f64>,
    /// Requests that were due.
    pub asked: u64,
    /// Requests whose last byte the kernel accepted.
    pub sent: u64,
    /// Requests with the expected reply in time.
    pub ok: u64,
    /// Requests with an unexpected reply; [`Self::samples`] has the first ones.
    pub wrong: u64,
    /// Requests answered after their timeout (datagrams only; a stream connection is closed at its first timeout).
    pub late: u64,
    /// Requests without a reply.
    pub lost: u64,
    /// Requests never sent: no connection was free or open.
    pub unsent: u64,
    /// Replies received within the window, to whichever request; they determine the rate of the server.
    pub done: u64,
    /// Reasons for lost requests, and other errors.
    pub failures: Failures,
    /// Handshakes of TLS within the window; `None` without TLS.
    pub handshakes: Option<Handshakes>,
    /// Bytes of requests on the wire, including framing.
    pub bytes_sent: u64,
    /// Bytes of replies, likewise.
    pub bytes_received: u64,
    /// Latency from the time when each request was due, as a user perceives it. Requests without a reply are included with
    /// their waiting time (the timeout, or less if the run ended), so that the count is [`Self::asked`].
    pub due: Histogram<u64>,
    /// Latency from just before the write that contained the last byte: the time of the server. Without unsent requests.
    pub service: Histogram<u64>,
    /// One entry for each second of the window.
    pub series: Vec<Second>,
    /// The longest time in which requests waited and no reply came; `None` if there was none of at least a second.
    pub stall: Option<Stall>,
    /// Outcomes specific to datagrams; `None` for streams.
    pub outcomes: Option<DatagramOutcomes>,
    /// The first few unexpected replies.
    pub samples: Vec<Sample>,
    /// Measurements of the generator itself.
    pub generator: GeneratorStats,
}

/// Totals of one second of the window, by the time of the reply.
#[derive(Clone, Debug)]
pub struct Second {
    /// Requests sent.
    pub sent: u64,
    /// Expected replies.
    pub ok: u64,
    /// Unexpected replies.
    pub wrong: u64,
    /// Lost requests.
    pub lost: u64,
    /// Latencies from the due time, with two significant digits.
    pub due: Histogram<u64>,
}

/// Handshakes of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handshakes {
    /// With a certificate and its verification.
    pub full: u64,
    /// Of sessions that were resumed.
    pub resumed: u64,
}

/// Reasons for lost requests, and other errors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// Requests that timed out.
    pub timed_out: u64,
    /// Requests whose connection ended before the reply.
    pub cut: u64,
    /// Requests without a reply at the end of the run, before their timeout.
    pub pending: u64,
    /// Replies without a request.
    pub extra: u64,
    /// Connections that the peer closed (FIN).
    pub closed: u64,
    /// Connections that ended with an error, usually a reset.
    pub reset: u64,
    /// Connection attempts that failed, but for want of a local port.
    pub refused: u64,
    /// Connection attempts for which this machine had no free local port (EADDRNOTAVAIL).
    pub no_port: u64,
    /// Connections opened again, after an error or for churn.
    pub reconnects: u64,
    /// Datagrams that the system refused to send.
    pub not_sent: u64,
}

/// Outcomes of datagrams. Tracked with one bit for each datagram sent, so that a duplicate does not hide a loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatagramOutcomes {
    /// Duplicate replies.
    pub duplicate: u64,
    /// Replies that arrived after the reply to a later request (RFC 4737, 3.3).
    pub reordered: u64,
    /// Maximum reordering extent (RFC 4737, 4.2.2), limited to 1,023.
    pub reordered_by: u64,
    /// Wrong replies that were a prefix of the expected one.
    pub truncated: u64,
    /// Datagrams dropped by our own socket because we read too slowly: lost neither by the network nor by the server.
    pub dropped_here: u64,
}

/// An unexpected reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Number of the connection.
    pub connection: u32,
    /// Number of the request on it, from 0.
    pub number: u64,
    /// The request without framing. At most [`SAMPLE_BYTES_MAX`] bytes, as of the other fields.
    pub request: Vec<u8>,
    /// The reply without framing.
    pub reply: Vec<u8>,
    /// The expected reply, or a description of it.
    pub expected: Vec<u8>,
}

/// Maximum number of bytes in each field of a [`Sample`].
pub const SAMPLE_BYTES_MAX: usize = 256;
/// Maximum number of samples.
pub const SAMPLES_MAX: usize = 5;

/// Measurements of the generator itself, which show whether the figures can be trusted.
#[derive(Clone, Debug)]
pub struct GeneratorStats {
    /// Delay between the due time of a request with a free connection and its processing.
    pub lag: Histogram<u64>,
    /// CPU usage of this process over the window, in cores.
    pub cpu: f64,
    /// CPU usage of the busiest thread as a share of its core, without busy-waiting.
    pub busy: f64,
    /// Number of cores of this machine.
    pub cores: usize,
    /// Number of generator threads.
    pub threads: usize,
    /// The longest time in which a thread of the generator did not run at all; `None` if it was always below 0.5 s. Its
    /// process was stopped, or the machine suspended or overloaded.
    pub standstill: Option<Stall>,
    /// Median latency of a server that does nothing; `None` if it was not measured.
    pub floor: Option<Duration>,
}

impl Figures {
    /// Returns the number of requests with a reply, whenever it came.
    pub fn answered(&self) -> u64 {
        self.ok + self.wrong + self.late
    }

    /// Returns the replies per second within the window.
    pub fn done_per_s(&self) -> f64 {
        per_second(self.done, self.seconds)
    }

    /// Returns the requests sent per second.
    pub fn sent_per_s(&self) -> f64 {
        per_second(self.sent, self.seconds)
    }

    /// Returns the share of due requests without a reply, from 0 to 1, including unsent ones.
    pub fn loss(&self) -> f64 {
        if self.asked == 0 {
            return 0.0;
        }
        (self.lost + self.unsent) as f64 / self.asked as f64
    }

    /// Returns the number of errors: wrong, late and extra replies, lost and unsent requests, and failed connections.
    pub fn errors(&self) -> u64 {
        let failures = &self.failures;
        self.wrong
            + self.late
            + self.lost
            + self.unsent
            + failures.extra
            + failures.reset
            + failures.refused
            + failures.no_port
    }

    /// Returns the replies within the window per request due in it: from 0 to 1, or slightly more.
    pub fn delivered(&self) -> f64 {
        if self.asked == 0 {
            return 1.0;
        }
        self.done as f64 / self.asked as f64
    }
}

fn per_second(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        count as f64 / seconds
    } else {
        0.0
    }
}

/// Returns the latency that a share `q` of the requests did not exceed, if at least ten requests exceeded it; with fewer
/// the value is not meaningful.
pub fn percentile(histogram: &Histogram<u64>, q: f64) -> Option<Duration> {
    let above = histogram.len() as f64 * (1.0 - q);
    (above >= 10.0 - 1e-6).then(|| Duration::from_nanos(histogram.value_at_quantile(q)))
}

/// Creates a histogram of latencies with three digits, up to one hour.
pub fn latencies() -> Histogram<u64> {
    new(3)
}

/// The same with two digits, for one second among many.
pub(super) fn rough_latencies() -> Histogram<u64> {
    new(2)
}

fn new(digits: u8) -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000_000, digits)
        .expect("invariant: an hour in nanoseconds and at most five digits are in bounds")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Figures of a window in which nothing happened.
    pub(in crate::bench) fn empty(seconds: f64) -> Figures {
        Figures {
            opened: SystemTime::UNIX_EPOCH,
            seconds,
            rate: None,
            asked: 0,
            sent: 0,
            ok: 0,
            wrong: 0,
            late: 0,
            lost: 0,
            unsent: 0,
            done: 0,
            failures: Failures::default(),
            handshakes: None,
            bytes_sent: 0,
            bytes_received: 0,
            due: latencies(),
            service: latencies(),
            series: Vec::new(),
            stall: None,
            outcomes: None,
            samples: Vec::new(),
            generator: GeneratorStats {
                lag: latencies(),
                cpu: 0.0,
                busy: 0.0,
                cores: 2,
                threads: 1,
                standstill: None,
                floor: None,
            },
        }
    }
}
