//! A datagram server on its own thread, for blocking clients.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{Arc, mpsc::sync_channel},
    thread,
    time::Duration,
};

use echoic_core::{event::Address, store::Store};
use echoic_recorder::{Recorder, RecorderOptions, RecorderStatus};
use echoic_server::{Drained, EndpointConfig, OpenError, Server};
use echoic_service::NamedService;
use tokio::{runtime::Builder, sync::oneshot};

use crate::common::{StoreMode, TestStore};

/// Settings of a server under test.
pub(crate) struct DatagramServer {
    pub(crate) config: EndpointConfig,
    pub(crate) options: RecorderOptions,
    pub(crate) store: Arc<TestStore>,
    pub(crate) workers: usize,
}

/// A running server.
pub(crate) struct RunningServer {
    pub(crate) addresses: Vec<Address>,
    pub(crate) store: Arc<TestStore>,
    stop: oneshot::Sender<()>,
    server: thread::JoinHandle<(Drained, RecorderStatus)>,
}

/// The configuration that serves `service` at `endpoint`.
pub(crate) fn config(service: &str, endpoint: &str) -> EndpointConfig {
    EndpointConfig::new(
        endpoint.parse().unwrap(),
        service.parse::<NamedService>().unwrap().0,
    )
}

impl DatagramServer {
    pub(crate) fn named(service: &str, endpoint: &str) -> Self {
        Self::with(config(service, endpoint))
    }

    pub(crate) fn with(config: EndpointConfig) -> Self {
        let (options, store) = (
            RecorderOptions::default(),
            TestStore::new(StoreMode::Commits),
        );
        Self {
            config,
            options,
            store,
            workers: 0,
        }
    }

    pub(crate) fn try_start(self) -> Result<RunningServer, OpenError> {
        let (stop, stopped) = oneshot::channel::<()>();
        let (report, listening) = sync_channel(1);
        let store = Arc::clone(&self.store);
        let server = thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let store = Arc::clone(&self.store) as Arc<dyn Store>;
                let (recorder, task) = Recorder::new(Some(store), self.options).await.unwrap();
                let task = tokio::spawn(task.run());
                let mut ends = Vec::new();
                let workers = (0..self.workers).map(|_| worker(&mut ends)).collect();
                let mut server =
                    Server::new(recorder.clone(), self.config.limits.clone()).on_workers(workers);
                let opened = server.open(self.config).await;
                let refused = opened.is_err();
                report.send(opened).unwrap();
                let until = async {
                    if !refused {
                        let _ = stopped.await;
                    }
                };
                let drained = server.run(until).await;
                recorder.close(task, Duration::from_secs(10)).await;
                (drained, recorder.status())
            })
        });
        let addresses = listening.recv().unwrap()?;
        Ok(RunningServer {
            addresses,
            store,
            stop,
            server,
        })
    }

    pub(crate) fn start(self) -> RunningServer {
        self.try_start().unwrap()
    }
}

/// A runtime of one thread, which runs until the sender is dropped.
fn worker(ends: &mut Vec<oneshot::Sender<()>>) -> tokio::runtime::Handle {
    let (end, ended) = oneshot::channel::<()>();
    let (sender, receiver) = sync_channel(1);
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        sender.send(runtime.handle().clone()).unwrap();
        let _ = runtime.block_on(ended);
    });
    ends.push(end);
    receiver.recv().unwrap()
}

impl RunningServer {
    pub(crate) fn addr(&self) -> SocketAddr {
        match &self.addresses[0] {
            Address::Net(addr) => *addr,
            address @ Address::Unix(_) => panic!("{address}"),
        }
    }

    /// A socket that is connected to this server.
    pub(crate) fn peer(&self) -> UdpSocket {
        peer("127.0.0.1:0", self.addr())
    }

    /// Stops the server and checks what holds for every run.
    pub(crate) fn end(self) -> (Drained, Arc<TestStore>) {
        self.stop.send(()).unwrap();
        let (drained, status) = self.server.join().unwrap();
        assert_eq!(drained.served, status.recorded + status.lost);
        assert_eq!(self.store.exchanges().len() as u64, status.recorded);
        (drained, self.store)
    }
}

/// A socket at `own` that is connected to `server`, so it receives from no other address.
pub(crate) fn peer(own: &str, server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(own).unwrap();
    socket.connect(server).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    socket
}

pub(crate) fn ask(peer: &UdpSocket, bytes: &[u8]) -> Vec<u8> {
    peer.send(bytes).unwrap();
    receive(peer)
}

pub(crate) fn receive(peer: &UdpSocket) -> Vec<u8> {
    let mut room = vec![0; 70_000];
    let len = peer.recv(&mut room).expect("a reply");
    room.truncate(len);
    room
}
