//! Reports of socket calls as they happen: the data of `--explain`.
//!
//! Newcomers know the list of socket methods from a tutorial. A report has one such call with its arguments and its
//! result, so that they see which calls the program makes, and when.

mod in_c;

use std::{fmt, io, net::SocketAddr, sync::Arc};

use echoic_core::{endpoint::Shape, event::Address};

pub use self::in_c::CallInC;

/// Receives a report of every socket call of a link or a listener.
#[derive(Clone)]
pub struct Explain {
    /// The address passed with each report: the peer's, or our own for the socket of an endpoint.
    address: Option<Address>,
    callback: Arc<Callback>,
}

type Callback = dyn Fn(Option<&Address>, Call<'_>) + Send + Sync;

/// A socket call with its arguments and its result.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Call<'a> {
    /// getaddrinfo(3).
    Resolve {
        /// The name.
        host: &'a str,
        /// Its addresses.
        result: Result<&'a [SocketAddr], &'a io::Error>,
    },
    /// socket(2).
    Socket {
        /// An address of the socket's family.
        address: Address,
        /// The socket's type.
        shape: Shape,
        /// Success or failure.
        result: Result<(), &'a io::Error>,
    },
    /// setsockopt(2) with an integer.
    SetOption {
        /// The option's name in C.
        name: &'static str,
        /// Its value.
        value: usize,
        /// Success or failure.
        result: Result<(), &'a io::Error>,
    },
    /// bind(2).
    Bind {
        /// The requested address.
        address: Address,
        /// Success or failure.
        result: Result<(), &'a io::Error>,
    },
    /// listen(2).
    Listen {
        /// Connections that may wait to be accepted.
        backlog: u32,
        /// Success or failure.
        result: Result<(), &'a io::Error>,
    },
    /// accept(2).
    Accept {
        /// The peer's address.
        result: Result<Address, &'a io::Error>,
    },
    /// connect(2).
    Connect {
        /// The peer's address.
        address: Address,
        /// Success or failure.
        result: Result<(), &'a io::Error>,
    },
    /// recv(2).
    Recv {
        /// Size of the buffer in bytes.
        capacity: usize,
        /// The bytes received; none at the end of the peer's stream.
        result: Result<&'a [u8], &'a io::Error>,
    },
    /// send(2).
    Send {
        /// The bytes to send.
        bytes: &'a [u8],
        /// How many of them the kernel took.
        result: Result<usize, &'a io::Error>,
    },
    /// recvfrom(2): a datagram. Failures are not reported.
    RecvFrom {
        /// The sender's address.
        from: Address,
        /// Size of the buffer in bytes.
        capacity: usize,
        /// The bytes received; an empty datagram is possible.
        bytes: &'a [u8],
    },
    /// sendto(2): a datagram.
    SendTo {
        /// The receiver's address.
        to: Address,
        /// The bytes to send.
        bytes: &'a [u8],
        /// How many of them the kernel took: all or none.
        result: Result<usize, &'a io::Error>,
    },
    /// shutdown(2) of the sending half.
    Shutdown {
        /// Success or failure.
        result: Result<(), &'a io::Error>,
    },
    /// shutdown(2) of the receiving half: a Unix socket stops listening.
    ShutdownRead {
        /// Success or failure.
        result: Result<(), &'a io::Error>,
    },
    /// No call, but why the next one is made, in plain words.
    Remark(&'static str),
    /// No call, but a step of a layer's protocol (TLS) over the socket. It may have text of the peer.
    Step(&'a str),
    /// close(2) of a connection, or of an endpoint's socket; the latter is reported with its own address.
    Close,
}

impl Explain {
    /// Calls `callback` for each socket call, on the thread that made it, with the peer's address once it is known.
    pub fn new(callback: impl Fn(Option<&Address>, Call<'_>) + Send + Sync + 'static) -> Self {
        Self {
            address: None,
            callback: Arc::new(callback),
        }
    }

    /// Returns the same receiver for the calls made with one peer.
    #[must_use]
    pub fn for_peer(&self, peer: Address) -> Self {
        Self {
            address: Some(peer),
            callback: Arc::clone(&self.callback),
        }
    }

    /// Returns a receiver that passes each report to both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            address: self.address.clone(),
            callback: Arc::new(move |_, call| {
                self.report(call.clone());
                other.report(call);
            }),
        }
    }

    /// Reports a call.
    pub fn report(&self, call: Call<'_>) {
        (self.callback)(self.address.as_ref(), call);
    }
}

impl fmt::Debug for Explain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Explain")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Reports the close of a socket: stored beside it and dropped with it.
#[derive(Debug)]
pub(crate) struct CloseReporter(Option<Explain>);

impl CloseReporter {
    /// `address` is the socket's own, which tells several sockets of an endpoint apart.
    pub(crate) fn new(address: &Address, explain: Option<&Explain>) -> Self {
        Self(explain.map(|explain| explain.for_peer(address.clone())))
    }

    /// The socket lives on in a link, which reports its close itself.
    pub(crate) fn hand_over(mut self) {
        self.0 = None;
    }
}

impl Drop for CloseReporter {
    fn drop(&mut self) {
        report(self.0.as_ref(), || Call::Close);
    }
}

/// Reports a call if `explain` is set; `call` is not built otherwise.
pub(crate) fn report<'a>(explain: Option<&Explain>, call: impl FnOnce() -> Call<'a>) {
    if let Some(explain) = explain {
        explain.report(call());
    }
}
