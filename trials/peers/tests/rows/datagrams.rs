//! Row 8 over datagrams: longer than the buffer they are read into.

use std::{
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    os::unix::net::UnixDatagram,
    path::Path,
    time::Duration,
};

use trials_peers::{
    Serve,
    meter::kib,
    naive::{Naive, TAKES_PARTS},
    namespace::alone,
    server::SOON,
};
use trials_report::{Row, Scale};

/// The most that UDP carries over IPv4: 65,535 less the headers (RFC 768, RFC 791).
const UDP_MAX: usize = 65_507;

/// Size of the buffer that a datagram is read into.
const ROOM: usize = 64 << 10;

/// The result of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DatagramResult {
    /// The same bytes came back.
    Whole,
    /// Other bytes came back.
    Altered,
    /// Nothing came back.
    Silence,
    /// The sender's own kernel rejected it.
    NotSent,
}

#[test]
fn oversized_datagram_is_not_answered_in_part() {
    alone(
        "datagrams::oversized_datagram_is_not_answered_in_part",
        trial,
    );
}

fn body(len: usize) -> Vec<u8> {
    (0..len).map(|i| b'a' + (i % 26) as u8).collect()
}

/// Timeout for a reply that may not come: long enough for one that does, on a busy machine too, since the next request
/// is answered after it.
const PATIENCE: Duration = Duration::from_secs(1);

fn over_udp(at: SocketAddr, len: usize) -> DatagramResult {
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.connect(at).unwrap();
    peer.set_read_timeout(Some(SOON)).unwrap();
    let request = body(len);
    match peer.send(&request) {
        Ok(_) => {}
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error()) => {
            return DatagramResult::NotSent;
        }
        Err(error) => panic!("{error}"),
    }
    let mut received = vec![0; 2 * ROOM];
    let n = peer.recv(&mut received).unwrap();
    if received[..n] == request {
        DatagramResult::Whole
    } else {
        DatagramResult::Altered
    }
}

fn over_unix(at: &Path, own: &Path, len: usize) -> DatagramResult {
    let peer = UnixDatagram::bind(own).unwrap();
    peer.connect(at).unwrap();
    peer.set_write_timeout(Some(SOON)).unwrap();
    let request = body(len);
    peer.send(&request).unwrap();
    let (mut received, mut result) = (vec![0; 2 * ROOM], DatagramResult::Silence);
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    match peer.recv(&mut received) {
        Ok(n) if received[..n] == request => result = DatagramResult::Whole,
        Ok(_) => result = DatagramResult::Altered,
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        Err(error) => panic!("{error}"),
    }
    // The next one is answered, whatever happened to that one.
    peer.set_read_timeout(Some(SOON)).unwrap();
    peer.send(b"next").unwrap();
    let n = peer.recv(&mut received).unwrap();
    assert_eq!(&received[..n], b"next");
    std::fs::remove_file(own).unwrap();
    result
}

fn trial() {
    let serve = Serve::start(&["echo=udp://127.0.0.1:0", "echo=unixgram:./in"]);
    let at = serve.at[0];
    let (socket, own) = (serve.home().join("in"), serve.home().join("own"));
    over_udp(at, 1);
    let before = serve.process().resident();
    let udp = [
        (UDP_MAX - 1, DatagramResult::Whole),
        (UDP_MAX, DatagramResult::Whole),
        (UDP_MAX + 1, DatagramResult::NotSent),
        (10 * UDP_MAX, DatagramResult::NotSent),
    ];
    let unix = [
        (ROOM - 1, DatagramResult::Whole),
        (ROOM, DatagramResult::Whole),
        (ROOM + 1, DatagramResult::Silence),
        (3 * ROOM, DatagramResult::Silence),
    ];
    let mut wrong = Vec::new();
    for (len, expected) in udp {
        let result = over_udp(at, len);
        if result != expected {
            wrong.push(format!("udp {len}: {result:?}"));
        }
    }
    for (len, expected) in unix {
        let result = over_unix(&socket, &own, len);
        if result != expected {
            wrong.push(format!("unixgram {len}: {result:?}"));
        }
    }
    let grown = serve.process().resident_peak().saturating_sub(before);
    let recorded = serve.ended("message-too-long", 2);
    let naive = Naive::start(TAKES_PARTS);
    let control = over_udp(naive.at, UDP_MAX);
    Row {
        row: 8,
        hazard: "datagrams that are too long".into(),
        load: format!(
            "one below, at, one above and far above the size limit of a datagram: {UDP_MAX} bytes over UDP, where the sender's kernel \
             refuses more, and {ROOM} over a Unix socket, which carries more"
        ),
        observed: if wrong.is_empty() {
            format!(
                "8 datagrams: the first two of each answered whole, the others not even in part; {recorded} recorded as \
                 `message-too-long`; memory at most {} above",
                kib(grown)
            )
        } else {
            format!("not as it should be: {}", wrong.join(", "))
        },
        limit: format!("exactly the first two of each; 2 so recorded; {}", kib(4 << 20)),
        control: format!("a server that reads into 4,096 bytes, {UDP_MAX}: {control:?}"),
        pass: wrong.is_empty() && recorded == 2 && grown <= 4 << 20 && control == DatagramResult::Altered,
        scale: Scale::asked(),
    }
    .hold();
}
