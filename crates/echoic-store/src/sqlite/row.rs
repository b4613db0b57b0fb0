//! Reads rows as conversations and exchanges.

use std::{collections::HashMap, error::Error, sync::Arc};

use echoic_core::{
    ending::{CloseReason, Ending},
    event::{
        Address, ConversationId, EndpointInfo, Outcome, Protocol, Role, RunEvent, ServerInfo, Slice,
    },
    exchange::{Conversation, Exchange, ExchangeRef, split_run},
    framing::FramingPair,
    left_over::LeftOver,
};
use rusqlite::{Connection, OptionalExtension, Row, types::Type};

use super::append::word;

/// Endpoints and servers read so far; they never change.
#[derive(Default)]
pub(super) struct Lookups {
    endpoints: HashMap<i64, Arc<EndpointInfo>>,
    servers: HashMap<i64, Arc<ServerInfo>>,
    has_left_over: bool,
}

impl Lookups {
    /// `has_left_over`: the file has that table.
    pub(super) fn new(has_left_over: bool) -> Self {
        Self {
            has_left_over,
            ..Self::default()
        }
    }

    fn server(&mut self, connection: &Connection, key: i64) -> rusqlite::Result<Arc<ServerInfo>> {
        if let Some(server) = self.servers.get(&key) {
            return Ok(Arc::clone(server));
        }
        let server = connection
            .prepare_cached("SELECT id, name, started FROM server WHERE key = ?1")?
            .query_row([key], |row| {
                Ok(ServerInfo {
                    id: parse(row, 0, |word| word.parse().ok())?,
                    name: row.get(1)?,
                    started: row.get(2)?,
                })
            })?;
        Ok(Arc::clone(
            self.servers.entry(key).or_insert_with(|| server.into()),
        ))
    }

    fn endpoint(
        &mut self,
        connection: &Connection,
        id: i64,
    ) -> rusqlite::Result<Arc<EndpointInfo>> {
        if let Some(endpoint_info) = self.endpoints.get(&id) {
            return Ok(Arc::clone(endpoint_info));
        }
        let endpoint_info = connection
            .prepare_cached("SELECT name, proto, service, framing FROM endpoint WHERE id = ?1")?
            .query_row([id], |row| {
                let proto = parse(row, 1, |word| word.parse::<Protocol>().ok())?;
                let framing = parse(row, 3, |word| word.parse::<FramingPair>().ok())?;
                Ok(EndpointInfo {
                    name: row.get(0)?,
                    proto,
                    service: row.get(2)?,
                    framing,
                })
            })?;
        Ok(Arc::clone(
            self.endpoints
                .entry(id)
                .or_insert_with(|| endpoint_info.into()),
        ))
    }
}

/// Returns a conversation, if it is stored.
pub(super) fn conversation(
    connection: &Connection,
    lookups: &mut Lookups,
    id: ConversationId,
) -> rusqlite::Result<Option<Conversation>> {
    let Ok(id) = i64::try_from(id) else {
        return Ok(None);
    };
    connection
        .prepare_cached(
            "SELECT id, endpoint, remote, local, opened, half_closed, ended, reason, received, sent, unsent, discarded,
                role, server
             FROM conversation WHERE id = ?1",
        )?
        .query_row([id], |row| conversation_in(row, connection, lookups))
        .optional()
}

/// Reads a conversation from a row that begins with the columns of [`conversation`].
pub(super) fn conversation_in(
    row: &Row<'_>,
    connection: &Connection,
    lookups: &mut Lookups,
) -> rusqlite::Result<Conversation> {
    let ended = match row.get(6)? {
        Some(ended) => {
            let mut ending = ending(row)?;
            if lookups.has_left_over && ending.reason != CloseReason::PeerClosed {
                ending.left_over = left_over(connection, row.get(0)?)?;
            }
            Some((ended, ending))
        }
        None => None,
    };
    Ok(Conversation {
        id: row.get(0)?,
        endpoint_info: lookups.endpoint(connection, row.get(1)?)?,
        remote: address(row, 2)?,
        local: address(row, 3)?,
        role: parse(row, 12, |word| word.parse::<Role>().ok())?,
        server: lookups.server(connection, row.get(13)?)?,
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
        left_over: None,
    })
}

fn left_over(
    connection: &Connection,
    id: ConversationId,
) -> rusqlite::Result<Option<Box<LeftOver>>> {
    connection
        .prepare_cached("SELECT total, claimed, bytes FROM left_over WHERE conversation = ?1")?
        .query_row([id], |row| {
            Ok(Box::new(LeftOver {
                total: row.get(0)?,
                claimed: row.get(1)?,
                bytes: row.get(2)?,
            }))
        })
        .optional()
}

/// Reads the exchanges of a run from the columns of [`super::reader`]. Returns them and the number of payload bytes.
pub(super) fn exchanges(
    row: &Row<'_>,
    conversation: &Arc<Conversation>,
) -> rusqlite::Result<(Vec<Exchange>, usize)> {
    let run = RunEvent {
        conversation: conversation.id,
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
    // An invalid file may claim that a run of two bytes has four billion messages.
    if run.count as usize != lengths.len().div_ceil(2).max(1) {
        return Err(unreadable(
            3,
            "the number of lengths does not match the number of messages of the run",
        ));
    }
    let (request, reply) = (row.get_ref(10)?.as_blob()?, row.get_ref(11)?.as_blob()?);
    let bytes = request.len() + reply.len();
    Ok((
        split_run(&run, row.get(0)?, request, reply, &lengths, conversation)
            .map(ExchangeRef::into_owned)
            .collect(),
        bytes,
    ))
}

/// Parses lengths of the form `[1,2,3]`.
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
    read(text).ok_or_else(|| unreadable(column, format!("unknown value {text:?}")))
}

fn unreadable(column: usize, what: impl Into<Box<dyn Error + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, what.into())
}
