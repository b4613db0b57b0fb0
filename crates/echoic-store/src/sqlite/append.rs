//! Appends events as rows.

use std::sync::Arc;

use echoic_core::{
    event::{
        Batch, ConversationId, Ended, EndpointInfo, Event, ExchangeId, Mark, Marked, Opened,
        Outcome, RunEvent, TlsInfo, take_ids,
    },
    left_over::LeftOver,
    store::StoreError,
};
use rusqlite::{CachedStatement, Transaction, params};

use super::{
    pack::{Part, parts},
    servers::FoundBatch,
    writer::{Cache, Writer},
};
use crate::check;

impl Writer {
    /// Stores all of the batches, or none, and returns the id of the first exchange of each. A batch that is stored already
    /// is skipped, so that an append with an unknown outcome may be repeated.
    pub(super) fn append(&mut self, batches: &[Arc<Batch>]) -> Result<Vec<ExchangeId>, StoreError> {
        check(batches).map_err(|kind| StoreError::new(&*self.path, kind))?;
        self.make_room(batches.iter().map(|batch| batch.size()).sum())?;
        self.transact(|transaction, cache| {
            cache.counts(transaction)?;
            let mut rows = Rows::prepare(transaction)?;
            let each = batches.iter();
            each.map(|batch| rows.batch(transaction, cache, batch))
                .collect()
        })
    }
}

/// Prepared statements for the most frequent inserts, looked up once per transaction.
struct Rows<'a> {
    run: CachedStatement<'a>,
    /// For runs of one exchange, the usual case where peers wait for each reply: fewer values to bind.
    single: CachedStatement<'a>,
    open: CachedStatement<'a>,
    end: CachedStatement<'a>,
    lengths: String,
}

impl<'a> Rows<'a> {
    fn prepare(transaction: &'a Transaction<'_>) -> rusqlite::Result<Self> {
        let run = "INSERT INTO run (id, conversation, n, count, at, latency_ns, outcome, reads, reply_offset,
                lengths, req, rep)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        let single = "INSERT INTO run (id, conversation, n, count, at, latency_ns, outcome, reads, reply_offset,
                lengths, req, rep)
             VALUES (?, ?, ?, 1, ?, ?, 'ok', 1, ?, NULL, ?, ?)";
        let open = "INSERT INTO conversation (id, endpoint, remote, local, opened, seen, first_run, role, server)
             VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7, ?8) ON CONFLICT (id) DO NOTHING";
        let end =
            "UPDATE conversation SET ended = ?2, reason = ?3, received = ?4, sent = ?5, unsent = ?6,
                discarded = ?7, exchanges = exchanges + ?8, seen = max(seen, ?2), last_run = ?9
             WHERE id = ?1 AND last_run IS NULL";
        Ok(Self {
            run: transaction.prepare_cached(run)?,
            single: transaction.prepare_cached(single)?,
            open: transaction.prepare_cached(open)?,
            end: transaction.prepare_cached(end)?,
            lengths: String::new(),
        })
    }

    /// Stores a batch unless it is stored already. Returns the id of its first exchange.
    fn batch(
        &mut self,
        transaction: &Transaction<'_>,
        cache: &mut Cache,
        batch: &Batch,
    ) -> rusqlite::Result<ExchangeId> {
        let server = match cache.servers.find(transaction, batch)? {
            FoundBatch::Stored(first_id) => return Ok(first_id),
            FoundBatch::New(server) => server,
        };
        let first_id = cache.state.last_exchange + 1;
        let mut next = first_id;
        for event in &batch.events {
            match event {
                Event::Run(run) => {
                    self.run(take_ids(&mut next, run), run, batch)?;
                    cache.counts.get_or_insert_default().add(run, batch);
                    let state = &mut cache.state;
                    state.exchanges += u64::from(run.count);
                    state.last_exchange = next - 1;
                    state.last_conversation = run.conversation.max(state.last_conversation);
                }
                Event::Opened(opened) => self.open(transaction, cache, opened, server)?,
                Event::Mark(mark) => set_mark(transaction, mark)?,
                Event::Ended(ended) => self.end(transaction, cache, ended)?,
            }
        }
        cache.servers.add(transaction, batch, first_id)?;
        Ok(first_id)
    }

    fn run(&mut self, id: ExchangeId, run: &RunEvent, batch: &Batch) -> rusqlite::Result<()> {
        let (request, reply) = (batch.bytes(run.request), batch.bytes(run.reply));
        if (run.count, run.reads, run.outcome) == (1, 1, Outcome::Ok) {
            return self.single(id, run, request, reply);
        }
        for part in parts(run.count, request, reply, batch.lengths(run.lengths)) {
            self.part(id, run, part)?;
        }
        Ok(())
    }

    fn single(
        &mut self,
        id: ExchangeId,
        run: &RunEvent,
        request: &[u8],
        reply: &[u8],
    ) -> rusqlite::Result<()> {
        let insert = &mut self.single;
        insert.raw_bind_parameter(1, id)?;
        insert.raw_bind_parameter(2, run.conversation)?;
        insert.raw_bind_parameter(3, run.n)?;
        insert.raw_bind_parameter(4, run.at)?;
        insert.raw_bind_parameter(5, run.latency_ns)?;
        insert.raw_bind_parameter(6, run.reply_offset)?;
        insert.raw_bind_parameter(7, request)?;
        insert.raw_bind_parameter(8, reply)?;
        insert.raw_execute().map(drop)
    }

    fn part(&mut self, id: ExchangeId, run: &RunEvent, part: Part<'_>) -> rusqlite::Result<()> {
        self.lengths.clear();
        let mut digits = itoa::Buffer::new();
        for (i, length) in part.lengths.iter().enumerate() {
            self.lengths.push(if i == 0 { '[' } else { ',' });
            self.lengths.push_str(digits.format(*length));
        }
        let lengths = (!part.lengths.is_empty()).then(|| {
            self.lengths.push(']');
            self.lengths.as_str()
        });
        let reads = if part.before == 0 { run.reads } else { 1 };
        let insert = &mut self.run;
        insert.raw_bind_parameter(1, id + u64::from(part.before))?;
        insert.raw_bind_parameter(2, run.conversation)?;
        insert.raw_bind_parameter(3, run.n + u64::from(part.before))?;
        insert.raw_bind_parameter(4, part.count)?;
        insert.raw_bind_parameter(5, run.at)?;
        insert.raw_bind_parameter(6, run.latency_ns)?;
        insert.raw_bind_parameter(7, run.outcome.word())?;
        insert.raw_bind_parameter(8, reads)?;
        insert.raw_bind_parameter(9, run.reply_offset + part.reply_before)?;
        insert.raw_bind_parameter(10, lengths)?;
        insert.raw_bind_parameter(11, part.request)?;
        insert.raw_bind_parameter(12, part.reply)?;
        insert.raw_execute().map(drop)
    }

    fn open(
        &mut self,
        transaction: &Transaction<'_>,
        cache: &mut Cache,
        opened: &Opened,
        server: i64,
    ) -> rusqlite::Result<()> {
        let endpoint_info = match cache.endpoints.get(&*opened.endpoint_info) {
            Some(id) => *id,
            None => {
                let id = endpoint_info(transaction, &opened.endpoint_info)?;
                cache.endpoints.insert((*opened.endpoint_info).clone(), id);
                id
            }
        };
        let is_new = self.open.execute(params![
            opened.conversation,
            endpoint_info,
            opened.remote.to_string(),
            opened.local.to_string(),
            opened.at,
            cache.state.last_exchange + 1,
            opened.role.word(),
            server,
        ])?;
        if let Some(tls) = opened.tls.as_ref().filter(|_| is_new > 0) {
            set_tls(transaction, opened.conversation, tls)?;
        }
        let last = &mut cache.state.last_conversation;
        *last = opened.conversation.max(*last);
        Ok(())
    }

    fn end(
        &mut self,
        transaction: &Transaction<'_>,
        cache: &mut Cache,
        ended: &Ended,
    ) -> rusqlite::Result<()> {
        let sum = cache
            .counts
            .get_or_insert_default()
            .take(ended.conversation);
        let ending = &ended.ending;
        let row = params![
            ended.conversation,
            ended.at,
            ending.reason.word(),
            ending.received,
            ending.sent,
            ending.unsent,
            ending.discarded,
            sum.exchanges,
            cache.state.last_exchange,
        ];
        let is_known = self.end.execute(row)? > 0;
        match &ending.left_over {
            Some(left_over) if is_known => {
                set_left_over(transaction, ended.conversation, left_over)
            }
            _ => Ok(()),
        }
    }
}

fn set_left_over(
    transaction: &Transaction<'_>,
    conversation: ConversationId,
    left_over: &LeftOver,
) -> rusqlite::Result<()> {
    let LeftOver {
        total,
        claimed,
        bytes,
    } = left_over;
    // A header may claim more than an integer of SQLite holds.
    let claimed = claimed.map(|claimed| i64::try_from(claimed).unwrap_or(i64::MAX));
    transaction
        .prepare_cached("INSERT INTO left_over VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING")?
        .execute((conversation, total, claimed, bytes))
        .map(drop)
}

fn set_tls(
    transaction: &Transaction<'_>,
    conversation: ConversationId,
    tls: &TlsInfo,
) -> rusqlite::Result<()> {
    let TlsInfo {
        version,
        cipher,
        sni,
        alpn,
        client,
        failure,
    } = tls;
    let client = client.as_ref();
    let (subject, sha256) = (
        client.map(|client| &client.subject),
        client.map(|client| &client.sha256),
    );
    transaction
        .prepare_cached(
            "INSERT INTO tls (conversation, version, cipher, sni, alpn, client_subject, client_sha256, failure)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )?
        .execute((conversation, version, cipher, sni, alpn, subject, sha256, failure))
        .map(drop)
}

fn endpoint_info(
    transaction: &Transaction<'_>,
    endpoint_info: &EndpointInfo,
) -> rusqlite::Result<i64> {
    let row = (
        &endpoint_info.name,
        endpoint_info.proto.word(),
        &endpoint_info.service,
        endpoint_info.framing.to_string(),
    );
    transaction
        .prepare_cached(
            "INSERT INTO endpoint (name, proto, service, framing) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        )?
        .execute(row.clone())?;
    transaction
        .prepare_cached(
            "SELECT id FROM endpoint WHERE name = ?1 AND proto = ?2 AND service = ?3 AND framing = ?4",
        )?
        .query_row(row, |row| row.get(0))
}

fn set_mark(transaction: &Transaction<'_>, mark: &Mark) -> rusqlite::Result<()> {
    let (what, a, b) = match mark.what {
        Marked::HalfClosed { received } => ("half-closed", received, None),
        Marked::Gap { exchanges, since } => ("gap", exchanges, Some(since)),
        Marked::Dropped { datagrams } => ("dropped", datagrams, None),
        Marked::Silenced { for_us } => ("silenced", for_us, None),
    };
    if what == "half-closed" {
        transaction
            .prepare_cached(
                "UPDATE conversation SET half_closed = ?2, seen = max(seen, ?2) WHERE id = ?1",
            )?
            .execute((mark.conversation, mark.at))?;
    }
    transaction
        .prepare_cached(
            // A repeated gap may have grown.
            "INSERT INTO mark VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET a = max(a, excluded.a)",
        )?
        .execute((mark.conversation, mark.at, what, a, b))
        .map(drop)
}
