//! Rows into what they mean.

use std::{collections::HashMap, error::Error, sync::Arc};

use echoic_core::{
    ending::{CloseReason, Ending},
    event::{Address, ConversationId, EndpointInfo, Outcome, RunEvent, Slice},
    exchange::{Conversation, Exchange, ExchangeRef, split_run},
    filter::Protocol,
    framing::FramingPair,
};
use rusqlite::{Connection, OptionalExtension, Row, types::Type};

use super::append::word;

/// The posts met so far; they never change.
#[derive(Default)]
pub(super) struct Endpoints(HashMap<i64, Arc<EndpointInfo>>);

impl Endpoints {
    fn get(&mut self, connection: &Connection, id: i64) -> rusqlite::Result<Arc<EndpointInfo>> {
        if let Some(endpoint_info) = self.0.get(&id) {
            return Ok(Arc::clone(endpoint_info));
        }
        let endpoint_info = connection
            .prepare_cached("SELECT name, proto, service, framing FROM post WHERE id = ?1")?
            .query_row([id], |row| {
                let proto = parse(row, 1, |word| {
                    Protocol::ALL
                        .iter()
                        .map(|known| known.word())
                        .find(|known| *known == word)
                })?;
                let framing = parse(row, 3, |word| word.parse::<FramingPair>().ok())?;
                Ok(EndpointInfo {
                    name: row.get(0)?,
                    proto,
                    service: row.get(2)?,
                    framing,
                })
            })?;
        Ok(Arc::clone(
            self.0.entry(id).or_insert_with(|| endpoint_info.into()),
        ))
    }
}

/// A conversation, if it is there.
pub(super) fn conversation(
    connection: &Connection,
    endpoints: &mut Endpoints,
    id: ConversationId,
) -> rusqlite::Result<Option<Conversation>> {
    let Ok(id) = i64::try_from(id) else {
        return Ok(None);
    };
    connection
        .prepare_cached(
            "SELECT id, post, remote, local, opened, half_closed, ended, how, received, sent, unsent, unheard
             FROM conversation WHERE id = ?1",
        )?
        .query_row([id], |row| conversation_in(row, connection, endpoints))
        .optional()
}

/// The conversation in a row that begins with the columns of [`conversation`].
pub(super) fn conversation_in(
    row: &Row<'_>,
    connection: &Connection,
    endpoints: &mut Endpoints,
) -> rusqlite::Result<Conversation> {
    let ended = match row.get(6)? {
        Some(ended) => Some((ended, ending(row)?)),
        None => None,
    };
    Ok(Conversation {
        id: row.get(0)?,
        endpoint_info: endpoints.get(connection, row.get(1)?)?,
        remote: address(row, 2)?,
        local: address(row, 3)?,
        opened: row.get(4)?,
        half_closed: row.get(5)?,
        ended,
    })
}

fn ending(row: &Row<'_>) -> rusqlite::Result<Ending> {
    Ok(Ending {
        reason: parse(row, 7, CloseReason::from_word)?,
        received: row.get(8)?,
        sent: row.get(9)?,
        unsent: row.get(10)?,
        discarded: row.get(11)?,
    })
}

/// The exchanges of a run in the columns of [`super::reader`], and the bytes that were read for them.
pub(super) fn exchanges(
    row: &Row<'_>,
    conversation: &Arc<Conversation>,
) -> rusqlite::Result<(Vec<Exchange>, usize)> {
    let run = RunEvent {
        conversation: conversation.id,
        id: row.get(0)?,
        n: row.get(2)?,
        count: row.get(3)?,
        at: row.get(4)?,
        latency_ns: row.get(5)?,
        outcome: parse(row, 6, |stored| {
            [
                Outcome::Ok,
                Outcome::Unanswered,
                Outcome::Withheld,
                Outcome::Unsent,
            ]
            .into_iter()
            .find(|known| word(*known) == stored)
        })?,
        reads: row.get(7)?,
        reply_offset: row.get(8)?,
        request: Slice::default(),
        reply: Slice::default(),
        lengths: Slice::default(),
    };
    let lengths = match row.get_ref(9)?.as_str_or_null()? {
        Some(_) => parse(row, 9, lengths)?,
        None => Vec::new(),
    };
    // A file may say that a run of two bytes holds four billion messages.
    if run.count as usize != lengths.len().div_ceil(2).max(1) {
        return Err(unreadable(
            3,
            "a run holds another number of messages than it has lengths",
        ));
    }
    let (heard, said) = (row.get_ref(10)?.as_blob()?, row.get_ref(11)?.as_blob()?);
    let bytes = heard.len() + said.len();
    Ok((
        split_run(&run, heard, said, &lengths, conversation)
            .map(ExchangeRef::into_owned)
            .collect(),
        bytes,
    ))
}

/// `[1,2,3]`
fn lengths(text: &str) -> Option<Vec<u32>> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    inner
        .split(',')
        .map(|length| length.trim().parse().ok())
        .collect()
}

fn address(row: &Row<'_>, column: usize) -> rusqlite::Result<Address> {
    parse(row, column, |word| word.parse().ok())
}

fn parse<T>(
    row: &Row<'_>,
    column: usize,
    read: impl FnOnce(&str) -> Option<T>,
) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    read(text).ok_or_else(|| unreadable(column, format!("{text:?} is stored, and not known here")))
}

fn unreadable(column: usize, what: impl Into<Box<dyn Error + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, what.into())
}
