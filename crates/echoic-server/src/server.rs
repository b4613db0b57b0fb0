//! The server: endpoints in, conversations out.

use std::{
    fmt,
    future::{Future, poll_fn},
    sync::Arc,
};

use echoic_core::{
    endpoint::Endpoint,
    event::{Place, Post},
    framing::Frames,
    guests::Guests,
    limits::Limits,
    service::Service,
};
use echoic_wire::{ListenError, ListenOptions, Listener, listen};
use tokio::{
    pin,
    runtime::Handle,
    select,
    time::{Instant, sleep_until},
};

use crate::{accept::Hall, drain::Drain, recorder::Recorder};

/// A server on its endpoints.
pub struct Server {
    pub(crate) doors: Vec<Door>,
    pub(crate) recorder: Recorder,
    pub(crate) limits: Arc<Limits>,
    pub(crate) drain: Drain,
    pub(crate) workers: Vec<Handle>,
    pub(crate) apart: Option<Handle>,
    pub(crate) conversations_max: Option<u64>,
}

/// Somewhere to knock: a listener, who answers there, and how.
pub(crate) struct Door {
    pub(crate) listener: Listener,
    pub(crate) post: Arc<Post>,
    pub(crate) service: Arc<dyn Service>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) guests: Arc<Guests>,
}

/// An endpoint to be opened, and everything that holds there.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Where.
    pub endpoint: Endpoint,
    /// Who answers.
    pub service: Arc<dyn Service>,
    /// How its stream is divided. Does not apply to datagrams, each of which is a message.
    pub framing: Frames,
    /// What its conversations may take; `connections_max` and `drain` are the server's and not looked at here.
    pub limits: Limits,
    /// Who may call.
    pub guests: Guests,
    /// How it listens.
    pub listen: ListenOptions,
}

impl Opening {
    /// `service` at `endpoint`, everything else as it is unless told otherwise.
    pub fn new(endpoint: Endpoint, service: Arc<dyn Service>) -> Self {
        Self {
            endpoint,
            service,
            framing: Frames::default(),
            limits: Limits::default(),
            guests: Guests::default(),
            listen: ListenOptions::default(),
        }
    }
}

/// A place the server listens at.
#[derive(Clone, Debug)]
pub struct Listening {
    /// The address, with its real port.
    pub place: Place,
    /// What answers there.
    pub post: Arc<Post>,
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
}

impl Server {
    /// A server that listens nowhere yet. Its conversations run on the runtime [`Self::run`] is called on.
    pub fn new(recorder: Recorder, limits: Limits) -> Self {
        Self {
            doors: Vec::new(),
            recorder,
            limits: Arc::new(limits),
            drain: Drain::default(),
            workers: Vec::new(),
            apart: None,
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

    /// Runs services that run apart on this runtime.
    #[must_use]
    pub fn apart_on(mut self, runtime: Handle) -> Self {
        self.apart = Some(runtime);
        self
    }

    /// Stops by itself after so many conversations.
    #[must_use]
    pub fn only(mut self, conversations: u64) -> Self {
        self.conversations_max = Some(conversations);
        self
    }

    /// Opens an endpoint for `service`, with the server's limits and everything else as it is unless told otherwise;
    /// returns the addresses it then listens at.
    pub async fn listen(
        &mut self,
        endpoint: &Endpoint,
        service: Arc<dyn Service>,
    ) -> Result<Vec<Place>, ListenError> {
        let limits = Limits::clone(&self.limits);
        self.open(Opening {
            limits,
            ..Opening::new(endpoint.clone(), service)
        })
        .await
    }

    /// Opens an endpoint; returns the addresses it then listens at.
    pub async fn open(&mut self, opening: Opening) -> Result<Vec<Place>, ListenError> {
        let Opening {
            endpoint,
            service,
            framing,
            limits,
            guests,
            listen: options,
        } = opening;
        let listeners = listen(&endpoint, &options).await?;
        let places: Vec<Place> = listeners
            .iter()
            .map(|listener| listener.place().clone())
            .collect();
        let post = Arc::new(post(&endpoint, &places[0], &*service, framing));
        let (limits, guests) = (Arc::new(limits), Arc::new(guests));
        self.doors
            .extend(listeners.into_iter().map(|listener| Door {
                listener,
                post: Arc::clone(&post),
                service: Arc::clone(&service),
                limits: Arc::clone(&limits),
                guests: Arc::clone(&guests),
            }));
        Ok(places)
    }

    /// Where it listens.
    pub fn listening_at(&self) -> Vec<Listening> {
        let at = |door: &Door| Listening {
            place: door.listener.place().clone(),
            post: Arc::clone(&door.post),
        };
        self.doors.iter().map(at).collect()
    }

    /// Serves until `shutdown` is ready, then drains: no new calls, every message already received is answered, and
    /// whoever is not done by the deadline is cut.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Drained {
        pin!(shutdown);
        let here = Handle::current();
        let mut hall = Hall::new(self, here);
        let mut pause = None;
        loop {
            if hall.is_done() {
                break;
            }
            select! {
                biased;
                () = &mut shutdown => break,
                () = sleep_until(pause.unwrap_or_else(Instant::now)), if pause.is_some() => pause = None,
                called = poll_fn(|cx| hall.poll_call(cx, pause.is_none())) => {
                    pause = hall.admit(called, pause);
                }
            }
        }
        hall.drain().await
    }
}

/// What the record says of an endpoint. An inherited socket is named for what it is.
fn post(endpoint: &Endpoint, place: &Place, service: &dyn Service, framing: Frames) -> Post {
    let proto = match (endpoint, place) {
        (Endpoint::Fd(_), Place::Net(_)) => "tcp",
        (Endpoint::Fd(_), Place::Unix(_)) => "unix",
        _ => endpoint.scheme(),
    };
    let name = match place {
        Place::Net(addr) => format!("{proto}:{}", addr.port()),
        Place::Unix(Some(name)) => format!("{proto}:{name}"),
        Place::Unix(None) => proto.to_owned(),
    };
    Post {
        name,
        proto,
        service: service.name().to_owned(),
        framing,
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("listening_at", &self.listening_at())
            .finish_non_exhaustive()
    }
}
