//! The oracle for untrusted files: reading rows with any content gives exchanges or an error, and never panics or loops for
//! ever. Shared by the property test and the fuzz target.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use echoic_core::{
    event::Micros,
    filter::Filter,
    store::{ConversationPage, Durability, Order, Page, Retention},
};
use rusqlite::{Connection, types::Value};

use super::{
    connection, file,
    file::Lock,
    listing::Listing,
    reader::Reader,
    writer::{Writer, Writes},
};
use crate::scan::Scan;

/// A database with a run of two exchanges, a run of one and a mark, whose columns are set to arbitrary values.
#[derive(Debug)]
pub struct Rows {
    path: PathBuf,
    connection: Connection,
}

/// All columns that are set, with their types.
const COLUMNS: [(&str, &str, Kind); 40] = {
    use Kind::{Blob, Number, Text};
    [
        ("run", "id", Number),
        ("run", "conversation", Number),
        ("run", "n", Number),
        ("run", "count", Number),
        ("run", "at", Number),
        ("run", "latency_ns", Number),
        ("run", "outcome", Text),
        ("run", "reads", Number),
        ("run", "reply_offset", Number),
        ("run", "lengths", Text),
        ("run", "req", Blob),
        ("run", "rep", Blob),
        ("conversation", "id", Number),
        ("conversation", "server", Number),
        ("conversation", "role", Text),
        ("conversation", "endpoint", Number),
        ("conversation", "remote", Text),
        ("conversation", "local", Text),
        ("conversation", "opened", Number),
        ("conversation", "seen", Number),
        ("conversation", "half_closed", Number),
        ("conversation", "ended", Number),
        ("conversation", "reason", Text),
        ("conversation", "first_run", Number),
        ("conversation", "last_run", Number),
        ("conversation", "exchanges", Number),
        ("conversation", "received", Number),
        ("conversation", "sent", Number),
        ("conversation", "unsent", Number),
        ("conversation", "discarded", Number),
        ("server", "id", Text),
        ("server", "started", Number),
        ("batch", "first_id", Number),
        ("endpoint", "proto", Text),
        ("endpoint", "service", Text),
        ("endpoint", "framing", Text),
        ("state", "exchanges", Number),
        ("state", "last_exchange", Number),
        ("state", "last_conversation", Number),
        ("state", "tallied", Number),
    ]
};

#[derive(Clone, Copy)]
enum Kind {
    Number,
    Text,
    Blob,
}

const VALID_ROWS: &str = "
    DELETE FROM run; DELETE FROM conversation; DELETE FROM endpoint; DELETE FROM mark;
    DELETE FROM server; DELETE FROM batch;
    UPDATE state SET exchanges = 3, last_exchange = 3, last_conversation = 1, tallied = 0;
    INSERT INTO server VALUES (1, '00000000000000fe', 'host:1', 5);
    INSERT INTO batch VALUES (1, 1, 1);
    INSERT INTO endpoint VALUES (1, 'tcp:5000', 'tcp', 'upper', 'line');
    INSERT INTO conversation VALUES
        (1, 1, 'server', 1, '127.0.0.1:40000', '127.0.0.1:5000', 10, 30, NULL, 30, 'peer-closed', 1, 3, 3, 6, 6, 0, 0);
    INSERT INTO run VALUES
        (1, 1, 1, 2, 11, 5, 'ok', 1, 0, '[2,2,2,2]', x'610a620a', x'410a420a'),
        (3, 1, 3, 1, 12, 5, 'ok', 1, 4, NULL, x'630a', x'430a');
    INSERT INTO mark VALUES (0, 20, 'gap', 5, 13);
";

/// Boundary values of numbers.
const NUMBERS: [i64; 10] = [
    i64::MIN,
    i64::MIN + 1,
    -1,
    0,
    1,
    3,
    u32::MAX as i64,
    u32::MAX as i64 + 1,
    i64::MAX - 1,
    i64::MAX,
];

const TEXTS: [&str; 12] = [
    "",
    "ok",
    "unanswered",
    "[]",
    "[1]",
    "[4294967295,4294967295,1,1]",
    "[-1,2]",
    "unix:\u{1b}",
    "[::1]:0",
    "u16be/line",
    "tcp",
    "lost",
];

impl Rows {
    /// Creates the database in `folder`.
    ///
    /// # Panics
    /// If that fails.
    pub fn new(folder: &Path) -> Self {
        let path = folder.join("rows.db");
        file::create(&path).expect("a file");
        let connection = connection::open_to_write(&path, &Arc::default()).expect("a database");
        Self { path, connection }
    }

    /// Sets columns to values derived from `data`, and reads everything in every way.
    ///
    /// # Panics
    /// If a search or a list does not end.
    pub fn check(&self, data: &[u8]) {
        self.connection
            .execute_batch(VALID_ROWS)
            .expect("valid rows");
        let mut rest = data;
        while let [column, row, what, bytes @ ..] = rest {
            let (table, name, kind) = COLUMNS[usize::from(*column) % COLUMNS.len()];
            let length = usize::from(*what >> 4).min(bytes.len());
            let (bytes, after) = bytes.split_at(length);
            rest = after;
            let value = value(kind, *what & 15, bytes);
            let condition = if row % 2 == 0 { "id >= 0" } else { "id = 1" };
            let condition = match table {
                "state" => "one = 1",
                "server" => "key = 1",
                "batch" => "server = 1",
                _ => condition,
            };
            let sql = format!("UPDATE OR IGNORE {table} SET {name} = ?1 WHERE {condition}");
            // The schema rejects some values.
            let _ = self.connection.execute(&sql, [value]);
        }
        self.read_all();
        // Opening for writing takes longer, so it is tested with a part of the inputs.
        if data.last().is_some_and(|last| last % 4 == 1) {
            self.write();
        }
    }

    fn read_all(&self) {
        let Ok(mut reader) = Reader::open(&self.path, Arc::new(|_| {})) else {
            return;
        };
        let _ = (reader.last(), reader.total(), reader.stats());
        let _ = reader.gaps(Micros::MIN..=Micros::MAX, 10);
        for id in [0, 1, u64::MAX] {
            let _ = reader.conversation(id);
        }
        for filter in [
            "",
            "conv:1",
            "id:2",
            "id:2..3",
            "end:fin",
            "a",
            "-lat:>1ms since:1h",
        ] {
            let filter: Filter = filter.parse().expect("invariant: a filter");
            for order in [Order::OldestFirst, Order::NewestFirst] {
                let page = Page {
                    order,
                    beyond: None,
                    until: None,
                    limit: 10,
                    now: 0,
                };
                search(&mut reader, Scan::page(&filter, page));
                for without_exchanges in [false, true] {
                    let page = ConversationPage {
                        order,
                        beyond: None,
                        limit: 10,
                        now: 0,
                        without_exchanges,
                    };
                    list(&mut reader, Listing::new(&filter, page));
                }
            }
            search(&mut reader, Scan::all(&filter, 0));
        }
    }

    /// Opens the database for writing and prunes it.
    fn write(&self) {
        let Ok(lock) = Lock::acquire(&self.path) else {
            return;
        };
        let Ok((mut writer, _)) = Writer::open(
            &self.path,
            Durability::Off,
            Arc::new(|_| {}),
            lock,
            Writes::Own,
        ) else {
            return;
        };
        for retention in [
            Retention {
                age: Some(1),
                bytes: None,
            },
            Retention {
                age: None,
                bytes: Some(1),
            },
        ] {
            let _ = writer.prune(retention, i64::MAX);
        }
    }
}

/// Maximum of chunks for three rows.
const CHUNKS_MAX: usize = 100;

fn search(reader: &mut Reader, mut scan: Scan) {
    for _ in 0..CHUNKS_MAX {
        if scan.is_done() {
            return;
        }
        match reader.find(scan) {
            Ok((next, found)) => {
                for exchange in found {
                    exchange.tags().for_each(drop);
                }
                scan = next;
            }
            Err(_) => return,
        }
    }
    panic!(
        "the search does not end, in ids {:?} after {:?}",
        scan.ids, scan.cursor
    );
}

fn list(reader: &mut Reader, mut listing: Listing) {
    for _ in 0..CHUNKS_MAX {
        if listing.is_done() {
            return;
        }
        match reader.list(listing) {
            Ok(next) => listing = next,
            Err(_) => return,
        }
    }
    panic!("the list does not end");
}

fn value(kind: Kind, what: u8, bytes: &[u8]) -> Value {
    match kind {
        Kind::Number if bytes.is_empty() => NUMBERS
            .get(usize::from(what))
            .map_or(Value::Null, |n| Value::Integer(*n)),
        Kind::Number => {
            let mut number = [0; 8];
            let length = bytes.len().min(8);
            number[..length].copy_from_slice(&bytes[..length]);
            Value::Integer(i64::from_le_bytes(number))
        }
        Kind::Text if bytes.is_empty() => TEXTS
            .get(usize::from(what))
            .map_or(Value::Null, |text| Value::Text((*text).to_owned())),
        Kind::Text => Value::Text(String::from_utf8_lossy(bytes).into_owned()),
        Kind::Blob => Value::Blob(bytes.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn search_terminates_with_a_row_id_of_zero() {
        let folder = tempfile::tempdir().expect("a folder");
        let id = COLUMNS
            .iter()
            .position(|column| (column.0, column.1) == ("run", "id"));
        let zero = NUMBERS.iter().position(|number| *number == 0);
        Rows::new(folder.path()).check(&[
            id.expect("a column") as u8,
            1,
            zero.expect("a number") as u8,
        ]);
    }

    #[test]
    fn foreign_rows_are_read_or_rejected() {
        let folder = tempfile::tempdir().expect("a folder");
        let rows = Rows::new(folder.path());
        // Each column alone, with each of the boundary values.
        for column in 0..COLUMNS.len() as u8 {
            for what in 0..13 {
                rows.check(&[column, what % 2, what]);
            }
        }
        let config = ProptestConfig {
            cases: 100,
            ..ProptestConfig::default()
        };
        proptest!(config, |(data in prop::collection::vec(any::<u8>(), 0..40))| rows.check(&data));
    }
}
