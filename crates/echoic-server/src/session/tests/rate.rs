//! The rate limit of a source: it is exact, and all conversations of the source share it.

use echoic_core::limits::SourceLimits;
use tokio::time::sleep;

use super::*;
use crate::sources::Sources;

const SECOND: Duration = Duration::from_secs(1);

fn sources(messages: Option<u32>, bytes: Option<u32>) -> Sources {
    Sources::new(SourceLimits {
        messages_per_second_max: messages,
        bytes_per_second_max: bytes,
        on_loopback: true,
        ..SourceLimits::none()
    })
}

async fn talk(sources: &mut Sources) -> Talk {
    let mut setup = Setup::line();
    setup.permit = sources.admit(&address(40_000)).unwrap();
    setup.talk(echo()).await
}

#[tokio::test(start_paused = true)]
async fn messages_over_the_rate_limit_end_the_conversation() {
    let talk = talk(&mut sources(Some(10), None)).await;
    talk.peer.send("x\n".repeat(10));
    sleep(SECOND).await;
    talk.peer.send("x\n".repeat(4));
    sleep(SECOND / 10).await;
    talk.peer.send("x\n".repeat(8));
    let end = talk.end().await;
    assert_eq!(
        (end.reason(), end.exchanges.len()),
        (CloseReason::RateLimited, 10 + 4 + 7)
    );
    assert_eq!(end.taken, "x\n".repeat(21).into_bytes());
    assert_eq!(end.ending.received, 44);
}

#[tokio::test(start_paused = true)]
async fn unlimited_source_is_answered_in_full() {
    let talk = talk(&mut sources(None, None)).await;
    talk.peer.send("x\n".repeat(22));
    talk.peer.finish();
    let end = talk.end().await;
    assert_eq!(
        (end.reason(), end.exchanges.len()),
        (CloseReason::PeerClosed, 22)
    );
}

#[tokio::test(start_paused = true)]
async fn conversations_of_a_source_share_one_rate_limit() {
    let mut sources = sources(Some(10), None);
    let (one, other) = (talk(&mut sources).await, talk(&mut sources).await);
    one.peer.send("x\n".repeat(7));
    one.peer.receives("x\n".repeat(7)).await;
    other.peer.send("x\n".repeat(4));
    let end = other.end().await;
    assert_eq!(
        (end.reason(), end.exchanges.len()),
        (CloseReason::RateLimited, 3)
    );
    one.peer.finish();
    assert_eq!(one.end().await.reason(), CloseReason::PeerClosed);
}

#[tokio::test(start_paused = true)]
async fn byte_rate_limit_applies_to_unfinished_messages() {
    let talk = talk(&mut sources(None, Some(100))).await;
    for _ in 0..5 {
        talk.peer.send([b'x'; 100]);
        sleep(SECOND).await;
    }
    talk.peer.send([b'x'; 50]);
    talk.peer.send([b'x'; 51]);
    let end = talk.end().await;
    assert_eq!(
        (end.reason(), end.exchanges.len()),
        (CloseReason::RateLimited, 0)
    );
    assert_eq!(end.ending.received, 500 + 50 + 51);
}
