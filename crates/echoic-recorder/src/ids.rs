//! Ids of conversations, from blocks that the store has reserved.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

use echoic_core::event::ConversationId;

use crate::lock::lock;

/// Ids reserved at a time. Half of them last for as long as the store may take to reserve the next block, or fail: with
/// none left, conversations are served with the id 0 and not recorded, and their exchanges count as lost.
pub(crate) const BLOCK: u64 = 65_536;

/// The ids that conversations get at accept, without waiting for anybody.
#[derive(Debug)]
pub(crate) struct ConversationIds {
    blocks: Mutex<Blocks>,
    /// Less than half a block is left, and none has been asked for.
    is_low: AtomicBool,
    /// Without a store ids are counted up for ever.
    is_reserved: bool,
}

#[derive(Debug)]
struct Blocks {
    next: ConversationId,
    /// The first id beyond the block.
    end: ConversationId,
    /// The block after it.
    spare: Option<(ConversationId, ConversationId)>,
}

impl ConversationIds {
    /// From 1 on, for a recorder that has no store.
    pub(crate) fn counted() -> Self {
        Self::new(1, u64::MAX, false)
    }

    /// From a block that the store has reserved.
    pub(crate) fn reserved(first: ConversationId) -> Self {
        Self::new(first, first.saturating_add(BLOCK), true)
    }

    fn new(next: ConversationId, end: ConversationId, is_reserved: bool) -> Self {
        let blocks = Blocks {
            next,
            end,
            spare: None,
        };
        Self {
            blocks: Mutex::new(blocks),
            is_low: AtomicBool::new(false),
            is_reserved,
        }
    }

    /// The next id; 0 if there is none. Says too whether this has made a new block due.
    pub(crate) fn take(&self) -> (ConversationId, bool) {
        let mut blocks = lock(&self.blocks);
        if blocks.next == blocks.end
            && let Some((first, end)) = blocks.spare.take()
        {
            (blocks.next, blocks.end) = (first, end);
        }
        let low =
            self.is_reserved && blocks.spare.is_none() && blocks.end - blocks.next < BLOCK / 2;
        let is_due = low && !self.is_low.swap(true, Ordering::Relaxed);
        if blocks.next == blocks.end {
            return (0, is_due);
        }
        blocks.next += 1;
        (blocks.next - 1, is_due)
    }

    /// Whether the store should be asked for another block.
    pub(crate) fn is_low(&self) -> bool {
        self.is_low.load(Ordering::Relaxed)
    }

    /// Adds a block that the store has reserved.
    pub(crate) fn add(&self, first: ConversationId) {
        let mut blocks = lock(&self.blocks);
        blocks.spare = Some((first, first.saturating_add(BLOCK)));
        self.is_low.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_continue_in_the_next_block_and_end_without_one() {
        let ids = ConversationIds::reserved(10);
        let mut due = Vec::new();
        for expected in 10..10 + BLOCK {
            let (id, is_due) = ids.take();
            assert_eq!(id, expected);
            due.extend(is_due.then_some(id));
        }
        assert_eq!(due.len(), 1, "asked for once: {due:?}");
        assert_eq!(ids.take(), (0, false));
        assert!(ids.is_low());
        ids.add(1_000_000);
        assert_eq!(ids.take(), (1_000_000, false));
        assert!(!ids.is_low());
    }

    #[test]
    fn ids_without_a_store_are_counted_from_one() {
        let ids = ConversationIds::counted();
        assert_eq!([ids.take(), ids.take()], [(1, false), (2, false)]);
    }
}
