//! The `chargen` service: an endless stream of characters (RFC 864).

use std::{future::poll_fn, pin::pin, task::Poll};

use echoic_core::{
    framing::FramingPair,
    message::Replies,
    service::{
        BoxFuture, Handler, Peer, ReplySender, RequestReceiver, Service, ServiceError,
        SpawnedHandler,
    },
};

/// Characters of a line, without its terminator.
const LINE: usize = 72;

/// The printable characters of ASCII, from the space on.
const FIRST: u8 = b' ';
const COUNT: usize = 95;

/// Lines sent at a time.
const BLOCK: usize = 64;

/// Sends the pattern of RFC 864 for as long as the peer reads.
#[derive(Debug)]
pub(crate) struct Chargen;

/// Handler of one conversation. Under a framing with a length, a block of lines is a message.
struct ChargenHandler {
    framing: FramingPair,
}

impl Service for Chargen {
    fn name(&self) -> &'static str {
        "chargen"
    }

    fn handler(&self, peer: &Peer) -> Handler {
        Handler::Spawned(Box::new(ChargenHandler {
            framing: peer.framing,
        }))
    }

    fn amplifies(&self) -> bool {
        true
    }
}

impl SpawnedHandler for ChargenHandler {
    /// Sends the pattern and discards what it receives. Ends when the peer ends its half of the stream or is gone.
    fn run(
        self: Box<Self>,
        mut requests: RequestReceiver,
        mut replies: ReplySender,
    ) -> BoxFuture<'static, Result<(), ServiceError>> {
        Box::pin(async move {
            let discarding = async { while let Ok(Some(_)) = requests.recv().await {} };
            let sending = async {
                let (mut line, mut out) = (0, Replies::default());
                loop {
                    out.clear(self.framing);
                    out.push_with(|bytes| bytes.extend((line..line + BLOCK).flat_map(pattern)));
                    line = (line + BLOCK) % COUNT;
                    if replies.send_replies(&mut out).await.is_err() {
                        return;
                    }
                }
            };
            either(discarding, sending).await;
            Ok(())
        })
    }
}

/// The `n`-th line of the pattern.
fn pattern(n: usize) -> impl Iterator<Item = u8> {
    let at = move |i: usize| FIRST + ((n + i) % COUNT) as u8;
    (0..LINE).map(at).chain(*b"\r\n")
}

/// Waits for whichever is done first.
async fn either(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    poll_fn(|cx| {
        if one.as_mut().poll(cx).is_ready() || other.as_mut().poll(cx).is_ready() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_shifts_by_one_character_per_line() {
        let line = |n| String::from_utf8(pattern(n).collect()).unwrap();
        assert!(line(0).starts_with(" !\"#$%&'()"));
        assert_eq!(line(0).len(), 74);
        assert_eq!(line(1)[..71], line(0)[1..72]);
        assert_eq!(line(95), line(0));
    }
}
