//! The hub's task: collects what happens, and sends it at most ten times a second.

mod batches;

use std::{collections::HashMap, future::pending, mem, sync::Arc, time::Duration};

use echoic_core::{
    control::{EndpointId, EndpointState},
    event::{ConversationId, ExchangeId, Opened, ServerInfo},
    filter::Filter,
    store::{Order, Page, Stats, Store, StoreError},
};
use echoic_recorder::{Recorder, Seen, Watcher, wall_clock_now};
use serde_json::json;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use super::{
    Joining, Shared,
    group::Group,
    live::Live,
    message,
    poll::{Poll, Polled},
    queue::{Message, Missed},
    tick::{Figures, tick},
};
use crate::json::EndpointJson;

/// Time between two flushes.
const FLUSH_EVERY: Duration = Duration::from_millis(100);

/// Time between two polls of the store of another process.
const POLL_EVERY: Duration = Duration::from_millis(200);

/// The same if the store tells of exchanges, so that only conversations without one are looked for.
const POLL_TOLD_EVERY: Duration = Duration::from_millis(500);

/// Least time between two polls, however often the store tells of exchanges.
const POLL_REST: Duration = Duration::from_millis(50);

/// Longest wait for a figure of the store. The events must not wait for a store that is busy or fails.
const STORE_WITHIN: Duration = Duration::from_millis(500);

/// Ticks between two heartbeats.
const HEARTBEAT_TICKS: u64 = 15;

/// Ticks between two reads of the store's figures.
const STATS_TICKS: u64 = 5;

/// The hub's task.
pub(super) struct Task {
    shared: Arc<Shared>,
    live: Live,
    source: Source,
    flushed: Instant,
    ticks: u64,
    /// Last exchange that another process may have recorded.
    elsewhere: Option<ExchangeId>,
    /// Exchanges lost as far as subscribers know.
    lost: u64,
    stats: Stats,
    oldest: ExchangeId,
    states: HashMap<EndpointId, (EndpointState, Option<String>)>,
    explain: Explain,
}

/// Where events come from.
enum Source {
    Feed(Watcher),
    Poll(Poll, Interval),
    /// The recorder has ended.
    Ended,
}

/// Something that the source has.
enum Next {
    Seen(Seen),
    Poll,
    End,
}

/// The conversation that is explained.
enum Explain {
    None,
    /// The next that opens.
    Armed,
    /// This one, with the number of calls that subscribers know.
    Calls(ConversationId, usize),
}

/// Marks the hub as idle after a panic: the next subscriber starts another task.
struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.inbox().is_running = false;
        }
    }
}

impl Source {
    /// Waits for the next event. `store` and `position` are the store and the last exchange that is known.
    async fn next(&mut self, store: &dyn Store, position: ExchangeId) -> Next {
        match self {
            Self::Feed(watcher) => watcher.next().await.map_or(Next::End, Next::Seen),
            Self::Poll(_, interval) => {
                let changed = async {
                    match store.changed(position) {
                        Some(changed) => {
                            sleep(POLL_REST).await;
                            changed.await;
                        }
                        None => pending().await,
                    }
                };
                tokio::select! {
                    _ = interval.tick() => {}
                    () = changed => interval.reset(),
                }
                Next::Poll
            }
            Self::Ended => pending().await,
        }
    }
}

impl Task {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let source = match &shared.recorder {
            Some(recorder) => Source::Feed(recorder.watch()),
            None => {
                let is_told = shared.store.changed(ExchangeId::MAX).is_some();
                let period = if is_told { POLL_TOLD_EVERY } else { POLL_EVERY };
                Source::Poll(Poll::default(), every(period))
            }
        };
        Self {
            lost: shared.recorder.as_ref().map_or(0, |one| one.status().lost),
            shared,
            live: Live::default(),
            source,
            flushed: Instant::now(),
            ticks: 0,
            elsewhere: None,
            stats: Stats::default(),
            oldest: 0,
            states: HashMap::new(),
            explain: Explain::None,
        }
    }

    /// Runs until there is no subscriber.
    pub(super) async fn run(mut self) {
        let _running = Running(Arc::clone(&self.shared));
        while self.start().await.is_err() {
            // Those who join give up in time, and begin again.
            sleep(STORE_WITHIN).await;
            if self.is_done() {
                return;
            }
        }
        let mut second = every(Duration::from_secs(1));
        second.tick().await;
        let shared = Arc::clone(&self.shared);
        while self.take_inbox() {
            let flush_at = self.flushed + FLUSH_EVERY;
            tokio::select! {
                biased;
                () = shared.wake.notified() => {}
                () = sleep_until(flush_at), if self.live.has_events() => self.flush(),
                _ = second.tick() => self.tick().await,
                next = self.source.next(&*shared.store, self.live.position) => self.take(next).await,
            }
        }
    }

    /// Finds where the live events begin: what is stored now, and published from now on, is not new.
    async fn start(&mut self) -> Result<(), StoreError> {
        let store = &self.shared.store;
        self.live.position = store.last().await?.exchange;
        self.stats = store.stats().await?;
        if let Source::Poll(poll, _) = &mut self.source {
            poll.start(&**store, &mut self.live).await?;
        }
        self.endpoints_changed();
        Ok(())
    }

    /// Ends all streams, and begins with the record that has taken the place of the one before: subscribers begin anew too.
    async fn begin_anew(&mut self) {
        self.flush();
        self.live.groups.iter().for_each(Group::close);
        self.live = Live::default();
        self.source = Source::Poll(Poll::default(), every(POLL_EVERY));
        log_error(self.start().await);
    }

    /// Whether nobody has subscribed or waits to, which ends the task.
    fn is_done(&mut self) -> bool {
        self.live.groups.retain_mut(Group::is_used);
        let mut inbox = self.shared.inbox();
        inbox.joining.retain(|joining| !joining.queue.is_gone());
        let is_done = inbox.joining.is_empty() && self.live.groups.is_empty();
        if is_done {
            inbox.is_running = false;
        }
        is_done
    }

    /// Does what waits in the inbox. Returns false if the task ends.
    fn take_inbox(&mut self) -> bool {
        let (messages, joining, endpoints_changed, explain) = {
            let mut inbox = self.shared.inbox();
            // A subscriber begins between two events: what waits now is of exchanges that it reads from the store.
            let can_join = !self.live.has_events();
            (
                mem::take(&mut inbox.messages),
                can_join.then(|| mem::take(&mut inbox.joining)),
                mem::take(&mut inbox.endpoints_changed),
                mem::take(&mut inbox.explain),
            )
        };
        for joining in joining.into_iter().flatten() {
            self.join(joining);
        }
        for message in &messages {
            self.send(message);
        }
        if endpoints_changed {
            self.endpoints_changed();
        }
        if explain {
            self.explain = Explain::Armed;
        }
        if self.shared.inbox().is_closed {
            self.flush();
            self.live.groups.iter().for_each(Group::close);
            let mut inbox = self.shared.inbox();
            inbox.joining.clear();
            inbox.is_running = false;
            return false;
        }
        !self.is_done()
    }

    fn join(&mut self, joining: Joining) {
        let Joining {
            query,
            filter,
            queue,
            joined,
        } = joining;
        let known = self
            .live
            .groups
            .iter_mut()
            .position(|group| group.query == query);
        let at = known.unwrap_or_else(|| {
            self.live.groups.push(Group::new(query, filter));
            self.live.groups.len() - 1
        });
        self.live.groups[at].subscribe(queue);
        let _ = joined.send(self.live.position);
    }

    fn send(&self, message: &Message) {
        for group in &self.live.groups {
            group.send(message);
        }
    }

    fn flush(&mut self) {
        self.flushed = Instant::now();
        self.live.flush();
        self.send_calls();
    }

    async fn take(&mut self, next: Next) {
        match next {
            Next::Seen(Seen::Batch { first_id, batch }) => self.batch(first_id, &batch).await,
            Next::Seen(Seen::Gap(missed)) => {
                // The exchanges are in the store, or counted as lost.
                for opened in &missed.opened {
                    self.opened(opened, &missed.server);
                }
                missed.ended.iter().for_each(|ended| self.live.ended(ended));
            }
            Next::Seen(Seen::RecorderStatus(status)) => {
                if let (None, Some((_, last))) = (status.failure, status.recovered) {
                    self.fill(last).await;
                }
            }
            Next::Poll => {
                if let Source::Poll(poll, _) = &mut self.source {
                    match poll.poll(&self.shared.store, &mut self.live).await {
                        Ok(Polled::Same) => {}
                        Ok(Polled::Replaced) => self.begin_anew().await,
                        Err(error) => log_error(Err(error)),
                    }
                }
            }
            Next::End => self.source = Source::Ended,
        }
    }

    async fn tick(&mut self) {
        self.ticks += 1;
        let store = Arc::clone(&self.shared.store);
        if self.ticks.is_multiple_of(HEARTBEAT_TICKS) {
            let text = message::HEARTBEAT.into();
            self.send(&Message { text, missed: None });
        }
        if self.ticks % STATS_TICKS == 1 {
            self.read_stats().await;
        }
        if let Source::Poll(poll, _) = &mut self.source {
            log_error(poll.check(&*store, &mut self.live).await);
        } else {
            if let Some(last) = self.elsewhere.take() {
                self.fill(last).await;
            }
            if let Ok(Ok(last)) = timeout(STORE_WITHIN, store.last()).await {
                self.elsewhere = Some(last.exchange).filter(|last| *last > self.live.position);
            }
        }
        self.report_lost();
        self.endpoints_changed();
        let shared = &self.shared;
        let control = shared.control.as_ref();
        let figures = Figures {
            recorder: shared.recorder.as_ref().map(Recorder::status),
            server: control.map(|control| (control.counts(), control.endpoints())),
            store: self.stats,
        };
        let message = tick(&mut self.live, &figures);
        self.send(&message);
        self.send_calls();
    }

    /// Reads the figures of the store, and reports what was pruned.
    async fn read_stats(&mut self) {
        let store = &self.shared.store;
        if let Ok(Ok(stats)) = timeout(STORE_WITHIN, store.stats()).await {
            self.stats = stats;
        }
        let page = Page {
            order: Order::OldestFirst,
            beyond: None,
            until: None,
            limit: 1,
            now: wall_clock_now(),
        };
        let all = Filter::all();
        let found = timeout(STORE_WITHIN, store.find(&all, page)).await;
        let Ok(Ok(found)) = found else {
            return;
        };
        let oldest = found.exchanges.first().map_or(0, |oldest| oldest.id);
        if self.oldest > 0 && oldest != self.oldest {
            self.send(&message::needed("prune", &json!({"oldest": oldest})));
        }
        self.oldest = oldest;
    }

    /// Reports exchanges that will never be in the record.
    fn report_lost(&mut self) {
        let Some(recorder) = &self.shared.recorder else {
            return;
        };
        let lost = recorder.status().lost;
        if lost > self.lost {
            let exchanges = lost - self.lost;
            self.live.flush();
            self.live.miss(Missed {
                ids: None,
                exchanges,
            });
        }
        self.lost = lost;
    }

    /// Reports endpoints that have another state, or whose service fails or answers again.
    fn endpoints_changed(&mut self) {
        let Some(control) = &self.shared.control else {
            return;
        };
        for status in control.endpoints() {
            let now = (status.state, status.failing.clone());
            let before = self.states.insert(status.id, now.clone());
            if before.is_some_and(|before| before != now) {
                let json = EndpointJson::from(&status);
                self.send(&message::needed("endpoint", &json));
            }
        }
    }

    /// Adds a conversation that has opened. It may be the one that is explained.
    fn opened(&mut self, opened: &Opened, server: &Arc<ServerInfo>) {
        self.live.opened(opened, server);
        if let (Explain::Armed, Some(control)) = (&self.explain, &self.shared.control)
            && control.socket_calls(opened.conversation).is_some()
        {
            self.explain = Explain::Calls(opened.conversation, 0);
        }
    }

    /// Reports the socket calls of the conversation that is explained.
    fn send_calls(&mut self) {
        let (Explain::Calls(id, known), Some(control)) = (&self.explain, &self.shared.control)
        else {
            return;
        };
        let (id, known) = (*id, *known);
        let Some(calls) = control.socket_calls(id) else {
            self.explain = Explain::None;
            return;
        };
        if calls.len() > known {
            let data = json!({"conv": id, "calls": calls});
            self.send(&message::replaceable("explain", &data));
        }
        self.explain = Explain::Calls(id, calls.len());
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

fn log_error(result: Result<(), StoreError>) {
    if let Err(error) = result {
        tracing::debug!("cannot read the record for the live events: {error}");
    }
}
