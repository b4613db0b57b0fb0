//! The reader of standard output, watched by the runtime.

use std::{future::pending, io, time::Duration};

use tokio::io::{Interest, unix::AsyncFd};

use crate::stdout_reader::has_left;

/// Waits until the reader of standard output has left.
///
/// epoll reports errors and hang-ups although it is asked for urgent data only, which an output never has. So it does not
/// wake us each time the reader makes room.
pub(super) async fn left() {
    let interest = Interest::PRIORITY | Interest::ERROR;
    #[expect(
        deprecated,
        reason = "its replacement is unsafe, for descriptors that may be closed meanwhile; standard output is not"
    )]
    let output = AsyncFd::with_interest(io::stdout(), interest);
    // A file cannot be registered (EPERM, epoll_ctl(2)), and has no reader.
    let Ok(output) = output else {
        return pending().await;
    };
    while !has_left(Duration::ZERO) {
        match output.ready(interest).await {
            Ok(mut ready) => ready.clear_ready(),
            // The runtime is shutting down.
            Err(_) => return pending().await,
        }
    }
}
