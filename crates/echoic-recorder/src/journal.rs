//! The journal: records the events of one conversation.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};

use echoic_core::{
    ending::Ending,
    event::{Batch, ConversationId, Ended, Event, Mark, Marked, Micros, Opened, Outcome, RunMeta},
    message::{Replies, Run},
};

use crate::{lock::lock, options::WhenFull, shard::ROUND_BYTES, shared::Shared};

/// Records the events of one conversation. Recording an event takes one lock, which only the recorder's task contends
/// for, and two copies. It never waits, and allocates nothing while the batch has room.
pub struct Journal {
    shared: Arc<Shared>,
    shard: usize,
    conversation: ConversationId,
    active: bool,
    /// No id was left for this conversation, so that nothing of it can be recorded.
    has_no_id: bool,
    /// The opening event, until there is room for it. It is recorded before the first event that finds room.
    pending_opening: Option<Opened>,
    /// Bytes of this conversation that are not yet committed, by epoch. At most two epochs have any: the one being
    /// committed, and the one being filled.
    uncommitted: [(u64, usize); 2],
    /// The shard's `wake_count` when this conversation's task was registered to be woken.
    registered: Option<u64>,
    /// An event of this conversation was lost and will never be committed.
    has_lost: bool,
}

/// An eighth of the budget for uncommitted bytes is reserved for conversations with under 16 KiB uncommitted, so that heavy senders
/// cannot starve them. Without it new conversations, with one read each, would use up the rest of the budget, and a
/// conversation with few uncommitted bytes would have to wait for a commit.
const RESERVED_FRACTION: usize = 8;
const RESERVED_BYTES_EACH: usize = 16 << 10;

/// Bytes recorded per byte read: the request and a reply of the same length. A longer reply exceeds the budget once, by
/// the difference.
const RECORDED_BYTES_PER_READ_BYTE: usize = 2;

/// Minimum read budget in bytes; a conversation with less waits. Runs of a few bytes each would cost more than they hold.
const READ_BYTES_MIN: usize = 512;

/// The store has failed, and under strict durability a reply must not be sent.
#[derive(Debug)]
pub struct NotCommitted;

impl Journal {
    pub(crate) fn new(shared: Arc<Shared>, shard: usize, conversation: ConversationId) -> Self {
        let active = shared.is_active();
        Self {
            shared,
            shard,
            conversation,
            active,
            has_no_id: false,
            pending_opening: None,
            uncommitted: [(0, 0); 2],
            registered: None,
            has_lost: false,
        }
    }

    /// Creates the journal of a conversation without an id: its exchanges count as lost.
    pub(crate) fn without_id(shared: Arc<Shared>, shard: usize) -> Self {
        Self {
            has_no_id: true,
            ..Self::new(shared, shard, 0)
        }
    }

    /// Whether events are recorded. If not, the caller need not read clocks.
    #[inline]
    pub fn is_active(&self) -> bool {
        self.active
    }

    /// Whether a reply must wait for [`Self::poll_committed`].
    #[inline]
    pub fn holds_replies(&self) -> bool {
        self.active && self.shared.options.hold_replies
    }

    /// Returns the id of the conversation.
    #[inline]
    pub fn conversation(&self) -> ConversationId {
        self.conversation
    }

    /// Records the opening. To be called first.
    pub fn record_opened(&mut self, opened: Opened) {
        self.pending_opening = Some(opened);
        self.record(0, |_| {});
    }

    /// Records a run with its replies.
    #[inline]
    pub fn record_run(&mut self, meta: RunMeta, run: &Run<'_>, replies: &Replies) {
        self.record(replies.exchanges(run), |batch| {
            batch.push_run(meta, run, replies);
        });
    }

    /// Records a single exchange.
    #[inline]
    pub fn record_exchange(
        &mut self,
        meta: RunMeta,
        outcome: Outcome,
        request: &[u8],
        reply: &[u8],
    ) {
        self.record(1, |batch| {
            batch.push_exchange(meta, outcome, request, reply);
        });
    }

    /// Records a mark: another event of the conversation, with its time.
    pub fn record_mark(&mut self, at: Micros, what: Marked) {
        let conversation = self.conversation;
        self.record(0, |batch| {
            batch.events.push(Event::Mark(Mark {
                conversation,
                at,
                what,
            }));
        });
    }

    /// Records the ending. To be called last.
    pub fn record_ended(&mut self, at: Micros, ending: Ending) {
        let conversation = self.conversation;
        self.record(0, |batch| {
            batch.events.push(Event::Ended(Ended {
                conversation,
                at,
                ending,
            }));
        });
    }

    /// Appends an event to the shard's batch by `append`, unless there is no room for it and it may be lost. The ending of
    /// a conversation whose opening was recorded is always recorded: there are no more of these than of connections.
    #[inline]
    fn record(&mut self, exchanges: u64, append: impl FnOnce(&mut Batch)) {
        if !self.active {
            return;
        }
        let shard = &self.shared.shards[self.shard];
        let mut state = lock(&shard.state);
        let used = state.taken_bytes + state.size();
        if state.closed {
            drop(state);
            self.shared.lose(exchanges);
            self.shared.feed.add_lost(exchanges);
            self.has_lost |= exchanges > 0;
            return;
        }
        if self.has_no_id {
            state.lost += exchanges;
            self.has_lost |= exchanges > 0;
            let is_first = state.lost == exchanges && exchanges > 0;
            drop(state);
            if is_first {
                self.shared.due.notify_one();
            }
            return;
        }
        let may_be_lost = exchanges > 0 || self.pending_opening.is_some();
        if may_be_lost && used >= self.shard_budget() && self.may_lose() {
            state.lost += exchanges;
            self.has_lost |= exchanges > 0;
            return;
        }
        let before = state.size();
        let opened = self.pending_opening.take().map(Event::Opened);
        state.batch.events.extend(opened);
        append(&mut state.batch);
        let (after, epoch) = (state.size(), state.epoch);
        let used = state.taken_bytes + after;
        shard.uncommitted_bytes.store(used, Ordering::Relaxed);
        state.rotate_if_full();
        drop(state);
        if before == 0 || (before < ROUND_BYTES && after >= ROUND_BYTES) {
            self.shared.due.notify_one();
        }
        self.account(epoch, after - before);
    }

    /// Returns the budget of uncommitted bytes of all conversations of the shard together.
    fn shard_budget(&self) -> usize {
        self.shared.options.uncommitted_bytes_max / self.shared.shards.len()
    }

    /// Returns the budget of uncommitted bytes of this conversation: as much as the shard's budget has free (the dynamic
    /// threshold of Choudhury and Hahne), so that however many conversations send heavily, something is left for the
    /// others. The reserved part counts only up to [`RESERVED_BYTES_EACH`].
    fn allowance(&self, used: usize) -> usize {
        let free = self.shard_budget().saturating_sub(used);
        let shared = free.saturating_sub(self.shard_budget() / RESERVED_FRACTION);
        shared
            .max(free.min(RESERVED_BYTES_EACH))
            .min(self.shared.options.conversation_uncommitted_bytes_max)
    }

    /// Whether an event that finds no room is lost. With held replies it is not, unless the store is failing.
    fn may_lose(&self) -> bool {
        let options = &self.shared.options;
        (options.when_full == WhenFull::Drop && !options.hold_replies)
            || self.shared.failing.load(Ordering::Relaxed)
    }

    #[inline]
    fn account(&mut self, epoch: u64, bytes: usize) {
        let [(older, old_bytes), (latest, sum)] = self.uncommitted;
        if latest == epoch {
            self.uncommitted[1].1 += bytes;
        } else {
            // While the store fails more than two epochs can be uncommitted: the older ones are added up.
            let carried = if self.shared.is_committed(older) {
                sum
            } else {
                sum + old_bytes
            };
            self.uncommitted = [(latest, carried), (epoch, bytes)];
        }
    }

    /// Returns how many bytes this conversation may read within its budget; `None` if too few to be worth a read.
    fn read_budget(&self) -> Option<usize> {
        let uncommitted = self.uncommitted.iter();
        let uncommitted = uncommitted.filter(|(epoch, _)| !self.shared.is_committed(*epoch));
        let uncommitted: usize = uncommitted.map(|(_, bytes)| bytes).sum();
        let used = self.used();
        if uncommitted == 0 && used == 0 {
            return Some(READ_BYTES_MIN.max(self.allowance(0) / RECORDED_BYTES_PER_READ_BYTE));
        }
        // With a smaller budget all of it is enough.
        let least = READ_BYTES_MIN
            .min(self.allowance(0) / RECORDED_BYTES_PER_READ_BYTE)
            .max(1);
        let left = self.allowance(used).saturating_sub(uncommitted);
        Some(left / RECORDED_BYTES_PER_READ_BYTE).filter(|bytes| *bytes >= least)
    }

    /// Returns the uncommitted bytes of all conversations of the shard together.
    fn used(&self) -> usize {
        self.shared.shards[self.shard]
            .uncommitted_bytes
            .load(Ordering::Relaxed)
    }

    /// Ready with the number of bytes that this conversation may read, once it is within its budget, or the store has
    /// failed and waiting is of no use.
    #[inline]
    pub fn poll_read_budget(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        self.poll_until(cx, |journal| {
            if !journal.active || journal.may_lose() {
                return Some(usize::MAX);
            }
            journal.read_budget()
        })
    }

    /// Ready once the worker's budget has room: for a socket shared by many peers, where a single one cannot wait.
    #[inline]
    pub fn poll_shard_budget(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_until(cx, |journal| {
            let has_room = journal.used() < journal.shard_budget();
            (!journal.active || has_room || journal.may_lose()).then_some(())
        })
    }

    /// Returns the epoch of the last event recorded.
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.uncommitted[1].0
    }

    /// Ready once all events up to the end of `epoch` are committed. Fails if one of them was lost while the store was
    /// failing, even if the store has recovered since.
    #[inline]
    pub fn poll_committed(
        &mut self,
        cx: &mut Context<'_>,
        epoch: u64,
    ) -> Poll<Result<(), NotCommitted>> {
        self.poll_until(cx, |journal| {
            if journal.has_lost {
                return Some(Err(NotCommitted));
            }
            if journal.shared.is_committed(epoch) {
                return Some(Ok(()));
            }
            let failing = journal.shared.failing.load(Ordering::SeqCst);
            failing.then_some(Err(NotCommitted))
        })
    }

    /// Ready once `check` returns a value; it is called again after the next commit. It is also called again after the
    /// waker is registered, since a commit between the two would not wake the task.
    fn poll_until<T>(&mut self, cx: &Context<'_>, check: impl Fn(&Self) -> Option<T>) -> Poll<T> {
        if let Some(value) = check(self) {
            return Poll::Ready(value);
        }
        self.register(cx);
        check(self).map_or(Poll::Pending, Poll::Ready)
    }

    /// Registers this task to be woken at the next commit, or when the store fails. Once is enough: the journal belongs
    /// to one task, polled directly by it, so its waker stays the same.
    fn register(&mut self, cx: &Context<'_>) {
        let mut state = lock(&self.shared.shards[self.shard].state);
        if self.registered != Some(state.wake_count) {
            self.registered = Some(state.wake_count);
            state.wakers.push(cx.waker().clone());
        }
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("conversation", &self.conversation)
            .field("active", &self.active)
            .finish_non_exhaustive()
    }
}
