//! `connect` without a prompt: sends the input verbatim, and writes the received bytes and nothing else to standard output.

use std::{cell::Cell, future::Future, io, sync::Arc, thread, time::Duration};

use echoic_client::{
    ClientCommand, ClientEvent, CloseMode, ConversationSummary, Ending, Observer, ReplySearch,
    converse_observed,
};
use echoic_wire::Link;
use tokio::{
    select,
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    args::Plan,
    expect::Matcher,
    input::{Expecting, InputEnd, send_input},
    output::Output,
};

/// Capacity of the queues between input, connection and output, in reads. With the buffers of the loop it bounds memory.
const QUEUE: usize = 2;

/// Time of silence after which `--send-only` leaves once the sent bytes have arrived.
pub(super) const SEND_ONLY_SETTLE: Duration = Duration::from_millis(100);

/// Time at the end for received bytes to be compared with the expectation.
const SETTLE_WITHIN: Duration = Duration::from_millis(100);

/// The result of a connection without a prompt.
pub(super) struct PipedResult {
    pub(super) conversation: ConversationSummary,
    /// Standard input or output failed. A closed pipe at standard output (`| head`) is not an error.
    pub(super) local_error: Option<LocalError>,
    /// Whether the reply met `--expect`; `None` without it.
    pub(super) met: Option<bool>,
    /// A signal stopped it.
    pub(super) interrupted: bool,
}

/// The standard stream that failed.
pub(super) enum LocalError {
    Input(io::Error),
    Output(io::Error),
}

/// Runs the connection until the peer, a timeout, the expectation or `stop` ends it. `watch` observes the traffic.
pub(super) async fn piped(
    link: Link,
    plan: &Plan,
    watch: impl Observer,
    stop: impl Future<Output = ()>,
) -> PipedResult {
    let (commands, queue) = mpsc::channel(QUEUE);
    let (events, received) = mpsc::channel(QUEUE);
    let expecting = expecting(plan);
    let expects = expecting.is_some();
    let settle = if expects {
        SETTLE_WITHIN
    } else {
        Duration::ZERO
    };
    let matcher = expecting
        .as_ref()
        .map(|expecting| Arc::clone(&expecting.matcher));
    let written = spawn_writer(received, matcher.clone(), plan.send_only);
    let keep_open: Option<mpsc::Sender<ClientCommand>> =
        (plan.hold || expects).then(|| commands.clone());
    let (leave, leaves) = oneshot::channel();
    let interrupted = Cell::new(false);
    let leaving = async {
        select! {
            Ok(how) = leaves => how,
            () = stop => {
                interrupted.set(true);
                CloseMode::Graceful
            }
        }
    };
    let input = plan.input.clone();
    let mut sending = tokio::spawn(async move {
        let end = send_input(input, expecting, commands).await;
        if matches!(end, InputEnd::Met | InputEnd::NotMet | InputEnd::Failed(_)) {
            // The receiver is gone if the connection has ended already.
            let _ = leave.send(CloseMode::Graceful);
        }
        end
    });
    let timeouts = plan.timeouts.clone();
    let conversation =
        converse_observed(link, plan.frames, queue, events, leaving, timeouts, watch).await;
    drop(keep_open);
    // No more bytes can arrive, so the writer ends once its queue is written; the reader of our output sets the pace.
    let written = written.await.unwrap_or(Ok(()));
    if let (Some(matcher), Ending::PeerClosed) = (&matcher, &conversation.ending) {
        matcher.finish();
    }
    // The last bytes may meet the expectation: give the sending task time to see them.
    let end = timeout(settle, &mut sending).await;
    sending.abort();
    let end = end.ok().and_then(Result::ok);
    let output = written
        .err()
        .filter(|error| error.kind() != io::ErrorKind::BrokenPipe)
        .map(LocalError::Output);
    let met = expects.then_some(matches!(end, Some(InputEnd::Met)));
    let input = match end {
        Some(InputEnd::Failed(error)) => Some(LocalError::Input(error)),
        _ => None,
    };
    PipedResult {
        conversation,
        local_error: output.or(input),
        met,
        interrupted: interrupted.get(),
    }
}

/// Returns the expectation of the plan, if it has one.
fn expecting(plan: &Plan) -> Option<Expecting> {
    let expected = plan.expect.clone()?;
    let search = if plan.datagrams {
        ReplySearch::of_datagrams(expected)
    } else {
        ReplySearch::of_stream(expected, plan.frames.inbound)
    };
    Some(Expecting {
        matcher: Arc::new(Matcher::new(search)),
        within: plan.connect_within,
    })
}

/// Starts a thread that writes received bytes to standard output, since that may block.
fn spawn_writer(
    received: mpsc::Receiver<ClientEvent>,
    matcher: Option<Arc<Matcher>>,
    discard: bool,
) -> oneshot::Receiver<io::Result<()>> {
    let (wrote, written) = oneshot::channel();
    thread::spawn(move || {
        // The receiver is gone only if the program is ending.
        let _ = wrote.send(write_all(received, matcher.as_deref(), discard));
    });
    written
}

/// Writes the bytes of each read at once.
fn write_all(
    mut received: mpsc::Receiver<ClientEvent>,
    matcher: Option<&Matcher>,
    discard: bool,
) -> io::Result<()> {
    let mut output = Output::standard();
    while let Some(event) = received.blocking_recv() {
        if let ClientEvent::Received { bytes, .. } = event {
            if !discard {
                output.write(&bytes)?;
            }
            if let Some(matcher) = matcher {
                matcher.push(&bytes);
            }
        }
    }
    output.end()
}
