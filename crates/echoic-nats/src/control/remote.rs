//! The side of a console: [`RemoteControl`].

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_nats::StatusCode;
use echoic_core::{
    control::{
        Call, CallResult, CloseHow, Control, ControlError, EndpointId, EndpointStatus, Requested,
        ServerCounts, SocketCall, Target, TargetStatus,
    },
    event::{ConversationId, ServerId, ServerInfo},
    process::SeenProcess,
    service::BoxFuture,
    store::Store,
};
use futures_util::StreamExt;
use tokio::{
    select,
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{Command, CommandResult, STATE_SUBJECT, ServerState, command_subject};
use crate::{
    Connection, NatsError, NatsUrl,
    inbox::Inbox,
    presence::Watched,
    protocol::{read, write},
};

/// How often the servers are asked for their state.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Questions in a row without an answer after which a server counts as gone. Not a time: while this process itself does not run,
/// it does not ask, either.
const UNANSWERED_MAX: u32 = 4;

/// Most servers, and most endpoints of each: more are left out.
const SERVERS_MAX: usize = 256;
const ENDPOINTS_MAX: usize = 1024;

/// Longest name of a server that is shown.
const NAME_CHARS_MAX: usize = 100;

/// Time for the result of a command. A call has the time of its pauses and waits besides.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest time that a call has besides its pauses, at the server.
const CALL_BESIDE_PAUSES: Duration = Duration::from_mins(5);

/// Acts on the servers that answer at a NATS server. Endpoints have ids of their own here, since each server counts from 1.
pub struct RemoteControl {
    shared: Arc<Shared>,
    /// Tells which server has a conversation.
    store: Arc<dyn Store>,
    inbox: Inbox,
    asking: JoinHandle<()>,
    processes: Watched,
}

struct Shared {
    url: NatsUrl,
    max_payload: usize,
    known: Mutex<Known>,
}

/// The servers that have answered.
#[derive(Debug, Default)]
struct Known {
    servers: BTreeMap<ServerId, KnownServer>,
    next: EndpointId,
    /// Number of the last question to all servers.
    asked: u64,
}

#[derive(Debug)]
struct KnownServer {
    info: Arc<ServerInfo>,
    counts: ServerCounts,
    /// The endpoints with their ids at the server, and under the ids that they have here.
    endpoints: Vec<(EndpointId, EndpointStatus)>,
    /// Questions since its last answer.
    unanswered: u32,
    /// First question whose answer is taken: one to a question before the result of a command may be from before the command.
    taken_from: u64,
}

impl Known {
    /// Forgets servers that no longer answer. Returns the number of the next question.
    fn ask(&mut self) -> u64 {
        self.servers.retain(|_, server| {
            server.unanswered += 1;
            server.unanswered <= UNANSWERED_MAX
        });
        self.asked += 1;
        self.asked
    }

    /// Takes the state of a server, which answers the question with this number. An endpoint keeps the id that it has here.
    fn take(&mut self, mut state: ServerState, question: u64) {
        let id = state.server.id;
        if let Some(server) = self.servers.get_mut(&id)
            && question < server.taken_from
        {
            server.unanswered = 0;
            return;
        }
        let name = state.server.name.chars().filter(|c| !c.is_control());
        state.server.name = name.take(NAME_CHARS_MAX).collect();
        let before = self.servers.remove(&id);
        if before.is_none() && self.servers.len() >= SERVERS_MAX {
            return;
        }
        let (info, old, taken_from) = match before {
            Some(before) => (before.info, before.endpoints, before.taken_from),
            None => (Arc::new(state.server), Vec::new(), 0),
        };
        let mut endpoints = Vec::new();
        for mut status in state.endpoints.into_iter().take(ENDPOINTS_MAX) {
            let theirs = status.id;
            let here = old.iter().find(|(known, _)| *known == theirs);
            status.id = match here {
                Some((_, known)) => known.id,
                None => {
                    self.next += 1;
                    self.next
                }
            };
            status.server = Some(Arc::clone(&info));
            endpoints.push((theirs, status));
        }
        self.servers.insert(
            id,
            KnownServer {
                info,
                counts: state.counts,
                endpoints,
                unanswered: 0,
                taken_from,
            },
        );
    }

    /// Takes the state of an endpoint, which is the result of a command.
    fn set(&mut self, server: ServerId, status: &EndpointStatus) {
        let Some(server) = self.servers.get_mut(&server) else {
            return;
        };
        server.taken_from = self.asked + 1;
        let mut endpoints = server.endpoints.iter_mut();
        if let Some((_, known)) = endpoints.find(|(_, known)| known.id == status.id) {
            *known = status.clone();
        }
    }

    /// Returns the server of an endpoint, and the id of the endpoint there.
    fn find(&self, id: EndpointId) -> Option<(Arc<ServerInfo>, EndpointId)> {
        self.servers.values().find_map(|server| {
            let mut endpoints = server.endpoints.iter();
            let (theirs, _) = endpoints.find(|(_, status)| status.id == id)?;
            Some((Arc::clone(&server.info), *theirs))
        })
    }
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RemoteControl {
    /// Starts to ask the servers for their state. Which server has a conversation is looked up in `store`.
    pub async fn open(connection: &Connection, store: Arc<dyn Store>) -> Result<Self, NatsError> {
        let (client, url) = (connection.client.clone(), connection.url().clone());
        let failed = |error: &dyn fmt::Display| NatsError::failed(&url, error);
        let inbox = Inbox::open(&client).await.map_err(|error| failed(&error))?;
        let reply = client.new_inbox();
        let answers = client.subscribe(format!("{reply}.*")).await;
        let mut answers = answers.map_err(|error| failed(&error))?;
        let shared = Arc::new(Shared {
            max_payload: client.max_payload(),
            known: Mutex::default(),
            url,
        });
        let taking = Arc::clone(&shared);
        let asking = tokio::spawn(async move {
            let mut ticks = interval(ASK_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                select! {
                    _ = ticks.tick() => {
                        let reply = format!("{reply}.{}", taking.known().ask());
                        let ask = client.publish_with_reply(STATE_SUBJECT, reply, "".into());
                        // Sending waits for a lost connection; then nobody answers, either.
                        let _ = timeout(ASK_EVERY, ask).await;
                    }
                    Some(answer) = answers.next() => {
                        let question = answer.subject.rsplit('.').next();
                        let question = question.and_then(|number| number.parse().ok());
                        if let Some((question, state)) = question.zip(read(&answer.payload)) {
                            taking.known().take(state, question);
                        }
                    }
                    else => return,
                }
            }
        });
        Ok(Self {
            shared,
            store,
            inbox,
            asking,
            processes: Watched::start(connection).await?,
        })
    }

    /// Sends a command once, and waits for its result.
    async fn command(
        &self,
        server: &ServerInfo,
        command: Command,
        within: Duration,
    ) -> Result<CommandResult, ControlError> {
        let payload = write(&command);
        let most = self.shared.max_payload;
        if payload.len() > most {
            return Err(ControlError::Invalid(format!(
                "it has more than the {most} bytes that NATS takes: send less at a time"
            )));
        }
        let subject = command_subject(server.id);
        let name = &server.name;
        let answer = timeout(within, self.inbox.request(&subject, payload)).await;
        let Ok(answer) = answer else {
            return Err(ControlError::TimedOut(format!(
                "{name} did not answer within {} s: it is not known whether it was done",
                within.as_secs()
            )));
        };
        let nats = self.shared.url.server();
        let answer = answer
            .ok_or_else(|| ControlError::Failed(format!("NATS at {nats} cannot be reached")))?;
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            return Err(ControlError::Failed(format!(
                "{name} is not there any more: nothing was done"
            )));
        }
        match read(&answer.payload) {
            Some(CommandResult::Failed(error)) => Err(error),
            Some(result) => Ok(result),
            None => Err(unexpected(server)),
        }
    }

    fn find(&self, id: EndpointId) -> Result<(Arc<ServerInfo>, EndpointId), ControlError> {
        let found = self.shared.known().find(id);
        found.ok_or_else(|| ControlError::NotFound(format!("endpoint {id}")))
    }

    /// Returns the server that has recorded a conversation, and answers.
    async fn server_of(&self, id: ConversationId) -> Result<Arc<ServerInfo>, ControlError> {
        let listed = self.store.conversation(id).await;
        let listed = listed.map_err(|error| ControlError::Failed(error.to_string()))?;
        let not_found = || ControlError::NotFound(format!("open conversation {id}"));
        let server = listed.ok_or_else(not_found)?.conversation.server;
        let known = self.shared.known();
        let known = known.servers.get(&server.id);
        let known = known.map(|server| Arc::clone(&server.info));
        known.ok_or_else(|| {
            let name = &server.name;
            ControlError::Failed(format!(
                "{name}, which has the conversation, does not answer"
            ))
        })
    }

    async fn act(&self, id: ConversationId, command: Command) -> Result<(), ControlError> {
        let server = self.server_of(id).await?;
        match self.command(&server, command, COMMAND_TIMEOUT).await? {
            CommandResult::Done => Ok(()),
            _ => Err(unexpected(&server)),
        }
    }
}

fn unexpected(server: &ServerInfo) -> ControlError {
    let name = &server.name;
    ControlError::Failed(format!("{name} is of another version of echoic"))
}

impl fmt::Debug for RemoteControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteControl")
            .field("url", &self.shared.url)
            .finish_non_exhaustive()
    }
}

impl Drop for RemoteControl {
    fn drop(&mut self) {
        self.asking.abort();
    }
}

impl Control for RemoteControl {
    fn endpoints(&self) -> Vec<EndpointStatus> {
        let known = self.shared.known();
        let endpoints = known.servers.values().flat_map(|server| &server.endpoints);
        let mut endpoints: Vec<_> = endpoints.map(|(_, status)| status.clone()).collect();
        endpoints.sort_by_key(|status| status.id);
        endpoints
    }

    fn counts(&self) -> ServerCounts {
        let mut sum = ServerCounts::default();
        for KnownServer { counts, .. } in self.shared.known().servers.values() {
            let add = |to: &mut u64, more: u64| *to = to.saturating_add(more);
            add(&mut sum.accepted, counts.accepted);
            add(&mut sum.rejected, counts.rejected);
            add(&mut sum.open, counts.open);
            add(&mut sum.served, counts.served);
        }
        sum
    }

    fn set_endpoint(
        &self,
        id: EndpointId,
        state: Requested,
    ) -> BoxFuture<'_, Result<EndpointStatus, ControlError>> {
        Box::pin(async move {
            let (server, theirs) = self.find(id)?;
            let command = Command::SetEndpoint(theirs, state);
            let CommandResult::Endpoint(mut status) =
                self.command(&server, command, COMMAND_TIMEOUT).await?
            else {
                return Err(unexpected(&server));
            };
            status.id = id;
            status.server = Some(Arc::clone(&server));
            self.shared.known().set(server.id, &status);
            Ok(status)
        })
    }

    fn send(
        &self,
        conversation: ConversationId,
        bytes: Vec<u8>,
    ) -> BoxFuture<'_, Result<(), ControlError>> {
        Box::pin(self.act(conversation, Command::Send(conversation, bytes)))
    }

    fn close(
        &self,
        conversation: ConversationId,
        how: CloseHow,
    ) -> BoxFuture<'_, Result<(), ControlError>> {
        Box::pin(self.act(conversation, Command::Close(conversation, how)))
    }

    fn call(&self, mut call: Call) -> BoxFuture<'_, Result<CallResult, ControlError>> {
        Box::pin(async move {
            let Target::Endpoint(id) = call.target else {
                return Err(ControlError::NotFound(
                    "target besides the endpoints".to_owned(),
                ));
            };
            let (server, theirs) = self.find(id)?;
            call.target = Target::Endpoint(theirs);
            let count = u32::try_from(call.messages.len()).unwrap_or(u32::MAX);
            let waits = call.wait.saturating_mul(count.saturating_add(1));
            let pauses = call.every.saturating_mul(count);
            let within = COMMAND_TIMEOUT + pauses + waits.min(CALL_BESIDE_PAUSES);
            match self.command(&server, Command::Call(call), within).await? {
                CommandResult::Call(result) => Ok(result),
                _ => Err(unexpected(&server)),
            }
        })
    }

    fn targets(&self) -> Vec<TargetStatus> {
        Vec::new()
    }

    fn explain_next(&self) -> Result<(), ControlError> {
        Err(ControlError::Invalid(
            "socket calls are noted by the console of `echoic serve` alone".to_owned(),
        ))
    }

    fn socket_calls(&self, _conversation: ConversationId) -> Option<Vec<SocketCall>> {
        None
    }

    fn processes(&self) -> Vec<SeenProcess> {
        self.processes.now()
    }
}

#[cfg(test)]
mod tests {
    use echoic_core::{
        control::EndpointState,
        event::{EndpointInfo, Protocol},
        framing::FramingPair,
    };

    use super::*;

    fn state(server: u64, endpoints: u32) -> ServerState {
        let endpoint = |id| EndpointStatus {
            id,
            info: Arc::new(EndpointInfo {
                name: format!("tcp:{id}"),
                proto: Protocol::Tcp,
                service: "echo".to_owned(),
                framing: FramingPair::default(),
            }),
            addresses: Vec::new(),
            state: EndpointState::Open,
            open: 0,
            accepted: 0,
            rejected: 0,
            failing: None,
            server: None,
        };
        ServerState {
            server: ServerInfo {
                id: ServerId(server),
                name: "a\n\u{1b}b".to_owned(),
                started: 0,
            },
            counts: ServerCounts::default(),
            endpoints: (1..=endpoints).map(endpoint).collect(),
        }
    }

    #[test]
    fn endpoints_of_servers_have_ids_of_their_own_that_stay() {
        let mut known = Known::default();
        for question in 1..=2 {
            known.take(state(7, 2), question);
            known.take(state(3, 1), question);
            let place = |id| known.find(id).map(|(server, theirs)| (server.id.0, theirs));
            assert_eq!(
                [1, 2, 3, 4].map(place),
                [Some((7, 1)), Some((7, 2)), Some((3, 1)), None]
            );
        }
        assert_eq!(known.servers[&ServerId(7)].info.name, "ab");
    }

    #[test]
    fn server_that_does_not_answer_is_forgotten_and_its_ids_are_not_used_again() {
        let mut known = Known::default();
        known.take(state(7, 1), 1);
        for _ in 0..UNANSWERED_MAX {
            known.ask();
            assert!(known.find(1).is_some());
        }
        known.ask();
        assert!(known.find(1).is_none());
        known.take(state(8, 1), known.asked);
        assert_eq!(known.find(2).map(|(server, _)| server.id.0), Some(8));
    }

    /// What matters is how often it was asked, and an answer counts whenever it is read: a stall of the console itself makes
    /// nobody vanish.
    #[test]
    fn server_whose_answers_come_late_is_not_forgotten() {
        let mut known = Known::default();
        known.take(state(7, 1), 1);
        for _ in 0..3 {
            for _ in 0..UNANSWERED_MAX {
                known.ask();
            }
            known.take(state(7, 1), 1);
        }
        assert!(known.find(1).is_some());
    }

    #[test]
    fn answer_from_before_a_command_does_not_undo_its_result() {
        let mut known = Known::default();
        let question = known.ask();
        known.take(state(7, 2), question);
        let mut paused = known.servers[&ServerId(7)].endpoints[1].1.clone();
        paused.state = EndpointState::Paused;
        let asked_before = known.ask();
        known.set(ServerId(7), &paused);
        let states = |known: &Known| {
            let endpoints = &known.servers[&ServerId(7)].endpoints;
            [0, 1].map(|place: usize| endpoints[place].1.state)
        };
        known.take(state(7, 2), asked_before);
        let (open, paused) = (EndpointState::Open, EndpointState::Paused);
        assert_eq!(states(&known), [open, paused]);
        // It is a sign of life all the same, and the next one counts.
        assert_eq!(known.servers[&ServerId(7)].unanswered, 0);
        let asked_after = known.ask();
        known.take(state(7, 2), asked_after);
        assert_eq!(states(&known), [open, open]);
    }

    #[test]
    fn table_of_servers_is_bounded() {
        let mut known = Known::default();
        for server in 1..=SERVERS_MAX as u64 + 5 {
            known.take(state(server, 0), 1);
        }
        assert_eq!(known.servers.len(), SERVERS_MAX);
        known.take(state(1, ENDPOINTS_MAX as u32 + 1), 1);
        assert_eq!(known.servers[&ServerId(1)].endpoints.len(), ENDPOINTS_MAX);
    }
}
