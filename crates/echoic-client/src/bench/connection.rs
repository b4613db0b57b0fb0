//! One connection: open, or on its way to being so.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use echoic_core::{endpoint::Endpoint, framing::Framing};
use echoic_wire::{DialError, DialOptions, Dialled, Link, dial};

use super::{
    clock::Clock,
    stream::Stream,
    tally::{Tally, Why},
    template::Blanks,
    workload::Script,
};

/// Reads that one connection may do before others have their turn.
const READS_MAX: usize = 16;
/// After a call that nobody answered, the next one waits so long, in nanoseconds.
const PATIENCE: u64 = 100_000_000;

/// What all connections of a thread share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) endpoint: Endpoint,
    pub(super) dialling: DialOptions,
    pub(super) script: Script,
    pub(super) pipeline: usize,
    pub(super) churn: Option<u64>,
    pub(super) timeout: u64,
    /// Connections of all threads: the numbers of requests go round them.
    pub(super) connections: u64,
}

/// One connection.
pub(super) struct Connection {
    number: u32,
    state: State,
    stream: Stream,
    /// Requests asked on it in all.
    asked: u64,
    /// Requests asked since it was opened.
    asked_since_open: u64,
    /// Waits among those that are to be flushed.
    pub(super) is_touched: bool,
    /// Stands in the queue of those with room.
    pub(super) is_free: bool,
}

enum State {
    Open(Link),
    Dialling(Pin<Box<dyn Future<Output = Result<Dialled, DialError>> + Send>>),
    /// Until this moment.
    Waiting(u64),
}

/// What a connection is looked at with.
pub(super) struct Look<'a, 'b> {
    pub(super) cx: &'a mut Context<'b>,
    pub(super) clock: &'a Clock,
    pub(super) shared: &'a Shared,
    pub(super) tally: &'a mut Tally,
    pub(super) buffer: &'a mut [u8],
}

impl Connection {
    /// Not open yet.
    pub(super) fn new(number: u32, framing: Framing) -> Self {
        Self {
            number,
            state: State::Waiting(0),
            stream: Stream::new(number, framing),
            asked: 0,
            asked_since_open: 0,
            is_touched: false,
            is_free: false,
        }
    }

    /// Requests asked and not settled.
    pub(super) fn in_flight(&self) -> usize {
        self.stream.in_flight()
    }

    /// How many more requests it takes now.
    pub(super) fn room(&self, shared: &Shared) -> usize {
        if !self.is_open() {
            return 0;
        }
        let room = shared.pipeline.saturating_sub(self.in_flight());
        match shared.churn {
            None => room,
            Some(churn) => room.min(churn.saturating_sub(self.asked_since_open) as usize),
        }
    }

    /// Whether there is a peer.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Whether it waits to be dialled again, and the moment for that has come.
    pub(super) fn is_to_be_dialled(&self, now: u64) -> bool {
        matches!(self.state, State::Waiting(until) if until <= now)
    }

    /// Begins to call.
    pub(super) fn dial(&mut self, shared: &Shared) {
        let (endpoint, options) = (shared.endpoint.clone(), shared.dialling.clone());
        self.state = State::Dialling(Box::pin(async move { dial(&endpoint, &options).await }));
    }

    /// Queues one request.
    pub(super) fn ask(&mut self, due: u64, now: u64, clock: &Clock, shared: &Shared) {
        let blanks = Blanks {
            number: self.asked * shared.connections + u64::from(self.number),
            connection: self.number,
            unix_nanos: clock.unix_nanos(due),
            seed: shared.script.seed(),
        };
        self.asked += 1;
        self.asked_since_open += 1;
        self.stream.ask(due, now, &blanks, &shared.script);
    }

    /// Takes what has come. Pending if all has been taken; ready if there may be more.
    pub(super) fn hear(&mut self, look: &mut Look<'_, '_>) -> Result<Poll<()>, DialError> {
        self.come_through(look)?;
        for _ in 0..READS_MAX {
            let State::Open(link) = &mut self.state else {
                return Ok(Poll::Pending);
            };
            match link.poll_read(look.cx, look.buffer) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(Ok(0)) => {
                    look.tally.failures.closed += 1;
                    self.end(look, Why::Cut);
                }
                Poll::Ready(Ok(bytes)) => {
                    let now = look.clock.now();
                    let heard = &look.buffer[..bytes];
                    let script = &look.shared.script;
                    if self.stream.heard(heard, now, script, look.tally).is_err() {
                        look.tally.failures.reset += 1;
                        self.end(look, Why::Cut);
                    } else if self.is_worn_out(look.shared) {
                        self.end(look, Why::Cut);
                    }
                }
                Poll::Ready(Err(error)) => self.failed(&error, look),
            }
        }
        Ok(Poll::Ready(()))
    }

    /// A call that is answered makes it open. The first call of all is an error if it is not answered.
    fn come_through(&mut self, look: &mut Look<'_, '_>) -> Result<(), DialError> {
        let State::Dialling(dialling) = &mut self.state else {
            return Ok(());
        };
        match dialling.as_mut().poll(look.cx) {
            Poll::Pending => {}
            Poll::Ready(Ok(dialled)) => {
                self.state = State::Open(dialled.link);
                self.asked_since_open = 0;
            }
            Poll::Ready(Err(error)) => {
                self.state = State::Waiting(look.clock.now() + PATIENCE);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Writes what is queued, as far as it is taken.
    pub(super) fn flush(&mut self, look: &mut Look<'_, '_>) {
        while let State::Open(link) = &mut self.state
            && !self.stream.unwritten().is_empty()
        {
            let now = look.clock.now();
            match link.poll_write(look.cx, self.stream.unwritten()) {
                Poll::Pending => return,
                Poll::Ready(Ok(bytes)) => {
                    self.stream
                        .wrote(bytes, now, &look.shared.script, look.tally);
                    if self.is_worn_out(look.shared) {
                        self.end(look, Why::Cut);
                    }
                }
                Poll::Ready(Err(error)) => self.failed(&error, look),
            }
        }
    }

    /// Ends it if its oldest request is overdue: replies come in order, so what came later could not be told from it.
    pub(super) fn check(&mut self, now: u64, look: &mut Look<'_, '_>) {
        if self.stream.is_overdue(now, look.shared.timeout) {
            self.end(look, Why::Cut);
        }
    }

    /// The run is over: what is out is lost, and its connection with it.
    pub(super) fn stop(&mut self, look: &mut Look<'_, '_>) {
        if self.in_flight() > 0 {
            self.end(look, Why::Pending);
        }
    }

    fn is_worn_out(&self, shared: &Shared) -> bool {
        let over = |churn| self.asked_since_open >= churn && self.in_flight() == 0;
        shared.churn.is_some_and(over) && self.stream.unwritten().is_empty()
    }

    fn failed(&mut self, error: &io::Error, look: &mut Look<'_, '_>) {
        let _ = error;
        look.tally.failures.reset += 1;
        self.end(look, Why::Cut);
    }

    fn end(&mut self, look: &mut Look<'_, '_>, why: Why) {
        let now = look.clock.now();
        self.stream
            .give_up(now, look.shared.timeout, why, look.tally);
        self.state = State::Waiting(now);
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
