//! Asks what answers behind an address: a proxy may accept connections before its service is up.

use std::{collections::VecDeque, future::poll_fn, io, task::Poll, time::Duration};

use echoic_core::{
    endpoint::{Endpoint, Shape},
    event::Address,
    framing::Framing,
};
use echoic_wire::{DialError, DialOptions, Link, dial};
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    options::ProbeOptions,
    report::{Attempt, AttemptOutcome, Report},
};
use crate::{Expected, ReplySearch};

/// What to send, and the answer that shows that the service is up.
#[derive(Clone, Debug)]
pub struct ServiceCheck {
    /// Messages to send, in this order; on a datagram socket each is a datagram.
    pub sends: Vec<Vec<u8>>,
    /// What the answer must contain.
    pub expected: Expected,
}

/// The answer to a [`ServiceCheck`].
#[derive(Debug)]
pub struct ServiceAnswer {
    /// The expectation, as it was written.
    pub expected: String,
    /// [`Expected::expression_hint`].
    pub hint: String,
    /// Why there was no such answer; `None` if there was.
    pub failure: Option<ServiceFailure>,
    /// The beginning of what was received.
    pub received: Vec<u8>,
    /// Number of bytes received.
    pub bytes: usize,
    /// Time from the connection to the answer, or to its failure.
    pub took: Duration,
}

/// Why the expected answer did not arrive.
#[derive(Debug)]
pub enum ServiceFailure {
    /// The peer ended its stream first.
    Closed,
    /// The connection was reset, or another error of the network.
    Failed(io::Error),
    /// Another answer arrived, and nothing more for this time.
    Other(Duration),
    /// The time limit passed.
    TimedOut,
}

/// Bytes of an answer that a report has.
const RECEIVED_MAX: usize = 64;

/// Size of the buffer: any datagram.
const BUFFER_BYTES: usize = 64 << 10;

impl ServiceCheck {
    /// Asks over `link`, until `deadline`; once another answer has come, only until nothing has come for `pause`.
    pub(super) async fn ask(
        &self,
        mut link: Link,
        deadline: Instant,
        pause: Option<Duration>,
    ) -> ServiceAnswer {
        let began = Instant::now();
        let mut answer = ServiceAnswer {
            expected: self.expected.to_string(),
            hint: self.expected.expression_hint(),
            failure: None,
            received: Vec::new(),
            bytes: 0,
            took: Duration::ZERO,
        };
        let exchange = self.exchange(&mut link, pause, &mut answer);
        let result = timeout_at(deadline, exchange).await;
        answer.failure = result.unwrap_or(Some(ServiceFailure::TimedOut));
        answer.took = began.elapsed();
        answer
    }

    async fn exchange(
        &self,
        link: &mut Link,
        pause: Option<Duration>,
        answer: &mut ServiceAnswer,
    ) -> Option<ServiceFailure> {
        let is_stream = link.shape() == Shape::Stream;
        let mut search = if is_stream {
            ReplySearch::of_stream(self.expected.clone(), Framing::Chunk)
        } else {
            ReplySearch::of_datagrams(self.expected.clone())
        };
        let mut unsent: VecDeque<&[u8]> = self.sends.iter().map(Vec::as_slice).collect();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let pause = pause.filter(|_| answer.bytes > 0);
            let received = receive(link, &mut unsent, &mut buffer);
            let received = match pause {
                None => received.await,
                Some(pause) => match timeout(pause, received).await {
                    Ok(received) => received,
                    Err(_) => return Some(ServiceFailure::Other(pause)),
                },
            };
            match received {
                Ok(0) if is_stream => {
                    search.finish();
                    return (!search.is_met()).then_some(ServiceFailure::Closed);
                }
                Ok(bytes) => {
                    let room = RECEIVED_MAX.saturating_sub(answer.received.len());
                    answer
                        .received
                        .extend_from_slice(&buffer[..bytes.min(room)]);
                    answer.bytes += bytes;
                    search.push(&buffer[..bytes]);
                }
                Err(error) => return Some(ServiceFailure::Failed(error)),
            }
            if search.is_met() {
                return None;
            }
        }
    }
}

/// Reads, and sends meanwhile: a peer may answer before it has read everything. An error of sending is not the end, since
/// the answer may have been sent before.
async fn receive(
    link: &mut Link,
    unsent: &mut VecDeque<&[u8]>,
    buffer: &mut [u8],
) -> io::Result<usize> {
    poll_fn(|cx| {
        while let Some(bytes) = unsent.front_mut() {
            match link.poll_write(cx, bytes) {
                Poll::Ready(Ok(sent)) if sent < bytes.len() => *bytes = &bytes[sent..],
                Poll::Ready(Ok(_)) => {
                    unsent.pop_front();
                }
                Poll::Ready(Err(_)) => unsent.clear(),
                Poll::Pending => break,
            }
        }
        link.poll_read(cx, buffer)
    })
    .await
}

/// Asks over a connection of its own, for endpoints whose addresses need no race.
pub(super) async fn dial_and_ask(
    endpoint: &Endpoint,
    check: &ServiceCheck,
    options: &ProbeOptions,
    began: Instant,
    report: &mut Report,
) {
    let dial_options = DialOptions {
        timeout: options.timeout,
        explain: options.explain.clone(),
        ..DialOptions::default()
    };
    let started = began.elapsed();
    let tried = match dial(endpoint, &dial_options).await {
        Ok(dialled) => {
            let (peer, local) = (dialled.peer, dialled.link.local());
            let (is_stream, connected) = (dialled.link.shape() == Shape::Stream, began.elapsed());
            let deadline = Instant::now() + options.timeout;
            let answer = check
                .ask(dialled.link, deadline, options.answer_pause)
                .await;
            let outcome = outcome(&answer, is_stream, local);
            let ended = if is_stream {
                connected
            } else {
                began.elapsed()
            };
            if !matches!(outcome, AttemptOutcome::Failed(_) | AttemptOutcome::Silent) {
                report.answer = Some(answer);
            }
            Some((peer, ended, outcome))
        }
        Err(DialError::TimedOut { attempts, .. }) => attempts
            .into_iter()
            .next()
            .map(|attempt| (attempt.address, began.elapsed(), AttemptOutcome::Silent)),
        Err(DialError::Refused { attempts, .. }) => attempts.into_iter().next().map(|attempt| {
            let failed = AttemptOutcome::Failed(attempt.error);
            (attempt.address, began.elapsed(), failed)
        }),
        Err(_) => None,
    };
    report
        .tries
        .extend(tried.map(|(address, ended, outcome)| Attempt {
            address,
            started,
            ended,
            outcome,
        }));
}

/// Returns how the attempt ended whose peer gave `answer`. Only an answer shows that a datagram arrived.
fn outcome(answer: &ServiceAnswer, is_stream: bool, local: Option<Address>) -> AttemptOutcome {
    match &answer.failure {
        _ if is_stream => AttemptOutcome::Connected { local, mss: None },
        _ if answer.bytes > 0 => AttemptOutcome::Replied {
            bytes: answer.bytes,
        },
        Some(ServiceFailure::Failed(error)) => AttemptOutcome::Failed(error.kind().into()),
        _ => AttemptOutcome::Silent,
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, net::Shutdown, os::unix::net::UnixStream};

    use super::*;

    #[tokio::test]
    async fn answer_of_a_peer_that_takes_no_request_counts() {
        let (ours, mut peer) = UnixStream::pair().unwrap();
        peer.write_all(b"ready\n").unwrap();
        peer.shutdown(Shutdown::Read).unwrap();
        ours.set_nonblocking(true).unwrap();
        let link = Link::unix(tokio::net::UnixStream::from_std(ours).unwrap(), None);
        let check = ServiceCheck {
            sends: vec![b"hello\n".to_vec()],
            expected: "ready".parse().unwrap(),
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        let answer = check.ask(link, deadline, None).await;
        assert!(answer.failure.is_none(), "{answer:?}");
    }
}
