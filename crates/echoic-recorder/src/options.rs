//! How to record.

use std::time::Duration;

/// How to record.
#[derive(Clone, Copy, Debug)]
pub struct RecorderOptions {
    /// Strict durability: a reply leaves after it is kept, not before.
    pub hold_replies: bool,
    /// From the first event of a round to the attempt to keep it. Longer rounds make cheaper commits.
    pub pace: Duration,
    /// A store that keeps nothing for this long has failed.
    pub patience: Duration,
    /// What becomes of exchanges when the store is slower than the wire.
    pub when_full: WhenFull,
    /// What all conversations together may have unrecorded, in bytes.
    pub behind_bytes_max: usize,
    /// What one of them may have unrecorded, in bytes.
    pub conversation_behind_bytes_max: usize,
    /// Batches filled at the same time; one a worker.
    pub shards: usize,
}

impl Default for RecorderOptions {
    fn default() -> Self {
        Self {
            hold_replies: false,
            pace: Duration::from_millis(20),
            patience: Duration::from_secs(5),
            when_full: WhenFull::Block,
            behind_bytes_max: 64 << 20,
            conversation_behind_bytes_max: 1 << 20,
            shards: 1,
        }
    }
}

/// What becomes of exchanges when the store is slower than the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// The conversations that are ahead wait; the others do not notice.
    #[default]
    Block,
    /// They are served and not recorded, and counted.
    Drop,
}
