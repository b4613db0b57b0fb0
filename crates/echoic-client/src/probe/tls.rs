//! Does the handshake of TLS, and tells what a client that verifies would think of the server.

use std::{
    future::poll_fn,
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use echoic_core::event::Address;
use echoic_wire::{ClientLayer, Link, TlsClient, TlsError, TlsErrorKind, TlsReport};
use tokio::time::{Instant, timeout, timeout_at};

/// Time for a server that asked for a certificate to refuse a client without one: TLS 1.3 does so after the handshake.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// How to open TLS over a connection.
#[derive(Clone, Debug)]
pub struct TlsCheck {
    /// The client. It goes on without verification (`insecure`), so that a report has all that there is to see.
    pub client: Arc<TlsClient>,
    /// What is spoken before TLS, on a port where it begins in plain text.
    pub before: Option<Arc<dyn ClientLayer>>,
}

/// What the handshake with one address told.
#[derive(Debug)]
pub struct TlsAnswer {
    /// The address.
    pub address: Address,
    /// Start of the handshake.
    pub started: Duration,
    /// Its end.
    pub ended: Duration,
    /// Wall-clock time of its end, in seconds since the Unix epoch: what the dates of certificates are compared with.
    pub at: i64,
    /// What it told. A server may refuse a client after that.
    pub report: Option<TlsReport>,
    /// Why it failed.
    pub failure: Option<TlsFailure>,
}

/// Why a handshake failed.
#[derive(Debug)]
pub enum TlsFailure {
    /// An error of TLS, of what is spoken before it, or of the connection.
    Failed(io::Error),
    /// The peer did not finish it in time.
    TimedOut,
}

impl TlsAnswer {
    /// Whether a client that verifies would go on.
    pub fn is_trusted(&self) -> bool {
        let report = self.report.as_ref();
        self.failure.is_none() && report.is_some_and(|report| report.unverified.is_none())
    }

    /// Returns what is wrong with the handshake or with the certificate, if that is an error of TLS.
    pub fn error(&self) -> Option<&TlsError> {
        match &self.failure {
            Some(TlsFailure::Failed(error)) => TlsError::of(error),
            Some(TlsFailure::TimedOut) => None,
            None => self.report.as_ref()?.unverified.as_ref(),
        }
    }

    /// Takes an error of the conversation after the handshake for its result, if it is one of TLS: the server refused us.
    pub(super) fn refuse_by(&mut self, error: &io::Error) -> bool {
        let refusal = TlsError::of(error);
        if let Some(error) = refusal {
            self.failure = Some(TlsFailure::Failed(io::Error::other(error.clone())));
        }
        refusal.is_some()
    }
}

impl TlsCheck {
    /// Opens TLS over `link`, until `deadline`. The link is returned if the server is trusted.
    pub(super) async fn open(
        &self,
        link: Link,
        address: Address,
        deadline: Instant,
        began: Instant,
    ) -> (TlsAnswer, Option<Link>) {
        let started = began.elapsed();
        let handshake = async {
            let link = match &self.before {
                Some(before) => before.connect(link).await?,
                None => link,
            };
            self.client.open(link).await
        };
        let (opened, failure) = match timeout_at(deadline, handshake).await {
            Ok(Ok(opened)) => (Some(opened), None),
            Ok(Err(error)) => (None, Some(TlsFailure::Failed(error))),
            Err(_) => (None, Some(TlsFailure::TimedOut)),
        };
        let (link, report) = opened.unzip();
        let answer = TlsAnswer {
            address,
            started,
            ended: began.elapsed(),
            at: seconds_since_epoch(),
            report,
            failure,
        };
        let link = link.filter(|_| answer.is_trusted());
        (answer, link)
    }
}

/// Waits for the refusal of a server that asked for a certificate of the client.
pub(super) async fn wait_for_refusal(answer: &mut TlsAnswer, link: &mut Link) {
    let report = answer.report.as_ref();
    if !report.is_some_and(|report| report.wants_certificate) {
        return;
    }
    let mut buffer = [0];
    let read = poll_fn(|cx| link.poll_read(cx, &mut buffer));
    if let Ok(Err(error)) = timeout(REFUSAL_TIMEOUT, read).await
        && TlsError::of(&error).is_some_and(|error| {
            matches!(
                error.kind(),
                TlsErrorKind::ClientCertificateWanted | TlsErrorKind::Refused
            )
        })
    {
        answer.refuse_by(&error);
    }
}

fn seconds_since_epoch() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
}
