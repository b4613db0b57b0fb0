//! What the kernel tells of a peer that reads slowly, over TCP and Unix sockets.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(target_os = "linux")]

use std::{
    future::poll_fn,
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
    task::Poll,
    time::Duration,
};

use echoic_core::endpoint::Endpoint;
use echoic_wire::{Link, ListenOptions, Look, SendProgress, SendQueue, listen};
use tokio::{
    task::coop::has_budget_remaining,
    time::{Instant, sleep, timeout},
};

/// A link and its peer over TCP.
fn tcp() -> (Link, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (stream, _) = listener.accept().unwrap();
    stream.set_nonblocking(true).unwrap();
    let stream = tokio::net::TcpStream::from_std(stream).unwrap();
    (Link::tcp(stream, None), peer)
}

/// A link and its peer over a Unix socket.
fn unix() -> (Link, UnixStream) {
    let (stream, peer) = UnixStream::pair().unwrap();
    stream.set_nonblocking(true).unwrap();
    let stream = tokio::net::UnixStream::from_std(stream).unwrap();
    (Link::unix(stream, None), peer)
}

/// Writes until the kernel takes no more; returns how much it took.
async fn fill(link: &mut Link) -> u64 {
    let block = vec![b'x'; 64 << 10];
    let mut written = 0;
    loop {
        let write = poll_fn(|cx| link.poll_write(cx, &block));
        let Ok(wrote) = timeout(Duration::from_millis(200), write).await else {
            return written;
        };
        written += wrote.unwrap() as u64;
    }
}

/// Waits for the acknowledgement of what was written, which loopback delivers at once.
async fn queue_of(link: &Link, expected: SendQueue) {
    for _ in 0..1000 {
        if link.send_queue() == Some(expected) {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
    panic!("{:?}, not {expected:?}", link.send_queue());
}

fn unread(bytes: u64) -> SendQueue {
    SendQueue {
        unacknowledged: 0,
        unread: Some(bytes),
    }
}

async fn assert_each_byte_is_counted(mut link: Link, mut peer: impl Read) {
    queue_of(&link, unread(0)).await;
    poll_fn(|cx| link.poll_write(cx, b"hello")).await.unwrap();
    queue_of(&link, unread(5)).await;
    peer.read_exact(&mut [0]).unwrap();
    queue_of(&link, unread(4)).await;
    poll_fn(|cx| link.poll_finish(cx)).await.unwrap();
    queue_of(&link, unread(4)).await; // without the FIN
    peer.read_exact(&mut [0; 4]).unwrap();
    queue_of(&link, unread(0)).await;
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    queue_of(&link, unread(0)).await;
}

#[tokio::test]
async fn send_queue_falls_with_each_byte_that_the_peer_reads() {
    let (link, peer) = tcp();
    assert_each_byte_is_counted(link, peer).await;
    let (link, peer) = unix();
    assert_each_byte_is_counted(link, peer).await;
}

#[tokio::test]
async fn send_queue_of_a_full_socket_is_all_that_was_written() {
    let (mut link, _peer) = tcp();
    let written = fill(&mut link).await;
    let queue = link.send_queue().unwrap();
    assert_eq!(queue.total(), written, "{queue:?}");
    assert!(queue.unacknowledged > 0, "{queue:?}");
    poll_fn(|cx| link.poll_finish(cx)).await.unwrap();
    assert_eq!(link.send_queue(), Some(queue), "without the FIN");
    let (mut link, _peer) = unix();
    let written = fill(&mut link).await;
    queue_of(&link, unread(written)).await;
}

#[tokio::test]
async fn send_queue_of_a_closed_peer_is_unknown() {
    let (mut link, peer) = tcp();
    poll_fn(|cx| link.poll_write(cx, b"hello")).await.unwrap();
    queue_of(&link, unread(5)).await;
    drop(peer); // with unread input: a reset
    sleep(Duration::from_millis(50)).await;
    assert_eq!(link.send_queue(), None);
}

/// The peer reads little of a large send buffer, so epoll does not report room.
#[tokio::test]
async fn try_write_sends_before_the_socket_is_reported_writable() {
    let (mut link, mut peer) = tcp();
    fill(&mut link).await;
    let full = loop {
        if let Err(error) = link.try_write(&[0; 1000]) {
            break error.kind();
        }
    };
    assert_eq!(full, ErrorKind::WouldBlock);
    peer.read_exact(&mut vec![0; 200_000]).unwrap();
    let write = poll_fn(|cx| link.poll_write(cx, b"x"));
    assert!(timeout(Duration::from_millis(100), write).await.is_err());
    assert_eq!(link.try_write(&[0; 1000]).unwrap(), 1000);
}

#[tokio::test]
async fn looks_tell_a_slow_reader_from_one_that_has_stopped() {
    let (mut link, mut peer) = tcp();
    fill(&mut link).await;
    let began = Instant::now();
    let (mut progress, mut since) = (SendProgress::default(), began);
    assert_eq!(progress.look(&link, &mut since), Look::Taken, "it may have");
    let first = since;
    assert!(first >= began);
    assert_eq!(progress.look(&link, &mut since), Look::Unchanged);
    assert_eq!(since, first);
    peer.read_exact(&mut [0]).unwrap();
    assert_eq!(progress.look(&link, &mut since), Look::Taken);
    assert!(since > first);
    let reading = std::thread::spawn(move || {
        std::io::copy(&mut peer, &mut std::io::sink()).unwrap();
        peer
    });
    poll_fn(|cx| link.poll_finish(cx)).await.unwrap();
    for _ in 0..1000 {
        if progress.look(&link, &mut since) == Look::Empty {
            break;
        }
        sleep(Duration::from_millis(5)).await;
    }
    let _peer = reading.join().unwrap();
    assert_eq!(progress.look(&link, &mut since), Look::Empty);
}

/// After shutdown(2) epoll reports the listener as readable for good. Asking it over and over used up the turn of the
/// task, thousands of times.
#[tokio::test]
async fn stopped_unix_listener_gives_its_queue_and_no_busy_loop() {
    let endpoint: Endpoint = format!("unix:@echoic-slow-peers-{}", std::process::id())
        .parse()
        .unwrap();
    let options = ListenOptions::default();
    let mut listener = listen(&endpoint, &options).await.unwrap().remove(0);
    let Endpoint::Unix(echoic_core::endpoint::UnixName::Abstract(name)) = &endpoint else {
        panic!("{endpoint:?}");
    };
    let at =
        <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(
            name,
        );
    let mut peer = UnixStream::connect_addr(&at.unwrap()).unwrap();
    listener.stop_accepting().unwrap();
    sleep(Duration::from_millis(20)).await;
    let incoming = timeout(Duration::from_secs(5), listener.accept()).await;
    let incoming = incoming.unwrap().unwrap();
    let mut link = incoming.open().unwrap();
    peer.write_all(b"hi").unwrap();
    let mut buffer = [0; 9];
    assert_eq!(
        poll_fn(|cx| link.poll_read(cx, &mut buffer)).await.unwrap(),
        2
    );
    tokio::task::yield_now().await;
    poll_fn(|cx| {
        assert!(listener.poll_accept(cx).is_pending());
        assert!(has_budget_remaining());
        Poll::Ready(())
    })
    .await;
}
