//! The prompt: reads lines with rustyline on a thread of its own.
//!
//! rustyline blocks while it reads a line and holds the terminal in raw mode, which only it can leave. When the
//! conversation ends first, the prompt is therefore woken rather than abandoned: the process sends itself SIGINT, as
//! Ctrl-C would, until the thread has ended.

use std::{
    io,
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
    termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr},
};
use rustyline::{
    Cmd, ConditionalEventHandler, Editor, Event, EventContext, EventHandler, KeyCode, KeyEvent,
    Modifiers, RepeatCount, config::Config, error::ReadlineError, history::FileHistory,
};
use tokio::sync::mpsc;

use super::{
    command::{self, Command},
    history,
    print_gate::{CloseOnEnter, OpenOnDraw, PrintGate},
    screen::Screen,
};

/// What the user did at the prompt.
#[derive(Debug)]
pub(super) enum PromptEvent {
    /// Entered a line.
    Command(Command),
    /// Entered an invalid command, or a line that cannot be read; the text is the error.
    Invalid(String),
    /// Pressed Ctrl-C once.
    Interrupted,
    /// Pressed Ctrl-C twice. The prompt has ended.
    Killed,
    /// The terminal failed. The prompt has ended.
    Failed(ReadlineError),
}

/// Options of the prompt.
pub(super) struct PromptOptions {
    pub(super) q_quits: bool,
    /// The history file.
    pub(super) history: Option<PathBuf>,
}

/// A running prompt.
pub(super) struct Prompt {
    thread: JoinHandle<()>,
    ending: Arc<AtomicBool>,
    /// The terminal's settings before the prompt.
    original: Option<Termios>,
    /// The terminal is in raw mode, so the prompt can be woken. Under `TERM=dumb` rustyline reads in cooked mode.
    raw: bool,
}

/// The text before the line.
const MARK: &str = "▸ ";

const NOT_UTF8: &str = "not sent: the line has a byte that is not UTF-8, and is dropped with what was typed right after \
                        it; :send HEX sends any bytes";

/// Capacity of the queue of events.
const QUEUE: usize = 16;

/// Longest time that `end` waits for the thread.
const WAKE_WITHIN: Duration = Duration::from_secs(1);

/// Starts the prompt. The process must handle SIGINT by now, since waking the prompt while it does not read a line would
/// otherwise end the process.
pub(super) fn start(
    options: PromptOptions,
    screen: &Screen,
) -> Result<(Prompt, mpsc::Receiver<PromptEvent>), ReadlineError> {
    let config = Config::builder()
        .max_history_size(history::LINES_MAX)?
        .history_ignore_space(true)
        .build();
    let mut editor: Editor<OpenOnDraw, FileHistory> = Editor::with_config(config)?;
    editor.bind_sequence(
        KeyEvent(KeyCode::Char(']'), Modifiers::CTRL),
        EventHandler::Conditional(Box::new(BeginCommand)),
    );
    let tab = Cmd::Insert(1, "\t".to_owned());
    editor.bind_sequence(KeyEvent(KeyCode::Tab, Modifiers::NONE), tab);
    let gate = PrintGate::default();
    let close_on_enter = EventHandler::Conditional(Box::new(CloseOnEnter(gate.clone())));
    editor.bind_sequence(Event::Any, close_on_enter);
    editor.set_helper(Some(OpenOnDraw(gate.clone())));
    if let Some(path) = &options.history {
        // The file does not exist the first time.
        let _ = editor.load_history(path);
    }
    let printer = editor.create_external_printer();
    let raw = printer.is_ok();
    if let Ok(printer) = printer {
        screen.attach_prompt(printer, gate.clone());
    }
    let ending = Arc::new(AtomicBool::new(false));
    let (events, received) = mpsc::channel(QUEUE);
    let original = tcgetattr(io::stdin()).ok();
    if let Some(original) = original.as_ref().filter(|_| raw) {
        pass_all_between_lines(original);
    }
    let is_ending = Arc::clone(&ending);
    let thread = thread::spawn(move || {
        read_lines(editor, &options, &events, &is_ending);
        gate.open();
    });
    let prompt = Prompt {
        thread,
        ending,
        original,
        raw,
    };
    Ok((prompt, received))
}

impl Prompt {
    /// Ends the prompt and restores the terminal.
    pub(super) fn end(self) {
        self.ending.store(true, Ordering::SeqCst);
        let deadline = Instant::now() + WAKE_WITHIN;
        while self.raw && !self.thread.is_finished() && Instant::now() < deadline {
            let _ = kill_process(getpid(), Signal::INT);
            thread::sleep(Duration::from_millis(5));
        }
        if self.thread.is_finished() {
            let _ = self.thread.join();
        }
        // If the thread is stuck or never used raw mode, it ends with the process.
        if let Some(original) = &self.original {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, original);
        }
    }
}

/// Has the terminal pass on what is typed between two lines. rustyline leaves raw mode there, and a terminal that edits lines
/// itself would take Ctrl-D for an end of file, which is lost when raw mode begins, and echo what rustyline echoes too.
fn pass_all_between_lines(original: &Termios) {
    let mut between = original.clone();
    between
        .local_modes
        .remove(LocalModes::ICANON | LocalModes::ECHO);
    between.special_codes[SpecialCodeIndex::VMIN] = 1;
    between.special_codes[SpecialCodeIndex::VTIME] = 0;
    // The prompt works without it too.
    let _ = tcsetattr(io::stdin(), OptionalActions::Now, &between);
}

fn read_lines(
    mut editor: Editor<OpenOnDraw, FileHistory>,
    options: &PromptOptions,
    events: &mpsc::Sender<PromptEvent>,
    ending: &AtomicBool,
) {
    let (mut finished, mut interrupted) = (false, false);
    while !ending.load(Ordering::SeqCst) {
        let line = editor.readline(MARK);
        if ending.load(Ordering::SeqCst) {
            return;
        }
        let was_interrupted = std::mem::take(&mut interrupted);
        let event = match line {
            Ok(line) => {
                add_to_history(&mut editor, &line, options);
                match command::parse(&line, options.q_quits) {
                    Ok(command) => {
                        finished |= command == Command::Fin;
                        PromptEvent::Command(command)
                    }
                    Err(error) => PromptEvent::Invalid(error),
                }
            }
            Err(ReadlineError::Eof) if finished => PromptEvent::Command(Command::Quit),
            Err(ReadlineError::Eof) => {
                finished = true;
                PromptEvent::Command(Command::Fin)
            }
            Err(ReadlineError::Interrupted) if was_interrupted => PromptEvent::Killed,
            Err(ReadlineError::Interrupted) => {
                interrupted = true;
                PromptEvent::Interrupted
            }
            // rustyline gives up the line, and what it has read of the terminal beyond it.
            Err(ReadlineError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                PromptEvent::Invalid(NOT_UTF8.to_owned())
            }
            Err(error) => PromptEvent::Failed(error),
        };
        let last = matches!(
            event,
            PromptEvent::Command(Command::Quit | Command::Rst)
                | PromptEvent::Killed
                | PromptEvent::Failed(_)
        );
        if events.blocking_send(event).is_err() || last {
            return;
        }
    }
}

/// Adds a line to the history and its file at once, since the process may be killed.
fn add_to_history(
    editor: &mut Editor<OpenOnDraw, FileHistory>,
    line: &str,
    options: &PromptOptions,
) {
    let Some(path) = &options.history else {
        let _ = editor.add_history_entry(line);
        return;
    };
    if editor.add_history_entry(line).unwrap_or(false) {
        // If the file cannot be written, the line is still in the history in memory.
        let _ = editor.append_history(path);
    }
}

/// Inserts a colon for Ctrl-] in an empty line, as telnet does, to begin a command.
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
