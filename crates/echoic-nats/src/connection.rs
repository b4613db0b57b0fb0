//! A connection to NATS, which is made again by itself when it is lost.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_nats::{Client, ConnectOptions, Event, ServerAddr, Subscriber, connection::State};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::timeout;

use crate::{NatsError, NatsErrorKind, NatsUrl, url::Login};

/// Time for one attempt to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for NATS to confirm that it has done what was asked, and until it is asked again.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);
const CONFIRM_AGAIN: Duration = Duration::from_secs(1);

/// Longest pause between attempts to connect again.
const RECONNECT_PAUSE_MAX: Duration = Duration::from_millis(500);

/// How often the server is asked for a sign of life. Two that are missed mean that the connection is lost.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// Received messages that may wait for us. One more is dropped by the client, and comes again when the sender repeats it.
pub(crate) const WAITING_MESSAGES_MAX: usize = 16_384;

/// Messages to be sent that may wait for the connection; then sending waits.
const SENDING_MESSAGES_MAX: usize = 256;

/// A connection to a NATS server or cluster. It is logged when it is lost and when it is made again.
#[derive(Clone, Debug)]
pub struct Connection {
    pub(crate) client: Client,
    pub(crate) url: NatsUrl,
}

impl Connection {
    /// Connects to one of the URL's servers; `name` is what it lists us as. Later losses are repaired without end, at any
    /// server of the cluster.
    pub async fn open(url: &NatsUrl, name: &str) -> Result<Self, NatsError> {
        let server = url.server();
        let addresses = url.servers().map(|server| server.parse());
        let addresses = addresses.collect::<Result<Vec<ServerAddr>, _>>();
        let addresses = addresses.map_err(|error| NatsError::failed(url, &error))?;
        let was_lost = Arc::new(AtomicBool::new(false));
        let options = ConnectOptions::new()
            .name(name)
            .connection_timeout(CONNECT_TIMEOUT)
            .ping_interval(PING_INTERVAL)
            .request_timeout(None)
            .subscription_capacity(WAITING_MESSAGES_MAX)
            .client_capacity(SENDING_MESSAGES_MAX)
            .reconnect_delay_callback(|attempts| {
                let doubled = Duration::from_millis(10 << attempts.min(10));
                doubled.min(RECONNECT_PAUSE_MAX)
            })
            .event_callback(move |event| {
                let (server, was_lost) = (server.clone(), Arc::clone(&was_lost));
                async move { log(&server, &event, &was_lost) }
            });
        let options = match url.login() {
            None => options,
            Some(Login::Token(token)) => options.token(token.clone()),
            Some(Login::Password(user, password)) => {
                options.user_and_password(user.clone(), password.clone())
            }
        };
        let options = match url.ca() {
            None => options,
            Some(file) => {
                check_certificates(file).map_err(|why| {
                    let why = format!("the ca {}: {why}", file.display());
                    NatsError::new(url, NatsErrorKind::Unusable(why))
                })?;
                options.add_root_certificates(file.into()).require_tls(true)
            }
        };
        let client = options.connect(addresses).await;
        let client = client.map_err(|error| NatsError::connecting(url, &error))?;
        Ok(Self {
            client,
            url: url.clone(),
        })
    }

    /// Returns the server with the subject or stream.
    pub fn url(&self) -> &NatsUrl {
        &self.url
    }

    /// Waits until NATS has done all that was asked of it before, by a message to ourselves: `Client::flush` waits only until it is
    /// written to the socket. `inbox` is our subject, `own` what comes there.
    pub(crate) async fn confirm(&self, inbox: &str, own: &mut Subscriber) -> Result<(), NatsError> {
        let confirmed = async {
            loop {
                let sent = self.client.publish(inbox.to_owned(), Bytes::new()).await;
                sent.map_err(|error| NatsError::failed(&self.url, &error))?;
                // It is lost with the connection, and what was subscribed to is subscribed to again before the next one.
                if timeout(CONFIRM_AGAIN, own.next()).await.is_ok() {
                    return Ok(());
                }
            }
        };
        let confirmed = timeout(CONFIRM_TIMEOUT, confirmed).await;
        confirmed.map_err(|_| NatsError::new(&self.url, NatsErrorKind::TimedOut))?
    }

    /// Whether the connection is up, as far as is known.
    pub fn is_up(&self) -> bool {
        self.client.connection_state() == State::Connected
    }
}

/// Reads the file once before the client does, whose error does not name it.
fn check_certificates(file: &Path) -> Result<(), String> {
    let text = std::fs::read(file).map_err(|why| why.to_string())?;
    let begin = b"-----BEGIN CERTIFICATE-----";
    let is_certificate = text.windows(begin.len()).any(|bytes| bytes == begin);
    is_certificate
        .then_some(())
        .ok_or_else(|| "it has no certificate (PEM)".to_owned())
}

fn log(server: &str, event: &Event, was_lost: &AtomicBool) {
    match event {
        Event::Disconnected => {
            was_lost.store(true, Ordering::Relaxed);
            tracing::warn!("the connection to NATS at {server} is lost: trying again");
        }
        Event::Connected if was_lost.swap(false, Ordering::Relaxed) => {
            tracing::warn!("connected to NATS at {server} again");
        }
        Event::SlowConsumer(_) => {
            tracing::warn!("messages from NATS at {server} come faster than they are processed");
        }
        Event::ServerError(error) => tracing::warn!("NATS at {server}: {error}"),
        event => tracing::debug!("NATS at {server}: {event}"),
    }
}
