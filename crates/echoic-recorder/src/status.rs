//! How recording stands.

use echoic_core::event::{ExchangeId, Micros};

/// How recording stands. Every exchange served while recording was asked for is in one of the three numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecorderStatus {
    /// Exchanges the store has kept.
    pub recorded: u64,
    /// Exchanges served that will not be in the store.
    pub lost: u64,
    /// Exchanges served that will be in one of the two.
    pub waiting: u64,
    /// Since when and why nothing is being kept, if the store has failed.
    pub failure: Option<Failure>,
    /// The first and the last id of exchanges that watchers were shown with the id 0 during the last failure, and that
    /// are recorded now.
    pub recovered: Option<(ExchangeId, ExchangeId)>,
}

/// A store that keeps nothing for the time being.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Wall clock of the first attempt that failed.
    pub since: Micros,
    /// What the store said.
    pub why: String,
    /// Exchanges served and not kept because of it, so far: some wait for the store's return, the others are lost.
    pub exchanges: u64,
}
