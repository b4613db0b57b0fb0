//! A peer that loses, duplicates, delays and corrupts datagrams by a script, and counts what it did.

use std::{
    collections::BTreeSet,
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

/// The action for a datagram, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// Echoes it.
    Answer,
    /// Drops it.
    Lose,
    /// Echoes it twice.
    Double,
    /// Echoes it after this many later ones.
    Hold(usize),
    /// Replies with different bytes.
    Corrupt,
}

/// The counts of what it did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Did {
    pub(crate) received: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    /// Delayed until the next one was answered.
    pub(crate) held: u64,
    /// Delayed for long.
    pub(crate) held_long: u64,
    pub(crate) corrupted: u64,
    /// Datagrams sent in total.
    pub(crate) sent: u64,
    /// The longest time between two datagrams: it, or who sends them, stood still.
    pub(crate) longest_pause: Duration,
}

pub(crate) struct Unreliable {
    pub(crate) addr: SocketAddr,
    did: Arc<Mutex<Did>>,
}

impl Unreliable {
    pub(crate) fn start(script: fn(u64) -> Treatment) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = socket.local_addr().unwrap();
        let did = Arc::new(Mutex::new(Did::default()));
        let counts = Arc::clone(&did);
        thread::spawn(move || serve(&socket, script, &counts));
        Self { addr, did }
    }

    pub(crate) fn did(&self) -> Did {
        self.did.lock().unwrap().clone()
    }
}

fn serve(socket: &UdpSocket, script: fn(u64) -> Treatment, did: &Mutex<Did>) {
    let mut held: Vec<(usize, Vec<u8>, SocketAddr)> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut datagram = [0; 2048];
    let mut before = None;
    while let Ok((length, from)) = socket.recv_from(&mut datagram) {
        let request = &datagram[..length];
        let text = String::from_utf8_lossy(request);
        let number = text.split(':').next().unwrap().parse().unwrap();
        let mut did = did.lock().unwrap();
        let now = Instant::now();
        let pause = now.duration_since(before.replace(now).unwrap_or(now));
        did.longest_pause = did.longest_pause.max(pause);
        let mut count = 0;
        let mut send = |bytes: &[u8], to: SocketAddr| {
            count += 1;
            socket.send_to(bytes, to).unwrap();
        };
        assert!(
            seen.insert(number),
            "{number} came twice: the generator sends each once"
        );
        did.received += 1;
        let mut answered = true;
        match script(number) {
            Treatment::Answer => send(request, from),
            Treatment::Lose => {
                did.lost += 1;
                answered = false;
            }
            Treatment::Double => {
                did.doubled += 1;
                send(request, from);
                send(request, from);
            }
            Treatment::Hold(later) => {
                match later {
                    1 => did.held += 1,
                    _ => did.held_long += 1,
                }
                held.push((later, request.to_vec(), from));
                answered = false;
            }
            Treatment::Corrupt => {
                did.corrupted += 1;
                send(format!("{number}:hollo").as_bytes(), from);
            }
        }
        for (left, bytes, to) in held.iter_mut().filter(|_| answered) {
            *left -= 1;
            if *left == 0 {
                send(bytes, *to);
            }
        }
        held.retain(|(left, ..)| *left > 0);
        did.sent += count;
    }
}
