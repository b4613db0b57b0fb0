//! The connection that writes, and what it knows.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Weak},
    time::Duration,
};

use echoic_core::{
    event::{Batch, ConversationId, EndpointInfo, ExchangeId, Micros, ServerId, ServerInfo},
    store::{Durability, Retention, StoreError, StoreErrorKind},
};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::{sleep, timeout},
};
use tokio_postgres::{Client, error::SqlState};

use super::{
    PostgresUrl,
    append::{Pending, Statements},
    connect,
    error::{is_lost, store_error, timed_out},
    parts::Limits,
    schema::{self, LOCK_APPEND, LOCK_CLASS},
    servers::{self, Servers},
};
use crate::check;

/// Time for an operation of the writer. The connection is given up then.
const OPERATION: Duration = Duration::from_secs(30);

/// Interval at which an idle server shows that it lives, and connects again if its connection was lost.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Number of attempts to get the lock for appends. Each waits for `lock_timeout`.
const LOCK_ATTEMPTS: u32 = 3;

/// Who holds the lock for appends for longer is stopped by who waits for it: a process may be suspended in the middle of
/// an append, and the database waits for it without a limit.
const HELD_MAX: &str = "3 s";

/// Maximum of servers, and of endpoints, that a connection knows. A new one begins without any.
const KNOWN_MAX: usize = 1_024;

/// Maximum of servers whose infos are retained.
const SERVERS_MAX: usize = 16;

/// Writes to the database.
pub(super) struct Writer {
    url: PostgresUrl,
    durability: Durability,
    state: Mutex<State>,
}

/// What must not be used by two operations at the same time.
#[derive(Default)]
pub(super) struct State {
    /// `None` before the first use, and after an error.
    session: Option<Session>,
    /// Servers whose batches were stored, the most recent last.
    servers: Vec<Arc<ServerInfo>>,
    pub(super) limits: Limits,
    is_closed: bool,
}

/// A connection that writes. It is given up after any error: then nothing here may be relied on.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) statements: Statements,
    pub(super) servers: Servers,
    pub(super) endpoints: HashMap<EndpointInfo, i64>,
}

impl Writer {
    /// Connects, makes or migrates the schema, and ends the conversations of servers that have died. Returns their number too.
    pub(super) async fn open(
        url: PostgresUrl,
        durability: Durability,
    ) -> Result<(Arc<Self>, u64), StoreError> {
        let client = connect::connect(&url, &settings(durability)).await?.client;
        schema::migrate(&url, &client).await?;
        let writer = Arc::new(Self {
            url,
            durability,
            state: Mutex::default(),
        });
        let mut session = writer.session(client).await?;
        let recovered = writer.refused(servers::end_of_dead(&mut session.client, &[]).await)?;
        writer.state.lock().await.session = Some(session);
        tokio::spawn(heartbeats(Arc::downgrade(&writer)));
        Ok((writer, recovered))
    }

    async fn session(&self, client: Client) -> Result<Session, StoreError> {
        let statements = self.refused(Statements::prepare(&client).await)?;
        Ok(Session {
            client,
            statements,
            servers: Servers::default(),
            endpoints: HashMap::new(),
        })
    }

    /// Stores all of the batches or none, and returns the id of the first exchange of each.
    pub(super) async fn append(
        &self,
        batches: Vec<Arc<Batch>>,
    ) -> Result<Vec<ExchangeId>, StoreError> {
        check(&batches).map_err(|kind| StoreError::new(self.url.location(), kind))?;
        let mut state = self.state().await?;
        let mut is_first = state.session.is_some();
        loop {
            let done = self.within(self.append_once(&mut state, &batches)).await;
            if !state.repeat(&mut is_first, &done) {
                return done;
            }
        }
    }

    async fn append_once(
        &self,
        state: &mut State,
        batches: &[Arc<Batch>],
    ) -> Result<Vec<ExchangeId>, StoreError> {
        // Before the lock: others wait meanwhile.
        let pending = Pending::encode(batches);
        self.connect(state).await?;
        for batch in batches {
            self.adopt(state, &batch.server).await?;
        }
        let limits = state.limits;
        let session = state.session();
        self.lock_appends(&session.client).await?;
        let appended = session.append(pending, batches, limits).await;
        let (ids, room) = self.refused(appended)?;
        self.refused(session.after_append(room, limits).await)?;
        Ok(ids)
    }

    /// Returns those of the servers that were stored here lately which have open conversations.
    pub(super) async fn open_servers(&self) -> Result<Vec<ServerId>, StoreError> {
        let mut state = self.state().await?;
        let ids: Vec<String> = state
            .servers
            .iter()
            .map(|server| server.id.to_string())
            .collect();
        let asked = async {
            self.connect(&mut state).await?;
            self.refused(servers::open_among(&state.session().client, &ids).await)
        };
        let done = self.within(asked).await;
        state.repeat(&mut false, &done);
        done
    }

    /// Ends the open conversations of a server elsewhere that has died.
    pub(super) async fn end_server(&self, id: ServerId) -> Result<u64, StoreError> {
        let mut state = self.state().await?;
        let ending = async {
            self.connect(&mut state).await?;
            state.servers.retain(|server| server.id != id);
            let session = state.session();
            session.servers.remove(id);
            self.lock_appends(&session.client).await?;
            let ended = self.refused(servers::end_one(&session.client, id).await)?;
            self.refused(session.client.batch_execute("COMMIT").await)?;
            Ok(ended)
        };
        let done = self.within(ending).await;
        state.repeat(&mut false, &done);
        done
    }

    /// Reserves ids of conversations, and returns the first.
    pub(super) async fn reserve(&self, count: u64) -> Result<ConversationId, StoreError> {
        let mut state = self.state().await?;
        let mut is_first = state.session.is_some();
        loop {
            let done = self.within(self.reserve_once(&mut state, count)).await;
            if !state.repeat(&mut is_first, &done) {
                return done;
            }
        }
    }

    async fn reserve_once(
        &self,
        state: &mut State,
        count: u64,
    ) -> Result<ConversationId, StoreError> {
        self.connect(state).await?;
        let client = &state.session().client;
        // On disk before it is used, whatever the durability: no id may be given twice.
        let sql =
            "WITH durable AS MATERIALIZED (SELECT set_config('synchronous_commit', 'on', true))
            UPDATE reserved SET last = greatest(last, last_conversation) + $1 FROM state, durable
            RETURNING last - $1 + 1";
        let row = client.query_one(sql, &[&count.cast_signed()]).await;
        let first: i64 = self.refused(row)?.get(0);
        Ok(first.cast_unsigned())
    }

    /// Deletes a bounded number of exchanges beyond `retention`, and returns their number.
    pub(super) async fn prune(&self, retention: Retention, now: Micros) -> Result<u64, StoreError> {
        let mut state = self.state().await?;
        state.limits = Limits::of(retention);
        let mut is_first = state.session.is_some();
        loop {
            let done = self
                .within(self.prune_once(&mut state, retention, now))
                .await;
            if !state.repeat(&mut is_first, &done) {
                return done;
            }
        }
    }

    async fn prune_once(
        &self,
        state: &mut State,
        retention: Retention,
        now: Micros,
    ) -> Result<u64, StoreError> {
        self.connect(state).await?;
        let session = state.session();
        let own = session.servers.keys();
        self.refused(servers::end_of_dead(&mut session.client, &own).await)?;
        self.refused(servers::fold_silent(&session.client).await)?;
        self.refused(session.prune(retention, now).await)
    }

    /// Writes the counts and closes the connection. Calls that come later fail.
    pub(super) async fn close(&self) -> Result<(), StoreError> {
        let Ok(mut state) = self.state().await else {
            return Ok(());
        };
        state.is_closed = true;
        let Some(mut session) = state.session.take() else {
            return Ok(());
        };
        // All is committed, and what a lost connection left uncounted is counted again.
        if session.client.is_closed() {
            return Ok(());
        }
        // Others would count again what is not written now.
        let written = async {
            self.lock_appends(&session.client).await?;
            self.refused(session.write_counts().await)?;
            self.refused(session.client.batch_execute("COMMIT").await)
        };
        self.within(written).await
    }

    /// Returns the state when no other operation uses it.
    async fn state(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.state.lock().await;
        if state.is_closed {
            return Err(StoreError::new(self.url.location(), StoreErrorKind::Closed));
        }
        Ok(state)
    }

    /// Connects unless there is a connection.
    async fn connect(&self, state: &mut State) -> Result<(), StoreError> {
        if let Some(session) = &state.session
            && !session.client.is_closed()
            && session.servers.len().max(session.endpoints.len()) < KNOWN_MAX
        {
            return Ok(());
        }
        state.session = None;
        let connected = connect::connect(&self.url, &settings(self.durability)).await?;
        schema::check(&self.url, &connected.client).await?;
        state.session = Some(self.session(connected.client).await?);
        Ok(())
    }

    async fn adopt(&self, state: &mut State, server: &Arc<ServerInfo>) -> Result<(), StoreError> {
        let session = state.session();
        if session.servers.contains(server.id) {
            return Ok(());
        }
        self.lock_appends(&session.client).await?;
        let adopted = session.servers.adopt(&session.client, server).await;
        self.refused(adopted)?;
        self.refused(session.client.batch_execute("COMMIT").await)?;
        state.servers.retain(|known| known.id != server.id);
        if state.servers.len() == SERVERS_MAX {
            state.servers.remove(0);
        }
        state.servers.push(Arc::clone(server));
        Ok(())
    }

    /// Begins a transaction that holds the lock for appends. Whoever holds it for too long is stopped.
    async fn lock_appends(&self, client: &Client) -> Result<(), StoreError> {
        let lock = format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK_CLASS}, {LOCK_APPEND})");
        let mut attempt = 1;
        loop {
            let why = match client.batch_execute(&lock).await {
                Ok(()) => return Ok(()),
                Err(why) => why,
            };
            if why.code() != Some(&SqlState::LOCK_NOT_AVAILABLE) || attempt == LOCK_ATTEMPTS {
                return Err(store_error(&self.url, &why));
            }
            let stop = format!(
                "ROLLBACK; SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid)
                WHERE locktype = 'advisory' AND classid = {LOCK_CLASS} AND objid = {LOCK_APPEND} AND granted
                    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                    AND xact_start < clock_timestamp() - interval '{HELD_MAX}'"
            );
            // It may be the process of another user. Then the lock is tried again all the same.
            if client.batch_execute(&stop).await.is_err() {
                self.refused(client.batch_execute("ROLLBACK").await)?;
            }
            attempt += 1;
        }
    }

    fn refused<T>(&self, done: Result<T, tokio_postgres::Error>) -> Result<T, StoreError> {
        done.map_err(|why| store_error(&self.url, &why))
    }

    async fn within<T>(
        &self,
        operation: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let done = timeout(OPERATION, operation).await;
        done.unwrap_or_else(|_| {
            let what = format!("no answer within {} s", OPERATION.as_secs());
            Err(timed_out(&self.url, what))
        })
    }

    /// Shows that the servers live which wrote here, and writes their counts, so that others need not count for long.
    async fn beat(&self, state: &mut State) -> Result<(), StoreError> {
        if state.servers.is_empty() {
            return Ok(());
        }
        self.connect(state).await?;
        for server in state.servers.clone() {
            self.adopt(state, &server).await?;
        }
        let session = state.session();
        self.lock_appends(&session.client).await?;
        self.refused(session.write_counts().await)?;
        let alive = servers::show_alive(&session.client, &session.servers.keys()).await;
        self.refused(alive)?;
        self.refused(session.client.batch_execute("COMMIT").await)
    }
}

impl State {
    fn session(&mut self) -> &mut Session {
        self.session.as_mut().expect("invariant: connected before")
    }

    /// Gives the connection up after an error. Returns whether to repeat the operation on another one: once, if it was lost
    /// since it was used last.
    fn repeat<T>(&mut self, is_first: &mut bool, done: &Result<T, StoreError>) -> bool {
        let Err(why) = done else {
            return false;
        };
        self.session = None;
        std::mem::take(is_first) && is_lost(why)
    }
}

impl Session {
    /// Writes the counts of open conversations. The caller holds the lock for appends.
    async fn write_counts(&mut self) -> Result<(), tokio_postgres::Error> {
        let last = self
            .client
            .query_one("SELECT last_exchange FROM state", &[]);
        let last = last.await?.get::<_, i64>(0).cast_unsigned();
        for known in self.servers.all_mut() {
            known.write_counts(&self.client, last).await?;
        }
        Ok(())
    }
}

/// Beats until the writer is dropped or closed.
async fn heartbeats(writer: Weak<Writer>) {
    loop {
        sleep(HEARTBEAT).await;
        let Some(writer) = writer.upgrade() else {
            return;
        };
        let Ok(mut state) = writer.state.try_lock() else {
            continue;
        };
        if state.is_closed {
            return;
        }
        if writer.within(writer.beat(&mut state)).await.is_err() {
            state.session = None;
        }
    }
}

/// Settings of the connection. A transaction that waits for us, or for a lock, does not wait for long: others wait for it.
fn settings(durability: Durability) -> String {
    // Without it a commit is lost if the database crashes within a second, as a process may that is killed.
    let synchronous = match durability {
        Durability::Strict | Durability::Normal => "on",
        Durability::Off => "off",
    };
    format!(
        "SET search_path = echoic, pg_temp; SET synchronous_commit = {synchronous}; SET jit = off;
        SET statement_timeout = 15000; SET lock_timeout = 2000; SET idle_in_transaction_session_timeout = 3000"
    )
}
