//! Reads keys, and draws the status line once a second.

use std::{
    io::{self, Read},
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use echoic_core::filter::Filter;
use rustix::process::{Signal as ProcessSignal, getpid, kill_process};
use tokio::{
    io::{Interest, unix::AsyncFd},
    select,
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};

use super::{
    activity::{Activity, Seen, Selection},
    entry::{Entry, Typed},
    raw::Terminal,
    status,
};
use crate::{local_time, pretty, serve::status::ServerState, status_line, stdio, term};

/// Interval of the status line.
const EVERY: Duration = Duration::from_secs(1);

/// A second `q` counts after this time: a terminal repeats a key that is held.
const QUIT_AGAIN: Duration = Duration::from_millis(500);

/// Signals that end a process and would leave the terminal without echo. SIGINT, SIGTERM and SIGHUP stop the server in order.
const DEADLY: [i32; 3] = [
    signal_hook::consts::SIGQUIT,
    signal_hook::consts::SIGALRM,
    signal_hook::consts::SIGUSR2,
];

const HELP: &str = "\
keys: p  pause or resume printing (recording goes on)
      c  clear the screen
      f  print only exchanges that match a filter; an empty one prints all
      q  quit: answer and record what was received; again to stop at once
      ?  this list";

/// The keys and the status line.
pub(super) struct Keys {
    state: Arc<ServerState>,
    activity: Arc<Activity>,
    quit: mpsc::Sender<()>,
    terminal: Arc<Terminal>,
    /// The filter while it is typed.
    entry: Option<Entry>,
    seen: Seen,
    quit_at: Option<Instant>,
}

/// The signals that concern the terminal.
struct Signals {
    stop: Signal,
    go_on: Signal,
    resize: Signal,
    deadly: [Signal; DEADLY.len()],
}

impl Signals {
    fn catch() -> io::Result<Self> {
        let [quit, alarm, user] = DEADLY.map(|number| signal(SignalKind::from_raw(number)));
        Ok(Self {
            stop: signal(SignalKind::from_raw(signal_hook::consts::SIGTSTP))?,
            go_on: signal(SignalKind::from_raw(signal_hook::consts::SIGCONT))?,
            resize: signal(SignalKind::window_change())?,
            deadly: [quit?, alarm?, user?],
        })
    }

    /// Waits for a signal that ends the process, and returns its number.
    async fn deadly(signals: &mut [Signal; DEADLY.len()]) -> i32 {
        let [quit, alarm, user] = signals;
        select! {
            _ = quit.recv() => DEADLY[0],
            _ = alarm.recv() => DEADLY[1],
            _ = user.recv() => DEADLY[2],
        }
    }
}

/// Tells when keys wait to be read.
#[expect(
    deprecated,
    reason = "unsound for a descriptor that others may close; this one is owned, and what replaces it is unsafe"
)]
fn readiness_of_stdin() -> io::Result<AsyncFd<OwnedFd>> {
    let stdin = io::stdin().as_fd().try_clone_to_owned()?;
    AsyncFd::with_interest(stdin, Interest::READABLE)
}

impl Keys {
    pub(super) fn new(
        state: Arc<ServerState>,
        activity: Arc<Activity>,
        quit: mpsc::Sender<()>,
        terminal: Arc<Terminal>,
    ) -> Self {
        Self {
            state,
            activity,
            quit,
            terminal,
            entry: None,
            seen: Seen::default(),
            quit_at: None,
        }
    }

    /// Reads keys until `stopped`, or until there is no terminal any more.
    pub(super) async fn run(mut self, stopped: oneshot::Receiver<()>) -> io::Result<()> {
        let mut signals = Signals::catch()?;
        let stdin = readiness_of_stdin()?;
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stopped = std::pin::pin!(stopped);
        self.terminal.enter();
        loop {
            select! {
                _ = &mut stopped => break,
                _ = tick.tick() => {
                    self.seen = self.activity.take_second();
                    self.draw();
                }
                ready = stdin.readable() => {
                    let mut ready = ready?;
                    // After a hang-up it is ready without end.
                    if ready.ready().is_read_closed() {
                        break;
                    }
                    ready.clear_ready();
                    if self.terminal.is_entered() && Terminal::is_foreground() && self.read().is_err() {
                        break;
                    }
                }
                _ = signals.resize.recv() => self.draw(),
                _ = signals.stop.recv() => self.suspend(),
                _ = signals.go_on.recv() => self.draw(),
                number = Signals::deadly(&mut signals.deadly) => {
                    self.leave();
                    let _ = signal_hook::low_level::emulate_default_handler(number);
                }
            }
        }
        self.leave();
        Ok(())
    }

    /// Draws the line, unless a shell owns the terminal. Takes the terminal if it has come to the foreground.
    fn draw(&self) {
        if !Terminal::is_foreground() {
            return;
        }
        if !self.terminal.is_entered() {
            self.terminal.enter();
        }
        status_line::set(match &self.entry {
            Some(entry) => status::entry(&entry.text),
            None => {
                let selection = self.activity.selection();
                term::dimmed(&status::text(&self.state.now(), self.seen, &selection))
            }
        });
    }

    fn leave(&self) {
        if Terminal::is_foreground() {
            status_line::remove();
        }
        self.terminal.leave();
    }

    /// Stops the process as the key Ctrl-Z asks, with the terminal as it was.
    fn suspend(&self) {
        self.leave();
        let _ = kill_process(getpid(), ProcessSignal::STOP);
    }

    fn read(&mut self) -> io::Result<()> {
        let mut bytes = [0; 256];
        let n = stdio::input().read(&mut bytes)?;
        let bytes = &bytes[..n];
        // A sequence of one key, an arrow for example, has no meaning here.
        if let [0x1b, _, ..] = bytes {
            return Ok(());
        }
        for byte in bytes {
            match self.entry.take() {
                Some(entry) => self.type_filter(entry, *byte),
                None => self.key(*byte),
            }
        }
        self.draw();
        Ok(())
    }

    fn key(&mut self, key: u8) {
        match key {
            b'p' | b'P' => self.pause(),
            b'c' | b'C' => status_line::clear_screen(),
            b'f' | b'F' | b'/' => {
                let filter = self.activity.selection().filter;
                self.entry = Some(Entry::new(
                    filter.map_or(String::new(), |filter| filter.to_string()),
                ));
            }
            b'q' | b'Q' => self.quit(),
            b'?' | b'h' => term::note(HELP),
            _ => {}
        }
    }

    fn quit(&mut self) {
        let now = Instant::now();
        let counts = self
            .quit_at
            .is_none_or(|at| now.duration_since(at) > QUIT_AGAIN);
        if counts {
            self.quit_at = Some(now);
            // A full queue has enough requests.
            let _ = self.quit.try_send(());
        }
    }

    fn pause(&self) {
        let mut selection = self.activity.selection();
        selection.is_paused = !selection.is_paused;
        let is_paused = selection.is_paused;
        self.activity.select(selection);
        if is_paused {
            term::note("printing is paused, recording goes on: p resumes");
        } else {
            let lines = pretty::count(self.activity.take_unprinted(), "line");
            term::note(&format!("printing again; not printed meanwhile: {lines}"));
        }
    }

    fn type_filter(&mut self, mut entry: Entry, byte: u8) {
        match entry.add(byte) {
            Typed::More => self.entry = Some(entry),
            Typed::Cancelled => {}
            Typed::Entered => {
                let text = entry.text.trim();
                let filter = match text {
                    "" => None,
                    _ => match Filter::parse_at(text, &local_time::now()) {
                        Ok(filter) => Some(filter),
                        Err(error) => {
                            term::note(&format!("not a filter: {error}"));
                            // It is still typed: what follows corrects it, and is no key.
                            self.entry = Some(entry);
                            return;
                        }
                    },
                };
                let selection = Selection {
                    filter,
                    ..self.activity.selection()
                };
                self.activity.select(selection);
            }
        }
    }
}
