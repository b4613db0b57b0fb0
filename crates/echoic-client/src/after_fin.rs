//! The time between the peer's FIN and the end of the conversation.
//!
//! The peer has ended its half only and may read ours to its end, so we go on sending, however late our input comes. What
//! tells that the peer is gone is looked at in pauses (`Link::peer_after_fin`), since nothing wakes us for it.

use std::time::Duration;

use echoic_wire::{Link, PeerAfterFin};
use tokio::time::Instant;

/// The state after the peer's FIN.
#[derive(Debug)]
pub(crate) struct AfterFin {
    at: Instant,
    next_look: Instant,
    /// Time from one look to the next.
    pause: Duration,
    /// We have sent bytes since.
    wrote: bool,
    /// The caller has learned that the peer has ended its half only.
    pub(crate) reported: bool,
    /// Bytes of ours that the peer's kernel has not acknowledged, as last seen.
    pub(crate) unacknowledged: u64,
}

/// The result of a look at the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// The peer may still read.
    Wait,
    /// The same, and it has acknowledged bytes since the last look.
    Progress,
    /// The conversation is over; `cut` if the peer has closed before it had read all that we sent.
    Over { cut: bool },
}

/// The first pause; each following one is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(10);

/// The longest pause while our half is open, and while only acknowledgements are awaited.
const PAUSE_MAX: Duration = Duration::from_secs(1);
const ACK_PAUSE_MAX: Duration = Duration::from_millis(100);

/// Time after which the caller learns that the peer has ended its half only. Most peers close at once.
const REPORT_AFTER: Duration = Duration::from_millis(150);

/// A reset earlier than this answers bytes of ours; a later one may answer a probe of the kernel (`Link::probe_peer`).
const PROBED_AFTER: Duration = Duration::from_secs(50);

impl AfterFin {
    /// The peer's FIN was read.
    pub(crate) fn new(link: &Link, now: Instant) -> Self {
        link.probe_peer();
        Self {
            at: now,
            next_look: now,
            pause: PAUSE_MIN,
            wrote: false,
            reported: false,
            unacknowledged: 0,
        }
    }

    pub(crate) fn next_look(&self) -> Instant {
        self.next_look
    }

    /// Whether the caller is to learn of it now.
    pub(crate) fn is_report_due(&self, now: Instant) -> bool {
        !self.reported && now >= self.at + REPORT_AFTER
    }

    /// We have sent bytes: if the peer is gone, it answers them soon.
    pub(crate) fn note_write(&mut self, now: Instant) {
        self.wrote = true;
        self.pause = PAUSE_MIN;
        self.next_look = now + PAUSE_MIN;
    }

    /// We have sent our FIN.
    pub(crate) fn note_finish(&mut self, now: Instant) {
        self.pause = PAUSE_MIN;
        self.next_look = now;
    }

    /// Looks at the peer. `finished` if our FIN is sent, `sent` is the number of bytes before it.
    pub(crate) fn look(&mut self, link: &Link, finished: bool, sent: u64, now: Instant) -> Look {
        self.next_look = now + self.pause;
        let pause_max = if finished { ACK_PAUSE_MAX } else { PAUSE_MAX };
        self.pause = (self.pause * 2).min(pause_max);
        let before = std::mem::take(&mut self.unacknowledged);
        match link.peer_after_fin() {
            PeerAfterFin::Reset => {
                let answers_us = self.wrote || before > 0 || now < self.at + PROBED_AFTER;
                return Look::Over {
                    cut: sent > 0 && answers_us,
                };
            }
            // Of what it has not acknowledged by now it takes nothing more.
            PeerAfterFin::Closed => {
                let left = unacknowledged(link);
                return Look::Over {
                    cut: self.wrote && left > 0,
                };
            }
            PeerAfterFin::MayRead => {}
        }
        if !finished {
            return Look::Wait;
        }
        self.unacknowledged = unacknowledged(link);
        match self.unacknowledged {
            0 => Look::Over { cut: false },
            left if left < before => Look::Progress,
            _ => Look::Wait,
        }
    }
}

/// Returns the number of bytes that the peer's kernel has not acknowledged.
fn unacknowledged(link: &Link) -> u64 {
    link.send_queue().map_or(0, |queue| queue.unacknowledged)
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        net::{Shutdown, TcpListener, TcpStream},
        os::unix::net::UnixStream,
    };

    use socket2::SockRef;

    use super::*;

    /// A link whose peer has reset the connection, and the state after its FIN at `now`.
    fn reset_by_the_peer(now: Instant) -> (Link, AfterFin) {
        let (ours, peer) = UnixStream::pair().unwrap();
        (&ours).write_all(b"unread").unwrap();
        ours.set_nonblocking(true).unwrap();
        let link = Link::unix(tokio::net::UnixStream::from_std(ours).unwrap(), None);
        let after_fin = AfterFin::new(&link, now);
        drop(peer);
        (link, after_fin)
    }

    #[tokio::test]
    async fn reset_that_may_answer_a_probe_of_the_kernel_cuts_nothing() {
        let now = Instant::now();
        for (later, wrote, cut) in [
            (Duration::ZERO, false, true),
            (PROBED_AFTER, false, false),
            (PROBED_AFTER, true, true),
        ] {
            let (link, mut after_fin) = reset_by_the_peer(now);
            if wrote {
                after_fin.note_write(now);
            }
            let look = after_fin.look(&link, false, 6, now + later);
            assert_eq!(look, Look::Over { cut }, "{later:?} {wrote}");
        }
    }

    #[tokio::test]
    async fn kernel_probes_a_tcp_peer_after_its_fin() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (peer, _) = listener.accept().unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        let same = ours.try_clone().unwrap();
        ours.set_nonblocking(true).unwrap();
        let link = Link::tcp(tokio::net::TcpStream::from_std(ours).unwrap(), None);
        assert!(!SockRef::from(&same).keepalive().unwrap());
        AfterFin::new(&link, Instant::now());
        assert!(SockRef::from(&same).keepalive().unwrap());
        // Later than a reset that answers our bytes.
        assert!(SockRef::from(&same).tcp_keepalive_time().unwrap() > PROBED_AFTER);
    }
}
