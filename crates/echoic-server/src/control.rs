//! What an operator may do with a running server: [`ServerControl`].

mod calls;
mod endpoint;
mod mailbox;

use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock, atomic::Ordering},
    time::Duration,
};

use echoic_core::{
    control::{
        CloseHow, ControlError, EndpointId, EndpointStatus, Requested, ServerCounts, SocketCall,
    },
    event::{Address, ConversationId, EndpointInfo},
    service::Service,
};
use echoic_recorder::Recorder;
use tokio::{
    runtime::Handle,
    time::{Instant, sleep_until},
};

use self::mailbox::NotTaken;
pub(crate) use self::{
    calls::{CallNotes, Explained},
    endpoint::{OpenCount, Registration, ServedEndpoint},
    mailbox::{Action, Command, Mailbox, MailboxOwner, UNSENT_MAX},
};
use crate::{drain::Drain, sources::lock, tally::Totals, timers::Timers};

/// Time for a task to take a command. A conversation takes it at once; the task of a datagram socket may first have to send
/// what is queued.
const COMMAND_DEADLINE: Duration = Duration::from_secs(5);

/// A handle to a server, to be used while it runs, from any thread: counts, the states of its endpoints, and commands for its
/// conversations.
///
/// It does what [`echoic_core::control::Control`] asks for, except calls, for which a server has no client. Conversations
/// pay nothing for a handle that nobody uses: a command reaches their task as a wake-up.
#[derive(Clone)]
pub struct ServerControl(Arc<Shared>);

/// What the handles, the acceptor and the datagram tasks of a server share.
pub(crate) struct Shared {
    /// In the order in which they were opened.
    endpoints: Mutex<Vec<Arc<ServedEndpoint>>>,
    pub(crate) totals: Arc<Totals>,
    pub(crate) explained: Explained,
    recorder: Recorder,
    /// Set when the server runs.
    running: OnceLock<Running>,
}

/// A running server.
struct Running {
    acceptor: Arc<Mailbox>,
    /// The runtime of timers.
    control: Handle,
    drain_timeout: Duration,
}

impl ServerControl {
    pub(crate) fn new(recorder: Recorder) -> Self {
        Self(Arc::new(Shared {
            endpoints: Mutex::default(),
            totals: Arc::default(),
            explained: Explained::default(),
            recorder,
            running: OnceLock::new(),
        }))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    /// Returns the endpoints in the order in which they were opened.
    pub fn endpoints(&self) -> Vec<EndpointStatus> {
        let endpoints = lock(&self.0.endpoints);
        endpoints.iter().map(|endpoint| endpoint.status()).collect()
    }

    /// Returns the counts of the server, also after it has stopped. Without a store exchanges are counted when their
    /// conversation ends.
    pub fn counts(&self) -> ServerCounts {
        let mut counts = ServerCounts {
            served: self.0.served(),
            ..ServerCounts::default()
        };
        for endpoint in &*lock(&self.0.endpoints) {
            let EndpointStatus {
                open,
                accepted,
                rejected,
                ..
            } = endpoint.status();
            counts.open += open;
            counts.accepted += accepted;
            counts.rejected += rejected;
        }
        counts
    }

    /// Pauses, resumes or drains an endpoint, and returns its new status.
    ///
    /// Once this returns, a paused endpoint accepts no connection and receives no datagram: they wait in the kernel. Draining
    /// also ends its conversations as the stop of the server does; when none is open the endpoint is paused. Both end with
    /// [`Requested::Open`]. Pausing an endpoint that drains changes nothing. The stop of the server ends every pause.
    pub async fn set_endpoint(
        &self,
        id: EndpointId,
        state: Requested,
    ) -> Result<EndpointStatus, ControlError> {
        let endpoint = self.0.endpoint(id)?;
        let Some(running) = self.0.running.get() else {
            return self.0.set_before_start(&endpoint, state);
        };
        if running.acceptor.is_closed() {
            return Err(stopped());
        }
        let drain = endpoint.ask(state);
        running.command(&running.acceptor, 0, Action::Look).await?;
        for task in endpoint.tasks() {
            match running.command(&task, 0, Action::Look).await {
                // A socket that could not be opened has no task.
                Err(error) if error == stopped() => {}
                taken => taken?,
            }
        }
        if let Some(drain) = drain
            && endpoint.start_drain(&drain)
        {
            running.cut_later(&endpoint, drain);
        }
        Ok(endpoint.status())
    }

    /// Sends bytes to the peer of an open conversation, behind earlier replies, and records them as a reply without a request.
    /// Over datagrams they are one, and over UDP all that is sent may not be longer than what was received, unless the
    /// endpoint allows it.
    pub async fn send(
        &self,
        conversation: ConversationId,
        bytes: Vec<u8>,
    ) -> Result<(), ControlError> {
        if bytes.len() > UNSENT_MAX {
            let text = format!("{} bytes are too many to send at once", bytes.len());
            return Err(ControlError::Invalid(format!(
                "{text}: at most {UNSENT_MAX}"
            )));
        }
        self.command(conversation, Action::Send(bytes)).await
    }

    /// Closes an open conversation. A close is in order (FIN) or at once (RST); over datagrams it only ends the record.
    pub async fn close(
        &self,
        conversation: ConversationId,
        how: CloseHow,
    ) -> Result<(), ControlError> {
        self.command(conversation, Action::Close(how)).await
    }

    async fn command(
        &self,
        conversation: ConversationId,
        action: Action,
    ) -> Result<(), ControlError> {
        let not_found = || ControlError::NotFound(format!("open conversation {conversation}"));
        let mailbox = self.0.mailbox(conversation).ok_or_else(not_found)?;
        let running = self.0.running.get().ok_or_else(not_found)?;
        let done = running.command(&mailbox, conversation, action).await;
        done.map_err(|error| {
            if error == stopped() {
                not_found()
            } else {
                error
            }
        })
    }

    /// Notes the socket calls of the next conversation that opens. A second call before that changes nothing.
    pub fn explain_next(&self) {
        self.0.explained.arm();
    }

    /// Returns the socket calls of a conversation that was explained, oldest first; `None` if it was not. Noted are the first
    /// 256 calls, of the last 16 such conversations. Calls that found nothing to do (EAGAIN) are not noted.
    pub fn socket_calls(&self, conversation: ConversationId) -> Option<Vec<SocketCall>> {
        self.0.explained.calls(conversation)
    }
}

impl Shared {
    /// Adds an endpoint; its number is the next one.
    pub(crate) fn add_endpoint(
        &self,
        info: Arc<EndpointInfo>,
        addresses: Vec<Address>,
        service: Arc<dyn Service>,
    ) -> Arc<ServedEndpoint> {
        let mut endpoints = lock(&self.endpoints);
        let id = endpoints.len() as EndpointId + 1;
        let endpoint = Arc::new(ServedEndpoint::new(id, info, addresses, service));
        endpoints.push(Arc::clone(&endpoint));
        endpoint
    }

    /// The server runs: its tasks can be commanded.
    pub(crate) fn set_running(
        &self,
        acceptor: Arc<Mailbox>,
        control: Handle,
        drain_timeout: Duration,
    ) {
        let running = Running {
            acceptor,
            control,
            drain_timeout,
        };
        let _ = self.running.set(running); // a server runs once
    }

    /// The server is about to stop: what waits at a drained endpoint is served until then, as at the others.
    pub(crate) fn renew_drains(&self) {
        for endpoint in &*lock(&self.endpoints) {
            endpoint.renew_drain();
        }
    }

    /// Starts the drain of every endpoint: the server stops.
    pub(crate) fn stop(&self) {
        for endpoint in &*lock(&self.endpoints) {
            endpoint.drain().start();
        }
    }

    fn served(&self) -> u64 {
        if !self.recorder.has_store() {
            return self.totals.served.load(Ordering::Relaxed);
        }
        let record = self.recorder.status();
        record.recorded + record.waiting + record.lost
    }

    fn endpoint(&self, id: EndpointId) -> Result<Arc<ServedEndpoint>, ControlError> {
        let endpoints = lock(&self.endpoints);
        let endpoint = endpoints.iter().find(|endpoint| endpoint.id() == id);
        let endpoint = endpoint.ok_or_else(|| ControlError::NotFound(format!("endpoint {id}")))?;
        Ok(Arc::clone(endpoint))
    }

    fn mailbox(&self, conversation: ConversationId) -> Option<Arc<Mailbox>> {
        let endpoints = lock(&self.endpoints);
        let mut mailboxes = endpoints
            .iter()
            .map(|endpoint| endpoint.mailbox(conversation));
        mailboxes.find_map(|mailbox| mailbox)
    }

    /// Nothing is accepted yet, so nobody has to be told.
    fn set_before_start(
        &self,
        endpoint: &Arc<ServedEndpoint>,
        state: Requested,
    ) -> Result<EndpointStatus, ControlError> {
        endpoint.ask(state);
        match self.running.get() {
            None => Ok(endpoint.status()),
            Some(_) => Err(ControlError::Busy(
                "the server is just starting; try again".to_owned(),
            )),
        }
    }
}

impl Running {
    /// Gives a command to a task and waits until it has taken it.
    async fn command(
        &self,
        mailbox: &Mailbox,
        conversation: ConversationId,
        action: Action,
    ) -> Result<(), ControlError> {
        let done = match mailbox.command(conversation, action) {
            Ok(done) => done,
            Err(NotTaken::Closed) => return Err(stopped()),
            Err(NotTaken::Full) => {
                let text = "too much waits to be sent or done there; try again";
                return Err(ControlError::Busy(text.to_owned()));
            }
        };
        match Timers::of(&self.control)
            .timeout(COMMAND_DEADLINE, done)
            .await
        {
            Ok(Ok(done)) => done,
            Ok(Err(_)) => Err(stopped()),
            Err(_) => Err(ControlError::Busy(format!(
                "it was not done within {COMMAND_DEADLINE:?}; try again"
            ))),
        }
    }

    /// Cuts the conversations that are not over when the drain timeout passes.
    fn cut_later(&self, endpoint: &Arc<ServedEndpoint>, drain: Drain) {
        let (endpoint, deadline) = (Arc::clone(endpoint), Instant::now() + self.drain_timeout);
        self.control.spawn(async move {
            sleep_until(deadline).await;
            endpoint.cut(&drain);
        });
    }
}

fn stopped() -> ControlError {
    ControlError::Failed("the server is stopping".to_owned())
}

impl fmt::Debug for ServerControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerControl")
            .field("endpoints", &self.endpoints())
            .finish_non_exhaustive()
    }
}
