//! Callers, which send lines until they are stopped, and check each reply.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::harness::{Talk, until};

/// Pause between two batches of lines: load, but not all that the machine has.
const PAUSE: Duration = Duration::from_millis(30);

/// Time for a reply, also across a fault.
const PATIENCE: Duration = Duration::from_mins(1);

/// The callers of one server.
#[derive(Debug)]
pub(super) struct Callers {
    stop: Arc<AtomicBool>,
    callers: Vec<(Arc<AtomicUsize>, JoinHandle<Called>)>,
}

/// What a caller has seen.
#[derive(Debug)]
pub(super) struct Called {
    pub(super) name: String,
    /// Lines that it sent, or tried to.
    pub(super) sent: usize,
    /// Replies that it received: right, complete and in order.
    pub(super) received: usize,
    pub(super) ended: Ended,
}

/// How a conversation ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The caller ended it, and then the server did.
    InOrder,
    /// The server ended it, and nothing of a reply was left over: whoever wants more connects again.
    ByServer,
    /// The server was gone.
    Cut(String),
}

impl Callers {
    /// Starts one for each of `depths`, which is the number of its lines in flight.
    #[track_caller]
    pub(super) fn start(at: SocketAddr, name: &str, depths: &[usize]) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let start = |(number, depth): (usize, &usize)| {
            let (name, depth) = (format!("{name}c{number}"), *depth);
            let (talk, received) = (Talk::to(at), Arc::<AtomicUsize>::default());
            let (stop, counted) = (Arc::clone(&stop), Arc::clone(&received));
            let caller = thread::spawn(move || call(talk, name, depth, &stop, &counted));
            (received, caller)
        };
        let callers = depths.iter().enumerate().map(start).collect();
        Self { stop, callers }
    }

    /// Waits until each has received so many replies more than now.
    #[track_caller]
    pub(super) fn wait_for_more(&self, replies: usize, when: &str) {
        self.wait_for_more_unless(|| false, replies, when);
    }

    /// The same, but a server may have ended a conversation if `may_end` soon holds.
    #[track_caller]
    pub(super) fn wait_for_more_unless(
        &self,
        may_end: impl Fn() -> bool,
        replies: usize,
        when: &str,
    ) {
        let deadline = Instant::now() + PATIENCE;
        let received = |(received, _): &(Arc<AtomicUsize>, _)| received.load(Ordering::Relaxed);
        let goals: Vec<_> = self
            .callers
            .iter()
            .map(|one| received(one) + replies)
            .collect();
        while self
            .callers
            .iter()
            .zip(&goals)
            .any(|(one, goal)| received(one) < *goal && !one.1.is_finished())
        {
            assert!(Instant::now() < deadline, "too few replies {when}");
            thread::sleep(Duration::from_millis(2));
        }
        if self.callers.iter().any(|(_, caller)| caller.is_finished()) {
            until(
                &format!("it is told why a conversation has ended {when}"),
                may_end,
            );
        }
    }

    /// Has all of them end their conversations.
    #[track_caller]
    pub(super) fn stop(self) -> Vec<Called> {
        self.stop.store(true, Ordering::Relaxed);
        self.ends()
    }

    /// Waits until the server has ended their conversations.
    #[track_caller]
    pub(super) fn ends(self) -> Vec<Called> {
        let ends = self.callers.into_iter().map(|(_, caller)| caller.join());
        ends.map(|end| end.expect("its replies are right"))
            .collect()
    }
}

fn call(
    talk: Talk,
    name: String,
    depth: usize,
    stop: &AtomicBool,
    counted: &AtomicUsize,
) -> Called {
    let Talk(mut stream) = talk;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut called = Called {
        name,
        sent: 0,
        received: 0,
        ended: Ended::InOrder,
    };
    while !stop.load(Ordering::Relaxed) {
        let numbers = called.sent..called.sent + depth;
        let lines: String = numbers.map(|number| line(&called.name, number)).collect();
        // If it fails, reading does.
        let _ = stream.write_all(lines.as_bytes());
        called.sent += depth;
        for _ in 0..depth {
            let mut reply = Vec::new();
            let read = reader.read_until(b'\n', &mut reply);
            if matches!(read, Ok(0)) {
                called.ended = Ended::ByServer;
                return called;
            }
            if reply.last() != Some(&b'\n') {
                called.ended = Ended::Cut(format!(
                    "{read:?} and {:?}",
                    reply.escape_ascii().to_string()
                ));
                return called;
            }
            let expected = line(&called.name, called.received).to_uppercase();
            assert_eq!(
                reply.escape_ascii().to_string(),
                expected.escape_debug().to_string()
            );
            called.received += 1;
            counted.fetch_add(1, Ordering::Relaxed);
        }
        thread::sleep(PAUSE);
    }
    let _ = stream.shutdown(Shutdown::Write);
    let mut rest = Vec::new();
    let read = reader.read_to_end(&mut rest);
    if read.is_err() || !rest.is_empty() {
        called.ended = Ended::Cut(format!(
            "{read:?} and {:?}",
            rest.escape_ascii().to_string()
        ));
    }
    called
}

/// The line with this number.
pub(super) fn line(name: &str, number: usize) -> String {
    format!("{name}-{number}\n")
}
