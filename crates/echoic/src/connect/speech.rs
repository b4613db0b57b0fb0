//! What is said without a person: standard input, or what `--send` names, again and again.

use std::{
    io::{self, BufRead, Read},
    sync::Arc,
    thread,
    time::Duration,
};

use echoic_client::{ClientCommand, READ_BYTES_MAX};
use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval, timeout},
};

use super::expect::Watcher;

/// What is to be said.
#[derive(Clone, Debug)]
pub(super) enum Speech {
    /// Standard input, as it is.
    Input,
    /// Each line of standard input, with these bytes instead of its newline, as a datagram.
    Lines(&'static [u8]),
    /// These messages, as they are on the wire.
    Rounds(Rounds),
    /// Nothing.
    Silence,
}

/// Messages said in rounds.
#[derive(Clone, Debug)]
pub(super) struct Rounds {
    pub(super) messages: Vec<Vec<u8>>,
    /// How often; none is for ever.
    pub(super) count: Option<u64>,
    /// From the start of one round to that of the next; none is at once.
    pub(super) every: Option<Duration>,
}

/// How saying it ended.
#[derive(Debug)]
pub(super) enum Said {
    /// All of it was said; what is to happen then is for the others to say.
    All,
    /// What was expected came, each time.
    Met,
    /// What was expected did not come in time.
    NotMet,
    /// Standard input failed.
    Broken(io::Error),
    /// The conversation ended first.
    Over,
}

/// What is expected, and how long each reply may take.
#[derive(Clone)]
pub(super) struct Expecting {
    pub(super) watcher: Arc<Watcher>,
    pub(super) within: Duration,
}

impl Expecting {
    async fn met(&self) -> Said {
        match timeout(self.within, self.watcher.met()).await {
            Ok(()) => Said::Met,
            Err(_) => Said::NotMet,
        }
    }
}

/// Says it. Dropping `say` afterwards is the end of our half.
pub(super) async fn speak(
    speech: Speech,
    expecting: Option<Expecting>,
    say: mpsc::Sender<ClientCommand>,
) -> Said {
    match (speech, expecting) {
        (Speech::Input, None) => read_all(say, read_input).await,
        (Speech::Lines(end), None) => read_all(say, move |say| read_lines(say, end)).await,
        (Speech::Input, Some(expecting)) => until_met(read_all(say, read_input), expecting).await,
        (Speech::Lines(end), Some(expecting)) => {
            until_met(read_all(say, move |say| read_lines(say, end)), expecting).await
        }
        (Speech::Rounds(rounds), expecting) => in_rounds(rounds, expecting, &say).await,
        (Speech::Silence, Some(expecting)) => expecting.met().await,
        (Speech::Silence, None) => Said::All,
    }
}

/// A reply may be right before the input has ended.
async fn until_met(reading: impl Future<Output = Said>, expecting: Expecting) -> Said {
    let said = tokio::select! {
        () = expecting.watcher.met() => return Said::Met,
        said = reading => said,
    };
    match said {
        Said::All => expecting.met().await,
        said => said,
    }
}

async fn in_rounds(
    rounds: Rounds,
    expecting: Option<Expecting>,
    say: &mpsc::Sender<ClientCommand>,
) -> Said {
    let Rounds {
        messages,
        count,
        every,
    } = rounds;
    let mut ticks = every.map(|every| {
        let mut ticks = interval(every.max(Duration::from_nanos(1)));
        // A round that took too long does not make the next ones hurry.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    });
    let mut round = 0;
    while count.is_none_or(|count| round < count) {
        if let Some(ticks) = &mut ticks {
            tokio::select! {
                _ = ticks.tick() => {}
                () = say.closed() => return Said::Over,
            }
        }
        if round > 0
            && let Some(expecting) = &expecting
        {
            expecting.watcher.again();
        }
        for message in &messages {
            if say
                .send(ClientCommand::Send(message.clone()))
                .await
                .is_err()
            {
                return Said::Over;
            }
        }
        if let Some(expecting) = &expecting {
            let met = expecting.met().await;
            if !matches!(met, Said::Met) {
                return met;
            }
        }
        round += 1;
    }
    if expecting.is_some() {
        Said::Met
    } else {
        Said::All
    }
}

/// To the end of standard input, or of the conversation, on a thread of its own: if the conversation ends first, the
/// thread is left to block, and ends with the process.
async fn read_all(
    say: mpsc::Sender<ClientCommand>,
    read: impl FnOnce(&mpsc::Sender<ClientCommand>) -> io::Result<()> + Send + 'static,
) -> Said {
    let (tell, told) = oneshot::channel();
    thread::spawn(move || {
        let said = read(&say);
        // Nobody is there to be told only if the conversation is over.
        let _ = tell.send(said);
    });
    match told.await {
        Ok(Ok(())) => Said::All,
        Ok(Err(error)) => Said::Broken(error),
        Err(_) => Said::Over,
    }
}

fn read_input(say: &mpsc::Sender<ClientCommand>) -> io::Result<()> {
    let mut input = io::stdin().lock();
    let mut buffer = vec![0; READ_BYTES_MAX];
    loop {
        let n = match input.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if say
            .blocking_send(ClientCommand::Send(buffer[..n].to_vec()))
            .is_err()
        {
            return Ok(());
        }
    }
}

/// A line longer than any datagram can be goes out as it is, and the system says that it cannot.
fn read_lines(say: &mpsc::Sender<ClientCommand>, end: &[u8]) -> io::Result<()> {
    let mut input = io::stdin().lock();
    loop {
        let mut line = Vec::new();
        let room = READ_BYTES_MAX as u64;
        if input.by_ref().take(room).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.ends_with(b"\n") {
            line.pop();
        }
        line.extend_from_slice(end);
        if say.blocking_send(ClientCommand::Send(line)).is_err() {
            return Ok(());
        }
    }
}
