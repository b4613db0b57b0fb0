//! Handlers that run in a task of their own, and the two queues between a handler and its conversation.
//!
//! The queues know no runtime: a mutex, a list, a count of bytes and two wakers. Each is bounded in bytes
//! ([`QUEUE_BYTES`]), not in messages, so that a proxy moves whole reads, and a read of nothing but newlines cannot fill
//! memory.

use std::{
    collections::VecDeque,
    error::Error,
    fmt,
    future::poll_fn,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use super::{BoxFuture, ServiceError};
use crate::{
    framing::{ReplyTooLong, Span},
    message::{Replies, Run},
};

/// Bound of each of the two queues in bytes, including spans and lengths. An item of any size may be pushed while fewer
/// bytes are queued, so a longer run passes when its queue is empty.
pub const QUEUE_BYTES: usize = 256 << 10;

/// A handler that runs in its own task and may wait for anything.
///
/// ```
/// use echoic_core::{
///     framing::FramingPair,
///     message::Replies,
///     service::{BoxFuture, ReplySender, RequestReceiver, ServiceError, SpawnedHandler},
/// };
///
/// struct Reverse {
///     framing: FramingPair, // from the `Peer` that `Service::handler` is given
/// }
///
/// impl SpawnedHandler for Reverse {
///     fn run(
///         self: Box<Self>,
///         mut requests: RequestReceiver,
///         mut replies: ReplySender,
///     ) -> BoxFuture<'static, Result<(), ServiceError>> {
///         Box::pin(async move {
///             let mut out = Replies::default();
///             while let Some(run) = requests.recv().await? {
///                 out.clear(self.framing);
///                 for message in run.as_run().messages() {
///                     // Here it may wait: for a file, a process, another server.
///                     out.reply(&message, |bytes| bytes.extend(message.body.iter().rev()));
///                 }
///                 replies.send_replies(&mut out).await?;
///             }
///             Ok(())
///         })
///     }
/// }
/// ```
pub trait SpawnedHandler: Send {
    /// Runs until the handler is done. The conversation ends when this returns and all replies are sent, or earlier, for
    /// example by a timeout; the handler then sees [`PeerGone`], and is aborted if it has not returned within
    /// `--linger-timeout`.
    ///
    /// The queues are independent: while the handler takes no requests, nothing more is read from the peer; while the
    /// peer reads no replies, sending waits.
    fn run(
        self: Box<Self>,
        requests: RequestReceiver,
        replies: ReplySender,
    ) -> BoxFuture<'static, Result<(), ServiceError>>;
}

/// A run of requests that owns its bytes: what one read completed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestRun {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    first: u64,
}

impl RequestRun {
    /// Returns the requests.
    pub fn as_run(&self) -> Run<'_> {
        Run::new(&self.bytes, &self.spans, self.first)
    }

    /// Returns the requests as they were received, contiguous: to forward them, for example.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl From<&Run<'_>> for RequestRun {
    fn from(run: &Run<'_>) -> Self {
        let start = run.spans().first().map_or(0, |span| span.start);
        let shift = |span: &Span| Span {
            start: span.start - start,
            body_start: span.body_start - start,
            body_end: span.body_end - start,
            end: span.end - start,
        };
        Self {
            bytes: run.raw().to_vec(),
            spans: run.spans().iter().map(shift).collect(),
            first: run.first(),
        }
    }
}

/// What a handler sends to its peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Bytes as they go on the wire.
    Bytes {
        /// The bytes of any number of replies, or a part of one.
        bytes: Vec<u8>,
        /// The length of each reply, for the oldest unanswered requests; 0 is an empty reply. Their sum is the length of
        /// `bytes`. An empty list: the bytes answer no request. `None`: unknown; the record divides the bytes by the
        /// outbound framing and pairs them in order.
        lengths: Option<Vec<u32>>,
    },
    /// Ends our half of the stream (FIN) after the replies so far. Requests still arrive.
    Finish,
    /// Resets the connection at once; unsent replies are discarded.
    Reset,
}

/// The conversation is over: the peer closed or reset it, a limit ended it, or the server stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerGone {
    /// The peer reset the connection. A proxy passes that on.
    pub reset: bool,
}

impl fmt::Display for PeerGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.reset {
            "the peer reset the connection"
        } else {
            "the conversation is over"
        })
    }
}

impl Error for PeerGone {}

impl From<PeerGone> for ServiceError {
    fn from(gone: PeerGone) -> Self {
        Self(Box::new(gone))
    }
}

/// Why replies were not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The conversation is over.
    Gone(PeerGone),
    /// Those before this one were sent; its framing cannot announce it. The conversation cannot go on, and ends as
    /// `reply-too-long` when the handler returns this error.
    TooLong(ReplyTooLong),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone(gone) => gone.fmt(f),
            Self::TooLong(too_long) => too_long.fmt(f),
        }
    }
}

impl Error for SendError {}

impl From<SendError> for ServiceError {
    fn from(error: SendError) -> Self {
        Self(match error {
            SendError::Gone(gone) => Box::new(gone),
            SendError::TooLong(too_long) => Box::new(too_long),
        })
    }
}

/// The handler's end of the requests.
#[derive(Debug)]
pub struct RequestReceiver {
    queue: Arc<Queue<RequestRun>>,
    budget: Budget,
}

impl RequestReceiver {
    /// Waits for the next run. `None`: the peer ended its half of the stream, or the server is stopping and has read all
    /// that had arrived; replies can still be sent. After `PeerGone` they cannot.
    pub async fn recv(&mut self) -> Result<Option<RequestRun>, PeerGone> {
        poll_fn(|cx| {
            ready!(self.budget.poll_proceed(cx));
            self.queue.poll_pop(cx)
        })
        .await
    }
}

/// The handler's end of the replies.
#[derive(Debug)]
pub struct ReplySender {
    queue: Arc<Queue<Reply>>,
    budget: Budget,
}

impl ReplySender {
    /// Sends a reply; waits while the queue is full because the peer does not read.
    pub async fn send(&mut self, reply: Reply) -> Result<(), PeerGone> {
        poll_fn(|cx| {
            ready!(self.budget.poll_proceed(cx));
            self.queue.poll_free_space(cx)
        })
        .await?;
        self.queue.push(reply);
        Ok(())
    }

    /// Sends what `replies` holds, and empties it: one reply for each of the oldest unanswered requests, or bytes that
    /// answer none.
    pub async fn send_replies(&mut self, replies: &mut Replies) -> Result<(), SendError> {
        let too_long = replies.too_long();
        if let Some(reply) = replies.take() {
            self.send(reply).await.map_err(SendError::Gone)?;
        }
        too_long.map_or(Ok(()), |too_long| Err(SendError::TooLong(too_long)))
    }
}

/// The conversation's end of the requests.
#[derive(Debug)]
pub struct RequestSender(Arc<Queue<RequestRun>>);

impl RequestSender {
    /// Ready when another run may be pushed. Also when the handler has dropped its receiver: what is pushed is then
    /// discarded.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_free_space(cx).map(drop)
    }

    /// Pushes a run, whether or not there is room.
    pub fn push(&mut self, run: RequestRun) {
        self.0.push(run);
    }

    /// Ends the stream: the handler receives what is queued, then `None`.
    pub fn finish(&mut self) {
        self.0.finish();
    }
}

/// The conversation's end of the replies.
#[derive(Debug)]
pub struct ReplyReceiver(Arc<Queue<Reply>>);

impl ReplyReceiver {
    /// Returns the next reply; `None` when the handler has dropped its sender and all it sent is taken.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Reply>> {
        let popped = ready!(self.0.poll_pop(cx));
        Poll::Ready(popped.unwrap_or_default())
    }
}

/// Creates the two queues. Returns the conversation's ends, then the handler's.
pub fn queues() -> (RequestSender, ReplyReceiver, RequestReceiver, ReplySender) {
    let (requests, replies) = (Arc::<Queue<_>>::default(), Arc::<Queue<_>>::default());
    (
        RequestSender(Arc::clone(&requests)),
        ReplyReceiver(Arc::clone(&replies)),
        RequestReceiver {
            queue: requests,
            budget: Budget::default(),
        },
        ReplySender {
            queue: replies,
            budget: Budget::default(),
        },
    )
}

/// Ends both queues at the end of the conversation: what is queued is discarded, and the handler sees [`PeerGone`].
pub fn close(requests: &RequestSender, replies: &ReplyReceiver, reset: bool) {
    requests.0.close(reset);
    replies.0.close(reset);
}

impl Drop for RequestSender {
    fn drop(&mut self) {
        self.0.close(false);
    }
}

impl Drop for ReplyReceiver {
    fn drop(&mut self) {
        self.0.close(false);
    }
}

impl Drop for RequestReceiver {
    fn drop(&mut self) {
        self.queue.close(false);
    }
}

impl Drop for ReplySender {
    fn drop(&mut self) {
        self.queue.finish();
    }
}

/// Calls of a handler that may be ready at once before it yields.
const BUDGET: u32 = 32;

/// Makes a handler yield once in [`BUDGET`] calls. A peer that keeps pace with it would otherwise keep its task running:
/// other tasks of the runtime would starve, and so would a future that the handler polls beside the queue.
#[derive(Debug, Default)]
struct Budget(u32);

impl Budget {
    fn poll_proceed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.0 == BUDGET {
            self.0 = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.0 += 1;
        Poll::Ready(())
    }
}

/// Size of an item in its queue, in bytes.
trait Weigh {
    fn weight(&self) -> usize;
}

impl Weigh for RequestRun {
    fn weight(&self) -> usize {
        size_of::<Self>() + self.bytes.len() + self.spans.len() * size_of::<Span>()
    }
}

impl Weigh for Reply {
    fn weight(&self) -> usize {
        let owned = match self {
            Self::Bytes { bytes, lengths } => {
                let lengths = lengths.as_ref().map_or(0, Vec::len);
                bytes.len() + lengths * size_of::<u32>()
            }
            Self::Finish | Self::Reset => 0,
        };
        size_of::<Self>() + owned
    }
}

/// A queue between one sender and one receiver.
#[derive(Debug)]
struct Queue<T>(Mutex<Inner<T>>);

#[derive(Debug)]
struct Inner<T> {
    items: VecDeque<T>,
    bytes: usize,
    state: State,
    sender: Option<Waker>,
    receiver: Option<Waker>,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Open,
    /// Nothing more is pushed; what is queued is still taken.
    Finished,
    /// One side is gone; the queue is empty and stays so.
    Closed(PeerGone),
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self(Mutex::new(Inner {
            items: VecDeque::new(),
            bytes: 0,
            state: State::Open,
            sender: None,
            receiver: None,
        }))
    }
}

impl<T> Queue<T> {
    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self) {
        let mut inner = self.lock();
        if matches!(inner.state, State::Open) {
            inner.state = State::Finished;
            wake(inner, |inner| &mut inner.receiver);
        }
    }

    /// Closes the queue; only the first call has an effect.
    fn close(&self, reset: bool) {
        let mut inner = self.lock();
        if matches!(inner.state, State::Closed(_)) {
            return;
        }
        inner.state = State::Closed(PeerGone { reset });
        inner.bytes = 0;
        let discarded = mem::take(&mut inner.items);
        let wakers = [inner.sender.take(), inner.receiver.take()];
        drop(inner);
        drop(discarded);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl<T: Weigh> Queue<T> {
    fn poll_free_space(&self, cx: &mut Context<'_>) -> Poll<Result<(), PeerGone>> {
        let mut inner = self.lock();
        match inner.state {
            State::Closed(gone) => Poll::Ready(Err(gone)),
            _ if inner.bytes < QUEUE_BYTES => Poll::Ready(Ok(())),
            _ => {
                inner.sender = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn push(&self, item: T) {
        let mut inner = self.lock();
        if matches!(inner.state, State::Open) {
            inner.bytes += item.weight();
            inner.items.push_back(item);
            wake(inner, |inner| &mut inner.receiver);
        }
    }

    fn poll_pop(&self, cx: &mut Context<'_>) -> Poll<Result<Option<T>, PeerGone>> {
        let mut inner = self.lock();
        if let Some(item) = inner.items.pop_front() {
            inner.bytes -= item.weight();
            if inner.bytes < QUEUE_BYTES {
                wake(inner, |inner| &mut inner.sender);
            }
            return Poll::Ready(Ok(Some(item)));
        }
        match inner.state {
            State::Open => {
                inner.receiver = Some(cx.waker().clone());
                Poll::Pending
            }
            State::Finished => Poll::Ready(Ok(None)),
            State::Closed(gone) => Poll::Ready(Err(gone)),
        }
    }
}

/// Wakes one side, after the lock is released.
fn wake<T>(
    mut inner: MutexGuard<'_, Inner<T>>,
    side: impl FnOnce(&mut Inner<T>) -> &mut Option<Waker>,
) {
    let waker = side(&mut inner).take();
    drop(inner);
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests;
