//! What the routes share.

use std::{fmt, sync::Arc};

use echoic_core::{control::Control, event::Micros, store::Store};
use echoic_recorder::Recorder;

use crate::{
    config::ConsoleConfig, cookie::SessionCookie, hosts::Hosts, hub::Hub, login::LoginLimit,
    routes::Waiters, series::SeriesCache,
};

/// What the routes share. They get it as `State<Arc<App>>`.
pub(crate) struct App {
    pub(crate) config: ConsoleConfig,
    pub(crate) store: Arc<dyn Store>,
    /// `None` if this process does not own the record.
    pub(crate) recorder: Option<Recorder>,
    /// `None` if this process runs no server.
    pub(crate) control: Option<Arc<dyn Control>>,
    pub(crate) hub: Hub,
    pub(crate) series: SeriesCache,
    /// The values of Host that are accepted.
    pub(crate) hosts: Hosts,
    /// What a login sets.
    pub(crate) cookie: SessionCookie,
    pub(crate) logins: LoginLimit,
    pub(crate) waiters: Waiters,
    /// Identifies this start: the recorder's id, or a random number.
    pub(crate) instance: String,
    pub(crate) started: Micros,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("config", &self.config)
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}
