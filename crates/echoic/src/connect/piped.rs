//! `connect` without a prompt: sends the input verbatim, and writes the received bytes and nothing else to standard output.

use std::{
    cell::Cell,
    future::Future,
    io::{self, IsTerminal},
    sync::Arc,
    thread,
    time::Duration,
};

use echoic_client::{
    ClientCommand, ClientEvent, CloseMode, ConversationSummary, Counts, Ending, Observer,
    ReplySearch, converse_observed,
};
use echoic_wire::Link;
use tokio::{
    select,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    args::Plan,
    expect::Matcher,
    input::{Expecting, InputEnd, InputSource, has_unread, send_input, stop_taking},
    output::Output,
    reader,
};
use crate::term;

/// Capacity of the queues between input, connection and output, in reads. With the buffers of the loop it bounds memory.
const QUEUE: usize = 2;

/// Time of silence after which `--send-only` leaves once the sent bytes have arrived.
pub(super) const SEND_ONLY_SETTLE: Duration = Duration::from_millis(100);

/// Time at the end for received bytes to be compared with the expectation.
const SETTLE_WITHIN: Duration = Duration::from_millis(100);

/// Time for piped input to end after the peer has closed, so that one that is about to end counts as sent to its end. What
/// comes instead, nobody reads; if neither comes, the input counts as unfinished.
const INPUT_WITHIN: Duration = Duration::from_secs(1);

/// Longest time to send input that is there already, once the reader of our output has left.
const LAST_INPUT_WITHIN: Duration = Duration::from_secs(1);

/// Interval between looks whether input is there.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The result of a connection without a prompt.
pub(super) struct PipedResult {
    pub(super) conversation: ConversationSummary,
    /// Standard input or output failed. A closed pipe at standard output (`| head`) is not an error.
    pub(super) local_error: Option<LocalError>,
    /// Whether the reply met `--expect`; `None` without it.
    pub(super) met: Option<bool>,
    /// A signal stopped it.
    pub(super) interrupted: bool,
    /// What is known of input that was not sent.
    pub(super) input_left: InputLeft,
}

/// Input that was not sent, apart from bytes that the conversation counts as unsent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InputLeft {
    /// None: it was read to its end, or it is a terminal without a typed line.
    Nothing,
    /// There is more.
    More,
    /// It has not ended, and whether more would have come is not known.
    Open,
}

/// The standard stream that failed.
pub(super) enum LocalError {
    Input(io::Error),
    Output(io::Error),
}

/// Runs the connection until the peer, a timeout, the expectation, the reader of the output or `stop` ends it. `watch`
/// observes the traffic.
pub(super) async fn piped(
    link: Link,
    plan: &Plan,
    watch: impl Observer,
    stop: impl Future<Output = ()>,
) -> PipedResult {
    let (commands, queue) = mpsc::channel(QUEUE);
    let (events, received) = mpsc::channel(QUEUE);
    let matcher = matcher(plan).map(Arc::new);
    let (answered, all_answered) = oneshot::channel();
    let sink = Sink {
        matcher: matcher.clone(),
        discard: plan.send_only,
        answered: datagrams_to_answer(plan).map(|total| (total, answered)),
    };
    let written = spawn_writer(received, sink);
    let keep_open: Option<mpsc::Sender<ClientCommand>> =
        (plan.hold || matcher.is_some()).then(|| commands.clone());
    let (leave, leaves) = oneshot::channel();
    let (interrupted, reader_left) = (Cell::new(false), Cell::new(false));
    let watches_reader = !plan.send_only && matcher.is_none();
    let leaving = async {
        select! {
            Ok(how) = leaves => how,
            Ok(()) = all_answered => CloseMode::Graceful,
            () = stop => {
                interrupted.set(true);
                CloseMode::Graceful
            }
            () = reader_has_left(), if watches_reader => {
                reader_left.set(true);
                CloseMode::Graceful
            }
        }
    };
    let sending = spawn_sender(plan, matcher.clone(), commands, leave);
    let timeouts = plan.timeouts.clone();
    let mut conversation =
        converse_observed(link, plan.frames, queue, events, leaving, timeouts, watch).await;
    if reader_left.get() && matches!(conversation.ending, Ending::ClosedByUs) {
        conversation.ending = Ending::OutputClosed;
    }
    drop(keep_open);
    // No more bytes can arrive, so the writer ends once its queue is written; the reader of our output sets the pace.
    let written = written.await.unwrap_or(Ok(()));
    if let (Some(matcher), Ending::PeerClosed) = (&matcher, &conversation.ending) {
        matcher.finish();
    }
    let end = end_of_sending(sending, settle_within(plan, &conversation)).await;
    let output = written
        .err()
        .filter(|error| error.kind() != io::ErrorKind::BrokenPipe)
        .map(LocalError::Output);
    let met = matcher.map(|_| matches!(end, Some(InputEnd::Met)));
    let input_left = input_left(&plan.input, end.as_ref());
    let input = match end {
        Some(InputEnd::Failed(error)) => Some(LocalError::Input(error)),
        _ => None,
    };
    PipedResult {
        conversation,
        local_error: output.or(input),
        met,
        interrupted: interrupted.get(),
        input_left,
    }
}

/// Waits for the end of sending, and then has nothing more taken from standard input. `None` means that it was still being
/// read.
async fn end_of_sending(mut sending: JoinHandle<InputEnd>, within: Duration) -> Option<InputEnd> {
    let mut end = timeout(within, &mut sending).await;
    if end.is_err() && !stop_taking() {
        end = timeout(SETTLE_WITHIN, &mut sending).await;
    }
    sending.abort();
    end.ok().and_then(Result::ok)
}

/// Returns what is left of the input after `end`; `None` means that it was still being read.
fn input_left(input: &InputSource, end: Option<&InputEnd>) -> InputLeft {
    match (input, end) {
        (_, Some(InputEnd::Lost)) => InputLeft::More,
        (InputSource::Stdin | InputSource::StdinLines(_), None) => {
            if has_unread() {
                InputLeft::More
            } else if io::stdin().is_terminal() {
                InputLeft::Nothing
            } else {
                InputLeft::Open
            }
        }
        _ => InputLeft::Nothing,
    }
}

/// Returns the search for the expectation of the plan, if it has one.
fn matcher(plan: &Plan) -> Option<Matcher> {
    let expected = plan.expect.clone()?;
    let search = if plan.datagrams {
        ReplySearch::of_datagrams(expected)
    } else {
        ReplySearch::of_stream(expected, plan.frames.inbound)
    };
    Some(Matcher::new(search))
}

/// Returns how long to wait for the end of sending once the conversation has ended.
fn settle_within(plan: &Plan, conversation: &ConversationSummary) -> Duration {
    if plan.expect.is_some() {
        // The last bytes may meet the expectation.
        return SETTLE_WITHIN;
    }
    let is_closed = matches!(conversation.ending, Ending::PeerClosed)
        && conversation.unsent == 0
        && !conversation.upload_cut;
    match plan.input {
        InputSource::Stdin if is_closed && !io::stdin().is_terminal() => INPUT_WITHIN,
        _ if is_closed => SETTLE_WITHIN,
        _ => Duration::ZERO,
    }
}

/// Sends the input in a task, which requests the end with `leave` if the expectation or an error ends it.
fn spawn_sender(
    plan: &Plan,
    matcher: Option<Arc<Matcher>>,
    commands: mpsc::Sender<ClientCommand>,
    leave: oneshot::Sender<CloseMode>,
) -> JoinHandle<InputEnd> {
    let input = plan.input.clone();
    let within = plan.connect_within;
    let expecting = matcher.map(|matcher| Expecting { matcher, within });
    let holds = plan.hold.then(|| commands.clone());
    tokio::spawn(async move {
        if expecting.is_some() {
            // After the peer's FIN no reply can meet the expectation.
            let _ = commands.send(ClientCommand::Hold).await;
        }
        let end = send_input(input, expecting, commands).await;
        if let (InputEnd::Sent, Some(holds)) = (&end, holds) {
            let _ = holds.send(ClientCommand::Hold).await;
        }
        if matches!(end, InputEnd::Met | InputEnd::NotMet | InputEnd::Failed(_)) {
            // The receiver is gone if the connection has ended already.
            let _ = leave.send(CloseMode::Graceful);
        }
        end
    })
}

/// Waits until the reader of our output has left, and the input that was there by then is taken.
async fn reader_has_left() {
    reader::left().await;
    let taken = async {
        loop {
            sleep(LOOK_EVERY).await;
            if !has_unread() {
                break;
            }
        }
    };
    let _ = timeout(LAST_INPUT_WITHIN, taken).await;
}

/// Returns the number of datagrams whose replies end the conversation: those of `--send`.
fn datagrams_to_answer(plan: &Plan) -> Option<u64> {
    match &plan.input {
        InputSource::Rounds(rounds) if plan.datagrams && !plan.hold && plan.expect.is_none() => {
            rounds.total()
        }
        _ => None,
    }
}

/// Where received bytes go.
struct Sink {
    matcher: Option<Arc<Matcher>>,
    /// Write nothing.
    discard: bool,
    /// To be told once this many datagrams are sent and answered.
    answered: Option<(u64, oneshot::Sender<()>)>,
}

/// Starts a thread that writes received bytes to standard output, since that may block.
fn spawn_writer(
    received: mpsc::Receiver<ClientEvent>,
    sink: Sink,
) -> oneshot::Receiver<io::Result<()>> {
    let (wrote, written) = oneshot::channel();
    thread::spawn(move || {
        // The receiver is gone only if the program is ending.
        let _ = wrote.send(write_all(received, sink));
    });
    written
}

/// Writes the bytes of each read at once.
fn write_all(mut received: mpsc::Receiver<ClientEvent>, mut sink: Sink) -> io::Result<()> {
    let mut output = Output::standard();
    while let Some(event) = received.blocking_recv() {
        match event {
            ClientEvent::Received { bytes, counts, .. } => {
                if !sink.discard {
                    sink.write(&mut output, &bytes)?;
                }
                if let Some(matcher) = &sink.matcher {
                    matcher.push(&bytes);
                }
                sink.note(&counts);
            }
            ClientEvent::Sent { counts, .. } => sink.note(&counts),
            ClientEvent::HalfClosed => {
                if io::stdin().is_terminal() {
                    term::note(
                        "echoic: the peer has ended its side (FIN) and may still read; Ctrl-D ends yours",
                    );
                }
            }
        }
    }
    if sink.discard {
        return Ok(());
    }
    output.end()
}

impl Sink {
    /// Writes received bytes. With an expectation the exit code is the result, so it does not need a reader.
    fn write<W: io::Write>(&mut self, output: &mut Output<W>, bytes: &[u8]) -> io::Result<()> {
        match output.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe && self.matcher.is_some() => {
                self.discard = true;
                Ok(())
            }
            written => written,
        }
    }

    fn note(&mut self, counts: &Counts) {
        let least = counts.sent.chunks.min(counts.received.chunks);
        if let Some((_, answered)) = self.answered.take_if(|(total, _)| least >= *total) {
            // The receiver is gone if the conversation is ending already.
            let _ = answered.send(());
        }
    }
}
