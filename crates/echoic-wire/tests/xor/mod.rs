//! A layer for tests: XORs every byte with a key.

use std::{
    io,
    task::{Context, Poll},
};

use echoic_core::service::BoxFuture;
use echoic_wire::{ClientLayer, Link, ServerLayer, Transport};

/// Opens the layer at either end, without a handshake.
#[derive(Clone, Copy, Debug)]
pub(crate) struct XorLayer(pub(crate) u8);

#[derive(Debug)]
struct Xor {
    link: Link,
    key: u8,
}

impl XorLayer {
    fn over(self, link: Link) -> BoxFuture<'static, io::Result<Link>> {
        let xor = Xor { link, key: self.0 };
        Box::pin(async { Ok(Link::layered(Box::new(xor))) })
    }
}

impl ServerLayer for XorLayer {
    fn accept(&self, link: Link) -> BoxFuture<'_, io::Result<Link>> {
        self.over(link)
    }
}

impl ClientLayer for XorLayer {
    fn connect(&self, link: Link) -> BoxFuture<'_, io::Result<Link>> {
        self.over(link)
    }
}

impl Transport for Xor {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.link.poll_read(cx, buffer).map_ok(|n| {
            buffer[..n].iter_mut().for_each(|byte| *byte ^= self.key);
            n
        })
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut changed = [0; 1024];
        let n = bytes.len().min(changed.len());
        for (to, byte) in changed.iter_mut().zip(bytes) {
            *to = byte ^ self.key;
        }
        self.link.poll_write(cx, &changed[..n])
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.poll_finish(cx)
    }

    fn abort(&mut self) {
        self.link.abort();
    }

    fn lower(&self) -> Option<&Link> {
        Some(&self.link)
    }

    fn closes_on_drop(&self) -> bool {
        self.link.closes_on_drop()
    }
}
