//! The socket calls, told as they happen: what `--explain` shows.
//!
//! The tutorial's list of methods is what a newcomer knows; this puts each call, with its arguments and its
//! result, beside what the program did.

use std::{fmt, io, net::SocketAddr, sync::Arc};

use echoic_core::{endpoint::Shape, event::Address};

/// Hears every socket call of a link or a listener.
#[derive(Clone)]
pub struct Explain {
    /// The peer, or our own address where it is about the socket of an endpoint.
    who: Option<Address>,
    tell: Arc<Teller>,
}

type Teller = dyn Fn(Option<&Address>, Call<'_>) + Send + Sync;

/// A socket call and what came of it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Call<'a> {
    /// A name was asked for.
    Resolve {
        /// The name.
        host: &'a str,
        /// Its addresses.
        result: Result<&'a [SocketAddr], &'a io::Error>,
    },
    /// socket(2).
    Socket {
        /// For an address of this family.
        address: Address,
        /// Of this type.
        shape: Shape,
        /// Whether there is one.
        result: Result<(), &'a io::Error>,
    },
    /// bind(2).
    Bind {
        /// The address asked for.
        address: Address,
        /// Whether it was free.
        result: Result<(), &'a io::Error>,
    },
    /// listen(2).
    Listen {
        /// Connections that may wait to be accepted.
        backlog: u32,
        /// Whether it listens.
        result: Result<(), &'a io::Error>,
    },
    /// accept(2).
    Accept {
        /// Who called.
        result: Result<Address, &'a io::Error>,
    },
    /// connect(2).
    Connect {
        /// Who was called.
        address: Address,
        /// Whether somebody answered.
        result: Result<(), &'a io::Error>,
    },
    /// recv(2).
    Recv {
        /// Bytes there was room for.
        room: usize,
        /// What came; nothing is the end of the peer's stream.
        got: Result<&'a [u8], &'a io::Error>,
    },
    /// send(2).
    Send {
        /// What was to be sent.
        bytes: &'a [u8],
        /// How much the kernel took.
        took: Result<usize, &'a io::Error>,
    },
    /// recvfrom(2): a datagram.
    RecvFrom {
        /// Who sent it.
        from: Address,
        /// Bytes there was room for.
        room: usize,
        /// What came; nothing is a message too.
        got: &'a [u8],
    },
    /// sendto(2): a datagram.
    SendTo {
        /// Who it is for.
        to: Address,
        /// What was to be sent.
        bytes: &'a [u8],
        /// How much the kernel took: all or nothing.
        took: Result<usize, &'a io::Error>,
    },
    /// shutdown(2) of the writing half.
    Shutdown {
        /// Whether the end was sent.
        result: Result<(), &'a io::Error>,
    },
    /// close(2): of a connection, or of the socket of an endpoint, which is then named by its own address.
    Close,
}

impl Explain {
    /// `tell` is called with each call, on the thread that made it, together with the peer once there is one.
    pub fn new(tell: impl Fn(Option<&Address>, Call<'_>) + Send + Sync + 'static) -> Self {
        Self {
            who: None,
            tell: Arc::new(tell),
        }
    }

    /// The same listener for the calls made with one peer.
    #[must_use]
    pub fn of(&self, peer: Address) -> Self {
        Self {
            who: Some(peer),
            tell: Arc::clone(&self.tell),
        }
    }

    /// Tells of a call.
    pub fn tell(&self, call: Call<'_>) {
        (self.tell)(self.who.as_ref(), call);
    }
}

impl fmt::Debug for Explain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Explain")
            .field("who", &self.who)
            .finish_non_exhaustive()
    }
}

/// Kept beside a bound socket: tells of its close when it is dropped with it.
#[derive(Debug)]
pub(crate) struct TellsClose(Option<Explain>);

impl TellsClose {
    /// `address` is where the socket is bound, which says which of several it is.
    pub(crate) fn at(address: &Address, explain: Option<&Explain>) -> Self {
        Self(explain.map(|explain| explain.of(address.clone())))
    }
}

impl Drop for TellsClose {
    fn drop(&mut self) {
        tell(self.0.as_ref(), || Call::Close);
    }
}

/// Tells `explain`, if there is anybody to tell.
pub(crate) fn tell<'a>(explain: Option<&Explain>, call: impl FnOnce() -> Call<'a>) {
    if let Some(explain) = explain {
        explain.tell(call());
    }
}
