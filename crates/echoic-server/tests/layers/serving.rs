//! A server on in-memory pipes, so a test can pause time, and on a real socket.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
    time::Duration,
};

use echoic_core::{
    ending::CloseReason,
    endpoint::Endpoint,
    event::Address,
    framing::Framing,
    limits::{Limits, SourceLimits},
    store::Store,
};
use echoic_recorder::{Recorder, RecorderOptions};
use echoic_server::{Drained, EndpointConfig, Server};
use echoic_service::NamedService;
use echoic_wire::{Accept, Link, Listener, ServerLayer, Transport};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use crate::common::{StoreMode, TestStore};

/// An end of an in-memory pipe.
#[derive(Debug)]
struct Pipe(DuplexStream);

impl Transport for Pipe {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut unfilled = ReadBuf::new(buffer);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut unfilled))?;
        Poll::Ready(Ok(unfilled.filled().len()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn abort(&mut self) {}
}

pub(crate) fn pipe(end: DuplexStream) -> Link {
    Link::layered(Box::new(Pipe(end)))
}

/// Accepts the pipes that a test sends it.
#[derive(Debug)]
struct Pipes(Mutex<mpsc::Receiver<DuplexStream>>);

fn address() -> Address {
    Address::Net(SocketAddr::from((Ipv4Addr::LOCALHOST, 5000)))
}

impl Accept for Pipes {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Link, Address)>> {
        match ready!(self.0.lock().unwrap().poll_recv(cx)) {
            Some(end) => Poll::Ready(Ok((pipe(end), address()))),
            None => Poll::Pending,
        }
    }

    fn stop(&self) {
        self.0.lock().unwrap().close();
    }
}

/// Settings of a server under test.
pub(crate) struct Serve {
    service: &'static str,
    framing: Framing,
    pub(crate) limits: Limits,
    pub(crate) sources: SourceLimits,
    layers: Vec<Arc<dyn ServerLayer>>,
}

/// A running server on pipes and on a real socket.
pub(crate) struct Serving {
    calls: mpsc::Sender<DuplexStream>,
    pub(crate) endpoint: Endpoint,
    pub(crate) store: Arc<TestStore>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<Drained>,
    recorder: Recorder,
    recording: JoinHandle<()>,
}

impl Serve {
    pub(crate) fn new(
        service: &'static str,
        framing: Framing,
        layers: Vec<Arc<dyn ServerLayer>>,
    ) -> Self {
        Self {
            service,
            framing,
            limits: Limits::default(),
            sources: SourceLimits::none(),
            layers,
        }
    }

    pub(crate) async fn start(self) -> Serving {
        let store = TestStore::new(StoreMode::Commits);
        let shared = Arc::clone(&store) as Arc<dyn Store>;
        let recorder = Recorder::new(Some(shared), RecorderOptions::default()).await;
        let (recorder, task) = recorder.unwrap();
        let mut server =
            Server::new(recorder.clone(), self.limits.clone()).source_limits(self.sources);
        let (calls, called) = mpsc::channel(9);
        let config = EndpointConfig {
            framing: self.framing.into(),
            limits: self.limits,
            layers: self.layers,
            ..EndpointConfig::new(
                "127.0.0.1:0".parse().unwrap(),
                self.service.parse::<NamedService>().unwrap().0,
            )
        };
        let listener = Listener::from_source(Box::new(Pipes(Mutex::new(called))), address());
        server.open_on(vec![listener], config.clone());
        let at = server.open(config).await.unwrap().remove(0);
        let (stop, stopped) = oneshot::channel::<()>();
        Serving {
            calls,
            endpoint: at.to_string().parse().unwrap(),
            store,
            stop,
            server: tokio::spawn(server.run(async { _ = stopped.await })),
            recorder,
            recording: tokio::spawn(task.run()),
        }
    }
}

impl Serving {
    /// Connects over a pipe that holds `room` bytes.
    pub(crate) async fn call(&self, room: usize) -> DuplexStream {
        let (near, far) = duplex(room);
        self.calls.send(near).await.unwrap();
        far
    }

    /// Stops the server; returns the number of exchanges and the close reason of each conversation.
    pub(crate) async fn end(self) -> (u64, Vec<CloseReason>) {
        self.stop.send(()).unwrap();
        let drained = self.server.await.unwrap();
        let limit = Duration::from_secs(30);
        self.recorder.close(self.recording, limit).await;
        let recorded = self.store.exchanges().len() as u64;
        assert_eq!(drained.served, recorded, "everything served is recorded");
        let mut endings = self.store.endings();
        endings.sort_by_key(|(conversation, _)| *conversation);
        assert_eq!(endings.len(), self.store.callers().len());
        (
            recorded,
            endings.iter().map(|(_, end)| end.reason).collect(),
        )
    }
}
