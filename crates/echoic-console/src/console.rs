//! The console as the program uses it.

use std::{io, sync::Arc};

use echoic_core::{control::Control, store::Store};
use echoic_recorder::{Recorder, wall_clock_now};
use tokio::net::TcpListener;

use crate::{
    config::ConsoleConfig, cookie::SessionCookie, hosts::Hosts, hub::Hub, login::LoginLimit,
    routes::Waiters, series::SeriesCache, serve::serve, state::App,
};

/// A console that is not yet serving.
pub struct Console {
    config: ConsoleConfig,
    store: Arc<dyn Store>,
    recorder: Option<Recorder>,
    control: Option<Arc<dyn Control>>,
}

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Console")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Console {
    /// Creates a console of `store`. `recorder` is what feeds the store, if that is in this process; else the store is polled
    /// for what is new. `control` is the server, if it is in this process; else there are no endpoints, and nothing can be sent.
    pub fn new(
        config: ConsoleConfig,
        store: Arc<dyn Store>,
        recorder: Option<Recorder>,
        control: Option<Arc<dyn Control>>,
    ) -> Self {
        if let Some(recorder) = &recorder {
            recorder.count();
        }
        Self {
            config,
            store,
            recorder,
            control,
        }
    }

    /// Serves until `stop` is done; then open requests have a second to end.
    ///
    /// # Errors
    /// If the listener has no address, or the system no random numbers.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let instance = match &self.recorder {
            Some(recorder) => recorder.server().id.to_string(),
            None => format!("{:016x}", getrandom::u64().map_err(io::Error::other)?),
        };
        let bound = listener.local_addr()?;
        let app = Arc::new(App {
            hub: Hub::new(&self.store, self.recorder.as_ref(), self.control.as_ref()),
            series: SeriesCache::new(self.recorder.is_some()),
            hosts: Hosts::new(bound, self.config.tls.clone()),
            cookie: SessionCookie::new(bound.port(), &self.config),
            logins: LoginLimit::default(),
            waiters: Waiters::default(),
            instance,
            started: wall_clock_now(),
            config: self.config,
            store: self.store,
            recorder: self.recorder,
            control: self.control,
        });
        serve(&app, &listener, stop).await;
        Ok(())
    }
}
