//! The schema of the database, and its migration.

use echoic_core::store::{StoreError, StoreErrorKind};
use tokio_postgres::Client;

use super::{
    PostgresUrl,
    error::{foreign, store_error},
};

/// Schema that this version writes and reads.
pub(super) const SCHEMA: u32 = 1;

/// The migrations; the first makes schema 1.
const MIGRATIONS: [&str; SCHEMA as usize] = [include_str!("../../schema-postgres/V1__record.sql")];

/// What precedes the migrations: the schema, and the table that tells its version.
const PREPARE: &str = "CREATE SCHEMA IF NOT EXISTS echoic; SET LOCAL search_path = echoic, pg_temp;
    CREATE TABLE IF NOT EXISTS echoic.schema_version (
        version integer PRIMARY KEY,
        at      timestamptz NOT NULL DEFAULT now()
    )";

/// Numbers of advisory locks: this class, and one of the objects below. SQL has them too.
pub(super) const LOCK_CLASS: i32 = 1_701_013_604;

/// The lock of whoever appends.
pub(super) const LOCK_APPEND: i32 = 1;

/// The lock of whoever migrates. (2 is that of `make_part`.)
const LOCK_MIGRATE: i32 = 3;

/// The class of the locks that recording servers hold; the object is `server.key`.
pub(super) const LOCK_SERVERS: i32 = LOCK_CLASS + 1;

/// Checks that the database holds a record of this schema.
pub(super) async fn check(url: &PostgresUrl, client: &Client) -> Result<(), StoreError> {
    match found(url, client).await? {
        None => Err(StoreError::new(url.location(), StoreErrorKind::NoRecord)),
        Some(SCHEMA) => Ok(()),
        Some(found) => Err(mismatch(url, found)),
    }
}

/// Makes the schema, or migrates it, if that is necessary.
pub(super) async fn migrate(url: &PostgresUrl, client: &Client) -> Result<(), StoreError> {
    let refused = |why: tokio_postgres::Error| store_error(url, &why);
    match found(url, client).await? {
        Some(SCHEMA) => return Ok(()),
        Some(found) if found > SCHEMA => return Err(mismatch(url, found)),
        _ => {}
    }
    // One at a time. Whoever waits finds it done.
    let lock = format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK_CLASS}, {LOCK_MIGRATE})");
    client.batch_execute(&lock).await.map_err(refused)?;
    let known = found(url, client).await?.unwrap_or(0);
    if known < SCHEMA {
        client.batch_execute(PREPARE).await.map_err(refused)?;
        for (sql, version) in MIGRATIONS.iter().zip(1..).skip(known as usize) {
            client.batch_execute(sql).await.map_err(refused)?;
            let done = format!("INSERT INTO echoic.schema_version (version) VALUES ({version})");
            client.batch_execute(&done).await.map_err(refused)?;
        }
    }
    client.batch_execute("COMMIT").await.map_err(refused)
}

/// Returns the schema version of the database; `None` if there is nothing.
async fn found(url: &PostgresUrl, client: &Client) -> Result<Option<u32>, StoreError> {
    let refused = |why: tokio_postgres::Error| store_error(url, &why);
    let sql = "SELECT to_regclass('echoic.schema_version') IS NOT NULL,
        EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace('echoic'))";
    let row = client.query_one(sql, &[]).await.map_err(refused)?;
    match (row.get(0), row.get(1)) {
        (true, _) => {
            let sql = "SELECT coalesce(max(version), 0) FROM echoic.schema_version";
            let row = client.query_one(sql, &[]).await.map_err(refused)?;
            Ok(Some(row.get::<_, i32>(0).cast_unsigned()))
        }
        (false, true) => Err(foreign(url, "its schema echoic is of another program")),
        (false, false) => Ok(None),
    }
}

fn mismatch(url: &PostgresUrl, found: u32) -> StoreError {
    let known = SCHEMA;
    let kind = if found > known {
        StoreErrorKind::Newer { found, known }
    } else {
        StoreErrorKind::Older { found, known }
    };
    StoreError::new(url.location(), kind)
}
