//! One thread's connections, opened once and used for one run after the other.

use std::{
    future::poll_fn,
    io,
    sync::{Arc, atomic::AtomicBool},
    task::Poll,
    time::Duration,
};

use echoic_core::framing::Framing;
use echoic_wire::DialError;

use super::{
    clock::Clock,
    connection::{Connection, Look, Shared},
    live::Live,
    pace::Pace,
    ready::Ready,
    schedule::Schedule,
    tally::Tally,
    turn::Turn,
};

/// Room of one read, in bytes: takes the replies of a whole pipeline at once.
const READ_BYTES: usize = 256 << 10;
/// One thread's connections.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) shared: Shared,
    pub(super) connections: Vec<Connection>,
    pub(super) ready: Ready,
    pub(super) pace: Pace,
    pub(super) spin: bool,
    pub(super) buffer: Vec<u8>,
    pub(super) live: Arc<Live>,
}

/// What one thread is to do in a run.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) clock: Clock,
    pub(super) schedule: Option<Schedule>,
    /// When the window opens and closes.
    pub(super) from: u64,
    pub(super) until: u64,
    /// This thread's share of a counted run.
    pub(super) count: Option<u64>,
    pub(super) drain: u64,
    pub(super) stop: Arc<AtomicBool>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) tally: Tally,
    /// The window as it was.
    pub(super) from: u64,
    pub(super) until: u64,
    /// CPU time of this thread over it, what it waited at full speed included, and that alone.
    pub(super) cpu: Duration,
    pub(super) spun: u64,
    /// CPU time of the whole process over it.
    pub(super) process: Duration,
}

impl Worker {
    /// On the runtime this is called on. `numbers` are those of its connections.
    pub(super) fn new(
        shared: Shared,
        numbers: impl Iterator<Item = u32>,
        framing: Option<Framing>,
        spin: bool,
        live: Arc<Live>,
    ) -> io::Result<Self> {
        let connections: Vec<_> = numbers
            .map(|number| Connection::new(number, framing, shared.connections))
            .collect();
        Ok(Self {
            ready: Ready::new(connections.len() as u32),
            pace: Pace::new()?,
            shared,
            connections,
            spin,
            buffer: vec![0; READ_BYTES],
            live,
        })
    }

    /// Opens the connections that are not, one every `gap`, and fails with the first that is not answered.
    pub(super) async fn open(&mut self, gap: Duration) -> Result<(), DialError> {
        let clock = Clock::starting(Duration::ZERO);
        let mut tally = Tally::new(u64::MAX, u64::MAX);
        for at in 0..self.connections.len() {
            if self.connections[at].is_open() {
                continue;
            }
            self.connections[at].dial(&self.shared);
            poll_fn(|cx| {
                let connection = &mut self.connections[at];
                let mut look = Look {
                    cx,
                    clock: &clock,
                    shared: &self.shared,
                    tally: &mut tally,
                    buffer: &mut self.buffer,
                };
                match connection.hear(&mut look) {
                    Err(error) => Poll::Ready(Err(error)),
                    Ok(_) if connection.is_open() => Poll::Ready(Ok(())),
                    Ok(_) => Poll::Pending,
                }
            })
            .await?;
            self.ready.wake(at as u32);
            if !gap.is_zero() {
                tokio::time::sleep(gap).await;
            }
        }
        Ok(())
    }

    /// Does as ordered.
    pub(super) async fn run(&mut self, order: Order) -> io::Result<Part> {
        let mut turn = Turn::new(self, order);
        poll_fn(|cx| turn.poll(cx)).await?;
        Ok(turn.into_part())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpListener,
        thread,
    };

    use allocation_counter::measure;
    use echoic_core::framing::Framing;
    use echoic_wire::DialOptions;
    use tokio::runtime::Builder;

    use super::*;
    use crate::bench::{Expect, Load, Workload, workload::Script};

    /// A server that sends back what it reads, and its address as an endpoint.
    fn echoing() -> String {
        let here = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = here.local_addr().unwrap().to_string();
        thread::spawn(move || {
            for mut peer in here.incoming().map_while(Result::ok) {
                thread::spawn(move || {
                    let mut room = vec![0; 64 << 10];
                    while let Ok(n @ 1..) = peer.read(&mut room) {
                        if peer.write_all(&room[..n]).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        at
    }

    /// What a generator allocates it allocates at the beginning; a message costs none.
    #[test]
    fn a_message_allocates_nothing() {
        for (load, pipeline) in [
            (Load::Closed, 1),
            (Load::Closed, 16),
            (
                Load::Open {
                    rate: 20_000.0,
                    arrivals: crate::bench::Arrivals::Constant,
                },
                16,
            ),
        ] {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            let _entered = runtime.enter();
            let workload = Workload::one("hello {seq}".parse().unwrap());
            let shared = Shared {
                endpoint: echoing().parse().unwrap(),
                dialling: DialOptions {
                    within: Duration::from_secs(10),
                    ..DialOptions::default()
                },
                script: Script::new(&workload, &Expect::Echo, Some(Framing::Line), 1),
                pipeline,
                churn: None,
                timeout: 10_000_000_000,
                connections: 4,
            };
            let live = Arc::new(Live::default());
            let worker = Worker::new(shared, 0..4, Some(Framing::Line), false, live);
            let mut worker = worker.unwrap();
            runtime.block_on(worker.open(Duration::ZERO)).unwrap();
            let mut allocated = |count| {
                let order = Order {
                    clock: Clock::starting(Duration::ZERO),
                    schedule: Schedule::new(&load, 1, 0, 1),
                    from: 0,
                    until: u64::MAX,
                    count: Some(count),
                    drain: 10_000_000_000,
                    stop: Arc::default(),
                };
                let mut done = 0;
                let seen = measure(|| {
                    done = runtime.block_on(worker.run(order)).unwrap().tally.ok;
                });
                assert_eq!(done, count, "{load:?}");
                seen.count_total
            };
            allocated(2_000);
            let (few, many) = (allocated(500), allocated(5_000));
            // A histogram grows when it sees a longer latency than any before, a list of seconds with time.
            assert!(many <= few + 45, "{load:?}: {few}, then {many}");
        }
    }
}
