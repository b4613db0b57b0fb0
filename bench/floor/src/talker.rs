//! One connection of the generator: what it has sent, and what it still expects.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::text::Text;

/// Connect timeout. A connect on loopback takes microseconds; a full backlog costs a second.
const CONNECT: Duration = Duration::from_secs(5);

/// A connection that sends [`Text`] and checks the replies.
#[derive(Debug)]
pub(crate) struct Talker {
    /// Public so that the caller can register it; reads and writes go through the methods.
    pub(crate) stream: TcpStream,
    /// Offset in the text at which its stream starts. The offsets below count from here, in bytes.
    start: u64,
    queued: u64,
    written: u64,
    received: u64,
    /// When messages in flight were due, oldest first, and how many at that time.
    due: VecDeque<(u64, u64)>,
    /// Index after the last message counted as wrong.
    judged: u64,
}

/// The result of one read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Received {
    /// Messages now complete.
    pub(crate) complete: u64,
    /// Messages that differ from the expected reply.
    pub(crate) wrong: u64,
}

impl Talker {
    /// Connects, and starts at the offset in the text that belongs to `number`.
    pub(crate) fn connect(address: SocketAddr, number: usize, text: &Text) -> anyhow::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, CONNECT).with_context(|| {
            format!(
                "cannot open connection {} to {address}; is the server running?",
                number + 1
            )
        })?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let start = text.start(number);
        Ok(Self {
            stream,
            start,
            queued: 0,
            written: 0,
            received: 0,
            due: VecDeque::new(),
            judged: 0,
        })
    }

    /// Messages given to [`Self::queue`] so far.
    pub(crate) fn asked(&self, text: &Text) -> u64 {
        self.queued / text.size() as u64
    }

    /// Messages without a complete reply.
    pub(crate) fn in_flight(&self, text: &Text) -> u64 {
        (self.queued - self.received).div_ceil(text.size() as u64)
    }

    /// Adds `count` messages, due at `at`, to what the next [`Self::flush`] sends.
    pub(crate) fn queue(&mut self, at: u64, count: u64, text: &Text) {
        self.queued += count * text.size() as u64;
        self.due.push_back((at, count));
    }

    /// Sends what is queued; returns false if the socket does not take all of it.
    pub(crate) fn flush(&mut self, text: &Text) -> anyhow::Result<bool> {
        while self.written < self.queued {
            let bytes = text.asked(
                self.start + self.written,
                (self.queued - self.written) as usize,
            );
            match self.stream.write(bytes) {
                Ok(sent) => self.written += sent as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(error).context("the server cut a connection while it was sent to");
                }
            }
        }
        Ok(true)
    }

    /// Reads once and compares.
    pub(crate) fn receive(&mut self, buffer: &mut [u8], text: &Text) -> anyhow::Result<Received> {
        let read = match self.stream.read(buffer) {
            Ok(0) => bail!(
                "the server closed a connection in the middle of a measurement; see what it printed"
            ),
            Ok(read) => read as u64,
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                return Ok(Received::default());
            }
            Err(error) => {
                return Err(error).context("the server cut a connection while it was read from");
            }
        };
        if read > self.written - self.received {
            bail!(
                "the server answered more than it was asked: {} bytes too many",
                read - (self.written - self.received)
            );
        }
        let bytes = &buffer[..read as usize];
        let expected = text.answered(self.start + self.received, read as usize);
        let wrong = if bytes == expected {
            0
        } else {
            self.judge(bytes, expected, text.size() as u64)
        };
        let size = text.size() as u64;
        let before = self.received / size;
        self.received += read;
        Ok(Received {
            complete: self.received / size - before,
            wrong,
        })
    }

    /// Returns when the oldest of `complete` messages were due, and how many of them at that time. Call it until it has
    /// returned as many as were received.
    pub(crate) fn settle(&mut self, complete: u64) -> Option<(u64, u64)> {
        let (at, count) = self.due.front_mut()?;
        let (at, settled) = (*at, complete.min(*count));
        *count -= settled;
        if *count == 0 {
            self.due.pop_front();
        }
        Some((at, settled))
    }

    /// Counts the messages that differ, each once however many reads it spans.
    fn judge(&mut self, bytes: &[u8], expected: &[u8], size: u64) -> u64 {
        let mut wrong = 0;
        for (offset, (byte, due)) in bytes.iter().zip(expected).enumerate() {
            let message = (self.received + offset as u64) / size;
            if byte != due && message >= self.judged {
                self.judged = message + 1;
                wrong += 1;
            }
        }
        wrong
    }
}
