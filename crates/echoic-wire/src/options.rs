//! Options of listening sockets.

use tokio::runtime::Handle;

use crate::explain::Explain;

/// The mode in which a socket file is created: for the owner alone.
pub(crate) const PRIVATE_MODE: u32 = 0o600;

/// Options for [`listen`](crate::listen) and [`bind_datagrams`](crate::bind_datagrams).
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// Connections that the kernel may queue before they are accepted. The system caps it (`net.core.somaxconn`). When
    /// the queue is full Linux drops the SYN, so that the client waits and is not refused (listen(2)).
    pub backlog: u32,
    /// Kernel send buffer of each connection in bytes; `None` leaves it to the kernel's autotuning.
    pub send_buffer: Option<usize>,
    /// Kernel receive buffer of each datagram socket in bytes. When it is full the kernel drops datagrams and counts
    /// them. The system caps it (`net.core.rmem_max`).
    pub receive_buffer: usize,
    /// Lets a UDP socket send to broadcast addresses (`SO_BROADCAST`, socket(7)), and has datagrams to them answered.
    pub broadcast: bool,
    /// Mode of a Unix socket's file.
    pub unix_mode: u32,
    /// Receives a report of every socket call.
    pub explain: Option<Explain>,
    /// Runtime whose timers bound the name lookup; needed if the current runtime has none.
    pub timers: Option<Handle>,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            backlog: 1024,
            send_buffer: None,
            receive_buffer: 1 << 20,
            broadcast: false,
            unix_mode: PRIVATE_MODE,
            explain: None,
            timers: None,
        }
    }
}
