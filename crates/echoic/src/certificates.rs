//! The certificates of servers, of endpoints and of the console: what is told about them, and that they are read again.

use std::{fmt::Display, sync::Arc, sync::Once, time::Duration};

use echoic_wire::{TlsServer, key_log_file};
use jiff::Timestamp;
use tokio::time::sleep;

use crate::term::{self, sanitize};

/// Interval between two looks at the files of certificates.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Reports a certificate that has expired, and once whether keys are logged. `of` names what has the certificate.
pub(crate) fn announce(of: &impl Display, server: &TlsServer) {
    static KEY_LOG: Once = Once::new();
    if server.certificate().not_after < Timestamp::now().as_second() {
        term::note(&format!(
            "{of}: its certificate has expired ({}): clients will refuse it",
            server.options().certificate.display()
        ));
    }
    if let Some(file) = key_log_file() {
        KEY_LOG.call_once(|| {
            term::note(&format!(
                "SSLKEYLOGFILE is set: the keys of TLS connections are written to {}; who has it can read what was sent",
                sanitize(file.display())
            ));
        });
    }
}

/// Reads certificates again when their files change, until it is dropped.
pub(crate) async fn watch(servers: Vec<(String, Arc<TlsServer>)>, quiet: bool) {
    loop {
        sleep(LOOK_EVERY).await;
        for (of, server) in &servers {
            reload(of, server, quiet);
        }
    }
}

fn reload(of: &str, server: &TlsServer, quiet: bool) {
    let text = match server.reload() {
        Some(Ok(certificate)) if !quiet => format!(
            "{of}: new certificate for new connections: {} (SHA-256 {})",
            certificate.subject, certificate.sha256
        ),
        Some(Err(error)) => {
            format!("{of}: the new certificate cannot be used, the old one stays: {error}")
        }
        None | Some(Ok(_)) => return,
    };
    term::note(&sanitize(text));
}
