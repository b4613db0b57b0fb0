//! A conversation's side of a service that runs apart: what it has been told, and the order of what it says.

use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use echoic_core::{
    framing::{End, Framing, FramingPair, ReplyTooLong},
    message::{Message, Run},
    service::{HeardMessage, QUEUE, SaidMessage, ServiceError, SpawnedHandler, queues},
};
use futures_channel::mpsc::{Receiver, Sender};
use futures_core::Stream;
use tokio::{runtime::Handle, task::JoinHandle, time::Instant};

/// Messages that may wait for their answer. Past that, a service that answers is told no more until it has answered
/// some. One that has never answered any but hears on loses nothing by it: for it the oldest counts as answered by
/// silence. (So one that works at more than this at once has to answer one before it takes the next.)
const PENDING_MAX: usize = 256;

/// Bytes of them.
const PENDING_BYTES_MAX: usize = 1 << 20;

/// Messages that may have been told and not yet been taken: the queue's room, and one for its only teller.
const UNTAKEN_MAX: u64 = QUEUE as u64 + 1;

/// The queues to and from the service, and the messages between the two.
#[derive(Debug)]
pub(crate) struct SpawnedSession {
    frames: FramingPair,
    tell: Option<Sender<HeardMessage>>,
    listen: Receiver<SaidMessage>,
    task: Option<JoinHandle<Result<(), ServiceError>>>,
    /// Split and not yet taken by the queue.
    untold: VecDeque<HeardMessage>,
    /// How many the queue has taken.
    told: u64,
    /// It has answered a message, and still listens.
    answers: bool,
    /// Heard and not yet answered.
    pending: VecDeque<Pending>,
    pending_bytes: usize,
    /// Answered before their turn.
    early: BTreeMap<u64, Vec<u8>>,
}

/// A message that waits for its answer.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) index: u64,
    pub(crate) raw: Vec<u8>,
    end: Ended,
    pub(crate) heard: Instant,
    pub(crate) reads: u32,
}

/// How a message ended, which its answer copies; the terminator lies at the end of its raw bytes.
#[derive(Clone, Copy, Debug)]
enum Ended {
    Like(usize),
    Whole,
    Stream,
}

impl Ended {
    fn of(message: &Message<'_>, frames: FramingPair) -> Self {
        match message.end(frames) {
            End::Like(terminator) => Self::Like(terminator.len()),
            End::Whole => Self::Whole,
            End::Stream => Self::Stream,
        }
    }

    /// `body` in the frame of an answer to `raw`.
    fn frame(self, raw: &[u8], body: Vec<u8>, framing: Framing) -> Result<Vec<u8>, ReplyTooLong> {
        framed(
            framing,
            body,
            match self {
                Self::Like(terminator) => End::Like(&raw[raw.len() - terminator..]),
                Self::Whole => End::Whole,
                Self::Stream => End::Stream,
            },
        )
    }
}

/// What is said unasked has no message to be like: a delimiter is the speaker's to add, a length is not.
fn said_unasked(framing: Framing, body: Vec<u8>) -> Result<Vec<u8>, ReplyTooLong> {
    if framing.has_length() {
        framed(framing, body, End::Whole)
    } else {
        Ok(body)
    }
}

fn framed(framing: Framing, body: Vec<u8>, end: End<'_>) -> Result<Vec<u8>, ReplyTooLong> {
    let mut bytes = Vec::new();
    let start = framing.open(&mut bytes);
    bytes.extend(body);
    framing.close(&mut bytes, start, end)?;
    Ok(bytes)
}

/// What leaves next.
#[derive(Debug)]
pub(crate) struct Reply {
    /// What it answers.
    pub(crate) answers: Option<Pending>,
    /// Framed as it goes on the wire.
    pub(crate) bytes: Result<Vec<u8>, ReplyTooLong>,
}

/// What came from the service.
#[derive(Debug)]
pub(crate) enum HandlerOutput {
    /// Something said.
    Said(SaidMessage),
    /// It is done.
    Done(Result<(), ServiceError>),
}

impl SpawnedSession {
    /// Starts the service on `runtime`.
    pub(crate) fn start(
        service: Box<dyn SpawnedHandler>,
        runtime: &Handle,
        frames: FramingPair,
    ) -> Self {
        let (tell, listen, heard, said) = queues();
        let task = Some(runtime.spawn(service.run(heard, said)));
        Self {
            frames,
            tell: Some(tell),
            listen,
            task,
            untold: VecDeque::new(),
            told: 0,
            answers: false,
            pending: VecDeque::new(),
            pending_bytes: 0,
            early: BTreeMap::new(),
        }
    }

    /// Hands on what has been heard; ready when nothing is left of it and there is room for more.
    pub(crate) fn poll_told(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(tell) = &mut self.tell else {
            return Poll::Ready(());
        };
        loop {
            if ready!(tell.poll_ready(cx)).is_err() {
                // It does not listen any more, which is its right; what it says still counts.
                self.told += self.untold.len() as u64;
                self.untold.clear();
                self.answers = false;
                return Poll::Ready(());
            }
            let Some(message) = self.untold.pop_front() else {
                return Poll::Ready(());
            };
            let _ = tell.start_send(message);
            self.told += 1;
        }
    }

    /// Takes the messages of a run. Those that have waited too long for an answer come back, oldest first.
    pub(crate) fn hear(&mut self, run: &Run<'_>, heard: Instant, reads: u32) -> Vec<Pending> {
        for (i, message) in run.messages().enumerate() {
            let Message {
                index, raw, body, ..
            } = message;
            self.untold.push_back(HeardMessage {
                index,
                body: body.to_vec(),
            });
            self.pending_bytes += raw.len();
            let reads = if i == 0 { reads } else { 1 };
            let (raw, end) = (raw.to_vec(), Ended::of(&message, self.frames));
            self.pending.push_back(Pending {
                index,
                raw,
                end,
                heard,
                reads,
            });
        }
        let mut silent = Vec::new();
        while self.is_behind() && !self.owes_answers() && self.has_taken_two() {
            silent.extend(self.pop());
        }
        silent
    }

    /// Whether more wait for their answer than may.
    fn is_behind(&self) -> bool {
        self.pending.len() > PENDING_MAX || self.pending_bytes > PENDING_BYTES_MAX
    }

    /// Whether the service has taken the oldest message without an answer, and the one after it: one that answers
    /// message by message does not, however slow it is.
    fn has_taken_two(&self) -> bool {
        let second = self.pending.get(1);
        second.is_some_and(|second| second.index + UNTAKEN_MAX < self.told)
    }

    /// Whether it should answer before it is told more.
    pub(crate) fn owes_answers(&self) -> bool {
        self.is_behind() && (self.answers || !self.early.is_empty())
    }

    /// The peer has said its last, and so the service hears its last.
    pub(crate) fn close_input(&mut self) {
        if self.untold.is_empty() {
            self.tell = None;
        }
    }

    /// What the service says next, or how it ended.
    pub(crate) fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<HandlerOutput> {
        match ready!(Pin::new(&mut self.listen).poll_next(cx)) {
            Some(said) => Poll::Ready(HandlerOutput::Said(said)),
            None => {
                let Some(task) = &mut self.task else {
                    return Poll::Ready(HandlerOutput::Done(Ok(())));
                };
                let done = ready!(Pin::new(task).poll(cx));
                self.task = None;
                Poll::Ready(HandlerOutput::Done(
                    done.unwrap_or_else(|panic| Err(ServiceError(Box::new(panic)))),
                ))
            }
        }
    }

    /// Puts what was said in its place: what leaves now, in order.
    pub(crate) fn order(&mut self, said: SaidMessage) -> Vec<Reply> {
        let SaidMessage { in_answer_to, body } = said;
        let waits = |index: &u64| match (self.pending.front(), self.pending.back()) {
            (Some(first), Some(last)) => (first.index..=last.index).contains(index),
            _ => false,
        };
        match in_answer_to.filter(waits) {
            None => vec![Reply {
                answers: None,
                bytes: said_unasked(self.frames.outbound, body),
            }],
            Some(index) => {
                self.answers = true;
                self.early.entry(index).or_default().extend(body);
                let mut leaving = Vec::new();
                while let Some(body) = self
                    .pending
                    .front()
                    .and_then(|first| self.early.remove(&first.index))
                {
                    let Some(answered) = self.pop() else { break };
                    let bytes = answered
                        .end
                        .frame(&answered.raw, body, self.frames.outbound);
                    leaving.push(Reply {
                        answers: Some(answered),
                        bytes,
                    });
                }
                leaving
            }
        }
    }

    /// The oldest message without an answer.
    pub(crate) fn pop(&mut self) -> Option<Pending> {
        let oldest = self.pending.pop_front()?;
        self.pending_bytes -= oldest.raw.len();
        Some(oldest)
    }
}

impl Drop for SpawnedSession {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
