//! Tells requests that wait of what this process records.

use std::{
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use echoic_recorder::{Recorder, Seen, Watcher};
use tokio::sync::watch;

/// Notices of new exchanges. One task watches the recorder for all that wait; while nobody does there is none.
#[derive(Clone, Debug, Default)]
pub(super) struct Notices(Arc<Mutex<Option<watch::Sender<()>>>>);

/// Receives the notices from its creation on.
#[derive(Debug)]
pub(super) struct Noticed(watch::Receiver<()>);

impl Notices {
    /// Returns a receiver of the notices, and starts the task if it is the only one.
    pub(super) fn follow(&self, recorder: &Recorder) -> Noticed {
        let mut sender = self.sender();
        if let Some(sender) = &*sender {
            return Noticed(sender.subscribe());
        }
        let (new, receiver) = watch::channel(());
        *sender = Some(new.clone());
        tokio::spawn(self.clone().forward(recorder.watch(), new));
        Noticed(receiver)
    }

    /// Forwards what the recorder tells until nobody waits, or the recorder ends.
    async fn forward(self, mut watcher: Watcher, sender: watch::Sender<()>) {
        loop {
            tokio::select! {
                () = sender.closed() => {
                    // Under the lock, so that nobody begins to wait for a task that ends.
                    let mut running = self.sender();
                    if sender.receiver_count() == 0 {
                        *running = None;
                        return;
                    }
                }
                seen = watcher.next() => match seen {
                    Some(Seen::Batch { batch, .. }) if batch.exchanges() == 0 => {}
                    Some(_) => {
                        let _ = sender.send(());
                    }
                    None => {
                        *self.sender() = None;
                        return;
                    }
                },
            }
        }
    }

    fn sender(&self) -> MutexGuard<'_, Option<watch::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Noticed {
    /// Waits until exchanges may have been stored since the last call. Never ends once the recorder has ended.
    pub(super) async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Notices;

    impl Notices {
        /// Returns whether the task runs.
        pub(in crate::routes) fn is_running(&self) -> bool {
            self.sender().is_some()
        }
    }
}
