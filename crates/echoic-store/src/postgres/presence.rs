//! Who records into the database now.

use std::sync::Arc;

use echoic_core::{
    event::ServerInfo,
    store::{RecordingServer, StoreError},
};

use super::{
    readers::Readers,
    row,
    schema::LOCK_SERVERS,
    snapshot::{Snapshot, read},
    sql::Parameters,
};

/// Returns servers that have a connection here, their own or that of a keeper; newest start first.
pub(super) async fn servers(
    readers: Arc<Readers>,
    limit: usize,
) -> Result<Vec<RecordingServer>, StoreError> {
    let mut parameters = Parameters::default();
    // pg_locks has the two numbers of a lock as classid and objid; objsubid 2 says that there are two.
    let sql = format!(
        "SELECT server.id, server.name, server.started,
            (SELECT run.at FROM run WHERE run.id >= (
                SELECT first_id FROM batch WHERE batch.server = server.key ORDER BY number DESC LIMIT 1
            ) ORDER BY run.id LIMIT 1)
        FROM server WHERE NOT died AND key IN (
            SELECT objid::bigint FROM pg_locks
            WHERE locktype = 'advisory' AND classid = {LOCK_SERVERS}::oid AND objsubid = 2 AND granted
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        ) ORDER BY started DESC, key DESC LIMIT {}",
        parameters.id(limit as u64)
    );
    read(&readers, async |now: Snapshot<'_>| {
        let rows = now.query(&sql, &parameters).await?;
        now.end().await?;
        let server = |row: &tokio_postgres::Row| {
            Ok(RecordingServer {
                info: ServerInfo {
                    id: row::parse(row, 0)?,
                    name: row.try_get(1)?,
                    started: row.try_get(2)?,
                },
                recorded: row.try_get(3)?,
            })
        };
        rows.iter().map(server).collect()
    })
    .await
}
