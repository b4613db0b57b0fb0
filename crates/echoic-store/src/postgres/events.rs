//! The events of an append beside its runs: one statement for all of a kind.

use std::{
    collections::{BTreeMap, HashMap},
    pin::Pin,
    sync::Arc,
};

use echoic_core::event::{
    ConversationId, Ended, ExchangeId, Mark, Marked, Micros, Opened, TlsInfo,
};
use tokio_postgres::{
    Client, Error,
    types::{ToSql, Type},
};

use super::{counts::Sum, servers::plain};

/// A statement that is sent when it is polled first.
pub(super) type Sent<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;

/// Parameters of a statement.
type Columns<'a> = Vec<&'a (dyn ToSql + Sync)>;

const OPEN: &str = "INSERT INTO conversation (id, server, endpoint, opened, seen, half_closed, ended, first_run, last_run,
        exchanges, received, sent, unsent, discarded, role, remote, local, reason)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
        $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[],
        $15::text[], $16::text[], $17::text[], $18::text[])
    ON CONFLICT (id) DO UPDATE SET ended = excluded.ended, reason = excluded.reason, received = excluded.received,
        sent = excluded.sent, unsent = excluded.unsent, discarded = excluded.discarded,
        exchanges = conversation.exchanges + excluded.exchanges, seen = greatest(conversation.seen, excluded.seen),
        last_run = excluded.last_run
    WHERE conversation.last_run IS NULL AND excluded.last_run IS NOT NULL";

const HALF_CLOSE: &str =
    "UPDATE conversation SET half_closed = half.at, seen = greatest(seen, half.at)
    FROM unnest($1::bigint[], $2::bigint[]) AS half (id, at) WHERE conversation.id = half.id";

const END: &str = "UPDATE conversation SET ended = done.ended, reason = done.reason, received = done.received,
        sent = done.sent, unsent = done.unsent, discarded = done.discarded,
        exchanges = exchanges + done.counted, seen = greatest(seen, done.ended), last_run = done.last_run
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
        $8::bigint[], $9::text[])
        AS done (id, ended, last_run, counted, received, sent, unsent, discarded, reason)
    WHERE conversation.id = done.id AND conversation.last_run IS NULL";

/// A repeated gap may have grown.
const MARK: &str = "INSERT INTO mark SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],
        $6::text[])
    ON CONFLICT (conversation, at, what, server) DO UPDATE SET a = greatest(mark.a, excluded.a)";

const LEFT_OVER: &str = "INSERT INTO left_over SELECT new.*
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[]) AS new (conversation, total, claimed, bytes)
    JOIN conversation ON conversation.id = new.conversation
    ON CONFLICT DO NOTHING";

const TLS: &str = "INSERT INTO tls SELECT new.*
    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[])
        AS new (conversation, version, cipher, sni, alpn, client_subject, client_sha256, failure)
    JOIN conversation ON conversation.id = new.conversation
    ON CONFLICT DO NOTHING";

/// Rows of the other events.
#[derive(Default)]
pub(super) struct Events {
    /// Conversations opened in this append, each once, and where the row of each is.
    opened: Vec<Row>,
    at: HashMap<ConversationId, usize>,
    /// Times of half-closes of conversations opened before.
    half_closed: BTreeMap<ConversationId, Micros>,
    /// Ends of conversations opened before.
    ended: BTreeMap<ConversationId, End>,
    marks: BTreeMap<MarkKey, (i64, Option<i64>)>,
    left_over: BTreeMap<ConversationId, (i64, Option<i64>, Vec<u8>)>,
    tls: BTreeMap<ConversationId, Arc<TlsInfo>>,
    last_conversation: ConversationId,
}

/// Conversation, time, server, and kind of a mark.
type MarkKey = (i64, Micros, i64, &'static str);

/// A row of the table `conversation`.
struct Row {
    id: i64,
    server: i64,
    endpoint: i64,
    opened: Micros,
    seen: Micros,
    half_closed: Option<Micros>,
    first_run: i64,
    role: &'static str,
    remote: String,
    local: String,
    end: Option<End>,
}

/// Columns that the end of a conversation sets.
#[derive(Clone, Copy)]
struct End {
    at: Micros,
    last_run: i64,
    counted: i64,
    received: i64,
    sent: i64,
    unsent: i64,
    discarded: i64,
    reason: &'static str,
}

impl Events {
    /// The largest id of a conversation.
    pub(super) fn last_conversation(&self) -> ConversationId {
        self.last_conversation
    }

    /// Notes the id of a conversation.
    pub(super) fn saw(&mut self, id: ConversationId) {
        self.last_conversation = self.last_conversation.max(id);
    }

    pub(super) fn open(&mut self, opened: &Opened, server: i64, endpoint: i64, next: ExchangeId) {
        self.saw(opened.conversation);
        if self.at.contains_key(&opened.conversation) {
            return;
        }
        self.at.insert(opened.conversation, self.opened.len());
        if let Some(tls) = &opened.tls {
            self.tls.insert(opened.conversation, Arc::clone(tls));
        }
        self.opened.push(Row {
            id: opened.conversation.cast_signed(),
            server,
            endpoint,
            opened: opened.at,
            seen: opened.at,
            half_closed: None,
            first_run: next.cast_signed(),
            role: opened.role.word(),
            remote: plain(&opened.remote.to_string()),
            local: plain(&opened.local.to_string()),
            end: None,
        });
    }

    pub(super) fn mark(&mut self, mark: &Mark, server: i64) {
        let (what, a, b) = match mark.what {
            Marked::HalfClosed { received } => ("half-closed", received, None),
            Marked::Gap { exchanges, since } => ("gap", exchanges, Some(since)),
            Marked::Dropped { datagrams } => ("dropped", datagrams, None),
            Marked::Silenced { for_us } => ("silenced", for_us, None),
        };
        if what == "half-closed" {
            if let Some(row) = self.row(mark.conversation) {
                row.half_closed = Some(mark.at);
                row.seen = row.seen.max(mark.at);
            } else {
                self.half_closed.insert(mark.conversation, mark.at);
            }
        }
        let key = (mark.conversation.cast_signed(), mark.at, server, what);
        let known = self.marks.entry(key).or_insert((0, b));
        known.0 = known.0.max(a.cast_signed());
    }

    /// `last` is the last exchange before the end.
    pub(super) fn end(&mut self, ended: &Ended, sum: Sum, last: ExchangeId) {
        let ending = &ended.ending;
        let end = End {
            at: ended.at,
            last_run: last.cast_signed(),
            counted: sum.exchanges.cast_signed(),
            received: ending.received.cast_signed(),
            sent: ending.sent.cast_signed(),
            unsent: ending.unsent.cast_signed(),
            discarded: ending.discarded.cast_signed(),
            reason: ending.reason.word(),
        };
        match self.row(ended.conversation) {
            Some(row) => {
                row.end.get_or_insert(end);
            }
            None => {
                self.ended.entry(ended.conversation).or_insert(end);
            }
        }
        if let Some(left_over) = &ending.left_over {
            // A header may claim more than an integer of SQL holds.
            let claimed = left_over
                .claimed
                .map(|claimed| i64::try_from(claimed).unwrap_or(i64::MAX));
            let row = (
                left_over.total.cast_signed(),
                claimed,
                left_over.bytes.clone(),
            );
            self.left_over.entry(ended.conversation).or_insert(row);
        }
    }

    fn row(&mut self, id: ConversationId) -> Option<&mut Row> {
        let at = *self.at.get(&id)?;
        Some(&mut self.opened[at])
    }

    /// Returns the statements that write the rows, in their order.
    pub(super) fn statements<'a>(&'a self, client: &'a Client) -> Vec<Sent<'a>> {
        let mut statements: Vec<Sent<'a>> = Vec::new();
        if !self.opened.is_empty() {
            statements.push(Box::pin(self.write_opened(client)));
        }
        if !self.half_closed.is_empty() {
            statements.push(Box::pin(self.write_half_closed(client)));
        }
        if !self.ended.is_empty() {
            statements.push(Box::pin(self.write_ended(client)));
        }
        if !self.marks.is_empty() {
            statements.push(Box::pin(self.write_marks(client)));
        }
        if !self.left_over.is_empty() {
            statements.push(Box::pin(self.write_left_over(client)));
        }
        if !self.tls.is_empty() {
            statements.push(Box::pin(self.write_tls(client)));
        }
        statements
    }

    async fn write_opened(&self, client: &Client) -> Result<(), Error> {
        let numbers: [fn(&Row) -> Option<i64>; 14] = [
            |row| Some(row.id),
            |row| Some(row.server),
            |row| Some(row.endpoint),
            |row| Some(row.opened),
            |row| Some(row.end.map_or(row.seen, |end| end.at.max(row.seen))),
            |row| row.half_closed,
            |row| row.end.map(|end| end.at),
            |row| Some(row.first_run),
            |row| row.end.map(|end| end.last_run),
            |row| Some(row.end.map_or(0, |end| end.counted)),
            |row| Some(row.end.map_or(0, |end| end.received)),
            |row| Some(row.end.map_or(0, |end| end.sent)),
            |row| Some(row.end.map_or(0, |end| end.unsent)),
            |row| Some(row.end.map_or(0, |end| end.discarded)),
        ];
        let texts: [fn(&Row) -> Option<&str>; 4] = [
            |row| Some(row.role),
            |row| Some(&row.remote),
            |row| Some(&row.local),
            |row| row.end.map(|end| end.reason),
        ];
        let numbers = numbers.map(|of| self.opened.iter().map(of).collect::<Vec<_>>());
        let texts = texts.map(|of| self.opened.iter().map(of).collect::<Vec<_>>());
        let mut columns: Columns<'_> = Vec::new();
        columns.extend(numbers.iter().map(|column| column as &(dyn ToSql + Sync)));
        columns.extend(texts.iter().map(|column| column as &(dyn ToSql + Sync)));
        execute(client, OPEN, 14, &columns).await
    }

    async fn write_half_closed(&self, client: &Client) -> Result<(), Error> {
        let ids: Vec<i64> = self.half_closed.keys().map(|id| id.cast_signed()).collect();
        let times: Vec<i64> = self.half_closed.values().copied().collect();
        execute(client, HALF_CLOSE, 2, &[&ids, &times]).await
    }

    async fn write_ended(&self, client: &Client) -> Result<(), Error> {
        let ids: Vec<i64> = self.ended.keys().map(|id| id.cast_signed()).collect();
        let reasons: Vec<&str> = self.ended.values().map(|end| end.reason).collect();
        let numbers: [fn(&End) -> i64; 7] = [
            |end| end.at,
            |end| end.last_run,
            |end| end.counted,
            |end| end.received,
            |end| end.sent,
            |end| end.unsent,
            |end| end.discarded,
        ];
        let numbers = numbers.map(|of| self.ended.values().map(of).collect::<Vec<_>>());
        let mut columns: Columns<'_> = vec![&ids];
        columns.extend(numbers.iter().map(|column| column as &(dyn ToSql + Sync)));
        columns.push(&reasons);
        execute(client, END, 8, &columns).await
    }

    async fn write_marks(&self, client: &Client) -> Result<(), Error> {
        let ids: Vec<i64> = self.marks.keys().map(|key| key.0).collect();
        let times: Vec<i64> = self.marks.keys().map(|key| key.1).collect();
        let servers: Vec<i64> = self.marks.keys().map(|key| key.2).collect();
        let a: Vec<i64> = self.marks.values().map(|(a, _)| *a).collect();
        let b: Vec<Option<i64>> = self.marks.values().map(|(_, b)| *b).collect();
        let what: Vec<&str> = self.marks.keys().map(|key| key.3).collect();
        let columns: Columns<'_> = vec![&ids, &times, &servers, &a, &b, &what];
        execute(client, MARK, 5, &columns).await
    }

    async fn write_left_over(&self, client: &Client) -> Result<(), Error> {
        let ids: Vec<i64> = self.left_over.keys().map(|id| id.cast_signed()).collect();
        let totals: Vec<i64> = self.left_over.values().map(|row| row.0).collect();
        let claims: Vec<Option<i64>> = self.left_over.values().map(|row| row.1).collect();
        let bytes: Vec<&[u8]> = self.left_over.values().map(|row| &row.2[..]).collect();
        let columns: Columns<'_> = vec![&ids, &totals, &claims, &bytes];
        let types = [
            Type::INT8_ARRAY,
            Type::INT8_ARRAY,
            Type::INT8_ARRAY,
            Type::BYTEA_ARRAY,
        ];
        let typed = columns.iter().copied().zip(types).collect::<Vec<_>>();
        client.query_typed(LEFT_OVER, &typed).await.map(drop)
    }

    async fn write_tls(&self, client: &Client) -> Result<(), Error> {
        let texts: [fn(&TlsInfo) -> Option<&String>; 7] = [
            |tls| tls.version.as_ref(),
            |tls| tls.cipher.as_ref(),
            |tls| tls.sni.as_ref(),
            |tls| tls.alpn.as_ref(),
            |tls| tls.client.as_ref().map(|client| &client.subject),
            |tls| tls.client.as_ref().map(|client| &client.sha256),
            |tls| tls.failure.as_ref(),
        ];
        let ids: Vec<i64> = self.tls.keys().map(|id| id.cast_signed()).collect();
        let texts = texts.map(|of| {
            let texts = self.tls.values().map(|tls| of(tls).map(|text| plain(text)));
            texts.collect::<Vec<_>>()
        });
        let mut columns: Columns<'_> = vec![&ids];
        columns.extend(texts.iter().map(|column| column as &(dyn ToSql + Sync)));
        execute(client, TLS, 1, &columns).await
    }
}

/// Executes a statement whose first `numbers` parameters are arrays of numbers, and whose others are of texts. It is not
/// prepared, so that it takes one round trip.
async fn execute(
    client: &Client,
    sql: &str,
    numbers: usize,
    columns: &[&(dyn ToSql + Sync)],
) -> Result<(), Error> {
    let typed: Vec<_> = (columns.iter().enumerate())
        .map(|(at, column)| {
            let of_numbers = at < numbers;
            let kind = if of_numbers {
                Type::INT8_ARRAY
            } else {
                Type::TEXT_ARRAY
            };
            (*column, kind)
        })
        .collect();
    client.query_typed(sql, &typed).await.map(drop)
}
