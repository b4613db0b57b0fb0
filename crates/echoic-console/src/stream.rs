//! Bodies that are produced while they are sent.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::Body;
use futures_core::Stream;
use tokio::sync::mpsc;

/// Parts that wait to be sent.
const PARTS_MAX: usize = 4;

/// Most bytes of a part that waits: a reader that is slow must not hold pages of the store.
const PART_BYTES: usize = 64 << 10;

/// What a producer gives its parts to.
pub(crate) struct Output(mpsc::Sender<Result<Vec<u8>, String>>);

impl Output {
    /// Sends bytes piece by piece, once there is room. An error means that the reader is gone.
    pub(crate) async fn send(&self, bytes: Vec<u8>) -> Result<(), String> {
        let gone = |_| "the reader is gone".to_owned();
        if bytes.len() <= PART_BYTES {
            return self.0.send(Ok(bytes)).await.map_err(gone);
        }
        for part in bytes.chunks(PART_BYTES) {
            self.0.send(Ok(part.to_vec())).await.map_err(gone)?;
        }
        Ok(())
    }
}

struct Parts(mpsc::Receiver<Result<Vec<u8>, String>>);

impl Stream for Parts {
    type Item = Result<Vec<u8>, String>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

/// Returns a body that a task produces. It waits while the reader does, and ends when the reader is gone. An error cuts the
/// body, so that the reader sees that it is not whole.
pub(crate) fn body<F>(produce: impl FnOnce(Output) -> F + Send + 'static) -> Body
where
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    let (sender, parts) = mpsc::channel(PARTS_MAX);
    tokio::spawn(async move {
        if let Err(error) = produce(Output(sender.clone())).await {
            let _ = sender.send(Err(error)).await;
        }
    });
    Body::from_stream(Parts(parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn little_waits_for_a_reader_that_is_slow() {
        let (sender, mut parts) = mpsc::channel(PARTS_MAX);
        let page: Vec<u8> = (0..1_000_003_u32).map(|n| n as u8).collect();
        let expected = page.clone();
        let sending = tokio::spawn(async move { Output(sender).send(page).await });
        let mut read = Vec::new();
        while let Some(part) = parts.recv().await {
            let part = part.unwrap();
            assert!(part.len() <= 64 << 10, "{}", part.len());
            read.extend(part);
        }
        assert!(read == expected, "{} bytes", read.len());
        sending.await.unwrap().unwrap();
    }
}
