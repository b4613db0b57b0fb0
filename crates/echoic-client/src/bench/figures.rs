//! What a run has shown: plain data, complete enough to print, to draw and to compare without running again.
//!
//! Times are nanoseconds unless a name says otherwise. Latencies are [`Histogram`]s of three significant digits, which
//! add up: threads, repeats and files merge without loss.

use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;

/// What one run over one window has shown. Warm-up is not in it, but for what [`GeneratorStats`] says of the whole process.
///
/// A request belongs to the window in which it was due. In a closed loop it is due when the connection was free for it,
/// so that `due` and `sent` then say nearly the same.
///
/// `asked = sent + unsent` and `sent = ok + wrong + late + lost`, always.
#[derive(Clone, Debug)]
pub struct Figures {
    /// When the window opened.
    pub opened: SystemTime,
    /// How long it was, in seconds.
    pub seconds: f64,
    /// Requests a second that were asked for; none in a closed loop, which asks for as much as comes back.
    pub rate: Option<f64>,
    /// Requests that were due.
    pub asked: u64,
    /// Of them, those whose last byte the kernel took.
    pub sent: u64,
    /// Answered in time, as expected.
    pub ok: u64,
    /// Answered, but not as expected; [`Self::samples`] has the first.
    pub wrong: u64,
    /// Answered after their time-out (datagrams; on a stream a connection ends with its first time-out).
    pub late: u64,
    /// Never answered.
    pub lost: u64,
    /// Never sent: no connection was free for them, or none was open.
    pub unsent: u64,
    /// Replies that came within the window, whatever they answered: the server's rate is that of these.
    pub done: u64,
    /// LossReason requests were lost, and what else went wrong.
    pub failures: Failures,
    /// Bytes of requests, as they went over the wire with their frames.
    pub bytes_sent: u64,
    /// Bytes of replies, likewise.
    pub bytes_received: u64,
    /// From the moment each request was due: what a user waits. Requests without a reply are in it with what they have
    /// waited (the time-out, or less if the run ended), so that it counts [`Self::asked`] requests.
    pub due: Histogram<u64>,
    /// From just before the write that held its last byte: what the server took. Without the unsent.
    pub service: Histogram<u64>,
    /// One for each second of the window.
    pub series: Vec<Second>,
    /// What became of datagrams; none for streams.
    pub outcomes: Option<DatagramOutcomes>,
    /// The first few replies that were not as expected.
    pub samples: Vec<Sample>,
    /// How the generator itself fared.
    pub generator: GeneratorStats,
}

/// What happened in one second of the window, by the time of the reply.
#[derive(Clone, Debug)]
pub struct Second {
    /// Requests sent.
    pub sent: u64,
    /// Replies as expected.
    pub ok: u64,
    /// Replies not as expected.
    pub wrong: u64,
    /// Requests given up.
    pub lost: u64,
    /// Latencies from the due moment, of two significant digits.
    pub due: Histogram<u64>,
}

/// LossReason requests were lost, and what else went wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// Unanswered for as long as `timeout` allows.
    pub timed_out: u64,
    /// Unanswered when their connection ended before them.
    pub cut: u64,
    /// Unanswered at the end of the run, before their time-out.
    pub pending: u64,
    /// Replies that nothing had asked for.
    pub extra: u64,
    /// Connections that the peer ended, in order (FIN).
    pub closed: u64,
    /// Connections that ended in an error; a reset mostly.
    pub reset: u64,
    /// Calls that nobody answered.
    pub refused: u64,
    /// Connections opened anew, after a fault or for churn.
    pub reconnects: u64,
    /// Datagrams that the system would not send.
    pub not_sent: u64,
}

/// What became of datagrams. Counted with one bit for each that was sent, so that a duplicate does not hide a loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatagramOutcomes {
    /// Answered a second time.
    pub duplicate: u64,
    /// Answered after one sent later was (RFC 4737, 3.3).
    pub reordered: u64,
    /// By how many arrivals at most (the reordering extent, RFC 4737, 4.2.2); 1,023 stands for that or more.
    pub reordered_by: u64,
    /// Of the wrong ones, those that were the beginning of what was expected.
    pub truncated: u64,
    /// Dropped by our own socket, since we were too slow to read: not the network's loss, nor the server's.
    pub dropped_here: u64,
}

/// A reply that was not as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Which connection.
    pub connection: u32,
    /// Which of its requests, from 0.
    pub number: u64,
    /// The request, without its frame. At most [`SAMPLE_BYTES_MAX`] of it, as of the others.
    pub request: Vec<u8>,
    /// The reply, without its frame.
    pub reply: Vec<u8>,
    /// What was expected, in words or verbatim.
    pub expected: Vec<u8>,
}

/// Bytes kept of each part of a [`Sample`].
pub const SAMPLE_BYTES_MAX: usize = 256;
/// Samples kept.
pub const SAMPLES_MAX: usize = 5;

/// How the generator itself fared: whether it can be believed.
#[derive(Clone, Debug)]
pub struct GeneratorStats {
    /// How late it looked at requests that were due and had a free connection.
    pub lag: Histogram<u64>,
    /// CPU time of this process over the window, as a number of cores.
    pub cpu: f64,
    /// The busiest thread's share of its core that was work, without waiting at full speed for the next due moment.
    pub busy: f64,
    /// Cores of this machine.
    pub cores: usize,
    /// Threads that made the load.
    pub threads: usize,
    /// Half of the replies of a server that does nothing came within so long; none if that was not measured.
    pub floor: Option<Duration>,
}

impl Figures {
    /// Replies a second, within the window.
    pub fn done_per_s(&self) -> f64 {
        per_second(self.done, self.seconds)
    }

    /// Requests sent a second.
    pub fn sent_per_s(&self) -> f64 {
        per_second(self.sent, self.seconds)
    }

    /// What share of the requests due was not answered at all, from 0 to 1; unsent ones count.
    pub fn loss(&self) -> f64 {
        if self.asked == 0 {
            return 0.0;
        }
        (self.lost + self.unsent) as f64 / self.asked as f64
    }

    /// Everything that went wrong, as a number: wrong, extra and unsent replies, lost requests and failed connections.
    pub fn errors(&self) -> u64 {
        let failures = &self.failures;
        self.wrong
            + self.late
            + self.lost
            + self.unsent
            + failures.extra
            + failures.reset
            + failures.refused
    }

    /// Replies within the window for each request due in it, from 0 to 1 and a little more.
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

/// The latency that a share `q` of the requests did not exceed, if at least ten lie above it: fewer tell nothing.
pub fn percentile(histogram: &Histogram<u64>, q: f64) -> Option<Duration> {
    let above = histogram.len() as f64 * (1.0 - q);
    (above >= 10.0 - 1e-6).then(|| Duration::from_nanos(histogram.value_at_quantile(q)))
}

/// A histogram of latencies: three digits, up to an hour.
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
            bytes_sent: 0,
            bytes_received: 0,
            due: latencies(),
            service: latencies(),
            series: Vec::new(),
            outcomes: None,
            samples: Vec::new(),
            generator: GeneratorStats {
                lag: latencies(),
                cpu: 0.0,
                busy: 0.0,
                cores: 2,
                threads: 1,
                floor: None,
            },
        }
    }
}
