//! The generator: one thread, many connections, every reply checked.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::ensure;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use serde::Serialize;

use crate::histogram::Histogram;
use crate::process::CpuClock;
use crate::talker::Talker;
use crate::text::Text;

/// Deadline after the window for replies that are still missing.
const DRAIN: Duration = Duration::from_secs(5);
/// Longest sleep of a closed loop before it checks the clock.
const NAP: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};
const NO_NAP: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};
/// Messages that a late schedule sends before replies are read again.
const CATCH_UP: u32 = 256;
/// Read buffer: large enough for the replies to a whole depth.
const BUFFER: usize = 256 * 1024;
/// Limit on the bytes that one connection may have in flight.
const IN_FLIGHT: u64 = 16 * 1024 * 1024;

/// What decides when the next message is sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// A reply: each connection has `depth` messages in flight. Latency is measured from the send.
    Closed,
    /// The clock: `rate` messages a second over all connections, evenly. The generator never sleeps, and latency is
    /// measured from the time a message was due, even if it was sent later.
    Even {
        /// Messages a second.
        rate: u32,
    },
    /// The clock, in bursts of one message on every connection.
    Bursts {
        /// Messages a second.
        rate: u32,
    },
}

/// The parameters of one measurement.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The server, on loopback.
    pub(crate) address: SocketAddr,
    /// Connections, all open before the first message.
    pub(crate) connections: u32,
    /// Maximum number of messages in flight on each connection.
    pub(crate) depth: u32,
    /// Bytes in a message, newline included.
    pub(crate) size: u32,
    /// When messages are sent.
    pub(crate) pace: Pace,
    /// Time before the window opens.
    pub(crate) warmup: Duration,
    /// Length of the window.
    pub(crate) seconds: Duration,
    /// The server's process, for its CPU time.
    pub(crate) pid: Option<i32>,
}

/// The result of one measurement; the field names are the JSON keys.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    /// Messages whose whole reply came within the window.
    pub(crate) messages: u64,
    /// Length of the window as it was.
    pub(crate) seconds: f64,
    /// Messages a second.
    pub(crate) per_second: f64,
    /// CPU time of the server in the window for each message, in microseconds.
    pub(crate) cpu_us_per_message: Option<f64>,
    /// Latencies in microseconds.
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
    /// Replies that differ from the upper case of their message, warm-up included.
    pub(crate) wrong: u64,
    /// Messages without a reply [`DRAIN`] after the window.
    pub(crate) unanswered: u64,
    /// Replies received in total: warm-up, window and after.
    pub(crate) answered: u64,
    /// Messages that were due but held back by the depth until the window closed.
    pub(crate) unsent: u64,
    pub(crate) connections: u32,
    pub(crate) depth: u32,
    pub(crate) size: u32,
    /// The requested rate, when paced.
    pub(crate) rate: Option<u32>,
}

/// Runs one measurement.
pub(crate) fn run(plan: &Plan) -> anyhow::Result<Report> {
    ensure!(
        u64::from(plan.depth) * u64::from(plan.size) <= IN_FLIGHT,
        "{} messages of {} bytes in flight are more than 16 MiB on each connection; lower --depth or --size",
        plan.depth,
        plan.size
    );
    let cpu = plan.pid.map(CpuClock::of).transpose()?;
    let mut load = Load::open(plan)?;
    let begin = Instant::now();

    load.run_until(begin, begin + plan.warmup)?;
    load.window = Some(Histogram::new());
    let opened = Instant::now();
    let cpu_before = cpu.map(CpuClock::now).transpose()?;

    load.run_until(begin, opened + plan.seconds)?;
    let cpu_after = cpu.map(CpuClock::now).transpose()?;
    let seconds = opened.elapsed().as_secs_f64();
    let latencies = load
        .window
        .take()
        .expect("invariant: the window was opened above");
    let unsent = load.scheduled.saturating_sub(load.asked());

    load.drain(begin)?;
    let messages = latencies.count();
    let cpu_us = cpu_before
        .zip(cpu_after)
        .map(|(before, after)| (after.saturating_sub(before)).as_secs_f64() * 1e6);
    let micros = |nanos: u64| (nanos as f64 / 100.0).round() / 10.0;
    Ok(Report {
        messages,
        seconds,
        per_second: (messages as f64 / seconds).round(),
        cpu_us_per_message: cpu_us
            .filter(|_| messages > 0)
            .map(|us| (us / messages as f64 * 1e4).round() / 1e4),
        p50_us: micros(latencies.percentile(50)),
        p90_us: micros(latencies.percentile(90)),
        p99_us: micros(latencies.percentile(99)),
        max_us: micros(latencies.max()),
        wrong: load.wrong,
        unanswered: load
            .talkers
            .iter()
            .map(|talker| talker.in_flight(&load.text))
            .sum(),
        answered: load.answered,
        unsent,
        connections: plan.connections,
        depth: plan.depth,
        size: plan.size,
        rate: match plan.pace {
            Pace::Closed => None,
            Pace::Even { rate } | Pace::Bursts { rate } => Some(rate),
        },
    })
}

struct Load {
    pace: Pace,
    depth: u64,
    text: Text,
    talkers: Vec<Talker>,
    /// Talkers whose socket is full and that wait until it is writable.
    full: Vec<bool>,
    epoll: OwnedFd,
    events: Vec<Event>,
    buffer: Vec<u8>,
    /// Messages due by the clock so far; stays 0 in a closed loop.
    scheduled: u64,
    window: Option<Histogram>,
    answered: u64,
    wrong: u64,
    /// After the window no new message is sent.
    closing: bool,
}

impl Load {
    fn open(plan: &Plan) -> anyhow::Result<Self> {
        let text = Text::new(plan.size as usize, plan.depth as usize);
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut talkers = Vec::with_capacity(plan.connections as usize);
        for number in 0..plan.connections as usize {
            let talker = Talker::connect(plan.address, number, &text)?;
            epoll::add(
                &epoll,
                &talker.stream,
                EventData::new_u64(number as u64),
                EventFlags::IN,
            )?;
            talkers.push(talker);
        }
        Ok(Self {
            pace: plan.pace,
            depth: plan.depth.into(),
            full: vec![false; talkers.len()],
            text,
            talkers,
            epoll,
            events: Vec::with_capacity(1024),
            buffer: vec![0; BUFFER],
            scheduled: 0,
            window: None,
            answered: 0,
            wrong: 0,
            closing: false,
        })
    }

    /// Sends and receives until `end`; times are nanoseconds since `begin`.
    fn run_until(&mut self, begin: Instant, end: Instant) -> anyhow::Result<()> {
        if self.pace == Pace::Closed {
            for number in 0..self.talkers.len() {
                self.send(number, since(begin))?;
            }
        }
        while Instant::now() < end {
            if self.pace == Pace::Closed {
                self.listen(begin, &NAP)?;
            } else {
                self.keep_pace(since(begin))?;
                self.listen(begin, &NO_NAP)?;
            }
        }
        Ok(())
    }

    fn drain(&mut self, begin: Instant) -> anyhow::Result<()> {
        self.closing = true;
        let deadline = Instant::now() + DRAIN;
        while self
            .talkers
            .iter()
            .any(|talker| talker.in_flight(&self.text) > 0)
            && Instant::now() < deadline
        {
            self.listen(begin, &NAP)?;
        }
        Ok(())
    }

    /// Sends the messages that are due; a connection at its depth sends them with its next reply.
    fn keep_pace(&mut self, now: u64) -> anyhow::Result<()> {
        let connections = self.talkers.len() as u64;
        for _ in 0..CATCH_UP {
            let number = self.scheduled % connections;
            if self.due(number, self.scheduled / connections) > now {
                break;
            }
            self.scheduled += 1;
            self.send(number as usize, now)?;
        }
        Ok(())
    }

    /// Returns when a connection's message with this index is due, in nanoseconds; 0 in a closed loop.
    fn due(&self, number: u64, index: u64) -> u64 {
        let connections = self.talkers.len() as u64;
        let (rate, index) = match self.pace {
            Pace::Closed => return 0,
            Pace::Even { rate } => (rate, index * connections + number),
            Pace::Bursts { rate } => (rate, index * connections),
        };
        index * 1_000_000_000 / u64::from(rate)
    }

    /// Queues and sends the messages that are due on one connection and fit its depth.
    fn send(&mut self, number: usize, now: u64) -> anyhow::Result<()> {
        let room = self.depth - self.talkers[number].in_flight(&self.text);
        if self.closing {
            // Only send what is queued already.
        } else if self.pace == Pace::Closed {
            if room > 0 {
                self.talkers[number].queue(now, room, &self.text);
            }
        } else {
            for _ in 0..room {
                let due = self.due(number as u64, self.talkers[number].asked(&self.text));
                if due > now {
                    break;
                }
                self.talkers[number].queue(due, 1, &self.text);
            }
        }
        let full = !self.talkers[number].flush(&self.text)?;
        if full != self.full[number] {
            self.full[number] = full;
            let interest = if full {
                EventFlags::IN | EventFlags::OUT
            } else {
                EventFlags::IN
            };
            epoll::modify(
                &self.epoll,
                &self.talkers[number].stream,
                EventData::new_u64(number as u64),
                interest,
            )?;
        }
        Ok(())
    }

    /// Handles available replies, waiting up to `nap` for the first, and sends the next messages.
    fn listen(&mut self, begin: Instant, nap: &Timespec) -> anyhow::Result<()> {
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(nap)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            let number = event.data.u64() as usize;
            let flags = event.flags;
            let now = if flags.intersects(EventFlags::IN | EventFlags::ERR | EventFlags::HUP) {
                self.receive(number, begin)?
            } else {
                since(begin)
            };
            self.send(number, now)?;
        }
        self.events = events;
        Ok(())
    }

    /// Reads once, checks and counts the replies, and returns the time of the read.
    fn receive(&mut self, number: usize, begin: Instant) -> anyhow::Result<u64> {
        let talker = &mut self.talkers[number];
        let received = talker.receive(&mut self.buffer, &self.text)?;
        let now = since(begin);
        self.answered += received.complete;
        self.wrong += received.wrong;
        let mut left = received.complete;
        while let Some((due, count)) = (left > 0).then(|| talker.settle(left)).flatten() {
            left -= count;
            if let Some(window) = &mut self.window {
                window.record(now.saturating_sub(due), count);
            }
        }
        Ok(now)
    }

    fn asked(&self) -> u64 {
        self.talkers
            .iter()
            .map(|talker| talker.asked(&self.text))
            .sum()
    }
}

fn since(begin: Instant) -> u64 {
    begin.elapsed().as_nanos() as u64
}
