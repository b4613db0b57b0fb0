//! The handshake of TLS over an accepted connection. It runs in the task of the connection, so that a slow or failed one is that
//! connection's alone.

use std::{future::poll_fn, io, path::PathBuf, time::Duration};

use echoic_wire::{Link, ServerLayer, TlsFileError, TlsServer, TlsServerOptions, lend};
use tokio::time::timeout;

/// Time for a client to read the answer to what is no TLS.
const LINGER_WITHIN: Duration = Duration::from_secs(2);

/// Reads a certificate and its private key for a console, as those of endpoints are read. It speaks HTTP/1.1 alone.
///
/// # Errors
///
/// A file cannot be read or used.
pub fn tls_server(certificate: PathBuf, key: PathBuf) -> Result<TlsServer, TlsFileError> {
    TlsServer::new(TlsServerOptions {
        certificate,
        key,
        alpn: vec!["http/1.1".to_owned()],
        ..TlsServerOptions::default()
    })
}

/// Does the handshake; its deadline is the caller's. `None` if it fails: the client then has an answer that it understands, an alert
/// or in plain HTTP, and the connection is closed.
pub(crate) async fn open(tls: &TlsServer, link: Link) -> Option<Link> {
    let (lent, mut returned) = lend(link);
    match tls.accept(lent).await {
        Ok(link) => Some(link),
        Err(error) => {
            tracing::debug!("a handshake with the console failed: {error}");
            if let Ok(link) = returned.try_recv() {
                let _ = timeout(LINGER_WITHIN, close(link)).await; // whatever happens, it is over
            }
            None
        }
    }
}

/// Closes in order. With unread bytes a mere close would be a reset, which takes the answer along.
async fn close(mut link: Link) -> io::Result<()> {
    poll_fn(|cx| link.poll_finish(cx)).await?;
    let mut discarded = [0; 4096];
    while poll_fn(|cx| link.poll_read(cx, &mut discarded)).await? > 0 {}
    Ok(())
}
