//! Endpoint to [`Link`]: the door out.

use std::{fmt, io, sync::Arc, time::Duration};

use echoic_core::{
    endpoint::{Endpoint, Host, HostPort, Shape, UnixName},
    event::Address,
};
use thiserror::Error;
use tokio::time::{Instant, timeout};

use crate::{
    explain::Explain,
    eyeballs::{Answer, Attempt, ConnectOutcome, Delays, LookupFailure, RaceOptions, race},
    link::Link,
    resolve::{ResolveError, resolve},
    transport::ClientLayer,
    udp, unix, unixgram,
};

/// How to dial.
#[derive(Clone, Debug)]
pub struct DialOptions {
    /// Time for all of it: the name and every address.
    pub timeout: Duration,
    /// Layers to open over the connection, the lowest first.
    pub layers: Vec<Arc<dyn ClientLayer>>,
    /// Time for the handshakes of all of them, beside that for the connection.
    pub handshake_timeout: Duration,
    /// Told of every socket call.
    pub explain: Option<Explain>,
}

impl Default for DialOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            layers: Vec::new(),
            handshake_timeout: Duration::from_secs(10),
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
    pub peer: Address,
    /// Who was called before and did not, with the reason.
    pub failed: Vec<FailedAttempt>,
    /// From the first call to the answer.
    pub took: Duration,
}

/// One address that did not answer.
#[derive(Debug)]
pub struct FailedAttempt {
    /// The address.
    pub address: Address,
    /// Why not.
    pub error: io::Error,
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
        attempts: Vec<FailedAttempt>,
    },
    /// Nothing came back in time.
    #[error("{} did not answer within {timeout:?}{}", endpoint, after(attempts))]
    TimedOut {
        /// Who was called.
        endpoint: Endpoint,
        /// How long was waited.
        timeout: Duration,
        /// Addresses that had said no before.
        attempts: Vec<FailedAttempt>,
    },
    /// Somebody answered who does not speak the protocol of a layer, or is not accepted, or does not accept us.
    #[error("the handshake with {peer} failed: {source}")]
    Handshake {
        /// Who answered.
        peer: Address,
        /// What the layer said.
        source: io::Error,
    },
    /// Somebody answered and did not finish the handshake in time.
    #[error("{peer} did not finish the handshake within {timeout:?}")]
    HandshakeTimedOut {
        /// Who answered.
        peer: Address,
        /// How long was waited.
        timeout: Duration,
    },
}

impl fmt::Display for FailedAttempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.error.kind() {
            io::ErrorKind::ConnectionRefused => write!(f, "{} refused", self.address),
            io::ErrorKind::TimedOut => write!(f, "{} gave no answer", self.address),
            _ => write!(f, "{}: {}", self.address, self.error),
        }
    }
}

fn list(attempts: &[FailedAttempt]) -> String {
    attempts
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

fn after(attempts: &[FailedAttempt]) -> String {
    if attempts.is_empty() {
        String::new()
    } else {
        format!(" ({})", list(attempts))
    }
}

/// Calls `endpoint`, and opens the layers over the connection.
pub async fn dial(endpoint: &Endpoint, options: &DialOptions) -> Result<Dialled, DialError> {
    let dialled = dial_socket(endpoint, options).await?;
    if options.layers.is_empty() {
        return Ok(dialled);
    }
    let Dialled { mut link, peer, .. } = dialled;
    let handshakes = async {
        if link.shape() == Shape::Datagrams {
            return Err(io::Error::other("a layer needs a stream, not datagrams"));
        }
        for layer in &options.layers {
            link = layer.connect(link).await?;
        }
        Ok(link)
    };
    match timeout(options.handshake_timeout, handshakes).await {
        Ok(Ok(link)) => Ok(Dialled {
            link,
            peer,
            ..dialled
        }),
        Ok(Err(source)) => Err(DialError::Handshake { peer, source }),
        Err(_) => Err(DialError::HandshakeTimedOut {
            peer,
            timeout: options.handshake_timeout,
        }),
    }
}

async fn dial_socket(endpoint: &Endpoint, options: &DialOptions) -> Result<Dialled, DialError> {
    match endpoint {
        Endpoint::Tcp(at) => dial_tcp(endpoint, at, options).await,
        Endpoint::Unix(name) => dial_unix(endpoint, name, options).await,
        Endpoint::Udp(at) => dial_udp(endpoint, at, options).await,
        Endpoint::Unixgram(name) => dial_unixgram(endpoint, name, options),
        Endpoint::Fd(_) => {
            let error = io::Error::other("a descriptor is for listening, it cannot be dialled");
            let attempts = vec![FailedAttempt {
                address: Address::Unix(None),
                error,
            }];
            Err(DialError::Refused {
                endpoint: endpoint.clone(),
                attempts,
            })
        }
    }
}

/// Calls the addresses as RFC 8305 has it, so that a silent one does not use up the others' chance.
async fn dial_tcp(
    endpoint: &Endpoint,
    at: &HostPort,
    options: &DialOptions,
) -> Result<Dialled, DialError> {
    let DialOptions {
        timeout, explain, ..
    } = options;
    let options = RaceOptions {
        timeout: *timeout,
        attempt_timeout: *timeout,
        delays: Delays::default(),
        explain: explain.clone(),
    };
    let race = race(at, &options).await;
    let began = race
        .attempts
        .first()
        .map_or(race.took, |first| first.started);
    let won = race
        .won
        .map(|(number, link)| (race.attempts[number].addr, link));
    let mut failed = Vec::new();
    for Attempt { addr, outcome, .. } in race.attempts {
        let error = match outcome {
            ConnectOutcome::Failed(error) => error,
            ConnectOutcome::TimedOut | ConnectOutcome::Cancelled => io::ErrorKind::TimedOut.into(),
            ConnectOutcome::Connected { .. } => continue,
        };
        failed.push(FailedAttempt {
            address: addr.into(),
            error,
        });
    }
    if let Some((peer, link)) = won {
        return Ok(Dialled {
            link,
            peer: peer.into(),
            failed,
            took: race.took.saturating_sub(began),
        });
    }
    match (&at.host, failed.is_empty()) {
        (Host::Name(name), true) => Err(unresolved(name, race.answers, *timeout).into()),
        _ => Err(unanswered(endpoint, *timeout, failed)),
    }
}

/// Of the two families' reasons the one that says more: that a name lacks one kind of address says the least.
fn unresolved(host: &str, answers: Vec<Answer>, timeout: Duration) -> ResolveError {
    let missing = answers.into_iter().filter_map(|answer| answer.found.err());
    let telling = |missing: &LookupFailure| match missing {
        LookupFailure::NoAddress(_) => 0,
        LookupFailure::NoName => 1,
        LookupFailure::TryAgain => 2,
        LookupFailure::Failed(_) => 3,
        LookupFailure::TimedOut => 4,
    };
    let host = host.to_owned();
    match missing.max_by_key(telling) {
        None | Some(LookupFailure::TimedOut) => ResolveError::TimedOut { host, timeout },
        Some(LookupFailure::Failed(source)) => ResolveError::Failed { host, source },
        Some(LookupFailure::NoAddress(_)) => {
            let source = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            ResolveError::Failed { host, source }
        }
        Some(missing) => ResolveError::Failed {
            host,
            source: io::Error::other(missing.to_string()),
        },
    }
}

async fn dial_unix(
    endpoint: &Endpoint,
    name: &UnixName,
    options: &DialOptions,
) -> Result<Dialled, DialError> {
    let started = Instant::now();
    let address = Address::Unix(Some(name.clone()));
    let error = match timeout(
        options.timeout,
        unix::connect(name, options.explain.as_ref()),
    )
    .await
    {
        Ok(Ok(stream)) => {
            let explain = options
                .explain
                .as_ref()
                .map(|explain| explain.for_peer(address.clone()));
            let link = Link::unix(stream, explain);
            return Ok(Dialled {
                link,
                peer: address,
                failed: Vec::new(),
                took: started.elapsed(),
            });
        }
        Ok(Err(error)) => error,
        Err(_) => io::ErrorKind::TimedOut.into(),
    };
    Err(unanswered(
        endpoint,
        options.timeout,
        vec![FailedAttempt { address, error }],
    ))
}

/// A datagram is sent without asking whether anybody is there: the first address that there is a way to is the one.
async fn dial_udp(
    endpoint: &Endpoint,
    at: &HostPort,
    options: &DialOptions,
) -> Result<Dialled, DialError> {
    let started = Instant::now();
    let mut failed = Vec::new();
    for addr in resolve(at, options.timeout).await? {
        match udp::connect(addr, options.explain.as_ref()) {
            Ok(socket) => {
                let explain = options
                    .explain
                    .as_ref()
                    .map(|explain| explain.for_peer(addr.into()));
                return Ok(Dialled {
                    link: Link::udp(socket, explain),
                    peer: addr.into(),
                    failed,
                    took: started.elapsed(),
                });
            }
            Err(error) => failed.push(FailedAttempt {
                address: addr.into(),
                error,
            }),
        }
    }
    Err(unanswered(endpoint, options.timeout, failed))
}

fn dial_unixgram(
    endpoint: &Endpoint,
    name: &UnixName,
    options: &DialOptions,
) -> Result<Dialled, DialError> {
    let started = Instant::now();
    let address = Address::Unix(Some(name.clone()));
    match unixgram::connect(name, options.explain.as_ref()) {
        Ok(socket) => {
            let explain = options
                .explain
                .as_ref()
                .map(|explain| explain.for_peer(address.clone()));
            let (link, took) = (Link::unixgram(socket, explain), started.elapsed());
            Ok(Dialled {
                link,
                peer: address,
                failed: Vec::new(),
                took,
            })
        }
        Err(error) => Err(unanswered(
            endpoint,
            options.timeout,
            vec![FailedAttempt { address, error }],
        )),
    }
}

fn unanswered(endpoint: &Endpoint, timeout: Duration, attempts: Vec<FailedAttempt>) -> DialError {
    let endpoint = endpoint.clone();
    if attempts
        .iter()
        .any(|attempt| attempt.error.kind() == io::ErrorKind::TimedOut)
    {
        DialError::TimedOut {
            endpoint,
            timeout,
            attempts,
        }
    } else {
        DialError::Refused { endpoint, attempts }
    }
}
