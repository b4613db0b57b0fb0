//! A server on a thread of its own, for clients that block.

#![allow(
    dead_code,
    reason = "each test binary takes what it needs of what all share"
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
use echoic_service::Chosen;
use tokio::{runtime::Builder, sync::oneshot};

use crate::common::{StoreMode, TestStore};

/// How to serve.
pub(crate) struct Serve {
    pub(crate) service: Arc<dyn Service>,
    pub(crate) framing: Framing,
    pub(crate) limits: Limits,
    pub(crate) options: RecorderOptions,
    pub(crate) store: Arc<TestStore>,
    /// Threads for conversations; none has them share the acceptor's.
    pub(crate) workers: usize,
}

/// A server at work.
pub(crate) struct Serving {
    pub(crate) addr: SocketAddr,
    pub(crate) store: Arc<TestStore>,
    stop: oneshot::Sender<()>,
    server: thread::JoinHandle<(Drained, RecorderStatus)>,
}

impl Serve {
    pub(crate) fn named(service: &str, framing: Framing) -> Self {
        Self::with(service.parse::<Chosen>().unwrap().0, framing)
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
        let (tell, listening) = sync_channel(1);
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
                    unreachable!("it is an internet address")
                };
                tell.send(addr).unwrap();
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

impl Serving {
    pub(crate) fn call(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        // Otherwise what is written last may still wait on our side for an acknowledgement.
        stream.set_nodelay(true).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        stream
            .set_write_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        stream
    }

    /// Sends all, ends its half, and reads to a clean end.
    pub(crate) fn ask(&self, bytes: impl AsRef<[u8]>) -> Vec<u8> {
        let mut stream = self.call();
        stream.write_all(bytes.as_ref()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        rest(&mut stream)
    }

    /// Gives the stop signal; returns what waits for the end.
    pub(crate) fn stop(self) -> Stopping {
        self.stop.send(()).unwrap();
        Stopping {
            store: self.store,
            server: self.server,
        }
    }

    /// Stops and checks what must always hold.
    pub(crate) fn end(self) -> (Drained, Arc<TestStore>) {
        self.stop().end()
    }
}

/// A server that has been told to stop.
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

/// Everything up to a clean end.
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

/// Waits, with an end to it, for something only looking can tell.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(std::time::Instant::now() < end, "never: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// An inline service made of a function.
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
