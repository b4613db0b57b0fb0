//! Where the runs of a conversation are, as far as it is known.
//!
//! No index leads there: it would double the cost of recording. But the messages of a conversation have increasing numbers, so
//! a binary search over the ids of its runs finds one. Each step reads on from an id to the next run of the conversation. Where it
//! was silent for long that is far, so what a step finds is kept for the next pages.

/// What is known of where the runs of a conversation are. It stays true when more are appended, and when some are deleted.
#[derive(Debug, Default)]
pub(crate) struct Positions(Vec<Position>);

/// A run of the conversation.
#[derive(Debug)]
struct Position {
    /// No run of the conversation has an id from this one on and below `id`.
    since: u64,
    id: u64,
    /// Number of the message after its last.
    after: u64,
}

/// A search for the first run of a conversation with a message of some number or a larger one.
#[derive(Debug)]
pub(crate) struct RunSearch {
    from_n: u64,
    low: u64,
    high: u64,
    found: u64,
}

impl Positions {
    /// Maximum of runs. A search finds some twenty.
    const MAX: usize = 1_024;

    fn add(&mut self, position: Position) {
        if let Some(known) = self.0.iter_mut().find(|known| known.id == position.id) {
            known.since = known.since.min(position.since);
            return;
        }
        if self.0.len() == Self::MAX {
            self.0.clear();
        }
        self.0.push(position);
    }

    /// Begins to search for the message `from_n` in the runs with ids from `first` to `last`.
    pub(crate) fn search(&self, from_n: u64, first: u64, last: u64) -> RunSearch {
        // Ids begin at 1, so that the middle of a step is never 0.
        let first = first.max(1);
        let mut search = RunSearch {
            from_n,
            low: first,
            high: last,
            found: last.saturating_add(1),
        };
        if from_n <= 1 {
            (search.found, search.low) = (first, last.saturating_add(1));
            return search;
        }
        for position in &self.0 {
            if position.after <= from_n {
                search.low = search.low.max(position.id.saturating_add(1));
            } else {
                search.high = search.high.min(position.since.saturating_sub(1));
                search.found = search.found.min(position.id);
            }
        }
        search
    }
}

impl RunSearch {
    /// Returns the ids in which to look for the first run of the conversation; `None` at the end of the search.
    pub(crate) fn step(&self) -> Option<(u64, u64)> {
        (self.low <= self.high).then(|| (self.low + (self.high - self.low) / 2, self.high))
    }

    /// Takes what a step has found: the id of the run, and the number of the message after its last.
    pub(crate) fn take(&mut self, run: Option<(u64, u64)>, positions: &mut Positions) {
        let Some((middle, _)) = self.step() else {
            return;
        };
        if let Some((id, after)) = run {
            let since = middle;
            positions.add(Position { since, id, after });
        }
        match run {
            Some((id, after)) if after <= self.from_n => self.low = id.saturating_add(1),
            run => {
                self.found = run.map_or(self.found, |(id, _)| id);
                self.high = middle - 1;
            }
        }
    }

    /// Returns the id of the run, or of the end if there is none.
    pub(crate) fn found(&self) -> u64 {
        self.found
    }
}
