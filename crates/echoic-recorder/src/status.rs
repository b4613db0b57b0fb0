//! The state of a recorder.

use echoic_core::event::{ExchangeId, Micros};

/// Counts of exchanges and the state of the store. Every exchange served by a recording server is in one of the three
/// counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecorderStatus {
    /// Exchanges committed to the store.
    pub recorded: u64,
    /// Exchanges served that will never be in the store.
    pub lost: u64,
    /// Exchanges served and not yet committed or lost.
    pub waiting: u64,
    /// Bytes of recorded events that the store has not acknowledged.
    pub waiting_bytes: u64,
    /// Wall-clock time of the last commit.
    pub committed: Option<Micros>,
    /// The failure of the store, while it lasts.
    pub failure: Option<Failure>,
    /// First and last id of the exchanges that were published with the id 0 during the last failure and have been
    /// committed since.
    pub recovered: Option<(ExchangeId, ExchangeId)>,
}

/// A failure of the store that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Wall-clock time of the first failed attempt.
    pub since: Micros,
    /// The error of the store.
    pub why: String,
    /// Exchanges served since and not committed because of the failure: waiting for the store's recovery, or lost.
    pub exchanges: u64,
}
