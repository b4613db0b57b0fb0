//! The server: its endpoints, and what holds for their conversations. How it runs is in the file `accept.rs`.

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
    ListenError, ListenOptions, Listener, ServerLayer, UnopenedDatagrams, bind_datagrams, listen,
    shape,
};
use thiserror::Error;
use tokio::runtime::Handle;

use crate::{
    datagrams::{DatagramCounts, Rules},
    drain::Drain,
};

/// Conversations beyond the limit that are turned away in order at the same time; further ones are just closed.
const REJECTING_MAX: usize = 64;

/// A server on its endpoints.
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
    pub(crate) control: Option<Handle>,
    pub(crate) conversations_max: Option<u64>,
}

/// Somewhere to knock: a listener, who answers there, and how.
pub(crate) struct BoundListener {
    pub(crate) listener: Listener,
    pub(crate) endpoint_info: Arc<EndpointInfo>,
    pub(crate) service: Arc<dyn Service>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) access: Arc<AccessList>,
    pub(crate) layers: Arc<[Arc<dyn ServerLayer>]>,
}

/// Somewhere to drop datagrams in: a socket for each worker, who answers there, and how.
pub(crate) struct DatagramBinding {
    pub(crate) address: Address,
    pub(crate) sockets: Vec<UnopenedDatagrams>,
    pub(crate) rules: Arc<Rules>,
}

/// An endpoint to be opened, and everything that holds there.
#[derive(Clone, Debug)]
pub struct EndpointConfig {
    /// Where.
    pub endpoint: Endpoint,
    /// Who answers.
    pub service: Arc<dyn Service>,
    /// How its stream is divided. Does not apply to datagrams, each of which is a message.
    pub framing: FramingPair,
    /// What its conversations may take; `connections_max` and `drain` are the server's and not looked at here.
    pub limits: Limits,
    /// Who may call.
    pub access: AccessList,
    /// How it listens.
    pub listen: ListenOptions,
    /// Layers to open over each connection (TLS), the lowest first. Datagrams have none.
    pub layers: Vec<Arc<dyn ServerLayer>>,
    /// Over UDP, whether answers may be longer than what they answer, so that this server could be used to flood
    /// somebody whose address is forged.
    pub udp_allow_amplification: bool,
    /// A peer of datagrams that is silent for this long has gone; if it comes again, that is another conversation.
    pub datagram_gap: Duration,
}

impl EndpointConfig {
    /// `service` at `endpoint`, everything else as it is unless told otherwise.
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
            datagram_gap: Duration::from_secs(30),
        }
    }
}

/// Why an endpoint cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// It cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The service says more than it hears.
    #[error(
        "{service} is not served on {endpoint}: it says more than it hears, and over UDP a forged address would have \
         it flood somebody else; serve it over tcp, or ask for it with --udp-allow-amplification"
    )]
    Amplifies {
        /// The service.
        service: String,
        /// The endpoint.
        endpoint: Endpoint,
    },
    /// The service runs beside its conversation, for which datagrams have no place.
    #[error("{service} is not served on {endpoint}: it needs a stream; serve it over tcp or unix")]
    NeedsStream {
        /// The service.
        service: String,
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

/// A place the server listens at.
#[derive(Clone, Debug)]
pub struct Listening {
    /// The address, with its real port.
    pub address: Address,
    /// What answers there.
    pub endpoint_info: Arc<EndpointInfo>,
}

/// How a server stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Exchanges served, all in all.
    pub served: u64,
    /// Conversations cut because the deadline for stopping had passed.
    pub cut: u64,
    /// Conversations ended by a bug.
    pub panicked: u64,
    /// What became of datagrams.
    pub datagrams: DatagramCounts,
}

impl Server {
    /// A server that listens nowhere yet. Its conversations run on the runtime [`Self::run`] is called on.
    pub fn new(recorder: Recorder, limits: Limits) -> Self {
        Self {
            listening: Vec::new(),
            listeners: Vec::new(),
            bindings: Vec::new(),
            recorder,
            limits: Arc::new(limits),
            source_limits: SourceLimits::default(),
            max_rejecting: REJECTING_MAX,
            drain: Drain::default(),
            workers: Vec::new(),
            control: None,
            conversations_max: None,
        }
    }

    /// Runs conversations on these runtimes, each on the one with the fewest. A runtime of one thread each is what
    /// they are meant for.
    #[must_use]
    pub fn on_workers(mut self, workers: Vec<Handle>) -> Self {
        self.workers = workers;
        self
    }

    /// Turns at most so many away in order at the same time, where there are too few files for the 64 it would be
    /// otherwise: each takes one until its peer has seen the end.
    #[must_use]
    pub fn max_rejecting(mut self, max: usize) -> Self {
        self.max_rejecting = max.min(REJECTING_MAX);
        self
    }

    /// What the conversations of one source together may take, over all endpoints of streams.
    #[must_use]
    pub fn source_limits(mut self, limits: SourceLimits) -> Self {
        self.source_limits = limits;
        self
    }

    /// Runs spawned handlers on this runtime, and has it watch the deadlines of conversations: it needs its
    /// timers enabled, the workers then do not, and sleep more cheaply without.
    #[must_use]
    pub fn control_runtime(mut self, runtime: Handle) -> Self {
        self.control = Some(runtime);
        self
    }

    /// Stops by itself after so many conversations.
    #[must_use]
    pub fn stop_after(mut self, conversations: u64) -> Self {
        self.conversations_max = Some(conversations);
        self
    }

    /// Opens an endpoint for `service`, with the server's limits and everything else as it is unless told otherwise;
    /// returns the addresses it then listens at.
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

    /// Opens an endpoint; returns the addresses it then listens at. One of datagrams gets a socket for each of the
    /// workers there are by then.
    pub async fn open(&mut self, mut config: EndpointConfig) -> Result<Vec<Address>, OpenError> {
        config.listen.timers = config.listen.timers.or_else(|| self.control.clone());
        if shape(&config.endpoint)? == Shape::Datagrams {
            return self.open_for_datagrams(config).await;
        }
        let listeners = listen(&config.endpoint, &config.listen).await?;
        Ok(self.open_on(listeners, config))
    }

    /// Opens an endpoint of streams on listeners that the caller has, one at least; returns their addresses.
    ///
    /// # Panics
    ///
    /// Without a listener.
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
        self.opened(&addresses, &endpoint_info);
        let (limits, access) = (Arc::new(limits), Arc::new(access));
        let layers: Arc<[_]> = layers.into();
        self.listeners
            .extend(listeners.into_iter().map(|listener| BoundListener {
                listener,
                endpoint_info: Arc::clone(&endpoint_info),
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
        let (may_amplify, gap) = (config.udp_allow_amplification, config.datagram_gap);
        let bound = bind_datagrams(&endpoint, &options, self.workers.len()).await?;
        let addresses: Vec<Address> = bound
            .iter()
            .map(|sockets| sockets[0].address().clone())
            .collect();
        let name = || service.name().to_owned();
        if service.amplifies() && !may_amplify && matches!(addresses[0], Address::Net(_)) {
            return Err(OpenError::Amplifies {
                service: name(),
                endpoint,
            });
        }
        let framing = FramingPair::default();
        let somebody = Peer {
            conversation: 0,
            remote: addresses[0].clone(),
            local: addresses[0].clone(),
            framing,
            shape: Shape::Datagrams,
        };
        if matches!(service.handler(&somebody), Handler::Spawned(_)) {
            return Err(OpenError::NeedsStream {
                service: name(),
                endpoint,
            });
        }
        let endpoint_info = Arc::new(EndpointInfo::new(
            &endpoint,
            &addresses[0],
            Shape::Datagrams,
            service.name(),
            framing,
        ));
        self.opened(&addresses, &endpoint_info);
        let (limits, access) = (Arc::new(limits), Arc::new(access));
        let rules = Arc::new(Rules {
            endpoint_info,
            service,
            limits,
            access,
            may_amplify,
            gap,
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

    fn opened(&mut self, addresses: &[Address], endpoint_info: &Arc<EndpointInfo>) {
        let listening = addresses.iter().map(|address| Listening {
            address: address.clone(),
            endpoint_info: Arc::clone(endpoint_info),
        });
        self.listening.extend(listening);
    }

    /// Where it listens, in the order in which it was opened.
    pub fn listening_at(&self) -> Vec<Listening> {
        self.listening.clone()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("listening_at", &self.listening_at())
            .finish_non_exhaustive()
    }
}
