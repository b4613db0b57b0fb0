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
    eyeballs::{Answer, ConnectOutcome, Missing, Pace, RaceOptions, Try, race},
    link::Link,
    resolve::{ResolveError, resolve},
    transport::ClientLayer,
    udp, unix, unixgram,
};

/// How to dial.
#[derive(Clone, Debug)]
pub struct DialOptions {
    /// Time for all of it: the name and every address.
    pub within: Duration,
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
            within: Duration::from_secs(10),
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
    pub failed: Vec<Attempt>,
    /// From the first call to the answer.
    pub took: Duration,
}

/// One address that did not answer.
#[derive(Debug)]
pub struct Attempt {
    /// The address.
    pub address: Address,
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
    /// Somebody answered who does not speak the protocol of a layer, or is not accepted, or does not accept us.
    #[error("the handshake with {peer} failed: {source}")]
    Handshake {
        /// Who answered.
        peer: Address,
        /// What the layer said.
        source: io::Error,
    },
    /// Somebody answered and did not finish the handshake in time.
    #[error("{peer} did not finish the handshake within {within:?}")]
    HandshakeTimedOut {
        /// Who answered.
        peer: Address,
        /// How long was waited.
        within: Duration,
    },
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.why.kind() {
            io::ErrorKind::ConnectionRefused => write!(f, "{} refused", self.address),
            io::ErrorKind::TimedOut => write!(f, "{} gave no answer", self.address),
            _ => write!(f, "{}: {}", self.address, self.why),
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
            within: options.handshake_timeout,
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
            let why = io::Error::other("a descriptor is for listening, it cannot be dialled");
            let attempts = vec![Attempt {
                address: Address::Unix(None),
                why,
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
        within, explain, ..
    } = options;
    let options = RaceOptions {
        within: *within,
        each: *within,
        pace: Pace::default(),
        explain: explain.clone(),
    };
    let race = race(at, &options).await;
    let began = race.tries.first().map_or(race.took, |first| first.started);
    let won = race
        .won
        .map(|(number, link)| (race.tries[number].addr, link));
    let mut failed = Vec::new();
    for Try { addr, outcome, .. } in race.tries {
        let why = match outcome {
            ConnectOutcome::Failed(why) => why,
            ConnectOutcome::Silent | ConnectOutcome::Overtaken => io::ErrorKind::TimedOut.into(),
            ConnectOutcome::Connected { .. } => continue,
        };
        failed.push(Attempt {
            address: addr.into(),
            why,
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
        (Host::Name(name), true) => Err(unresolved(name, race.answers, *within).into()),
        _ => Err(unanswered(endpoint, *within, failed)),
    }
}

/// Of the two families' reasons the one that says more: that a name lacks one kind of address says the least.
fn unresolved(host: &str, answers: Vec<Answer>, within: Duration) -> ResolveError {
    let missing = answers.into_iter().filter_map(|answer| answer.found.err());
    let telling = |missing: &Missing| match missing {
        Missing::NoAddress(_) => 0,
        Missing::NoName => 1,
        Missing::Again => 2,
        Missing::Failed(_) => 3,
        Missing::Silent => 4,
    };
    let host = host.to_owned();
    match missing.max_by_key(telling) {
        None | Some(Missing::Silent) => ResolveError::TimedOut { host, within },
        Some(Missing::Failed(source)) => ResolveError::Failed { host, source },
        Some(Missing::NoAddress(_)) => {
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
    let why = match timeout(
        options.within,
        unix::connect(name, options.explain.as_ref()),
    )
    .await
    {
        Ok(Ok(stream)) => {
            let explain = options
                .explain
                .as_ref()
                .map(|explain| explain.of(address.clone()));
            let link = Link::unix(stream, explain);
            return Ok(Dialled {
                link,
                peer: address,
                failed: Vec::new(),
                took: started.elapsed(),
            });
        }
        Ok(Err(why)) => why,
        Err(_) => io::ErrorKind::TimedOut.into(),
    };
    Err(unanswered(
        endpoint,
        options.within,
        vec![Attempt { address, why }],
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
    for addr in resolve(at, options.within).await? {
        match udp::connect(addr, options.explain.as_ref()) {
            Ok(socket) => {
                let explain = options
                    .explain
                    .as_ref()
                    .map(|explain| explain.of(addr.into()));
                return Ok(Dialled {
                    link: Link::udp(socket, explain),
                    peer: addr.into(),
                    failed,
                    took: started.elapsed(),
                });
            }
            Err(why) => failed.push(Attempt {
                address: addr.into(),
                why,
            }),
        }
    }
    Err(unanswered(endpoint, options.within, failed))
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
                .map(|explain| explain.of(address.clone()));
            let (link, took) = (Link::unixgram(socket, explain), started.elapsed());
            Ok(Dialled {
                link,
                peer: address,
                failed: Vec::new(),
                took,
            })
        }
        Err(why) => Err(unanswered(
            endpoint,
            options.within,
            vec![Attempt { address, why }],
        )),
    }
}

fn unanswered(endpoint: &Endpoint, within: Duration, attempts: Vec<Attempt>) -> DialError {
    let endpoint = endpoint.clone();
    if attempts
        .iter()
        .any(|attempt| attempt.why.kind() == io::ErrorKind::TimedOut)
    {
        DialError::TimedOut {
            endpoint,
            within,
            attempts,
        }
    } else {
        DialError::Refused { endpoint, attempts }
    }
}
