//! Small messages and what delays them: Nagle's algorithm (RFC 896) at one end holds a second small write until the
//! first is acknowledged, and a delayed acknowledgement (RFC 1122, 4.2.3.2) at the other end takes 40 ms for that.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Stdio},
};

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::harness::{Home, Serve, Talk, kill, python};

/// Whether `TCP_NODELAY` is set on a process's socket to `peer`, as the kernel reports it. A measurement of time would
/// depend on the load of other processes.
#[track_caller]
fn sends_at_once(process: u32, peer: SocketAddr) -> bool {
    let pid = Pid::from_raw(process.cast_signed()).unwrap();
    let handle = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    let files = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let mut sockets = files.filter_map(|file| {
        let number = file.unwrap().file_name().to_str()?.parse().ok()?;
        let copy = pidfd_getfd(&handle, number, PidfdGetfdFlags::empty()).ok()?;
        Some(TcpStream::from(copy))
    });
    let to_peer = sockets.find(|socket| socket.peer_addr().is_ok_and(|addr| addr == peer));
    to_peer
        .unwrap_or_else(|| panic!("{process} has no connection to {peer}"))
        .nodelay()
        .unwrap()
}

/// A child process that is killed when dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        kill(&mut self.0);
    }
}

/// Fails where `Listener::new` or `Link::tcp` does not set `TCP_NODELAY`, which is off by default: the test's own
/// socket shows that.
#[test]
fn d20_both_ends_set_tcp_nodelay() {
    let serve = Serve::start(&["127.0.0.1:0", "--workers", "2"]);
    // One on each worker: one of them was handed over from the accepting runtime to the other.
    for _ in 0..2 {
        let mut talk = Talk::to(serve.at[0]);
        talk.ask("a", "A");
        let ours = talk.0.local_addr().unwrap();
        assert!(sends_at_once(serve.id(), ours), "serve does not set it");
    }

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let home = Home::new();
    let mut connect = home.echoic(&["connect", &at.to_string()]);
    connect.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut connect = Ended(connect.spawn().unwrap());
    let mut stdin = connect.0.stdin.take().unwrap();
    stdin.write_all(b"a").unwrap();
    let (mut accepted, _) = listener.accept().unwrap();
    accepted.read_exact(&mut [0]).unwrap();
    assert!(sends_at_once(connect.0.id(), at), "connect does not set it");
    let own = accepted.peer_addr().unwrap();
    assert!(
        !sends_at_once(std::process::id(), own),
        "it is off by default"
    );
}

/// Sends two small messages shortly after one another, waits for a reply, and repeats; its peer delays
/// acknowledgements. Prints the median time between the arrivals of the two, in milliseconds.
const TWO_THEN_AN_ANSWER: &str = "
import socket, statistics, subprocess, sys, threading, time
ROUNDS = 25
s = socket.create_server(('127.0.0.1', 0))
between = []
def peer():
    c, _ = s.accept()
    late = lambda: c.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
    for _ in range(ROUNDS):
        late(); c.recv(1); first = time.monotonic()
        late(); c.recv(1); between.append(time.monotonic() - first)
        c.send(b'k')
    c.close()
listening = threading.Thread(target=peer)
listening.start()
if len(sys.argv) > 1:
    p = subprocess.Popen([sys.argv[1], 'connect', '127.0.0.1:%d' % s.getsockname()[1]],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    send, receive = p.stdin.write, lambda: p.stdout.read(1)
else:
    c = socket.create_connection(s.getsockname())
    send, receive = c.send, lambda: c.recv(1)
for _ in range(ROUNDS):
    send(b'a'); time.sleep(0.005); send(b'b')
    assert receive() == b'k'
listening.join()
print(round(statistics.median(between) * 1000))
";

#[test]
fn d20_small_messages_do_not_wait_for_an_ack() {
    let home = Home::new();
    let program = home.echoic(&[]);
    let between = |args: &[&dyn std::fmt::Display]| -> u64 {
        let output = python(TWO_THEN_AN_ANSWER, args, "").good();
        output.trim().parse().unwrap()
    };
    let ours = between(&[&program.get_program().display()]);
    let naive = between(&[]);
    assert!(ours * 2 < naive, "{ours} ms, and the naive way {naive} ms");
}
