//! `chargen`: characters without end (RFC 864).

use std::{future::poll_fn, pin::pin, task::Poll};

use echoic_core::service::{
    BoxFuture, Handler, Heard, Peer, Said, SaidMessage, Service, ServiceError, SpawnedHandler,
};

/// Characters of a line, without its end.
const LINE: usize = 72;

/// The printable characters of ASCII, from the space on.
const FIRST: u8 = b' ';
const COUNT: usize = 95;

/// Lines said at a time.
const BLOCK: usize = 64;

/// Says the pattern of RFC 864 for as long as the peer reads.
#[derive(Debug)]
pub(crate) struct Chargen;

impl Service for Chargen {
    fn name(&self) -> &'static str {
        "chargen"
    }

    fn handler(&self, _: &Peer) -> Handler {
        Handler::Spawned(Box::new(Self))
    }

    fn amplifies(&self) -> bool {
        true
    }
}

impl SpawnedHandler for Chargen {
    /// Speaks whether or not it hears anything, and stops when the peer has said its last or is gone.
    fn run(
        self: Box<Self>,
        mut heard: Heard,
        mut said: Said,
    ) -> BoxFuture<'static, Result<(), ServiceError>> {
        Box::pin(async move {
            let hearing = async { while heard.next().await.is_some() {} };
            let speaking = async {
                let mut line = 0;
                loop {
                    let body: Vec<u8> = (line..line + BLOCK).flat_map(pattern).collect();
                    line = (line + BLOCK) % COUNT;
                    if said
                        .say(SaidMessage {
                            in_answer_to: None,
                            body,
                        })
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
            };
            either(hearing, speaking).await;
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
