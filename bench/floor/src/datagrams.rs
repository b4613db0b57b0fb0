//! Datagrams: the minimal server for them, and a load generator.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use serde::Serialize;

use crate::histogram::Histogram;
use crate::process::CpuClock;
use crate::text::Text;

/// Length in bytes of each datagram.
const SIZE: usize = 64;
/// The text repeats after more than twice this many datagrams: a server may suppress repeated identical datagrams.
const VARIETY: usize = 8192;
/// A datagram without a reply for this long counts as lost, and the next one is sent.
const LOST: Duration = Duration::from_millis(200);
const NAP: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};

/// Answers each datagram in upper case: one `recvfrom`, one `sendto`.
pub(crate) fn serve(port: u16, print_address: impl FnOnce(SocketAddr)) -> anyhow::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, port))
        .with_context(|| format!("cannot bind UDP port {port}"))?;
    print_address(socket.local_addr()?);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        // A previous reply to a closed port is reported here as an error.
        if let Ok((read, peer)) = socket.recv_from(&mut buffer) {
            buffer[..read].make_ascii_uppercase();
            let _ = socket.send_to(&buffer[..read], peer);
        }
    }
}

/// The result of a run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    /// Datagrams answered within the window.
    pub(crate) messages: u64,
    pub(crate) seconds: f64,
    pub(crate) per_second: f64,
    pub(crate) cpu_us_per_message: Option<f64>,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// Replies that are not the upper case of the last datagram sent.
    pub(crate) wrong: u64,
    /// Datagrams without a reply in time.
    pub(crate) lost: u64,
    pub(crate) answered: u64,
    pub(crate) sockets: u32,
}

struct Talker {
    socket: UdpSocket,
    /// Offset of its next datagram in the text.
    at: u64,
    sent: Instant,
}

impl Talker {
    fn send(&mut self, text: &Text) -> anyhow::Result<()> {
        self.sent = Instant::now();
        match self.socket.send(text.asked(self.at, SIZE)) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => {
                Err(error).context("a datagram could not be sent; is the server running?")
            }
            _ => Ok(()),
        }
    }
}

/// Runs a closed loop: each socket sends its next datagram when the last one is answered or lost.
pub(crate) fn run(
    address: SocketAddr,
    sockets: u32,
    warmup: Duration,
    seconds: Duration,
    pid: Option<i32>,
) -> anyhow::Result<Report> {
    let text = Text::new(SIZE, VARIETY);
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let mut talkers = Vec::with_capacity(sockets as usize);
    for number in 0..sockets as usize {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(address)?;
        socket.set_nonblocking(true)?;
        let key = EventData::new_u64(number as u64);
        epoll::add(&epoll, &socket, key, EventFlags::IN)?;
        let mut talker = Talker {
            socket,
            at: text.start(number * 97),
            sent: Instant::now(),
        };
        talker.send(&text)?;
        talkers.push(talker);
    }
    let mut load = Load {
        epoll,
        talkers,
        text,
        events: Vec::with_capacity(1024),
        window: None,
        wrong: 0,
        lost: 0,
        answered: 0,
    };
    let cpu = pid.map(CpuClock::of).transpose()?;
    load.run_until(Instant::now() + warmup)?;
    load.window = Some(Histogram::new());
    let (opened, before) = (Instant::now(), cpu.map(CpuClock::now).transpose()?);
    load.run_until(opened + seconds)?;
    let after = cpu.map(CpuClock::now).transpose()?;
    let seconds = opened.elapsed().as_secs_f64();
    let latencies = load
        .window
        .take()
        .expect("invariant: the window was opened above");
    let messages = latencies.count();
    let used = before
        .zip(after)
        .map(|(before, after)| after.saturating_sub(before).as_secs_f64() * 1e6);
    let micros = |nanos: u64| (nanos as f64 / 100.0).round() / 10.0;
    Ok(Report {
        messages,
        seconds,
        per_second: (messages as f64 / seconds).round(),
        cpu_us_per_message: used
            .filter(|_| messages > 0)
            .map(|us| (us / messages as f64 * 1e4).round() / 1e4),
        p50_us: micros(latencies.percentile(50)),
        p99_us: micros(latencies.percentile(99)),
        wrong: load.wrong,
        lost: load.lost,
        answered: load.answered,
        sockets,
    })
}

struct Load {
    epoll: OwnedFd,
    talkers: Vec<Talker>,
    text: Text,
    events: Vec<Event>,
    window: Option<Histogram>,
    wrong: u64,
    lost: u64,
    answered: u64,
}

impl Load {
    fn run_until(&mut self, end: Instant) -> anyhow::Result<()> {
        let mut looked = Instant::now();
        while Instant::now() < end {
            self.listen()?;
            if looked.elapsed() > LOST {
                looked = Instant::now();
                self.give_up()?;
            }
        }
        Ok(())
    }

    fn give_up(&mut self) -> anyhow::Result<()> {
        for talker in &mut self.talkers {
            if talker.sent.elapsed() > LOST {
                self.lost += 1;
                talker.at += SIZE as u64;
                talker.send(&self.text)?;
            }
        }
        Ok(())
    }

    fn listen(&mut self) -> anyhow::Result<()> {
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&NAP)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            self.receive(event.data.u64() as usize)?;
        }
        self.events = events;
        Ok(())
    }

    fn receive(&mut self, number: usize) -> anyhow::Result<()> {
        let (talker, mut buffer) = (&mut self.talkers[number], [0; 2 * SIZE]);
        let read = match talker.socket.recv(&mut buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).context("the server's port is closed"),
        };
        if &buffer[..read] == self.text.answered(talker.at, SIZE) {
            self.answered += 1;
            if let Some(window) = &mut self.window {
                window.record(talker.sent.elapsed().as_nanos() as u64, 1);
            }
        } else {
            self.wrong += 1;
        }
        talker.at += SIZE as u64;
        talker.send(&self.text)
    }
}
