//! Looking for more instead of sleeping, for a while after each message.
//!
//! A thread that sleeps has to be woken, and that is half of what a lone message takes. One that goes on looking for as
//! long as messages keep coming is there when the next one comes; it takes a core for it. `scripts/bench`, server
//! `busy`, has the figures.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use tokio::task::yield_now;

thread_local! {
    static HEARD: Received = const { Received { reads: Cell::new(0), sleeper: Cell::new(None) } };
}

/// What a thread's conversations have heard.
struct Received {
    reads: Cell<u64>,
    /// Who looks on, while nothing has come.
    sleeper: Cell<Option<Waker>>,
}

/// Something has been heard on this thread.
pub(crate) fn heard() {
    HEARD.with(|heard| {
        heard.reads.set(heard.reads.get().wrapping_add(1));
        if let Some(sleeper) = heard.sleeper.take() {
            sleeper.wake();
        }
    });
}

/// Keeps the runtime it runs on from sleeping for `patience` after each thing heard by conversations on it. To be run
/// on a runtime of one thread, beside them; never ends.
pub async fn keep_looking(patience: Duration) {
    let mut seen = reads();
    loop {
        something_beyond(seen).await;
        seen = reads();
        let mut since = Instant::now();
        while since.elapsed() < patience {
            // To the end of the queue: sockets are looked at in between, without waiting for them.
            yield_now().await;
            let now = reads();
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
        }
    }
}

fn reads() -> u64 {
    HEARD.with(|heard| heard.reads.get())
}

/// Sleeps until more has been heard than `seen`.
fn something_beyond(seen: u64) -> impl Future<Output = ()> {
    poll_fn(move |cx| {
        if reads() != seen {
            return Poll::Ready(());
        }
        HEARD.with(|heard| heard.sleeper.set(Some(cx.waker().clone())));
        Poll::Pending
    })
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::{
            Arc,
            atomic::{AtomicU64, Ordering},
        },
    };

    use tokio::time::sleep;

    use super::*;

    /// How often it ran within 20 ms.
    async fn looks(hear: bool) -> u64 {
        let ran = Arc::new(AtomicU64::new(0));
        let counting = Arc::clone(&ran);
        let looking = tokio::spawn(async move {
            let mut looking = pin!(keep_looking(Duration::from_millis(10)));
            poll_fn(|cx| {
                counting.fetch_add(1, Ordering::Relaxed);
                looking.as_mut().poll(cx)
            })
            .await;
        });
        yield_now().await;
        if hear {
            heard();
        }
        sleep(Duration::from_millis(20)).await;
        looking.abort();
        ran.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn busy_polling_starts_after_a_message() {
        let quiet = looks(false).await;
        assert!(quiet <= 2, "woken {quiet} times, and nothing was heard");
        let busy = looks(true).await;
        assert!(busy > 20, "{busy} looks in 10 ms: it slept");
    }

    #[tokio::test]
    async fn busy_polling_stops_after_its_time() {
        let looking = tokio::spawn(keep_looking(Duration::from_millis(1)));
        yield_now().await;
        for _ in 0..3 {
            heard();
            sleep(Duration::from_millis(5)).await;
            let asleep = HEARD.with(|heard| {
                let sleeper = heard.sleeper.take();
                let asleep = sleeper.is_some();
                heard.sleeper.set(sleeper);
                asleep
            });
            assert!(asleep, "still looking, or no longer to be woken");
        }
        looking.abort();
    }
}
