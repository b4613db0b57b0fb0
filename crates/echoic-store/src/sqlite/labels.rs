//! Tags and notes as rows.

use std::collections::BTreeMap;

use echoic_core::{
    event::{ConversationId, ExchangeId},
    filter::{Atom, Expr, Ranges},
    store::{InvalidLabel, LabelChange, Labelled, Labels, TagCount},
};
use rusqlite::{Connection, Error, OptionalExtension, Transaction};

use crate::labelled::{self, LOOKED_UP_MAX, NEAR};

/// The tables of exchanges or of conversations.
#[derive(Clone, Copy)]
struct Tables {
    tags: &'static str,
    add_tag: &'static str,
    remove_tags: &'static str,
    note: &'static str,
    set_note: &'static str,
    remove_note: &'static str,
}

const OF_EXCHANGES: Tables = Tables {
    tags: "SELECT tag FROM exchange_tag WHERE exchange = ?1 ORDER BY tag",
    add_tag: "INSERT INTO exchange_tag VALUES (?1, ?2)",
    remove_tags: "DELETE FROM exchange_tag WHERE exchange = ?1",
    note: "SELECT note FROM exchange_note WHERE exchange = ?1",
    set_note: "INSERT OR REPLACE INTO exchange_note VALUES (?1, ?2)",
    remove_note: "DELETE FROM exchange_note WHERE exchange = ?1",
};

const OF_CONVERSATIONS: Tables = Tables {
    tags: "SELECT tag FROM conversation_tag WHERE conversation = ?1 ORDER BY tag",
    add_tag: "INSERT INTO conversation_tag VALUES (?1, ?2)",
    remove_tags: "DELETE FROM conversation_tag WHERE conversation = ?1",
    note: "SELECT note FROM conversation_note WHERE conversation = ?1",
    set_note: "INSERT OR REPLACE INTO conversation_note VALUES (?1, ?2)",
    remove_note: "DELETE FROM conversation_note WHERE conversation = ?1",
};

impl Tables {
    fn read(self, connection: &Connection, id: i64) -> rusqlite::Result<Labels> {
        let mut tags = connection.prepare_cached(self.tags)?;
        let tags = tags.query_map([id], |row| row.get(0))?;
        let mut note = connection.prepare_cached(self.note)?;
        Ok(Labels {
            tags: tags.collect::<rusqlite::Result<_>>()?,
            note: note.query_row([id], |row| row.get(0)).optional()?,
        })
    }

    fn write(self, connection: &Connection, id: i64, change: &LabelChange) -> rusqlite::Result<()> {
        let before = self.read(connection, id)?;
        let mut after = before.clone();
        after.apply(change).map_err(invalid)?;
        if after.tags != before.tags {
            connection.prepare_cached(self.remove_tags)?.execute([id])?;
            let mut add = connection.prepare_cached(self.add_tag)?;
            for tag in &after.tags {
                add.execute((id, tag))?;
            }
        }
        match &after.note {
            note if *note == before.note => {}
            Some(note) => {
                let mut set = connection.prepare_cached(self.set_note)?;
                set.execute((id, note))?;
            }
            None => {
                connection.prepare_cached(self.remove_note)?.execute([id])?;
            }
        }
        Ok(())
    }
}

/// Wraps the error of a label, so that it passes through a transaction.
pub(super) fn invalid(error: InvalidLabel) -> Error {
    Error::ToSqlConversionFailure(Box::new(error))
}

/// Returns the labels of a conversation.
pub(super) fn of_conversation(
    connection: &Connection,
    id: ConversationId,
) -> rusqlite::Result<Labels> {
    match i64::try_from(id) {
        Ok(id) => OF_CONVERSATIONS.read(connection, id),
        Err(_) => Ok(Labels::default()),
    }
}

/// Returns the labels of the exchanges with ids from `low` to `high`.
pub(super) fn of_exchanges(
    connection: &Connection,
    low: ExchangeId,
    high: ExchangeId,
) -> rusqlite::Result<BTreeMap<ExchangeId, Labels>> {
    let mut found: BTreeMap<ExchangeId, Labels> = BTreeMap::new();
    let sql = "SELECT exchange, tag FROM exchange_tag WHERE exchange BETWEEN ?1 AND ?2 ORDER BY exchange, tag";
    let mut tags = connection.prepare_cached(sql)?;
    let mut rows = tags.query((low, high))?;
    while let Some(row) = rows.next()? {
        found.entry(row.get(0)?).or_default().tags.push(row.get(1)?);
    }
    let sql = "SELECT exchange, note FROM exchange_note WHERE exchange BETWEEN ?1 AND ?2";
    let mut notes = connection.prepare_cached(sql)?;
    let mut rows = notes.query((low, high))?;
    while let Some(row) = rows.next()? {
        found.entry(row.get(0)?).or_default().note = Some(row.get(1)?);
    }
    Ok(found)
}

/// Applies a change. Returns the number of exchanges or conversations that are stored.
pub(super) fn apply(transaction: &Transaction<'_>, change: &LabelChange) -> rusqlite::Result<u64> {
    change.check().map_err(invalid)?;
    let mut found = 0;
    match &change.of {
        Labelled::Exchanges(ids) => {
            let sql = "SELECT id + count > ?1 FROM run WHERE id <= ?1 ORDER BY id DESC LIMIT 1";
            let mut is_stored = transaction.prepare_cached(sql)?;
            for id in ids.iter().filter_map(|id| i64::try_from(*id).ok()) {
                let stored = is_stored.query_row([id], |row| row.get(0)).optional()?;
                if stored == Some(true) {
                    OF_EXCHANGES.write(transaction, id, change)?;
                    found += 1;
                }
            }
        }
        Labelled::Conversation(id) => {
            let sql = "SELECT EXISTS (SELECT 1 FROM conversation WHERE id = ?1)";
            if let Ok(id) = i64::try_from(*id)
                && transaction.query_row(sql, [id], |row| row.get(0))?
            {
                OF_CONVERSATIONS.write(transaction, id, change)?;
                found = 1;
            }
        }
    }
    Ok(found)
}

/// Returns all tags in use, by name.
pub(super) fn tags(connection: &Connection) -> rusqlite::Result<Vec<TagCount>> {
    let sql = "SELECT tag, sum(exchanges), sum(conversations) FROM (
            SELECT tag, count(*) AS exchanges, 0 AS conversations FROM exchange_tag GROUP BY tag
            UNION ALL SELECT tag, 0, count(*) FROM conversation_tag GROUP BY tag
        ) GROUP BY tag ORDER BY tag";
    let mut statement = connection.prepare_cached(sql)?;
    let tags = statement.query_map([], |row| {
        Ok(TagCount {
            tag: row.get(0)?,
            exchanges: row.get(1)?,
            conversations: row.get(2)?,
        })
    })?;
    tags.collect()
}

/// Removes the labels of the exchanges with ids from `low` to `high`.
pub(super) fn remove_of_exchanges(
    connection: &Connection,
    low: ExchangeId,
    high: ExchangeId,
) -> rusqlite::Result<()> {
    for sql in [
        "DELETE FROM exchange_tag WHERE exchange BETWEEN ?1 AND ?2",
        "DELETE FROM exchange_note WHERE exchange BETWEEN ?1 AND ?2",
    ] {
        connection.prepare_cached(sql)?.execute((low, high))?;
    }
    Ok(())
}

/// Removes the labels of a conversation.
pub(super) fn remove_of_conversation(
    connection: &Connection,
    id: ConversationId,
) -> rusqlite::Result<()> {
    for sql in [OF_CONVERSATIONS.remove_tags, OF_CONVERSATIONS.remove_note] {
        connection.prepare_cached(sql)?.execute([id])?;
    }
    Ok(())
}

/// Returns ids among which all exchanges are that `expr` can match, where it requires a tag or a note; `None` if it does not,
/// or if too many have one.
pub(super) fn narrow(
    connection: &Connection,
    expr: &Expr,
    has_labels: bool,
) -> rusqlite::Result<Option<Ranges>> {
    let necessary = labelled::conditions(expr);
    if necessary == Expr::All {
        return Ok(None);
    }
    if !has_labels {
        return Ok(Some(Ranges::none()).filter(|_| labelled::requires(&necessary)));
    }
    labelled::ids(&necessary, &mut |atom| match atom {
        Atom::Tag(tags) => {
            let mut all = Some(Ranges::none());
            for tag in tags {
                let found = ids(connection, BY_TAG, Some(tag))?;
                all = all.zip(found).map(|(all, found)| all.union(&found));
            }
            Ok(all)
        }
        // Which of the notes have the text is looked at when the exchanges are read.
        _ => ids(connection, BY_NOTE, None),
    })
}

/// First and last id of each exchange and conversation with the tag ?1; the last id is NULL while it is open.
const BY_TAG: &str = "SELECT exchange, exchange FROM exchange_tag WHERE tag = ?1
    UNION ALL SELECT first_run, last_run FROM conversation
        WHERE id IN (SELECT conversation FROM conversation_tag WHERE tag = ?1)
    LIMIT ?2";

/// The same of those with a note.
const BY_NOTE: &str = "SELECT exchange, exchange FROM exchange_note WHERE ?1 IS NULL
    UNION ALL SELECT first_run, last_run FROM conversation
        WHERE id IN (SELECT conversation FROM conversation_note)
    LIMIT ?2";

fn ids(
    connection: &Connection,
    sql: &str,
    tag: Option<&String>,
) -> rusqlite::Result<Option<Ranges>> {
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map((tag, LOOKED_UP_MAX + 1), |row| {
        let last: Option<u64> = row.get(1)?;
        Ok(row.get::<_, u64>(0)?..=last.unwrap_or(u64::MAX).saturating_add(NEAR))
    })?;
    let ranges = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok((ranges.len() <= LOOKED_UP_MAX).then(|| ranges.into_iter().collect()))
}
