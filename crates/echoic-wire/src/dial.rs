//! Dialling: from an endpoint to an open [`Link`].

use std::{error::Error, fmt, io, sync::Arc, time::Duration};

use echoic_core::{
    endpoint::{Endpoint, Host, HostPort, Shape, UnixName},
    event::Address,
};
use rustix::io::Errno;
use thiserror::Error;
use tokio::time::{Instant, timeout};

use crate::{
    explain::Explain,
    eyeballs::{Answer, Attempt, ConnectOutcome, Delays, LookupFailure, RaceOptions, race},
    link::Link,
    resolve::{ResolveError, resolve},
    self_connection::SelfConnection,
    transport::ClientLayer,
    udp, unix, unixgram,
};

/// Options for [`dial`].
#[derive(Clone, Debug)]
pub struct DialOptions {
    /// Limit for the connection: the name lookup and all connection attempts.
    pub timeout: Duration,
    /// Layers to open over the connection, the lowest first.
    pub layers: Vec<Arc<dyn ClientLayer>>,
    /// Limit for the handshakes of all layers, after the connection is established.
    pub handshake_timeout: Duration,
    /// Lets a UDP endpoint be a broadcast address; replies may come from any address.
    pub broadcast: bool,
    /// Receives a report of every socket call.
    pub explain: Option<Explain>,
}

impl Default for DialOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            layers: Vec::new(),
            handshake_timeout: Duration::from_secs(10),
            broadcast: false,
            explain: None,
        }
    }
}

/// An established connection.
#[derive(Debug)]
pub struct Dialled {
    /// The link to the peer.
    pub link: Link,
    /// The peer's address.
    pub peer: Address,
    /// Connection attempts that failed before or lost the race.
    pub failed: Vec<FailedAttempt>,
    /// Time from the first connection attempt to the established connection.
    pub took: Duration,
}

/// A failed connection attempt.
#[derive(Debug)]
pub struct FailedAttempt {
    /// The address.
    pub address: Address,
    /// The reason.
    pub error: io::Error,
}

/// Reasons why an endpoint was not reached. Each variant has its own exit code.
#[derive(Debug, Error)]
pub enum DialError {
    /// The host name was not resolved.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// Every address refused the connection or was unreachable.
    #[error("cannot connect to {}: {}", endpoint, join_attempts(attempts))]
    Refused {
        /// The endpoint.
        endpoint: Endpoint,
        /// The attempt at each address.
        attempts: Vec<FailedAttempt>,
    },
    /// No address answered in time.
    #[error(
        "{} did not answer within {timeout:?}{}",
        endpoint,
        in_parentheses(attempts)
    )]
    TimedOut {
        /// The endpoint.
        endpoint: Endpoint,
        /// The limit that was exceeded.
        timeout: Duration,
        /// Attempts that had failed or timed out.
        attempts: Vec<FailedAttempt>,
    },
    /// The handshake of a layer failed: the peer violated the protocol, or one side rejected the other.
    #[error("the handshake with {peer} failed: {source}")]
    Handshake {
        /// The peer's address.
        peer: Address,
        /// The layer's error.
        source: io::Error,
    },
    /// The endpoint's scheme asks for TLS, and no layer was given for it: nothing was sent in plain text.
    #[error("{endpoint} needs TLS, and this command does not speak it")]
    NeedsTls {
        /// The endpoint.
        endpoint: Endpoint,
    },
    /// The peer did not finish the handshake in time.
    #[error("{peer} did not finish the handshake within {timeout:?}")]
    HandshakeTimedOut {
        /// The peer's address.
        peer: Address,
        /// The limit that was exceeded.
        timeout: Duration,
    },
}

/// The Unix socket is of another type than the endpoint's: the error of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherSocketType {
    word: &'static str,
    /// The endpoint to use; `None` if there is none for that type.
    pub other: Option<Endpoint>,
}

impl OtherSocketType {
    /// Returns whether `error` is this one.
    pub fn is_in(error: &io::Error) -> bool {
        error
            .get_ref()
            .is_some_and(<dyn Error + Send + Sync>::is::<Self>)
    }
}

impl Error for OtherSocketType {}

impl fmt::Display for OtherSocketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.other {
            Some(other) => write!(f, "it is a {} socket; expected {other}", self.word),
            None => f.write_str(
                "it is a socket of packets (SOCK_SEQPACKET), which echoic does not speak",
            ),
        }
    }
}

impl fmt::Display for FailedAttempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.error.kind() {
            _ if SelfConnection::is_in(&self.error) => {
                write!(f, "{} refused: {}", self.address, self.error)
            }
            io::ErrorKind::ConnectionRefused => write!(f, "{} refused", self.address),
            io::ErrorKind::TimedOut => write!(f, "{} gave no answer", self.address),
            _ => write!(f, "{}: {}", self.address, self.error),
        }
    }
}

fn join_attempts(attempts: &[FailedAttempt]) -> String {
    attempts
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

fn in_parentheses(attempts: &[FailedAttempt]) -> String {
    if attempts.is_empty() {
        String::new()
    } else {
        format!(" ({})", join_attempts(attempts))
    }
}

/// Connects to `endpoint`, and opens the layers over the connection.
pub async fn dial(endpoint: &Endpoint, options: &DialOptions) -> Result<Dialled, DialError> {
    if matches!(endpoint, Endpoint::Tls(_)) && options.layers.is_empty() {
        let endpoint = endpoint.clone();
        return Err(DialError::NeedsTls { endpoint });
    }
    let dialled = dial_socket(endpoint, options).await?;
    if options.layers.is_empty() {
        return Ok(dialled);
    }
    let Dialled { mut link, peer, .. } = dialled;
    let handshakes = async {
        if link.shape() == Shape::Datagrams {
            return Err(io::Error::other(
                "a layer needs a stream; this endpoint has datagrams",
            ));
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
        Endpoint::Tcp(target) | Endpoint::Tls(target) => dial_tcp(endpoint, target, options).await,
        Endpoint::Unix(name) => dial_unix(endpoint, name, options).await,
        Endpoint::Udp(target) => dial_udp(endpoint, target, options).await,
        Endpoint::Unixgram(name) => dial_unixgram(endpoint, name, options),
        Endpoint::Fd(_) => {
            let error =
                io::Error::other("an inherited descriptor can be listened on, not connected to");
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

/// Races the addresses by Happy Eyeballs (RFC 8305), so that a silent address does not use up the time of the others.
async fn dial_tcp(
    endpoint: &Endpoint,
    target: &HostPort,
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
    let race = race(target, &options).await;
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
    match (&target.host, failed.is_empty()) {
        (Host::Zoned(..), true) => Err(resolve(target, *timeout).await.err().map_or_else(
            || connect_error(endpoint, *timeout, Vec::new()),
            DialError::from,
        )),
        (Host::Name(name), true) => Err(resolve_error(name, race.answers, *timeout).into()),
        _ => Err(connect_error(endpoint, *timeout, failed)),
    }
}

/// Returns the more informative of the failures of the two families: `NoAddress` says the least, since many names have
/// addresses of one family only.
fn resolve_error(host: &str, answers: Vec<Answer>, timeout: Duration) -> ResolveError {
    let failure = answers.into_iter().filter_map(|answer| answer.found.err());
    let informativeness = |failure: &LookupFailure| match failure {
        LookupFailure::NoAddress(_) => 0,
        LookupFailure::NoName => 1,
        LookupFailure::TryAgain => 2,
        LookupFailure::Failed(_) => 3,
        LookupFailure::TimedOut => 4,
    };
    let host = host.to_owned();
    match failure.max_by_key(informativeness) {
        None | Some(LookupFailure::TimedOut) => ResolveError::TimedOut { host, timeout },
        Some(LookupFailure::Failed(source)) => ResolveError::Failed { host, source },
        Some(LookupFailure::NoAddress(_)) => {
            let source = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            ResolveError::Failed { host, source }
        }
        Some(failure) => ResolveError::Failed {
            host,
            source: io::Error::other(failure.to_string()),
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
        Ok(Err(error)) => explain_other_type(error, &Endpoint::Unixgram(name.clone()), "datagram"),
        Err(_) => io::ErrorKind::TimedOut.into(),
    };
    Err(connect_error(
        endpoint,
        options.timeout,
        vec![FailedAttempt { address, error }],
    ))
}

/// Replaces the error for a Unix socket of another type (EPROTOTYPE, unix(7)) by one that names the endpoint to use.
/// `other` is the endpoint for the other type, `word` what such a socket is called.
fn explain_other_type(error: io::Error, other: &Endpoint, word: &'static str) -> io::Error {
    if error.raw_os_error() != Some(Errno::PROTOTYPE.raw_os_error()) {
        return error;
    }
    let other = unix::has_type_of(other).then(|| other.clone());
    io::Error::other(OtherSocketType { word, other })
}

/// Connects to the first address that has a route. UDP has no handshake, so it is unknown whether the peer exists.
async fn dial_udp(
    endpoint: &Endpoint,
    target: &HostPort,
    options: &DialOptions,
) -> Result<Dialled, DialError> {
    let started = Instant::now();
    let mut failed = Vec::new();
    for addr in resolve(target, options.timeout).await? {
        match udp::connect(addr, options.broadcast, options.explain.as_ref()) {
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
                error: if udp::is_broadcast(&error) {
                    io::Error::other(
                        "it is a broadcast address; connect sends to it with ?broadcast=on",
                    )
                } else {
                    error
                },
            }),
        }
    }
    Err(connect_error(endpoint, options.timeout, failed))
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
        Err(error) => {
            let error = explain_other_type(error, &Endpoint::Unix(name.clone()), "stream");
            Err(connect_error(
                endpoint,
                options.timeout,
                vec![FailedAttempt { address, error }],
            ))
        }
    }
}

fn connect_error(
    endpoint: &Endpoint,
    timeout: Duration,
    attempts: Vec<FailedAttempt>,
) -> DialError {
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
