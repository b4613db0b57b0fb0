//! Endpoint to [`Link`]: the door out.

use std::{fmt, io, net::SocketAddr, time::Duration};

use echoic_core::endpoint::{Endpoint, Host};
use thiserror::Error;
use tokio::{
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout_at},
};

use crate::{
    explain::{Call, Explain},
    link::Link,
    resolve::{ResolveError, resolve},
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
    pub peer: SocketAddr,
    /// Who was called before and did not, with the reason.
    pub failed: Vec<Attempt>,
    /// From the first call to the answer.
    pub took: Duration,
}

/// One address that did not answer.
#[derive(Debug)]
pub struct Attempt {
    /// The address.
    pub addr: SocketAddr,
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
            io::ErrorKind::ConnectionRefused => write!(f, "{} refused", self.addr),
            io::ErrorKind::TimedOut => write!(f, "{} gave no answer", self.addr),
            _ => write!(f, "{}: {}", self.addr, self.why),
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

/// Calls `endpoint`: one address after the other, each given its share of the time that is left, so that a
/// silent first one does not use up the second one's chance.
pub async fn dial(endpoint: &Endpoint, options: &DialOptions) -> Result<Dialled, DialError> {
    let Endpoint::Tcp(at) = endpoint;
    let deadline = Instant::now() + options.within;
    let resolved = resolve(at, options.within).await;
    if let (Some(explain), Host::Name(host)) = (&options.explain, &at.host) {
        match &resolved {
            Ok(addrs) => explain.tell(Call::Resolve {
                host,
                result: Ok(addrs),
            }),
            Err(ResolveError::Failed { source, .. }) => {
                explain.tell(Call::Resolve {
                    host,
                    result: Err(source),
                });
            }
            Err(ResolveError::TimedOut { .. }) => {}
        }
    }
    let addrs = resolved?;

    let started = Instant::now();
    let mut failed = Vec::new();
    for (i, &addr) in addrs.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = Instant::now() + left / (addrs.len() - i) as u32;
        match timeout_at(share, connect(addr, options.explain.as_ref())).await {
            Ok(Ok(stream)) => {
                let explain = options.explain.as_ref().map(|explain| explain.of(addr));
                let link = Link::tcp(stream, explain);
                return Ok(Dialled {
                    link,
                    peer: addr,
                    failed,
                    took: started.elapsed(),
                });
            }
            Ok(Err(why)) => failed.push(Attempt { addr, why }),
            Err(_) => failed.push(Attempt {
                addr,
                why: io::ErrorKind::TimedOut.into(),
            }),
        }
    }
    let (endpoint, within) = (endpoint.clone(), options.within);
    if failed
        .iter()
        .any(|attempt| attempt.why.kind() == io::ErrorKind::TimedOut)
    {
        Err(DialError::TimedOut {
            endpoint,
            within,
            attempts: failed,
        })
    } else {
        Err(DialError::Refused {
            endpoint,
            attempts: failed,
        })
    }
}

async fn connect(addr: SocketAddr, explain: Option<&Explain>) -> io::Result<TcpStream> {
    let tell = |call: Call<'_>| {
        if let Some(explain) = explain {
            explain.tell(call);
        }
    };
    let socket = if addr.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    };
    tell(Call::Socket {
        addr,
        result: socket.as_ref().map(|_| ()),
    });
    let stream = socket?.connect(addr).await;
    tell(Call::Connect {
        addr,
        result: stream.as_ref().map(|_| ()),
    });
    stream
}
