//! The drain of a datagram socket: what has arrived is answered, what is queued is sent.

use std::{future::poll_fn, task::Poll};

use echoic_core::ending::CloseReason;
use tokio::time::Instant;

use super::{DatagramTask, concerns_one_peer, counts::add};

/// The least memory a datagram takes in the kernel's receive buffer, in bytes: bounds how many can be waiting there.
const KERNEL_BYTES_MIN: usize = 256;

impl DatagramTask {
    /// Answers what the kernel has received by now, and ends all conversations.
    pub(super) async fn drain_endpoint(&mut self) {
        let timers = self.context.timers.clone();
        let limit = self.context.drain_timeout;
        if timers.timeout(limit, self.finish()).await.is_err() {
            self.abandon_unsent(CloseReason::DrainTimeout);
        }
        self.report_drops();
        self.peers.end_all(CloseReason::EndpointDrained);
    }

    /// Answers what the kernel has received by now, and sends the queued replies.
    pub(super) async fn finish(&mut self) {
        // At most as many as can have been waiting: peers that keep sending do not prolong the drain.
        for _ in 0..=self.socket.receive_buffer_size() / KERNEL_BYTES_MIN {
            match self.socket.recv_now(&mut self.read_buffer) {
                Ok(received) => {
                    let mut received = Some(received);
                    poll_fn(|cx| {
                        received
                            .take()
                            .into_iter()
                            .for_each(|received| self.receive(cx, received));
                        Poll::Ready(())
                    })
                    .await;
                    if !self.outgoing.is_empty() && !self.may_receive_while_sending() {
                        self.flush().await;
                    }
                }
                Err(error) if concerns_one_peer(&error) => {}
                Err(_) => break,
            }
        }
        self.flush().await;
    }

    /// Sends the queued replies while at least one leaves within the write timeout. Waiting for a commit ends when the
    /// store fails or the drain timeout passes.
    async fn flush(&mut self) {
        let limit = self.context.rules.limits.write_timeout;
        let timers = self.context.timers.clone();
        loop {
            let since = self.outgoing.stalled_since();
            let until = since.unwrap_or_else(Instant::now) + limit;
            let flushed = timers.timeout_at(until, poll_fn(|cx| self.poll_send_unsent(cx)));
            if flushed.await.is_ok() {
                return;
            }
            let stalled = self.outgoing.stalled_since();
            if stalled.is_some_and(|since| since + limit <= Instant::now()) {
                return self.abandon_unsent(CloseReason::WriteTimeout);
            }
        }
    }

    /// Drops the queued replies and ends their conversations.
    pub(super) fn abandon_unsent(&mut self, reason: CloseReason) {
        for unsent in self.outgoing.drain() {
            add(&self.context.counts.unsent, 1);
            self.peers
                .end_conversation_of(&unsent.route, unsent.conversation, reason);
        }
    }
}
