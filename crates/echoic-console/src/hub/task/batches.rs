//! Adds what the recorder publishes, and what only the store has.

use std::{
    collections::{BTreeSet, HashSet},
    future::Future,
    sync::Arc,
    time::Duration,
};

use echoic_core::{
    event::{Batch, ConversationId, Event, ExchangeId, take_ids},
    filter::{Atom, Filter, Ranges},
    store::ListedConversation,
};
use echoic_recorder::wall_clock_now;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};

use super::{
    super::{
        message,
        queue::Missed,
        reading::{READ_MAX, Reading},
    },
    STORE_WITHIN, Task,
};

/// Longest wait for the number of exchanges in a gap.
const COUNT_WITHIN: Duration = Duration::from_secs(2);

/// Most conversations that are looked up at a time.
const LOOKED_UP_AT_ONCE: usize = 32;

impl Task {
    /// Adds the events of a batch. Exchanges without an id are not committed: they are shown once they are.
    pub(super) async fn batch(&mut self, first_id: ExchangeId, batch: &Batch) {
        let exchanges = batch.exchanges();
        let last_id = (first_id + exchanges).saturating_sub(1);
        let is_new = first_id > 0 && exchanges > 0 && last_id > self.live.position;
        if is_new {
            // Others have recorded what lies between, or it was published before its commit.
            self.fill(first_id - 1).await;
        }
        self.learn(batch).await;
        let now = wall_clock_now();
        let mut next = first_id;
        for event in &batch.events {
            match event {
                Event::Opened(opened) => self.opened(opened, &batch.server),
                Event::Ended(ended) => self.live.ended(ended),
                Event::Mark(mark) => self.live.mark(mark),
                Event::Run(run) => {
                    let first = take_ids(&mut next, run);
                    if self.live.conversation(run.conversation).is_none() {
                        if is_new {
                            let last = first + u64::from(run.count) - 1;
                            self.live.skip_to(
                                last,
                                Missed {
                                    ids: Some((first, last)),
                                    exchanges: run.count.into(),
                                },
                            );
                        }
                        continue;
                    }
                    self.live.count_run(run);
                    if is_new {
                        self.live.run(run, first, batch, now);
                    }
                }
            }
        }
        if first_id > 0
            && let Some(Event::Run(run)) = batch
                .events
                .iter()
                .find(|event| matches!(event, Event::Run(_)))
        {
            self.live.second.committed(run.at, now);
        }
        if is_new {
            self.live.position = last_id;
        }
    }

    /// Finds the conversations of a batch that opened before the task began. They are looked up together, so that a slow store
    /// delays the events once. Those that are not found in time stay unknown.
    async fn learn(&mut self, batch: &Batch) {
        let mut opened = HashSet::new();
        let mut unknown = BTreeSet::new();
        for event in &batch.events {
            let id = match event {
                Event::Opened(opening) => {
                    opened.insert(opening.conversation);
                    continue;
                }
                Event::Ended(ended) => ended.conversation,
                Event::Mark(mark) => mark.conversation,
                Event::Run(run) => run.conversation,
            };
            // Marks of the record itself have the conversation 0.
            if id > 0 && !opened.contains(&id) && self.live.conversation(id).is_none() {
                unknown.insert(id);
            }
        }
        let store = &self.shared.store;
        let found = look_up(unknown, |id| {
            let store = Arc::clone(store);
            async move { store.conversation(id).await.ok().flatten() }
        });
        for ListedConversation {
            mut conversation,
            exchanges,
            ..
        } in found.await
        {
            // The events that follow report the end.
            (conversation.ended, conversation.half_closed) = (None, None);
            self.live.learn(&Arc::new(conversation), exchanges);
        }
    }

    /// Adds the exchanges up to an id that are in the store and did not come live.
    pub(super) async fn fill(&mut self, to: ExchangeId) {
        let from = self.live.position;
        if to <= from {
            return;
        }
        if to - from <= READ_MAX {
            let mut reading = Reading::new(&self.shared.store, Filter::all(), from, to);
            let now = wall_clock_now();
            loop {
                match reading.next().await {
                    Ok(Some(exchanges)) => exchanges
                        .iter()
                        .for_each(|exchange| self.live.stored(exchange, now)),
                    Ok(None) => break,
                    Err(_) => {
                        let read = reading.at();
                        let missed = Missed {
                            ids: Some((read + 1, to)),
                            exchanges: to - read,
                        };
                        self.live.skip_to(to, missed);
                        break;
                    }
                }
            }
            self.live.position = to;
            return;
        }
        self.live.flush();
        let ids = Ranges::from_iter([from + 1..=to]);
        for group in &self.live.groups {
            let filter = group.filter().and(Atom::Id(ids.clone()));
            let count = self.shared.store.count(&filter, wall_clock_now());
            let count = timeout(COUNT_WITHIN, count).await;
            let exchanges = count.ok().and_then(Result::ok).unwrap_or(to - from);
            group.send(&message::gap(Missed {
                ids: Some((from + 1, to)),
                exchanges,
            }));
        }
        self.live.position = to;
    }
}

/// Looks conversations up, a bounded number at a time. Returns those that were found in time.
async fn look_up<F>(
    ids: BTreeSet<ConversationId>,
    find: impl Fn(ConversationId) -> F,
) -> Vec<ListedConversation>
where
    F: Future<Output = Option<ListedConversation>> + Send + 'static,
{
    let until = Instant::now() + STORE_WITHIN;
    let mut ids = ids.into_iter();
    // Those that still run are given up when the set is dropped.
    let mut running = JoinSet::new();
    let mut all = Vec::new();
    loop {
        while running.len() < LOOKED_UP_AT_ONCE
            && let Some(id) = ids.next()
        {
            running.spawn(find(id));
        }
        match timeout_at(until, running.join_next()).await {
            Ok(Some(found)) => all.extend(found.ok().flatten()),
            Ok(None) | Err(_) => return all,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::sleep;

    use super::*;

    /// A store that needs `each` for a conversation, and has none. Returns the number of conversations that were looked up and
    /// the longest queue.
    async fn looked_up(ids: u64, each: Duration) -> (usize, usize) {
        let running = Arc::new(AtomicUsize::new(0));
        let (done, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let found = look_up((1..=ids).collect(), |_| {
            let (running, done, most) = (running.clone(), done.clone(), most.clone());
            async move {
                let now = running.fetch_add(1, Ordering::Relaxed) + 1;
                most.fetch_max(now, Ordering::Relaxed);
                sleep(each).await;
                running.fetch_sub(1, Ordering::Relaxed);
                done.fetch_add(1, Ordering::Relaxed);
                None
            }
        });
        assert!(found.await.is_empty());
        (done.load(Ordering::Relaxed), most.load(Ordering::Relaxed))
    }

    #[tokio::test(start_paused = true)]
    async fn slow_store_delays_the_events_once_however_many_are_unknown() {
        let started = Instant::now();
        let (done, most) = looked_up(20, STORE_WITHIN / 2).await;
        assert_eq!((done, most), (20, 20));
        assert!(started.elapsed() < STORE_WITHIN + Duration::from_millis(10));
        let started = Instant::now();
        let (done, most) = looked_up(10_000, STORE_WITHIN * 4).await;
        assert_eq!((done, most), (0, LOOKED_UP_AT_ONCE));
        assert!(started.elapsed() < STORE_WITHIN + Duration::from_millis(10));
    }
}
