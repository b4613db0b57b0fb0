//! The connections of one thread, opened once and used for several runs.

use std::{future::poll_fn, io, sync::Arc, task::Poll, time::Duration};

use echoic_core::framing::Framing;

use super::{
    clock::Clock,
    connection::{Connection, IoContext, Shared},
    generator::{BenchError, StopHandle},
    live::Live,
    ready::ReadySet,
    tally::Tally,
    timer::PreciseTimer,
};

/// Size of the read buffer in bytes, enough for the replies of a whole pipeline.
const READ_BYTES: usize = 256 << 10;

/// The connections of one thread.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) shared: Shared,
    pub(super) connections: Vec<Connection>,
    pub(super) ready: ReadySet,
    pub(super) timer: PreciseTimer,
    pub(super) spin: bool,
    pub(super) buffer: Vec<u8>,
    pub(super) live: Arc<Live>,
}

impl Worker {
    /// Creates a worker on the current runtime. `numbers` are the numbers of its connections.
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
            ready: ReadySet::new(connections.len() as u32),
            timer: PreciseTimer::new()?,
            shared,
            connections,
            spin,
            buffer: vec![0; READ_BYTES],
            live,
        })
    }

    /// Opens all closed connections, one every `gap`. Fails at the first error, and when it is stopped. A connection that
    /// the peer has closed already stays closed.
    pub(super) async fn open(
        &mut self,
        gap: Duration,
        stop: &StopHandle,
    ) -> Result<(), BenchError> {
        let clock = Clock::starting(Duration::ZERO);
        let mut tally = Tally::new(u64::MAX, u64::MAX);
        for at in 0..self.connections.len() {
            if self.connections[at].is_open() {
                continue;
            }
            self.connections[at].dial(&self.shared);
            let opened = poll_fn(|cx| {
                let connection = &mut self.connections[at];
                let mut io = IoContext {
                    cx,
                    clock: &clock,
                    shared: &self.shared,
                    tally: &mut tally,
                    buffer: &mut self.buffer,
                };
                match connection.receive(&mut io) {
                    Err(error) => Poll::Ready(Err(error)),
                    Ok(_) if connection.is_dialling() => Poll::Pending,
                    Ok(_) => Poll::Ready(Ok(())),
                }
            });
            stop.unless_stopped(opened).await??;
            self.ready.wake(at as u32);
            if !gap.is_zero() {
                stop.unless_stopped(tokio::time::sleep(gap)).await?;
            }
        }
        Ok(())
    }
}
