//! A conversation's side of a spawned handler: its task, its queues, and the pairing for the record.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use echoic_core::{
    framing::FramingPair,
    message::Run,
    service::{
        Reply, ReplyReceiver, RequestRun, RequestSender, ServiceError, SpawnedHandler, close,
        queues,
    },
};
use echoic_recorder::{Pairing, PairingRules};
use tokio::{runtime::Handle, sync::oneshot, task::JoinHandle, time::sleep};

/// A handler in a task of its own.
pub(crate) struct HandlerTask {
    requests: RequestSender,
    replies: ReplyReceiver,
    task: Option<JoinHandle<Result<(), ServiceError>>>,
    /// Dropped with the conversation, which starts the handler's grace.
    _open: oneshot::Sender<Infallible>,
    /// Only if the conversation is recorded.
    pub(crate) pairing: Option<Pairing>,
    /// Whether the peer is polled first, or the handler: neither may starve the other.
    pub(crate) receive_first: bool,
    /// Our half of the stream, which the handler may end before the conversation ends.
    pub(crate) our_half: HalfState,
}

/// What became of [`Reply::Finish`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HalfState {
    /// The handler has not sent it.
    Open,
    /// Our half of the stream is to be ended as soon as nothing is unsent.
    FinRequested,
    /// It is ended.
    Finished,
}

/// What came from the handler.
#[derive(Debug)]
pub(crate) enum HandlerOutput {
    /// A reply.
    Reply(Reply),
    /// It returned.
    Returned(Result<(), ServiceError>),
}

impl HandlerTask {
    /// Starts `handler` on `runtime`. Once the conversation is over, the handler has `grace` to return.
    pub(crate) fn start(
        handler: Box<dyn SpawnedHandler>,
        runtime: &Handle,
        grace: Duration,
        pairing: Option<FramingPair>,
    ) -> Box<Self> {
        let (requests, replies, receiver, sender) = queues();
        let (open, closed) = oneshot::channel();
        let running = handler.run(receiver, sender);
        let task = runtime.spawn(async move {
            tokio::select! {
                biased;
                returned = running => returned,
                () = async { let _ = closed.await; sleep(grace).await } => Ok(()),
            }
        });
        Box::new(Self {
            requests,
            replies,
            task: Some(task),
            _open: open,
            pairing: pairing.map(|framing| Pairing::new(PairingRules::of_handler(framing))),
            receive_first: true,
            our_half: HalfState::Open,
        })
    }

    /// Ready when more may be read from the peer.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.requests.poll_ready(cx)
    }

    /// Hands the handler a run.
    pub(crate) fn push(&mut self, run: &Run<'_>) {
        if !run.is_empty() {
            self.requests.push(RequestRun::from(run));
        }
    }

    /// Ends the handler's input: it receives what is queued, then the end of the stream.
    pub(crate) fn end_input(&mut self) {
        self.requests.finish();
    }

    /// Ends both queues: the conversation is over.
    pub(crate) fn close(&mut self, reset: bool) {
        close(&self.requests, &self.replies, reset);
    }

    /// What the handler sends next, or how it ended.
    pub(crate) fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<HandlerOutput> {
        if let Some(reply) = ready!(self.replies.poll_recv(cx)) {
            return Poll::Ready(HandlerOutput::Reply(reply));
        }
        let Some(task) = &mut self.task else {
            return Poll::Ready(HandlerOutput::Returned(Ok(())));
        };
        let returned = ready!(Pin::new(task).poll(cx));
        self.task = None;
        let returned = returned.unwrap_or_else(|panic| Err(ServiceError(Box::new(panic))));
        Poll::Ready(HandlerOutput::Returned(returned))
    }
}
