//! Tells a service manager how the process does (`sd_notify(3)`): ready, stopping, failing, alive.
//!
//! The crate `sd-notify` 0.5 sends to paths only, and not to abstract sockets (`@NAME`), which systemd uses too.

use std::{
    env,
    ffi::OsString,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    sync::Arc,
    time::Duration,
};

use tokio::{
    runtime::Handle,
    time::{sleep, timeout},
};

/// Sends to the socket of the service manager. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Notifier(Option<Arc<(UnixDatagram, SocketAddr)>>);

impl Notifier {
    /// Opens the socket that `NOTIFY_SOCKET` names; without the variable, nothing is sent.
    pub(crate) fn from_env() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET") else {
            return Self(None);
        };
        match open(&name) {
            Ok(socket) => Self(Some(Arc::new(socket))),
            Err(why) => {
                let name = name.display();
                tracing::warn!("cannot notify the service manager at NOTIFY_SOCKET={name}: {why}");
                Self(None)
            }
        }
    }

    /// The process does its work.
    pub(crate) fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    /// The process ends what it has begun, and needs at most `within` for it.
    pub(crate) fn stopping(&self, status: &str, within: Duration) {
        let (status, within) = (one_line(status), within.as_micros());
        self.send(&format!(
            "STOPPING=1\nSTATUS={status}\nEXTEND_TIMEOUT_USEC={within}"
        ));
    }

    /// Sets the text that `systemctl status` shows.
    pub(crate) fn status(&self, status: &str) {
        self.send(&format!("STATUS={}", one_line(status)));
    }

    /// Sends without waiting. A service manager that does not read must not stop the process.
    fn send(&self, state: &str) {
        if let Some(socket) = &self.0 {
            let (socket, address) = &**socket;
            if let Err(why) = socket.send_to_addr(state.as_bytes(), address) {
                tracing::debug!("the service manager was not notified: {why}");
            }
        }
    }

    /// Keeps a watchdog (`WatchdogSec=`) from ending the process while every worker runs tasks, until it is aborted. Returns at
    /// once if there is none.
    pub(crate) async fn feed_watchdog(self, workers: Vec<Handle>) {
        let Some(interval) = self.0.as_ref().and_then(|_| watchdog()) else {
            return;
        };
        // sd_watchdog_enabled(3): half of the time.
        let interval = interval / 2;
        loop {
            let run = async {
                for worker in &workers {
                    let _ = worker.spawn(async {}).await;
                }
            };
            if timeout(interval, run).await.is_ok() {
                self.send("WATCHDOG=1");
            }
            sleep(interval).await;
        }
    }
}

/// Opens a socket to send to `name`: a path, or an abstract name after `@`.
fn open(name: &OsString) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => {
            let why = "expected an absolute path or @NAME";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

/// Returns the interval of the watchdog, if it is meant for this process (`sd_watchdog_enabled(3)`).
fn watchdog() -> Option<Duration> {
    let number = |name| env::var(name).ok()?.parse::<u64>().ok();
    let is_ours = env::var_os("WATCHDOG_PID").is_none()
        || number("WATCHDOG_PID") == Some(std::process::id().into());
    let interval = number("WATCHDOG_USEC").filter(|us| is_ours && *us > 0)?;
    Some(Duration::from_micros(interval))
}

/// A line break would begin another variable.
fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}
