//! Datagrams, dialled and bound, against the standard library's sockets.

#![allow(clippy::unwrap_used, reason = "in a test that is the failure")]

use std::{future::poll_fn, io, net::UdpSocket, os::unix::net::UnixDatagram, time::Duration};

use echoic_core::{
    endpoint::{Endpoint, Shape},
    event::Address,
};
use echoic_wire::{
    DatagramSocket, DialOptions, Link, ListenOptions, Received, bind_datagrams, dial, shape,
};
use tokio::time::timeout;

async fn link(endpoint: &str) -> Link {
    dial(&endpoint.parse().unwrap(), &DialOptions::default())
        .await
        .unwrap()
        .link
}

async fn send(link: &mut Link, bytes: &[u8]) -> io::Result<usize> {
    poll_fn(|cx| link.poll_write(cx, bytes)).await
}

async fn read(link: &mut Link) -> io::Result<Vec<u8>> {
    let mut room = vec![0; 1 << 16];
    let reading = poll_fn(|cx| link.poll_read(cx, &mut room));
    let len = timeout(Duration::from_secs(20), reading)
        .await
        .expect("in time")?;
    room.truncate(len);
    Ok(room)
}

async fn bound(endpoint: &str) -> Vec<DatagramSocket> {
    let doors = bind_datagrams(&endpoint.parse().unwrap(), &ListenOptions::default(), 2)
        .await
        .unwrap();
    doors
        .into_iter()
        .flatten()
        .map(|socket| socket.open().unwrap())
        .collect()
}

async fn receive(socket: &mut DatagramSocket, room: &mut [u8]) -> Received {
    let receiving = poll_fn(|cx| socket.poll_recv(cx, room));
    timeout(Duration::from_secs(20), receiving)
        .await
        .expect("in time")
        .unwrap()
}

#[tokio::test]
async fn each_write_and_read_is_one_datagram() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut link = link(&format!("udp://{}", server.local_addr().unwrap())).await;
    assert_eq!(link.shape(), Shape::Datagrams);
    for said in [&b"hello"[..], b"", &vec![7; 65_507]] {
        assert_eq!(send(&mut link, said).await.unwrap(), said.len());
        let mut room = vec![0; 1 << 16];
        let (len, from) = server.recv_from(&mut room).unwrap();
        assert!(&room[..len] == said);
        server.send_to(&room[..len], from).unwrap();
        assert!(read(&mut link).await.unwrap() == said);
    }
    let error = send(&mut link, &vec![0; 65_508]).await.unwrap_err();
    assert!(
        error.to_string().to_lowercase().contains("too long"),
        "{error}"
    );
    poll_fn(|cx| link.poll_finish(cx)).await.unwrap();
    assert_eq!(send(&mut link, b"it has no end").await.unwrap(), 13);
}

#[tokio::test]
async fn missing_peer_is_reported_at_the_next_read() {
    let gone = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut link = link(&format!("udp://{gone}")).await;
    send(&mut link, b"anybody?").await.unwrap();
    assert_eq!(
        read(&mut link).await.unwrap_err().kind(),
        io::ErrorKind::ConnectionRefused
    );
}

#[tokio::test]
async fn unix_datagram_link_has_a_reply_address() {
    let folder = std::env::temp_dir().join(format!("echoic-unixgram-{}", std::process::id()));
    let _ = std::fs::remove_file(&folder);
    let server = UnixDatagram::bind(&folder).unwrap();
    let mut link = link(&format!("unixgram:{}", folder.display())).await;
    send(&mut link, b"hello").await.unwrap();
    let mut room = [0; 9];
    let (len, from) = server.recv_from(&mut room).unwrap();
    server.send_to_addr(&room[..len], &from).unwrap();
    assert_eq!(read(&mut link).await.unwrap(), b"hello");
    std::fs::remove_file(&folder).unwrap();
}

/// The kernel shares out peers among the sockets, and each is answered from the address it asked.
#[tokio::test]
async fn sockets_share_a_port_and_report_the_local_address() {
    let mut sockets = bound("udp://*:0").await;
    let port = sockets[0].address().port().unwrap();
    let peers: Vec<UdpSocket> = (0..64)
        .map(|_| UdpSocket::bind("127.0.0.1:0").unwrap())
        .collect();
    for peer in &peers {
        peer.connect(format!("127.0.0.3:{port}")).unwrap();
        peer.send(b"who is there?").unwrap();
    }
    let mut room = vec![0; 1 << 16];
    for socket in &mut sockets[..2] {
        let mut heard = 0;
        // Over the loopback a datagram has arrived when it was sent.
        while let Ok(received) = socket.recv_now(&mut room) {
            heard += 1;
            assert_eq!(
                received.route.local,
                Address::Net(format!("127.0.0.3:{port}").parse().unwrap())
            );
            poll_fn(|cx| socket.poll_send(cx, b"we", &received.route))
                .await
                .unwrap();
        }
        assert!(heard > 0, "64 peers, and all to one of two sockets");
    }
    for peer in peers {
        peer.set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        assert_eq!(peer.recv(&mut room).unwrap(), 2);
    }
}

#[tokio::test]
async fn truncated_datagrams_are_detected_and_drops_counted() {
    let options = ListenOptions {
        receive_buffer: 4096,
        ..ListenOptions::default()
    };
    let doors = bind_datagrams(&"udp://127.0.0.1:0".parse().unwrap(), &options, 1)
        .await
        .unwrap();
    let mut socket = doors.into_iter().flatten().next().unwrap().open().unwrap();
    let Address::Net(addr) = socket.address().clone() else {
        panic!()
    };
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.connect(addr).unwrap();
    for _ in 0..100 {
        peer.send(&[1; 500]).unwrap();
    }
    let mut room = [0; 100];
    let received = receive(&mut socket, &mut room).await;
    assert_eq!((received.len, received.full_len), (100, 500));
    let mut taken = 1;
    while socket.recv_now(&mut room).is_ok() {
        taken += 1;
    }
    assert_eq!(taken + socket.query_dropped(), 100);
    assert!(taken < 100);
    // And with the next datagram the kernel says the same by itself.
    peer.send(b"x").unwrap();
    receive(&mut socket, &mut room).await;
    assert_eq!(socket.dropped() + taken, 100);
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
    let mut sockets = bound(&endpoint.to_string()).await;
    assert_eq!(sockets.len(), 1);
    other.send_to(b"hello", one.local_addr().unwrap()).unwrap();
    let mut room = vec![0; 1 << 16];
    let received = receive(&mut sockets[0], &mut room).await;
    assert_eq!(&room[..received.len], b"hello");
    poll_fn(|cx| sockets[0].poll_send(cx, b"hi", &received.route))
        .await
        .unwrap();
    let (len, from) = other.recv_from(&mut room).unwrap();
    assert_eq!(
        (&room[..len], from),
        (&b"hi"[..], one.local_addr().unwrap())
    );
    let stream = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(
        shape(&format!("fd:{}", stream.as_raw_fd()).parse().unwrap()).unwrap(),
        Shape::Stream
    );
}
