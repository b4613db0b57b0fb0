//! A service whose handlers run in workers.

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use echoic_core::{
    framing::ReplyTooLong,
    service::{
        BoxFuture, Handler, Peer, Reply, ReplySender, RequestReceiver, RequestRun, SendError,
        Service, ServiceError, SpawnedHandler, WorkerLost,
    },
    units::Span,
};
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::{
    select,
    sync::Semaphore,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    Connection, NatsError, NatsErrorKind, NatsUrl,
    protocol::{Answer, GatheredRun, PeerForm, Question, RunAnswer, read, write},
    transfer::{Unanswered, Workers},
};

/// Default time for a run to be answered.
pub const WORKER_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of runs of all conversations that may be with workers. More runs wait their turn.
const IN_FLIGHT_BYTES_MAX: usize = 16 << 20;

/// Unit in which these bytes are counted: so at most 16,384 runs are with workers.
const IN_FLIGHT_UNIT: usize = 1 << 10;

/// Bytes of the runs of one conversation that are gathered into one: what its queue holds.
const GATHERED_BYTES_MAX: usize = 256 << 10;

/// Time until a run is given to another worker too, doubled for each that has it. Whichever answers first counts.
const FIRST_PATIENCE: Duration = Duration::from_secs(1);

/// Workers that may have the same run at a time.
const ATTEMPTS_MAX: usize = 4;

/// Pause before a run is sent again after a failure that was told at once.
const PAUSE: Duration = Duration::from_millis(50);

/// How often it is asked whether a worker serves the subject: perhaps no conversation comes to find out.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Time until a worker that serves is known to each node of NATS: in a cluster they tell each other.
const KNOWN_WITHIN: Duration = Duration::from_secs(1);

/// Time for a worker to say what it serves.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// A service whose handlers run in workers, behind a subject of NATS. To be connected before it is used.
///
/// One run of a conversation is with a worker at a time, and what its peer sends meanwhile is gathered into the next. So its
/// order is kept, and the state of the handler travels with the runs.
pub struct RemoteService {
    url: NatsUrl,
    /// Time for a run to be answered; then its conversation ends.
    timeout: Duration,
    link: OnceLock<Arc<Link>>,
}

/// What all conversations share.
struct Link {
    workers: Workers,
    /// Name of the service that the workers have.
    service: String,
    amplifies: bool,
    timeout: Duration,
    in_flight: Semaphore,
    /// It is known that no worker serves the subject.
    is_unserved: AtomicBool,
}

impl RemoteService {
    /// Creates a service at a subject. A run that no worker answers within `timeout` ends its conversation as `worker-lost`.
    pub fn new(url: NatsUrl, timeout: Duration) -> Self {
        Self {
            url,
            timeout,
            link: OnceLock::new(),
        }
    }

    /// The server and the subject.
    pub fn url(&self) -> &NatsUrl {
        &self.url
    }

    /// Returns the connection, once there is one.
    pub fn connection(&self) -> Option<&Connection> {
        let link = self.link.get()?;
        Some(&link.workers.connection)
    }

    /// Connects, and asks a worker what it serves. `name` is what NATS lists the connection as.
    pub async fn connect(&self, name: &str) -> Result<(), NatsError> {
        let workers = Workers::open(Connection::open(&self.url, name).await?).await?;
        let error = |kind| NatsError::new(&self.url, kind);
        let hello = match timeout(HELLO_TIMEOUT, hello(&workers)).await {
            Ok(Ok(hello)) => hello,
            Ok(Err(Unanswered::NoWorker)) => return Err(error(NatsErrorKind::NoWorker)),
            Ok(Err(_)) | Err(_) => return Err(error(NatsErrorKind::TimedOut)),
        };
        let Some(Answer::Hello { service, amplifies }) = read(&hello) else {
            return Err(error(NatsErrorKind::OtherProtocol));
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if service.is_empty() || service.len() > 64 || !service.bytes().all(is_name) {
            let why = "its service has no valid name".to_owned();
            return Err(error(NatsErrorKind::Unusable(why)));
        }
        let link = Link {
            service: service.to_owned(),
            amplifies,
            timeout: self.timeout,
            in_flight: Semaphore::new(IN_FLIGHT_BYTES_MAX / IN_FLIGHT_UNIT),
            is_unserved: AtomicBool::new(false),
            workers,
        };
        let link = Arc::new(link);
        tokio::spawn(Link::look_for_workers(Arc::downgrade(&link)));
        let _ = self.link.set(link);
        Ok(())
    }
}

/// Asks a worker what it serves; one that is not known yet is waited for.
async fn hello(workers: &Workers) -> Result<Bytes, Unanswered> {
    let deadline = Instant::now() + KNOWN_WITHIN;
    loop {
        let answer = workers.ask_any(&Question::Hello).await;
        if answer != Err(Unanswered::NoWorker) || Instant::now() >= deadline {
            return answer;
        }
        sleep(PAUSE).await;
    }
}

impl Service for RemoteService {
    /// The name of the workers' service, once connected.
    fn name(&self) -> &str {
        self.link.get().map_or("remote", |link| &link.service)
    }

    fn handler(&self, peer: &Peer) -> Handler {
        Handler::Spawned(Box::new(RemoteHandler {
            link: self.link.get().cloned(),
            form: PeerForm::of(peer),
        }))
    }

    fn amplifies(&self) -> bool {
        self.link.get().is_none_or(|link| link.amplifies)
    }

    fn failing(&self) -> Option<String> {
        let failing = match self.link.get() {
            None => "is not connected yet",
            Some(link) if !link.workers.connection.is_up() => "cannot be reached",
            Some(link) if link.is_unserved.load(Ordering::Relaxed) => "has no worker",
            Some(_) => return None,
        };
        Some(format!("{} {failing}", self.url))
    }
}

impl fmt::Debug for RemoteService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteService")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl Link {
    /// Asks every now and then whether a worker serves the subject, until the service is dropped.
    async fn look_for_workers(link: Weak<Self>) {
        loop {
            sleep(LOOK_EVERY).await;
            let Some(link) = link.upgrade() else {
                return;
            };
            let hello = link.workers.ask_any(&Question::Hello);
            match timeout(LOOK_EVERY, hello).await {
                Ok(Ok(_)) => link.note_served(true),
                Ok(Err(Unanswered::NoWorker)) => link.note_served(false),
                // The connection is down, or whoever is there is busy.
                Ok(Err(_)) | Err(_) => {}
            }
        }
    }

    /// Has a worker answer a run: another one too if it takes long, and again until the timeout.
    async fn call(&self, request: &[u8]) -> Result<Bytes, ServiceError> {
        let units = request.len().div_ceil(IN_FLIGHT_UNIT);
        let units = units.clamp(1, IN_FLIGHT_BYTES_MAX / IN_FLIGHT_UNIT);
        let deadline = Instant::now() + self.timeout;
        let attempts = async {
            // Never closed, so never an error.
            let _permit = self.in_flight.acquire_many(units as u32).await;
            self.attempts(request).await
        };
        select! {
            answered = attempts => answered,
            () = sleep_until(deadline) => Err(self.lost()),
        }
    }

    fn lost(&self) -> ServiceError {
        let why = if !self.workers.connection.is_up() {
            "the connection to NATS is lost"
        } else if self.is_unserved.load(Ordering::Relaxed) {
            "there is none"
        } else {
            "it may have died"
        };
        let (url, timeout) = (self.workers.connection.url(), Span(self.timeout));
        WorkerLost {
            why: format!("no worker at {url} answered within {timeout}: {why}"),
        }
        .into()
    }

    /// Tries without end. An attempt that hangs, since its worker has died with it, does not hold up the next.
    async fn attempts(&self, request: &[u8]) -> Result<Bytes, ServiceError> {
        let mut attempts = FuturesUnordered::new();
        attempts.push(self.workers.attempt(request));
        let mut next = pin!(sleep(FIRST_PATIENCE));
        loop {
            select! {
                Some(attempted) = attempts.next() => match attempted {
                    Ok(answer) => {
                        self.note_served(true);
                        return Ok(answer);
                    }
                    Err(Unanswered::Failed(why)) => return Err(ServiceError(why.into())),
                    Err(why) => {
                        if why == Unanswered::NoWorker {
                            self.note_served(false);
                        }
                        next.as_mut().reset(Instant::now() + PAUSE);
                    }
                },
                () = &mut next, if attempts.len() < ATTEMPTS_MAX => {
                    let patience = FIRST_PATIENCE * (1 << attempts.len());
                    next.as_mut().reset(Instant::now() + patience);
                    attempts.push(self.workers.attempt(request));
                }
            }
        }
    }

    /// Logs once that no worker serves the subject, and once that one does again.
    fn note_served(&self, is_served: bool) {
        let was_unserved = self.is_unserved.load(Ordering::Relaxed);
        if was_unserved == is_served
            && self.is_unserved.swap(!is_served, Ordering::Relaxed) == is_served
        {
            let (url, timeout) = (self.workers.connection.url(), Span(self.timeout));
            if is_served {
                tracing::warn!("a worker serves {url} again");
            } else {
                tracing::warn!(
                    "no worker serves {url}: conversations wait for one, and end after {timeout}"
                );
            }
        }
    }
}

/// The handler of one conversation.
struct RemoteHandler {
    link: Option<Arc<Link>>,
    form: PeerForm,
}

/// Whether more is to be done for a conversation.
#[derive(Debug, PartialEq, Eq)]
enum Flow {
    Continue,
    Done,
}

impl SpawnedHandler for RemoteHandler {
    fn run(
        self: Box<Self>,
        requests: RequestReceiver,
        replies: ReplySender,
    ) -> BoxFuture<'static, Result<(), ServiceError>> {
        Box::pin(async move {
            let Some(link) = self.link else {
                let why = "not connected to workers".to_owned();
                return Err(WorkerLost { why }.into());
            };
            let conversation = RemoteConversation {
                link,
                form: self.form,
                state: Vec::new(),
                requests,
                replies,
                held_back: None,
            };
            conversation.run().await
        })
    }
}

struct RemoteConversation {
    link: Arc<Link>,
    form: PeerForm,
    /// State of the handler after the last run.
    state: Vec<u8>,
    requests: RequestReceiver,
    replies: ReplySender,
    /// A run that did not fit into the last gathered one.
    held_back: Option<RequestRun>,
}

impl RemoteConversation {
    async fn run(mut self) -> Result<(), ServiceError> {
        let mut request = GatheredRun::default();
        let mut opens = true;
        loop {
            let mut ends = false;
            if !opens {
                (request, ends) = self.gather().await?;
            }
            let flow = self.answer(&request, opens, ends).await?;
            if ends || flow == Flow::Done {
                return Ok(());
            }
            opens = false;
        }
    }

    /// Waits for a run, and takes those that have come with it. Returns whether the peer has ended its half.
    async fn gather(&mut self) -> Result<(GatheredRun, bool), ServiceError> {
        let mut gathered = GatheredRun::default();
        let first = match self.held_back.take() {
            Some(run) => Some(run),
            None => self.requests.recv().await?,
        };
        let Some(first) = first else {
            return Ok((gathered, true));
        };
        gathered.push(&first);
        while let Some(next) = self.requests.recv().now_or_never() {
            let Some(run) = next? else {
                return Ok((gathered, true));
            };
            if gathered.len() + run.as_run().raw().len() > GATHERED_BYTES_MAX {
                self.held_back = Some(run);
                break;
            }
            gathered.push(&run);
        }
        Ok((gathered, false))
    }

    /// Has a worker answer a run, and sends the replies.
    async fn answer(
        &mut self,
        run: &GatheredRun,
        opens: bool,
        ends: bool,
    ) -> Result<Flow, ServiceError> {
        let mut request = run.request(&self.form, &self.state);
        (request.opens, request.ends) = (opens, ends);
        let answer = self.link.call(&write(&request)).await?;
        let answer: RunAnswer<'_> = read(&answer)
            .ok_or_else(|| ServiceError("the answer of a worker cannot be read".into()))?;
        self.state = answer.state.to_vec();
        let (bytes, lengths) = (answer.replies.to_vec(), answer.lengths);
        if !bytes.is_empty() || !lengths.is_empty() {
            let lengths = Some(lengths);
            self.replies.send(Reply::Bytes { bytes, lengths }).await?;
        }
        if let Some(bytes) = answer.too_long {
            let bytes = bytes as usize;
            return Err(SendError::TooLong(ReplyTooLong { bytes }).into());
        }
        Ok(if answer.closes {
            Flow::Done
        } else {
            Flow::Continue
        })
    }
}

#[cfg(test)]
mod tests;
