//! Without a person: what is said verbatim to the peer, the peer's bytes and nothing else to standard output.

use std::{cell::Cell, future::Future, io, sync::Arc, thread, time::Duration};

use echoic_client::{
    ClientCommand, ClientEvent, CloseMode, ConversationSummary, Observer, converse_observed,
};
use echoic_wire::Link;
use tokio::{
    select,
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    args::Plan,
    expect::Watcher,
    speech::{Expecting, Said, speak},
    visible::Output,
};

/// Reads that may wait to be sent, and to be written. With what the loop itself holds, that bounds the memory.
const QUEUE: usize = 2;

/// Silence after our end before a peer that is not listened to is left: time for what we said to arrive.
pub(super) const SEND_ONLY_LINGER: Duration = Duration::from_millis(100);

/// For a reply that has come to be compared with what was expected.
const SETTLE_WITHIN: Duration = Duration::from_millis(100);

/// What became of it.
pub(super) struct Piped {
    pub(super) conversation: ConversationSummary,
    /// Our own input or output failed; a reader of our output that has gone (`| head`) is no failure.
    pub(super) trouble: Option<Trouble>,
    /// Whether what was expected came; none if nothing was.
    pub(super) met: Option<bool>,
    /// A signal asked us to stop.
    pub(super) interrupted: bool,
}

/// Which of our own ends failed.
pub(super) enum Trouble {
    Input(io::Error),
    Output(io::Error),
}

/// Talks until the peer, the waits, a met expectation or `stop` end it. `watch` is told of what goes over the wire.
pub(super) async fn piped(
    link: Link,
    plan: &Plan,
    watch: impl Observer,
    stop: impl Future<Output = ()>,
) -> Piped {
    let (say, says) = mpsc::channel(QUEUE);
    let (news, heard) = mpsc::channel(QUEUE);
    let expecting = plan.expect.clone().map(|expected| Expecting {
        watcher: Arc::new(Watcher::new(expected)),
        within: plan.connect_within,
    });
    let expects = expecting.is_some();
    let patience = if expects {
        SETTLE_WITHIN
    } else {
        Duration::ZERO
    };
    let watcher = expecting
        .as_ref()
        .map(|expecting| Arc::clone(&expecting.watcher));
    let written = write_apart(heard, watcher, plan.send_only);
    let held: Option<mpsc::Sender<ClientCommand>> = (plan.hold || expects).then(|| say.clone());
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
    let speech = plan.speech.clone();
    let mut speaking = tokio::spawn(async move {
        let said = speak(speech, expecting, say).await;
        if matches!(said, Said::Met | Said::NotMet | Said::Broken(_)) {
            // The conversation may be over already.
            let _ = leave.send(CloseMode::Graceful);
        }
        said
    });
    let waits = plan.waits.clone();
    let conversation =
        converse_observed(link, plan.frames, says, news, leaving, waits, watch).await;
    drop(held);
    // Nothing more can come, so it ends once what came is written; how long that takes is our reader's affair.
    let written = written.await.unwrap_or(Ok(()));
    // What was written last may be what was expected, and whoever waits for it is to see it.
    let said = timeout(patience, &mut speaking).await;
    speaking.abort();
    let said = said.ok().and_then(Result::ok);
    let output = written
        .err()
        .filter(|error| error.kind() != io::ErrorKind::BrokenPipe)
        .map(Trouble::Output);
    let met = expects.then_some(matches!(said, Some(Said::Met)));
    let input = match said {
        Some(Said::Broken(error)) => Some(Trouble::Input(error)),
        _ => None,
    };
    Piped {
        conversation,
        trouble: output.or(input),
        met,
        interrupted: interrupted.get(),
    }
}

/// Writes it on a thread of its own, since standard output may take its time.
fn write_apart(
    heard: mpsc::Receiver<ClientEvent>,
    watcher: Option<Arc<Watcher>>,
    discards: bool,
) -> oneshot::Receiver<io::Result<()>> {
    let (wrote, written) = oneshot::channel();
    thread::spawn(move || {
        // Nobody waits for it only if we are done.
        let _ = wrote.send(write_all(heard, watcher.as_deref(), discards));
    });
    written
}

/// Each read of the peer is written at once.
fn write_all(
    mut heard: mpsc::Receiver<ClientEvent>,
    watcher: Option<&Watcher>,
    discards: bool,
) -> io::Result<()> {
    let mut output = Output::standard();
    while let Some(news) = heard.blocking_recv() {
        if let ClientEvent::Received { bytes, .. } = news {
            if !discards {
                output.read(&bytes)?;
            }
            if let Some(watcher) = watcher {
                watcher.heard(&bytes);
            }
        }
    }
    output.end()
}
