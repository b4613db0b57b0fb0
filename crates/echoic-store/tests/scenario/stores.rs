//! The stores that the contract is for.

use echoic_core::{
    ending::CloseReason,
    event::Outcome,
    store::{Durability, Store},
};
use echoic_store::{MemoryStore, PostgresMode, PostgresStore, SqliteStore};
use tempfile::TempDir;

use super::{Scenario, reader::WriterWithReader};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Memory,
    Sqlite,
    /// A reader of a file that another store writes.
    Reader,
    /// A database of its own.
    Postgres,
}

/// Creates a store, with the directory that must outlive it.
pub(crate) fn make(kind: Kind) -> (Box<dyn Store>, Option<TempDir>) {
    match kind {
        Kind::Memory => (Box::new(MemoryStore::new(64 << 20)), None),
        Kind::Postgres => {
            let database = trials_postgres::database().expect("PostgreSQL is installed");
            let mode = PostgresMode::Write(Durability::Off);
            let store = PostgresStore::open(&database.url().parse().unwrap(), mode).unwrap();
            (Box::new(store), None)
        }
        Kind::Sqlite | Kind::Reader => {
            let dir = TempDir::new().unwrap();
            let path = dir.path().join("echoic.db");
            let store: Box<dyn Store> = match kind {
                Kind::Reader => Box::new(WriterWithReader::open(&path)),
                _ => Box::new(SqliteStore::open(&path, Durability::Off).unwrap()),
            };
            (store, Some(dir))
        }
    }
}

/// Returns a scenario with a greeting, runs, unanswered requests, an open and a reset conversation.
pub(crate) fn everything() -> Scenario {
    let mut scenario = Scenario::after(0);
    scenario.open(1);
    scenario.open_at(2, "tcp:12345");
    scenario.exchange(2, Outcome::Ok, b"", b"Thank you for connecting");
    scenario.lines(1, &["one"], 1);
    scenario.lines(1, &["two", "", "three", "needle four"], 4);
    scenario.end(2, CloseReason::ServiceClosed, 0);
    scenario.open(3);
    scenario.lines(3, &["five", "six", "seven"], 1);
    scenario.exchange(3, Outcome::Ok, b"\x00\xff", b"");
    scenario.exchange(3, Outcome::Withheld, b"withheld", b"");
    scenario.exchange(3, Outcome::Unsent, b"unsent", b"");
    scenario.exchange(3, Outcome::Unpaired, b"unpaired", b"");
    scenario.half_close(3);
    scenario.lines(1, &["eight", "nine"], 2);
    scenario.lines(3, &["ten", "eleven needle"], 2);
    scenario.end(3, CloseReason::PeerReset, 9);
    scenario.lines(1, &["twelve"], 0);
    scenario
}
