//! The server's configuration and endpoints. `accept.rs` runs it.

use std::{fmt, sync::Arc, time::Duration};

use echoic_core::{
    access::AccessList,
    endpoint::{Endpoint, Shape},
    event::{Address, EndpointInfo},
    framing::FramingPair,
    limits::{Limits, SourceLimits},
    service::{Handler, Peer, Service},
};
use echoic_recorder::Recorder;
use echoic_wire::{
    BoundDatagrams, ListenError, ListenOptions, Listener, ServerLayer, bind_datagrams, listen,
    shape,
};
use thiserror::Error;
use tokio::runtime::Handle;

use crate::{
    control::{ServedEndpoint, ServerControl},
    datagrams::{DatagramCounts, Rules},
    drain::Drain,
};

/// Connections beyond a limit that are rejected by a lingering close at the same time; further ones are just closed.
const REJECTING_MAX: usize = 64;

/// A server and its open endpoints.
pub struct Server {
    listening: Vec<Listening>,
    pub(crate) listeners: Vec<BoundListener>,
    pub(crate) bindings: Vec<DatagramBinding>,
    pub(crate) recorder: Recorder,
    pub(crate) limits: Arc<Limits>,
    pub(crate) source_limits: SourceLimits,
    pub(crate) max_rejecting: usize,
    pub(crate) drain: Drain,
    pub(crate) workers: Vec<Handle>,
    /// The runtime of the control plane.
    pub(crate) control_runtime: Option<Handle>,
    /// Stop once this many conversations were admitted.
    pub(crate) stop_after: Option<u64>,
    pub(crate) control: ServerControl,
}

/// A listener with the service and the limits of its endpoint.
pub(crate) struct BoundListener {
    pub(crate) listener: Listener,
    pub(crate) endpoint: Arc<ServedEndpoint>,
    pub(crate) service: Arc<dyn Service>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) access: Arc<AccessList>,
    pub(crate) layers: Arc<[Arc<dyn ServerLayer>]>,
}

/// The datagram sockets of one address, one per worker, with the rules of their endpoint.
pub(crate) struct DatagramBinding {
    pub(crate) address: Address,
    pub(crate) sockets: Vec<BoundDatagrams>,
    pub(crate) rules: Arc<Rules>,
}

/// Configuration of an endpoint to be opened.
#[derive(Clone, Debug)]
pub struct EndpointConfig {
    /// The address to listen on.
    pub endpoint: Endpoint,
    /// The service that answers.
    pub service: Arc<dyn Service>,
    /// How its streams are divided into messages. Does not apply to datagrams: each is a message.
    pub framing: FramingPair,
    /// Limits of its conversations. `connections_max` and `drain_timeout` are the server's and are ignored here.
    pub limits: Limits,
    /// The peers that are admitted.
    pub access: AccessList,
    /// Socket options.
    pub listen: ListenOptions,
    /// Layers to open over each connection (TLS), the lowest first. Datagrams have none.
    pub layers: Vec<Arc<dyn ServerLayer>>,
    /// Whether UDP replies may be longer than their requests. A forged source address could then make this server flood
    /// a third party.
    pub udp_allow_amplification: bool,
    /// Silence after which a datagram peer's conversation ends; its next datagram opens another one.
    pub datagram_idle_timeout: Duration,
}

impl EndpointConfig {
    /// `service` at `endpoint`, with defaults for everything else.
    pub fn new(endpoint: Endpoint, service: Arc<dyn Service>) -> Self {
        Self {
            endpoint,
            service,
            framing: FramingPair::default(),
            limits: Limits::default(),
            access: AccessList::default(),
            listen: ListenOptions::default(),
            layers: Vec::new(),
            udp_allow_amplification: false,
            datagram_idle_timeout: Duration::from_secs(30),
        }
    }
}

/// Why an endpoint cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// It cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The service's replies may be longer than its requests.
    #[error(
        "{service} cannot be served on {endpoint}: its replies may be longer than its requests, so over UDP a forged \
         source address could make it flood a third party; serve it over tcp, or allow it with \
         --udp-allow-amplification"
    )]
    Amplifies {
        /// The service.
        service: String,
        /// The endpoint.
        endpoint: Endpoint,
    },
    /// The service has spawned handlers, which need a stream.
    #[error(
        "{service} cannot be served on {endpoint}: it needs a stream; serve it over tcp or unix"
    )]
    NeedsStream {
        /// The service.
        service: String,
        /// The endpoint.
        endpoint: Endpoint,
    },
    /// The endpoint's scheme asks for TLS, and no layer was given for it.
    #[error("{endpoint} needs a certificate: add a TLS layer to its configuration")]
    NeedsTls {
        /// The endpoint.
        endpoint: Endpoint,
    },
    /// Layers were asked for over datagrams.
    #[error(
        "{endpoint} cannot have a layer over it: a layer needs a stream; serve it over tcp or unix"
    )]
    LayerNeedsStream {
        /// The endpoint.
        endpoint: Endpoint,
    },
}

/// An address the server listens on.
#[derive(Clone, Debug)]
pub struct Listening {
    /// The address; port 0 is replaced by the port the system chose.
    pub address: Address,
    /// The endpoint's name, service and framing.
    pub endpoint_info: Arc<EndpointInfo>,
}

/// Totals of a server that has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Exchanges served.
    pub served: u64,
    /// Conversations aborted because the drain timeout passed.
    pub cut: u64,
    /// Conversations that ended in a panic.
    pub panicked: u64,
    /// Counts of datagrams.
    pub datagrams: DatagramCounts,
}

impl Server {
    /// Returns a server without endpoints. Its conversations run on the runtime that [`Self::run`] is called on.
    pub fn new(recorder: Recorder, limits: Limits) -> Self {
        Self {
            listening: Vec::new(),
            listeners: Vec::new(),
            bindings: Vec::new(),
            control: ServerControl::new(recorder.clone()),
            recorder,
            limits: Arc::new(limits),
            source_limits: SourceLimits::default(),
            max_rejecting: REJECTING_MAX,
            drain: Drain::default(),
            workers: Vec::new(),
            control_runtime: None,
            stop_after: None,
        }
    }

    /// Runs conversations on these runtimes; a new one goes to the runtime with the fewest. Each should be a
    /// `current_thread` runtime on a thread of its own.
    #[must_use]
    pub fn on_workers(mut self, workers: Vec<Handle>) -> Self {
        self.workers = workers;
        self
    }

    /// Rejects at most `max` connections by a lingering close at the same time (64 at most, the default). Each holds a
    /// file descriptor until its peer has seen the end of the stream.
    #[must_use]
    pub fn max_rejecting(mut self, max: usize) -> Self {
        self.max_rejecting = max.min(REJECTING_MAX);
        self
    }

    /// Limits for all conversations of one source together, over all stream endpoints.
    #[must_use]
    pub fn source_limits(mut self, limits: SourceLimits) -> Self {
        self.source_limits = limits;
        self
    }

    /// Runs spawned handlers and the timers of conversations on this runtime, which needs its timers enabled. The workers
    /// then need none: a worker with a timer would arm one in the kernel each time it sleeps.
    #[must_use]
    pub fn control_runtime(mut self, runtime: Handle) -> Self {
        self.control_runtime = Some(runtime);
        self
    }

    /// Stops after this many conversations.
    #[must_use]
    pub fn stop_after(mut self, conversations: u64) -> Self {
        self.stop_after = Some(conversations);
        self
    }

    /// Opens an endpoint for `service` with the server's limits and defaults for everything else. Returns the addresses
    /// it listens on.
    pub async fn listen(
        &mut self,
        endpoint: &Endpoint,
        service: Arc<dyn Service>,
    ) -> Result<Vec<Address>, OpenError> {
        let limits = Limits::clone(&self.limits);
        self.open(EndpointConfig {
            limits,
            ..EndpointConfig::new(endpoint.clone(), service)
        })
        .await
    }

    /// Opens an endpoint and returns the addresses it listens on. A datagram endpoint gets a socket for each worker, so
    /// [`Self::on_workers`] comes first.
    pub async fn open(&mut self, mut config: EndpointConfig) -> Result<Vec<Address>, OpenError> {
        config.listen.timers = config
            .listen
            .timers
            .or_else(|| self.control_runtime.clone());
        if shape(&config.endpoint)? == Shape::Datagrams {
            return self.open_for_datagrams(config).await;
        }
        if matches!(config.endpoint, Endpoint::Tls(_)) && config.layers.is_empty() {
            let endpoint = config.endpoint;
            return Err(OpenError::NeedsTls { endpoint });
        }
        let listeners = listen(&config.endpoint, &config.listen).await?;
        Ok(self.open_on(listeners, config))
    }

    /// Opens a stream endpoint on existing listeners and returns their addresses.
    ///
    /// # Panics
    ///
    /// Panics if `listeners` is empty.
    pub fn open_on(&mut self, listeners: Vec<Listener>, config: EndpointConfig) -> Vec<Address> {
        let EndpointConfig {
            endpoint,
            service,
            framing,
            limits,
            access,
            layers,
            ..
        } = config;
        let addresses: Vec<Address> = listeners
            .iter()
            .map(|listener| listener.address().clone())
            .collect();
        let endpoint_info = Arc::new(EndpointInfo::new(
            &endpoint,
            &addresses[0],
            Shape::Stream,
            service.name(),
            framing,
        ));
        let served = self.add_endpoint(&addresses, endpoint_info, &service);
        let (limits, access) = (Arc::new(limits), Arc::new(access));
        let layers: Arc<[_]> = layers.into();
        self.listeners
            .extend(listeners.into_iter().map(|listener| BoundListener {
                listener,
                endpoint: Arc::clone(&served),
                service: Arc::clone(&service),
                limits: Arc::clone(&limits),
                access: Arc::clone(&access),
                layers: Arc::clone(&layers),
            }));
        addresses
    }

    async fn open_for_datagrams(
        &mut self,
        config: EndpointConfig,
    ) -> Result<Vec<Address>, OpenError> {
        let EndpointConfig {
            endpoint,
            service,
            limits,
            access,
            listen: options,
            layers,
            ..
        } = config;
        if !layers.is_empty() {
            return Err(OpenError::LayerNeedsStream { endpoint });
        }
        let (may_amplify, idle_timeout) =
            (config.udp_allow_amplification, config.datagram_idle_timeout);
        let bound = bind_datagrams(&endpoint, &options, self.workers.len()).await?;
        let addresses: Vec<Address> = bound
            .iter()
            .map(|sockets| sockets[0].address().clone())
            .collect();
        check_datagram_service(&*service, &endpoint, &addresses[0], may_amplify)?;
        let framing = FramingPair::default();
        let endpoint_info = Arc::new(EndpointInfo::new(
            &endpoint,
            &addresses[0],
            Shape::Datagrams,
            service.name(),
            framing,
        ));
        let (limits, access) = (Arc::new(limits), Arc::new(access));
        let rules = Arc::new(Rules {
            endpoint: self.add_endpoint(&addresses, endpoint_info, &service),
            service,
            limits,
            access,
            may_amplify,
            idle_timeout,
        });
        self.bindings
            .extend(
                addresses
                    .iter()
                    .zip(bound)
                    .map(|(address, sockets)| DatagramBinding {
                        address: address.clone(),
                        sockets,
                        rules: Arc::clone(&rules),
                    }),
            );
        Ok(addresses)
    }

    /// Adds an endpoint with the addresses that it listens on.
    pub(crate) fn add_endpoint(
        &mut self,
        addresses: &[Address],
        endpoint_info: Arc<EndpointInfo>,
        service: &Arc<dyn Service>,
    ) -> Arc<ServedEndpoint> {
        let listening = addresses.iter().map(|address| Listening {
            address: address.clone(),
            endpoint_info: Arc::clone(&endpoint_info),
        });
        self.listening.extend(listening);
        let shared = self.control.shared();
        shared.add_endpoint(endpoint_info, addresses.to_vec(), Arc::clone(service))
    }

    /// Returns a handle to this server: its counts, the states of its endpoints, and commands for its conversations.
    pub fn control(&self) -> ServerControl {
        self.control.clone()
    }

    /// The addresses it listens on, in the order in which they were opened.
    pub fn listening_at(&self) -> Vec<Listening> {
        self.listening.clone()
    }
}

/// Checks that `service` can be served over datagrams at `address`.
fn check_datagram_service(
    service: &dyn Service,
    endpoint: &Endpoint,
    address: &Address,
    may_amplify: bool,
) -> Result<(), OpenError> {
    let name = || service.name().to_owned();
    if service.amplifies() && !may_amplify && matches!(address, Address::Net(_)) {
        return Err(OpenError::Amplifies {
            service: name(),
            endpoint: endpoint.clone(),
        });
    }
    let any_peer = Peer {
        conversation: 0,
        remote: address.clone(),
        local: address.clone(),
        framing: FramingPair::default(),
        shape: Shape::Datagrams,
    };
    if matches!(service.handler(&any_peer), Handler::Spawned(_)) {
        return Err(OpenError::NeedsStream {
            service: name(),
            endpoint: endpoint.clone(),
        });
    }
    Ok(())
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("listening_at", &self.listening_at())
            .finish_non_exhaustive()
    }
}
