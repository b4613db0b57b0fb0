//! Ids of the batches that a store in memory has stored.

use std::collections::BTreeMap;

use echoic_core::{
    event::{BatchId, ExchangeId, ServerId},
    store::BATCHES_KNOWN,
};

/// Maximum of servers whose batches are remembered: the most recent ones.
const SERVERS_MAX: usize = 16;

/// The first exchange id of each remembered batch.
#[derive(Debug, Default)]
pub(crate) struct KnownBatches(Vec<(ServerId, BTreeMap<u64, ExchangeId>)>);

impl KnownBatches {
    /// Returns the id of its first exchange, if the batch is stored. A batch far below the newest of its server counts as
    /// stored, with the id 0.
    pub(crate) fn get(&self, id: BatchId) -> Option<ExchangeId> {
        let (_, numbers) = self.0.iter().find(|(server, _)| *server == id.server)?;
        let (newest, _) = numbers.last_key_value()?;
        match numbers.get(&id.number) {
            None if is_far_below(id.number, *newest) => Some(0),
            known => known.copied(),
        }
    }

    pub(crate) fn add(&mut self, id: BatchId, first_id: ExchangeId) {
        let numbers = match self.0.iter_mut().find(|(server, _)| *server == id.server) {
            Some((_, numbers)) => numbers,
            None => {
                if self.0.len() == SERVERS_MAX {
                    self.0.remove(0);
                }
                self.0.push((id.server, BTreeMap::new()));
                &mut self.0.last_mut().expect("invariant: just pushed").1
            }
        };
        numbers.insert(id.number, first_id);
        while numbers.len() as u64 > BATCHES_KNOWN {
            numbers.pop_first();
        }
    }
}

/// Whether the store may have forgotten a batch with this number.
pub(crate) fn is_far_below(number: u64, newest: u64) -> bool {
    newest.saturating_sub(number) >= BATCHES_KNOWN
}
