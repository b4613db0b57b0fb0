//! Opens the layers over an accepted connection (TLS), in the conversation's own task and within a deadline.

use std::{future::poll_fn, io, sync::Arc, time::Duration};

use echoic_core::{
    ending::CloseReason,
    event::{Opened, TlsInfo},
};
use echoic_recorder::{Journal, wall_clock_now};
use echoic_wire::{Link, ServerLayer, TlsError, lend};
use tokio::select;

use crate::{
    drain::{Drain, poll_sockets_once_more},
    tally::Tally,
    timers::Timers,
};

/// A connection over which no conversation begins.
#[derive(Debug)]
pub(crate) struct NotOpened {
    pub(crate) reason: CloseReason,
    /// The link, to be closed by a lingering close. `None` if the failed layer did not give it back.
    pub(crate) link: Option<Link>,
    /// Why the handshake of TLS failed, and what was known by then.
    pub(crate) tls: Option<Arc<TlsInfo>>,
}

impl NotOpened {
    /// A connection that is rejected before any layer is opened.
    pub(crate) fn rejected(reason: CloseReason, link: Link) -> Self {
        Self {
            reason,
            link: Some(link),
            tls: None,
        }
    }
}

/// Opens `layers` over `link`, lowest first, within `limit` for all of them. When the server drains, the handshake is
/// polled once more: the kernel may already hold its last bytes, and a message after them.
pub(crate) async fn open(
    link: Link,
    layers: &[Arc<dyn ServerLayer>],
    limit: Duration,
    timers: &Timers,
    drain: &Drain,
) -> Result<Link, NotOpened> {
    let (lent, mut returned) = lend(link);
    let handshakes = async {
        let mut link = lent;
        for layer in layers {
            link = layer.accept(link).await?;
        }
        io::Result::Ok(link)
    };
    let mut notice = drain.notice();
    let stopped = async {
        poll_fn(|cx| notice.poll(cx)).await;
        poll_sockets_once_more().await;
    };
    let mut tls = None;
    let reason = select! {
        biased;
        opened = timers.timeout(limit, handshakes) => match opened {
            Ok(Ok(link)) => return Ok(link),
            Ok(Err(error)) => {
                tracing::debug!("a handshake failed: {error}");
                tls = TlsError::of(&error).map(TlsError::info);
                CloseReason::HandshakeFailed
            }
            Err(_) => CloseReason::HandshakeTimeout,
        },
        () = stopped => drain.close_reason(),
    };
    let link = returned.try_recv().ok();
    Err(NotOpened { reason, link, tls })
}

/// Records a conversation whose link is gone: it ends as soon as it opens.
pub(crate) fn record(mut journal: Journal, opened: Opened, reason: CloseReason) {
    journal.record_opened(opened);
    journal.record_ended(wall_clock_now(), Tally::default().ending(reason));
}

#[cfg(test)]
mod tests {
    use echoic_core::service::BoxFuture;
    use tokio::{net::UnixStream, runtime::Handle, task::yield_now, time::Instant};

    use super::*;

    /// Opens at the second poll, or never.
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

    async fn open_while_draining(ends: bool) -> Result<Link, NotOpened> {
        let (near, _far) = UnixStream::pair().expect("a pair of sockets");
        let layers: [Arc<dyn ServerLayer>; 1] = [Arc::new(Slow { ends })];
        let timers = Timers::of(&Handle::current());
        let drain = Drain::default();
        drain.start();
        let limit = Duration::from_secs(1);
        open(Link::unix(near, None), &layers, limit, &timers, &drain).await
    }

    #[tokio::test(start_paused = true)]
    async fn drain_completes_a_handshake_that_is_already_received_and_ends_others() {
        let began = Instant::now();
        assert!(open_while_draining(true).await.is_ok());
        let ended = open_while_draining(false)
            .await
            .expect_err("it never opens");
        assert_eq!(
            (ended.reason, ended.link.is_some()),
            (CloseReason::ServerStopped, true)
        );
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
