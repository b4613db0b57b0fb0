//! Pending requests: received, and not yet answered.

use std::collections::VecDeque;

use echoic_core::framing::Span;
use tokio::time::Instant;

use super::{PENDING_BYTES_MAX, PENDING_MAX};

/// The pending requests, oldest first, contiguous in one buffer, so that several are recorded as one run without a copy.
#[derive(Debug, Default)]
pub(super) struct Pending {
    requests: VecDeque<Request>,
    bytes: Vec<u8>,
    /// Offset of the oldest request in `bytes`.
    start: usize,
}

/// A pending request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    /// Time at which it was complete.
    pub(super) at: Instant,
    /// Number of reads it took.
    pub(super) reads: u32,
    /// Length in bytes: at most one read and one message, far below 4 GiB.
    len: u32,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    pub(super) fn first(&self) -> Option<Request> {
        self.requests.front().copied()
    }

    /// Whether `bytes` more fit within the bounds, as another request or as part of the last one.
    pub(super) fn has_room(&self, bytes: usize, another: bool) -> bool {
        self.requests.len() + usize::from(another) <= PENDING_MAX
            && self.bytes.len() - self.start + bytes <= PENDING_BYTES_MAX
    }

    pub(super) fn push(&mut self, at: Instant, reads: u32, raw: &[u8]) {
        self.bytes.extend_from_slice(raw);
        let len = raw.len() as u32;
        self.requests.push_back(Request { at, reads, len });
    }

    /// Appends to the last request, if there is one.
    pub(super) fn extend_last(&mut self, at: Instant, raw: &[u8]) -> bool {
        let Some(last) = self.requests.back_mut() else {
            return false;
        };
        last.at = at;
        last.len += raw.len() as u32;
        self.bytes.extend_from_slice(raw);
        true
    }

    /// Joins all requests into one.
    pub(super) fn join(&mut self) {
        let joined = self.requests.drain(..).reduce(|all, next| Request {
            at: next.at,
            reads: all.reads.saturating_add(next.reads),
            len: all.len + next.len,
        });
        self.requests.extend(joined);
    }

    /// Returns the bytes of the oldest `count` requests, and sets `spans` to their positions.
    pub(super) fn oldest(&self, count: usize, spans: &mut Vec<Span>) -> &[u8] {
        spans.clear();
        let mut end = 0;
        for request in self.requests.iter().take(count) {
            let start = end;
            end += request.len;
            spans.push(Span {
                start,
                body_start: start,
                body_end: end,
                end,
            });
        }
        &self.bytes[self.start..self.start + end as usize]
    }

    /// Removes the oldest `count` requests.
    pub(super) fn remove(&mut self, count: usize) {
        let removed = self.requests.drain(..count);
        self.start += removed.map(|request| request.len as usize).sum::<usize>();
        if self.start == self.bytes.len() {
            self.start = 0;
            // An idle conversation holds no buffer.
            self.bytes = Vec::new();
        } else if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }
}
