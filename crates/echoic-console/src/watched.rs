//! The parts of a process by which it is watched, and whether they do their work.

use std::{fmt, sync::Arc};

use echoic_core::{
    control::{Control, EndpointState, EndpointStatus},
    store::Store,
};
use echoic_recorder::Recorder;

use crate::state::App;

/// A server or a record that is watched.
#[derive(Clone, Copy)]
pub(crate) struct Watched<'a> {
    /// `None` if this process cannot read it.
    pub(crate) store: Option<&'a Arc<dyn Store>>,
    /// `None` if this process does not own the record.
    pub(crate) recorder: Option<&'a Recorder>,
    /// `None` if this process controls no server.
    pub(crate) control: Option<&'a Arc<dyn Control>>,
}

/// Why a process does not do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unready {
    /// The store does not take what it is given.
    StoreFails(String),
    /// No endpoint of the server is open: it drains, or all are paused.
    NoEndpoint,
    /// An endpoint is open, and its service can answer nobody: no worker serves it, for example.
    ServiceFails(String),
    /// The store cannot be read.
    StoreUnreadable,
}

impl fmt::Display for Unready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StoreFails(why) => write!(f, "the store fails: {why}"),
            Self::ServiceFails(why) => write!(f, "the service fails: {why}"),
            Self::NoEndpoint => f.write_str("no endpoint is open"),
            Self::StoreUnreadable => f.write_str("the store cannot be read"),
        }
    }
}

impl<'a> Watched<'a> {
    pub(crate) fn of(app: &'a App) -> Self {
        Self {
            store: Some(&app.store),
            recorder: app.recorder.as_ref(),
            control: app.control.as_ref(),
        }
    }

    /// Whether the server serves, and the store takes what it is given and can be read. Servers elsewhere do not matter: a
    /// console shows the record without any.
    pub(crate) async fn readiness(self) -> Result<(), Unready> {
        if let Some(recorder) = self.recorder {
            if let Some(failure) = recorder.status().failure {
                return Err(Unready::StoreFails(failure.why));
            }
            if let Some(control) = self.control {
                serving(&control.endpoints())?;
            }
        }
        if let Some(store) = self.store {
            let read = store.last().await;
            read.map_err(|_| Unready::StoreUnreadable)?;
        }
        Ok(())
    }
}

/// Whether an endpoint is open, and its service can answer.
fn serving(endpoints: &[EndpointStatus]) -> Result<(), Unready> {
    let mut open = endpoints
        .iter()
        .filter(|one| one.state == EndpointState::Open)
        .peekable();
    let Some(first) = open.peek() else {
        return Err(Unready::NoEndpoint);
    };
    match first.failing.clone() {
        Some(why) if open.all(|one| one.failing.is_some()) => Err(Unready::ServiceFails(why)),
        _ => Ok(()),
    }
}
