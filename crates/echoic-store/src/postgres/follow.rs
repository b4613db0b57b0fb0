//! Follows what others record: one connection listens for the notices that each append sends.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use echoic_core::{event::ExchangeId, store::StoreError};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::readers::Readers;

/// Time between two attempts to listen: a database that restarts is not asked all the time.
const RETRY: Duration = Duration::from_millis(500);

/// Time after which the newest id is asked for, although there was no notice: a connection may be gone without a sign.
const SILENCE: Duration = Duration::from_secs(5);

/// The newest id that is known, once somebody follows.
#[derive(Debug, Default)]
pub(super) struct Follow(Mutex<State>);

#[derive(Debug, Default)]
enum State {
    /// Nobody has followed.
    #[default]
    Idle,
    /// A task listens, until `_end` is dropped.
    Listening {
        newest: watch::Receiver<ExchangeId>,
        _end: watch::Sender<()>,
    },
    /// The store is closed.
    Ended,
}

/// What listens.
pub(super) struct Listener {
    newest: watch::Sender<ExchangeId>,
    end: watch::Receiver<()>,
}

impl Follow {
    /// Returns the newest id that is known, which changes. The first who follows starts a listener; `start` tells whether it
    /// could be. `None` if it could not, or if the store is closed.
    pub(super) fn newest(
        &self,
        start: impl FnOnce(Listener) -> bool,
    ) -> Option<watch::Receiver<ExchangeId>> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*state {
            State::Ended => None,
            State::Listening { newest, .. } => Some(newest.clone()),
            State::Idle => {
                let (sender, newest) = watch::channel(0);
                let (end, ended) = watch::channel(());
                let listener = Listener {
                    newest: sender,
                    end: ended,
                };
                start(listener).then(|| {
                    *state = State::Listening {
                        newest: newest.clone(),
                        _end: end,
                    };
                    newest
                })
            }
        }
    }

    /// Ends the task. Who waits is woken.
    pub(super) fn stop(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State::Ended;
    }
}

impl Listener {
    /// Listens until the store is closed.
    pub(super) async fn run(self, readers: Arc<Readers>) {
        let Self { newest, mut end } = self;
        let listening = async {
            loop {
                // Who follows reads the database too, and reports its errors.
                let _ = listen(&readers, &newest).await;
                sleep(RETRY).await;
            }
        };
        tokio::select! {
            _ = end.changed() => {}
            () = listening => {}
        }
    }
}

/// Listens until the connection ends.
async fn listen(
    readers: &Arc<Readers>,
    newest: &watch::Sender<ExchangeId>,
) -> Result<(), StoreError> {
    let (client, mut notices) = readers.listener().await?;
    let listening = client.batch_execute("LISTEN echoic").await;
    listening.map_err(|why| readers.error(&why))?;
    // What was recorded before is told by no notice.
    publish(newest, Arc::clone(readers).last().await?.exchange);
    loop {
        match timeout(SILENCE, notices.recv()).await {
            Ok(Some(notice)) => publish(newest, notice.payload().parse().unwrap_or(0)),
            Ok(None) => return Ok(()),
            Err(_) => publish(newest, Arc::clone(readers).last().await?.exchange),
        }
    }
}

/// Notices of several appends may arrive together, and that of an earlier one after a read of the newest id.
fn publish(newest: &watch::Sender<ExchangeId>, id: ExchangeId) {
    newest.send_if_modified(|newest| {
        let is_newer = id > *newest;
        *newest = id.max(*newest);
        is_newer
    });
}
