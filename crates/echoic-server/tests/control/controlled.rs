//! A server with several endpoints on its own thread, and its control.

use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    sync::{Arc, mpsc::sync_channel},
    thread,
    time::Duration,
};

use echoic_core::{
    control::{CloseHow, ControlError, EndpointStatus, Requested},
    ending::Ending,
    event::{Address, ConversationId},
    framing::Framing,
    limits::Limits,
    service::Service,
    store::Store,
};
use echoic_recorder::{Recorder, RecorderOptions, RecorderStatus};
use echoic_server::{Drained, EndpointConfig, Server, ServerControl};
use echoic_service::NamedService;
use tokio::{
    runtime::{Builder, Runtime},
    sync::oneshot,
};

use crate::{
    common::{StoreMode, Stored, TestStore},
    serving::until,
};

/// A running server.
pub(crate) struct Controlled {
    pub(crate) control: ServerControl,
    pub(crate) store: Arc<TestStore>,
    /// The directory in /proc of the server's thread.
    thread: String,
    runtime: Runtime,
    stop: oneshot::Sender<()>,
    server: thread::JoinHandle<(Drained, RecorderStatus)>,
}

pub(crate) fn named(service: &str) -> Arc<dyn Service> {
    service.parse::<NamedService>().unwrap().0
}

/// An endpoint that serves lines.
pub(crate) fn lines(endpoint: &str, service: Arc<dyn Service>) -> EndpointConfig {
    EndpointConfig {
        framing: Framing::Line.into(),
        ..EndpointConfig::new(endpoint.parse().unwrap(), service)
    }
}

/// An endpoint of lines over TCP that serves `upper`.
pub(crate) fn upper() -> EndpointConfig {
    lines("127.0.0.1:0", named("upper"))
}

impl Controlled {
    pub(crate) fn start(endpoints: Vec<EndpointConfig>) -> Self {
        Self::start_with(endpoints, Limits::default(), RecorderOptions::default())
    }

    pub(crate) fn start_with(
        endpoints: Vec<EndpointConfig>,
        limits: Limits,
        options: RecorderOptions,
    ) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let (report, started) = sync_channel(1);
        let store = TestStore::new(StoreMode::Commits);
        let recorded = Arc::clone(&store) as Arc<dyn Store>;
        let server = thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let (recorder, task) = Recorder::new(Some(recorded), options).await.unwrap();
                let task = tokio::spawn(task.run());
                let mut server = Server::new(recorder.clone(), limits);
                for endpoint in endpoints {
                    server.open(endpoint).await.unwrap();
                }
                let own = fs::read_link("/proc/thread-self").unwrap();
                report.send((server.control(), own)).unwrap();
                let drained = server
                    .run(async {
                        let _ = stopped.await;
                    })
                    .await;
                recorder.close(task, Duration::from_secs(10)).await;
                (drained, recorder.status())
            })
        });
        let (control, own) = started.recv().unwrap();
        Self {
            control,
            store,
            thread: format!("/proc/{}", own.display()),
            runtime: Builder::new_current_thread().enable_all().build().unwrap(),
            stop,
            server,
        }
    }

    pub(crate) fn status(&self, endpoint: u32) -> EndpointStatus {
        let endpoints = self.control.endpoints();
        endpoints[endpoint as usize - 1].clone()
    }

    /// The address of an endpoint that has one.
    pub(crate) fn addr(&self, endpoint: u32) -> SocketAddr {
        match &self.status(endpoint).addresses[..] {
            [Address::Net(addr)] => *addr,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn call(&self, endpoint: u32) -> TcpStream {
        let stream = TcpStream::connect(self.addr(endpoint)).unwrap();
        stream.set_nodelay(true).unwrap();
        let long = Some(Duration::from_secs(30));
        stream.set_read_timeout(long).unwrap();
        stream.set_write_timeout(long).unwrap();
        stream
    }

    /// A socket connected to a UDP endpoint.
    pub(crate) fn peer(&self, endpoint: u32) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(self.addr(endpoint)).unwrap();
        let long = Some(Duration::from_secs(30));
        socket.set_read_timeout(long).unwrap();
        socket
    }

    pub(crate) fn set(&self, endpoint: u32, state: Requested) -> EndpointStatus {
        let set = self.control.set_endpoint(endpoint, state);
        self.runtime.block_on(set).unwrap()
    }

    pub(crate) fn try_set(
        &self,
        endpoint: u32,
        state: Requested,
    ) -> Result<EndpointStatus, ControlError> {
        self.runtime
            .block_on(self.control.set_endpoint(endpoint, state))
    }

    pub(crate) fn send(
        &self,
        conversation: ConversationId,
        bytes: impl AsRef<[u8]>,
    ) -> Result<(), ControlError> {
        let bytes = bytes.as_ref().to_vec();
        self.runtime
            .block_on(self.control.send(conversation, bytes))
    }

    pub(crate) fn close(
        &self,
        conversation: ConversationId,
        how: CloseHow,
    ) -> Result<(), ControlError> {
        self.runtime.block_on(self.control.close(conversation, how))
    }

    /// The conversation of a peer with this address, once its opening is recorded.
    pub(crate) fn conversation_of(&self, peer: SocketAddr) -> ConversationId {
        let find = || {
            let mut callers = self.store.callers().into_iter();
            callers.rfind(|(_, address)| *address == Address::Net(peer))
        };
        until("its opening is recorded", || find().is_some());
        find().unwrap().0
    }

    /// The ending of a conversation, once it is recorded.
    pub(crate) fn ending(&self, conversation: ConversationId) -> Ending {
        until("its ending is recorded", || {
            self.store.ending(conversation).is_some()
        });
        self.store.ending(conversation).unwrap()
    }

    /// The recorded exchanges of a conversation, as requests and replies.
    pub(crate) fn exchanges(&self, conversation: ConversationId) -> Vec<Stored> {
        let mut exchanges = self.store.exchanges();
        exchanges.retain(|exchange| exchange.conversation == conversation);
        exchanges
    }

    /// How often the server's thread has slept, and its CPU time in ticks of 10 ms.
    pub(crate) fn sleeps_and_ticks(&self) -> (u64, u64) {
        let status = fs::read_to_string(format!("{}/status", self.thread)).unwrap();
        let mut lines = status.lines();
        let sleeps = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        let stat = fs::read_to_string(format!("{}/stat", self.thread)).unwrap();
        // The name, in brackets, may contain anything. User and system time are the fields 14 and 15.
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let times = fields.split_whitespace().skip(11).take(2);
        let ticks = times.map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        (sleeps.unwrap().trim().parse().unwrap(), ticks)
    }

    /// Stops the server and checks what holds for every run.
    pub(crate) fn end(self) -> (Drained, Arc<TestStore>) {
        self.stop.send(()).unwrap();
        let (drained, status) = self.server.join().unwrap();
        assert_eq!(drained.served, status.recorded + status.lost);
        assert_eq!(drained.panicked, 0);
        assert_eq!(self.store.exchanges().len() as u64, status.recorded);
        let counts = self.control.counts();
        assert_eq!((counts.open, counts.served), (0, drained.served));
        let late = self
            .runtime
            .block_on(self.control.set_endpoint(1, Requested::Paused));
        assert!(matches!(late, Err(ControlError::Failed(_))), "{late:?}");
        (drained, self.store)
    }
}

/// Sends a line and returns the line that comes back.
pub(crate) fn ask(peer: &mut (impl Read + Write), line: &str) -> String {
    peer.write_all(line.as_bytes()).unwrap();
    read_line(peer)
}

pub(crate) fn read_line(peer: &mut impl Read) -> String {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        peer.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

/// Asserts that nothing arrives for a while.
pub(crate) fn gets_nothing(read: io::Result<usize>) {
    let kind = read.map_err(|error| error.kind());
    assert_eq!(kind, Err(io::ErrorKind::WouldBlock));
}

/// Long enough for a server to answer, if it does.
pub(crate) const A_WHILE: Duration = Duration::from_millis(200);
