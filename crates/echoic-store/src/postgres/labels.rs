//! Tags and notes as rows.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use echoic_core::{
    event::ExchangeId,
    filter::{Atom, Expr, Ranges},
    store::{InvalidLabel, LabelChange, Labelled, Labels, StoreError, StoreErrorKind, TagCount},
};

use super::{
    readers::Readers,
    row,
    snapshot::{Attempts, ReadError, Snapshot, read},
    sql::Parameters,
};
use crate::labelled::{self, LOOKED_UP_MAX, NEAR};

/// The tables of exchanges or of conversations.
#[derive(Clone, Copy)]
struct Tables {
    tag: &'static str,
    note: &'static str,
    /// The column with the id.
    id: &'static str,
}

const OF_EXCHANGES: Tables = Tables {
    tag: "exchange_tag",
    note: "exchange_note",
    id: "exchange",
};

const OF_CONVERSATIONS: Tables = Tables {
    tag: "conversation_tag",
    note: "conversation_note",
    id: "conversation",
};

impl Tables {
    /// Returns the labels of some rows, whose condition is on the id.
    async fn read(
        self,
        now: &Snapshot<'_>,
        condition: &str,
        parameters: &Parameters,
    ) -> Result<BTreeMap<u64, Labels>, ReadError> {
        let Self { tag, note, id } = self;
        let sql = format!(
            "SELECT {id}, tag, NULL FROM {tag} WHERE {id} {condition}
            UNION ALL SELECT {id}, NULL, note FROM {note} WHERE {id} {condition}"
        );
        let mut found: BTreeMap<u64, Labels> = BTreeMap::new();
        for row in now.query(&sql, parameters).await? {
            let labels = found.entry(row::number(&row, 0)?).or_default();
            labels.tags.extend(row.try_get::<_, Option<String>>(1)?);
            if let Some(note) = row.try_get(2)? {
                labels.note = Some(note);
            }
        }
        for labels in found.values_mut() {
            labels.tags.sort_unstable();
        }
        Ok(found)
    }

    /// Applies a change to rows that are stored.
    async fn write(
        self,
        now: &Snapshot<'_>,
        ids: &[u64],
        change: &LabelChange,
    ) -> Result<Result<(), InvalidLabel>, ReadError> {
        let Self { tag, note, id } = self;
        let mut parameters = Parameters::default();
        let condition = format!("= ANY({})", parameters.ids(ids.iter().copied()));
        let before = self.read(now, &condition, &parameters).await?;
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for id in ids {
            let before = before.get(id).unwrap_or_else(|| Labels::none());
            let mut after = before.clone();
            if let Err(invalid) = after.apply(change) {
                return Ok(Err(invalid));
            }
            let tags: BTreeSet<&String> = before.tags.iter().collect();
            let news = after.tags.iter().filter(|tag| !tags.contains(tag));
            added.extend(news.map(|tag| (*id, tag.clone())));
            let gone = before.tags.iter().filter(|tag| !after.tags.contains(tag));
            removed.extend(gone.map(|tag| (*id, tag.clone())));
        }
        let pairs = |pairs: Vec<(u64, String)>, parameters: &mut Parameters| {
            let (ids, tags): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
            format!(
                "unnest({}, {})",
                parameters.ids(ids),
                parameters.texts(tags)
            )
        };
        if !added.is_empty() {
            let mut parameters = Parameters::default();
            let added = pairs(added, &mut parameters);
            // Another process may have added it meanwhile.
            let sql = format!("INSERT INTO {tag} SELECT * FROM {added} ON CONFLICT DO NOTHING");
            now.query(&sql, &parameters).await?;
        }
        if !removed.is_empty() {
            let mut parameters = Parameters::default();
            let removed = pairs(removed, &mut parameters);
            let sql = format!("DELETE FROM {tag} WHERE ({id}, tag) IN (SELECT * FROM {removed})");
            now.query(&sql, &parameters).await?;
        }
        let mut parameters = Parameters::default();
        let ids = parameters.ids(ids.iter().copied());
        let sql = match &change.note {
            None => return Ok(Ok(())),
            Some(Some(text)) if !text.is_empty() => {
                let text = parameters.text(text);
                format!(
                    "INSERT INTO {note} SELECT id, {text} FROM unnest({ids}) AS noted (id)
                    ON CONFLICT ({id}) DO UPDATE SET note = excluded.note"
                )
            }
            Some(_) => format!("DELETE FROM {note} WHERE {id} = ANY({ids})"),
        };
        now.query(&sql, &parameters).await?;
        Ok(Ok(()))
    }

    /// Removes the labels of some rows.
    async fn remove(self, now: &Snapshot<'_>, ids: &[u64]) -> Result<(), ReadError> {
        let mut parameters = Parameters::default();
        let ids = parameters.ids(ids.iter().copied());
        for table in [self.tag, self.note] {
            let sql = format!("DELETE FROM {table} WHERE {} = ANY({ids})", self.id);
            now.query(&sql, &parameters).await?;
        }
        Ok(())
    }
}

/// Returns the labels of the exchanges with ids from `low` to `high`.
pub(super) async fn of_exchanges(
    now: &Snapshot<'_>,
    low: ExchangeId,
    high: ExchangeId,
) -> Result<BTreeMap<ExchangeId, Labels>, ReadError> {
    let mut parameters = Parameters::default();
    let (low, high) = (parameters.id(low), parameters.id(high));
    let condition = format!("BETWEEN {low} AND {high}");
    OF_EXCHANGES.read(now, &condition, &parameters).await
}

/// Removes the labels of exchanges.
pub(super) async fn remove_of_exchanges(now: &Snapshot<'_>, ids: &[u64]) -> Result<(), ReadError> {
    OF_EXCHANGES.remove(now, ids).await
}

/// Removes the labels of conversations.
pub(super) async fn remove_of_conversations(
    now: &Snapshot<'_>,
    ids: &[u64],
) -> Result<(), ReadError> {
    OF_CONVERSATIONS.remove(now, ids).await
}

/// Applies a change of labels. Returns the number of exchanges or conversations that are stored.
pub(super) async fn label(readers: Arc<Readers>, change: LabelChange) -> Result<u64, StoreError> {
    let invalid = |what: String| {
        let kind = StoreErrorKind::InvalidLabel { what };
        StoreError::new(readers.location(), kind)
    };
    change.check().map_err(|why| invalid(why.to_string()))?;
    if let Some(Some(note)) = &change.note
        && note.contains('\0')
    {
        return Err(invalid("a note in PostgreSQL cannot have a NUL".to_owned()));
    }
    let mut attempts = Attempts::default();
    loop {
        // What was done before a connection broke may be done again.
        match apply(&readers, &change).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(why)) => return Err(invalid(why.to_string())),
            Err(why) => attempts.fail(why, &readers)?,
        }
    }
}

async fn apply(
    readers: &Readers,
    change: &LabelChange,
) -> Result<Result<u64, InvalidLabel>, ReadError> {
    let now = Snapshot::begin_change(readers).await?;
    let (tables, ids) = match &change.of {
        Labelled::Exchanges(ids) => (OF_EXCHANGES, stored_exchanges(&now, ids).await?),
        Labelled::Conversation(id) => {
            let mut parameters = Parameters::default();
            let id = parameters.id(*id);
            let sql = format!("SELECT id FROM conversation WHERE id = {id}");
            let row = now.query_one(&sql, &parameters).await?;
            let id = row.map(|row| row::number(&row, 0)).transpose()?;
            (OF_CONVERSATIONS, id.into_iter().collect())
        }
    };
    if !ids.is_empty()
        && let Err(invalid) = tables.write(&now, &ids, change).await?
    {
        // Without its end the transaction is undone.
        return Ok(Err(invalid));
    }
    now.end().await?;
    Ok(Ok(ids.len() as u64))
}

/// Returns those of the ids that are stored, each as often as it is named.
async fn stored_exchanges(
    now: &Snapshot<'_>,
    ids: &[ExchangeId],
) -> Result<Vec<ExchangeId>, ReadError> {
    let mut parameters = Parameters::default();
    let ids = ids.iter().copied().filter(|id| i64::try_from(*id).is_ok());
    let ids = parameters.ids(ids);
    let sql = format!(
        "SELECT named.id FROM unnest({ids}) AS named (id)
        CROSS JOIN LATERAL (
            SELECT id, count FROM run WHERE run.id <= named.id ORDER BY run.id DESC LIMIT 1
        ) AS found
        WHERE found.id + found.count > named.id ORDER BY named.id"
    );
    let rows = now.query(&sql, &parameters).await?;
    rows.iter().map(|row| row::number(row, 0)).collect()
}

/// Returns all tags in use, by name.
pub(super) async fn tags(readers: Arc<Readers>) -> Result<Vec<TagCount>, StoreError> {
    read(&readers, async |now: Snapshot<'_>| {
        let sql = "SELECT tag, sum(exchanges)::bigint, sum(conversations)::bigint FROM (
                SELECT tag, count(*) AS exchanges, 0 AS conversations FROM exchange_tag GROUP BY tag
                UNION ALL SELECT tag, 0, count(*) FROM conversation_tag GROUP BY tag
            ) AS used GROUP BY tag ORDER BY tag COLLATE \"C\"";
        let rows = now.query(sql, &Parameters::default()).await?;
        now.end().await?;
        let tag = |row: &tokio_postgres::Row| {
            Ok(TagCount {
                tag: row.try_get(0)?,
                exchanges: row::number(row, 1)?,
                conversations: row::number(row, 2)?,
            })
        };
        rows.iter().map(tag).collect()
    })
    .await
}

/// Returns ids among which all exchanges are that `expr` can match, where it requires a tag or a note; `None` if it does not,
/// or if too many have one.
pub(super) async fn narrow(now: &Snapshot<'_>, expr: &Expr) -> Result<Option<Ranges>, ReadError> {
    let conditions = labelled::conditions(expr);
    let (mut tags, mut has_note) = (BTreeSet::new(), false);
    conditions.all_atoms(&mut |atom| {
        match atom {
            Atom::Tag(named) => tags.extend(named.iter().cloned()),
            _ => has_note = true,
        }
        true
    });
    if tags.is_empty() && !has_note {
        return Ok(None);
    }
    let mut by_tag = HashMap::new();
    for tag in tags {
        let found = ids(now, Some(&tag)).await?;
        by_tag.insert(tag, found);
    }
    let with_note = if has_note {
        ids(now, None).await?
    } else {
        None
    };
    labelled::ids(&conditions, &mut |atom| {
        let Atom::Tag(tags) = atom else {
            // Which of the notes have the text is looked at when the exchanges are read.
            return Ok(with_note.clone());
        };
        let mut all = Some(Ranges::none());
        for tag in tags {
            let found = by_tag.get(tag).and_then(Option::as_ref);
            all = all.zip(found).map(|(all, found)| all.union(found));
        }
        Ok(all)
    })
}

/// Returns the ids of the exchanges with a tag, or with a note, of their own or of their conversation; `None` if they are too
/// many.
async fn ids(now: &Snapshot<'_>, tag: Option<&str>) -> Result<Option<Ranges>, ReadError> {
    let mut parameters = Parameters::default();
    let (of_exchange, of_conversation, condition) = match tag {
        // No tag has a NUL.
        Some(tag) => (
            "exchange_tag",
            "conversation_tag",
            format!("tag = ANY({})", parameters.texts([tag])),
        ),
        None => ("exchange_note", "conversation_note", "true".to_owned()),
    };
    // The last id is NULL while a conversation is open.
    let sql = format!(
        "SELECT exchange, exchange FROM {of_exchange} WHERE {condition}
        UNION ALL SELECT first_run, last_run FROM conversation
            WHERE id IN (SELECT conversation FROM {of_conversation} WHERE {condition})
        LIMIT {}",
        LOOKED_UP_MAX + 1
    );
    let rows = now.query(&sql, &parameters).await?;
    if rows.len() > LOOKED_UP_MAX {
        return Ok(None);
    }
    let range = |row: &tokio_postgres::Row| {
        let last = row::optional_number(row, 1)?.unwrap_or(u64::MAX);
        Ok(row::number(row, 0)?..=last.saturating_add(NEAR))
    };
    let ranges: Result<Vec<_>, ReadError> = rows.iter().map(range).collect();
    Ok(Some(ranges?.into_iter().collect()))
}
