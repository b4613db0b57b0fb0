//! [`lend`]: a link that outlives the layers over it.

use std::{
    io::{self, IoSlice},
    task::{Context, Poll},
};

use echoic_core::endpoint::Shape;
use tokio::sync::oneshot;

use crate::{link::Link, transport::Transport};

/// Lends `link`: returns a link over it, and what receives `link` again once that one is dropped.
///
/// A layer that fails drops the link below it. Closing that with unread bytes would reset the connection, and a TLS alert on its
/// way would be lost; so whoever has it back closes it in order.
pub fn lend(link: Link) -> (Link, oneshot::Receiver<Link>) {
    let (back, returned) = oneshot::channel();
    let (link, back) = (Some(link), Some(back));
    (Link::layered(Box::new(Lent { link, back })), returned)
}

/// A link that is given back when it is dropped.
#[derive(Debug)]
struct Lent {
    /// `None` only during drop.
    link: Option<Link>,
    back: Option<oneshot::Sender<Link>>,
}

impl Lent {
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
            let _ = back.send(link); // the receiver is gone once the layers are open
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

    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.link_mut().poll_write_vectored(cx, parts)
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
