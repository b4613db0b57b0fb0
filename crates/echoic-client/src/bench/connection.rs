//! One connection of the load generator, open or being dialled.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use echoic_core::{endpoint::Endpoint, framing::Framing};
use echoic_wire::{DialError, DialOptions, Dialled, Link, dial};

use super::{
    clock::Clock,
    datagram_flow::DatagramFlow,
    stream::Stream,
    tally::{LossReason, Tally},
    template::TemplateValues,
    workload::PreparedWorkload,
};

/// Maximum number of reads on one connection before others are polled.
const READS_MAX: usize = 16;
/// Requested size of the receive buffer in the kernel.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;
/// Delay after a connection attempt that failed, or that brought a connection that was closed at once, in nanoseconds.
const REDIAL_DELAY_NS: u64 = 100_000_000;

/// State shared by all connections of a thread.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) endpoint: Endpoint,
    pub(super) dialling: DialOptions,
    pub(super) workload: PreparedWorkload,
    pub(super) pipeline: usize,
    pub(super) churn: Option<u64>,
    pub(super) timeout: u64,
    /// Number of connections of all threads; request numbers are distributed over them in turn.
    pub(super) connections: u64,
}

/// One connection.
pub(super) struct Connection {
    number: u32,
    state: State,
    requests: RequestTracker,
    /// Requests asked on it in all.
    queued: u64,
    /// Requests asked since it was opened.
    queued_since_open: u64,
    /// Datagrams its socket had dropped when that was last asked.
    dropped: u32,
    /// Is in the list of connections to flush.
    pub(super) is_touched: bool,
    /// Is in the queue of connections with free capacity.
    pub(super) is_free: bool,
}

/// Tracks the requests in flight.
#[derive(Debug)]
enum RequestTracker {
    Stream(Stream),
    Datagrams(DatagramFlow),
}

enum State {
    Open(Link),
    Dialling(Pin<Box<dyn Future<Output = Result<Dialled, DialError>> + Send>>),
    /// Not connected until this time.
    Waiting(u64),
}

/// Arguments for polling a connection.
pub(super) struct IoContext<'a, 'b> {
    pub(super) cx: &'a mut Context<'b>,
    pub(super) clock: &'a Clock,
    pub(super) shared: &'a Shared,
    pub(super) tally: &'a mut Tally,
    pub(super) buffer: &'a mut [u8],
}

impl Connection {
    /// Creates a closed connection. Without a framing it is a datagram socket, one of `all`.
    pub(super) fn new(number: u32, framing: Option<Framing>, all: u64) -> Self {
        Self {
            number,
            state: State::Waiting(0),
            requests: match framing {
                Some(framing) => RequestTracker::Stream(Stream::new(number, framing)),
                None => RequestTracker::Datagrams(DatagramFlow::new(number, all)),
            },
            queued: 0,
            queued_since_open: 0,
            dropped: 0,
            is_touched: false,
            is_free: false,
        }
    }

    /// Returns the number of queued or unanswered requests.
    pub(super) fn in_flight(&self) -> usize {
        match &self.requests {
            RequestTracker::Stream(stream) => stream.in_flight(),
            RequestTracker::Datagrams(flow) => flow.in_flight(),
        }
    }

    /// Returns the number of replies that may still arrive before the end.
    pub(super) fn awaited_replies(&self) -> usize {
        match &self.requests {
            RequestTracker::Stream(stream) => stream.in_flight(),
            RequestTracker::Datagrams(flow) => flow.awaited_replies(),
        }
    }

    /// Returns how many more requests can be queued now.
    pub(super) fn room(&self, shared: &Shared) -> usize {
        if !self.is_open() {
            return 0;
        }
        let room = shared.pipeline.saturating_sub(self.in_flight());
        match shared.churn {
            None => room,
            Some(churn) => room.min(churn.saturating_sub(self.queued_since_open) as usize),
        }
    }

    /// Returns whether the connection is open.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Returns whether it is being dialled.
    pub(super) fn is_dialling(&self) -> bool {
        matches!(self.state, State::Dialling(_))
    }

    /// Returns whether it is closed and its redial delay has passed.
    pub(super) fn is_ready_to_dial(&self, now: u64) -> bool {
        matches!(self.state, State::Waiting(until) if until <= now)
    }

    /// Starts to connect.
    pub(super) fn dial(&mut self, shared: &Shared) {
        let (endpoint, options) = (shared.endpoint.clone(), shared.dialling.clone());
        self.state = State::Dialling(Box::pin(async move { dial(&endpoint, &options).await }));
    }

    /// Queues one request.
    pub(super) fn queue(&mut self, due: u64, now: u64, clock: &Clock, shared: &Shared) {
        match &mut self.requests {
            RequestTracker::Datagrams(flow) => flow.queue(due, now),
            RequestTracker::Stream(stream) => {
                let values = TemplateValues {
                    number: self.queued * shared.connections + u64::from(self.number),
                    connection: self.number,
                    unix_nanos: clock.unix_nanos(due),
                    seed: shared.workload.seed(),
                };
                stream.queue(due, now, &values, &shared.workload);
            }
        }
        self.queued += 1;
        self.queued_since_open += 1;
    }

    /// Reads available data. Returns `Pending` if all was read, `Ready` if there may be more.
    pub(super) fn receive(&mut self, io: &mut IoContext<'_, '_>) -> Result<Poll<()>, DialError> {
        self.poll_dial(io)?;
        for _ in 0..READS_MAX {
            let State::Open(link) = &mut self.state else {
                return Ok(Poll::Pending);
            };
            let read = match link.poll_read(io.cx, io.buffer) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(read) => read,
            };
            let is_stream = matches!(self.requests, RequestTracker::Stream(_));
            match read {
                Ok(0) if is_stream => {
                    if let RequestTracker::Stream(stream) = &mut self.requests {
                        stream.ended(io.clock.now(), &io.shared.workload, io.tally);
                    }
                    io.tally.failures.closed += 1;
                    self.end(io, LossReason::Cut);
                }
                Ok(bytes) => self.received(bytes, io),
                Err(_) if is_stream => self.fail(io),
                // ICMP error for an earlier datagram. The socket stays usable.
                Err(_) => io.tally.failures.refused += 1,
            }
        }
        Ok(Poll::Ready(()))
    }

    /// Processes the first `bytes` of the buffer.
    fn received(&mut self, bytes: usize, io: &mut IoContext<'_, '_>) {
        let now = io.clock.now();
        let received = &io.buffer[..bytes];
        let workload = &io.shared.workload;
        match &mut self.requests {
            RequestTracker::Stream(stream) => {
                if stream.received(received, now, workload, io.tally).is_err() {
                    self.fail(io);
                    return;
                }
            }
            RequestTracker::Datagrams(flow) => {
                flow.received(received, now, io.clock, workload, io.tally);
            }
        }
        if self.has_reached_churn(io.shared) {
            self.end(io, LossReason::Cut);
        }
    }

    /// Polls a connection attempt. Success opens the connection; failure starts the redial delay and is returned.
    fn poll_dial(&mut self, io: &mut IoContext<'_, '_>) -> Result<(), DialError> {
        let State::Dialling(dialling) = &mut self.state else {
            return Ok(());
        };
        match dialling.as_mut().poll(io.cx) {
            Poll::Pending => {}
            Poll::Ready(Ok(dialled)) => {
                let is_resumed = dialled.link.is_resumed();
                io.tally.add_opened(io.clock.now(), is_resumed);
                dialled.link.set_receive_buffer_size(RECEIVE_BUFFER_BYTES);
                self.state = State::Open(dialled.link);
                self.dropped = 0;
                self.queued_since_open = 0;
            }
            Poll::Ready(Err(error)) => {
                self.state = State::Waiting(io.clock.now() + REDIAL_DELAY_NS);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Writes queued data as far as the kernel accepts it.
    pub(super) fn flush(&mut self, io: &mut IoContext<'_, '_>) {
        while let State::Open(link) = &mut self.state {
            let workload = &io.shared.workload;
            let wrote = match &mut self.requests {
                RequestTracker::Stream(stream) => {
                    if stream.unwritten().is_empty() {
                        return;
                    }
                    let now = io.clock.now();
                    let wrote = link.poll_write(io.cx, stream.unwritten());
                    wrote.map_ok(|bytes| stream.written(bytes, now, workload, io.tally))
                }
                RequestTracker::Datagrams(flow) => {
                    let Some(datagram) = flow.unsent(io.clock, workload) else {
                        return;
                    };
                    let now = io.clock.now();
                    match link.poll_write(io.cx, datagram) {
                        Poll::Pending => return,
                        // Error for an earlier datagram, reported once; this one is still to be sent.
                        Poll::Ready(Err(error))
                            if error.kind() == io::ErrorKind::ConnectionRefused =>
                        {
                            io.tally.failures.refused += 1;
                        }
                        Poll::Ready(sent) => flow.sent(now, sent.is_ok(), workload, io.tally),
                    }
                    Poll::Ready(Ok(()))
                }
            };
            match wrote {
                Poll::Pending => return,
                Poll::Ready(Ok(())) if self.has_reached_churn(io.shared) => {
                    self.end(io, LossReason::Cut);
                }
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => self.fail(io),
            }
        }
    }

    /// Marks requests that exceeded the timeout as lost. On a stream this ends the connection: replies arrive in order, so a
    /// later reply could not be distinguished from the missing one.
    pub(super) fn expire(&mut self, now: u64, io: &mut IoContext<'_, '_>) {
        let timeout = io.shared.timeout;
        match &mut self.requests {
            RequestTracker::Stream(stream) if stream.is_overdue(now, timeout) => {
                self.end(io, LossReason::Cut);
            }
            RequestTracker::Stream(_) => {}
            RequestTracker::Datagrams(flow) => flow.expire(now, timeout, io.tally),
        }
    }

    /// Ends a run: unanswered requests are lost, and a stream with any is closed.
    pub(super) fn stop(&mut self, io: &mut IoContext<'_, '_>) {
        if let (RequestTracker::Datagrams(flow), State::Open(link)) =
            (&mut self.requests, &self.state)
        {
            flow.abandon(
                io.clock.now(),
                io.shared.timeout,
                LossReason::Pending,
                io.tally,
            );
            let dropped = link.dropped().unwrap_or(0);
            io.tally.outcomes.dropped_here += u64::from(dropped.saturating_sub(self.dropped));
            self.dropped = dropped;
        } else if self.in_flight() > 0 {
            self.end(io, LossReason::Pending);
        }
    }

    fn has_reached_churn(&self, shared: &Shared) -> bool {
        // Requests in flight may not be written yet.
        shared
            .churn
            .is_some_and(|churn| self.queued_since_open >= churn && self.in_flight() == 0)
    }

    fn fail(&mut self, io: &mut IoContext<'_, '_>) {
        io.tally.failures.reset += 1;
        self.end(io, LossReason::Cut);
    }

    fn end(&mut self, io: &mut IoContext<'_, '_>, reason: LossReason) {
        let now = io.clock.now();
        let timeout = io.shared.timeout;
        match &mut self.requests {
            RequestTracker::Stream(stream) => stream.abandon(now, timeout, reason, io.tally),
            RequestTracker::Datagrams(flow) => flow.abandon(now, timeout, reason, io.tally),
        }
        // A server that closes connections before they can be used is not to be flooded with new ones.
        let is_unused = self.queued_since_open == 0;
        self.state = State::Waiting(if is_unused {
            now + REDIAL_DELAY_NS
        } else {
            now
        });
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Open(_) => "open",
            State::Dialling(_) => "dialling",
            State::Waiting(_) => "waiting",
        };
        f.debug_struct("Connection")
            .field("number", &self.number)
            .field("state", &state)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}
