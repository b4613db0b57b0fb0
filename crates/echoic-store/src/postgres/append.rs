//! Appends events: runs by COPY, and everything else in a few statements for all of them.
//!
//! The rows of runs are made in memory. Then the lock for appends is taken, ids are given, and all is sent: the lock is held for
//! a few round trips. It makes ids increase in the order of commits.

use std::{pin::pin, sync::Arc};

use echoic_core::event::{Batch, EndpointInfo, Event, ExchangeId, Micros, take_ids};
use futures_util::{
    SinkExt,
    future::{try_join, try_join_all},
};
use tokio_postgres::{Client, Error, Statement, types::ToSql};

use super::{
    events::Events,
    parts::{Limits, Room},
    rows::{self, Rows},
    servers::plain,
    writer::Session,
};

/// Batches with their runs encoded.
pub(super) struct Pending(Vec<Rows>);

impl Pending {
    pub(super) fn encode(batches: &[Arc<Batch>]) -> Self {
        Self(batches.iter().map(|batch| Rows::of(batch)).collect())
    }
}

/// Statements of every append.
pub(super) struct Statements {
    state: Statement,
    copy: Statement,
    finish: Statement,
}

/// The counters of the record, and of the partition that runs go into. The row stays locked until the commit.
const STATE: &str = "SELECT state.part, state.last_exchange, state.last_conversation, part.bytes,
        coalesce(extract(epoch FROM clock_timestamp() - part.began), 0)::float8,
        EXISTS (SELECT FROM part AS ahead WHERE ahead.number > state.part),
        (SELECT sum(bytes)::bigint FROM part)
    FROM state JOIN part ON part.number = state.part FOR UPDATE OF state";

/// Writes the counters and the names of the batches, and tells followers the newest id.
const FINISH: &str = "WITH of_state AS (
        UPDATE state SET exchanges = exchanges + $1::bigint, last_exchange = $2::bigint,
            last_conversation = greatest(last_conversation, $3::bigint), part = $4::integer
    ), of_part AS (
        UPDATE part SET began = coalesce(began, clock_timestamp()), first_id = coalesce(first_id, $5::bigint),
            last_id = $2::bigint, oldest = least(oldest, $6::bigint), newest = greatest(newest, $7::bigint),
            exchanges = exchanges + $1::bigint, bytes = bytes + $8::bigint
        WHERE number = $4::integer AND $1::bigint > 0
    ), of_server AS (
        UPDATE server SET alive = now() WHERE key = ANY ($9::bigint[])
    ), of_batch AS (
        INSERT INTO batch SELECT * FROM unnest($9::bigint[], $10::bigint[], $11::bigint[])
    )
    SELECT pg_notify('echoic', ($2::bigint)::text)";

impl Statements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            state: client.prepare(STATE).await?,
            copy: client.prepare(rows::COPY).await?,
            finish: client.prepare(FINISH).await?,
        })
    }
}

/// The state of the record when the lock was taken.
struct State {
    part: i32,
    last_exchange: ExchangeId,
    last_conversation: u64,
    room: Room,
}

/// What an append adds to the counters.
struct Added {
    exchanges: u64,
    size: u64,
    times: (Micros, Micros),
    last_conversation: u64,
    /// Of each batch: key of its server, number, first id.
    batches: (Vec<i64>, Vec<i64>, Vec<i64>),
}

impl Session {
    /// Stores batches in the transaction that was begun with the lock for appends, and commits it. Returns the id of the first
    /// exchange of each, and the room left in the partition.
    pub(super) async fn append(
        &mut self,
        pending: Pending,
        batches: &[Arc<Batch>],
        limits: Limits,
    ) -> Result<(Vec<ExchangeId>, Room), Error> {
        let ids = batches.iter().map(|batch| batch.id());
        let stored = self.servers.stored(&self.client, ids);
        let (mut state, mut stored) = try_join(self.state(), stored).await?;
        for (server, progress) in stored.servers() {
            let known = self.servers.get_mut(server);
            known.catch_up(&self.client, progress).await?;
        }
        if state.room.is_used_up(limits) && state.room.has_next {
            state.part += 1;
            state.room.has_next = false;
        }
        let (mut first_ids, mut copied) = (Vec::new(), vec![rows::HEADER.to_vec()]);
        let (mut events, mut added) = (Events::default(), Added::after(&state));
        let mut next = state.last_exchange + 1;
        for (batch, rows) in batches.iter().zip(pending.0) {
            if let Some(first) = stored.get(batch.id()) {
                first_ids.push(first);
                continue;
            }
            stored.add(batch.id(), next);
            first_ids.push(next);
            let server = self.servers.get_mut(batch.server.id);
            server.stored(batch.number);
            added.batch(server.key, batch, next, &rows);
            if rows.exchanges > 0 {
                copied.push(rows.with_ids(next, state.part));
            }
            self.collect(batch, &mut next, &mut events).await?;
        }
        if added.batches.0.is_empty() {
            self.client.batch_execute("ROLLBACK").await?;
            return Ok((first_ids, state.room));
        }
        added.last_conversation = added.last_conversation.max(events.last_conversation());
        self.copy(copied).await?;
        self.finish(&state, &events, &added).await?;
        state.room.all_bytes += added.size;
        Ok((first_ids, state.room))
    }

    async fn state(&self) -> Result<State, Error> {
        let row = self.client.query_one(&self.statements.state, &[]).await?;
        let number = |at: usize| row.get::<_, i64>(at).cast_unsigned();
        Ok(State {
            part: row.get(0),
            last_exchange: number(1),
            last_conversation: number(2),
            room: Room {
                part_bytes: number(3),
                part_seconds: row.get(4),
                has_next: row.get(5),
                all_bytes: number(6),
            },
        })
    }

    /// Returns the key of an endpoint, which is added if it is new.
    async fn endpoint(&mut self, info: &EndpointInfo) -> Result<i64, Error> {
        if let Some(key) = self.endpoints.get(info) {
            return Ok(*key);
        }
        let (name, service) = (plain(&info.name), plain(&info.service));
        let (proto, framing) = (info.proto.word(), info.framing.to_string());
        let row: [&(dyn ToSql + Sync); 4] = [&name, &proto, &service, &framing];
        let sql = "INSERT INTO endpoint (name, proto, service, framing) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
        self.client.execute(sql, &row).await?;
        let sql = "SELECT id FROM endpoint WHERE name = $1 AND proto = $2 AND service = $3 AND framing = $4";
        let key = self.client.query_one(sql, &row).await?.get(0);
        self.endpoints.insert(info.clone(), key);
        Ok(key)
    }

    /// Collects the other events of a batch, and advances `next` over its runs.
    async fn collect(
        &mut self,
        batch: &Batch,
        next: &mut ExchangeId,
        events: &mut Events,
    ) -> Result<(), Error> {
        for event in &batch.events {
            match event {
                Event::Run(run) => {
                    take_ids(next, run);
                    self.servers.get_mut(batch.server.id).counts.add(run, batch);
                    events.saw(run.conversation);
                }
                Event::Opened(opened) => {
                    let endpoint = self.endpoint(&opened.endpoint_info).await?;
                    let server = self.servers.get_mut(batch.server.id).key;
                    events.open(opened, server, endpoint, *next);
                }
                Event::Mark(mark) => {
                    let server = self.servers.get_mut(batch.server.id).key;
                    events.mark(mark, server);
                }
                Event::Ended(ended) => {
                    let counts = &mut self.servers.get_mut(batch.server.id).counts;
                    events.end(ended, counts.take(ended.conversation), *next - 1);
                }
            }
        }
        Ok(())
    }

    async fn copy(&self, mut copied: Vec<Vec<u8>>) -> Result<(), Error> {
        if copied.len() == 1 {
            return Ok(());
        }
        copied.push(rows::TRAILER.to_vec());
        let sink = self.client.copy_in(&self.statements.copy).await?;
        let mut sink = pin!(sink);
        for chunk in copied {
            sink.feed(bytes::Bytes::from(chunk)).await?;
        }
        sink.finish().await.map(drop)
    }

    /// Writes everything but the runs, and commits.
    async fn finish(&mut self, state: &State, events: &Events, added: &Added) -> Result<(), Error> {
        let last = state.last_exchange + added.exchanges;
        let is_due = self.servers.all_mut().any(|known| known.is_due(last));
        // Sent together: the database answers them one after the other, and the network is waited for once. If one fails, the
        // commit is a rollback.
        let mut statements = events.statements(&self.client);
        statements.push(Box::pin(self.write_state(state, added)));
        if !is_due {
            statements.push(Box::pin(self.client.batch_execute("COMMIT")));
            return try_join_all(statements).await.map(drop);
        }
        try_join_all(statements).await?;
        for known in self.servers.all_mut() {
            known.write_due(&self.client, last).await?;
        }
        self.client.batch_execute("COMMIT").await
    }

    async fn write_state(&self, state: &State, added: &Added) -> Result<(), Error> {
        let signed = u64::cast_signed;
        let (servers, numbers, first_ids) = &added.batches;
        self.client
            .execute(
                &self.statements.finish,
                &[
                    &signed(added.exchanges),
                    &signed(state.last_exchange + added.exchanges),
                    &signed(added.last_conversation),
                    &state.part,
                    &signed(state.last_exchange + 1),
                    &added.times.0,
                    &added.times.1,
                    &signed(added.size),
                    servers,
                    numbers,
                    first_ids,
                ],
            )
            .await
            .map(drop)
    }
}

impl Added {
    fn after(state: &State) -> Self {
        Self {
            exchanges: 0,
            size: 0,
            times: (Micros::MAX, Micros::MIN),
            last_conversation: state.last_conversation,
            batches: (Vec::new(), Vec::new(), Vec::new()),
        }
    }

    fn batch(&mut self, server: i64, batch: &Batch, first: ExchangeId, rows: &Rows) {
        let (servers, numbers, first_ids) = &mut self.batches;
        servers.push(server);
        numbers.push(batch.number.cast_signed());
        first_ids.push(first.cast_signed());
        self.exchanges += rows.exchanges;
        self.size += rows.size;
        self.times.0 = self.times.0.min(rows.times.0);
        self.times.1 = self.times.1.max(rows.times.1);
    }
}
