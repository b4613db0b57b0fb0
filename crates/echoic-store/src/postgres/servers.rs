//! Servers that write to this database, and the ids of their batches.

use std::{collections::HashMap, sync::Arc};

use echoic_core::{
    event::{BatchId, ExchangeId, ServerId, ServerInfo},
    store::BATCHES_KNOWN,
};
use tokio_postgres::{Client, Error, types::ToSql};

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
    /// Largest number of its batches.
    pub(super) newest: u64,
    /// Number of the batch at which old names were removed.
    folded: u64,
}

/// The names of stored batches among those of an append, with the ids of their first exchanges.
pub(super) struct Stored {
    /// All batches up to this one of each server.
    last: HashMap<ServerId, u64>,
    ids: HashMap<BatchId, ExchangeId>,
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
}

impl Servers {
    pub(super) fn get_mut(&mut self, id: ServerId) -> &mut Known {
        let known = self.0.get_mut(&id);
        known.expect("invariant: adopted before the append")
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
        let sql = "SELECT key, died FROM server WHERE id = $1";
        let row = client.query_one(sql, &[&id]).await?;
        let key: i64 = row.get(0);
        // Shared: several processes may store batches of the same server.
        let sql =
            format!("SELECT pg_try_advisory_lock_shared({LOCK_SERVERS}, $1::bigint::integer)");
        client.query_one(&sql, &[&key]).await?;
        if row.get(1) {
            revive(client, key).await?;
        }
        if !is_new {
            Counts::recount(client, key).await?;
        }
        let known = Known {
            key,
            counts: Counts::default(),
            newest: 0,
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
        };
        for (server, numbers) in numbers {
            let key = self.0.get(&server).map_or(0, |known| known.key);
            let sql = "SELECT server.last, batch.number, batch.first_id FROM server
                LEFT JOIN batch ON batch.server = server.key AND batch.number = ANY ($2)
                WHERE server.key = $1";
            for row in client.query(sql, &[&key, &numbers]).await? {
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
    /// Whether [`Known::write_due`] would write something: `last` is the last exchange of the record.
    pub(super) fn is_due(&self, last: ExchangeId) -> bool {
        self.counts.is_due(last) || self.newest >= self.folded + FOLD_EVERY
    }

    /// Writes the counts and removes the names of old batches, each from time to time.
    pub(super) async fn write_due(
        &mut self,
        client: &Client,
        last: ExchangeId,
    ) -> Result<(), Error> {
        if self.counts.is_due(last) {
            self.counts.write(client, self.key, last).await?;
        }
        if self.newest >= self.folded + FOLD_EVERY {
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
        self.folded = self.newest;
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
        Counts::recount(transaction.client(), key).await?;
        // Only the counts are known. Replies count as sent: to report a reply as unsent that the peer has received would be the
        // worse error. The counts are of requests and replies, and a client sends the requests.
        let sql = "UPDATE conversation SET ended = seen, reason = 'process-died',
                last_run = (SELECT last_exchange FROM state),
                received = CASE role WHEN 'client' THEN sent ELSE received END,
                sent = CASE role WHEN 'client' THEN received ELSE sent END
            WHERE server = $1 AND last_run IS NULL";
        ended += transaction.execute(sql, &[&key]).await?;
        let sql = "UPDATE server SET died = true WHERE key = $1";
        transaction.execute(sql, &[&key]).await?;
        transaction.commit().await?;
    }
    Ok(ended)
}

/// Returns a text without NUL, which PostgreSQL cannot store.
pub(super) fn plain(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
