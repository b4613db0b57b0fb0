//! What a web console may do with the server, its own or one elsewhere: [`Control`].

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use echoic_core::{
    control::{
        Call, CallResult, CloseHow, Control, ControlError, EndpointId, EndpointState,
        EndpointStatus, Requested, ServerCounts, SocketCall, Target, TargetStatus,
    },
    endpoint::{Endpoint, Host, HostPort},
    event::{Address, ConversationId, Protocol},
    framing::FramingPair,
    process::SeenProcess,
    service::BoxFuture,
};
use echoic_recorder::{Recorder, wall_clock_now};
use echoic_server::ServerControl;
use tokio::{
    sync::{Semaphore, watch},
    time::timeout,
};

use super::{
    call::{self, CallPlan, Recording},
    plan::Plan,
    status::ServerState,
};

/// Most calls at a time.
const CALLS_MAX: usize = 16;

/// Acts on the server of this process.
pub(super) struct ServeControl {
    server: ServerControl,
    recorder: Recorder,
    state: Arc<ServerState>,
    /// The address of the console, if there is one: it is never called.
    console: Option<SocketAddr>,
    allowed: Vec<Endpoint>,
    /// The batch of the recorder that takes what a call to an allowed target records.
    shard: usize,
    calls: Arc<Semaphore>,
    stop: watch::Sender<bool>,
    recorded: Arc<AtomicU64>,
}

/// Time at the stop for calls to end.
const STOP_WITHIN: Duration = Duration::from_millis(500);

impl ServeControl {
    pub(super) fn new(
        plan: &Plan,
        server: ServerControl,
        console: Option<SocketAddr>,
        state: &Arc<ServerState>,
    ) -> Self {
        Self {
            server,
            recorder: state.recorder.clone(),
            state: Arc::clone(state),
            console,
            allowed: plan.console_send.clone(),
            shard: plan.workers,
            calls: Arc::new(Semaphore::new(CALLS_MAX)),
            stop: watch::Sender::new(false),
            recorded: Arc::default(),
        }
    }

    /// Ends all calls, so that their ends are recorded.
    pub(super) async fn stop_calls(&self) {
        self.stop.send_replace(true);
        let _ = timeout(STOP_WITHIN, self.calls.acquire_many(CALLS_MAX as u32)).await;
    }

    /// Returns the number of exchanges that calls have recorded as a client.
    pub(super) fn recorded(&self) -> u64 {
        self.recorded.load(Ordering::Relaxed)
    }

    /// Decides where a call goes and who records it.
    fn plan(&self, call: Call) -> Result<CallPlan, ControlError> {
        let (endpoint, default, recording) = match call.target {
            Target::Endpoint(id) => {
                let status = self.server.endpoints().into_iter();
                let status = status.into_iter().find(|endpoint| endpoint.id == id);
                let status =
                    status.ok_or_else(|| ControlError::NotFound(format!("endpoint {id}")))?;
                check_open(&status)?;
                let FramingPair { inbound, outbound } = status.info.framing;
                // What the server receives is what the client sends.
                let framing = FramingPair {
                    inbound: outbound,
                    outbound: inbound,
                };
                let own = Recording::OfServer {
                    name: status.info.name.clone(),
                };
                (own_address(&status)?, framing, own)
            }
            Target::Allowed(id) => {
                let target = (id as usize).checked_sub(1);
                let target = target.and_then(|index| self.allowed.get(index));
                let target =
                    target.ok_or_else(|| ControlError::NotFound(format!("target {id}")))?;
                let own = Recording::Own { shard: self.shard };
                (target.clone(), FramingPair::default(), own)
            }
        };
        Ok(CallPlan {
            framing: call.framing.unwrap_or(default),
            endpoint,
            recording,
            messages: call.messages,
            every: call.every,
            wait: call.wait,
            never: self.console,
            stop: self.stop.subscribe(),
            recorded: Arc::clone(&self.recorded),
        })
    }
}

/// A peer of a paused endpoint would wait in the backlog without a word.
fn check_open(status: &EndpointStatus) -> Result<(), ControlError> {
    let word = match status.state {
        EndpointState::Open => return Ok(()),
        EndpointState::Paused => "paused",
        EndpointState::Draining => "draining",
    };
    let name = &status.info.name;
    Err(ControlError::Invalid(format!(
        "{name} is {word} and accepts nothing: open it first"
    )))
}

/// Returns where a client of this machine reaches an endpoint. An unspecified address is no address to connect to; loopback is.
fn own_address(status: &EndpointStatus) -> Result<Endpoint, ControlError> {
    let unreachable = || {
        let name = &status.info.name;
        ControlError::Invalid(format!("{name} has no address to connect to"))
    };
    match (status.addresses.first(), status.info.proto) {
        (Some(Address::Net(address)), proto) => {
            let ip = match address {
                SocketAddr::V4(_) if address.ip().is_unspecified() => {
                    std::net::Ipv4Addr::LOCALHOST.into()
                }
                SocketAddr::V6(_) if address.ip().is_unspecified() => {
                    std::net::Ipv6Addr::LOCALHOST.into()
                }
                _ => address.ip(),
            };
            let at = HostPort {
                host: Host::Ip(ip),
                port: address.port(),
            };
            match proto {
                Protocol::Tcp => Ok(Endpoint::Tcp(at)),
                Protocol::Udp => Ok(Endpoint::Udp(at)),
                Protocol::Tls => Err(ControlError::Invalid(format!(
                    "{} has TLS, which the console does not speak as a client yet",
                    status.info.name
                ))),
                _ => Err(unreachable()),
            }
        }
        (Some(Address::Unix(Some(name))), Protocol::Unix) => Ok(Endpoint::Unix(name.clone())),
        (Some(Address::Unix(Some(name))), Protocol::Unixgram) => {
            Ok(Endpoint::Unixgram(name.clone()))
        }
        _ => Err(unreachable()),
    }
}

impl Control for ServeControl {
    fn endpoints(&self) -> Vec<EndpointStatus> {
        self.server.endpoints()
    }

    fn counts(&self) -> ServerCounts {
        self.server.counts()
    }

    fn set_endpoint(
        &self,
        id: EndpointId,
        state: Requested,
    ) -> BoxFuture<'_, Result<EndpointStatus, ControlError>> {
        Box::pin(self.server.set_endpoint(id, state))
    }

    fn send(
        &self,
        conversation: ConversationId,
        bytes: Vec<u8>,
    ) -> BoxFuture<'_, Result<(), ControlError>> {
        Box::pin(self.server.send(conversation, bytes))
    }

    fn close(
        &self,
        conversation: ConversationId,
        how: CloseHow,
    ) -> BoxFuture<'_, Result<(), ControlError>> {
        Box::pin(self.server.close(conversation, how))
    }

    fn call(&self, call: Call) -> BoxFuture<'_, Result<CallResult, ControlError>> {
        Box::pin(async move {
            let Ok(permit) = Arc::clone(&self.calls).try_acquire_owned() else {
                return Err(ControlError::Busy(format!(
                    "{CALLS_MAX} calls are under way: try again when one has ended"
                )));
            };
            let plan = self.plan(call)?;
            let recorder = self.recorder.clone();
            // On a task of its own: its end is recorded even if nobody waits for the result any more.
            let calling = tokio::spawn(async move {
                let result = call::run(plan, &recorder).await;
                drop(permit);
                result
            });
            calling
                .await
                .unwrap_or_else(|error| Err(ControlError::Failed(error.to_string())))
        })
    }

    fn targets(&self) -> Vec<TargetStatus> {
        let targets = self.allowed.iter().zip(1..);
        targets
            .map(|(endpoint, id)| TargetStatus {
                id,
                url: endpoint.to_string(),
            })
            .collect()
    }

    fn explain_next(&self) -> Result<(), ControlError> {
        self.server.explain_next();
        Ok(())
    }

    fn socket_calls(&self, conversation: ConversationId) -> Option<Vec<SocketCall>> {
        self.server.socket_calls(conversation)
    }

    fn processes(&self) -> Vec<SeenProcess> {
        let this = self.state.process();
        vec![SeenProcess::answered(this, wall_clock_now())]
    }
}
