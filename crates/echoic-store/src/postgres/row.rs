//! Reads rows as conversations and exchanges.

use std::{
    collections::{BTreeSet, HashMap},
    str::FromStr,
    sync::{Arc, MutexGuard, PoisonError},
};

use echoic_core::{
    ending::{CloseReason, Ending},
    event::{
        Address, ClientCertificate, ConversationId, EndpointInfo, Outcome, RunEvent, ServerInfo,
        Slice, TlsInfo,
    },
    exchange::Conversation,
    left_over::LeftOver,
    store::Labels,
};
use tokio_postgres::Row;

use super::{
    readers::Readers,
    snapshot::{ReadError, Snapshot},
    sql::Parameters,
};
use crate::positions::Positions;

/// Endpoints and servers read so far; they never change.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    endpoints: HashMap<i64, Arc<EndpointInfo>>,
    servers: HashMap<i64, Arc<ServerInfo>>,
    /// The conversation whose messages were paged last.
    paged: (ConversationId, Positions),
}

/// Most endpoints and servers that are remembered. A database of many short runs has one server for each.
const REMEMBERED_MAX: usize = 65_536;

impl Lookups {
    pub(super) fn of(readers: &Readers) -> MutexGuard<'_, Self> {
        readers
            .lookups
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out what is known of the runs of a conversation. It is kept for one.
    pub(super) fn take_positions(&mut self, id: ConversationId) -> Positions {
        let (known, positions) = std::mem::take(&mut self.paged);
        if known == id {
            positions
        } else {
            Positions::default()
        }
    }

    pub(super) fn keep_positions(&mut self, id: ConversationId, positions: Positions) {
        self.paged = (id, positions);
    }
}

/// The columns of a conversation `c`, and what joins the tables that they are in.
pub(super) const CONVERSATION: &str =
    "c.id, c.endpoint, c.server, c.remote, c.local, c.role, c.opened, c.half_closed, c.ended,
    c.reason, c.received, c.sent, c.unsent, c.discarded, c.exchanges,
    (SELECT array_agg(tag) FROM conversation_tag WHERE conversation = c.id),
    (SELECT note FROM conversation_note WHERE conversation = c.id),
    left_over.total, left_over.claimed, left_over.bytes,
    tls.conversation IS NOT NULL, tls.version, tls.cipher, tls.sni, tls.alpn, tls.client_subject, tls.client_sha256,
    tls.failure";

/// The columns of its bytes in [`CONVERSATION`]: of requests and of replies, as long as it is open.
pub(super) const BYTES: [usize; 2] = [10, 11];

/// The column of its number of exchanges in [`CONVERSATION`].
pub(super) const EXCHANGES: usize = 14;

/// Follows `FROM conversation c`.
pub(super) const JOINS: &str = "LEFT JOIN left_over ON left_over.conversation = c.id
    LEFT JOIN tls ON tls.conversation = c.id";

/// Returns the conversations with these ids that are stored.
pub(super) async fn conversations(
    now: &Snapshot<'_>,
    ids: &BTreeSet<ConversationId>,
) -> Result<HashMap<ConversationId, Arc<Conversation>>, ReadError> {
    let mut parameters = Parameters::default();
    let ids = parameters.ids(ids.iter().copied());
    let sql = format!("SELECT {CONVERSATION} FROM conversation c {JOINS} WHERE c.id = ANY({ids})");
    let rows = now.query(&sql, &parameters).await?;
    let found = conversations_in(now, &rows).await?;
    Ok(found
        .into_iter()
        .map(|one| (one.id, Arc::new(one)))
        .collect())
}

/// Reads conversations from rows that begin with the columns of [`CONVERSATION`].
pub(super) async fn conversations_in(
    now: &Snapshot<'_>,
    rows: &[Row],
) -> Result<Vec<Conversation>, ReadError> {
    look_up(now, rows).await?;
    let lookups = Lookups::of(now.readers);
    rows.iter().map(|row| conversation(row, &lookups)).collect()
}

/// Reads the endpoints and servers of conversations that are not known yet.
async fn look_up(now: &Snapshot<'_>, rows: &[Row]) -> Result<(), ReadError> {
    let (mut endpoints, mut servers) = (BTreeSet::new(), BTreeSet::new());
    {
        let mut lookups = Lookups::of(now.readers);
        if lookups.endpoints.len() + lookups.servers.len() > REMEMBERED_MAX {
            lookups.endpoints.clear();
            lookups.servers.clear();
        }
        for row in rows {
            let (endpoint, server) = (row.try_get(1)?, row.try_get(2)?);
            if !lookups.endpoints.contains_key(&endpoint) {
                endpoints.insert(endpoint);
            }
            if !lookups.servers.contains_key(&server) {
                servers.insert(server);
            }
        }
    }
    if !endpoints.is_empty() {
        let mut parameters = Parameters::default();
        let ids = parameters.numbers(endpoints.into_iter().collect());
        let sql =
            format!("SELECT id, name, proto, service, framing FROM endpoint WHERE id = ANY({ids})");
        for row in now.query(&sql, &parameters).await? {
            let endpoint_info = EndpointInfo {
                name: row.try_get(1)?,
                proto: parse(&row, 2)?,
                service: row.try_get(3)?,
                framing: parse(&row, 4)?,
            };
            let mut lookups = Lookups::of(now.readers);
            lookups
                .endpoints
                .insert(row.try_get(0)?, endpoint_info.into());
        }
    }
    if !servers.is_empty() {
        let mut parameters = Parameters::default();
        let keys = parameters.numbers(servers.into_iter().collect());
        let sql = format!("SELECT key, id, name, started FROM server WHERE key = ANY({keys})");
        for row in now.query(&sql, &parameters).await? {
            let server = ServerInfo {
                id: parse(&row, 1)?,
                name: row.try_get(2)?,
                started: row.try_get(3)?,
            };
            let mut lookups = Lookups::of(now.readers);
            lookups.servers.insert(row.try_get(0)?, server.into());
        }
    }
    Ok(())
}

fn conversation(row: &Row, lookups: &Lookups) -> Result<Conversation, ReadError> {
    let endpoint_info = lookups.endpoints.get(&row.try_get(1)?).cloned();
    let server = lookups.servers.get(&row.try_get(2)?).cloned();
    let tags: Option<Vec<String>> = row.try_get(15)?;
    let mut labels = Labels {
        tags: tags.unwrap_or_default(),
        note: row.try_get(16)?,
    };
    // In the order of bytes, whatever that of the database is.
    labels.tags.sort_unstable();
    Ok(Conversation {
        id: number(row, 0)?,
        endpoint_info: endpoint_info.ok_or_else(|| foreign("a conversation of no endpoint"))?,
        server: server.ok_or_else(|| foreign("a conversation of no server"))?,
        remote: parse::<Address>(row, 3)?,
        local: parse(row, 4)?,
        role: parse(row, 5)?,
        opened: row.try_get(6)?,
        half_closed: row.try_get(7)?,
        ended: ended(row)?,
        labels,
        tls: tls(row)?,
    })
}

fn tls(row: &Row) -> Result<Option<Arc<TlsInfo>>, ReadError> {
    if !row.try_get(20)? {
        return Ok(None);
    }
    let client = match (row.try_get(25)?, row.try_get(26)?) {
        (Some(subject), Some(sha256)) => Some(ClientCertificate { subject, sha256 }),
        _ => None,
    };
    Ok(Some(Arc::new(TlsInfo {
        version: row.try_get(21)?,
        cipher: row.try_get(22)?,
        sni: row.try_get(23)?,
        alpn: row.try_get(24)?,
        client,
        failure: row.try_get(27)?,
    })))
}

fn ended(row: &Row) -> Result<Option<(i64, Ending)>, ReadError> {
    let Some(at) = row.try_get(8)? else {
        return Ok(None);
    };
    let reason: &str = row.try_get(9)?;
    let reason = CloseReason::from_word(reason).ok_or_else(|| unknown_word(reason))?;
    let left_over = match optional_number(row, 17)? {
        Some(total) if reason != CloseReason::PeerClosed => Some(Box::new(LeftOver {
            total,
            // A header can claim any length.
            claimed: row.try_get::<_, Option<i64>>(18)?.map(i64::cast_unsigned),
            bytes: row.try_get(19)?,
        })),
        _ => None,
    };
    let ending = Ending {
        reason,
        received: number(row, 10)?,
        sent: number(row, 11)?,
        unsent: number(row, 12)?,
        discarded: number(row, 13)?,
        left_over,
    };
    Ok(Some((at, ending)))
}

/// The columns of a run `r` before its bytes.
pub(super) const RUN: &str = "r.id, r.conversation, r.n, r.count, r.at, r.latency_ns, r.outcome, r.reads, r.reply_offset, r.lengths";

/// Reads a run and its lengths from the columns of [`RUN`].
pub(super) fn run(row: &Row) -> Result<(RunEvent, Vec<u32>), ReadError> {
    let outcome: &str = row.try_get(6)?;
    let outcomes = [
        Outcome::Ok,
        Outcome::Unanswered,
        Outcome::Withheld,
        Outcome::Unpaired,
        Outcome::Unsent,
    ];
    let known = outcomes.into_iter().find(|known| known.word() == outcome);
    let count: i32 = row.try_get(3)?;
    let reads: i32 = row.try_get(7)?;
    let run = RunEvent {
        conversation: number(row, 1)?,
        n: number(row, 2)?,
        count: u32::try_from(count).map_err(|_| negative())?,
        at: row.try_get(4)?,
        latency_ns: number(row, 5)?,
        outcome: known.ok_or_else(|| unknown_word(outcome))?,
        reads: u32::try_from(reads).map_err(|_| negative())?,
        reply_offset: number(row, 8)?,
        request: Slice::default(),
        reply: Slice::default(),
        lengths: Slice::default(),
    };
    let lengths: Option<Vec<i32>> = row.try_get(9)?;
    let lengths = lengths.unwrap_or_default().into_iter().map(u32::try_from);
    let lengths: Vec<u32> = lengths.collect::<Result<_, _>>().map_err(|_| negative())?;
    // An invalid row may claim that a run of two bytes has four billion messages.
    if run.count as usize != lengths.len().div_ceil(2).max(1) {
        let what = "the number of lengths does not match the number of messages of a run";
        return Err(foreign(what));
    }
    Ok((run, lengths))
}

/// Returns a number that is never negative.
pub(super) fn number(row: &Row, column: usize) -> Result<u64, ReadError> {
    u64::try_from(row.try_get::<_, i64>(column)?).map_err(|_| negative())
}

/// Returns a number that is never negative, if there is one.
pub(super) fn optional_number(row: &Row, column: usize) -> Result<Option<u64>, ReadError> {
    match row.try_get::<_, Option<i64>>(column)? {
        Some(_) => number(row, column).map(Some),
        None => Ok(None),
    }
}

pub(super) fn parse<T: FromStr>(row: &Row, column: usize) -> Result<T, ReadError> {
    let text: &str = row.try_get(column)?;
    text.parse().map_err(|_| unknown_word(text))
}

fn unknown_word(word: &str) -> ReadError {
    foreign(format!("unknown value {word:?}"))
}

fn negative() -> ReadError {
    foreign("a negative number")
}

pub(super) fn foreign(what: impl Into<String>) -> ReadError {
    ReadError::Foreign(what.into())
}
