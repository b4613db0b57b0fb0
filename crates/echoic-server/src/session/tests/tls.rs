//! A throw-away link over TLS: shows that the loop needs nothing from a transport that TLS could not give.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use echoic_wire::Transport;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{PrivateKeyDer, ServerName},
};
use tokio::{
    io::{
        AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex, split,
    },
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server::TlsStream};

use super::*;

/// Our end of a TLS connection. What was handed in counts as written when all of it is out: rustls would otherwise
/// hold records that nobody pushes on.
struct Tls {
    stream: TlsStream<DuplexStream>,
    /// Taken by rustls, not yet all out.
    taken: usize,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Transport for Tls {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut unfilled = ReadBuf::new(buffer);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut unfilled))?;
        Poll::Ready(Ok(unfilled.filled().len()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.taken == 0 {
            self.taken = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        }
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        Poll::Ready(Ok(std::mem::take(&mut self.taken)))
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn abort(&mut self) {}
}

/// A conversation over TLS on a pipe of `room` bytes, and the client's end of it.
async fn talk(
    setup: Setup,
    voice: Voice,
    room: usize,
) -> (Conversing, client::TlsStream<DuplexStream>) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let client = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (near, far) = duplex(room);
    let (ours, theirs) = tokio::join!(
        TlsAcceptor::from(Arc::new(server)).accept(near),
        TlsConnector::from(Arc::new(client))
            .connect(ServerName::try_from("localhost").unwrap(), far)
    );
    let (_, unused) = wire(AMPLE);
    let tls = Tls {
        stream: ours.unwrap(),
        taken: 0,
    };
    let talk = setup
        .talk_over(Link::test(Box::new(tls)), unused, voice, Session::run)
        .await;
    (Conversing(talk), theirs.unwrap())
}

struct Conversing(Talk);

impl Conversing {
    /// As [`Talk::end`], for a wire that is not ours to look at.
    async fn end(self) -> (Ending, Vec<Kept>) {
        let Talk {
            session,
            recorder,
            recording,
            store,
            ..
        } = self.0;
        session.await.unwrap();
        recorder.close(recording, Duration::from_secs(30)).await;
        (store.ending(1).unwrap(), store.exchanges())
    }
}

#[tokio::test]
async fn megabytes_come_back_to_a_client_that_reads_while_it_writes() {
    const BYTES: usize = 5 << 20;
    for room in [1000, 200_000] {
        let (conversing, client) = talk(Setup::chunk(), named("echo", Framing::Chunk), room).await;
        let data: Arc<[u8]> = (0..BYTES).map(|i| (i * 31 % 251) as u8).collect();
        let (mut reader, mut writer) = split(client);
        let sent = Arc::clone(&data);
        let mut writing = JoinSet::new();
        writing.spawn(async move {
            writer.write_all(&sent).await.unwrap();
            writer.shutdown().await.unwrap();
            writer
        });
        let mut back = Vec::new();
        reader.read_to_end(&mut back).await.unwrap();
        assert!(back == *data);
        writing.join_next().await;
        let (ending, _) = conversing.end().await;
        assert_eq!((ending.how, ending.sent), (How::PeerClosed, BYTES as u64));
    }
}

#[tokio::test]
async fn lines_are_pipelined_and_a_close_notify_ends_one_half_only() {
    let (conversing, mut client) = talk(Setup::line(), named("upper", Framing::Line), 4096).await;
    let lines = (0..1000)
        .map(|i| format!("line {i}\n"))
        .collect::<Vec<_>>()
        .concat();
    client.write_all(lines.as_bytes()).await.unwrap();
    client.write_all(b"last without end").await.unwrap();
    client.shutdown().await.unwrap();
    let mut back = String::new();
    client.read_to_string(&mut back).await.unwrap();
    assert_eq!(back, lines.to_uppercase() + "LAST WITHOUT END");
    let (ending, kept) = conversing.end().await;
    assert_eq!((ending.how, kept.len()), (How::PeerClosed, 1001));
}
