//! Endpoint to [`Link`]: the door out.

use std::{fmt, io, net::SocketAddr, time::Duration};

use echoic_core::{
    endpoint::{Endpoint, Host, HostPort, UnixName},
    event::Place,
};
use thiserror::Error;
use tokio::time::{Instant, timeout, timeout_at};

use crate::{
    explain::{Call, Explain},
    link::Link,
    resolve::{ResolveError, resolve},
    tcp, unix,
};

/// How to dial.
#[derive(Clone, Debug)]
pub struct DialOptions {
    /// Time for all of it: the name and every address.
    pub within: Duration,
    /// Told of every socket call.
    pub explain: Option<Explain>,
}

impl Default for DialOptions {
    fn default() -> Self {
        Self {
            within: Duration::from_secs(10),
            explain: None,
        }
    }
}

/// An answered call.
#[derive(Debug)]
pub struct Dialled {
    /// The connection.
    pub link: Link,
    /// Who answered.
    pub peer: Place,
    /// Who was called before and did not, with the reason.
    pub failed: Vec<Attempt>,
    /// From the first call to the answer.
    pub took: Duration,
}

/// One address that did not answer.
#[derive(Debug)]
pub struct Attempt {
    /// The address.
    pub place: Place,
    /// Why not.
    pub why: io::Error,
}

/// A call that nobody answered. Each variant has an exit code of its own.
#[derive(Debug, Error)]
pub enum DialError {
    /// The name led nowhere.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// Every address said no, or there was no way to it.
    #[error("{} did not answer: {}", endpoint, list(attempts))]
    Refused {
        /// Who was called.
        endpoint: Endpoint,
        /// Each address with its reason.
        attempts: Vec<Attempt>,
    },
    /// Nothing came back in time.
    #[error("{} did not answer within {within:?}{}", endpoint, after(attempts))]
    TimedOut {
        /// Who was called.
        endpoint: Endpoint,
        /// How long was waited.
        within: Duration,
        /// Addresses that had said no before.
        attempts: Vec<Attempt>,
    },
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.why.kind() {
            io::ErrorKind::ConnectionRefused => write!(f, "{} refused", self.place),
            io::ErrorKind::TimedOut => write!(f, "{} gave no answer", self.place),
            _ => write!(f, "{}: {}", self.place, self.why),
        }
    }
}

fn list(attempts: &[Attempt]) -> String {
    attempts
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

fn after(attempts: &[Attempt]) -> String {
    if attempts.is_empty() {
        String::new()
    } else {
        format!(" ({})", list(attempts))
    }
}

/// Calls `endpoint`.
pub async fn dial(endpoint: &Endpoint, options: &DialOptions) -> Result<Dialled, DialError> {
    match endpoint {
        Endpoint::Tcp(at) => dial_tcp(endpoint, at, options).await,
        Endpoint::Unix(name) => dial_unix(endpoint, name, options).await,
        Endpoint::Udp(_) | Endpoint::Unixgram(_) | Endpoint::Fd(_) => {
            let why = io::Error::other("nothing there can be dialled as a stream");
            let attempts = vec![Attempt { place: Place::Unix(None), why }];
            Err(DialError::Refused { endpoint: endpoint.clone(), attempts })
        }
    }
}

/// Calls one address after the other, each given its share of the time that is left, so that a silent first one does
/// not use up the second one's chance.
async fn dial_tcp(endpoint: &Endpoint, at: &HostPort, options: &DialOptions) -> Result<Dialled, DialError> {
    let deadline = Instant::now() + options.within;
    let addrs = resolve_and_tell(at, options).await?;
    let started = Instant::now();
    let mut failed = Vec::new();
    for (i, &addr) in addrs.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = Instant::now() + left / (addrs.len() - i) as u32;
        let place = Place::from(addr);
        match timeout_at(share, tcp::connect(addr, options.explain.as_ref())).await {
            Ok(Ok(stream)) => {
                let explain = options.explain.as_ref().map(|explain| explain.of(place.clone()));
                let link = Link::tcp(stream, explain);
                return Ok(Dialled { link, peer: place, failed, took: started.elapsed() });
            }
            Ok(Err(why)) => failed.push(Attempt { place, why }),
            Err(_) => failed.push(Attempt { place, why: io::ErrorKind::TimedOut.into() }),
        }
    }
    Err(unanswered(endpoint, options, failed))
}

async fn dial_unix(endpoint: &Endpoint, name: &UnixName, options: &DialOptions) -> Result<Dialled, DialError> {
    let started = Instant::now();
    let place = Place::Unix(Some(name.clone()));
    let why = match timeout(options.within, unix::connect(name, options.explain.as_ref())).await {
        Ok(Ok(stream)) => {
            let explain = options.explain.as_ref().map(|explain| explain.of(place.clone()));
            let link = Link::unix(stream, explain);
            return Ok(Dialled { link, peer: place, failed: Vec::new(), took: started.elapsed() });
        }
        Ok(Err(why)) => why,
        Err(_) => io::ErrorKind::TimedOut.into(),
    };
    Err(unanswered(endpoint, options, vec![Attempt { place, why }]))
}

async fn resolve_and_tell(at: &HostPort, options: &DialOptions) -> Result<Vec<SocketAddr>, ResolveError> {
    let resolved = resolve(at, options.within).await;
    if let (Some(explain), Host::Name(host)) = (&options.explain, &at.host) {
        match &resolved {
            Ok(addrs) => explain.tell(Call::Resolve { host, result: Ok(addrs) }),
            Err(ResolveError::Failed { source, .. }) => explain.tell(Call::Resolve { host, result: Err(source) }),
            Err(ResolveError::TimedOut { .. }) => {}
        }
    }
    resolved
}

fn unanswered(endpoint: &Endpoint, options: &DialOptions, attempts: Vec<Attempt>) -> DialError {
    let (endpoint, within) = (endpoint.clone(), options.within);
    if attempts.iter().any(|attempt| attempt.why.kind() == io::ErrorKind::TimedOut) {
        DialError::TimedOut { endpoint, within, attempts }
    } else {
        DialError::Refused { endpoint, attempts }
    }
}
