//! The two ends of TLS over a wire, and what goes through them.

use std::{
    fs, io,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use echoic_core::{
    endpoint::{Host, HostPort},
    event::Address,
    service::BoxFuture,
};
use echoic_wire::{
    ClientLayer, Link, ServerLayer, TlsClient, TlsClientOptions, TlsServer, TlsServerOptions,
    Transport,
};
use rcgen::{CertificateParams, KeyPair};
use tokio::{
    io::{AsyncWriteExt, WriteHalf, split},
    join,
    time::{Instant, sleep, sleep_until},
};

use crate::simulation::{
    callers::Callers,
    net::{Facts, PEER, Wire},
    peer::{Account, converse, read},
    plan::{Act, PeerPlan},
    steps::Steps,
};

/// Peers of a world at most.
const PEERS_MAX: usize = 12;

/// The server, and a client for each peer, which asks for a name of its own: by it the server's end is known.
struct Layers {
    server: Arc<TlsServer>,
    clients: Vec<TlsClient>,
}

/// Signatures of Ed25519 always have the same length, and so has the certificate, so that a world replays.
static LAYERS: LazyLock<Layers> = LazyLock::new(|| {
    let names: Vec<String> = (0..PEERS_MAX).map(name).collect();
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let mut params = CertificateParams::new(names).expect("names");
    params.serial_number = Some(1_u64.into());
    let made = params.self_signed(&key);
    let files = tempfile::tempdir().expect("a folder");
    let (certificate, key_file) = (files.path().join("cert.pem"), files.path().join("key.pem"));
    fs::write(&certificate, made.expect("a certificate").pem()).expect("a file");
    fs::write(&key_file, key.serialize_pem()).expect("a file");
    let clients = (0..PEERS_MAX).map(|i| {
        let at = HostPort {
            host: Host::Loopback,
            port: 0,
        };
        let options = TlsClientOptions {
            ca: Some(certificate.clone()),
            server_name: Some(name(i)),
            ..TlsClientOptions::default()
        };
        TlsClient::new(&at, &options).expect("a client")
    });
    let clients = clients.collect();
    let server = TlsServer::new(TlsServerOptions {
        certificate,
        key: key_file,
        ..TlsServerOptions::default()
    });
    Layers {
        server: Arc::new(server.expect("a server")),
        clients,
    }
});

fn name(peer: usize) -> String {
    format!("p{peer}.test")
}

/// What went through both ends of each connection.
#[derive(Debug)]
pub(in crate::simulation) struct Ends {
    seen: Vec<Mutex<Seen>>,
    steps: Steps,
}

/// What went through both ends of a connection.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// When the server had done the handshake.
    pub(super) opened: Option<Instant>,
    /// The plain bytes.
    pub(super) plain: Facts,
    /// Bytes that TLS at the server may have taken, and did not report as written.
    pub(super) taken: Vec<u8>,
    /// The bytes up to which replies were given to TLS, and the step.
    pub(super) given: Vec<(usize, u64)>,
    /// For each write of the peer the plain bytes so far, and those of the wire.
    pub(super) sent: Vec<(usize, usize)>,
}

impl Ends {
    pub(in crate::simulation) fn new(peers: usize, steps: Steps) -> Arc<Self> {
        assert!(peers <= PEERS_MAX, "more peers than names");
        Arc::new(Self {
            seen: (0..peers).map(|_| Mutex::default()).collect(),
            steps,
        })
    }

    pub(in crate::simulation) fn layers(self: &Arc<Self>) -> Arc<[Arc<dyn ServerLayer>]> {
        let server: Arc<dyn ServerLayer> = Arc::clone(&LAYERS.server) as _;
        let above: Arc<dyn ServerLayer> = Arc::new(Above(Arc::clone(self)));
        Arc::new([server, above])
    }

    pub(super) fn seen(&self, peer: usize) -> MutexGuard<'_, Seen> {
        self.seen[peer]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects, does the handshake, follows the script and closes, as a peer without TLS does.
    pub(in crate::simulation) async fn live(
        self: Arc<Self>,
        peer: usize,
        plan: PeerPlan,
        callers: Callers,
        wire: Wire,
        address: Address,
        began: Instant,
    ) -> Option<Account> {
        sleep_until(began + plan.calls_at).await;
        let own = wire.end(PEER);
        if !callers.call(&wire, address) {
            return None;
        }
        let link = Link::layered(Box::new(own));
        let link = LAYERS.clients[peer].connect(link).await.ok()?;
        let link = Link::layered(Box::new(PeerEnd {
            link,
            wire: wire.clone(),
            ends: Arc::clone(&self),
            peer,
        }));
        if plan.is_client {
            return Some(converse(plan, link).await);
        }
        let (reader, writer) = split(link);
        let reading = read(reader, plan.reading, plan.chance);
        join!(act(writer, &wire, plan.acts), reading);
        None
    }
}

async fn act(mut writer: WriteHalf<Link>, wire: &Wire, acts: Vec<Act>) {
    for act in acts {
        let done = match act {
            Act::Send(bytes) => writer.write_all(&bytes).await,
            Act::Pause(pause) => {
                sleep(pause).await;
                Ok(())
            }
            Act::Finish => writer.shutdown().await,
            Act::Reset => return wire.view(PEER).close(true),
            Act::Close => return wire.view(PEER).close(false),
            Act::Idle => Ok(()),
        };
        if done.is_err() {
            return;
        }
    }
}

/// The layer above TLS at the server.
#[derive(Debug)]
struct Above(Arc<Ends>);

impl ServerLayer for Above {
    fn accept(&self, link: Link) -> BoxFuture<'_, io::Result<Link>> {
        let asked = link.tls().and_then(|tls| tls.sni.clone());
        let peer = (0..PEERS_MAX).find(|peer| asked.as_ref() == Some(&name(*peer)));
        let peer = peer.expect("invariant: every client asks for its name");
        self.0.seen(peer).opened = Some(Instant::now());
        let ends = Arc::clone(&self.0);
        Box::pin(async move { Ok(Link::layered(Box::new(ServerEnd { link, ends, peer }))) })
    }
}

#[derive(Debug)]
struct ServerEnd {
    link: Link,
    ends: Arc<Ends>,
    peer: usize,
}

impl ServerEnd {
    fn note(&self, error: &io::Error) {
        let plain = &mut self.ends.seen(self.peer).plain;
        if plain.finished.is_none() {
            plain.failed.get_or_insert_with(|| error.kind());
        }
    }
}

impl Transport for ServerEnd {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = ready!(self.link.poll_read(cx, buffer));
        match &read {
            Ok(n) => {
                let plain = &mut self.ends.seen(self.peer).plain;
                if *n == 0 {
                    plain.read_end |= plain.finished.is_none();
                } else {
                    plain.read.extend_from_slice(&buffer[..*n]);
                    let upto = plain.read.len();
                    plain.reads.push((upto, Instant::now()));
                }
            }
            Err(error) => self.note(error),
        }
        Poll::Ready(read)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let step = self.ends.steps.next();
        {
            let mut seen = self.ends.seen(self.peer);
            let upto = seen.plain.written.len() + bytes.len();
            seen.given.push((upto, step));
            seen.taken = bytes.to_vec();
        }
        let written = ready!(self.link.poll_write(cx, bytes));
        match &written {
            Ok(n) => {
                let mut seen = self.ends.seen(self.peer);
                seen.taken.clear();
                seen.plain.written.extend_from_slice(&bytes[..*n]);
                let upto = seen.plain.written.len();
                seen.plain.writes.push((upto, step, Instant::now()));
            }
            Err(error) => self.note(error),
        }
        Poll::Ready(written)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let plain = &mut self.ends.seen(self.peer).plain;
        plain.finished.get_or_insert_with(Instant::now);
        self.link.poll_finish(cx)
    }

    fn abort(&mut self) {
        self.link.abort();
    }

    fn lower(&self) -> Option<&Link> {
        Some(&self.link)
    }
}

#[derive(Debug)]
struct PeerEnd {
    link: Link,
    wire: Wire,
    ends: Arc<Ends>,
    peer: usize,
}

impl Transport for PeerEnd {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = ready!(self.link.poll_read(cx, buffer));
        if let Ok(n) = read {
            let plain = &mut self.ends.seen(self.peer).plain;
            plain.got.extend_from_slice(&buffer[..n]);
            plain.got_end |= n == 0;
        }
        Poll::Ready(read)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(self.link.poll_write(cx, bytes));
        if let Ok(n) = written {
            let on_wire = self.wire.facts(|facts| facts.peer_wrote);
            let mut seen = self.ends.seen(self.peer);
            let before = seen.sent.last().map_or(0, |(upto, _)| *upto);
            seen.sent.push((before + n, on_wire));
        }
        Poll::Ready(written)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.poll_finish(cx)
    }

    fn abort(&mut self) {
        self.link.abort();
    }

    fn lower(&self) -> Option<&Link> {
        Some(&self.link)
    }
}
