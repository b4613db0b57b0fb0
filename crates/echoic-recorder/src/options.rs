//! Options of a recorder.

use std::time::Duration;

/// Options of a recorder.
#[derive(Clone, Copy, Debug)]
pub struct RecorderOptions {
    /// Strict durability: a reply is sent only after its exchange is committed.
    pub hold_replies: bool,
    /// Time between two commits under load. A longer interval makes commits cheaper. What comes after a time without
    /// commits is committed at once.
    pub commit_interval: Duration,
    /// The store has failed if it commits nothing for this long.
    pub store_timeout: Duration,
    /// What to do with exchanges when the store is slower than the network.
    pub when_full: WhenFull,
    /// Maximum of uncommitted bytes of all conversations together.
    pub uncommitted_bytes_max: usize,
    /// Maximum of uncommitted bytes of one conversation.
    pub conversation_uncommitted_bytes_max: usize,
    /// Number of batches that are filled at the same time: one per worker.
    pub shards: usize,
}

impl Default for RecorderOptions {
    fn default() -> Self {
        Self {
            hold_replies: false,
            commit_interval: Duration::from_millis(20),
            store_timeout: Duration::from_secs(5),
            when_full: WhenFull::Block,
            uncommitted_bytes_max: 64 << 20,
            conversation_uncommitted_bytes_max: 1 << 20,
            shards: 1,
        }
    }
}

/// What to do with exchanges when the store is slower than the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// Stop reading from conversations that are over their budget. The others are not affected.
    #[default]
    Block,
    /// Serve the exchanges without recording them, and count them as lost.
    Drop,
}
