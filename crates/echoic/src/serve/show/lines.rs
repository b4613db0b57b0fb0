//! Prints events as lines on a terminal: a sample of them, and the number of hidden ones.

use std::{
    convert::Infallible,
    io::{self, BufWriter, Write},
    mem,
    sync::Arc,
    time::Duration,
};

use echoic_core::{
    event::{Batch, Ended, Event, ExchangeId, Opened, RunEvent, ServerInfo, take_ids},
    exchange::{Conversation, ExchangeRef, exchanges},
    view::OpenConversations,
};
use echoic_recorder::{Missed, Seen};
use tokio::time::Instant;

use super::{super::terminal::Activity, Printer, choice::Choice};
use crate::{
    local_time,
    pretty::{self, Columns},
    term::DIMMED,
};

/// Lines per second; the rest are only counted. The record is never sampled.
const LINES_PER_SECOND: u32 = 20;

const SECOND: Duration = Duration::from_secs(1);

/// Prints a sample of the events as lines.
pub(super) struct LinePrinter<W: Write> {
    out: BufWriter<W>,
    /// Open conversations, which later events refer to.
    open: OpenConversations,
    sample: Sample,
    columns: Columns,
    choice: Choice,
}

impl<W: Write> LinePrinter<W> {
    /// `activity` is shared with the keys, if there are any.
    pub(super) fn new(out: W, activity: Option<Arc<Activity>>) -> Self {
        Self {
            out: BufWriter::new(out),
            open: OpenConversations::default(),
            sample: Sample::default(),
            columns: Columns::new(local_time::now().date()),
            choice: Choice::new(activity),
        }
    }

    fn batch(&mut self, mut next: ExchangeId, batch: &Batch, now: Instant) -> io::Result<()> {
        for event in &batch.events {
            match event {
                Event::Opened(opened) => {
                    let conversation = self.opened(opened, &batch.server);
                    self.choice.suppress(1);
                    if self.choice.prints_all() && self.sample.show(now, 1) > 0 {
                        self.line(&pretty::opened(&conversation, &self.columns))?;
                    }
                }
                Event::Run(run) => {
                    self.choice.count(run);
                    let id = take_ids(&mut next, run);
                    self.run(id, run, batch, now)?;
                }
                Event::Mark(_) => {}
                Event::Ended(ended) => self.ended(ended, now)?,
            }
        }
        Ok(())
    }

    /// Prints the exchanges of a run. It is only divided into those that are printed, unless a filter has to see them all.
    fn run(
        &mut self,
        id: ExchangeId,
        run: &RunEvent,
        batch: &Batch,
        now: Instant,
    ) -> io::Result<()> {
        let Some((conversation, ())) = self.open.get(run.conversation) else {
            self.choice.suppress(run.count.into());
            if self.choice.prints_all() {
                self.sample.hide(now, run.count.into());
            }
            return Ok(());
        };
        let all = exchanges(run, id, batch, conversation);
        let columns = &self.columns;
        let line = |exchange: ExchangeRef<'_>| pretty::line(&exchange.into_owned(), columns, None);
        let lines: Vec<String> = if self.choice.prints_all() {
            let displayed = self.sample.show(now, run.count);
            all.take(displayed as usize).map(line).collect()
        } else {
            let (choice, sample) = (&mut self.choice, &mut self.sample);
            all.filter(|exchange| choice.selects(exchange) && sample.show(now, 1) > 0)
                .map(line)
                .collect()
        };
        lines.iter().try_for_each(|line| self.line(line))
    }

    fn opened(&mut self, opened: &Opened, server: &Arc<ServerInfo>) -> Arc<Conversation> {
        let Ok(conversation) = self.open.open(opened, server, |_| Ok::<_, Infallible>(()));
        conversation
    }

    fn ended(&mut self, ended: &Ended, now: Instant) -> io::Result<()> {
        let Some(conversation) = self.open.end(ended) else {
            return Ok(());
        };
        self.choice.forget(ended.conversation);
        self.choice.suppress(1);
        if !self.choice.prints_all() || self.sample.show(now, 1) == 0 {
            return Ok(());
        }
        self.line(&pretty::ended(&conversation, &self.columns))
    }

    fn missed(&mut self, missed: &Missed, now: Instant) {
        for opened in &missed.opened {
            self.opened(opened, &missed.server);
        }
        for ended in &missed.ended {
            self.open.end(ended);
        }
        self.choice.count_missed(missed.exchanges);
        let lines = missed.exchanges + (missed.opened.len() + missed.ended.len()) as u64;
        if self.choice.is_paused() {
            self.choice.suppress(lines);
        } else {
            self.sample.hide(now, lines);
        }
    }

    /// Prints how many lines the last second has hidden.
    fn announce(&mut self, hidden: Option<u64>) -> io::Result<()> {
        match hidden {
            Some(more) => self.line(&format!("{DIMMED}… {more} more in that second{DIMMED:#}")),
            None => Ok(()),
        }
    }

    fn line(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.out, "{line}")
    }
}

impl<W: Write> Printer for LinePrinter<W> {
    fn print(&mut self, seen: &Seen) -> io::Result<()> {
        let now = Instant::now();
        self.choice.update();
        let hidden = self.sample.over(now);
        self.announce(hidden)?;
        self.columns.resize();
        self.columns.set_today(local_time::now().date());
        match seen {
            Seen::Batch { first_id, batch } => self.batch(*first_id, batch, now)?,
            Seen::Gap(missed) => self.missed(missed, now),
            // Reported on standard error, also without events.
            Seen::RecorderStatus(_) => {}
        }
        Ok(())
    }

    fn deadline(&self) -> Option<Instant> {
        self.sample.due()
    }

    fn on_deadline(&mut self) -> io::Result<()> {
        let hidden = self.sample.over(Instant::now());
        self.announce(hidden)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn finish(&mut self) -> io::Result<()> {
        let hidden = self.sample.end();
        self.announce(hidden)?;
        self.flush()
    }
}

/// Chooses the lines to display: the first of each second. A second begins with its first line.
#[derive(Debug, Default)]
struct Sample {
    since: Option<Instant>,
    displayed: u32,
    hidden: u64,
}

impl Sample {
    /// Returns how many of `lines` are displayed; the others are hidden.
    fn show(&mut self, now: Instant, lines: u32) -> u32 {
        self.since.get_or_insert(now);
        let displayed = lines.min(LINES_PER_SECOND - self.displayed);
        self.displayed += displayed;
        self.hidden += u64::from(lines - displayed);
        displayed
    }

    fn hide(&mut self, now: Instant, lines: u64) {
        self.since.get_or_insert(now);
        self.hidden += lines;
    }

    /// The time at which the number of hidden lines is due, if there are any.
    fn due(&self) -> Option<Instant> {
        let since = self.since.filter(|_| self.hidden > 0);
        since.map(|since| since + SECOND)
    }

    /// If the second is over, ends it and returns the number of hidden lines.
    fn over(&mut self, now: Instant) -> Option<u64> {
        let over = self.since.is_some_and(|since| now >= since + SECOND);
        over.then(|| self.end()).flatten()
    }

    fn end(&mut self) -> Option<u64> {
        let hidden = mem::take(self).hidden;
        (hidden > 0).then_some(hidden)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use echoic_core::{
        event::{Address, EndpointInfo, Outcome, Protocol, Role, RunMeta},
        framing::Framing,
    };
    use echoic_recorder::{Journal, Recorder, RecorderOptions};
    use tokio::time::sleep;

    use super::{super::follow, *};

    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            written.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Screen {
        fn lines(&self) -> Vec<String> {
            let displayed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let text = String::from_utf8_lossy(&displayed);
            text.lines().map(str::to_owned).collect()
        }
    }

    fn open(recorder: &Recorder) -> Journal {
        let address = Address::Unix(None);
        let endpoint_info = EndpointInfo {
            name: "unix".to_owned(),
            proto: Protocol::Unix,
            service: "upper".to_owned(),
            framing: Framing::Line.into(),
        };
        let mut journal = recorder.journal(0).1;
        journal.record_opened(Opened {
            conversation: journal.conversation(),
            at: 0,
            remote: address.clone(),
            local: address,
            role: Role::Server,
            endpoint_info: Arc::new(endpoint_info),
            tls: None,
        });
        journal
    }

    fn exchange(journal: &mut Journal, n: u64) {
        let meta = RunMeta {
            conversation: journal.conversation(),
            n,
            at: 0,
            latency_ns: 0,
            reads: 1,
            reply_offset: 0,
        };
        journal.record_exchange(meta, Outcome::Ok, b"hello\n", b"HELLO\n");
    }

    #[tokio::test(start_paused = true)]
    async fn hidden_lines_are_announced_when_nothing_follows() {
        let (recorder, task) = Recorder::new(None, RecorderOptions::default())
            .await
            .unwrap();
        tokio::spawn(task.run());
        let (screen, watcher) = (Screen::default(), recorder.watch());
        let mut printer = LinePrinter::new(screen.clone(), None);
        let printing = tokio::spawn(async move { follow(&mut printer, watcher).await });
        let mut journal = open(&recorder);
        for n in 1..=100 {
            exchange(&mut journal, n);
        }
        sleep(Duration::from_millis(900)).await;
        assert_eq!(screen.lines().len(), 20, "{:?}", screen.lines());
        sleep(Duration::from_millis(200)).await;
        let lines = screen.lines();
        assert_eq!(lines.len(), 21, "{lines:?}");
        assert!(lines[20].contains("… 81 more in that second"), "{lines:?}");
        // The next second displays lines again, and announces no hidden ones.
        exchange(&mut journal, 101);
        sleep(Duration::from_secs(5)).await;
        let lines = screen.lines();
        assert_eq!(lines.len(), 22, "{lines:?}");
        assert!(lines[21].contains("hello"), "{lines:?}");
        printing.abort();
    }

    #[test]
    fn events_a_slow_terminal_missed_count_as_hidden() {
        let mut printer = LinePrinter::new(Screen::default(), None);
        let missed = Missed {
            exchanges: 5,
            ..Missed::default()
        };
        printer.print(&Seen::Gap(missed)).unwrap();
        assert!(printer.deadline().is_some());
        printer.finish().unwrap();
        let lines = printer.out.get_ref().lines();
        assert!(lines[0].contains("… 5 more in that second"), "{lines:?}");
    }
}
