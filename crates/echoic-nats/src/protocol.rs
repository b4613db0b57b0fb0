//! What crosses between a server and its workers.
//!
//! A payload is the version, then a value in the format of postcard. Bytes are borrowed from it.

use std::{num::TryFromIntError, ops::ControlFlow};

use echoic_core::{
    endpoint::Shape,
    event::{Address, ConversationId},
    framing::Span,
    message::{Replies, Run},
    service::{Handler, Peer, RequestRun, STATE_BYTES_MAX, Service},
};
use serde::{Deserialize, Serialize, Serializer};

/// Counts the changes of this protocol. Both sides must have the same.
const VERSION: u8 = 1;

/// What a server asks a worker.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Question<'a> {
    /// What do you serve?
    Hello,
    /// Answer this run.
    Run(#[serde(borrow, serialize_with = "bytes")] &'a [u8]),
    /// Hold the first part of a run that is longer than a payload. Its length is `total`.
    First {
        transfer: u64,
        total: u64,
        #[serde(borrow, serialize_with = "bytes")]
        part: &'a [u8],
    },
    /// Hold another part of it, or answer the run if it is the last.
    More {
        transfer: u64,
        offset: u64,
        #[serde(borrow, serialize_with = "bytes")]
        part: &'a [u8],
    },
    /// Send more of an answer that is longer than a payload.
    Rest { transfer: u64, offset: u64 },
}

/// What a worker answers.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer<'a> {
    /// To `Hello`: the name of the service, and whether its replies are longer than the requests.
    Hello { service: &'a str, amplifies: bool },
    /// The answer to a run.
    Whole(#[serde(borrow, serialize_with = "bytes")] &'a [u8]),
    /// The part is held; the others go to this subject.
    Held { subject: &'a str },
    /// A part of an answer of `total` bytes; the others are asked for at this subject.
    Part {
        subject: &'a str,
        transfer: u64,
        total: u64,
        #[serde(borrow, serialize_with = "bytes")]
        part: &'a [u8],
    },
    /// The worker does not know the transfer (any more): begin again.
    Unknown,
    /// The run cannot be answered, by no worker.
    Failed { why: &'a str },
}

fn bytes<S: Serializer>(bytes: &&[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

/// Writes a payload.
pub(crate) fn write(value: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(value, vec![VERSION]).expect("invariant: it is serialisable")
}

/// Reads a payload; `None` if it is none of this version.
pub(crate) fn read<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Option<T> {
    let rest = payload.strip_prefix(&[VERSION])?;
    let (value, rest) = postcard::take_from_bytes(rest).ok()?;
    rest.is_empty().then_some(value)
}

/// A run with all that a worker needs to answer it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunRequest<'a> {
    conversation: ConversationId,
    remote: Address,
    local: Address,
    framing: &'a str,
    shape: u8,
    /// The conversation opens: the service may send first.
    pub(crate) opens: bool,
    /// The peer has ended its half of the stream, and this is its last run.
    pub(crate) ends: bool,
    /// State of the handler after the run before.
    #[serde(borrow, serialize_with = "bytes")]
    pub(crate) state: &'a [u8],
    /// Number of the first message in its conversation, from 0.
    first: u64,
    /// Lengths of header, body and terminator of each message, one after the other.
    lengths: Vec<u32>,
    #[serde(borrow, serialize_with = "bytes")]
    messages: &'a [u8],
}

/// Part of a [`RunRequest`] that is the same for all runs of a conversation.
#[derive(Debug)]
pub(crate) struct PeerForm {
    peer: Peer,
    framing: String,
}

impl PeerForm {
    pub(crate) fn of(peer: &Peer) -> Self {
        Self {
            framing: peer.framing.to_string(),
            peer: peer.clone(),
        }
    }
}

/// Several runs in one.
#[derive(Debug, Default)]
pub(crate) struct GatheredRun {
    first: u64,
    lengths: Vec<u32>,
    bytes: Vec<u8>,
}

impl GatheredRun {
    pub(crate) fn push(&mut self, run: &RequestRun) {
        let run = run.as_run();
        if self.lengths.is_empty() {
            self.first = run.first();
        }
        self.lengths.extend(run.spans().iter().flat_map(|span| {
            [
                span.body_start - span.start,
                span.body_end - span.body_start,
                span.end - span.body_end,
            ]
        }));
        self.bytes.extend_from_slice(run.raw());
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() + self.lengths.len()
    }

    pub(crate) fn request<'a>(&'a self, of: &'a PeerForm, state: &'a [u8]) -> RunRequest<'a> {
        let Peer {
            conversation,
            ref remote,
            ref local,
            shape,
            ..
        } = of.peer;
        RunRequest {
            conversation,
            remote: remote.clone(),
            local: local.clone(),
            framing: &of.framing,
            shape: match shape {
                Shape::Stream => 0,
                Shape::Datagrams => 1,
                Shape::Messages => 2,
            },
            opens: false,
            ends: false,
            state,
            first: self.first,
            lengths: self.lengths.clone(),
            messages: &self.bytes,
        }
    }
}

/// The replies to a run, and the state after it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunAnswer<'a> {
    /// Length of the reply to each answered message.
    pub(crate) lengths: Vec<u32>,
    #[serde(borrow, serialize_with = "bytes")]
    pub(crate) replies: &'a [u8],
    #[serde(borrow, serialize_with = "bytes")]
    pub(crate) state: &'a [u8],
    /// The service ends the stream.
    pub(crate) closes: bool,
    /// Length of a reply that was too long for its framing: the conversation cannot go on.
    pub(crate) too_long: Option<u64>,
}

/// Why a worker did not answer a run.
pub(crate) const INVALID: &str = "the run cannot be read";

/// Reads a run, has the service answer it, and writes the answer. Returns the number of messages too.
pub(crate) fn answer(
    service: &dyn Service,
    request: &[u8],
) -> Result<(Vec<u8>, usize), &'static str> {
    let request: RunRequest<'_> = read(request).ok_or(INVALID)?;
    let peer = Peer {
        conversation: request.conversation,
        remote: request.remote.clone(),
        local: request.local.clone(),
        framing: request.framing.parse().map_err(|_| INVALID)?,
        shape: match request.shape {
            0 => Shape::Stream,
            1 => Shape::Datagrams,
            2 => Shape::Messages,
            _ => return Err(INVALID),
        },
    };
    let spans = spans(&request.lengths, request.messages.len()).ok_or(INVALID)?;
    let run = Run::new(request.messages, &spans, request.first);
    let Handler::Inline(mut handler) = service.handler(&peer) else {
        return Err("the service cannot run in a worker");
    };
    if !handler.restore(request.state) {
        return Err("the state of the handler is not of this service");
    }
    let mut replies = Replies::default();
    replies.clear(peer.framing);
    let mut flow = ControlFlow::Continue(());
    if request.opens {
        flow = handler.open(&mut replies);
    }
    if flow.is_continue() && !run.is_empty() {
        flow = match handler.in_place() {
            Some(transform) if replies.transform(&run, transform) => ControlFlow::Continue(()),
            _ => handler.answer(&run, &mut replies),
        };
    }
    if flow.is_continue() {
        replies.fill_empty(run.len());
        if request.ends {
            handler.input_ended(&mut replies);
        }
    }
    let mut state = Vec::new();
    handler.state(&mut state);
    if state.len() > STATE_BYTES_MAX {
        return Err("the state of the handler is too long");
    }
    let answer = write(&RunAnswer {
        lengths: replies.lengths().collect(),
        replies: replies.bytes(),
        state: &state,
        closes: flow.is_break(),
        too_long: replies.too_long().map(|reply| reply.bytes as u64),
    });
    Ok((answer, run.len()))
}

/// Returns the messages that lengths of header, body and terminator divide `len` bytes into; `None` if they do not add up.
fn spans(lengths: &[u32], len: usize) -> Option<Vec<Span>> {
    let (parts, rest) = lengths.as_chunks::<3>();
    let (mut spans, mut start) = (Vec::with_capacity(parts.len()), 0_u32);
    for [header, body, terminator] in parts {
        let body_start = start.checked_add(*header)?;
        let body_end = body_start.checked_add(*body)?;
        let end = body_end.checked_add(*terminator)?;
        spans.push(Span {
            start,
            body_start,
            body_end,
            end,
        });
        start = end;
    }
    let all: Result<u32, TryFromIntError> = len.try_into();
    (rest.is_empty() && all == Ok(start)).then_some(spans)
}

#[cfg(test)]
mod tests;
