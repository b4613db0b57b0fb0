//! A console of a running server, over real sockets.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub(crate) mod client;
pub(crate) mod stream;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use echoic_console::{Console, ConsoleConfig, Limit, StoreDescription, Token, tls_server};
use echoic_core::{
    control::{
        Call, CallReply, CallResult, CloseHow, Control, ControlError, EndpointId, EndpointStatus,
        Requested, ServerCounts, SocketCall, Target, TargetStatus,
    },
    event::{
        Address, Batch, ConversationId, EndpointInfo, Event, Opened, Outcome, Protocol, Role,
        RunMeta, ServerId, ServerInfo,
    },
    framing::{Framing, ReplyEnd},
    limits::Limits,
    service::BoxFuture,
    store::{Durability, Store},
};
use echoic_recorder::{Recorder, RecorderOptions, wall_clock_now};
use echoic_server::{EndpointConfig, Server, ServerControl};
use echoic_service::NamedService;
use echoic_store::{MemoryStore, SqliteStore};
use echoic_wire::TlsServer;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::{sleep, timeout},
};

use self::client::{Client, Reply};

pub(crate) const TOKEN: &str = "a-token-of-the-tests";

/// The names of the certificate of a console with TLS.
pub(crate) const NAMES: [&str; 4] = [
    "localhost",
    "127.0.0.1",
    "console.example",
    "*.wild.example",
];

/// Writes a certificate for these names, and its key.
pub(crate) fn write_certificate([certificate, key]: &[PathBuf; 2], names: &[&str]) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
    fs::write(certificate, cert.pem()).unwrap();
    fs::write(key, signing_key.serialize_pem()).unwrap();
}

/// Kinds of stores that the tests run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Memory,
    Sqlite,
}

/// A server with one endpoint (upper, framing line), its record, and a console of both.
pub(crate) struct Site {
    pub(crate) console: SocketAddr,
    pub(crate) endpoint: SocketAddr,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) client: Client,
    /// What the console speaks TLS with, and the files of its certificate.
    pub(crate) tls: Option<(Arc<TlsServer>, [PathBuf; 2])>,
    stops: Vec<oneshot::Sender<()>>,
    tasks: Vec<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

/// What a site has, beside the defaults.
#[derive(Clone, Copy)]
pub(crate) struct Options {
    pub(crate) kind: Kind,
    pub(crate) readonly: bool,
    /// Whether the console is in the process of the server.
    pub(crate) owns: bool,
    /// Whether it speaks TLS, with a certificate for [`NAMES`].
    pub(crate) tls: bool,
    pub(crate) password: Option<&'static str>,
}

impl Options {
    pub(crate) const fn of(kind: Kind) -> Self {
        Self {
            kind,
            readonly: false,
            owns: true,
            tls: false,
            password: None,
        }
    }
}

/// The program's control: that of the server, and calls by a small client.
struct ProgramControl(ServerControl);

impl Control for ProgramControl {
    fn endpoints(&self) -> Vec<EndpointStatus> {
        self.0.endpoints()
    }

    fn counts(&self) -> ServerCounts {
        self.0.counts()
    }

    fn set_endpoint(
        &self,
        id: EndpointId,
        state: Requested,
    ) -> BoxFuture<'_, Result<EndpointStatus, ControlError>> {
        Box::pin(self.0.set_endpoint(id, state))
    }

    fn send(
        &self,
        conversation: ConversationId,
        bytes: Vec<u8>,
    ) -> BoxFuture<'_, Result<(), ControlError>> {
        Box::pin(self.0.send(conversation, bytes))
    }

    fn close(
        &self,
        conversation: ConversationId,
        how: CloseHow,
    ) -> BoxFuture<'_, Result<(), ControlError>> {
        Box::pin(self.0.close(conversation, how))
    }

    fn call(&self, call: Call) -> BoxFuture<'_, Result<CallResult, ControlError>> {
        Box::pin(async move {
            let found = self.0.endpoints().into_iter();
            let target = match call.target {
                Target::Endpoint(id) => found.into_iter().find(|one| one.id == id),
                Target::Allowed(_) => None,
            };
            let target = target.ok_or_else(|| ControlError::NotFound("target".to_owned()))?;
            let Address::Net(address) = &target.addresses[0] else {
                return Err(ControlError::Invalid("a Unix socket".to_owned()));
            };
            let framing = call.framing.unwrap_or(target.info.framing).outbound;
            let failed = |error: std::io::Error| ControlError::Failed(error.to_string());
            let mut peer = TcpStream::connect(address).await.map_err(failed)?;
            let mut replies = Vec::new();
            for message in call.messages {
                let mut request = Vec::new();
                let start = framing.open(&mut request);
                request.extend_from_slice(&message);
                framing.close(&mut request, start, ReplyEnd::Whole).unwrap();
                peer.write_all(&request).await.map_err(failed)?;
                let mut reply = vec![0; 4096];
                let read = timeout(call.wait, peer.read(&mut reply)).await;
                reply.truncate(read.map_or(Ok(0), |read| read).map_err(failed)?);
                replies.push(CallReply {
                    request,
                    latency_ns: (!reply.is_empty()).then_some(1),
                    reply,
                });
                sleep(call.every).await;
            }
            Ok(CallResult {
                conversation: None,
                replies,
                end: "closed-by-us".to_owned(),
            })
        })
    }

    fn targets(&self) -> Vec<TargetStatus> {
        Vec::new()
    }

    fn explain_next(&self) -> Result<(), ControlError> {
        self.0.explain_next();
        Ok(())
    }

    fn socket_calls(&self, conversation: ConversationId) -> Option<Vec<SocketCall>> {
        self.0.socket_calls(conversation)
    }
}

fn open(kind: Kind, folder: &Path) -> Arc<dyn Store> {
    match kind {
        Kind::Memory => Arc::new(MemoryStore::new(64 << 20)),
        Kind::Sqlite => {
            let path = folder.join("echoic.db");
            Arc::new(SqliteStore::open(&path, Durability::Normal).unwrap())
        }
    }
}

/// A batch of another server: a conversation with this id, and that many exchanges.
pub(crate) fn batch(conversation: ConversationId, exchanges: u64) -> Batch {
    let at = wall_clock_now() - 120_000_000;
    let server = ServerInfo {
        id: ServerId(conversation),
        name: "another".to_owned(),
        started: at,
    };
    let mut batch = Batch::default();
    (batch.server, batch.number) = (Arc::new(server), 1);
    batch.events.push(Event::Opened(Opened {
        conversation,
        at,
        remote: Address::Net(([127, 0, 0, 1], 40_000).into()),
        local: Address::Net(([127, 0, 0, 1], 5000).into()),
        role: Role::Server,
        endpoint_info: Arc::new(EndpointInfo {
            name: "tcp:5000".to_owned(),
            proto: Protocol::Tcp,
            service: "upper".to_owned(),
            framing: Framing::Line.into(),
        }),
        tls: None,
    }));
    for n in 1..=exchanges {
        let meta = RunMeta {
            conversation,
            n,
            at,
            latency_ns: 1000,
            reads: 1,
            reply_offset: 0,
        };
        batch.push_exchange(meta, Outcome::Ok, b"a\n", b"A\n");
    }
    batch
}

pub(crate) fn config(readonly: bool) -> ConsoleConfig {
    ConsoleConfig {
        token: TOKEN.parse::<Token>().unwrap(),
        password: None,
        tls: None,
        readonly,
        version: "0.1.0",
        store: StoreDescription {
            url: "sqlite:echoic.db".to_owned(),
            kind: "sqlite".to_owned(),
            name: "echoic.db".to_owned(),
            retention: None,
            durability: Some("normal".to_owned()),
        },
        limits: vec![Limit {
            flag: "--max-message".to_owned(),
            value: "1M".to_owned(),
            meaning: "longest message".to_owned(),
        }],
    }
}

impl Site {
    pub(crate) async fn new(kind: Kind) -> Self {
        Self::with(Options::of(kind)).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open(options.kind, folder.path());
        let recorder = Recorder::new(Some(Arc::clone(&store)), RecorderOptions::default());
        let (recorder, recording) = recorder.await.unwrap();
        let mut tasks = vec![tokio::spawn(recording.run())];
        let mut server = Server::new(recorder.clone(), Limits::default());
        let service = "upper".parse::<NamedService>().unwrap().0;
        let config = EndpointConfig {
            framing: Framing::Line.into(),
            ..EndpointConfig::new("127.0.0.1:0".parse().unwrap(), service)
        };
        let Address::Net(endpoint) = server.open(config).await.unwrap().remove(0) else {
            panic!("a TCP endpoint");
        };
        let control: Arc<dyn Control> = Arc::new(ProgramControl(server.control()));
        let (stop_server, server_stopped) = oneshot::channel::<()>();
        tasks.push(tokio::spawn(async move {
            server
                .run(async {
                    let _ = server_stopped.await;
                })
                .await;
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (recorder, control) = if options.owns {
            (Some(recorder), Some(control))
        } else {
            (None, None)
        };
        let tls = options.tls.then(|| {
            let files = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
            write_certificate(&files, &NAMES);
            let [certificate, key] = files.clone();
            (Arc::new(tls_server(certificate, key).unwrap()), files)
        });
        let config = ConsoleConfig {
            password: options.password.map(|password| password.parse().unwrap()),
            tls: tls.as_ref().map(|(tls, _)| Arc::clone(tls)),
            ..self::config(options.readonly)
        };
        let console = Console::new(config, Arc::clone(&store), recorder, control);
        let (stop_console, console_stopped) = oneshot::channel::<()>();
        tasks.push(tokio::spawn(async move {
            let stop = async {
                let _ = console_stopped.await;
            };
            console.serve(listener, stop).await.unwrap();
        }));
        Self {
            console: address,
            endpoint,
            store,
            client: Client {
                ca: tls
                    .as_ref()
                    .map(|(_, [certificate, _])| certificate.clone()),
                ..Client::new(address, TOKEN)
            },
            tls,
            stops: vec![stop_console, stop_server],
            tasks,
            _folder: folder,
        }
    }

    /// Sends lines over one connection, ends it, and waits until all is recorded. Returns the replies.
    pub(crate) async fn talk(&self, lines: &[&str]) -> String {
        let before = self.store.last().await.unwrap().exchange;
        let mut peer = TcpStream::connect(self.endpoint).await.unwrap();
        let mut replies = String::new();
        for line in lines {
            peer.write_all(line.as_bytes()).await.unwrap();
            let mut reply = vec![0; 4096];
            let read = peer.read(&mut reply).await.unwrap();
            replies.push_str(std::str::from_utf8(&reply[..read]).unwrap());
        }
        peer.shutdown().await.unwrap();
        peer.read_to_string(&mut replies).await.unwrap();
        let all = before + lines.len() as u64;
        for _ in 0..3_000 {
            if self.store.last().await.unwrap().exchange >= all {
                return replies;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("{lines:?} are not recorded");
    }

    pub(crate) async fn get(&self, target: &str) -> Reply {
        self.client.request("GET", target, None).await
    }

    pub(crate) async fn submit(&self, target: &str, body: &str) -> Reply {
        self.client.request("POST", target, Some(body)).await
    }

    pub(crate) async fn patch(&self, target: &str, body: &str) -> Reply {
        self.client.request("PATCH", target, Some(body)).await
    }

    /// Waits until the conversation has this value at a key.
    pub(crate) async fn conversation_with(
        &self,
        id: u64,
        key: &str,
        value: &str,
    ) -> serde_json::Value {
        for _ in 0..3_000 {
            let reply = self.get(&format!("/api/v1/conversations/{id}")).await;
            let found = reply.json();
            if found[key] == value {
                return found;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("conversation {id} never has {key} {value}");
    }

    pub(crate) async fn stop(self) {
        drop(self.stops);
        for task in self.tasks.into_iter().skip(1) {
            task.await.unwrap();
        }
    }
}
