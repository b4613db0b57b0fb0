//! Planted bugs of datagrams: a wrapper around the server's socket.

use std::{
    collections::HashMap,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use echoic_core::event::Address;
use echoic_wire::DatagramTransport;
use tokio::time::Instant;

use super::{
    super::bug::{Bug, Planted, with_alias, without_alias},
    check::{Counted, circles},
};

/// Wraps the socket if the bug is one of a socket.
pub(super) fn in_socket(
    planted: &Planted,
    socket: Box<dyn DatagramTransport>,
) -> Box<dyn DatagramTransport> {
    let Some(
        Bug::DrainForgetsTheLast
        | Bug::AnswerMisaddressed
        | Bug::CircleGoesOn
        | Bug::DropsUnrecorded,
    ) = planted.bug()
    else {
        return socket;
    };
    Box::new(FaultySocket {
        socket,
        planted: planted.clone(),
        answered: Mutex::default(),
        aliases: Mutex::default(),
    })
}

#[derive(Debug)]
struct FaultySocket {
    socket: Box<dyn DatagramTransport>,
    planted: Planted,
    /// The peer that was answered last.
    answered: Mutex<Option<Address>>,
    aliases: Mutex<HashMap<Address, Alias>>,
}

/// The address under which the server knows a peer. It changes before the server would notice a circle.
#[derive(Debug, Default)]
struct Alias {
    number: u16,
    counted: Counted,
}

impl FaultySocket {
    fn alias(&self, from: &Address, bytes: &[u8]) -> Address {
        let mut aliases = lock(&self.aliases);
        let alias = aliases.entry(from.clone()).or_default();
        let now = Instant::now();
        if circles(&mut alias.counted, bytes, now) {
            alias.number += 1;
            circles(&mut alias.counted, bytes, now); // it is the first one from the new address
        }
        with_alias(from, alias.number)
    }

    /// Sends to the peer that was answered before; the first reply goes to the right one.
    fn send_to_the_one_before(&self, bytes: &[u8], to: &Address) -> io::Result<usize> {
        let mut answered = lock(&self.answered);
        let sent = self.socket.send(bytes, answered.as_ref().unwrap_or(to))?;
        *answered = Some(to.clone());
        Ok(sent)
    }
}

impl DatagramTransport for FaultySocket {
    fn poll_ready(&self, cx: &mut Context<'_>, to_send: bool) -> Poll<io::Result<()>> {
        if self.planted.blocks_receives() && !to_send {
            return Poll::Pending; // the drain wakes the socket's task, nothing else has to
        }
        self.socket.poll_ready(cx, to_send)
    }

    fn receive(&self, room: &mut [u8]) -> io::Result<(usize, usize, Address)> {
        if self.planted.blocks_receives() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let (len, whole, from) = self.socket.receive(room)?;
        let from = match self.planted.bug() {
            Some(Bug::CircleGoesOn) => self.alias(&from, &room[..len]),
            _ => from,
        };
        Ok((len, whole, from))
    }

    fn send(&self, bytes: &[u8], to: &Address) -> io::Result<usize> {
        match self.planted.bug() {
            Some(Bug::AnswerMisaddressed) => self.send_to_the_one_before(bytes, to),
            Some(Bug::CircleGoesOn) => self.socket.send(bytes, &without_alias(to)),
            _ => self.socket.send(bytes, to),
        }
    }

    fn dropped(&self) -> u32 {
        match self.planted.bug() {
            Some(Bug::DropsUnrecorded) => 0,
            _ => self.socket.dropped(),
        }
    }

    fn receive_buffer_size(&self) -> usize {
        self.socket.receive_buffer_size()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
