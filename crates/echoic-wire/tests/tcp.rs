//! The two doors against real loopback sockets.
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

async fn one_listener(text: &str) -> (echoic_wire::Listener, String) {
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
    let (listener, addr) = one_listener("127.0.0.1:0").await;
    let mut caller = TcpStream::connect(&addr).unwrap();
    caller.write_all(b"hello").unwrap();
    let incoming = listener.accept().await.unwrap();
    assert_eq!(incoming.peer, caller.local_addr().unwrap().into());
    let mut link = incoming.detach().unwrap().open().unwrap();
    assert_eq!(read(&mut link).await.unwrap(), b"hello");
    assert_eq!(
        poll_fn(|cx| link.poll_write(cx, b"HELLO")).await.unwrap(),
        5
    );
    poll_fn(|cx| link.poll_finish(cx)).await.unwrap();
    let mut answer = String::new();
    caller.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "HELLO");
    caller.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read(&mut link).await.unwrap(), b"");
}

/// Who called before is let in; who calls after is refused and not reset, and who is let in is not cut off.
#[tokio::test]
async fn stop_accepting_keeps_the_backlog_and_refuses_new_callers() {
    for hushed in [true, false] {
        let (mut listener, addr) = one_listener("127.0.0.1:0").await;
        let mut before = TcpStream::connect(&addr).unwrap();
        if hushed {
            listener.stop_accepting().unwrap();
        }
        let mut link = listener.accept().await.unwrap().open().unwrap();
        let patience = Duration::from_millis(100);
        let after = TcpStream::connect_timeout(&addr.parse().unwrap(), patience);
        drop(listener);
        match (hushed, after) {
            (true, after) => assert_eq!(after.unwrap_err().kind(), ErrorKind::TimedOut),
            (false, after) => {
                let error = after.unwrap().read(&mut [0]).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionReset, "as it is without");
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
    let (mut listener, name) = one_listener("unix:@echoic-hushed-in-a-test").await;
    let call = || {
        let name = SocketAddr::from_abstract_name(name.trim_start_matches("unix:@")).unwrap();
        UnixStream::connect_addr(&name)
    };
    let _before = call().unwrap();
    listener.stop_accepting().unwrap();
    assert_eq!(call().unwrap_err().kind(), ErrorKind::ConnectionRefused);
    listener.accept().await.unwrap();
    let more = poll_fn(|cx| std::task::Poll::Ready(listener.poll_accept(cx).is_ready()));
    assert!(!more.await, "nobody is left, and that is no error");
}

#[tokio::test]
async fn abort_sends_a_reset() {
    let (listener, addr) = one_listener("127.0.0.1:0").await;
    let mut caller = TcpStream::connect(&addr).unwrap();
    let mut link = listener.accept().await.unwrap().open().unwrap();
    link.abort();
    drop(link);
    let error = caller.read(&mut [0]).unwrap_err();
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
    let (listener, addr) = one_listener("127.0.0.1:0").await;
    let mut caller = TcpStream::connect(&addr).unwrap();
    let mut link = listener.accept().await.unwrap().open().unwrap();
    poll_fn(|cx| link.poll_finish(cx)).await.unwrap();
    drop((link, listener)); // our side closed first, so the port is in TIME_WAIT
    assert_eq!(caller.read(&mut [0]).unwrap(), 0);
    drop(caller);
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
        println!("skipped: this machine has no IPv6 loopback");
        return;
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
    // Two callers fill a backlog of 1; the third one's SYN is dropped, and it waits (listen(2)).
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
