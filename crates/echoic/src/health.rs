//! `--health`: the socket with `/livez`, `/readyz` and `/metrics`; and telling whoever watches a process how it does.

mod address;

use std::{
    net::{SocketAddr, TcpListener as StdListener},
    time::Duration,
};

use echoic_console::{HealthServer, Phase};
use tokio::{
    net::TcpListener,
    runtime::Handle,
    sync::{oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

pub(crate) use self::address::HealthAddress;
use crate::{cli::HealthOptions, exit::CliError, notify::Notifier, term};

/// Time at the stop for open requests to end.
const STOP_WITHIN: Duration = Duration::from_secs(1);

/// The version that the metrics tell.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A socket that is open. Nothing answers there yet.
pub(crate) struct OpenHealth(TcpListener);

impl OpenHealth {
    /// Opens the socket that an option asks for, and reports its address: that of port 0 also with `--quiet`, since nobody
    /// knows it otherwise.
    pub(crate) fn open(options: &HealthOptions, quiet: bool) -> Result<Option<Self>, CliError> {
        let Some(HealthAddress::At(at)) = options.health else {
            return Ok(None);
        };
        let open = || {
            let listener = StdListener::bind(at)?;
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            Ok((listener.local_addr()?, listener))
        };
        let opened: std::io::Result<(SocketAddr, TcpListener)> = open();
        let (address, listener) = opened.map_err(|error| {
            CliError::system(format!(
                "cannot open --health at {at}: {error}; expected a free port: 0 picks one"
            ))
        })?;
        if !quiet || at.port() == 0 {
            term::note(&format!("health on http://{address}/readyz"));
        }
        Ok(Some(Self(listener)))
    }

    /// Starts to serve.
    pub(crate) fn serve(self, server: HealthServer) -> RunningHealth {
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(async move {
            let stop = async { _ = stopped.await };
            if let Err(error) = server.serve(self.0, stop).await {
                tracing::error!("the routes of health ended: {error}");
            }
        });
        RunningHealth { serving, stop }
    }
}

/// Routes of health that are served.
pub(crate) struct RunningHealth {
    serving: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

impl RunningHealth {
    /// Stops them: open requests have a moment to end.
    pub(crate) async fn stop(self) {
        let Self { mut serving, stop } = self;
        drop(stop);
        if timeout(STOP_WITHIN, &mut serving).await.is_err() {
            serving.abort();
            let _ = serving.await;
        }
    }
}

/// Tells the routes of health and the service manager how a process does.
pub(crate) struct Lifecycle {
    phase: watch::Sender<Phase>,
    notifier: Notifier,
    health: Option<RunningHealth>,
    watchdog: JoinHandle<()>,
}

impl Lifecycle {
    /// Begins to tell: it is starting. `server` makes what answers at the socket, if one is open.
    pub(crate) fn start(
        health: Option<OpenHealth>,
        server: impl FnOnce(watch::Receiver<Phase>) -> HealthServer,
    ) -> Self {
        let phase = watch::Sender::new(Phase::Starting);
        let health = health.map(|open| open.serve(server(phase.subscribe())));
        let notifier = Notifier::from_env();
        let watchdog = notifier.clone().feed_watchdog(vec![Handle::current()]);
        Self {
            phase,
            notifier,
            health,
            watchdog: tokio::spawn(watchdog),
        }
    }

    /// Returns where its phase can be read, for whoever tells others of it.
    pub(crate) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// It works from now on.
    pub(crate) fn set_working(&self, status: &str) {
        self.phase.send_replace(Phase::Working);
        self.notifier.ready(status);
    }

    /// It does not do its work for this reason, or does it again.
    pub(crate) fn set_status(&self, status: &str) {
        self.notifier.status(status);
    }

    /// It ends what it has begun, and needs at most `within` for it.
    pub(crate) fn set_stopping(&self, status: &str, within: Duration) {
        self.phase.send_replace(Phase::Stopping);
        self.notifier.stopping(status, within);
    }

    /// Ends the routes and the watchdog's task.
    pub(crate) async fn end(self) {
        self.watchdog.abort();
        if let Some(health) = self.health {
            health.stop().await;
        }
    }
}
