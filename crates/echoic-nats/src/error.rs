//! Errors of connections to NATS: where, and what kind. A program adds advice by the kind.

use std::{fmt::Display, io};

use async_nats::{ConnectError, ConnectErrorKind};
use thiserror::Error;

use crate::NatsUrl;

/// An error at a NATS server.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", self.kind.describe(&self.url))]
pub struct NatsError {
    /// The server and the subject or stream.
    pub url: NatsUrl,
    /// The kind of error.
    pub kind: NatsErrorKind,
}

/// The kinds of errors.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NatsErrorKind {
    /// The name of the host was not resolved.
    NotResolved(String),
    /// The server cannot be reached.
    Unreachable(String),
    /// It did not answer in time.
    TimedOut,
    /// It did not admit us.
    NotAdmitted,
    /// The handshake of TLS failed.
    Tls(String),
    /// No worker serves the subject.
    NoWorker,
    /// What answers at the subject is not a worker of this version.
    OtherProtocol,
    /// What is there cannot be used here.
    Unusable(String),
    /// It has no JetStream.
    NoJetStream,
    /// JetStream has too little storage for the stream, which reserves 1 GiB.
    NoStorage {
        /// The stream.
        name: String,
    },
    /// The NATS server has too few nodes for the replicas of a stream.
    TooFewNodes {
        /// The stream.
        name: String,
        /// The replicas that the URL asks for.
        replicas: usize,
    },
    /// The stream exists with other settings.
    OtherStream {
        /// The stream.
        name: String,
        /// The first setting that differs.
        why: String,
    },
    /// The service cannot be divided from its server.
    NotPortable(String),
    /// Anything else that the client reports.
    Failed(String),
}

impl NatsErrorKind {
    fn describe(&self, url: &NatsUrl) -> String {
        let server = url.server();
        match self {
            Self::NotResolved(why) => format!("cannot resolve the host of {server}: {why}"),
            Self::Unreachable(why) => format!("cannot reach NATS at {server}: {why}"),
            Self::TimedOut => format!("NATS at {server} gave no answer in time"),
            Self::NotAdmitted => format!("NATS at {server} did not accept user and password"),
            Self::Tls(why) => format!("the TLS handshake with NATS at {server} failed: {why}"),
            Self::NoWorker => format!("no worker serves {url}"),
            Self::OtherProtocol => {
                format!("what answers at {url} is not a worker of this version of echoic")
            }
            Self::Unusable(why) => format!("{url} cannot be used: {why}"),
            Self::NoJetStream => format!("NATS at {server} has no JetStream"),
            Self::NoStorage { name } => format!(
                "JetStream at {server} has too little storage for the stream {name}, which reserves 1 GiB"
            ),
            Self::TooFewNodes { name, replicas } => format!(
                "NATS at {server} has too few nodes with JetStream for {replicas} replicas of the stream {name}"
            ),
            Self::OtherStream { name, why } => {
                format!("the stream {name} at {server} has other settings: {why}")
            }
            Self::NotPortable(service) => {
                format!("{service} cannot run in a worker: it sends without being asked")
            }
            Self::Failed(why) => format!("NATS at {server}: {why}"),
        }
    }
}

impl NatsError {
    pub(crate) fn new(url: &NatsUrl, kind: NatsErrorKind) -> Self {
        Self {
            url: url.clone(),
            kind,
        }
    }

    pub(crate) fn failed(url: &NatsUrl, why: &dyn Display) -> Self {
        Self::new(url, NatsErrorKind::Failed(why.to_string()))
    }

    pub(crate) fn connecting(url: &NatsUrl, error: &ConnectError) -> Self {
        use std::error::Error;
        let why = || {
            let source = error.source().map(ToString::to_string);
            source.unwrap_or_else(|| error.to_string())
        };
        let kind = match error.kind() {
            ConnectErrorKind::Dns => NatsErrorKind::NotResolved(why()),
            // A certificate that is not trusted, or a server without TLS.
            ConnectErrorKind::Io if is_of_tls(error) => NatsErrorKind::Tls(why()),
            ConnectErrorKind::Io => NatsErrorKind::Unreachable(why()),
            ConnectErrorKind::TimedOut => NatsErrorKind::TimedOut,
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                NatsErrorKind::NotAdmitted
            }
            ConnectErrorKind::Tls => NatsErrorKind::Tls(why()),
            ConnectErrorKind::ServerParse | ConnectErrorKind::MaxReconnects => {
                NatsErrorKind::Failed(why())
            }
        };
        Self::new(url, kind)
    }
}

/// Whether an error of the connection is one of the TLS library, which calls what it receives invalid.
fn is_of_tls(error: &ConnectError) -> bool {
    use std::error::Error;
    let source = error
        .source()
        .and_then(|why| why.downcast_ref::<io::Error>());
    source.is_some_and(|why| why.kind() == io::ErrorKind::InvalidData)
}
