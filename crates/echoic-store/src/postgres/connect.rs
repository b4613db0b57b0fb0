//! Connections to the database.

use std::{future::poll_fn, time::Duration};

use echoic_core::store::StoreError;
use tokio::{sync::mpsc, time::timeout};
use tokio_postgres::{AsyncMessage, Client, Notification};

use super::{
    PostgresUrl,
    error::{store_error, timed_out},
    tls,
};

/// Time to connect and to log in.
pub(super) const CONNECT: Duration = Duration::from_secs(5);

/// Time after which a server that has vanished from the network is noticed.
const VANISHED: Duration = Duration::from_secs(10);

/// Maximum of notices that wait to be read. More are dropped: the newest id is read from the database anyway.
const NOTICES_MAX: usize = 64;

/// Settings of a connection that reads, in milliseconds. Its transactions are short.
pub(super) const TO_READ: &str = "SET search_path = echoic, pg_temp; SET statement_timeout = 30000;
    SET lock_timeout = 5000; SET idle_in_transaction_session_timeout = 30000; SET jit = off";

/// A new connection. Its notices arrive in `notices`, which ends with the connection.
pub(super) struct Connected {
    pub(super) client: Client,
    pub(super) notices: mpsc::Receiver<Notification>,
}

/// Connects, and applies `settings`. The connection ends when its client is dropped.
pub(super) async fn connect(url: &PostgresUrl, settings: &str) -> Result<Connected, StoreError> {
    let mut config = url.config.clone();
    config
        .application_name("echoic")
        .keepalives_idle(VANISHED)
        .keepalives_interval(VANISHED / 5)
        .keepalives_retries(3)
        .tcp_user_timeout(VANISHED);
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT);
    }
    let connector = tls::connector(url)?;
    let connecting = async {
        let connected = config.connect(connector).await;
        let (client, mut connection) = connected.map_err(|why| store_error(url, &why))?;
        let (told, notices) = mpsc::channel(NOTICES_MAX);
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notification(notice) = message {
                    let _ = told.try_send(notice);
                }
            }
        });
        let applied = client.batch_execute(settings).await;
        applied.map_err(|why| store_error(url, &why))?;
        Ok(Connected { client, notices })
    };
    let connected = timeout(CONNECT, connecting).await;
    connected.unwrap_or_else(|_| {
        let what = format!("no connection within {} s", CONNECT.as_secs());
        Err(timed_out(url, what))
    })
}
