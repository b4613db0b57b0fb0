//! The connections that read.

use std::{
    collections::HashMap,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use echoic_core::store::{Last, StoreError, StoreErrorKind, StoreLocation};
use tokio::{
    sync::{Semaphore, SemaphorePermit, mpsc},
    time::{sleep, timeout},
};
use tokio_postgres::{Client, Notification, Statement};

use super::{PostgresUrl, connect, error, row::Lookups, schema};

/// Maximum of connections. Further searches wait for their turn.
const CONNECTIONS_MAX: usize = 4;

/// Time to wait for a turn.
const TURN: Duration = Duration::from_mins(1);

/// Number of attempts to connect, and the time between them.
const ATTEMPTS: u32 = 3;
const BETWEEN: Duration = Duration::from_millis(300);

/// The connections that read, opened when they are needed.
pub(super) struct Readers {
    url: PostgresUrl,
    turns: Semaphore,
    idle: Mutex<Vec<Connection>>,
    pub(super) lookups: Mutex<Lookups>,
}

struct Connection {
    client: Client,
    statements: Mutex<HashMap<&'static str, Statement>>,
}

/// A connection in use. It is reused afterwards, unless an error has closed it.
pub(super) struct Reading<'a> {
    readers: &'a Readers,
    /// `None` only while it is dropped.
    connection: Option<Connection>,
    /// Whether it is in a transaction.
    is_held: bool,
    _turn: SemaphorePermit<'a>,
}

impl Readers {
    pub(super) fn new(url: PostgresUrl) -> Self {
        Self {
            url,
            turns: Semaphore::new(CONNECTIONS_MAX),
            idle: Mutex::default(),
            lookups: Mutex::default(),
        }
    }

    /// Connects, and checks that the database holds a record that this version can read.
    pub(super) async fn check(&self) -> Result<(), StoreError> {
        let client = self.client().await?;
        schema::check(&self.url, &client).await
    }

    /// Returns a connection, opened if there is no idle one.
    pub(super) async fn client(&self) -> Result<Reading<'_>, StoreError> {
        let turn = timeout(TURN, self.turns.acquire()).await.map_err(|_| {
            let what = format!("all connections are in use for {} s", TURN.as_secs());
            error::timed_out(&self.url, what)
        })?;
        let turn = turn.map_err(|_| StoreError::new(self.location(), StoreErrorKind::Closed))?;
        let mut connection = None;
        while let Some(idle) = self.idle().pop() {
            if !idle.client.is_closed() {
                connection = Some(idle);
                break;
            }
        }
        let connection = match connection {
            Some(idle) => idle,
            None => Connection {
                client: self.connect().await?.client,
                statements: Mutex::default(),
            },
        };
        Ok(Reading {
            readers: self,
            connection: Some(connection),
            is_held: false,
            _turn: turn,
        })
    }

    /// Returns a connection of its own that may listen. Its notices arrive in the channel, which ends with the connection.
    pub(super) async fn listener(
        &self,
    ) -> Result<(Client, mpsc::Receiver<Notification>), StoreError> {
        let connected = self.connect().await?;
        Ok((connected.client, connected.notices))
    }

    async fn connect(&self) -> Result<connect::Connected, StoreError> {
        let mut attempt = 1;
        loop {
            match connect::connect(&self.url, connect::TO_READ).await {
                Err(why) if error::is_lost(&why) && attempt < ATTEMPTS => {}
                done => return done,
            }
            sleep(BETWEEN * attempt).await;
            attempt += 1;
        }
    }

    pub(super) async fn last(self: Arc<Self>) -> Result<Last, StoreError> {
        let client = self.client().await?;
        let sql = "SELECT last_exchange, last_conversation FROM state";
        let row = client.prepared(sql).await;
        let row = row.map_err(|why| self.error(&why))?;
        let row = client.query_one(&row, &[]).await;
        let row = row.map_err(|why| self.error(&why))?;
        Ok(Last {
            exchange: row.get::<_, i64>(0).cast_unsigned(),
            conversation: row.get::<_, i64>(1).cast_unsigned(),
        })
    }

    /// Closes the connections; later calls fail.
    pub(super) fn close(&self) {
        self.turns.close();
        self.idle().clear();
    }

    /// Converts an error of the database.
    pub(super) fn error(&self, why: &tokio_postgres::Error) -> StoreError {
        error::store_error(&self.url, why)
    }

    /// Returns the error that a row cannot be read.
    pub(super) fn foreign(&self, what: impl Into<String>) -> StoreError {
        error::foreign(&self.url, what)
    }

    pub(super) fn location(&self) -> StoreLocation {
        self.url.location()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reading<'_> {
    /// Closes the connection if it is dropped before [`Reading::release`]: a transaction that was begun would go on.
    pub(super) fn hold(&mut self) {
        self.is_held = true;
    }

    /// Gives the connection back: its transaction has ended.
    pub(super) fn release(mut self) {
        self.is_held = false;
    }

    /// Returns a prepared statement, from the second time on without asking the database.
    pub(super) async fn prepared(
        &self,
        sql: &'static str,
    ) -> Result<Statement, tokio_postgres::Error> {
        let connection = self.connection.as_ref();
        let statements = &connection.expect("invariant: in use").statements;
        let known = {
            let statements = statements.lock().unwrap_or_else(PoisonError::into_inner);
            statements.get(sql).cloned()
        };
        if let Some(known) = known {
            return Ok(known);
        }
        let prepared = self.prepare(sql).await?;
        let mut statements = statements.lock().unwrap_or_else(PoisonError::into_inner);
        statements.insert(sql, prepared.clone());
        Ok(prepared)
    }
}

impl Deref for Reading<'_> {
    type Target = Client;

    fn deref(&self) -> &Client {
        let connection = self.connection.as_ref();
        &connection.expect("invariant: in use").client
    }
}

impl DerefMut for Reading<'_> {
    fn deref_mut(&mut self) -> &mut Client {
        let connection = self.connection.as_mut();
        &mut connection.expect("invariant: in use").client
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let connection = self.connection.take();
        let is_held = self.is_held;
        let usable = connection.filter(|connection| !is_held && !connection.client.is_closed());
        if !self.readers.turns.is_closed() {
            self.readers.idle().extend(usable);
        }
    }
}
