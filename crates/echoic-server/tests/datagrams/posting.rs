//! A server of datagrams on a thread of its own, for clients that block.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{Arc, mpsc::sync_channel},
    thread,
    time::Duration,
};

use echoic_core::{event::Address, store::Store};
use echoic_recorder::{Recorder, RecorderOptions, RecorderStatus};
use echoic_server::{Drained, EndpointConfig, OpenError, Server};
use echoic_service::Chosen;
use tokio::{runtime::Builder, sync::oneshot};

use crate::common::{StoreMode, TestStore};

/// How to serve.
pub(crate) struct DatagramServer {
    pub(crate) config: EndpointConfig,
    pub(crate) options: RecorderOptions,
    pub(crate) store: Arc<TestStore>,
    pub(crate) workers: usize,
}

/// A server at work.
pub(crate) struct Posted {
    pub(crate) addresses: Vec<Address>,
    pub(crate) store: Arc<TestStore>,
    stop: oneshot::Sender<()>,
    server: thread::JoinHandle<(Drained, RecorderStatus)>,
}

/// `service` at `endpoint`.
pub(crate) fn config(service: &str, endpoint: &str) -> EndpointConfig {
    EndpointConfig::new(
        endpoint.parse().unwrap(),
        service.parse::<Chosen>().unwrap().0,
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

    pub(crate) fn try_start(self) -> Result<Posted, OpenError> {
        let (stop, stopped) = oneshot::channel::<()>();
        let (tell, listening) = sync_channel(1);
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
                tell.send(opened).unwrap();
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
        Ok(Posted {
            addresses,
            store,
            stop,
            server,
        })
    }

    pub(crate) fn start(self) -> Posted {
        self.try_start().unwrap()
    }
}

/// A runtime of one thread, until its end is dropped.
fn worker(ends: &mut Vec<oneshot::Sender<()>>) -> tokio::runtime::Handle {
    let (end, ended) = oneshot::channel::<()>();
    let (tell, told) = sync_channel(1);
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        tell.send(runtime.handle().clone()).unwrap();
        let _ = runtime.block_on(ended);
    });
    ends.push(end);
    told.recv().unwrap()
}

impl Posted {
    pub(crate) fn addr(&self) -> SocketAddr {
        match &self.addresses[0] {
            Address::Net(addr) => *addr,
            address @ Address::Unix(_) => panic!("{address}"),
        }
    }

    /// A peer that speaks with this server alone.
    pub(crate) fn peer(&self) -> UdpSocket {
        peer("127.0.0.1:0", self.addr())
    }

    /// Stops and checks what must always hold.
    pub(crate) fn end(self) -> (Drained, Arc<TestStore>) {
        self.stop.send(()).unwrap();
        let (drained, status) = self.server.join().unwrap();
        assert_eq!(drained.served, status.recorded + status.lost);
        assert_eq!(self.store.exchanges().len() as u64, status.recorded);
        (drained, self.store)
    }
}

/// A socket at `own` that sends to `server` and hears nobody else.
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
    hear(peer)
}

pub(crate) fn hear(peer: &UdpSocket) -> Vec<u8> {
    let mut room = vec![0; 70_000];
    let len = peer.recv(&mut room).expect("an answer");
    room.truncate(len);
    room
}
