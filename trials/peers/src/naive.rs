//! Naive servers: what the same load does to them shows that a trial can fail.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use crate::Process;

/// Common beginning of all programs.
const HEAD: &str = "
import os, selectors, socket, sys, threading, time
server = socket.create_server(('127.0.0.1', 0), backlog=1024)
post = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
post.bind(server.getsockname())
print(server.getsockname()[1], flush=True)
";

/// Accepts, and tries again at once when that fails.
pub const ACCEPTS_AGAIN: &str = "
held = []
while True:
    try:
        held.append(server.accept()[0])
    except OSError:
        pass
";

/// Allocates 64 KiB for each client, and buffers what it could not send yet.
pub const BUFFERS: &str = "
server.setblocking(False)
select = selectors.DefaultSelector()
select.register(server, selectors.EVENT_READ)
unsent, buffer = {}, {}
while True:
    for key, events in select.select():
        peer = key.fileobj
        if peer is server:
            peer = server.accept()[0]
            peer.setblocking(False)
            buffer[peer], unsent[peer] = bytearray(b'.' * 65536), bytearray()
            select.register(peer, selectors.EVENT_READ)
            continue
        try:
            if events & selectors.EVENT_READ:
                n = peer.recv_into(buffer[peer])
                if not n:
                    raise OSError
                unsent[peer] += buffer[peer][:n]
            del unsent[peer][:peer.send(unsent[peer])]
        except BlockingIOError:
            pass
        except OSError:
            select.unregister(peer)
            del buffer[peer], unsent[peer]
            peer.close()
            continue
        wants = selectors.EVENT_WRITE if unsent[peer] else 0
        select.modify(peer, selectors.EVENT_READ | wants)
";

/// Answers, and forgets to close.
pub const LEAKS: &str = "
held = []
while True:
    peer = server.accept()[0]
    peer.sendall(peer.recv(65536))
    held.append(peer)
";

/// Allocates as much as a length prefix of four bytes announces.
pub const TRUSTS_LENGTHS: &str = "
held = []
while True:
    peer = server.accept()[0]
    length = int.from_bytes(peer.recv(4), 'big')
    held.append((peer, bytearray(b'.' * min(length, 1 << 26))))
    peer.sendall(b'.')
";

/// Answers each line, without a limit on an unfinished one.
pub const WANTS_NEWLINES: &str = "
while True:
    peer = server.accept()[0]
    rest = b''
    while data := peer.recv(65536):
        *lines, rest = (rest + data).split(b'\\n')
        peer.sendall(b''.join(line.upper() + b'\\n' for line in lines))
    peer.close()
";

/// Answers datagrams, with a buffer that is too small for some.
pub const TAKES_PARTS: &str = "
while True:
    data, peer = post.recvfrom(4096)
    post.sendto(data, peer)
";

/// Stops a while after the signal, without accepting the queued connections.
pub const STOPS_WITHOUT_ACCEPTING: &str = "
time.sleep(0.5)
server.close()
time.sleep(60)
";

/// A running naive server.
#[derive(Debug)]
pub struct Naive {
    child: Child,
    /// Its address.
    pub at: SocketAddr,
}

impl Naive {
    /// Starts `program`, one of the above.
    pub fn start(program: &str) -> Self {
        let mut child = Command::new("python3")
            .args(["-c", &format!("{HEAD}{program}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("python3");
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut port)
            .unwrap();
        let port: u16 = port.trim().parse().expect("its port");
        Self {
            child,
            at: SocketAddr::from(([127, 0, 0, 1], port)),
        }
    }

    /// Returns its process.
    pub fn process(&self) -> Process {
        Process(self.child.id())
    }
}

impl Drop for Naive {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
