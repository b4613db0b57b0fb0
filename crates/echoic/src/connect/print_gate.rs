//! A gate that lets text be printed above the prompt only while rustyline reads a line.
//!
//! While rustyline reads a line, its printer accepts one text at a time and holds a late one back until the next line.
//! Between two lines, the printer writes straight to the terminal, and so overtakes the text held back. The gate is open
//! only while a line is read, and counts how often it closed, so that the caller can tell whether a text was printed.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustyline::{
    Cmd, ConditionalEventHandler, Context, Event, EventContext, Helper, KeyCode, KeyEvent,
    Modifiers, RepeatCount, completion::Completer, highlight::Highlighter, hint::Hinter,
    validate::Validator,
};

/// Open while rustyline reads a line. Clones share the state.
#[derive(Clone, Default)]
pub(super) struct PrintGate(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    open: bool,
    closings: u64,
}

/// Identifies the period in which the gate was open: the number of closings before it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct OpenPeriod(u64);

/// Longest wait for the gate to open. Handling a line takes much less; and a key that closed the gate without ending the
/// line (in a history search, for example) must not delay output for longer.
const WAIT_MAX: Duration = Duration::from_millis(300);

impl PrintGate {
    /// Waits until the gate is open; `None` after [`WAIT_MAX`].
    pub(super) fn wait_open(&self) -> Option<OpenPeriod> {
        let (_, opened) = &*self.0;
        let (state, _) = opened
            .wait_timeout_while(self.state(), WAIT_MAX, |state| !state.open)
            .unwrap_or_else(PoisonError::into_inner);
        state.open.then_some(OpenPeriod(state.closings))
    }

    /// Returns whether the gate has stayed open since `period`.
    pub(super) fn is_still_open(&self, period: OpenPeriod) -> bool {
        OpenPeriod(self.state().closings) == period
    }

    /// Opens the gate: rustyline reads a line, or will read no more.
    pub(super) fn open(&self) {
        self.state().open = true;
        self.0.1.notify_all();
    }

    fn close(&self) {
        let mut state = self.state();
        state.open = false;
        state.closings += 1;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the gate when rustyline asks for a hint, which it does first after it began to read a line.
pub(super) struct OpenOnDraw(pub(super) PrintGate);

impl Hinter for OpenOnDraw {
    type Hint = String;

    fn hint(&self, _: &str, _: usize, _: &Context<'_>) -> Option<String> {
        self.0.open();
        None
    }
}

impl Completer for OpenOnDraw {
    type Candidate = String;
}

impl Highlighter for OpenOnDraw {}
impl Validator for OpenOnDraw {}
impl Helper for OpenOnDraw {}

/// Closes the gate at each key that ends a line, before rustyline handles the key.
pub(super) struct CloseOnEnter(pub(super) PrintGate);

impl ConditionalEventHandler for CloseOnEnter {
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
            self.0.close();
        }
        // `None` keeps the key's default action.
        None
    }
}
