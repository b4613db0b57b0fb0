//! Busy polling (`--busy-poll`): after each read a worker looks for more for a while before it sleeps.
//!
//! Waking a sleeping thread is half of the cost of a lone message. A worker that keeps polling while messages arrive
//! avoids it, and uses a whole core. `scripts/bench`, server `busy`, has the figures.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use tokio::task::yield_now;

thread_local! {
    static READS: Reads = const { Reads { count: Cell::new(0), sleeper: Cell::new(None) } };
}

/// Reads by the conversations of a thread.
struct Reads {
    count: Cell<u64>,
    /// The task of [`keep_polling`], while it waits for the next read.
    sleeper: Cell<Option<Waker>>,
}

/// Notes that a conversation of this thread has read something.
pub(crate) fn note_read() {
    READS.with(|reads| {
        reads.count.set(reads.count.get().wrapping_add(1));
        if let Some(sleeper) = reads.sleeper.take() {
            sleeper.wake();
        }
    });
}

/// Keeps a `current_thread` runtime from sleeping for `duration` after each read of its conversations. Spawn it on the
/// runtime of a worker; it never returns.
pub async fn keep_polling(duration: Duration) {
    let mut seen = read_count();
    loop {
        next_read(seen).await;
        seen = read_count();
        let mut since = Instant::now();
        while since.elapsed() < duration {
            // Yields to the scheduler, which polls the sockets without waiting.
            yield_now().await;
            let now = read_count();
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
        }
    }
}

fn read_count() -> u64 {
    READS.with(|reads| reads.count.get())
}

/// Sleeps until the count of reads differs from `seen`.
fn next_read(seen: u64) -> impl Future<Output = ()> {
    poll_fn(move |cx| {
        if read_count() != seen {
            return Poll::Ready(());
        }
        READS.with(|reads| reads.sleeper.set(Some(cx.waker().clone())));
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

    /// How often the task was polled within 20 ms.
    async fn polls(with_read: bool) -> u64 {
        let ran = Arc::new(AtomicU64::new(0));
        let counting = Arc::clone(&ran);
        let looking = tokio::spawn(async move {
            let mut looking = pin!(keep_polling(Duration::from_millis(10)));
            poll_fn(|cx| {
                counting.fetch_add(1, Ordering::Relaxed);
                looking.as_mut().poll(cx)
            })
            .await;
        });
        yield_now().await;
        if with_read {
            note_read();
        }
        sleep(Duration::from_millis(20)).await;
        looking.abort();
        ran.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn busy_polling_starts_after_a_message() {
        let quiet = polls(false).await;
        assert!(quiet <= 2, "polled {quiet} times without a read");
        let busy = polls(true).await;
        assert!(busy > 20, "{busy} polls in 10 ms: it slept");
    }

    /// Whether the task of this thread waits for the next read.
    fn is_asleep() -> bool {
        READS.with(|reads| {
            let sleeper = reads.sleeper.take();
            let asleep = sleeper.is_some();
            reads.sleeper.set(sleeper);
            asleep
        })
    }

    #[tokio::test]
    async fn busy_polling_stops_after_its_time() {
        let looking = tokio::spawn(keep_polling(Duration::from_millis(1)));
        yield_now().await;
        for _ in 0..3 {
            note_read();
            let deadline = Instant::now() + Duration::from_secs(20);
            while !is_asleep() {
                assert!(
                    Instant::now() < deadline,
                    "still polling, or without a waker"
                );
                sleep(Duration::from_millis(5)).await;
            }
        }
        looking.abort();
    }
}
