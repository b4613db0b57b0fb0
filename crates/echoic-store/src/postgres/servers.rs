//! Servers that write to this database, and the ids of their batches.

use std::{collections::HashMap, sync::Arc};

use echoic_core::{
    event::{BatchId, ExchangeId, ServerId, ServerInfo},
    store::BATCHES_KNOWN,
};
use tokio_postgres::{Client, Error, Row, types::ToSql};

use super::{counts::Counts, schema::LOCK_SERVERS};

/// Number of batches of a server after which the names of old ones are removed.
const FOLD_EVERY: u64 = 1_024;

/// Time without a sign of life after which a server without a connection is dead: some heartbeats.
const DEAD_AFTER: &str = "60 s";

/// Servers whose batches this connection has stored. It holds the lock that shows that they live.
#[derive(Default)]
pub(super) struct Servers(HashMap<ServerId, Known>);

/// A server, as of the last commit.
pub(super) struct Known {
    pub(super) key: i64,
    pub(super) counts: Counts,
    /// What it was when `counts` began, and since: `counts` has all runs after `tallied` only if nobody else has stored any.
    progress: Progress,
    /// Number of the batch at which old names were removed.
    folded: u64,
}

/// How far a server is in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// Runs up to this one are counted in the rows of its open conversations.
    tallied: ExchangeId,
    /// Largest number of its batches.
    newest: u64,
    /// It was taken for dead.
    died: bool,
}

/// Columns of a [`Progress`].
const PROGRESS: &str = "server.tallied, greatest(server.last,
    (SELECT max(number) FROM batch WHERE batch.server = server.key)), server.died";

/// The names of stored batches among those of an append, with the ids of their first exchanges.
pub(super) struct Stored {
    /// All batches up to this one of each server.
    last: HashMap<ServerId, u64>,
    ids: HashMap<BatchId, ExchangeId>,
    progress: HashMap<ServerId, Progress>,
}

impl Stored {
    /// Returns the id of the first exchange of a batch, if it is stored.
    pub(super) fn get(&self, batch: BatchId) -> Option<ExchangeId> {
        let known = self.ids.get(&batch).copied();
        known.or_else(|| {
            let last = self.last.get(&batch.server).copied().unwrap_or(0);
            (batch.number <= last).then_some(0)
        })
    }

    pub(super) fn add(&mut self, batch: BatchId, first: ExchangeId) {
        self.ids.insert(batch, first);
    }

    /// The servers of the batches.
    pub(super) fn servers(&self) -> impl Iterator<Item = (ServerId, Progress)> {
        self.progress
            .iter()
            .map(|(server, progress)| (*server, *progress))
    }
}

impl Progress {
    fn read(row: &Row, at: usize) -> Self {
        let number = |at: usize| row.get::<_, i64>(at).cast_unsigned();
        Self {
            tallied: number(at),
            newest: number(at + 1),
            died: row.get(at + 2),
        }
    }

    async fn of(client: &Client, key: i64) -> Result<Self, Error> {
        let sql = format!("SELECT {PROGRESS} FROM server WHERE key = $1");
        let row = client.query_one(&sql, &[&key]).await?;
        Ok(Self::read(&row, 0))
    }
}

impl Servers {
    pub(super) fn get_mut(&mut self, id: ServerId) -> &mut Known {
        let known = self.0.get_mut(&id);
        known.expect("invariant: adopted before the append")
    }

    pub(super) fn remove(&mut self, id: ServerId) {
        self.0.remove(&id);
    }

    pub(super) fn keys(&self) -> Vec<i64> {
        self.0.values().map(|known| known.key).collect()
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Known> {
        self.0.values_mut()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn contains(&self, id: ServerId) -> bool {
        self.0.contains_key(&id)
    }

    /// Adds a server to the database and takes its lock. Counts again what a connection before did not write. The caller has
    /// begun a transaction with the lock for appends: what that connection left behind is committed, or never will be.
    pub(super) async fn adopt(
        &mut self,
        client: &Client,
        server: &Arc<ServerInfo>,
    ) -> Result<(), Error> {
        let id = server.id.to_string();
        let sql = "INSERT INTO server (id, name, started, tallied)
            SELECT $1, $2, $3, last_exchange FROM state ON CONFLICT DO NOTHING";
        let name = plain(&server.name);
        let row: [&(dyn ToSql + Sync); 3] = [&id, &name, &server.started];
        let is_new = client.execute(sql, &row).await? > 0;
        let sql = "SELECT key FROM server WHERE id = $1";
        let row = client.query_one(sql, &[&id]).await?;
        let key: i64 = row.get(0);
        // Shared: several processes may store batches of the same server.
        let sql =
            format!("SELECT pg_try_advisory_lock_shared({LOCK_SERVERS}, $1::bigint::integer)");
        client.query_one(&sql, &[&key]).await?;
        if !is_new {
            Counts::recount(client, key).await?;
        }
        let known = Known {
            key,
            counts: Counts::default(),
            progress: Progress::of(client, key).await?,
            folded: 0,
        };
        self.0.insert(server.id, known);
        Ok(())
    }

    /// Returns which of these batches are stored. The caller holds the lock for appends.
    pub(super) async fn stored(
        &self,
        client: &Client,
        batches: impl Iterator<Item = BatchId>,
    ) -> Result<Stored, Error> {
        let mut numbers: HashMap<ServerId, Vec<i64>> = HashMap::new();
        for batch in batches {
            let of_server = numbers.entry(batch.server).or_default();
            of_server.push(batch.number.cast_signed());
        }
        let mut stored = Stored {
            last: HashMap::new(),
            ids: HashMap::new(),
            progress: HashMap::new(),
        };
        let sql = format!(
            "SELECT server.last, batch.number, batch.first_id, {PROGRESS} FROM server
            LEFT JOIN batch ON batch.server = server.key AND batch.number = ANY ($2)
            WHERE server.key = $1"
        );
        for (server, numbers) in numbers {
            let key = self.0.get(&server).map_or(0, |known| known.key);
            for row in client.query(&sql, &[&key, &numbers]).await? {
                stored.progress.insert(server, Progress::read(&row, 3));
                stored
                    .last
                    .insert(server, row.get::<_, i64>(0).cast_unsigned());
                if let Some(number) = row.get::<_, Option<i64>>(1) {
                    let number = number.cast_unsigned();
                    let first = row.get::<_, i64>(2).cast_unsigned();
                    stored.add(BatchId { server, number }, first);
                }
            }
        }
        Ok(stored)
    }
}

impl Known {
    /// Notes that a batch with this number is stored.
    pub(super) fn stored(&mut self, number: u64) {
        self.progress.newest = self.progress.newest.max(number);
    }

    /// Opens the conversations again if the server was taken for dead, and counts again from the runs if another connection has stored batches of this server, or has counted them: several keepers
    /// may write what one server records, in turn. The caller holds the lock for appends.
    pub(super) async fn catch_up(
        &mut self,
        client: &Client,
        progress: Progress,
    ) -> Result<(), Error> {
        if progress.died {
            revive(client, self.key).await?;
        } else if self.progress == progress {
            return Ok(());
        }
        Counts::recount(client, self.key).await?;
        self.counts = Counts::default();
        self.progress = Progress::of(client, self.key).await?;
        Ok(())
    }

    /// Adds the counts to the rows of its open conversations: `last` is the last exchange of the record. The caller holds the lock
    /// for appends.
    pub(super) async fn write_counts(
        &mut self,
        client: &Client,
        last: ExchangeId,
    ) -> Result<(), Error> {
        let progress = Progress::of(client, self.key).await?;
        if progress.died {
            // None is open. What the server records next opens them again, and has them counted.
            return Ok(());
        }
        self.catch_up(client, progress).await?;
        self.counts.write(client, self.key, last).await?;
        self.progress.tallied = self.progress.tallied.max(last);
        Ok(())
    }

    /// Whether [`Known::write_due`] would write something: `last` is the last exchange of the record.
    pub(super) fn is_due(&self, last: ExchangeId) -> bool {
        self.counts.is_due(last) || self.progress.newest >= self.folded + FOLD_EVERY
    }

    /// Writes the counts and removes the names of old batches, each from time to time.
    pub(super) async fn write_due(
        &mut self,
        client: &Client,
        last: ExchangeId,
    ) -> Result<(), Error> {
        if self.counts.is_due(last) {
            self.write_counts(client, last).await?;
        }
        if self.progress.newest >= self.folded + FOLD_EVERY {
            self.fold(client).await?;
        }
        Ok(())
    }

    /// Removes the names of batches far below the newest. All up to `server.last` are stored, without a gap between them: a
    /// batch that another process still has to store is not taken for stored. A server whose gap never closes retains at most
    /// four times as many names.
    async fn fold(&mut self, client: &Client) -> Result<(), Error> {
        let sql = "WITH mine AS (
                SELECT number, lead(number) OVER (ORDER BY number) AS next FROM batch WHERE server = $1
            ), unbroken AS (
                SELECT CASE
                    WHEN (SELECT count(*) FROM mine) > 4 * $2::bigint THEN max(number)
                    WHEN min(number) > (SELECT last + 1 FROM server WHERE key = $1) THEN 0
                    ELSE min(number) FILTER (WHERE next IS NULL OR next > number + 1) END AS number,
                    max(number) AS newest
                FROM mine
            ), folded AS (
                UPDATE server SET last = greatest(last, least(unbroken.number, unbroken.newest - $2::bigint)) FROM unbroken
                WHERE key = $1 RETURNING last
            )
            DELETE FROM batch USING folded WHERE server = $1 AND number <= folded.last";
        let known = BATCHES_KNOWN.cast_signed();
        client.execute(sql, &[&self.key, &known]).await?;
        self.folded = self.progress.newest;
        Ok(())
    }
}

/// Shows that the servers with these keys live.
pub(super) async fn show_alive(client: &Client, keys: &[i64]) -> Result<(), Error> {
    let sql = "UPDATE server SET alive = now() WHERE key = ANY ($1)";
    client.execute(sql, &[&keys]).await.map(drop)
}

/// Opens the conversations again that were taken for those of a dead server: it had only lost its connection.
async fn revive(client: &Client, key: i64) -> Result<(), Error> {
    let sql = "UPDATE conversation SET ended = NULL, reason = NULL, last_run = NULL,
            received = CASE role WHEN 'client' THEN sent ELSE received END,
            sent = CASE role WHEN 'client' THEN received ELSE sent END
        WHERE server = $1 AND reason = 'process-died'";
    client.execute(sql, &[&key]).await?;
    let sql = "UPDATE server SET died = false WHERE key = $1";
    client.execute(sql, &[&key]).await.map(drop)
}

/// Removes the names of batches of servers that have been silent for a day, up to the first gap: `server.last` tells that those
/// are stored. A batch that comes late all the same is stored once.
pub(super) async fn fold_silent(client: &Client) -> Result<(), Error> {
    let sql = "WITH silent AS (
            SELECT key, last FROM server WHERE alive < now() - interval '1 day'
                AND EXISTS (SELECT FROM batch WHERE server = key AND number > last) LIMIT 16
        ), named AS (
            SELECT key, last, number, lead(number) OVER (PARTITION BY key ORDER BY number) AS next
            FROM silent JOIN batch ON batch.server = key AND number > last
        ), unbroken AS (
            SELECT key, min(number) FILTER (WHERE next IS NULL OR next > number + 1) AS number
            FROM named GROUP BY key, last HAVING min(number) = last + 1
        ), folded AS (
            UPDATE server SET last = unbroken.number FROM unbroken WHERE server.key = unbroken.key
            RETURNING server.key, server.last
        )
        DELETE FROM batch USING folded WHERE server = folded.key AND number <= folded.last";
    client.execute(sql, &[]).await.map(drop)
}

/// Ends the conversations of servers that have died: they have no connection and have shown no sign of life for a while.
/// Returns their number.
pub(super) async fn end_of_dead(client: &mut Client, own: &[i64]) -> Result<u64, Error> {
    let sql = format!(
        "SELECT key FROM server
        WHERE key IN (SELECT server FROM conversation WHERE last_run IS NULL) AND key <> ALL ($1)
            AND alive < now() - interval '{DEAD_AFTER}'"
    );
    let mut ended = 0;
    for row in client.query(&sql, &[&own]).await? {
        let key: i64 = row.get(0);
        let transaction = client.transaction().await?;
        let sql = format!("SELECT pg_try_advisory_xact_lock({LOCK_SERVERS}, $1::bigint::integer)");
        let is_dead: bool = transaction.query_one(&sql, &[&key]).await?.get(0);
        if !is_dead {
            continue;
        }
        ended += end_open(transaction.client(), key).await?;
        transaction.commit().await?;
    }
    Ok(ended)
}

/// Ends the open conversations of a server that has died. Returns their number.
async fn end_open(client: &Client, key: i64) -> Result<u64, Error> {
    Counts::recount(client, key).await?;
    // Only the counts are known. Replies count as sent: to report a reply as unsent that the peer has received would be the
    // worse error. The counts are of requests and replies, and a client sends the requests.
    let sql = "UPDATE conversation SET ended = seen, reason = 'process-died',
                last_run = (SELECT last_exchange FROM state),
                received = CASE role WHEN 'client' THEN sent ELSE received END,
                sent = CASE role WHEN 'client' THEN received ELSE sent END
            WHERE server = $1 AND last_run IS NULL";
    let ended = client.execute(sql, &[&key]).await?;
    let sql = "UPDATE server SET died = true WHERE key = $1";
    client.execute(sql, &[&key]).await?;
    Ok(ended)
}

/// Returns those of the servers that have open conversations.
pub(super) async fn open_among(client: &Client, ids: &[String]) -> Result<Vec<ServerId>, Error> {
    let sql = "SELECT id FROM server WHERE id = ANY ($1)
        AND key IN (SELECT server FROM conversation WHERE last_run IS NULL)";
    let rows = client.query(sql, &[&ids]).await?;
    let ids = rows.iter().map(|row| row.get::<_, String>(0).parse().ok());
    Ok(ids.flatten().collect())
}

/// Ends the open conversations of a server elsewhere that has died, and gives up the lock that showed that it lives. The caller
/// holds the lock for appends. Returns their number.
pub(super) async fn end_one(client: &Client, id: ServerId) -> Result<u64, Error> {
    let sql = "SELECT key FROM server WHERE id = $1";
    let Some(row) = client.query_opt(sql, &[&id.to_string()]).await? else {
        return Ok(0);
    };
    let key = row.get(0);
    let sql = format!("SELECT pg_advisory_unlock_shared({LOCK_SERVERS}, $1::bigint::integer)");
    client.execute(&sql, &[&key]).await?;
    end_open(client, key).await
}

/// Returns a text without NUL, which PostgreSQL cannot store.
pub(super) fn plain(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
