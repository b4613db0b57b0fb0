//! At a prompt: what is typed, what comes back, and which of both ends it.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use echoic_client::{
    ClientCommand, ClientEvent, CloseMode, ConversationSummary, Counts, Observer, READ_BYTES_MAX,
    Replies, converse_observed,
};
use echoic_core::{framing::FramingPair, units::for_people};
use echoic_wire::Link;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};

use super::{
    args::{Newline, Plan},
    history, message,
    prompt::{self, Key, Manners},
    screen::{Screen, figure},
    transcript::Transcript,
    typed::{HELP, Typed},
};

/// A conversation at a prompt that is over.
pub(super) struct Over {
    pub(super) conversation: ConversationSummary,
    /// By Ctrl-C or a signal, and not by either side.
    pub(super) interrupted: bool,
    /// Its last line.
    pub(super) summary: String,
}

/// Lines that may wait to be sent before the typist is told.
const SAY_QUEUE: usize = 64;

/// Reads that may wait to be shown.
const NEWS_QUEUE: usize = 16;

/// After a datagram without a reply its sender is told.
const REPLY_WITHIN: Duration = Duration::from_secs(1);

/// Enough for one print.
const PRINT_BYTES: usize = 64 << 10;

/// Holds the conversation until either side ends it. The terminal is then as it was before.
pub(super) async fn hold(
    plan: &Plan,
    link: Link,
    watch: impl Observer + Send + 'static,
    screen: &Screen,
) -> io::Result<Over> {
    // Before the prompt starts: it is woken by this signal, which without a handler would end us.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let manners = manners(plan, screen);
    let (prompt, mut keys) =
        prompt::start(manners, screen).map_err(|error| io::Error::other(error.to_string()))?;

    let (say, says) = mpsc::channel(SAY_QUEUE);
    let (news, mut heard) = mpsc::channel(NEWS_QUEUE);
    let (leave, leaves) = oneshot::channel();
    let leaving = async { leaves.await.unwrap_or(CloseMode::Graceful) };
    let talking = tokio::spawn(converse_observed(
        link,
        plan.frames,
        says,
        news,
        leaving,
        plan.waits.clone(),
        watch,
    ));
    let (files, mut file_sent) = mpsc::channel(1);
    let mut session = Session::new(plan, screen, say, leave, files);
    loop {
        let flush_at = session.flush_deadline();
        tokio::select! {
            // What has come goes before the time at which nothing more is expected.
            biased;
            _ = terminate.recv() => session.interrupt(),
            _ = hangup.recv() => session.interrupt(),
            // Ctrl-C while no line is being read: the terminal makes a signal of it.
            _ = interrupt.recv() => session.interrupt(),
            Some(key) = keys.recv() => session.key(key),
            () = screen.pump() => {}
            news = heard.recv(), if !screen.is_behind() => match news {
                Some(news) => session.news(news, &mut heard),
                None => break,
            },
            Some(sent) = file_sent.recv() => session.file_sent(sent),
            () = sleep_until(flush_at.unwrap_or(session.started)), if flush_at.is_some() && !screen.is_behind() => {
                session.flush();
                session.tell_silence();
            }
        }
    }
    session.flush();
    drop(keys);
    screen.settle().await;
    prompt.end();
    let conversation = talking.await.map_err(io::Error::other)?;
    Ok(Over {
        summary: session.summary(&conversation),
        interrupted: session.interrupted,
        conversation,
    })
}

fn manners(plan: &Plan, screen: &Screen) -> Manners {
    let history = plan.history.then(|| history::file(&plan.endpoint));
    Manners {
        q_quits: plan.q_quits,
        history: history.and_then(|file| {
            file.unwrap_or_else(|error| {
                screen.print(&format!("lines are not remembered: {error}"));
                None
            })
        }),
    }
}

/// What a conversation at a prompt knows.
struct Session<'a> {
    screen: &'a Screen,
    replies: Replies,
    frames: FramingPair,
    datagrams: bool,
    /// When the last datagram was sent, until something comes or its sender was told that nothing has.
    asked: Option<Instant>,
    newline: Option<Newline>,
    hex: bool,
    transcript: Transcript,
    counts: Counts,
    started: Instant,
    /// When something that came was last looked at: the screen may be slower than the peer.
    looked: Instant,
    /// None once our half of the stream has ended.
    say: Option<mpsc::Sender<ClientCommand>>,
    leave: Option<oneshot::Sender<CloseMode>>,
    /// The file that is being sent.
    sending: Option<PathBuf>,
    files: mpsc::Sender<io::Result<u64>>,
    interrupted: bool,
}

impl<'a> Session<'a> {
    fn new(
        plan: &Plan,
        screen: &'a Screen,
        say: mpsc::Sender<ClientCommand>,
        leave: oneshot::Sender<CloseMode>,
        files: mpsc::Sender<io::Result<u64>>,
    ) -> Self {
        Self {
            screen,
            replies: Replies::new(plan.frames.inbound),
            frames: plan.frames,
            datagrams: plan.datagrams,
            asked: None,
            newline: plan.newline,
            hex: false,
            transcript: Transcript::default(),
            counts: Counts::default(),
            started: Instant::now(),
            looked: Instant::now(),
            say: Some(say),
            leave: Some(leave),
            sending: None,
            files,
            interrupted: false,
        }
    }

    fn key(&mut self, key: Key) {
        match key {
            Key::Typed(typed) => self.typed(typed),
            Key::Wrong(why) => self.screen.print(&why),
            Key::Interrupted => self.screen.print("Ctrl-C again quits; so do q and Ctrl-D"),
            Key::Killed => self.interrupt(),
            Key::Broken(error) => {
                self.screen.print(&format!("the terminal failed: {error}"));
                self.interrupt();
            }
        }
    }

    fn typed(&mut self, typed: Typed) {
        match typed {
            Typed::Line(line) => {
                match message::framed(self.frames.outbound, self.newline, line.as_bytes()) {
                    Ok(bytes) => self.send(&bytes),
                    Err(why) => self.screen.print(&format!("not sent: {why}")),
                }
            }
            Typed::Send(bytes) => self.send(&bytes),
            Typed::File(path) => self.send_file(path),
            Typed::Hex(on) => {
                self.hex = on;
                let form = if on { "hex" } else { "text" };
                self.screen.print(&format!("replies are shown as {form}"));
            }
            Typed::Frame(frames) => self.reframe(frames),
            Typed::Newline(newline) => {
                self.newline = Some(newline);
                self.screen.print(&self.manner());
            }
            Typed::Fin => self.fin(),
            Typed::Rst => self.leave(CloseMode::Reset),
            Typed::Quit => self.leave(CloseMode::Graceful),
            Typed::Stat => self.screen.print(&self.stat()),
            Typed::Save(path) => self.save(&path),
            Typed::Help => self.screen.print(HELP),
        }
    }

    fn reframe(&mut self, frames: FramingPair) {
        if self.datagrams {
            self.screen
                .print("a datagram is one whole message; there is nothing to frame");
            return;
        }
        if let Some(say) = &self.say
            && say.try_send(ClientCommand::SetFraming(frames)).is_err()
        {
            self.screen
                .print("not now: lines wait to be sent, and are messages as before");
            return;
        }
        self.flush();
        self.replies.set_framing(frames.inbound);
        self.frames = frames;
        self.screen.print(&self.manner());
    }

    fn send(&mut self, bytes: &[u8]) {
        let Some(say) = &self.say else {
            self.screen
                .print("not sent: our half of the stream has ended; q quits");
            return;
        };
        if let Some(path) = &self.sending {
            self.screen
                .print(&format!("not sent: {} is still being sent", path.display()));
            return;
        }
        if bytes.is_empty() && !self.datagrams {
            self.screen
                .print("nothing to send: the line is empty and has no newline");
            return;
        }
        let at = self.started.elapsed();
        match say.try_send(ClientCommand::Send(bytes.to_vec())) {
            Ok(()) => self.transcript.note(at, "▸", bytes),
            Err(mpsc::error::TrySendError::Full(_)) => self.screen.print(&format!(
                "not sent: the peer is not reading, and {SAY_QUEUE} lines wait already"
            )),
            // The end is about to be told.
            Err(mpsc::error::TrySendError::Closed(_)) => {}
        }
    }

    /// From a thread of its own, a piece at a time, so that a file of any size takes no memory.
    fn send_file(&mut self, path: PathBuf) {
        let Some(say) = self.say.clone().filter(|_| self.sending.is_none()) else {
            return self.send(&[]);
        };
        match File::open(&path) {
            Ok(file) => {
                let files = self.files.clone();
                thread::spawn(move || files.blocking_send(send_all(file, &say)));
                let note = format!("(file {})", path.display());
                self.transcript
                    .note(self.started.elapsed(), "▸", note.as_bytes());
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
            Err(error) => format!("{path} was not sent to its end: {error}"),
        });
    }

    fn news(&mut self, news: ClientEvent, more: &mut mpsc::Receiver<ClientEvent>) {
        // What has come in the meantime is printed with it, since each print redraws the prompt.
        let mut lines = String::new();
        self.one(news, &mut lines);
        while lines.len() < PRINT_BYTES {
            match more.try_recv() {
                Ok(news) => self.one(news, &mut lines),
                Err(_) => break,
            }
        }
        self.show(&lines);
        self.looked = Instant::now();
    }

    fn one(&mut self, news: ClientEvent, lines: &mut String) {
        match news {
            ClientEvent::Sent {
                at,
                messages,
                counts,
            } => {
                self.counts = counts;
                self.replies.add_sent(at, messages);
                self.asked = self.datagrams.then_some(at);
            }
            ClientEvent::Received { at, bytes, counts } => {
                self.asked = None;
                self.counts = counts;
                self.transcript
                    .note(at.saturating_duration_since(self.started), "◂", &bytes);
                let (framing, hex, screen) = (self.replies.framing(), self.hex, self.screen);
                self.replies.add_received(at, &bytes, |message| {
                    let _ = writeln!(lines, "{}", screen.reply(message, framing, hex));
                });
            }
        }
    }

    /// When a line that has not ended is to be shown: nothing has come for a while, and we have been looking.
    fn flush_deadline(&self) -> Option<Instant> {
        let looked = self.looked + Replies::GAP;
        let replies = self.replies.flush_deadline().map(|at| at.max(looked));
        let silence = self.asked.map(|asked| asked + REPLY_WITHIN);
        replies.into_iter().chain(silence).min()
    }

    /// A datagram may be lost, or nobody be there, and nothing else would tell.
    fn tell_silence(&mut self) {
        if self
            .asked
            .is_some_and(|asked| asked.elapsed() >= REPLY_WITHIN)
        {
            self.asked = None;
            self.screen.print("◂ (no reply in 1 s)");
        }
    }

    /// Shows a line that has not ended.
    fn flush(&mut self) {
        let mut lines = String::new();
        let (framing, hex, screen) = (self.replies.framing(), self.hex, self.screen);
        self.replies.flush(Instant::now(), |message| {
            let _ = writeln!(lines, "{}", screen.reply(message, framing, hex));
        });
        self.show(&lines);
    }

    fn show(&self, lines: &str) {
        if let Some(lines) = lines.strip_suffix('\n') {
            self.screen.print(lines);
        }
    }

    fn fin(&mut self) {
        if self.say.take().is_some() {
            self.screen.print(
                "our half of the stream has ended (FIN); waiting for the peer, Ctrl-D quits",
            );
        }
    }

    fn leave(&mut self, how: CloseMode) {
        if let Some(leave) = self.leave.take() {
            // It is gone only if the conversation is over already.
            let _ = leave.send(how);
        }
    }

    fn interrupt(&mut self) {
        self.interrupted = true;
        self.leave(CloseMode::Graceful);
    }

    fn save(&self, path: &Path) {
        self.screen.print(&match self.transcript.save(path) {
            Ok(lines) => format!("saved {lines} lines in {}", path.display()),
            Err(error) => format!("not saved: {}: {error}", path.display()),
        });
    }

    /// What is shown as one, and what is sent as one.
    fn manner(&self) -> String {
        let said = self.frames.outbound;
        let end = match message::newline(said, self.newline) {
            Some(Newline::Lf) => "ends with \\n".to_owned(),
            Some(Newline::Crlf) => "ends with \\r\\n".to_owned(),
            Some(Newline::None) => "ends with nothing".to_owned(),
            None => format!("is one message under {said}"),
        };
        format!("frame {}, a typed line {end}", self.frames)
    }

    fn stat(&self) -> String {
        let flow = self.flow(&self.counts, self.started.elapsed());
        format!("{flow}; {}", self.manner())
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
            figure(took)
        )
    }
}

fn send_all(mut file: File, say: &mpsc::Sender<ClientCommand>) -> io::Result<u64> {
    let mut buffer = vec![0; READ_BYTES_MAX];
    let mut sent = 0;
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(sent);
        }
        if say
            .blocking_send(ClientCommand::Send(buffer[..n].to_vec()))
            .is_err()
        {
            return Err(io::Error::other("the conversation has ended"));
        }
        sent += n as u64;
    }
}
