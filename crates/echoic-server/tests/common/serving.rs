//! A server on its own thread, for blocking clients.

#![allow(
    dead_code,
    reason = "each test binary uses a part of the shared helpers"
)]
#![allow(clippy::unwrap_used, reason = "in a test that is the failure")]

use std::ops::ControlFlow;
use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{Arc, mpsc::sync_channel},
    thread,
    time::Duration,
};

use echoic_core::{
    event::Address,
    framing::Framing,
    limits::Limits,
    message::{Replies, Run},
    service::{Handler, InlineHandler, Peer, Service},
    store::Store,
};
use echoic_recorder::{Recorder, RecorderOptions, RecorderStatus};
use echoic_server::{Drained, EndpointConfig, Server};
use echoic_service::NamedService;
use tokio::{runtime::Builder, sync::oneshot};

use crate::common::{StoreMode, TestStore};

/// Settings of a server under test.
pub(crate) struct Serve {
    pub(crate) service: Arc<dyn Service>,
    pub(crate) framing: Framing,
    pub(crate) limits: Limits,
    pub(crate) options: RecorderOptions,
    pub(crate) store: Arc<TestStore>,
    /// Number of worker threads; with 0 the acceptor's thread serves the conversations.
    pub(crate) workers: usize,
}

/// A running server.
pub(crate) struct Serving {
    pub(crate) addr: SocketAddr,
    pub(crate) store: Arc<TestStore>,
    stop: oneshot::Sender<()>,
    server: thread::JoinHandle<(Drained, RecorderStatus)>,
}

impl Serve {
    pub(crate) fn named(service: &str, framing: Framing) -> Self {
        Self::with(service.parse::<NamedService>().unwrap().0, framing)
    }

    pub(crate) fn with(service: Arc<dyn Service>, framing: Framing) -> Self {
        Self {
            service,
            framing,
            limits: Limits::default(),
            options: RecorderOptions::default(),
            store: TestStore::new(StoreMode::Commits),
            workers: 0,
        }
    }

    pub(crate) fn start(self) -> Serving {
        let (stop, stopped) = oneshot::channel::<()>();
        let (report, listening) = sync_channel(1);
        let store = Arc::clone(&self.store);
        let server = thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let store = Arc::clone(&self.store) as Arc<dyn Store>;
                let recording = Recorder::new(Some(store), self.options).await;
                let (recorder, task) = recording.unwrap();
                let task = tokio::spawn(task.run());
                let mut ends = Vec::new();
                let workers = (0..self.workers).map(|_| worker(&mut ends)).collect();
                let mut server =
                    Server::new(recorder.clone(), self.limits.clone()).on_workers(workers);
                let config = EndpointConfig {
                    framing: self.framing.into(),
                    limits: self.limits,
                    ..EndpointConfig::new("127.0.0.1:0".parse().unwrap(), self.service)
                };
                let Address::Net(addr) = server.open(config).await.unwrap()[0] else {
                    unreachable!("the endpoint is tcp")
                };
                report.send(addr).unwrap();
                let drained = server
                    .run(async {
                        let _ = stopped.await;
                    })
                    .await;
                recorder.close(task, Duration::from_secs(10)).await;
                (drained, recorder.status())
            })
        });
        Serving {
            addr: listening.recv().unwrap(),
            store,
            stop,
            server,
        }
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

impl Serving {
    pub(crate) fn call(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        // Otherwise the last write may wait on our side for an acknowledgement.
        stream.set_nodelay(true).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        stream
            .set_write_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        stream
    }

    /// Sends the bytes, shuts down the sending side, and reads to a clean end.
    pub(crate) fn ask(&self, bytes: impl AsRef<[u8]>) -> Vec<u8> {
        let mut stream = self.call();
        stream.write_all(bytes.as_ref()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        rest(&mut stream)
    }

    /// Sends the stop signal, and returns the handle to wait for the end.
    pub(crate) fn stop(self) -> Stopping {
        self.stop.send(()).unwrap();
        Stopping {
            store: self.store,
            server: self.server,
        }
    }

    /// Stops the server and checks what holds for every run.
    pub(crate) fn end(self) -> (Drained, Arc<TestStore>) {
        self.stop().end()
    }
}

/// A server that is stopping.
pub(crate) struct Stopping {
    store: Arc<TestStore>,
    server: thread::JoinHandle<(Drained, RecorderStatus)>,
}

impl Stopping {
    pub(crate) fn end(self) -> (Drained, Arc<TestStore>) {
        let (drained, status) = self.server.join().unwrap();
        assert_eq!(drained.served, status.recorded + status.lost);
        assert_eq!(self.store.exchanges().len() as u64, status.recorded);
        (drained, self.store)
    }
}

/// Reads everything up to a clean end.
pub(crate) fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("a clean end");
    bytes
}

pub(crate) fn read(stream: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut read = vec![0; bytes];
    stream.read_exact(&mut read).unwrap();
    read
}

/// Polls `condition` until it holds, for at most 30 s.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(std::time::Instant::now() < end, "never: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// An inline service that calls a function for each message.
pub(crate) struct Doing<F>(pub(crate) F);

impl<F> std::fmt::Debug for Doing<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Doing")
    }
}

impl<F: Fn(&[u8], &mut Vec<u8>) + Clone + Send + Sync + 'static> Service for Doing<F> {
    fn name(&self) -> &'static str {
        "doing"
    }

    fn handler(&self, _: &Peer) -> Handler {
        Handler::Inline(Box::new(Self(self.0.clone())))
    }
}

impl<F: Fn(&[u8], &mut Vec<u8>) + Send> InlineHandler for Doing<F> {
    fn answer(&mut self, run: &Run<'_>, out: &mut Replies) -> ControlFlow<()> {
        for message in run.messages() {
            out.reply(&message, |bytes| (self.0)(message.body, bytes));
        }
        ControlFlow::Continue(())
    }
}
