//! A connection from its accept to the start of its session.

use std::{io, ops::ControlFlow, sync::Arc};

use echoic_core::{
    ending::CloseReason,
    endpoint::Shape,
    event::Opened,
    framing::FramingPair,
    message::{Replies, Run},
    service::{Handler, InlineHandler, Peer, Service},
};
use echoic_wire::{Incoming, Link, ServerLayer};

use crate::{
    handshake::{self, NotOpened},
    session::{Session, SessionContext},
    timers::Timers,
};

/// What a conversation starts from. It is boxed and consumed before the session runs: a task keeps what it captured until
/// it ends, so an idle connection would otherwise hold all of this a second time.
pub(crate) struct Accepted {
    pub(crate) incoming: io::Result<Incoming>,
    /// Why the connection is rejected, if it is.
    pub(crate) rejection: Option<CloseReason>,
    /// The layers to open over the connection, lowest first.
    pub(crate) layers: Arc<[Arc<dyn ServerLayer>]>,
    pub(crate) service: Arc<dyn Service>,
    pub(crate) opened: Opened,
    pub(crate) context: SessionContext,
}

impl Accepted {
    /// Serves the conversation, or closes and records one that does not begin.
    pub(crate) async fn run(self: Box<Self>) {
        match self.start().await {
            Some((session, None)) => session.run().await,
            Some((session, Some(reason))) => session.reject(reason).await,
            None => {}
        }
    }

    /// Opens the connection and its layers. Returns the session, and why it is to be rejected; `None` if there is nothing
    /// left to close.
    async fn start(self: Box<Self>) -> Option<(Box<Session>, Option<CloseReason>)> {
        let link = match self.incoming.and_then(Incoming::open) {
            Ok(link) => link,
            Err(error) => {
                tracing::warn!("an accepted connection could not be served: {error}");
                return None;
            }
        };
        let link = match &self.rejection {
            Some(reason) => Err(NotOpened::rejected(*reason, link)),
            None if self.layers.is_empty() => Ok(link),
            // Boxed, so that tasks of conversations without layers do not grow by the size of the handshake.
            None => Box::pin(open_layers(link, &self.layers, &self.context)).await,
        };
        let (mut opened, context) = (self.opened, self.context);
        opened.tls = match &link {
            Ok(link) => link.tls().cloned(),
            Err(not_opened) => not_opened.tls.clone(),
        };
        let (link, rejection) = match link {
            Ok(link) => (link, None),
            Err(NotOpened {
                reason,
                link: Some(link),
                ..
            }) => (link, Some(reason)),
            Err(NotOpened {
                reason, link: None, ..
            }) => {
                handshake::record(context.journal, opened, reason);
                return None;
            }
        };
        let peer = peer(&link, &opened);
        let handler = if rejection.is_some() {
            Handler::Inline(silent_handler())
        } else {
            self.service.handler(&peer)
        };
        let session = Session::new(link, handler, &peer, opened, context);
        Some((session, rejection))
    }
}

/// The peer as a service sees it. The shape comes from the link: a layer may turn a stream into messages.
fn peer(link: &Link, opened: &Opened) -> Peer {
    let shape = link.shape();
    Peer {
        conversation: opened.conversation,
        remote: opened.remote.clone(),
        local: opened.local.clone(),
        framing: match shape {
            Shape::Stream => opened.endpoint_info.framing,
            Shape::Datagrams | Shape::Messages => FramingPair::default(),
        },
        shape,
    }
}

/// Opens the layers over an accepted connection.
async fn open_layers(
    link: Link,
    layers: &[Arc<dyn ServerLayer>],
    context: &SessionContext,
) -> Result<Link, NotOpened> {
    let timers = Timers::of(&context.control);
    let limit = context.limits.handshake_timeout;
    handshake::open(link, layers, limit, &timers, &context.drain).await
}

/// Returns a handler for connections that are rejected.
pub(crate) fn silent_handler() -> Box<dyn InlineHandler> {
    struct SilentHandler;
    impl InlineHandler for SilentHandler {
        fn answer(&mut self, _: &Run<'_>, _: &mut Replies) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
    }
    Box::new(SilentHandler)
}
