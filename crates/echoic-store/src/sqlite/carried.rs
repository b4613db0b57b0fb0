//! The part of a record that goes along from a file that was renamed or removed to the new file at its path.

use rusqlite::{Connection, Transaction, TransactionBehavior, params_from_iter, types::Value};

use super::writer::State;

/// The ids, the conversations that are open, and the ids of batches, so that none is stored twice. Of a file that was
/// removed also what was stored since it was last seen at its path.
pub(super) struct Carried {
    state: State,
    tables: Vec<Table>,
}

struct Table {
    name: &'static str,
    rows: Vec<Vec<Value>>,
}

/// Column `count` of the table `run`.
const RUN_COUNT: usize = 3;

/// Ids of conversations that go along: open ones, and those whose end was stored since. One without an exchange since then
/// ended at the last exchange before, as earlier ones may have.
const CONVERSATIONS: &str = "(SELECT id FROM conversation WHERE last_run IS NULL OR last_run > ?1
    OR last_run = ?1 AND server = (SELECT max(key) FROM server))";

/// Rows that go along. `?1` is an id of an exchange: what was stored after it goes along. It is NULL for a renamed file.
const SELECTED: [(&str, &str); 12] = [
    ("endpoint", "SELECT * FROM endpoint WHERE ?1 IS ?1"),
    (
        "server",
        "SELECT * FROM server WHERE key >= (SELECT max(key) FROM server) - 15 AND ?1 IS ?1
            OR key IN (SELECT server FROM conversation WHERE last_run IS NULL)",
    ),
    (
        "batch",
        "SELECT * FROM batch WHERE server >= (SELECT max(key) FROM server) - 15 AND ?1 IS ?1",
    ),
    (
        "conversation",
        "SELECT * FROM conversation WHERE id IN $conversations",
    ),
    (
        "left_over",
        "SELECT * FROM left_over WHERE conversation IN $conversations",
    ),
    (
        "tls",
        "SELECT * FROM tls WHERE conversation IN $conversations",
    ),
    (
        "mark",
        // Those of no conversation are gaps.
        "SELECT * FROM mark WHERE conversation IN $conversations OR conversation = 0 AND ?1 IS NOT NULL",
    ),
    ("run", "SELECT * FROM run WHERE id > ?1"),
    (
        "conversation_tag",
        "SELECT * FROM conversation_tag WHERE conversation IN $conversations",
    ),
    (
        "conversation_note",
        "SELECT * FROM conversation_note WHERE conversation IN $conversations",
    ),
    (
        "exchange_tag",
        "SELECT * FROM exchange_tag WHERE exchange > ?1",
    ),
    (
        "exchange_note",
        "SELECT * FROM exchange_note WHERE exchange > ?1",
    ),
];

impl Carried {
    /// Only the ids: nothing else of the old file can be read.
    pub(super) fn ids(state: State) -> Self {
        Self {
            state,
            tables: Vec::new(),
        }
    }

    /// Reads what goes along, of closed conversations and exchanges what was stored after the exchange `since`. Without
    /// `since` those stay.
    pub(super) fn read(
        connection: &Connection,
        state: State,
        since: Option<u64>,
    ) -> rusqlite::Result<Self> {
        let read = |(name, sql): (_, &str)| {
            let sql = sql.replace("$conversations", CONVERSATIONS);
            let mut statement = connection.prepare(&sql)?;
            let columns = statement.column_count();
            let rows = statement
                .query_map([since], |row| (0..columns).map(|at| row.get(at)).collect())?
                .collect::<rusqlite::Result<_>>()?;
            Ok(Table { name, rows })
        };
        let tables = SELECTED.into_iter().map(read);
        Ok(Self {
            state,
            tables: tables.collect::<rusqlite::Result<_>>()?,
        })
    }

    /// Whether the file belongs to this record: it is new, or one that this process wrote.
    pub(super) fn is_of(&self, connection: &Connection) -> rusqlite::Result<bool> {
        let is_new = "SELECT last_exchange + last_conversation = 0 FROM state";
        if connection.query_row(is_new, [], |row| row.get(0))? {
            return Ok(true);
        }
        let servers = self.tables.iter().filter(|table| table.name == "server");
        for row in servers.flat_map(|table| &table.rows) {
            let known = "SELECT EXISTS (SELECT 1 FROM server WHERE key = ?1 AND id = ?2)";
            if connection.query_row(known, params_from_iter(&row[..2]), |row| row.get(0))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes everything, in one transaction. Rows that are there stay.
    pub(super) fn write(&self, connection: &mut Connection) -> rusqlite::Result<()> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut state = State::read(&transaction)?;
        for table in &self.tables {
            let exchanges = table.write(&transaction)?;
            state.exchanges += exchanges;
        }
        state.last_exchange = state.last_exchange.max(self.state.last_exchange);
        state.last_conversation = state.last_conversation.max(self.state.last_conversation);
        state.tallied = state.tallied.max(self.state.tallied);
        state.write(&transaction)?;
        // Any change has SQLite sync the log and its name now.
        transaction.execute("UPDATE state SET synced = synced + 1", [])?;
        transaction.commit()
    }
}

impl Table {
    /// Inserts the rows, and returns the number of exchanges among them.
    fn write(&self, transaction: &Transaction<'_>) -> rusqlite::Result<u64> {
        let Some(first) = self.rows.first() else {
            return Ok(0);
        };
        let places = vec!["?"; first.len()].join(", ");
        let sql = format!("INSERT OR IGNORE INTO {} VALUES ({places})", self.name);
        let mut insert = transaction.prepare(&sql)?;
        let mut exchanges = 0;
        for row in &self.rows {
            let inserted = insert.execute(params_from_iter(row))?;
            if let (1, "run", Some(Value::Integer(count))) =
                (inserted, self.name, row.get(RUN_COUNT))
            {
                exchanges += u64::try_from(*count).unwrap_or(0);
            }
        }
        Ok(exchanges)
    }
}
