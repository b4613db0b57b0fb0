//! `dial` and `bind_datagrams` against datagram sockets of the standard library.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{future::poll_fn, io, net::UdpSocket, os::unix::net::UnixDatagram, time::Duration};

use echoic_core::{
    endpoint::{Endpoint, Shape},
    event::Address,
};
use echoic_wire::{
    DatagramSocket, DialOptions, Link, ListenOptions, Received, bind_datagrams, dial, shape,
};
use tokio::time::timeout;

async fn dial_link(endpoint: &str) -> Link {
    dial(&endpoint.parse().unwrap(), &DialOptions::default())
        .await
        .unwrap()
        .link
}

async fn send(link: &mut Link, bytes: &[u8]) -> io::Result<usize> {
    poll_fn(|cx| link.poll_write(cx, bytes)).await
}

async fn read(link: &mut Link) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 1 << 16];
    let receiving = poll_fn(|cx| link.poll_read(cx, &mut buffer));
    let len = timeout(Duration::from_secs(20), receiving)
        .await
        .expect("in time")?;
    buffer.truncate(len);
    Ok(buffer)
}

async fn bind_all(endpoint: &str) -> Vec<DatagramSocket> {
    let bound = bind_datagrams(&endpoint.parse().unwrap(), &ListenOptions::default(), 2)
        .await
        .unwrap();
    bound
        .into_iter()
        .flatten()
        .map(|socket| socket.open().unwrap())
        .collect()
}

async fn receive(socket: &mut DatagramSocket, buffer: &mut [u8]) -> Received {
    let receiving = poll_fn(|cx| socket.poll_recv(cx, buffer));
    timeout(Duration::from_secs(20), receiving)
        .await
        .expect("in time")
        .unwrap()
}

#[tokio::test]
async fn each_write_and_read_is_one_datagram() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut link = dial_link(&format!("udp://{}", server.local_addr().unwrap())).await;
    assert_eq!(link.shape(), Shape::Datagrams);
    for bytes in [&b"hello"[..], b"", &vec![7; 65_507]] {
        assert_eq!(send(&mut link, bytes).await.unwrap(), bytes.len());
        let mut buffer = vec![0; 1 << 16];
        let (len, from) = server.recv_from(&mut buffer).unwrap();
        assert!(&buffer[..len] == bytes);
        server.send_to(&buffer[..len], from).unwrap();
        assert!(read(&mut link).await.unwrap() == bytes);
    }
    let error = send(&mut link, &vec![0; 65_508]).await.unwrap_err();
    assert!(
        error.to_string().to_lowercase().contains("too long"),
        "{error}"
    );
    poll_fn(|cx| link.poll_finish(cx)).await.unwrap();
    assert_eq!(send(&mut link, b"not finished!").await.unwrap(), 13);
}

#[tokio::test]
async fn missing_peer_is_reported_at_the_next_read() {
    let closed = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut link = dial_link(&format!("udp://{closed}")).await;
    send(&mut link, b"hello").await.unwrap();
    assert_eq!(
        read(&mut link).await.unwrap_err().kind(),
        io::ErrorKind::ConnectionRefused
    );
}

#[tokio::test]
async fn unix_datagram_link_has_a_reply_address() {
    let path = std::env::temp_dir().join(format!("echoic-unixgram-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let server = UnixDatagram::bind(&path).unwrap();
    let mut link = dial_link(&format!("unixgram:{}", path.display())).await;
    send(&mut link, b"hello").await.unwrap();
    let mut buffer = [0; 9];
    let (len, from) = server.recv_from(&mut buffer).unwrap();
    server.send_to_addr(&buffer[..len], &from).unwrap();
    assert_eq!(read(&mut link).await.unwrap(), b"hello");
    std::fs::remove_file(&path).unwrap();
}

/// The kernel distributes peers among the sockets, and replies leave from the address that the peer sent to.
#[tokio::test]
async fn sockets_share_a_port_and_report_the_local_address() {
    let mut sockets = bind_all("udp://*:0").await;
    let port = sockets[0].address().port().unwrap();
    let peers: Vec<UdpSocket> = (0..64)
        .map(|_| UdpSocket::bind("127.0.0.1:0").unwrap())
        .collect();
    for peer in &peers {
        peer.connect(format!("127.0.0.3:{port}")).unwrap();
        peer.send(b"hello").unwrap();
    }
    let mut buffer = vec![0; 1 << 16];
    for socket in &mut sockets[..2] {
        let mut count = 0;
        // On loopback a datagram has arrived when its send returns.
        while let Ok(received) = socket.recv_now(&mut buffer) {
            count += 1;
            assert_eq!(
                received.route.local,
                Address::Net(format!("127.0.0.3:{port}").parse().unwrap())
            );
            poll_fn(|cx| socket.poll_send(cx, b"we", &received.route))
                .await
                .unwrap();
        }
        assert!(count > 0, "one of two sockets got none of 64 peers");
    }
    for peer in peers {
        peer.set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        assert_eq!(peer.recv(&mut buffer).unwrap(), 2);
    }
}

#[tokio::test]
async fn truncated_datagrams_are_detected_and_drops_counted() {
    let options = ListenOptions {
        receive_buffer: 4096,
        ..ListenOptions::default()
    };
    let bound = bind_datagrams(&"udp://127.0.0.1:0".parse().unwrap(), &options, 1)
        .await
        .unwrap();
    let mut socket = bound.into_iter().flatten().next().unwrap().open().unwrap();
    let Address::Net(addr) = socket.address().clone() else {
        panic!()
    };
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.connect(addr).unwrap();
    for _ in 0..100 {
        peer.send(&[1; 500]).unwrap();
    }
    let mut buffer = [0; 100];
    let received = receive(&mut socket, &mut buffer).await;
    assert_eq!((received.len, received.full_len), (100, 500));
    let mut received_count = 1;
    while socket.recv_now(&mut buffer).is_ok() {
        received_count += 1;
    }
    assert_eq!(received_count + socket.query_dropped(), 100);
    assert!(received_count < 100);
    // The kernel reports the same count with the next datagram.
    peer.send(b"x").unwrap();
    receive(&mut socket, &mut buffer).await;
    assert_eq!(socket.dropped() + received_count, 100);
}

#[tokio::test]
async fn inherited_socket_is_used_and_its_type_detected() {
    use std::os::fd::AsRawFd;
    let (one, other) = (
        UdpSocket::bind("127.0.0.1:0").unwrap(),
        UdpSocket::bind("127.0.0.1:0").unwrap(),
    );
    let endpoint = format!("fd:{}", one.as_raw_fd())
        .parse::<Endpoint>()
        .unwrap();
    assert_eq!(shape(&endpoint).unwrap(), Shape::Datagrams);
    let mut sockets = bind_all(&endpoint.to_string()).await;
    assert_eq!(sockets.len(), 1);
    other.send_to(b"hello", one.local_addr().unwrap()).unwrap();
    let mut buffer = vec![0; 1 << 16];
    let received = receive(&mut sockets[0], &mut buffer).await;
    assert_eq!(&buffer[..received.len], b"hello");
    poll_fn(|cx| sockets[0].poll_send(cx, b"hi", &received.route))
        .await
        .unwrap();
    let (len, from) = other.recv_from(&mut buffer).unwrap();
    assert_eq!(
        (&buffer[..len], from),
        (&b"hi"[..], one.local_addr().unwrap())
    );
    let stream = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(
        shape(&format!("fd:{}", stream.as_raw_fd()).parse().unwrap()).unwrap(),
        Shape::Stream
    );
}
