//! The beginning of a stream: the hello, and what the subscriber has missed since it was last connected.

use std::sync::Arc;

use axum::body::Bytes;
use echoic_core::{event::ExchangeId, exchange::Exchange, filter::Filter, store::Store};

use super::{
    message::{self, Batch},
    queue::Missed,
    reading::Reading,
};

/// The exchanges between the last one that a subscriber has and the first of its live events, as events.
pub(crate) struct Resume {
    reading: Reading,
    after: ExchangeId,
    to: ExchangeId,
    state: State,
}

enum State {
    /// The number of exchanges is not known.
    Begin,
    /// They are being read.
    Read,
    /// All is sent.
    Done,
}

impl Resume {
    /// Resumes after an exchange, up to and including `to`. An id beyond `to` is of a record that is no more: all is sent.
    pub(crate) fn new(
        store: &Arc<dyn Store>,
        filter: Filter,
        after: Option<ExchangeId>,
        to: ExchangeId,
    ) -> Self {
        let after = after.map_or(to, |after| if after > to { 0 } else { after });
        Self {
            reading: Reading::new(store, filter, after, to),
            after,
            to,
            state: State::Begin,
        }
    }

    /// Returns the first event of the stream.
    pub(crate) fn hello(&self, version: &str, instance: &str, readonly: bool) -> Bytes {
        message::hello(self.after, self.to, version, instance, readonly)
    }

    /// Returns the next event; `None` if the live events follow.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        if let State::Begin = self.state {
            match self.reading.check().await {
                Ok(Ok(())) => self.state = State::Read,
                Ok(Err(exchanges)) => return Some(self.gap(exchanges)),
                Err(_) => return Some(self.gap(self.to - self.after)),
            }
        }
        if let State::Done = self.state {
            return None;
        }
        match self.reading.next().await {
            Ok(Some(exchanges)) => {
                self.after = exchanges.last().map_or(self.after, |last| last.id);
                Some(batch(&exchanges))
            }
            Ok(None) => None,
            Err(_) => Some(self.gap(self.to - self.after)),
        }
    }

    fn gap(&mut self, exchanges: u64) -> Bytes {
        self.state = State::Done;
        let missed = Missed {
            ids: Some((self.after + 1, self.to)),
            exchanges,
        };
        message::gap(missed).text
    }
}

fn batch(exchanges: &[Exchange]) -> Bytes {
    let mut batch = Batch::default();
    for exchange in exchanges {
        batch.add(exchange.borrow());
    }
    let position = exchanges.last().map_or(0, |last| last.id);
    batch.take(position).text
}
