//! Control of servers from other processes: what crosses, and the side of the server.
//!
//! A console asks all servers of a NATS server for their state at [`STATE_SUBJECT`], and sends a command to the subject of one
//! of them. A command is sent once and never repeated, so that it is done once at most.

mod remote;

use std::{fmt, sync::Arc, time::Duration};

use async_nats::{Client, Message, Subscriber};
use echoic_core::{
    control::{
        Call, CallResult, CloseHow, Control, ControlError, EndpointId, EndpointStatus, Requested,
        ServerCounts, Target,
    },
    event::{ConversationId, ServerId, ServerInfo},
};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::{select, task::JoinSet};

pub use self::remote::RemoteControl;
use crate::{
    Connection, NatsError,
    protocol::{read, write},
};

/// Where all servers answer with their state.
pub const STATE_SUBJECT: &str = "echoic.servers";

/// Commands that a server has under way at a time.
const COMMANDS_MAX: usize = 32;

/// Longest wait for a reply that a call may ask for, as at the server's own console.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// Longest pauses of a call in all, as at the server's own console.
const PAUSES_MAX: Duration = Duration::from_mins(5);

/// The state of a server.
#[derive(Debug, Serialize, Deserialize)]
struct ServerState {
    server: ServerInfo,
    counts: ServerCounts,
    endpoints: Vec<EndpointStatus>,
}

/// What a server is to do.
#[derive(Debug, Serialize, Deserialize)]
enum Command {
    SetEndpoint(EndpointId, Requested),
    Send(ConversationId, Vec<u8>),
    Close(ConversationId, CloseHow),
    Call(Call),
}

/// What became of a command.
#[derive(Debug, Serialize, Deserialize)]
enum CommandResult {
    Endpoint(EndpointStatus),
    Done,
    Call(CallResult),
    Failed(ControlError),
}

impl fmt::Debug for Controlled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controlled")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// Returns the subject of the commands for a server.
fn command_subject(server: ServerId) -> String {
    format!("echoic.process.{server}.control")
}

/// A server that is subscribed to questions and commands.
pub struct Controlled {
    client: Client,
    server: Arc<ServerInfo>,
    control: Arc<dyn Control>,
    questions: Subscriber,
    commands: Subscriber,
}

impl Controlled {
    /// Subscribes, so that consoles find the server. Whoever may publish at this NATS server may control it.
    pub async fn subscribe(
        connection: &Connection,
        server: Arc<ServerInfo>,
        control: Arc<dyn Control>,
    ) -> Result<Self, NatsError> {
        let client = connection.client.clone();
        let failed = |error: &dyn fmt::Display| NatsError::failed(connection.url(), error);
        let questions = client.subscribe(STATE_SUBJECT).await;
        let questions = questions.map_err(|error| failed(&error))?;
        let commands = client.subscribe(command_subject(server.id)).await;
        let commands = commands.map_err(|error| failed(&error))?;
        Ok(Self {
            client,
            server,
            control,
            questions,
            commands,
        })
    }

    /// Answers questions and does commands, until the client is closed or this is dropped.
    pub async fn serve(mut self) {
        let mut doing = JoinSet::new();
        loop {
            select! {
                Some(question) = self.questions.next() => self.tell_state(question).await,
                Some(command) = self.commands.next() => self.begin(command, &mut doing).await,
                Some(_) = doing.join_next() => {}
                else => return,
            }
        }
    }

    async fn tell_state(&self, question: Message) {
        let Some(reply) = question.reply else {
            return;
        };
        let state = write(&ServerState {
            server: ServerInfo::clone(&self.server),
            counts: self.control.counts(),
            endpoints: self.control.endpoints(),
        });
        if let Err(error) = self.client.publish(reply, state.into()).await {
            tracing::warn!("a console did not get the state of this server: {error}");
        }
    }

    /// Starts a command. One without a subject for its result is dropped: it was sent by something else.
    async fn begin(&self, message: Message, doing: &mut JoinSet<()>) {
        let Some(reply) = message.reply else {
            return;
        };
        let refused = match read(&message.payload) {
            None => Some(ControlError::Invalid(
                "the server is of another version of echoic than the console".to_owned(),
            )),
            Some(Command::Call(call)) if !is_acceptable(&call) => Some(ControlError::Invalid(
                "a server takes calls to its own endpoints, with waits of a minute and pauses of 5 minutes at most"
                    .to_owned(),
            )),
            Some(_) if doing.len() >= COMMANDS_MAX => Some(ControlError::Busy(format!(
                "{COMMANDS_MAX} commands are under way: try again when one has ended"
            ))),
            Some(command) => {
                let (client, control) = (self.client.clone(), Arc::clone(&self.control));
                doing.spawn(async move {
                    let result = perform(&*control, command).await;
                    answer(&client, reply.to_string(), &result).await;
                });
                return;
            }
        };
        if let Some(error) = refused {
            answer(
                &self.client,
                reply.to_string(),
                &CommandResult::Failed(error),
            )
            .await;
        }
    }
}

/// Checks what the console's own routes check before: others may publish here.
fn is_acceptable(call: &Call) -> bool {
    let count = u32::try_from(call.messages.len()).unwrap_or(u32::MAX);
    let is_own = matches!(call.target, Target::Endpoint(_));
    is_own && call.wait <= WAIT_MAX && call.every.saturating_mul(count) <= PAUSES_MAX
}

async fn perform(control: &dyn Control, command: Command) -> CommandResult {
    let result = match command {
        Command::SetEndpoint(id, state) => {
            let set = control.set_endpoint(id, state).await;
            set.map(CommandResult::Endpoint)
        }
        Command::Send(conversation, bytes) => {
            let sent = control.send(conversation, bytes).await;
            sent.map(|()| CommandResult::Done)
        }
        Command::Close(conversation, how) => {
            let closed = control.close(conversation, how).await;
            closed.map(|()| CommandResult::Done)
        }
        Command::Call(call) => control.call(call).await.map(CommandResult::Call),
    };
    result.unwrap_or_else(CommandResult::Failed)
}

async fn answer(client: &Client, reply: String, result: &CommandResult) {
    let mut payload = write(result);
    let most = client.max_payload();
    if payload.len() > most {
        payload = write(&CommandResult::Failed(ControlError::Failed(format!(
            "it is done, but its result has more than the {most} bytes that NATS takes: see the record"
        ))));
    }
    if let Err(error) = client.publish(reply, payload.into()).await {
        tracing::warn!("the result of a command was not sent: {error}");
    }
}
