//! An in-memory network that behaves as UDP may, seen from the server's socket.

use std::{
    collections::{HashMap, VecDeque},
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use echoic_core::event::Address;
use echoic_wire::DatagramTransport;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use super::super::{chance::Chance, net::poll_budget, steps::Steps};

/// How the network behaves. Each count is one in so many; 0 is never.
#[derive(Clone, Debug)]
pub(super) struct Weather {
    lost: usize,
    doubled: usize,
    /// The longest delay. Each datagram has its own, so they may arrive out of order.
    delay_ms: usize,
    /// Bytes that may wait at the server.
    room: usize,
    /// Receives and sends that report an ICMP error of an earlier datagram.
    refused: usize,
    /// Sends that fail as unreachable.
    unreachable: usize,
    /// Sends that fill the send buffer, and for how long at most.
    fills: usize,
    full_ms: usize,
}

/// Bytes that the kernel counts for a small datagram beside its payload.
const OVERHEAD: usize = 768;

/// Datagrams that may wait at a peer, which takes them at once.
const INBOX: usize = 1024;

/// The network.
#[derive(Clone, Debug)]
pub(super) struct Net(Arc<Mutex<State>>);

/// The server's socket on it.
#[derive(Debug)]
pub(super) struct Socket(Net);

struct State {
    weather: Weather,
    chance: Chance,
    steps: Steps,
    queue: VecDeque<Datagram>,
    waiting_bytes: usize,
    full: bool,
    full_since: Instant,
    closed: bool,
    /// Whether the last send reported the error of an earlier one.
    refused: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    peers: HashMap<Address, mpsc::Sender<Vec<u8>>>,
    facts: Facts,
}

/// A datagram that the server took, or one that it sent.
#[derive(Clone, Debug)]
pub(super) struct Datagram {
    pub(super) address: Address,
    pub(super) bytes: Vec<u8>,
    pub(super) at: Instant,
    pub(super) step: u64,
}

/// What happened at the server's socket.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) taken: Vec<Datagram>,
    pub(super) sent: Vec<Datagram>,
    /// Sends that failed, by peer.
    pub(super) failed: HashMap<Address, u64>,
    /// Datagrams dropped because the queue was full, and the count last reported to the server.
    pub(super) dropped: u32,
    pub(super) dropped_reported: u32,
    /// Datagrams that arrived, in all and until the stop, without the dropped ones.
    pub(super) arrived: usize,
    pub(super) arrived_at_stop: usize,
    /// The longest time that the send buffer was full.
    pub(super) full_for: Duration,
}

impl Weather {
    pub(super) fn draw(chance: &mut Chance) -> Self {
        Self {
            lost: chance.one_of(&[0, 0, 3, 10]),
            doubled: chance.one_of(&[0, 0, 3, 10]),
            delay_ms: chance.one_of(&[0, 0, 2, 40, 300]),
            room: chance.about(8 << 10, 1 << 20),
            refused: chance.one_of(&[0, 0, 20]),
            unreachable: chance.one_of(&[0, 0, 20]),
            fills: chance.one_of(&[0, 0, 5]),
            full_ms: chance.one_of(&[5, 200, 8000]),
        }
    }
}

impl Net {
    pub(super) fn new(weather: Weather, chance: Chance, steps: Steps) -> Self {
        Self(Arc::new(Mutex::new(State {
            weather,
            chance,
            steps,
            queue: VecDeque::new(),
            waiting_bytes: 0,
            full: false,
            full_since: Instant::now(),
            closed: false,
            refused: false,
            reader: None,
            writer: None,
            peers: HashMap::new(),
            facts: Facts::default(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn socket(&self) -> Socket {
        Socket(self.clone())
    }

    pub(super) fn facts(&self) -> Facts {
        let mut state = self.lock();
        if state.full {
            state.note_full();
        }
        state.facts.clone()
    }

    /// Returns the receiver of datagrams that arrive at `address` from now on.
    pub(super) fn inbox(&self, address: Address) -> mpsc::Receiver<Vec<u8>> {
        let (deliver, inbox) = mpsc::channel(INBOX);
        self.lock().peers.insert(address, deliver);
        inbox
    }

    /// Called at the stop.
    pub(super) fn note_stop(&self) {
        let mut state = self.lock();
        state.facts.arrived_at_stop = state.facts.arrived;
    }

    /// Sends to the server.
    pub(super) fn send_to_server(&self, from: &Address, bytes: &[u8]) {
        for delay in self.lock().outcomes() {
            let (net, from, bytes) = (self.clone(), from.clone(), bytes.to_vec());
            tokio::spawn(async move {
                sleep(delay).await;
                net.lock().arrive(from, bytes);
            });
        }
    }

    /// Sends to a peer.
    fn deliver(&self, state: &mut State, to: &Address, bytes: &[u8]) {
        for delay in state.outcomes() {
            let (net, to, bytes) = (self.clone(), to.clone(), bytes.to_vec());
            tokio::spawn(async move {
                sleep(delay).await;
                if let Some(inbox) = net.lock().peers.get(&to) {
                    let _ = inbox.try_send(bytes);
                }
            });
        }
    }

    /// Fills the send buffer for a while.
    fn fill(&self, state: &mut State) {
        let most = state.weather.full_ms;
        let span = state.chance.ms(0..=most);
        state.full = true;
        state.full_since = Instant::now();
        let net = self.clone();
        tokio::spawn(async move {
            sleep(span).await;
            let mut state = net.lock();
            state.note_full();
            state.full = false;
            state.writer.take().into_iter().for_each(Waker::wake);
        });
    }
}

impl State {
    fn note_full(&mut self) {
        let full_for = self.full_since.elapsed();
        self.facts.full_for = self.facts.full_for.max(full_for);
    }

    fn happens(&mut self, one_in: usize) -> bool {
        one_in > 0 && self.chance.once_in(one_in)
    }

    fn fail(&mut self, to: &Address, fails: bool) {
        *self.facts.failed.entry(to.clone()).or_default() += u64::from(fails);
    }

    /// Draws the delay of each copy of a datagram that is sent now.
    fn outcomes(&mut self) -> Vec<Duration> {
        let (lost, doubled, most) = (
            self.weather.lost,
            self.weather.doubled,
            self.weather.delay_ms,
        );
        let copies = if self.happens(lost) {
            0
        } else {
            1 + usize::from(self.happens(doubled))
        };
        (0..copies).map(|_| self.chance.ms(0..=most)).collect()
    }

    fn arrive(&mut self, from: Address, bytes: Vec<u8>) {
        if self.closed {
            return;
        }
        let cost = OVERHEAD + bytes.len();
        if self.waiting_bytes > 0 && self.waiting_bytes + cost > self.weather.room {
            self.facts.dropped += 1;
            self.steps
                .log(|| format!("one from {from} is dropped, {} bytes", bytes.len()));
            return;
        }
        self.waiting_bytes += cost;
        self.facts.arrived += 1;
        self.queue.push_back(Datagram {
            address: from,
            bytes,
            at: Instant::now(),
            step: self.steps.next(),
        });
        self.reader.take().into_iter().for_each(Waker::wake);
    }

    fn take(&mut self, room: &mut [u8]) -> io::Result<(usize, usize, Address)> {
        if self.queue.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let refused = self.weather.refused;
        if self.happens(refused) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let Some(mut datagram) = self.queue.pop_front() else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        self.waiting_bytes -= OVERHEAD + datagram.bytes.len();
        let (whole, from) = (datagram.bytes.len(), datagram.address.clone());
        let len = whole.min(room.len());
        room[..len].copy_from_slice(&datagram.bytes[..len]);
        datagram.at = Instant::now();
        datagram.step = self.steps.next();
        self.steps
            .log(|| format!("takes {whole} from {from}: {}", show(&datagram.bytes)));
        self.facts.taken.push(datagram);
        Ok((len, whole, from))
    }
}

/// Formats bytes for the story.
fn show(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(8)].escape_ascii().to_string()
}

impl DatagramTransport for Socket {
    fn poll_ready(&self, cx: &mut Context<'_>, to_send: bool) -> Poll<io::Result<()>> {
        ready!(poll_budget(cx));
        let mut state = self.0.lock();
        let (waits, waker) = if to_send {
            (state.full, &mut state.writer)
        } else {
            (state.queue.is_empty(), &mut state.reader)
        };
        if waits {
            *waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn receive(&self, room: &mut [u8]) -> io::Result<(usize, usize, Address)> {
        self.0.lock().take(room)
    }

    fn send(&self, bytes: &[u8], to: &Address) -> io::Result<usize> {
        let mut state = self.0.lock();
        // After the error of an earlier datagram the server tries once more, and then gives the reply up.
        let again = std::mem::take(&mut state.refused);
        if state.full {
            state.fail(to, again);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let (refused, unreachable, fills) = (
            state.weather.refused,
            state.weather.unreachable,
            state.weather.fills,
        );
        if state.happens(refused) {
            state.refused = !again;
            state.fail(to, again);
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        if state.happens(unreachable) {
            state.fail(to, true);
            return Err(io::ErrorKind::NetworkUnreachable.into());
        }
        if state.happens(fills) {
            self.0.fill(&mut state);
        }
        let step = state.steps.next();
        state
            .steps
            .log(|| format!("sends {} to {to}: {}", bytes.len(), show(bytes)));
        state.facts.sent.push(Datagram {
            address: to.clone(),
            bytes: bytes.to_vec(),
            at: Instant::now(),
            step,
        });
        self.0.deliver(&mut state, to, bytes);
        Ok(bytes.len())
    }

    fn dropped(&self) -> u32 {
        let mut state = self.0.lock();
        state.facts.dropped_reported = state.facts.dropped;
        state.facts.dropped
    }

    fn receive_buffer_size(&self) -> usize {
        self.0.lock().weather.room
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.0.lock().closed = true;
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} datagrams wait", self.queue.len())
    }
}
