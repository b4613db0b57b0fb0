//! When rustyline takes what is to be printed above the prompt, and when it does not.
//!
//! While it reads a line it takes texts, one at a time, and keeps one that came too late for its next line. Between
//! two lines it writes a text straight to the terminal, and so past the one it kept. The gate is open only while a
//! line is being read, and counts its openings, so that the printer can tell what became of a text.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustyline::{
    Cmd, ConditionalEventHandler, Context, Event, EventContext, Helper, KeyCode, KeyEvent,
    Modifiers, RepeatCount, completion::Completer, highlight::Highlighter, hint::Hinter,
    validate::Validator,
};

/// Open while a line is being read. Clones are the same gate.
#[derive(Clone, Default)]
pub(super) struct Gate(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    open: bool,
    shuttings: u64,
}

/// That the gate was open, and in which of its openings.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Opening(u64);

/// Longest wait at the gate: a line is handled much faster, and a key that shut it without ending the line (in a
/// search, say) must not hold up what comes from the peer.
const SHUT_FOR: Duration = Duration::from_millis(300);

impl Gate {
    /// Waits until it is open; none if that takes too long.
    pub(super) fn wait(&self) -> Option<Opening> {
        let (_, opened) = &*self.0;
        let (state, _) = opened
            .wait_timeout_while(self.state(), SHUT_FOR, |state| !state.open)
            .unwrap_or_else(PoisonError::into_inner);
        state.open.then_some(Opening(state.shuttings))
    }

    /// Whether it has been open ever since.
    pub(super) fn still(&self, opening: Opening) -> bool {
        Opening(self.state().shuttings) == opening
    }

    /// Opens it: a line is being read, or none will be any more.
    pub(super) fn open(&self) {
        self.state().open = true;
        self.0.1.notify_all();
    }

    fn shut(&self) {
        let mut state = self.state();
        state.open = false;
        state.shuttings += 1;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the gate when rustyline draws the line, which it does first when it has begun to read.
pub(super) struct Opener(pub(super) Gate);

impl Hinter for Opener {
    type Hint = String;

    fn hint(&self, _: &str, _: usize, _: &Context<'_>) -> Option<String> {
        self.0.open();
        None
    }
}

impl Completer for Opener {
    type Candidate = String;
}

impl Highlighter for Opener {}
impl Validator for Opener {}
impl Helper for Opener {}

/// Shuts the gate at each key that ends a line, before it does.
pub(super) struct Shutter(pub(super) Gate);

impl ConditionalEventHandler for Shutter {
    fn handle(
        &self,
        key: &Event,
        _: RepeatCount,
        _: bool,
        context: &EventContext<'_>,
    ) -> Option<Cmd> {
        let ends = match key.get(0) {
            Some(
                KeyEvent(KeyCode::Enter, _)
                | KeyEvent(KeyCode::Char('C' | 'J' | 'M'), Modifiers::CTRL),
            ) => true,
            Some(KeyEvent(KeyCode::Char('D'), Modifiers::CTRL)) => context.line().is_empty(),
            _ => false,
        };
        if ends {
            self.0.shut();
        }
        // And then it does what it always does.
        None
    }
}
