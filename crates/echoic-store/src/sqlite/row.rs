//! Reads rows as conversations and exchanges.

use std::{collections::HashMap, error::Error, sync::Arc};

use echoic_core::{
    ending::{CloseReason, Ending},
    event::{
        Address, ClientCertificate, ConversationId, EndpointInfo, Outcome, Protocol, Role,
        RunEvent, ServerInfo, Slice, TlsInfo,
    },
    exchange::Conversation,
    framing::FramingPair,
    left_over::LeftOver,
    store::Labels,
};
use rusqlite::{Connection, OptionalExtension, Row, types::Type};

use super::{connection, labels};
use crate::positions::Positions;

/// Endpoints and servers read so far; they never change.
#[derive(Default)]
pub(super) struct Lookups {
    endpoints: HashMap<i64, Arc<EndpointInfo>>,
    servers: HashMap<i64, Arc<ServerInfo>>,
    /// The schema of the file.
    schema: u32,
    /// Whether any conversation has a label.
    has_labels: bool,
    /// The conversation whose messages were paged last.
    paged: (ConversationId, Positions),
}

impl Lookups {
    /// Looks at what may change while the file is read: another process may migrate it, or label a conversation for the first
    /// time.
    pub(super) fn refresh(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if self.schema < connection::SCHEMA {
            self.schema = connection::schema(connection)?;
        }
        let sql = "SELECT EXISTS (SELECT 1 FROM conversation_tag) OR EXISTS (SELECT 1 FROM conversation_note)";
        self.has_labels = self.has_label_tables()
            && connection
                .prepare_cached(sql)?
                .query_row([], |row| row.get(0))?;
        Ok(())
    }

    /// Returns what is known of the runs of a conversation. It is kept for one.
    pub(super) fn positions(&mut self, id: ConversationId) -> &mut Positions {
        if self.paged.0 != id {
            self.paged = (id, Positions::default());
        }
        &mut self.paged.1
    }

    /// Whether the file has the tables of labels; one that is only read may not.
    pub(super) fn has_label_tables(&self) -> bool {
        self.schema >= connection::SCHEMA_LABELS
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
            if lookups.schema >= connection::SCHEMA_LEFT_OVER
                && ending.reason != CloseReason::PeerClosed
            {
                ending.left_over = left_over(connection, row.get(0)?)?;
            }
            Some((ended, ending))
        }
        None => None,
    };
    let labels = if lookups.has_labels {
        labels::of_conversation(connection, row.get(0)?)?
    } else {
        Labels::default()
    };
    let endpoint_info = lookups.endpoint(connection, row.get(1)?)?;
    let has_tls = matches!(endpoint_info.proto, Protocol::Tls | Protocol::Wss);
    let tls = if has_tls && lookups.schema >= connection::SCHEMA_TLS {
        tls(connection, row.get(0)?)?
    } else {
        None
    };
    Ok(Conversation {
        id: row.get(0)?,
        endpoint_info,
        tls,
        remote: address(row, 2)?,
        local: address(row, 3)?,
        role: parse(row, 12, |word| word.parse::<Role>().ok())?,
        server: lookups.server(connection, row.get(13)?)?,
        opened: row.get(4)?,
        half_closed: row.get(5)?,
        ended,
        labels,
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

fn tls(connection: &Connection, id: ConversationId) -> rusqlite::Result<Option<Arc<TlsInfo>>> {
    connection
        .prepare_cached(
            "SELECT version, cipher, sni, alpn, client_subject, client_sha256, failure
             FROM tls WHERE conversation = ?1",
        )?
        .query_row([id], |row| {
            let client = match (row.get(4)?, row.get(5)?) {
                (Some(subject), Some(sha256)) => Some(ClientCertificate { subject, sha256 }),
                _ => None,
            };
            Ok(Arc::new(TlsInfo {
                version: row.get(0)?,
                cipher: row.get(1)?,
                sni: row.get(2)?,
                alpn: row.get(3)?,
                client,
                failure: row.get(6)?,
            }))
        })
        .optional()
}

/// Reads a run and its lengths from the first columns of [`super::reader`].
pub(super) fn run(row: &Row<'_>) -> rusqlite::Result<(RunEvent, Vec<u32>)> {
    let run = RunEvent {
        conversation: row.get(1)?,
        n: row.get(2)?,
        count: row.get(3)?,
        at: row.get(4)?,
        latency_ns: row.get(5)?,
        outcome: parse(row, 6, |stored| {
            [
                Outcome::Ok,
                Outcome::Unanswered,
                Outcome::Withheld,
                Outcome::Unpaired,
                Outcome::Unsent,
            ]
            .into_iter()
            .find(|known| known.word() == stored)
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
    Ok((run, lengths))
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
