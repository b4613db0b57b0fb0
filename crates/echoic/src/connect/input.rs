//! The input of `connect` without a prompt: standard input, or the messages of `--send`.

use std::{
    io::{self, BufRead, BufReader, Read},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread,
    time::Duration,
};

use echoic_client::{ClientCommand, DEADLINE_LATE, READ_BYTES_MAX};
use rustix::io::ioctl_fionread;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval, timeout, timeout_at},
};

use super::expect::Matcher;
use crate::stdio;

/// Where the input comes from.
#[derive(Clone, Debug)]
pub(super) enum InputSource {
    /// Standard input, unchanged.
    Stdin,
    /// Each line of standard input as a datagram, with these bytes instead of its newline.
    StdinLines(&'static [u8]),
    /// These messages, already framed.
    Rounds(Rounds),
    /// No input.
    None,
}

/// Returns whether standard input has bytes now. False for devices that do not tell.
pub(super) fn has_unread() -> bool {
    ioctl_fionread(io::stdin()).is_ok_and(|bytes| bytes > 0)
}

/// Where standard input is between the kernel and the queue, so that no moment hides bytes from the end of a conversation.
static TAKING: AtomicU8 = AtomicU8::new(NOTHING);
/// The reading thread holds nothing.
const NOTHING: u8 = 0;
/// The reading thread is about to take bytes, or has taken some that are not in the queue.
const BYTES: u8 = 1;
/// Nothing is taken any more.
const NO_MORE: u8 = 2;

/// Has nothing taken from standard input any more: what comes stays there, for the shell. Returns false if bytes were being
/// taken; then the end of the sender tells what became of them.
pub(super) fn stop_taking() -> bool {
    TAKING
        .compare_exchange(NOTHING, NO_MORE, Ordering::SeqCst, Ordering::SeqCst)
        .is_ok()
}

/// Waits until standard input has bytes or has ended. Returns false if nothing is to be taken any more.
fn wait_to_take(input: &stdio::Input) -> io::Result<bool> {
    input.wait()?;
    Ok(TAKING
        .compare_exchange(NOTHING, BYTES, Ordering::SeqCst, Ordering::SeqCst)
        .is_ok())
}

/// Notes that all bytes taken are in the queue.
fn handed_over() {
    let _ = TAKING.compare_exchange(BYTES, NOTHING, Ordering::SeqCst, Ordering::SeqCst);
}

/// Messages that are sent in rounds.
#[derive(Clone, Debug)]
pub(super) struct Rounds {
    pub(super) messages: Vec<Vec<u8>>,
    /// Number of rounds; `None` for no end.
    pub(super) count: Option<u64>,
    /// Time from the start of one round to the start of the next; `None` for no pause.
    pub(super) every: Option<Duration>,
}

/// Why sending ended.
#[derive(Debug)]
pub(super) enum InputEnd {
    /// All input was sent, and there was no expectation.
    Sent,
    /// Every expected reply arrived.
    Met,
    /// An expected reply did not arrive in time.
    NotMet,
    /// Reading standard input failed.
    Failed(io::Error),
    /// The connection ended first, and with it rounds that have no end.
    Disconnected,
    /// The connection ended before all input was sent.
    Lost,
}

/// The expectation, and the time limit for each reply.
#[derive(Clone)]
pub(super) struct Expecting {
    pub(super) matcher: Arc<Matcher>,
    pub(super) within: Duration,
}

impl Rounds {
    /// Returns the number of messages in all rounds, if there is one.
    pub(super) fn total(&self) -> Option<u64> {
        self.count?.checked_mul(self.messages.len() as u64)
    }
}

impl Expecting {
    async fn wait(&self) -> InputEnd {
        let due = Instant::now() + self.within;
        let mut met = timeout_at(due, self.matcher.matched()).await;
        if met.is_err() && due.elapsed() >= DEADLINE_LATE {
            // This process did not run when the time was over. A reply that arrived in time is read now.
            met = timeout(DEADLINE_LATE, self.matcher.matched()).await;
        }
        match met {
            Ok(()) => InputEnd::Met,
            Err(_) => InputEnd::NotMet,
        }
    }
}

/// Sends the input. Dropping `commands` at the end shuts down the sending side.
pub(super) async fn send_input(
    source: InputSource,
    expecting: Option<Expecting>,
    commands: mpsc::Sender<ClientCommand>,
) -> InputEnd {
    match (source, expecting) {
        (InputSource::Stdin, None) => read_all(commands, read_input).await,
        (InputSource::StdinLines(end), None) => {
            read_all(commands, move |commands| read_lines(commands, end)).await
        }
        (InputSource::Stdin, Some(expecting)) => {
            until_met(read_all(commands, read_input), expecting).await
        }
        (InputSource::StdinLines(end), Some(expecting)) => {
            until_met(
                read_all(commands, move |commands| read_lines(commands, end)),
                expecting,
            )
            .await
        }
        (InputSource::Rounds(rounds), expecting) => send_rounds(rounds, expecting, &commands).await,
        (InputSource::None, Some(expecting)) => expecting.wait().await,
        (InputSource::None, None) => InputEnd::Sent,
    }
}

/// Waits for the expectation while `reading` sends input, since the reply may match before the input ends.
async fn until_met(reading: impl Future<Output = InputEnd>, expecting: Expecting) -> InputEnd {
    let end = tokio::select! {
        () = expecting.matcher.matched() => return InputEnd::Met,
        end = reading => end,
    };
    match end {
        InputEnd::Sent => expecting.wait().await,
        end => end,
    }
}

async fn send_rounds(
    rounds: Rounds,
    expecting: Option<Expecting>,
    commands: &mpsc::Sender<ClientCommand>,
) -> InputEnd {
    let Rounds {
        messages,
        count,
        every,
    } = rounds;
    let disconnected = || match count {
        Some(_) => InputEnd::Lost,
        None => InputEnd::Disconnected,
    };
    let mut ticks = every.map(|every| {
        let mut ticks = interval(every.max(Duration::from_nanos(1)));
        // After a slow round, keep the interval instead of catching up.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    });
    let mut round = 0;
    while count.is_none_or(|count| round < count) {
        if let Some(ticks) = &mut ticks {
            tokio::select! {
                _ = ticks.tick() => {}
                () = commands.closed() => return disconnected(),
            }
        }
        if round > 0
            && let Some(expecting) = &expecting
        {
            expecting.matcher.clear();
        }
        for message in &messages {
            if commands
                .send(ClientCommand::Send(message.clone()))
                .await
                .is_err()
            {
                return disconnected();
            }
        }
        if let Some(expecting) = &expecting {
            let met = expecting.wait().await;
            if !matches!(met, InputEnd::Met) {
                return met;
            }
        }
        round += 1;
    }
    if expecting.is_some() {
        InputEnd::Met
    } else {
        InputEnd::Sent
    }
}

/// Reads standard input on a thread until it or the connection ends. If the connection ends first, the thread stays blocked
/// and ends with the process.
async fn read_all(
    commands: mpsc::Sender<ClientCommand>,
    read: impl FnOnce(&mpsc::Sender<ClientCommand>) -> io::Result<InputEnd> + Send + 'static,
) -> InputEnd {
    let (finished, result) = oneshot::channel();
    thread::spawn(move || {
        let ended = read(&commands);
        // The receiver is gone if the connection has ended.
        let _ = finished.send(ended);
    });
    match result.await {
        Ok(Ok(end)) => end,
        Ok(Err(error)) => InputEnd::Failed(error),
        Err(_) => InputEnd::Disconnected,
    }
}

fn read_input(commands: &mpsc::Sender<ClientCommand>) -> io::Result<InputEnd> {
    let mut input = stdio::input();
    let mut buffer = vec![0; READ_BYTES_MAX];
    loop {
        if !wait_to_take(&input)? {
            return Ok(InputEnd::Disconnected);
        }
        let n = match input.read(&mut buffer) {
            Ok(0) => return Ok(InputEnd::Sent),
            Ok(n) => n,
            Err(error) => return Err(error),
        };
        if commands
            .blocking_send(ClientCommand::Send(buffer[..n].to_vec()))
            .is_err()
        {
            return Ok(InputEnd::Lost);
        }
        handed_over();
    }
}

/// Reads lines. A line longer than the largest datagram is passed on, so that the send fails with the system's error.
fn read_lines(commands: &mpsc::Sender<ClientCommand>, end: &[u8]) -> io::Result<InputEnd> {
    let mut input = BufReader::new(stdio::input());
    loop {
        if input.buffer().is_empty() {
            handed_over();
            if !wait_to_take(input.get_ref())? {
                return Ok(InputEnd::Disconnected);
            }
        }
        let mut line = Vec::new();
        let room = READ_BYTES_MAX as u64;
        if input.by_ref().take(room).read_until(b'\n', &mut line)? == 0 {
            return Ok(InputEnd::Sent);
        }
        if line.ends_with(b"\n") {
            line.pop();
        }
        line.extend_from_slice(end);
        if commands.blocking_send(ClientCommand::Send(line)).is_err() {
            return Ok(InputEnd::Lost);
        }
    }
}
