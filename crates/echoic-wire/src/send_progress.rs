//! [`SendProgress`]: tells a peer that reads slowly from one that has stopped.

use std::time::Duration;

use tokio::time::Instant;

use crate::{Link, SendQueue};

/// Looks at a timeout's length are this many, so that a peer that has stopped is noticed an eighth late at most.
const LOOKS: u32 = 8;

/// Longest time between two looks.
const LOOK_EVERY_MAX: Duration = Duration::from_secs(1);

/// Follows whether the peer takes the bytes that the kernel holds for it, by a look at the queue now and then. Between
/// two looks it costs nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct SendProgress {
    last: Option<(Instant, Option<SendQueue>)>,
}

/// The result of a look at the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// The system does not tell, or the link has no queue.
    Unknown,
    /// There is nothing that the peer could take.
    Empty,
    /// The peer has taken bytes since the last look, or may have because there was none.
    Taken,
    /// The peer has taken nothing since the last look.
    Unchanged,
}

impl SendProgress {
    /// Returns when to look next if a wait of `timeout` began at `since`, the last time that bytes were written or taken.
    pub fn next_look(&self, since: Instant, timeout: Duration) -> Instant {
        let every = (timeout / LOOKS).min(LOOK_EVERY_MAX);
        match self.last {
            Some((at, Some(_))) if at >= since => at + every,
            Some((at, None)) if at >= since => since + timeout,
            _ => since + every,
        }
    }

    /// Asks the kernel what the peer has not taken. `since` is as for [`Self::next_look`], and is moved to this look if the
    /// peer may have taken something.
    pub fn look(&mut self, link: &Link, since: &mut Instant) -> Look {
        let before = self.last.filter(|(at, _)| at >= since);
        let (now, queue) = (Instant::now(), link.send_queue());
        self.last = Some((now, queue));
        let before = before.and_then(|(_, queue)| queue);
        match (queue.map(|queue| queue.total()), before) {
            (None, _) => Look::Unknown,
            (Some(0), None) => Look::Empty,
            (Some(total), Some(before)) if total == before.total() => {
                if total == 0 {
                    Look::Empty
                } else {
                    Look::Unchanged
                }
            }
            (Some(_), _) => {
                *since = now;
                Look::Taken
            }
        }
    }

    /// Returns the queue as it was at the last look.
    pub fn queue(&self) -> Option<SendQueue> {
        self.last?.1
    }
}
