//! Tests of the queues, without a runtime.

use std::pin::pin;

use super::*;
use crate::framing::{Framing, Splitter};

fn run(bytes: &[u8]) -> RequestRun {
    let mut spans = Vec::new();
    Splitter::new(Framing::Line, 1 << 20).split(bytes, &mut spans);
    RequestRun::from(&Run::new(bytes, &spans, 7))
}

fn poll<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn request_run_is_the_run_it_was_made_of() {
    let bytes = b"..ab\nc\n";
    let mut spans = Vec::new();
    Splitter::new(Framing::Line, 9).split(&bytes[2..], &mut spans);
    for span in &mut spans {
        for at in [
            &mut span.start,
            &mut span.body_start,
            &mut span.body_end,
            &mut span.end,
        ] {
            *at += 2;
        }
    }
    let owned = RequestRun::from(&Run::new(bytes, &spans, 4));
    let messages: Vec<_> = owned
        .as_run()
        .messages()
        .map(|m| (m.index, m.body))
        .collect();
    assert_eq!(messages, [(4, &b"ab"[..]), (5, b"c")]);
    assert_eq!(owned.into_bytes(), b"ab\nc\n");
}

#[test]
fn queue_is_bounded_in_bytes_and_a_long_run_passes_when_it_is_empty() {
    let (mut requests, _replies, receiver, _sender) = queues();
    let newlines = vec![b'\n'; 65_536];
    assert!(poll(|cx| requests.poll_ready(cx)).is_ready());
    requests.push(run(&newlines));
    assert!(
        poll(|cx| requests.poll_ready(cx)).is_pending(),
        "one run fills it"
    );
    let Poll::Ready(Ok(Some(run))) = poll(|cx| receiver.queue.poll_pop(cx)) else {
        panic!("the run is queued");
    };
    assert_eq!(run.as_run().len(), 65_536);
    assert!(poll(|cx| requests.poll_ready(cx)).is_ready());
}

#[test]
fn empty_replies_fill_the_queue_too() {
    let (_requests, _replies, _receiver, sender) = queues();
    let mut pushed = 0;
    while poll(|cx| sender.queue.poll_free_space(cx)).is_ready() {
        sender.queue.push(Reply::Bytes {
            bytes: Vec::new(),
            lengths: None,
        });
        pushed += 1;
    }
    assert!(pushed <= QUEUE_BYTES / size_of::<Reply>() + 1);
}

#[test]
fn end_of_stream_comes_after_the_queued_runs_and_gone_discards_them() {
    let (mut requests, replies, receiver, sender) = queues();
    requests.push(run(b"a\n"));
    requests.finish();
    assert_eq!(
        poll(|cx| receiver.queue.poll_pop(cx)),
        Poll::Ready(Ok(Some(run(b"a\n"))))
    );
    assert_eq!(
        poll(|cx| receiver.queue.poll_pop(cx)),
        Poll::Ready(Ok(None))
    );
    close(&requests, &replies, true);
    let reset = PeerGone { reset: true };
    assert_eq!(
        poll(|cx| receiver.queue.poll_pop(cx)),
        Poll::Ready(Err(reset))
    );
    assert_eq!(
        poll(|cx| sender.queue.poll_free_space(cx)),
        Poll::Ready(Err(reset))
    );

    let (mut requests, _replies, receiver, _sender) = queues();
    requests.push(run(b"a\n"));
    drop(requests);
    let gone = PeerGone { reset: false };
    assert_eq!(
        poll(|cx| receiver.queue.poll_pop(cx)),
        Poll::Ready(Err(gone))
    );
}

#[test]
fn runs_pushed_without_a_receiver_are_discarded() {
    let (mut requests, _replies, receiver, _sender) = queues();
    drop(receiver);
    for _ in 0..9 {
        requests.push(run(&vec![b'\n'; 65_536]));
        assert!(poll(|cx| requests.poll_ready(cx)).is_ready());
    }
    assert!(requests.0.lock().items.is_empty());
}

#[test]
fn replies_are_taken_after_the_sender_is_dropped() {
    let (_requests, mut replies, _receiver, sender) = queues();
    sender.queue.push(Reply::Finish);
    drop(sender);
    assert_eq!(
        poll(|cx| replies.poll_recv(cx)),
        Poll::Ready(Some(Reply::Finish))
    );
    assert_eq!(poll(|cx| replies.poll_recv(cx)), Poll::Ready(None));
}

#[test]
fn replies_before_one_that_is_too_long_are_sent() {
    let (_requests, mut receiver, _receiver, mut sender) = queues();
    let bytes = b"a\nb\n";
    let requests = run(bytes);
    let mut replies = Replies::default();
    replies.clear("line/u8".parse().expect("a framing"));
    for (message, len) in requests.as_run().messages().zip([1, 256]) {
        replies.reply(&message, |out| out.resize(out.len() + len, b'x'));
    }
    let mut sending = Box::pin(sender.send_replies(&mut replies));
    let sent = poll(|cx| sending.as_mut().poll(cx));
    assert_eq!(
        sent,
        Poll::Ready(Err(SendError::TooLong(ReplyTooLong { bytes: 256 })))
    );
    let first = Reply::Bytes {
        bytes: b"\x01x".to_vec(),
        lengths: Some(vec![2]),
    };
    assert_eq!(poll(|cx| receiver.poll_recv(cx)), Poll::Ready(Some(first)));
}

/// A session that takes every reply at once must not keep the handler's task running: what the handler polls beside the
/// queue would never be polled again.
#[test]
fn handler_yields_to_a_receiver_that_keeps_pace() {
    let (_requests, mut received, _receiver, mut sender) = queues();
    let mut taken = 0;
    let mut sending = pin!(async {
        loop {
            sender.send(Reply::Finish).await.unwrap();
        }
    });
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..3 {
        assert!(sending.as_mut().poll(&mut cx).is_pending());
        while received.poll_recv(&mut cx).is_ready() {
            taken += 1;
        }
    }
    assert_eq!(taken, 3 * BUDGET);
}
