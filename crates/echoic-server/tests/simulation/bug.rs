//! Bugs put in on purpose, to see that they are found. The places where they strike are marked `#[cfg(test)]`: no build
//! but that of this crate's own tests has them.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
};

use echoic_core::{
    ending::{Ending, How},
    limits::Limits,
    message::{Message, Replies, Run, Then},
    service::{Inline, Voice},
};
use echoic_wire::Route;

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    static TOLD: Cell<u64> = const { Cell::new(0) };
    static ADDRESSED: RefCell<Option<Route>> = const { RefCell::new(None) };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// The first two messages of a run get each other's reply.
    ReplySwapped,
    /// Of the exchanges told to the recorder every seventh is not put in.
    RecordDropped,
    /// What the kernel has received is not heard any more once the stop signal has come.
    DrainForgetsTheLast,
    /// A message may be one byte longer than it may be.
    LimitOffByOne,
    /// A reset by the peer is told as an orderly end.
    EndingLiedAbout,
    /// A datagram is answered to whoever was answered before.
    AnswerMisaddressed,
    /// A datagram that goes round in a circle is answered for ever.
    CircleGoesOn,
    /// What the kernel dropped is not asked for.
    DropsUntold,
}

impl Bug {
    pub(super) const OF_STREAMS: [Self; 5] = [
        Self::ReplySwapped,
        Self::RecordDropped,
        Self::DrainForgetsTheLast,
        Self::LimitOffByOne,
        Self::EndingLiedAbout,
    ];

    pub(super) const OF_DATAGRAMS: [Self; 5] = [
        Self::RecordDropped,
        Self::DrainForgetsTheLast,
        Self::AnswerMisaddressed,
        Self::CircleGoesOn,
        Self::DropsUntold,
    ];

    /// Puts it in for what runs on this thread, and takes it out again at the end of the guard's life.
    pub(super) fn plant(bug: Option<Self>) -> Planted {
        PLANTED.set(bug);
        TOLD.set(0);
        ADDRESSED.set(None);
        Planted
    }

    pub(crate) fn is_planted(self) -> bool {
        PLANTED.get() == Some(self)
    }
}

pub(super) struct Planted;

impl Drop for Planted {
    fn drop(&mut self) {
        PLANTED.set(None);
    }
}

/// Whether what is told now, of so many exchanges, is to be forgotten.
pub(crate) fn forgets(exchanges: u64) -> bool {
    let may = Bug::RecordDropped.is_planted() && exchanges > 0;
    may && TOLD.replace(TOLD.get() + 1) % 7 == 3
}

pub(crate) fn told_as(ending: Ending) -> Ending {
    if Bug::EndingLiedAbout.is_planted() && ending.how == How::PeerReset {
        Ending {
            how: How::PeerClosed,
            ..ending
        }
    } else {
        ending
    }
}

/// Where an answer goes that should go along `route`.
pub(crate) fn addressed(route: &Route) -> Route {
    let before = ADDRESSED.replace(Some(route.clone()));
    match before {
        Some(before) if Bug::AnswerMisaddressed.is_planted() => before,
        _ => route.clone(),
    }
}

pub(crate) fn limits(limits: Arc<Limits>) -> Arc<Limits> {
    if !Bug::LimitOffByOne.is_planted() {
        return limits;
    }
    let message_bytes_max = limits.message_bytes_max + 1;
    Arc::new(Limits {
        message_bytes_max,
        ..Limits::clone(&limits)
    })
}

pub(crate) fn voice(voice: Voice) -> Voice {
    match voice {
        Voice::Inline(voice) if Bug::ReplySwapped.is_planted() => {
            Voice::Inline(Box::new(Swapping(voice)))
        }
        voice => voice,
    }
}

struct Swapping(Box<dyn Inline>);

impl Inline for Swapping {
    fn open(&mut self, out: &mut Replies) -> Then {
        self.0.open(out)
    }

    fn answer(&mut self, run: &Run<'_>, out: &mut Replies) -> Then {
        let messages: Vec<Message<'_>> = run.messages().collect();
        if messages.len() < 2 {
            return self.0.answer(run, out);
        }
        for (i, message) in messages.iter().enumerate() {
            let body = messages[if i < 2 { 1 - i } else { i }].body;
            out.reply(message, |bytes| bytes.extend_from_slice(body));
        }
        Then::Continue
    }

    fn finish(&mut self, out: &mut Replies) {
        self.0.finish(out);
    }
}
