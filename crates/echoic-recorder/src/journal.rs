//! What one conversation tells the recorder.

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

use crate::{filling::ROUND_BYTES, lock::lock, options::WhenFull, shared::Shared};

/// A conversation's way to the recorder. Telling costs one lock that nobody else on the worker holds, and two
/// copies; nothing is allocated while the batch has room. It never waits.
pub struct Journal {
    shared: Arc<Shared>,
    shard: usize,
    conversation: ConversationId,
    active: bool,
    /// There was no id for this conversation: nothing of it can be recorded.
    is_nameless: bool,
    /// Its opening, while there was no room for it: the first thing told that finds room brings it along.
    unopened: Option<Opened>,
    /// What this conversation has told that is not yet kept, by epoch. Never more than two at a time: the epoch being
    /// kept, and the one being filled.
    unkept: [(u64, usize); 2],
    /// How often the shard's list had been woken when this conversation's task was put on it.
    listed: Option<u64>,
    /// Something it told found no room and will never be kept.
    missed: bool,
}

/// Of what may be unkept, the part (one in so many) that is left to conversations with little of it, and what little
/// is, in bytes. Without it those that come anew while all is taken would take the last of it, a read each, and who is
/// far from being ahead would wait for a commit.
const LEFT_TO_THE_LIGHT: usize = 8;
const LIGHT_BYTES: usize = 16 << 10;

/// What hearing a byte may put into the record beside it: as much again, said. (What is said can be more; then it is
/// that much more, once.)
const BYTES_A_BYTE_HEARD: usize = 2;

/// A conversation that may not even hear so many bytes waits: runs of a few bytes each would cost more than they hold.
const HEARD_MIN: usize = 512;

/// The store has failed, and strict durability was asked for.
#[derive(Debug)]
pub struct NotKept;

impl Journal {
    pub(crate) fn new(shared: Arc<Shared>, shard: usize, conversation: ConversationId) -> Self {
        let active = shared.is_active();
        Self {
            shared,
            shard,
            conversation,
            active,
            is_nameless: false,
            unopened: None,
            unkept: [(0, 0); 2],
            listed: None,
            missed: false,
        }
    }

    /// The journal of a conversation for which there was no id: what it is told counts as lost.
    pub(crate) fn nameless(shared: Arc<Shared>, shard: usize) -> Self {
        Self {
            is_nameless: true,
            ..Self::new(shared, shard, 0)
        }
    }

    /// Whether telling goes anywhere; if not, clocks need not be read.
    #[inline]
    pub fn is_active(&self) -> bool {
        self.active
    }

    /// Whether a reply has to wait for [`Self::poll_kept`].
    #[inline]
    pub fn holds_replies(&self) -> bool {
        self.active && self.shared.options.hold_replies
    }

    /// The conversation it is of.
    #[inline]
    pub fn conversation(&self) -> ConversationId {
        self.conversation
    }

    /// It began. To be told first.
    pub fn opened(&mut self, opened: Opened) {
        self.unopened = Some(opened);
        self.tell(0, |_| {});
    }

    /// A run with its replies.
    #[inline]
    pub fn run(&mut self, told: RunMeta, run: &Run<'_>, replies: &Replies) {
        self.tell(replies.exchanges(run), |batch| {
            batch.run(told, run, replies);
        });
    }

    /// A single exchange that is no run.
    #[inline]
    pub fn exchange(&mut self, told: RunMeta, outcome: Outcome, heard: &[u8], said: &[u8]) {
        self.tell(1, |batch| batch.exchange(told, outcome, heard, said));
    }

    /// Another point of it.
    pub fn mark(&mut self, at: Micros, what: Marked) {
        let conversation = self.conversation;
        self.tell(0, |batch| {
            batch.events.push(Event::Mark(Mark {
                conversation,
                at,
                what,
            }));
        });
    }

    /// It ended. To be told last.
    pub fn ended(&mut self, at: Micros, ending: Ending) {
        let conversation = self.conversation;
        self.tell(0, |batch| {
            batch.events.push(Event::Ended(Ended {
                conversation,
                at,
                ending,
            }));
        });
    }

    /// Puts something into the shard's batch, unless there is no room and exchanges may be lost for it. The ending of
    /// a conversation whose opening is in is always put in: there are no more of those than of connections.
    #[inline]
    fn tell(&mut self, exchanges: u64, put: impl FnOnce(&mut Batch)) {
        if !self.active {
            return;
        }
        let shard = &self.shared.shards[self.shard];
        let mut filling = lock(&shard.filling);
        let used = filling.taken_bytes + filling.size();
        if filling.closed {
            drop(filling);
            self.shared.lose(exchanges);
            self.shared.feed.miss(exchanges);
            self.missed |= exchanges > 0;
            return;
        }
        if self.is_nameless {
            filling.lost += exchanges;
            self.missed |= exchanges > 0;
            let is_first = filling.lost == exchanges && exchanges > 0;
            drop(filling);
            if is_first {
                self.shared.due.notify_one();
            }
            return;
        }
        let may_miss = exchanges > 0 || self.unopened.is_some();
        if may_miss && used >= self.room() && self.may_lose() {
            filling.lost += exchanges;
            self.missed |= exchanges > 0;
            return;
        }
        let before = filling.size();
        let opened = self.unopened.take().map(Event::Opened);
        filling.batch.events.extend(opened);
        put(&mut filling.batch);
        let (after, epoch) = (filling.size(), filling.epoch);
        let used = filling.taken_bytes + after;
        shard.used.store(used, Ordering::Relaxed);
        filling.turn_over();
        drop(filling);
        if before == 0 || (before < ROUND_BYTES && after >= ROUND_BYTES) {
            self.shared.due.notify_one();
        }
        self.account(epoch, after - before);
    }

    /// What all conversations of the shard together may have unkept.
    fn room(&self) -> usize {
        self.shared.options.behind_bytes_max / self.shared.shards.len()
    }

    /// What this conversation may have unkept: as much as is still free (Choudhury and Hahne's dynamic threshold), so
    /// that however many are ahead, something is left for one that is not; and the last part only if that is little.
    fn allowance(&self, used: usize) -> usize {
        let free = self.room().saturating_sub(used);
        let shared = free.saturating_sub(self.room() / LEFT_TO_THE_LIGHT);
        shared
            .max(free.min(LIGHT_BYTES))
            .min(self.shared.options.conversation_behind_bytes_max)
    }

    /// Whether what finds no room is lost. A reply that is held until it is kept must not be among that.
    fn may_lose(&self) -> bool {
        let options = &self.shared.options;
        (options.when_full == WhenFull::Drop && !options.hold_replies)
            || self.shared.failing.load(Ordering::Relaxed)
    }

    #[inline]
    fn account(&mut self, epoch: u64, bytes: usize) {
        let [(older, old_bytes), (latest, sum)] = self.unkept;
        if latest == epoch {
            self.unkept[1].1 += bytes;
        } else {
            // While the store fails there can be more than two: what cannot be told apart any more is added up.
            let carried = if self.shared.is_committed(older) {
                sum
            } else {
                sum + old_bytes
            };
            self.unkept = [(latest, carried), (epoch, bytes)];
        }
    }

    /// How many bytes this conversation may hear before more of it is unkept than it may have; none that are worth
    /// hearing if it is ahead.
    fn hearing(&self) -> Option<usize> {
        let unkept = self.unkept.iter();
        let unkept = unkept.filter(|(epoch, _)| !self.shared.is_committed(*epoch));
        let unkept: usize = unkept.map(|(_, bytes)| bytes).sum();
        let used = self.used();
        if unkept == 0 && used == 0 {
            return Some(HEARD_MIN.max(self.allowance(0) / BYTES_A_BYTE_HEARD));
        }
        // Where even all of it is less, all of it is enough.
        let least = HEARD_MIN.min(self.allowance(0) / BYTES_A_BYTE_HEARD).max(1);
        let left = self.allowance(used).saturating_sub(unkept);
        Some(left / BYTES_A_BYTE_HEARD).filter(|heard| *heard >= least)
    }

    /// What all conversations of the shard together have unkept.
    fn used(&self) -> usize {
        self.shared.shards[self.shard].used.load(Ordering::Relaxed)
    }

    /// Ready, with how many bytes, when this conversation may hear more: it is within its share of what may be
    /// unrecorded, or the store has failed and nothing would come of waiting.
    #[inline]
    pub fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        self.poll_until(cx, |journal| {
            if !journal.active || journal.may_lose() {
                return Some(usize::MAX);
            }
            journal.hearing()
        })
    }

    /// Ready when there is room for anybody of the worker: for who hears many at one socket, and cannot have one wait.
    #[inline]
    pub fn poll_room_for_all(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_until(cx, |journal| {
            let room = journal.used() < journal.room();
            (!journal.active || room || journal.may_lose()).then_some(())
        })
    }

    /// The epoch in which this conversation told something last.
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.unkept[1].0
    }

    /// Ready when everything told up to the end of `epoch` is kept. It never will be if some of it found no room while
    /// the store had failed, also when the store is well again by now.
    #[inline]
    pub fn poll_kept(&mut self, cx: &mut Context<'_>, epoch: u64) -> Poll<Result<(), NotKept>> {
        self.poll_until(cx, |journal| {
            if journal.missed {
                return Some(Err(NotKept));
            }
            if journal.shared.is_committed(epoch) {
                return Some(Ok(()));
            }
            let failing = journal.shared.failing.load(Ordering::SeqCst);
            failing.then_some(Err(NotKept))
        })
    }

    /// What `look` finds, now or after the next commit. It looks again once the task is listed: a commit between the two
    /// would wake nobody.
    fn poll_until<T>(&mut self, cx: &Context<'_>, look: impl Fn(&Self) -> Option<T>) -> Poll<T> {
        if let Some(found) = look(self) {
            return Poll::Ready(found);
        }
        self.list(cx);
        look(self).map_or(Poll::Pending, Poll::Ready)
    }

    /// Has this task woken at the next commit, or when the store fails. Being on the list already is enough: the waker
    /// of a task does not change while it waits.
    fn list(&mut self, cx: &Context<'_>) {
        let mut filling = lock(&self.shared.shards[self.shard].filling);
        if self.listed != Some(filling.wakes) {
            self.listed = Some(filling.wakes);
            filling.waiting.push(cx.waker().clone());
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
