//! A call of the web console: connects as a client, sends messages one after the other, and collects their replies.

mod identify;
mod replies;

use std::{
    future::pending,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use echoic_client::{
    ClientCommand, CloseMode, ConversationSummary, Ending, Observer, Timeouts, WireEvent,
    converse_observed,
};
use echoic_core::{
    control::{CallReply, CallResult, ControlError},
    endpoint::{Endpoint, Host, HostPort, Shape},
    event::{Address, ConversationId},
    framing::FramingPair,
};
use echoic_recorder::Recorder;
use echoic_wire::{DialOptions, Link, dial};
use tokio::{
    select,
    sync::{Notify, mpsc, oneshot, watch},
    time::{sleep, timeout},
};

use self::{identify::Identify, replies::CollectedReplies};
use crate::{
    client_record::{self, ClientRecord},
    connect::encode_message,
};

/// Time to resolve the name and connect.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Least time in which the peer must take something of what is sent.
const WRITE_TIMEOUT_MIN: Duration = Duration::from_secs(1);

/// Bounds of the time that a call has besides its pauses. A peer that sends or takes a byte now and then never lets a wait end.
const BESIDE_PAUSES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(5));

/// What to do, once everything is decided.
pub(super) struct CallPlan {
    pub(super) endpoint: Endpoint,
    /// The framing as the client sees it: inbound is what it receives.
    pub(super) framing: FramingPair,
    pub(super) recording: Recording,
    pub(super) messages: Vec<Vec<u8>>,
    pub(super) every: Duration,
    pub(super) wait: Duration,
    /// The address of the console, if there is one: a call never goes there.
    pub(super) never: Option<SocketAddr>,
    /// Ends the call when it turns true.
    pub(super) stop: watch::Receiver<bool>,
    /// Counts the exchanges that this process records as a client.
    pub(super) recorded: Arc<AtomicU64>,
}

/// Who records a call. It is recorded once.
pub(super) enum Recording {
    /// The server, at its endpoint of this name.
    OfServer { name: String },
    /// The call itself, as a client, in this batch of the recorder.
    Own { shard: usize },
}

/// Makes the call.
pub(super) async fn run(plan: CallPlan, recorder: &Recorder) -> Result<CallResult, ControlError> {
    let encode = |message: &Vec<u8>| encode_message(plan.framing.outbound, message);
    let messages: Result<Vec<_>, _> = plan.messages.iter().map(encode).collect();
    let messages = messages.map_err(ControlError::Invalid)?;
    if plan
        .never
        .is_some_and(|console| is_console(&plan.endpoint, console))
    {
        return Err(refused());
    }
    let identify = match &plan.recording {
        Recording::OfServer { name } => Some(Identify::new(recorder.watch(), name.clone())),
        Recording::Own { .. } => None,
    };
    let options = DialOptions {
        timeout: CONNECT_WITHIN,
        ..DialOptions::default()
    };
    let dialled = dial(&plan.endpoint, &options).await;
    let dialled = dialled.map_err(|error| ControlError::Failed(error.to_string()))?;
    // Nothing is sent yet.
    let (peer, local) = (&dialled.peer, dialled.link.local());
    if plan
        .never
        .is_some_and(|console| reaches(peer, local, console))
    {
        return Err(refused());
    }
    let identify = identify.map(|identify| identify.start(dialled.link.local()));
    let record = match plan.recording {
        Recording::OfServer { .. } => None,
        Recording::Own { shard } => Some(ClientRecord::begin(
            recorder,
            shard,
            &plan.endpoint,
            plan.framing,
            &dialled,
        )),
    };
    let datagrams = dialled.link.shape() == Shape::Datagrams;
    let observed = Observed(Arc::new(Shared {
        state: Mutex::new(State {
            replies: CollectedReplies::new(dialled.link.shape(), plan.framing),
            record,
            recorded: plan.recorded,
            is_late: false,
        }),
        received: Notify::new(),
    }));
    let pacing = Pacing {
        messages,
        every: plan.every,
        wait: plan.wait,
        datagrams,
        stop: plan.stop,
    };
    let summary = converse(dialled.link, plan.framing, pacing, &observed).await;
    let own = observed.end(&summary);
    let (replies, is_full, is_late) = observed.collected();
    let conversation = match identify {
        Some(identify) => identify.finish().await,
        None => own,
    };
    Ok(CallResult {
        conversation: conversation.filter(|conversation| *conversation > 0),
        replies,
        end: end_of(&summary, datagrams, is_full, is_late),
    })
}

/// Returns how a call ended.
fn end_of(summary: &ConversationSummary, datagrams: bool, is_full: bool, is_late: bool) -> String {
    match &summary.ending {
        Ending::Failed(error) => error.to_string(),
        Ending::ResetByUs if is_full => {
            "reset-by-us: more came in reply than a call takes".to_owned()
        }
        Ending::ResetByUs if is_late => {
            "reset-by-us: the call took longer than its pauses and waits".to_owned()
        }
        _ => client_record::ending(summary, datagrams)
            .reason
            .word()
            .to_owned(),
    }
}

fn refused() -> ControlError {
    ControlError::Invalid(
        "that is the address of the console itself: a call never goes there".to_owned(),
    )
}

/// Whether the endpoint names the console. A name is only known once it is resolved.
fn is_console(endpoint: &Endpoint, console: SocketAddr) -> bool {
    match endpoint {
        Endpoint::Tcp(HostPort { host, port }) => match host {
            Host::Ip(ip) => is_same(SocketAddr::new(*ip, *port), console),
            Host::Loopback | Host::Any => *port == console.port(),
            Host::Zoned(..) | Host::Name(_) => false,
        },
        _ => false,
    }
}

/// Whether a connection to `peer` reaches the console: also by the unspecified address, which means loopback to Linux.
fn is_same(peer: SocketAddr, console: SocketAddr) -> bool {
    let ip = peer.ip().to_canonical();
    let is_on_every = console.ip().is_unspecified();
    let is_ours = ip == console.ip() || ip.is_unspecified() || is_on_every && ip.is_loopback();
    peer.port() == console.port() && is_ours
}

/// Whether an open connection is one to the console. Both ends have the same address if that is this machine's.
fn reaches(peer: &Address, local: Option<Address>, console: SocketAddr) -> bool {
    let (Address::Net(peer), Some(Address::Net(local))) = (peer, local) else {
        return false;
    };
    let is_ours = console.ip().is_unspecified() && peer.ip() == local.ip();
    is_same(*peer, console) || is_ours && peer.port() == console.port()
}

/// What to send, and when.
struct Pacing {
    messages: Vec<Vec<u8>>,
    every: Duration,
    wait: Duration,
    datagrams: bool,
    stop: watch::Receiver<bool>,
}

impl Pacing {
    /// Returns the longest time that the whole may take: the pauses, and each wait in full, within bounds.
    fn deadline(&self) -> Duration {
        let count = u32::try_from(self.messages.len()).unwrap_or(u32::MAX);
        let pauses = self.every.saturating_mul(count);
        let waits = self.wait.saturating_mul(count.saturating_add(1));
        let (least, most) = BESIDE_PAUSES;
        pauses.saturating_add(waits.clamp(least, most))
    }
}

/// Runs the conversation to its end.
async fn converse(
    link: Link,
    framing: FramingPair,
    pacing: Pacing,
    observed: &Observed,
) -> ConversationSummary {
    let mut stop = pacing.stop.clone();
    let (commands, queue) = mpsc::channel(1);
    let (events, mut received) = mpsc::channel(1);
    let (leave, leaves) = oneshot::channel();
    let timeouts = Timeouts {
        linger_timeout: Some(pacing.wait),
        settle: None,
        idle_timeout: None,
        write_timeout: pacing.wait.max(WRITE_TIMEOUT_MIN),
    };
    let leaving = async { leaves.await.unwrap_or(CloseMode::Graceful) };
    let conversing = converse_observed(
        link,
        framing,
        queue,
        events,
        leaving,
        timeouts,
        observed.clone(),
    );
    let deadline = pacing.deadline();
    let sending = async {
        let mode = select! {
            mode = send_all(pacing, commands, observed) => mode,
            () = observed.is_full() => CloseMode::Reset,
            () = sleep(deadline) => {
                observed.state().is_late = true;
                CloseMode::Reset
            }
            _ = stop.wait_for(|stop| *stop) => CloseMode::Reset,
        };
        let _ = leave.send(mode);
        pending::<()>().await;
    };
    // The observer has all of it.
    let reading = async {
        while received.recv().await.is_some() {}
        pending::<()>().await;
    };
    let mut conversing = pin!(conversing);
    let (mut sending, mut reading) = (pin!(sending), pin!(reading));
    loop {
        select! {
            summary = &mut conversing => return summary,
            () = &mut sending => {}
            () = &mut reading => {}
        }
    }
}

/// Sends the messages, each when the one before is answered. Once one was not answered in time, the others do not wait. Returns
/// how to close the conversation, unless it ends by itself.
async fn send_all(
    pacing: Pacing,
    commands: mpsc::Sender<ClientCommand>,
    observed: &Observed,
) -> CloseMode {
    let Pacing {
        messages,
        every,
        wait,
        datagrams,
        ..
    } = pacing;
    let mut is_answered = true;
    for (number, message) in (1..).zip(messages) {
        if number > 1 {
            sleep(every).await;
        }
        if commands.send(ClientCommand::Send(message)).await.is_err() {
            return pending().await; // it has ended
        }
        is_answered = is_answered && observed.answered(number, wait).await;
    }
    if datagrams {
        // They have no end. After the last one the others may still be answered.
        if !is_answered {
            sleep(wait).await;
        }
        return CloseMode::Graceful;
    }
    drop(commands); // ends our half
    pending().await // until the peer ends its half, or more comes than a call takes
}

/// What is observed of a conversation.
#[derive(Clone)]
struct Observed(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Something was received.
    received: Notify,
}

struct State {
    replies: CollectedReplies,
    record: Option<ClientRecord>,
    recorded: Arc<AtomicU64>,
    /// It took longer than a call may.
    is_late: bool,
}

impl State {
    /// Has the record, if there is one, take something.
    fn record(&mut self, take: impl FnOnce(&mut ClientRecord)) {
        if let Some(record) = &mut self.record {
            let before = record.exchanges();
            take(record);
            let more = record.exchanges() - before;
            self.recorded.fetch_add(more, Ordering::Relaxed);
        }
    }
}

impl Observed {
    fn state(&self) -> MutexGuard<'_, State> {
        let state = self.0.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until so many messages are answered, at most this long. Returns whether they are.
    async fn answered(&self, messages: usize, wait: Duration) -> bool {
        let answered = self.until(|replies| replies.answered() >= messages);
        timeout(wait, answered).await.is_ok()
    }

    /// Waits until more has been received than a call takes.
    async fn is_full(&self) {
        self.until(CollectedReplies::is_full).await;
    }

    async fn until(&self, condition: impl Fn(&CollectedReplies) -> bool) {
        loop {
            let received = self.0.received.notified();
            if condition(&self.state().replies) {
                return;
            }
            received.await;
        }
    }

    /// Takes the replies. Returns them, whether more came than a call takes, and whether it took too long.
    fn collected(&self) -> (Vec<CallReply>, bool, bool) {
        let mut state = self.state();
        let is_full = state.replies.is_full();
        (state.replies.take(), is_full, state.is_late)
    }

    /// Takes the end of the conversation. Returns its id in the record, if this call records it.
    fn end(&self, summary: &ConversationSummary) -> Option<ConversationId> {
        let mut state = self.state();
        state.replies.finish();
        state.record(|record| record.end(summary));
        state.record.as_ref().map(ClientRecord::conversation)
    }
}

impl Observer for Observed {
    fn observe(&mut self, event: WireEvent<'_>) {
        {
            let mut state = self.state();
            state.replies.observe(event);
            state.record(|record| record.observe(event));
        }
        // Two may wait: for a reply, and for more than a call takes.
        self.0.received.notify_waiters();
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.state().record {
            Some(record) => record.poll_ready(cx),
            None => Poll::Ready(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn console_is_recognised_by_every_address_that_reaches_it() {
        let console = "127.0.0.1:8007".parse().unwrap();
        for endpoint in [
            "8007",
            ":8007",
            "127.0.0.1:8007",
            "0.0.0.0:8007",
            "[::ffff:127.0.0.1]:8007",
            "[::]:8007",
        ] {
            assert!(
                is_console(&endpoint.parse().unwrap(), console),
                "{endpoint}"
            );
        }
        for endpoint in [
            "8008",
            "127.0.0.2:8007",
            "udp://127.0.0.1:8007",
            "unix:/8007",
        ] {
            assert!(
                !is_console(&endpoint.parse().unwrap(), console),
                "{endpoint}"
            );
        }
    }
}
