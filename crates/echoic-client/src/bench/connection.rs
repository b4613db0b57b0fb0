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
    flow::Flow,
    stream::Stream,
    tally::{Tally, Why},
    template::Blanks,
    workload::Script,
};

/// Reads that one connection may do before others have their turn.
const READS_MAX: usize = 16;
/// Bytes of datagrams that may wait in the kernel, if it grants them.
const ROOM: usize = 4 << 20;
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
    talk: Talk,
    /// Requests asked on it in all.
    asked: u64,
    /// Requests asked since it was opened.
    asked_since_open: u64,
    /// Datagrams its socket had dropped when that was last asked.
    dropped: u32,
    /// Waits among those that are to be flushed.
    pub(super) is_touched: bool,
    /// Stands in the queue of those with room.
    pub(super) is_free: bool,
}

/// How requests and replies are kept apart.
#[derive(Debug)]
enum Talk {
    Stream(Stream),
    Datagrams(Flow),
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
    /// Not open yet. Without a framing it is a socket of datagrams, one of `all`.
    pub(super) fn new(number: u32, framing: Option<Framing>, all: u64) -> Self {
        Self {
            number,
            state: State::Waiting(0),
            talk: match framing {
                Some(framing) => Talk::Stream(Stream::new(number, framing)),
                None => Talk::Datagrams(Flow::new(number, all)),
            },
            asked: 0,
            asked_since_open: 0,
            dropped: 0,
            is_touched: false,
            is_free: false,
        }
    }

    /// Requests asked and not settled.
    pub(super) fn in_flight(&self) -> usize {
        match &self.talk {
            Talk::Stream(stream) => stream.in_flight(),
            Talk::Datagrams(flow) => flow.in_flight(),
        }
    }

    /// Replies that are worth waiting for before the end.
    pub(super) fn awaited(&self) -> usize {
        match &self.talk {
            Talk::Stream(stream) => stream.in_flight(),
            Talk::Datagrams(flow) => flow.awaited(),
        }
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
        match &mut self.talk {
            Talk::Datagrams(flow) => flow.ask(due, now),
            Talk::Stream(stream) => {
                let blanks = Blanks {
                    number: self.asked * shared.connections + u64::from(self.number),
                    connection: self.number,
                    unix_nanos: clock.unix_nanos(due),
                    seed: shared.script.seed(),
                };
                stream.ask(due, now, &blanks, &shared.script);
            }
        }
        self.asked += 1;
        self.asked_since_open += 1;
    }

    /// Takes what has come. Pending if all has been taken; ready if there may be more.
    pub(super) fn hear(&mut self, look: &mut Look<'_, '_>) -> Result<Poll<()>, DialError> {
        self.come_through(look)?;
        for _ in 0..READS_MAX {
            let State::Open(link) = &mut self.state else {
                return Ok(Poll::Pending);
            };
            let read = match link.poll_read(look.cx, look.buffer) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(read) => read,
            };
            let is_stream = matches!(self.talk, Talk::Stream(_));
            match read {
                Ok(0) if is_stream => {
                    look.tally.failures.closed += 1;
                    self.end(look, Why::Cut);
                }
                Ok(bytes) => self.heard(bytes, look),
                Err(_) if is_stream => self.fail(look),
                // An earlier one came back refused (ICMP). The socket stays as it is, and the next may be taken.
                Err(_) => look.tally.failures.refused += 1,
            }
        }
        Ok(Poll::Ready(()))
    }

    /// So many bytes stand in the buffer.
    fn heard(&mut self, bytes: usize, look: &mut Look<'_, '_>) {
        let now = look.clock.now();
        let heard = &look.buffer[..bytes];
        let script = &look.shared.script;
        match &mut self.talk {
            Talk::Stream(stream) => {
                if stream.heard(heard, now, script, look.tally).is_err() {
                    self.fail(look);
                    return;
                }
            }
            Talk::Datagrams(flow) => flow.heard(heard, now, look.clock, script, look.tally),
        }
        if self.is_worn_out(look.shared) {
            self.end(look, Why::Cut);
        }
    }

    /// A call that is answered makes it open. The first call of all is an error if it is not answered.
    fn come_through(&mut self, look: &mut Look<'_, '_>) -> Result<(), DialError> {
        let State::Dialling(dialling) = &mut self.state else {
            return Ok(());
        };
        match dialling.as_mut().poll(look.cx) {
            Poll::Pending => {}
            Poll::Ready(Ok(dialled)) => {
                dialled.link.set_receive_buffer_size(ROOM);
                self.state = State::Open(dialled.link);
                self.dropped = 0;
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
        while let State::Open(link) = &mut self.state {
            let script = &look.shared.script;
            let wrote = match &mut self.talk {
                Talk::Stream(stream) => {
                    if stream.unwritten().is_empty() {
                        return;
                    }
                    let now = look.clock.now();
                    let wrote = link.poll_write(look.cx, stream.unwritten());
                    wrote.map_ok(|bytes| stream.wrote(bytes, now, script, look.tally))
                }
                Talk::Datagrams(flow) => {
                    let Some(datagram) = flow.unsent(look.clock, script) else {
                        return;
                    };
                    let now = look.clock.now();
                    match link.poll_write(look.cx, datagram) {
                        Poll::Pending => return,
                        // Of one sent before: it is told once, and this one is still to be sent.
                        Poll::Ready(Err(error))
                            if error.kind() == io::ErrorKind::ConnectionRefused =>
                        {
                            look.tally.failures.refused += 1;
                        }
                        Poll::Ready(sent) => flow.left(now, sent.is_ok(), script, look.tally),
                    }
                    Poll::Ready(Ok(()))
                }
            };
            match wrote {
                Poll::Pending => return,
                Poll::Ready(Ok(())) if self.is_worn_out(look.shared) => self.end(look, Why::Cut),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => self.fail(look),
            }
        }
    }

    /// Gives up what is overdue. On a stream that is the end of the connection: replies come in order, so what came
    /// later could not be told from it.
    pub(super) fn check(&mut self, now: u64, look: &mut Look<'_, '_>) {
        let timeout = look.shared.timeout;
        match &mut self.talk {
            Talk::Stream(stream) if stream.is_overdue(now, timeout) => self.end(look, Why::Cut),
            Talk::Stream(_) => {}
            Talk::Datagrams(flow) => flow.check(now, timeout, look.tally),
        }
    }

    /// The run is over: what is out is lost, and a stream's connection with it.
    pub(super) fn stop(&mut self, look: &mut Look<'_, '_>) {
        if let (Talk::Datagrams(flow), State::Open(link)) = (&mut self.talk, &self.state) {
            flow.give_up(
                look.clock.now(),
                look.shared.timeout,
                Why::Pending,
                look.tally,
            );
            let dropped = link.dropped().unwrap_or(0);
            look.tally.outcomes.dropped_here += u64::from(dropped.saturating_sub(self.dropped));
            self.dropped = dropped;
        } else if self.in_flight() > 0 {
            self.end(look, Why::Pending);
        }
    }

    fn is_worn_out(&self, shared: &Shared) -> bool {
        // What is in flight is not all written either.
        shared
            .churn
            .is_some_and(|churn| self.asked_since_open >= churn && self.in_flight() == 0)
    }

    fn fail(&mut self, look: &mut Look<'_, '_>) {
        look.tally.failures.reset += 1;
        self.end(look, Why::Cut);
    }

    fn end(&mut self, look: &mut Look<'_, '_>, why: Why) {
        let now = look.clock.now();
        let timeout = look.shared.timeout;
        match &mut self.talk {
            Talk::Stream(stream) => stream.give_up(now, timeout, why, look.tally),
            Talk::Datagrams(flow) => flow.give_up(now, timeout, why, look.tally),
        }
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
