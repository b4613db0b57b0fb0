//! The line that is being typed, on a thread of its own.
//!
//! rustyline blocks while a line is typed, and holds the terminal in raw mode. Only it knows how to give the
//! terminal back, so when the conversation ends first, the prompt is not abandoned but woken: by the signal that
//! Ctrl-C would have been, sent to ourselves, again and again until it has heard it.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::{
    process::{Signal, getpid, kill_process},
    termios::{OptionalActions, Termios, tcgetattr, tcsetattr},
};
use rustyline::{
    Cmd, ConditionalEventHandler, Editor, Event, EventContext, EventHandler, KeyCode, KeyEvent,
    Modifiers, RepeatCount, config::Config, error::ReadlineError, history::FileHistory,
};
use tokio::sync::mpsc;

use super::{
    gate::{Gate, Opener, Shutter},
    history,
    screen::Screen,
    typed::{self, Typed},
};

/// What was done at the prompt.
#[derive(Debug)]
pub(super) enum Key {
    /// A line was entered.
    Typed(Typed),
    /// A line was entered that means nothing; the sentence says why.
    Wrong(String),
    /// Ctrl-C, once.
    Interrupted,
    /// Ctrl-C, twice. The prompt has ended.
    Killed,
    /// The terminal failed. The prompt has ended.
    Broken(ReadlineError),
}

/// How the prompt behaves.
pub(super) struct Manners {
    pub(super) q_quits: bool,
    /// Where lines are remembered.
    pub(super) history: Option<PathBuf>,
}

/// A prompt that is being typed at.
pub(super) struct Prompt {
    thread: JoinHandle<()>,
    ending: Arc<AtomicBool>,
    /// How the terminal was before.
    cooked: Option<Termios>,
    /// It can be woken; a terminal that can do nothing (`TERM=dumb`) is read by the line and never raw.
    raw: bool,
}

/// What stands before the line.
const MARK: &str = "▸ ";

/// Lines that may wait for the conversation.
const QUEUE: usize = 16;

/// For the prompt to hear that it is over.
const WAKE_WITHIN: Duration = Duration::from_secs(1);

/// Starts it. The process must have a handler of its own for SIGINT by now, so that waking the prompt just when
/// it is not listening does no harm.
pub(super) fn start(
    manners: Manners,
    screen: &Screen,
) -> Result<(Prompt, mpsc::Receiver<Key>), ReadlineError> {
    let config = Config::builder()
        .max_history_size(history::LINES_MAX)?
        .history_ignore_space(true)
        .build();
    let mut editor: Editor<Opener, FileHistory> = Editor::with_config(config)?;
    editor.bind_sequence(
        KeyEvent(KeyCode::Char(']'), Modifiers::CTRL),
        EventHandler::Conditional(Box::new(BeginCommand)),
    );
    let tab = Cmd::Insert(1, "\t".to_owned());
    editor.bind_sequence(KeyEvent(KeyCode::Tab, Modifiers::NONE), tab);
    let gate = Gate::default();
    let shutter = EventHandler::Conditional(Box::new(Shutter(gate.clone())));
    editor.bind_sequence(Event::Any, shutter);
    editor.set_helper(Some(Opener(gate.clone())));
    if let Some(path) = &manners.history {
        // There is none the first time.
        let _ = editor.load_history(path);
    }
    let printer = editor.create_external_printer();
    let raw = printer.is_ok();
    if let Ok(printer) = printer {
        screen.give_to(printer, gate.clone());
    }
    let ending = Arc::new(AtomicBool::new(false));
    let (keys, typed) = mpsc::channel(QUEUE);
    let cooked = tcgetattr(std::io::stdin()).ok();
    let told = Arc::clone(&ending);
    let thread = thread::spawn(move || {
        type_lines(editor, &manners, &keys, &told);
        gate.open();
    });
    let prompt = Prompt {
        thread,
        ending,
        cooked,
        raw,
    };
    Ok((prompt, typed))
}

impl Prompt {
    /// Ends it and gives the terminal back as it was.
    pub(super) fn end(self) {
        self.ending.store(true, Ordering::SeqCst);
        let deadline = Instant::now() + WAKE_WITHIN;
        while self.raw && !self.thread.is_finished() && Instant::now() < deadline {
            let _ = kill_process(getpid(), Signal::INT);
            thread::sleep(Duration::from_millis(5));
        }
        if self.thread.is_finished() {
            let _ = self.thread.join();
        } else if let Some(cooked) = &self.cooked {
            // It is stuck, or never was raw: it ends with the process.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, cooked);
        }
    }
}

fn type_lines(
    mut editor: Editor<Opener, FileHistory>,
    manners: &Manners,
    keys: &mpsc::Sender<Key>,
    ending: &AtomicBool,
) {
    let (mut finished, mut interrupted) = (false, false);
    while !ending.load(Ordering::SeqCst) {
        let line = editor.readline(MARK);
        if ending.load(Ordering::SeqCst) {
            return;
        }
        let was_interrupted = std::mem::take(&mut interrupted);
        let key = match line {
            Ok(line) => {
                remember(&mut editor, &line, manners);
                match typed::read(&line, manners.q_quits) {
                    Ok(typed) => {
                        finished |= typed == Typed::Fin;
                        Key::Typed(typed)
                    }
                    Err(why) => Key::Wrong(why),
                }
            }
            Err(ReadlineError::Eof) if finished => Key::Typed(Typed::Quit),
            Err(ReadlineError::Eof) => {
                finished = true;
                Key::Typed(Typed::Fin)
            }
            Err(ReadlineError::Interrupted) if was_interrupted => Key::Killed,
            Err(ReadlineError::Interrupted) => {
                interrupted = true;
                Key::Interrupted
            }
            Err(error) => Key::Broken(error),
        };
        let last = matches!(
            key,
            Key::Typed(Typed::Quit | Typed::Rst) | Key::Killed | Key::Broken(_)
        );
        if keys.blocking_send(key).is_err() || last {
            return;
        }
    }
}

/// Adds a line to the history and its file, at once: the process may be killed.
fn remember(editor: &mut Editor<Opener, FileHistory>, line: &str, manners: &Manners) {
    let Some(path) = &manners.history else {
        let _ = editor.add_history_entry(line);
        return;
    };
    if editor.add_history_entry(line).unwrap_or(false) {
        // What cannot be kept is still in memory, and the conversation matters more.
        let _ = editor.append_history(path);
    }
}

/// Ctrl-] begins a command, as in telnet, where a line begins.
struct BeginCommand;

impl ConditionalEventHandler for BeginCommand {
    fn handle(
        &self,
        _: &Event,
        _: RepeatCount,
        _: bool,
        context: &EventContext<'_>,
    ) -> Option<Cmd> {
        let colon = Cmd::Insert(1, ":".to_owned());
        Some(if context.line().is_empty() {
            colon
        } else {
            Cmd::Noop
        })
    }
}
