//! Progress of sequences (`A THEN B`): which exchanges of a conversation come after the steps before the last.
//!
//! Of a chunk, first the conversations with a match of the last step are found, then the earlier steps are looked for in
//! these, from where each began. What is known of a conversation is kept, so its exchanges are read once a search.
//! So a page costs the runs that lie between its conversations' beginnings and its end, in either order, and the memory is
//! that of [`KNOWN_MAX`] conversations.

use std::collections::{HashMap, HashSet};

use echoic_core::{
    event::{ConversationId, Micros},
    exchange::ExchangeRef,
    filter::{Expr, Filter, Subject},
};

/// Conversations whose progress is kept between two chunks.
const KNOWN_MAX: usize = 1 << 16;

/// The steps of a sequence before the last, and how far conversations have come.
pub(crate) struct Sequence {
    steps: Vec<Expr>,
    /// Whether a step needs the bytes of messages.
    pub(crate) with_bytes: bool,
    known: HashMap<ConversationId, Progress>,
    /// The chunk whose conversations are being read.
    pub(crate) pending: Option<Pending>,
}

/// The progress of a conversation.
#[derive(Clone, Copy, Default)]
struct Progress {
    /// Number of steps that its exchanges have matched.
    reached: usize,
    /// Number of the exchange that matched the last of these.
    n: u64,
    /// Runs with smaller ids have been read.
    read: u64,
}

/// A chunk whose conversations are being read.
pub(crate) struct Pending {
    pub(crate) window: (u64, u64),
    /// Conversations in which a step is still missing.
    pub(crate) conversations: HashSet<ConversationId>,
    /// The next id to read.
    pub(crate) next: u64,
}

impl Pending {
    /// Whether nothing is left to read.
    pub(crate) fn is_done(&self) -> bool {
        self.conversations.is_empty() || self.next > self.window.1
    }
}

impl Sequence {
    /// Returns `None` for a filter that is no sequence.
    pub(crate) fn new(filter: &Filter) -> Option<Self> {
        let steps = filter.steps().to_vec();
        let needs_bytes = |step: &Expr| !step.all_atoms(&mut |atom| !atom.needs_bytes());
        (!steps.is_empty()).then(|| Self {
            with_bytes: steps.iter().any(needs_bytes),
            steps,
            known: HashMap::new(),
            pending: None,
        })
    }

    /// Whether all steps before the last were matched before this exchange.
    pub(crate) fn precedes(&self, exchange: &impl Subject) -> bool {
        let known = self.known.get(&exchange.conversation().id);
        known.is_some_and(|known| known.reached == self.steps.len() && known.n < exchange.n())
    }

    /// Forgets all progress if there is much of it; to be called between two chunks.
    pub(crate) fn forget_many(&mut self) {
        if self.known.len() > KNOWN_MAX {
            self.known.clear();
        }
    }

    /// Returns the id from which a conversation has to be read for the chunk that ends with the id `end`; `None` if it need not
    /// be.
    pub(crate) fn missing_from(&self, id: ConversationId, end: u64) -> Option<u64> {
        let known = self.known.get(&id).copied().unwrap_or_default();
        (known.reached < self.steps.len() && known.read <= end).then_some(known.read)
    }

    /// Takes the exchanges of a run, in their order. Returns whether no step is missing any more in its conversation.
    pub(crate) fn take(&mut self, exchanges: &[ExchangeRef<'_>], now: Micros) -> bool {
        let Some(first) = exchanges.first() else {
            return false;
        };
        let progress = self.known.entry(first.conversation.id).or_default();
        if first.id < progress.read {
            return progress.reached == self.steps.len();
        }
        for exchange in exchanges {
            if let Some(step) = self.steps.get(progress.reached)
                && step.matches(exchange, now)
            {
                progress.reached += 1;
                progress.n = exchange.n;
            }
        }
        progress.reached == self.steps.len()
    }

    /// Notes that the runs of the pending conversations were read up to the id before `next`.
    pub(crate) fn advance(&mut self, pending: &mut Pending, next: u64) {
        pending.next = next;
        for id in &pending.conversations {
            let known = self.known.entry(*id).or_default();
            known.read = known.read.max(next);
        }
    }
}
