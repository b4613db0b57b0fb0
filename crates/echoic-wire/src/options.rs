//! How to listen.

use tokio::runtime::Handle;

use crate::explain::Explain;

/// The mode a socket's file has from its first moment: for us alone.
pub(crate) const PRIVATE: u32 = 0o600;

/// How to listen.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// Connections the kernel may hold ready for us. A hint: the system caps it (`net.core.somaxconn`), and past
    /// it Linux drops the caller's SYN, so that the caller waits and is not refused (listen(2)).
    pub backlog: u32,
    /// Kernel send buffer of each connection in bytes; none leaves it to the kernel's autotuning.
    pub send_buffer: Option<usize>,
    /// Kernel receive buffer of each socket of datagrams, in bytes: what may wait there while we are busy; beyond it
    /// the kernel drops and counts. A wish: the system caps it (`net.core.rmem_max`).
    pub receive_buffer: usize,
    /// Permissions of a Unix socket's file.
    pub unix_mode: u32,
    /// Told of every socket call.
    pub explain: Option<Explain>,
    /// Where looking up a name is given so long and no longer, if the runtime this is called on has no timers.
    pub timers: Option<Handle>,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            backlog: 1024,
            send_buffer: None,
            receive_buffer: 1 << 20,
            unix_mode: PRIVATE,
            explain: None,
            timers: None,
        }
    }
}
