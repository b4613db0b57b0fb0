//! `listen` and `dial` against real loopback sockets.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    future::poll_fn,
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixStream},
    },
    time::Duration,
};

use echoic_core::endpoint::Endpoint;
use echoic_wire::{DialError, DialOptions, Link, ListenError, ListenOptions, dial, listen};

async fn listen_on(text: &str) -> (echoic_wire::Listener, String) {
    let endpoint: Endpoint = text.parse().unwrap();
    let listener = listen(&endpoint, &ListenOptions::default())
        .await
        .unwrap()
        .remove(0);
    let addr = listener.address().to_string();
    (listener, addr)
}

async fn read(link: &mut Link) -> std::io::Result<Vec<u8>> {
    let mut buffer = [0; 100];
    let n = poll_fn(|cx| link.poll_read(cx, &mut buffer)).await?;
    Ok(buffer[..n].to_vec())
}

#[tokio::test]
async fn accepted_connection_reads_writes_and_sees_the_close() {
    let (listener, addr) = listen_on("127.0.0.1:0").await;
    let mut client = TcpStream::connect(&addr).unwrap();
    client.write_all(b"hello").unwrap();
    let incoming = listener.accept().await.unwrap();
    assert_eq!(incoming.peer, client.local_addr().unwrap().into());
    let mut link = incoming.detach().unwrap().open().unwrap();
    assert_eq!(read(&mut link).await.unwrap(), b"hello");
    assert_eq!(
        poll_fn(|cx| link.poll_write(cx, b"HELLO")).await.unwrap(),
        5
    );
    poll_fn(|cx| link.poll_finish(cx)).await.unwrap();
    let mut reply = String::new();
    client.read_to_string(&mut reply).unwrap();
    assert_eq!(reply, "HELLO");
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read(&mut link).await.unwrap(), b"");
}

/// Queued connections are accepted and stay connected. Later ones time out or are refused, and are not reset.
#[tokio::test]
async fn stop_accepting_keeps_the_backlog_and_refuses_new_callers() {
    for stopped in [true, false] {
        let (mut listener, addr) = listen_on("127.0.0.1:0").await;
        let mut before = TcpStream::connect(&addr).unwrap();
        if stopped {
            listener.stop_accepting().unwrap();
        }
        let mut link = listener.accept().await.unwrap().open().unwrap();
        let timeout = Duration::from_millis(100);
        let after = TcpStream::connect_timeout(&addr.parse().unwrap(), timeout);
        drop(listener);
        match (stopped, after) {
            (true, after) => assert_eq!(after.unwrap_err().kind(), ErrorKind::TimedOut),
            (false, after) => {
                let error = after.unwrap().read(&mut [0]).unwrap_err();
                assert_eq!(
                    error.kind(),
                    ErrorKind::ConnectionReset,
                    "without stop_accepting"
                );
            }
        }
        let refused = TcpStream::connect(&addr).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        before.write_all(b"hello").unwrap();
        assert_eq!(read(&mut link).await.unwrap(), b"hello");
    }
}

#[tokio::test]
async fn unix_stop_accepting_keeps_the_backlog_and_refuses_callers() {
    let (mut listener, name) = listen_on("unix:@echoic-stop-accepting-test").await;
    let connect = || {
        let name = SocketAddr::from_abstract_name(name.trim_start_matches("unix:@")).unwrap();
        UnixStream::connect_addr(&name)
    };
    let _before = connect().unwrap();
    listener.stop_accepting().unwrap();
    assert_eq!(connect().unwrap_err().kind(), ErrorKind::ConnectionRefused);
    listener.accept().await.unwrap();
    let more = poll_fn(|cx| std::task::Poll::Ready(listener.poll_accept(cx).is_ready()));
    assert!(!more.await, "an empty queue is not an error");
}

#[tokio::test]
async fn abort_sends_a_reset() {
    let (listener, addr) = listen_on("127.0.0.1:0").await;
    let mut client = TcpStream::connect(&addr).unwrap();
    let mut link = listener.accept().await.unwrap().open().unwrap();
    link.abort();
    drop(link);
    let error = client.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn empty_host_listens_on_both_loopbacks_at_one_port() {
    let endpoint: Endpoint = "0".parse().unwrap();
    let listeners = listen(&endpoint, &ListenOptions::default()).await.unwrap();
    let addrs: Vec<_> = listeners
        .iter()
        .map(echoic_wire::Listener::address)
        .collect();
    assert!(
        addrs
            .iter()
            .all(|at| at.is_local() && at.port() == addrs[0].port())
    );
    for at in addrs {
        TcpStream::connect(at.to_string()).unwrap();
    }
}

#[tokio::test]
async fn address_in_use_is_reported() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint: Endpoint = holder.local_addr().unwrap().to_string().parse().unwrap();
    let error = listen(&endpoint, &ListenOptions::default())
        .await
        .unwrap_err();
    assert!(matches!(error, ListenError::InUse { .. }), "{error}");
}

#[tokio::test]
async fn port_can_be_reused_at_once() {
    let (listener, addr) = listen_on("127.0.0.1:0").await;
    let mut client = TcpStream::connect(&addr).unwrap();
    let mut link = listener.accept().await.unwrap().open().unwrap();
    poll_fn(|cx| link.poll_finish(cx)).await.unwrap();
    drop((link, listener)); // our side closed first, so the port is in TIME_WAIT
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    drop(client);
    let endpoint: Endpoint = addr.parse().unwrap();
    listen(&endpoint, &ListenOptions::default()).await.unwrap();
}

#[tokio::test]
async fn refused_dial_names_each_address() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let endpoint: Endpoint = port.to_string().parse().unwrap();
    let error = dial(&endpoint, &DialOptions::default()).await.unwrap_err();
    let DialError::Refused { attempts, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(attempts.len(), 2, "{error}");
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
}

#[tokio::test]
async fn dial_falls_back_to_the_second_loopback() {
    let Ok(server) = TcpListener::bind("[::1]:0") else {
        return trials_skip::skip("this machine has no IPv6 loopback");
    };
    let endpoint: Endpoint = server
        .local_addr()
        .unwrap()
        .port()
        .to_string()
        .parse()
        .unwrap();
    let dialled = dial(&endpoint, &DialOptions::default()).await.unwrap();
    assert!(dialled.peer.to_string().starts_with("[::1]"));
    assert_eq!(dialled.failed.len(), 1);
}

#[tokio::test]
async fn full_backlog_times_out() {
    // Two connections fill a backlog of 1; the third one's SYN is dropped, and it waits (listen(2)).
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket
        .bind(
            &"127.0.0.1:0"
                .parse::<std::net::SocketAddr>()
                .unwrap()
                .into(),
        )
        .unwrap();
    socket.listen(1).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    let _waiting = [
        TcpStream::connect(addr).unwrap(),
        TcpStream::connect(addr).unwrap(),
    ];
    let endpoint: Endpoint = addr.to_string().parse().unwrap();
    let options = DialOptions {
        timeout: Duration::from_millis(300),
        ..DialOptions::default()
    };
    let error = dial(&endpoint, &options).await.unwrap_err();
    assert!(matches!(error, DialError::TimedOut { .. }), "{error}");
}
