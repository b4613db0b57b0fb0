//! Reads in one snapshot of the database.

use std::{
    error::{self, Error as _},
    io,
};

use echoic_core::store::StoreError;
use tokio_postgres::{Error, Row, error::SqlState};

use super::{
    readers::{Readers, Reading},
    sql::Parameters,
};

/// Times that a read whose connection breaks is begun again: a database that restarts refuses connections for a while, for which
/// [`Readers::client`] waits.
const ATTEMPTS: u32 = 3;

/// A transaction that reads. All its statements see the same rows. It is short, since dropping a partition waits for it; dropping
/// it before its end closes the connection.
pub(super) struct Snapshot<'a> {
    reading: Reading<'a>,
    pub(super) readers: &'a Readers,
}

/// Why a read failed.
#[derive(Debug)]
pub(super) enum ReadError {
    /// There is no connection.
    Store(StoreError),
    /// The connection or the database failed.
    Database(Error),
    /// A row that cannot be read.
    Foreign(String),
}

impl From<Error> for ReadError {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl ReadError {
    pub(super) fn into_store_error(self, readers: &Readers) -> StoreError {
        match self {
            Self::Store(error) => error,
            Self::Database(why) => readers.error(&why),
            Self::Foreign(what) => readers.foreign(what),
        }
    }

    /// Whether the connection is lost, so that another one may do better.
    fn is_disconnection(&self) -> bool {
        let Self::Database(why) = self else {
            return false;
        };
        let stops = [
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::CANNOT_CONNECT_NOW,
        ];
        let is_io = why
            .source()
            .is_some_and(<dyn error::Error>::is::<io::Error>);
        why.is_closed() || is_io || why.code().is_some_and(|code| stops.contains(code))
    }
}

impl<'a> Snapshot<'a> {
    /// Begins the transaction.
    pub(super) async fn begin(readers: &'a Readers) -> Result<Self, ReadError> {
        Self::begin_with(readers, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await
    }

    /// Begins a transaction that changes something. Its statements see what others commit meanwhile.
    pub(super) async fn begin_change(readers: &'a Readers) -> Result<Self, ReadError> {
        Self::begin_with(readers, "BEGIN").await
    }

    async fn begin_with(readers: &'a Readers, begin: &str) -> Result<Self, ReadError> {
        let mut reading = readers.client().await?;
        reading.hold();
        reading.batch_execute(begin).await?;
        Ok(Self { reading, readers })
    }

    /// Runs a statement and returns its rows.
    pub(super) async fn query(
        &self,
        sql: &str,
        parameters: &Parameters,
    ) -> Result<Vec<Row>, ReadError> {
        Ok(self.reading.query_typed(sql, &parameters.typed()).await?)
    }

    /// Runs a statement that returns one row at most.
    pub(super) async fn query_one(
        &self,
        sql: &str,
        parameters: &Parameters,
    ) -> Result<Option<Row>, ReadError> {
        Ok(self.query(sql, parameters).await?.into_iter().next())
    }

    /// Ends the transaction.
    pub(super) async fn end(self) -> Result<(), ReadError> {
        self.reading.batch_execute("COMMIT").await?;
        self.reading.release();
        Ok(())
    }
}

/// How often a read was begun.
#[derive(Default)]
pub(super) struct Attempts(u32);

impl Attempts {
    /// Notes that the read failed. Returns the error if it is not to be begun again.
    pub(super) fn fail(&mut self, why: ReadError, readers: &Readers) -> Result<(), StoreError> {
        self.0 += 1;
        if why.is_disconnection() && self.0 < ATTEMPTS {
            return Ok(());
        }
        Err(why.into_store_error(readers))
    }
}

/// Does `work` in a snapshot, which it ends. It is begun again with another connection if its own breaks.
pub(super) async fn read<'a, T, F>(
    readers: &'a Readers,
    mut work: impl FnMut(Snapshot<'a>) -> F,
) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, ReadError>>,
{
    let mut attempts = Attempts::default();
    loop {
        let done = match Snapshot::begin(readers).await {
            Ok(now) => work(now).await,
            Err(why) => Err(why),
        };
        match done {
            Ok(done) => return Ok(done),
            Err(why) => attempts.fail(why, readers)?,
        }
    }
}
