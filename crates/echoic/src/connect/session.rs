//! A conversation at the prompt: commands of the user, replies of the peer, and the end of either.

use std::{
    fmt::Write as _,
    fs::File,
    future::pending,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use echoic_client::{
    ClientCommand, ClientEvent, CloseMode, ConversationSummary, Counts, Observer, Replies,
    converse_observed,
};
use echoic_core::{framing::FramingPair, units::for_people};
use echoic_wire::Link;
use nix::sys::signal::Signal;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};

use super::{
    args::{Newline, Plan},
    command::{Command, HELP},
    deferred::Deferred,
    ending_signals::EndingSignals,
    file, history, message,
    prompt::{self, PromptEvent, PromptOptions},
    screen::{Screen, duration},
    transcript::Transcript,
    unanswered::Unanswered,
};
use crate::signals::Hangup;

/// The result of a conversation at the prompt.
pub(super) struct PromptResult {
    pub(super) conversation: ConversationSummary,
    /// Ctrl-C or a signal ended it.
    pub(super) interrupted: bool,
    /// The signal that ended it, if its default action ends a process.
    pub(super) signal: Option<Signal>,
    /// The line to print at the end.
    pub(super) summary: String,
}

/// Lines that the conversation may hold; further ones wait in [`Deferred`].
const SEND_QUEUE: usize = 64;

/// Events that may wait to be shown.
const EVENT_QUEUE: usize = 16;

/// Most text that is printed at once, in bytes.
const PRINT_BYTES: usize = 64 << 10;

/// Runs the conversation until either side ends it, and restores the terminal.
pub(super) async fn run(
    plan: &Plan,
    link: Link,
    watch: impl Observer + Send + 'static,
    screen: &Screen,
    signals: &EndingSignals,
) -> io::Result<PromptResult> {
    // The handler must exist before the prompt starts, since this signal wakes the prompt.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = Hangup::catch()?;
    let options = prompt_options(plan, screen);
    let (prompt, mut prompt_events) =
        prompt::start(options, screen).map_err(|error| io::Error::other(error.to_string()))?;

    let (commands, queue) = mpsc::channel(SEND_QUEUE);
    let (events, mut received) = mpsc::channel(EVENT_QUEUE);
    let (leave, leaves) = oneshot::channel();
    let leaving = async { leaves.await.unwrap_or(CloseMode::Graceful) };
    let conversing = tokio::spawn(converse_observed(
        link,
        plan.frames,
        queue,
        events,
        leaving,
        plan.timeouts.clone(),
        watch,
    ));
    let (files, mut file_sent) = mpsc::channel(1);
    let mut session = Session::new(plan, screen, commands, leave, files);
    loop {
        let flush_deadline = session.flush_deadline();
        tokio::select! {
            // Events that are ready come before timers.
            biased;
            _ = terminate.recv() => session.interrupt(),
            () = hangup.next() => session.interrupt(),
            signal = signals.next() => session.end_by(signal),
            // Ctrl-C while rustyline does not read a line: the terminal sends a signal.
            _ = interrupt.recv() => session.interrupt(),
            Some(event) = prompt_events.recv(), if !session.deferred.is_full() => {
                session.prompt_event(event);
            }
            () = session.room(), if !session.deferred.is_empty() => session.run_deferred(),
            () = screen.pump() => {}
            event = received.recv(), if !screen.is_behind() => match event {
                Some(event) => session.client_events(event, &mut received),
                None => break,
            },
            Some(sent) = file_sent.recv() => session.file_sent(sent),
            () = sleep_until(flush_deadline.unwrap_or(session.started)), if flush_deadline.is_some() && !screen.is_behind() => {
                session.flush();
                session.report_silence();
            }
        }
    }
    session.flush();
    let unsent = session.unsent_bytes(&mut prompt_events);
    drop(prompt_events);
    screen.detach_prompt().await;
    prompt.end();
    let mut conversation = conversing.await.map_err(io::Error::other)?;
    conversation.unsent += unsent;
    Ok(PromptResult {
        summary: session.summary(&conversation),
        interrupted: session.interrupted,
        signal: session.signal,
        conversation,
    })
}

fn prompt_options(plan: &Plan, screen: &Screen) -> PromptOptions {
    let history = plan.history.then(|| history::file(&plan.endpoint));
    PromptOptions {
        q_quits: plan.q_quits,
        history: history.and_then(|file| {
            file.unwrap_or_else(|error| {
                screen.print(&format!("no history: {error}"));
                None
            })
        }),
    }
}

/// The state of a conversation at the prompt.
struct Session<'a> {
    screen: &'a Screen,
    replies: Replies,
    frames: FramingPair,
    datagrams: bool,
    unanswered: Unanswered,
    newline: Option<Newline>,
    hex: bool,
    transcript: Transcript,
    counts: Counts,
    started: Instant,
    /// When received data was last handled; the screen may be slower than the peer.
    handled: Instant,
    /// `None` once the sending side is shut down.
    commands: Option<mpsc::Sender<ClientCommand>>,
    leave: Option<oneshot::Sender<CloseMode>>,
    /// The file being sent.
    sending: Option<PathBuf>,
    files: mpsc::Sender<io::Result<u64>>,
    /// Commands that wait for lines before them to be sent.
    deferred: Deferred,
    /// Bytes typed after the connection had ended.
    unsent: u64,
    interrupted: bool,
    signal: Option<Signal>,
}

impl<'a> Session<'a> {
    fn new(
        plan: &Plan,
        screen: &'a Screen,
        commands: mpsc::Sender<ClientCommand>,
        leave: oneshot::Sender<CloseMode>,
        files: mpsc::Sender<io::Result<u64>>,
    ) -> Self {
        Self {
            screen,
            replies: Replies::new(plan.frames.inbound),
            frames: plan.frames,
            datagrams: plan.datagrams,
            unanswered: Unanswered::default(),
            newline: plan.newline,
            hex: false,
            transcript: Transcript::default(),
            counts: Counts::default(),
            started: Instant::now(),
            handled: Instant::now(),
            commands: Some(commands),
            leave: Some(leave),
            sending: None,
            files,
            deferred: Deferred::default(),
            unsent: 0,
            interrupted: false,
            signal: None,
        }
    }

    fn prompt_event(&mut self, event: PromptEvent) {
        match event {
            PromptEvent::Command(command) => self.command_or_defer(command),
            PromptEvent::Invalid(error) => self.screen.print(&error),
            PromptEvent::Interrupted => self
                .screen
                .print("press Ctrl-C again to quit, or q, or Ctrl-D"),
            PromptEvent::Killed => self.interrupt(),
            PromptEvent::Failed(error) => {
                self.screen.print(&format!("the terminal failed: {error}"));
                self.interrupt();
            }
        }
    }

    /// Runs a command once all before it are run. A reset discards what waits, so it does not.
    fn command_or_defer(&mut self, command: Command) {
        let waits = !self.deferred.is_empty() || self.must_wait(&command);
        if !waits || command == Command::Rst {
            return self.command(command);
        }
        if command == Command::Quit {
            self.screen.print(&format!(
                "{} lines wait to be sent; Ctrl-C twice quits without them",
                self.deferred.messages()
            ));
        }
        self.deferred.push(command);
    }

    /// Returns whether a command needs room in the queue of the conversation while there is none.
    fn must_wait(&self, command: &Command) -> bool {
        let sends = matches!(
            command,
            Command::Line(_) | Command::Send(_) | Command::File(_) | Command::Frame(_)
        );
        let is_full = |commands: &mpsc::Sender<ClientCommand>| {
            commands.capacity() == 0 && !commands.is_closed()
        };
        sends && (self.sending.is_some() || self.commands.as_ref().is_some_and(is_full))
    }

    /// Waits until the first of the commands that wait may run.
    async fn room(&self) {
        if self.sending.is_some() {
            // The end of the file runs them.
            return pending().await;
        }
        if let Some(commands) = &self.commands {
            // The conversation has ended if it fails.
            let _ = commands.reserve().await;
        }
    }

    fn run_deferred(&mut self) {
        while let Some(first) = self.deferred.first() {
            if self.must_wait(first) {
                return;
            }
            if let Some(command) = self.deferred.pop() {
                self.command(command);
            }
        }
    }

    /// Returns the number of bytes in lines that were typed and never queued.
    fn unsent_bytes(&mut self, events: &mut mpsc::Receiver<PromptEvent>) -> u64 {
        while let Ok(event) = events.try_recv() {
            if let PromptEvent::Command(command) = event {
                self.deferred.push(command);
            }
        }
        while let Some(command) = self.deferred.pop() {
            self.unsent += match command {
                Command::Line(line) => {
                    let framed =
                        message::framed(self.frames.outbound, self.newline, line.as_bytes());
                    framed.map_or(0, |bytes| bytes.len() as u64)
                }
                Command::Send(bytes) => bytes.len() as u64,
                _ => 0,
            };
        }
        self.unsent
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Line(line) => {
                match message::framed(self.frames.outbound, self.newline, line.as_bytes()) {
                    Ok(bytes) => self.send(&bytes),
                    Err(error) => self.screen.print(&format!("not sent: {error}")),
                }
            }
            Command::Send(bytes) => self.send(&bytes),
            Command::File(path) => self.send_file(path),
            Command::Hex(on) => {
                self.hex = on;
                let form = if on { "hex" } else { "text" };
                self.screen.print(&format!("showing replies as {form}"));
            }
            Command::Frame(frames) => self.reframe(frames),
            Command::Newline(newline) => {
                self.newline = Some(newline);
                self.screen.print(&self.framing_summary());
            }
            Command::Fin => self.fin(),
            Command::Rst => self.leave(CloseMode::Reset),
            Command::Quit => self.leave(CloseMode::Graceful),
            Command::Stat => self.screen.print(&self.stat()),
            Command::Save(path) => self.save(&path),
            Command::Help => self.screen.print(HELP),
        }
    }

    fn reframe(&mut self, frames: FramingPair) {
        if self.datagrams {
            self.screen
                .print("invalid :frame: a datagram is one whole message and has no framing");
            return;
        }
        if let Some(commands) = &self.commands
            && commands
                .try_send(ClientCommand::SetFraming(frames))
                .is_err()
        {
            self.screen
                .print("cannot change the framing while lines wait to be sent; try again later");
            return;
        }
        self.flush();
        self.replies.set_framing(frames.inbound);
        self.frames = frames;
        self.screen.print(&self.framing_summary());
    }

    fn send(&mut self, bytes: &[u8]) {
        let Some(commands) = &self.commands else {
            self.screen
                .print("not sent: the sending side is shut down; q quits");
            return;
        };
        if bytes.is_empty() && !self.datagrams {
            self.screen
                .print("not sent: the line is empty and has no newline");
            return;
        }
        let at = self.started.elapsed();
        match commands.try_send(ClientCommand::Send(bytes.to_vec())) {
            Ok(()) => self.transcript.add(at, "▸", bytes),
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.deferred.push(Command::Send(bytes.to_vec()));
            }
            // The connection has ended; its end is about to be reported.
            Err(mpsc::error::TrySendError::Closed(_)) => self.unsent += bytes.len() as u64,
        }
    }

    fn send_file(&mut self, path: PathBuf) {
        let Some(commands) = self.commands.clone().filter(|_| self.sending.is_none()) else {
            return self.send(&[]);
        };
        match File::open(&path) {
            Ok(file) => {
                file::spawn(file, commands, self.files.clone());
                let note = format!("(file {})", path.display());
                self.transcript
                    .add(self.started.elapsed(), "▸", note.as_bytes());
                self.sending = Some(path);
            }
            Err(error) => self
                .screen
                .print(&format!("not sent: {}: {error}", path.display())),
        }
    }

    fn file_sent(&mut self, sent: io::Result<u64>) {
        let Some(path) = self.sending.take() else {
            return;
        };
        let path = path.display();
        self.screen.print(&match sent {
            Ok(bytes) => format!("sent {path}, {}", for_people(bytes)),
            Err(error) => format!("sending {path} failed: {error}"),
        });
        self.run_deferred();
    }

    fn client_events(&mut self, event: ClientEvent, more: &mut mpsc::Receiver<ClientEvent>) {
        // Print events that are already queued together, since each print redraws the prompt.
        let mut lines = String::new();
        self.client_event(event, &mut lines);
        while lines.len() < PRINT_BYTES {
            match more.try_recv() {
                Ok(event) => self.client_event(event, &mut lines),
                Err(_) => break,
            }
        }
        self.show(&lines);
        self.handled = Instant::now();
    }

    fn client_event(&mut self, event: ClientEvent, lines: &mut String) {
        match event {
            ClientEvent::Sent {
                at,
                messages,
                counts,
            } => {
                self.counts = counts;
                self.replies.add_sent(at, messages);
                if self.datagrams {
                    self.unanswered.note_sent(at);
                }
            }
            ClientEvent::HalfClosed if self.commands.is_some() => self.screen.print(
                "the peer has ended its side (FIN) and may still read; Ctrl-D ends yours, q quits",
            ),
            ClientEvent::HalfClosed => {}
            ClientEvent::Received { at, bytes, counts } => {
                self.counts = counts;
                self.unanswered.note_received(&self.counts);
                self.transcript
                    .add(at.saturating_duration_since(self.started), "◂", &bytes);
                let (framing, hex, screen) = (self.replies.framing(), self.hex, self.screen);
                self.replies.add_received(at, &bytes, |reply| {
                    let _ = writeln!(lines, "{}", screen.reply(reply, framing, hex));
                });
            }
        }
    }

    /// Returns when to show an unfinished line or to report a missing reply.
    fn flush_deadline(&self) -> Option<Instant> {
        let handled = self.handled + Replies::GAP;
        let replies = self.replies.flush_deadline().map(|at| at.max(handled));
        replies.into_iter().chain(self.unanswered.deadline()).min()
    }

    fn report_silence(&mut self) {
        let report = self.unanswered.report(&self.counts, Instant::now());
        if let Some(report) = report {
            self.screen.print(&report);
        }
    }

    /// Shows an unfinished line.
    fn flush(&mut self) {
        let mut lines = String::new();
        let (framing, hex, screen) = (self.replies.framing(), self.hex, self.screen);
        self.replies.flush(Instant::now(), |reply| {
            let _ = writeln!(lines, "{}", screen.reply(reply, framing, hex));
        });
        self.show(&lines);
    }

    fn show(&self, lines: &str) {
        if let Some(lines) = lines.strip_suffix('\n') {
            self.screen.print(lines);
        }
    }

    fn fin(&mut self) {
        if self.commands.take().is_some() {
            self.screen
                .print("sending side shut down (FIN); waiting for the peer, Ctrl-D quits");
        }
    }

    fn leave(&mut self, how: CloseMode) {
        if let Some(leave) = self.leave.take() {
            // The receiver is gone only if the connection has ended.
            let _ = leave.send(how);
        }
    }

    fn interrupt(&mut self) {
        self.interrupted = true;
        self.leave(CloseMode::Graceful);
    }

    fn end_by(&mut self, signal: Signal) {
        self.signal = Some(signal);
        self.leave(CloseMode::Graceful);
    }

    fn save(&self, path: &Path) {
        self.screen.print(&match self.transcript.save(path) {
            Ok(lines) => format!("saved {lines} lines to {}", path.display()),
            Err(error) => format!("not saved: {}: {error}", path.display()),
        });
    }

    /// Describes the framing and the end of typed lines.
    fn framing_summary(&self) -> String {
        let outbound = self.frames.outbound;
        let end = match message::newline(outbound, self.newline) {
            Some(Newline::Lf) => "ends with \\n".to_owned(),
            Some(Newline::Crlf) => "ends with \\r\\n".to_owned(),
            Some(Newline::None) => "has no newline".to_owned(),
            None => format!("is one message under {outbound}"),
        };
        format!("framing {}, a typed line {end}", self.frames)
    }

    fn stat(&self) -> String {
        let flow = self.flow(&self.counts, self.started.elapsed());
        format!("{flow}; {}", self.framing_summary())
    }

    fn summary(&self, conversation: &ConversationSummary) -> String {
        format!(
            "{}: {}",
            conversation.ending,
            self.flow(&conversation.counts, conversation.elapsed)
        )
    }

    fn flow(&self, counts: &Counts, took: Duration) -> String {
        let FramingPair { inbound, outbound } = self.frames;
        format!(
            "{} sent, {} received, {} / {}, {}",
            counts.sent.messages(outbound),
            counts.received.messages(inbound),
            for_people(counts.sent.bytes),
            for_people(counts.received.bytes),
            duration(took)
        )
    }
}
