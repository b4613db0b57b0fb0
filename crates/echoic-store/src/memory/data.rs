//! The data of the store in memory.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque, btree_map::Entry},
    iter,
    ops::Bound,
    sync::Arc,
};

use echoic_core::{
    event::{Batch, ConversationId, Event, ExchangeId, Mark, Marked, Micros, RunEvent, take_ids},
    exchange::{Conversation, Exchange, ExchangeRef, split_run},
    filter::Expr,
    store::{
        ConversationPage, FoundConversations, Gap, InvalidLabel, LabelChange, Labelled, Labels,
        Last, ListedConversation, MessageBytes, Order, Stats, TagCount,
    },
};

use crate::batches::KnownBatches;

/// Runs copied out per lock of the store: appends wait only for this, not for a whole search.
const CHUNK: usize = 1_000;

/// Maximum of marks of a conversation.
const MARKS_MAX: usize = 1_000;

/// Maximum of separate gaps; older ones are merged into the oldest.
const GAPS_MAX: usize = 10_000;

/// A run with its conversation and the labels of its exchanges.
pub(super) type StoredWith = (Arc<Stored>, Arc<Conversation>, BTreeMap<ExchangeId, Labels>);

/// The stored events, in the order of ids.
#[derive(Debug, Default)]
pub(super) struct Data {
    runs: VecDeque<Arc<Stored>>,
    pub(super) conversations: BTreeMap<ConversationId, Known>,
    /// Labels of exchanges, where there are any.
    labels: BTreeMap<ExchangeId, Labels>,
    /// Gaps by the time of their marks.
    pub(super) gaps: BTreeMap<Micros, Gap>,
    /// Ended conversations, each with the last exchange id at that moment. Once that exchange is removed, so are all runs
    /// of the conversation.
    ended: VecDeque<(ExchangeId, ConversationId)>,
    bytes: u64,
    /// The size of the last [`Retention`]: appends do not exceed it.
    pub(super) retained_bytes: Option<u64>,
    pub(super) exchanges: u64,
    pub(super) last: Last,
    /// Last reserved id of a conversation.
    pub(super) reserved: ConversationId,
    batches: KnownBatches,
}

/// A conversation, and the number of its stored exchanges with their bytes.
#[derive(Debug)]
pub(super) struct Known {
    conversation: Arc<Conversation>,
    exchanges: u64,
    bytes: MessageBytes,
    /// The oldest [`MARKS_MAX`] marks.
    pub(super) marks: Vec<Mark>,
}

impl Known {
    pub(super) fn listed(&self) -> ListedConversation {
        ListedConversation {
            conversation: (*self.conversation).clone(),
            exchanges: self.exchanges,
            so_far: self.conversation.ended.is_none().then_some(self.bytes),
        }
    }
}

/// A run with its bytes.
#[derive(Debug)]
pub(super) struct Stored {
    /// Id of its first exchange.
    pub(super) id: ExchangeId,
    run: RunEvent,
    request: Box<[u8]>,
    reply: Box<[u8]>,
    lengths: Box<[u32]>,
}

impl Stored {
    pub(super) fn last(&self) -> ExchangeId {
        self.id + u64::from(self.run.count) - 1
    }

    fn bytes(&self) -> u64 {
        let bytes = self.request.len() + self.reply.len() + size_of_val(&*self.lengths);
        (bytes + size_of::<Self>()) as u64
    }

    pub(super) fn exchanges<'a>(
        &'a self,
        conversation: &'a Arc<Conversation>,
        labels: &'a BTreeMap<ExchangeId, Labels>,
    ) -> impl Iterator<Item = Exchange> {
        split_run(
            &self.run,
            self.id,
            &self.request,
            &self.reply,
            &self.lengths,
            conversation,
        )
        .map(|exchange| ExchangeRef {
            labels: labels.get(&exchange.id).unwrap_or_else(|| Labels::none()),
            ..exchange
        })
        .map(ExchangeRef::into_owned)
    }

    /// Returns `count` exchanges of the run after the first `before` as a run of their own.
    fn part(&self, before: u32, count: u32) -> Self {
        let bytes = |pairs: &[u32]| -> (usize, usize) {
            pairs
                .chunks_exact(2)
                .fold((0, 0), |(request, reply), pair| {
                    (request + pair[0] as usize, reply + pair[1] as usize)
                })
        };
        let (start, end) = (2 * before as usize, 2 * (before + count) as usize);
        let lengths = &self.lengths[start..end];
        let (request, reply) = bytes(&self.lengths[..start]);
        let own = bytes(lengths);
        let first = u64::from(before);
        Self {
            id: self.id + first,
            run: RunEvent {
                n: self.run.n + first,
                count,
                reads: if before == 0 { self.run.reads } else { 1 },
                reply_offset: self.run.reply_offset + reply as u64,
                ..self.run.clone()
            },
            request: self.request[request..request + own.0].into(),
            reply: self.reply[reply..reply + own.1].into(),
            lengths: lengths.into(),
        }
    }
}

/// Approximate size of labels in bytes, beyond what is counted without any.
fn label_bytes(labels: &Labels) -> u64 {
    let tags: usize = labels
        .tags
        .iter()
        .map(|tag| size_of::<String>() + tag.len())
        .sum();
    let note = labels.note.as_ref().map_or(0, String::len);
    (tags + note) as u64
}

/// Approximate size of a conversation in bytes.
const CONVERSATION_BYTES: u64 = 2 * size_of::<Conversation>() as u64;

impl Data {
    /// Stores a batch unless it is stored already. Returns the id of its first exchange.
    pub(super) fn batch(&mut self, batch: &Batch) -> ExchangeId {
        if let Some(first_id) = self.batches.get(batch.id()) {
            return first_id;
        }
        let first_id = self.last.exchange + 1;
        let mut next = first_id;
        for event in &batch.events {
            self.event(event, batch, &mut next);
        }
        self.batches.add(batch.id(), first_id);
        first_id
    }

    /// Stores one event; `next` is the id of the next exchange.
    fn event(&mut self, event: &Event, batch: &Batch, next: &mut ExchangeId) {
        match event {
            Event::Opened(opened) => {
                let id = opened.conversation;
                self.last.conversation = self.last.conversation.max(id);
                let conversation = Conversation::new(opened.clone(), Arc::clone(&batch.server));
                // A repeated opening must not replace the later state of the conversation.
                if let Entry::Vacant(vacant) = self.conversations.entry(id) {
                    vacant.insert(Known {
                        conversation: Arc::new(conversation),
                        exchanges: 0,
                        bytes: MessageBytes::default(),
                        marks: Vec::new(),
                    });
                    self.bytes += CONVERSATION_BYTES;
                }
            }
            Event::Run(run) => {
                self.last.conversation = self.last.conversation.max(run.conversation);
                let stored = Stored {
                    id: take_ids(next, run),
                    run: run.clone(),
                    request: batch.bytes(run.request).into(),
                    reply: batch.bytes(run.reply).into(),
                    lengths: batch.lengths(run.lengths).into(),
                };
                self.bytes += stored.bytes();
                self.exchanges += u64::from(run.count);
                if let Some(known) = self.conversations.get_mut(&run.conversation) {
                    known.exchanges += u64::from(run.count);
                    known.bytes.requests += stored.request.len() as u64;
                    known.bytes.replies += stored.reply.len() as u64;
                }
                self.last.exchange = stored.last();
                self.runs.push_back(Arc::new(stored));
            }
            Event::Mark(mark) => {
                if let Marked::Gap { exchanges, since } = mark.what {
                    self.set_gap(mark.at, since, exchanges);
                }
                if let Some(known) = self.conversations.get_mut(&mark.conversation) {
                    if let Marked::HalfClosed { .. } = mark.what {
                        Arc::make_mut(&mut known.conversation).half_closed = Some(mark.at);
                    }
                    if known.marks.len() < MARKS_MAX {
                        known.marks.push(mark.clone());
                    }
                }
            }
            Event::Ended(ended) => {
                if let Some(known) = self.conversations.get_mut(&ended.conversation)
                    && known.conversation.ended.is_none()
                {
                    let end = (ended.at, ended.ending.clone());
                    Arc::make_mut(&mut known.conversation).ended = Some(end);
                    self.ended
                        .push_back((self.last.exchange, ended.conversation));
                }
            }
        }
    }

    fn set_gap(&mut self, at: Micros, since: Micros, exchanges: u64) {
        let new = Gap {
            since,
            exchanges: 0,
        };
        let gap = self.gaps.entry(at).or_insert(new);
        // A repeated gap may have grown.
        gap.exchanges = gap.exchanges.max(exchanges);
        if self.gaps.len() > GAPS_MAX
            && let Some((_, oldest)) = self.gaps.pop_first()
            && let Some(mut next) = self.gaps.first_entry()
        {
            next.get_mut().exchanges += oldest.exchanges;
        }
    }

    pub(super) fn list(&self, condition: &Expr, page: ConversationPage) -> FoundConversations {
        let from = match (page.order, page.beyond) {
            (Order::OldestFirst, Some(id)) => (Bound::Excluded(id), Bound::Unbounded),
            (Order::NewestFirst, Some(id)) => (Bound::Unbounded, Bound::Excluded(id)),
            (_, None) => (Bound::Unbounded, Bound::Unbounded),
        };
        let mut ids = self.conversations.range(from);
        let in_order = iter::from_fn(|| match page.order {
            Order::OldestFirst => ids.next(),
            Order::NewestFirst => ids.next_back(),
        });
        let mut matching = in_order.map(|(_, known)| known).filter(|known| {
            let is_without_exchanges = known.exchanges == 0 && known.conversation.ended.is_some();
            (is_without_exchanges || !page.without_exchanges)
                && condition.matches(&*known.conversation, page.now)
        });
        let mut found = FoundConversations::default();
        for known in matching.by_ref().take(page.limit) {
            found.conversations.push(known.listed());
        }
        let last = found.conversations.last();
        found.next = last
            .map(|listed| listed.conversation.id)
            .filter(|_| matching.next().is_some());
        found
    }

    pub(super) fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        stats.exchanges = self.exchanges;
        stats.conversations = self.conversations.len() as u64;
        stats.bytes = self.bytes;
        stats.oldest = self.runs.front().map(|stored| stored.run.at);
        stats.newest = self.runs.back().map(|stored| stored.run.at);
        stats
    }

    /// Removes up to [`CHUNK`] runs that are older than `old` or exceed `bytes_max`. Returns the number of exchanges removed.
    pub(super) fn prune(&mut self, old: Micros, bytes_max: u64) -> u64 {
        let mut removed = 0;
        for _ in 0..CHUNK {
            let is_old = self.runs.front().is_some_and(|stored| stored.run.at < old);
            if !is_old && !self.exceeds(bytes_max) {
                break;
            }
            removed += self.remove_oldest();
        }
        self.remove_conversations(old, bytes_max);
        self.gaps.retain(|at, _| *at >= old);
        removed
    }

    /// Returns up to [`CHUNK`] runs from `beyond` on, with their conversations.
    pub(super) fn chunk(&self, order: Order, beyond: Option<ExchangeId>) -> Vec<StoredWith> {
        let with_conversation = |stored: &Arc<Stored>| self.with_conversation(stored);
        match (order, beyond) {
            (Order::OldestFirst, beyond) => {
                let from = self
                    .runs
                    .partition_point(|s| beyond.is_some_and(|b| s.last() <= b));
                self.runs
                    .range(from..)
                    .take(CHUNK)
                    .map(with_conversation)
                    .collect()
            }
            (Order::NewestFirst, beyond) => {
                let to = self
                    .runs
                    .partition_point(|s| beyond.is_none_or(|b| s.id < b));
                self.runs
                    .range(..to)
                    .rev()
                    .take(CHUNK)
                    .map(with_conversation)
                    .collect()
            }
        }
    }

    fn with_conversation(&self, stored: &Arc<Stored>) -> StoredWith {
        let id = stored.run.conversation;
        let known = self.conversations.get(&id);
        let conversation = known.map_or_else(
            || Arc::new(crate::unknown(id)),
            |known| Arc::clone(&known.conversation),
        );
        let labels = self.labels.range(stored.id..=stored.last());
        let labels = labels.map(|(id, labels)| (*id, labels.clone())).collect();
        (Arc::clone(stored), conversation, labels)
    }

    /// Returns messages of a conversation from the number `from_n` on. Their numbers increase, so a binary search over the runs
    /// finds the first; each step reads on from a run to the next one of the conversation.
    pub(super) fn messages(&self, id: ConversationId, from_n: u64, limit: usize) -> Vec<Exchange> {
        let is_own = |stored: &&Arc<Stored>| stored.run.conversation == id;
        let (mut low, mut high, mut first) = (0, self.runs.len(), self.runs.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let own = self.runs.range(middle..high).position(|run| is_own(&run));
            match own.map(|after| middle + after) {
                Some(at) if self.runs[at].run.n + u64::from(self.runs[at].run.count) <= from_n => {
                    low = at + 1;
                }
                own => {
                    first = own.unwrap_or(first);
                    high = middle;
                }
            }
        }
        let runs = self.runs.range(first..).filter(is_own);
        let exchanges = runs.flat_map(|stored| {
            let (stored, conversation, labels) = self.with_conversation(stored);
            stored.exchanges(&conversation, &labels).collect::<Vec<_>>()
        });
        exchanges
            .skip_while(|exchange| exchange.n < from_n)
            .take(limit)
            .collect()
    }

    /// Applies a change of labels. Returns the number of exchanges or conversations that are stored.
    pub(super) fn label(&mut self, change: &LabelChange) -> Result<u64, InvalidLabel> {
        change.check()?;
        match &change.of {
            Labelled::Exchanges(ids) => {
                let stored = |id: &&ExchangeId| {
                    let after = self.runs.partition_point(|stored| stored.id <= **id);
                    after > 0 && **id <= self.runs[after - 1].last()
                };
                let ids: BTreeSet<ExchangeId> = ids.iter().filter(stored).copied().collect();
                let mut changed = Vec::new();
                for id in &ids {
                    let mut labels = self.labels.get(id).cloned().unwrap_or_default();
                    labels.apply(change)?;
                    changed.push((*id, labels));
                }
                for (id, labels) in changed {
                    self.set_labels(id, labels);
                }
                Ok(ids.len() as u64)
            }
            Labelled::Conversation(id) => {
                let Some(known) = self.conversations.get_mut(id) else {
                    return Ok(0);
                };
                let labels = &mut Arc::make_mut(&mut known.conversation).labels;
                self.bytes = self.bytes.saturating_sub(label_bytes(labels));
                let applied = labels.apply(change);
                self.bytes += label_bytes(labels);
                applied.map(|()| 1)
            }
        }
    }

    fn set_labels(&mut self, id: ExchangeId, labels: Labels) {
        self.bytes += label_bytes(&labels);
        let before = if labels.is_empty() {
            self.labels.remove(&id)
        } else {
            self.labels.insert(id, labels)
        };
        self.bytes -= before.as_ref().map_or(0, label_bytes);
    }

    pub(super) fn tags(&self) -> Vec<TagCount> {
        let mut counts: BTreeMap<&String, (u64, u64)> = BTreeMap::new();
        for tag in self.labels.values().flat_map(|labels| &labels.tags) {
            counts.entry(tag).or_default().0 += 1;
        }
        for known in self.conversations.values() {
            for tag in &known.conversation.labels.tags {
                counts.entry(tag).or_default().1 += 1;
            }
        }
        let counts = counts.into_iter();
        counts
            .map(|(tag, (exchanges, conversations))| TagCount {
                tag: tag.clone(),
                exchanges,
                conversations,
            })
            .collect()
    }

    /// Deletes exchanges, and ended conversations that have none left. Returns the number deleted. One pass over the runs, of some
    /// nanoseconds each.
    pub(super) fn delete(&mut self, ids: &BTreeSet<ExchangeId>) -> u64 {
        let (mut left, mut touched, mut deleted) = (HashSet::new(), HashSet::new(), 0);
        let mut runs = VecDeque::with_capacity(self.runs.len());
        for stored in std::mem::take(&mut self.runs) {
            let of_run = ids.range(stored.id..=stored.last());
            let offsets: Vec<u32> = of_run
                .map(|id| u32::try_from(id - stored.id).unwrap_or(u32::MAX))
                .collect();
            let conversation = stored.run.conversation;
            if offsets.is_empty() {
                left.insert(conversation);
                runs.push_back(stored);
                continue;
            }
            touched.insert(conversation);
            self.bytes -= stored.bytes();
            deleted += offsets.len() as u64;
            let mut next = 0;
            for end in offsets.into_iter().chain([stored.run.count]) {
                if end > next {
                    let part = stored.part(next, end - next);
                    self.bytes += part.bytes();
                    left.insert(conversation);
                    runs.push_back(Arc::new(part));
                }
                next = end + 1;
            }
        }
        self.runs = runs;
        self.exchanges -= deleted;
        for id in ids {
            self.set_labels(*id, Labels::default());
        }
        for id in touched.difference(&left) {
            let known = self.conversations.get(id);
            if known.is_some_and(|known| known.conversation.ended.is_some()) {
                self.remove_conversation(*id);
            }
        }
        deleted
    }

    fn remove_conversation(&mut self, id: ConversationId) {
        if let Some(known) = self.conversations.remove(&id) {
            self.bytes -= CONVERSATION_BYTES + label_bytes(&known.conversation.labels);
        }
    }

    /// Removes the oldest run. Returns the number of exchanges removed.
    pub(super) fn remove_oldest(&mut self) -> u64 {
        let Some(stored) = self.runs.pop_front() else {
            return 0;
        };
        let count = u64::from(stored.run.count);
        self.bytes -= stored.bytes();
        self.exchanges -= count;
        while let Some(first) = self.labels.first_entry()
            && *first.key() <= stored.last()
        {
            self.bytes -= label_bytes(&first.remove());
        }
        count
    }

    /// Whether the store exceeds `bytes_max` even after conversations without runs are removed.
    pub(super) fn exceeds(&mut self, bytes_max: u64) -> bool {
        if self.bytes > bytes_max {
            self.remove_conversations(Micros::MIN, bytes_max);
        }
        self.bytes > bytes_max
    }

    /// Removes conversations without runs that ended before `old`, and others while the store exceeds `bytes_max`.
    fn remove_conversations(&mut self, old: Micros, bytes_max: u64) {
        let first = self
            .runs
            .front()
            .map_or(self.last.exchange + 1, |stored| stored.id);
        while let Some(&(last_run, id)) = self.ended.front() {
            let ended = self
                .conversations
                .get(&id)
                .and_then(|known| known.conversation.ended.as_ref());
            let is_old = ended.is_none_or(|(at, _)| *at < old);
            if last_run >= first || !(is_old || self.bytes > bytes_max) {
                return;
            }
            self.ended.pop_front();
            self.remove_conversation(id);
        }
    }
}
