//! The layers over an accepted connection are opened in the conversation's own task, within a deadline.

use std::{
    future::poll_fn,
    io,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use echoic_core::{ending::CloseReason, endpoint::Shape, event::Opened};
use echoic_recorder::{Journal, wall};
use echoic_wire::{Link, ServerLayer, Transport};
use tokio::{select, sync::oneshot};

use crate::{
    drain::{Drain, look_once_more},
    tally::Tally,
    timers::Timers,
};

/// A connection that no conversation is had over.
#[derive(Debug)]
pub(crate) struct NotOpened {
    pub(crate) reason: CloseReason,
    /// To be closed in order; none if a layer that failed has kept it.
    pub(crate) link: Option<Link>,
}

impl NotOpened {
    /// One that was refused before anything was opened over it.
    pub(crate) fn refused(reason: CloseReason, link: Link) -> Self {
        Self {
            reason,
            link: Some(link),
        }
    }
}

/// Opens `layers` over `link`, the lowest first, within `limit` for all of them. A stop of the server ends it once what
/// the kernel has already received has been read: the end of the handshake, and a message after it, may be there.
pub(crate) async fn open(
    link: Link,
    layers: &[Arc<dyn ServerLayer>],
    limit: Duration,
    timers: &Timers,
    drain: &Drain,
) -> Result<Link, NotOpened> {
    let (lent, mut returned) = Lent::new(link);
    let handshakes = async {
        let mut link = Link::layered(Box::new(lent));
        for layer in layers {
            link = layer.accept(link).await?;
        }
        io::Result::Ok(link)
    };
    let mut notice = drain.notice();
    let stopped = async {
        poll_fn(|cx| notice.poll(cx)).await;
        look_once_more().await;
    };
    let reason = select! {
        biased;
        opened = timers.timeout(limit, handshakes) => match opened {
            Ok(Ok(link)) => return Ok(link),
            Ok(Err(error)) => {
                tracing::debug!("a handshake failed: {error}");
                CloseReason::HandshakeFailed
            }
            Err(_) => CloseReason::HandshakeTimeout,
        },
        () = stopped => CloseReason::ServerStopped,
    };
    let link = returned.try_recv().ok();
    Err(NotOpened { reason, link })
}

/// Records a conversation whose link is gone, as one that ended before it began.
pub(crate) fn record(mut journal: Journal, opened: Opened, reason: CloseReason) {
    journal.opened(opened);
    journal.ended(wall(), Tally::default().ending(Some(reason)));
}

/// A link that comes back when it is dropped before the layers over it are open. A layer that fails drops what it lies
/// over, and closing that with something unread would reset the connection and take a TLS alert with it.
#[derive(Debug)]
struct Lent {
    /// None only while it is being dropped.
    link: Option<Link>,
    back: Option<oneshot::Sender<Link>>,
}

impl Lent {
    fn new(link: Link) -> (Self, oneshot::Receiver<Link>) {
        let (back, returned) = oneshot::channel();
        let (link, back) = (Some(link), Some(back));
        (Self { link, back }, returned)
    }

    fn link(&self) -> &Link {
        self.link.as_ref().expect("invariant: not yet dropped")
    }

    fn link_mut(&mut self) -> &mut Link {
        self.link.as_mut().expect("invariant: not yet dropped")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(back), Some(link)) = (self.back.take(), self.link.take()) {
            let _ = back.send(link); // nobody takes it once the layers are open
        }
    }
}

impl Transport for Lent {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.link_mut().poll_read(cx, buffer)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.link_mut().poll_write(cx, bytes)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link_mut().poll_finish(cx)
    }

    fn abort(&mut self) {
        self.link_mut().abort();
    }

    fn lower(&self) -> Option<&Link> {
        Some(self.link())
    }

    fn shape(&self) -> Shape {
        self.link().shape()
    }

    fn closes_on_drop(&self) -> bool {
        self.link().closes_on_drop()
    }
}

#[cfg(test)]
mod tests {
    use echoic_core::service::BoxFuture;
    use tokio::{net::UnixStream, runtime::Handle, task::yield_now, time::Instant};

    use super::*;

    /// Opens at the second look, or never.
    #[derive(Debug)]
    struct Slow {
        ends: bool,
    }

    impl ServerLayer for Slow {
        fn accept(&self, link: Link) -> BoxFuture<'_, io::Result<Link>> {
            Box::pin(async {
                yield_now().await;
                if !self.ends {
                    std::future::pending::<()>().await;
                }
                Ok(link)
            })
        }
    }

    async fn open_slowly(ends: bool) -> Result<Link, NotOpened> {
        let (near, _far) = UnixStream::pair().expect("a pair of sockets");
        let layers: [Arc<dyn ServerLayer>; 1] = [Arc::new(Slow { ends })];
        let timers = Timers::of(&Handle::current());
        let drain = Drain::default();
        drain.start();
        let limit = Duration::from_secs(1);
        open(Link::unix(near, None), &layers, limit, &timers, &drain).await
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_stop_a_handshake_that_only_has_to_be_read_succeeds_and_any_other_ends() {
        let began = Instant::now();
        assert!(open_slowly(true).await.is_ok());
        let ended = open_slowly(false).await.expect_err("it never opens");
        assert_eq!(
            (ended.reason, ended.link.is_some()),
            (CloseReason::ServerStopped, true)
        );
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
