//! Ids of conversations, taken from blocks that the store has reserved.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

use echoic_core::event::ConversationId;

use crate::lock::lock;

/// Number of ids in a block. The next block is reserved when half of the ids are used. If the store fails until the other
/// half is used up as well, conversations get the id 0: they are served but not recorded, and their exchanges count as
/// lost.
pub(crate) const BLOCK: u64 = 65_536;

/// Gives each conversation its id at accept, without waiting for the store.
#[derive(Debug)]
pub(crate) struct ConversationIds {
    blocks: Mutex<Blocks>,
    /// Less than half a block is left and the next one is not yet reserved.
    is_low: AtomicBool,
    /// Whether ids come from a store. Without one they are counted from 1.
    is_reserved: bool,
}

#[derive(Debug)]
struct Blocks {
    next: ConversationId,
    /// First id after the block.
    end: ConversationId,
    /// First id and end of the following block.
    following: Option<(ConversationId, ConversationId)>,
}

impl ConversationIds {
    /// Creates ids counted from 1, for a recorder without a store.
    pub(crate) fn counted() -> Self {
        Self::new(1, u64::MAX, false)
    }

    /// Creates ids from a block that the store has reserved.
    pub(crate) fn reserved(first: ConversationId) -> Self {
        Self::new(first, first.saturating_add(BLOCK), true)
    }

    fn new(next: ConversationId, end: ConversationId, is_reserved: bool) -> Self {
        let blocks = Blocks {
            next,
            end,
            following: None,
        };
        Self {
            blocks: Mutex::new(blocks),
            is_low: AtomicBool::new(false),
            is_reserved,
        }
    }

    /// Returns the next id, or 0 if none is left, and whether the caller must wake the task to reserve a block.
    pub(crate) fn take(&self) -> (ConversationId, bool) {
        let mut blocks = lock(&self.blocks);
        if blocks.next == blocks.end
            && let Some((first, end)) = blocks.following.take()
        {
            (blocks.next, blocks.end) = (first, end);
        }
        let low =
            self.is_reserved && blocks.following.is_none() && blocks.end - blocks.next < BLOCK / 2;
        let is_due = low && !self.is_low.swap(true, Ordering::Relaxed);
        if blocks.next == blocks.end {
            return (0, is_due);
        }
        blocks.next += 1;
        (blocks.next - 1, is_due)
    }

    /// Whether another block should be reserved.
    pub(crate) fn is_low(&self) -> bool {
        self.is_low.load(Ordering::Relaxed)
    }

    /// Adds a block that the store has reserved.
    pub(crate) fn add(&self, first: ConversationId) {
        let mut blocks = lock(&self.blocks);
        blocks.following = Some((first, first.saturating_add(BLOCK)));
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
