//! A real nats-server in a temporary folder, on a free port.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tempfile::TempDir;

use super::{
    SLOW, SOON, free_ports, kill,
    process::{signal, tool},
    until_within, wait_for_end,
};

/// A running nats-server. It is killed when this is dropped, also by a panic.
#[derive(Debug)]
pub(crate) struct Nats {
    child: Option<Child>,
    /// Any free one until it has run.
    port: Option<u16>,
    config: String,
    options: Vec<String>,
    dir: TempDir,
}

/// JetStream with room for our streams whatever the disk has: without a limit of its own, nats-server takes three quarters of
/// what is free, and refuses a stream that reserves more.
const JETSTREAM: &str = "jetstream { max_file_store: 16GB }\n";

impl Nats {
    /// Starts one without JetStream.
    #[track_caller]
    pub(crate) fn start(options: &[&str]) -> Self {
        Self::with_config("", options)
    }

    #[track_caller]
    fn new(config: &str, options: &[&str]) -> Self {
        let mut nats = Self {
            child: None,
            port: None,
            config: config.to_owned(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            dir: tempfile::tempdir().unwrap(),
        };
        nats.run();
        nats
    }

    /// Starts one with JetStream, which stores files in the folder.
    #[track_caller]
    pub(crate) fn with_jetstream() -> Self {
        Self::new(JETSTREAM, &[])
    }

    /// Starts one with a configuration file beside the options.
    #[track_caller]
    pub(crate) fn with_config(config: &str, options: &[&str]) -> Self {
        Self::new(config, options)
    }

    /// Starts one with JetStream, and with a configuration and options beside it.
    #[track_caller]
    pub(crate) fn with_jetstream_and(config: &str, options: &[&str]) -> Self {
        Self::new(&format!("{JETSTREAM}{config}\n"), options)
    }

    /// Starts it again, at the same port with the same files. Somebody else may have the port for a moment: then it ends, and is
    /// started once more.
    #[track_caller]
    pub(crate) fn run(&mut self) {
        until_within(SLOW, "nats-server listens", || {
            let child = self.command().spawn().unwrap();
            let written = self
                .dir
                .path()
                .join(format!("nats-server_{}.ports", child.id()));
            self.child = Some(child);
            self.port = self.listens(&written).or(self.port);
            let _ = std::fs::remove_file(written);
            self.child.is_some()
        });
    }

    fn command(&self) -> Command {
        let dir = self.dir.path();
        let config = dir.join("nats.conf");
        std::fs::write(&config, &self.config).unwrap();
        let port = self
            .port
            .map_or_else(|| "-1".to_owned(), |port| port.to_string());
        let mut command = tool("nats-server", "nats-server");
        command
            .arg("--config")
            .arg(config)
            .args(["--addr", "127.0.0.1", "--port", &port])
            .arg("--ports_file_dir")
            .arg(dir)
            .arg("--store_dir")
            .arg(dir.join("jetstream"))
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// Waits until it has written the port that it listens at: who connects cannot tell it from another program there. Without it
    /// the process has ended, or is killed since it writes none.
    fn listens(&mut self, written: &Path) -> Option<u16> {
        let child = self.child.as_mut()?;
        let since = Instant::now();
        while since.elapsed() < SOON && wait_for_end(child, Duration::from_millis(2)).is_none() {
            let ports = std::fs::read(written).unwrap_or_default();
            let ports: serde_json::Value = serde_json::from_slice(&ports).unwrap_or_default();
            let port = ports["nats"][0]
                .as_str()
                .and_then(|url| url.rsplit_once(':'));
            if let Some((_, port)) = port {
                return port.parse().ok();
            }
        }
        self.kill();
        None
    }

    /// Where it listens. It keeps the port while it is away.
    fn port(&self) -> u16 {
        self.port.expect("it has run")
    }

    /// Starts three as a cluster with JetStream, and waits until it takes streams.
    #[track_caller]
    pub(crate) fn cluster() -> [Self; 3] {
        let ports: [u16; 3] = free_ports();
        let routes = ports.map(|port| format!("nats-route://127.0.0.1:{port}"));
        let routes = routes.join(", ");
        let nodes = ports.map(|port| {
            let config = format!(
                "server_name: node-{port}\ncluster {{ name: echoic, listen: \"127.0.0.1:{port}\", routes: [{routes}] }}"
            );
            Self::with_jetstream_and(&config, &[])
        });
        // A leader may be elected before it knows all nodes: then it has too few for a stream on each of them.
        let ask = |what: &str, payload: &str| {
            let subject = format!("$JS.API.STREAM.{what}.first");
            let answer = nodes[0].try_request(&subject, payload, Duration::from_secs(5));
            answer.is_ok_and(|answer| !answer.contains("\"error\""))
        };
        let stream = r#"{"name":"first","subjects":["first"],"retention":"limits","discard":"old",
            "storage":"file","num_replicas":3}"#;
        until_within(SLOW, "a stream can be on each node", || {
            ask("CREATE", stream)
        });
        until_within(SLOW, "it is deleted", || ask("DELETE", ""));
        nodes
    }

    /// The URL of a stream or a subject of a cluster.
    pub(crate) fn cluster_url(nodes: &[Self], name: &str) -> String {
        let hosts = nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port()));
        let hosts: Vec<_> = hosts.collect();
        format!("nats://{}/{name}", hosts.join(","))
    }

    /// Waits until each node of a cluster has all of a stream: then another one may die.
    #[track_caller]
    pub(crate) fn wait_for_replicas(nodes: &[Self], stream: &str) {
        let subject = format!("$JS.API.STREAM.INFO.{stream}");
        until_within(SLOW, "each node has all of the stream", || {
            let info = nodes[0].try_request(&subject, "", Duration::from_secs(1));
            let info = info.ok().and_then(|info| {
                let info: Result<serde_json::Value, _> = serde_json::from_str(&info);
                info.ok()
            });
            let Some(info) = info else { return false };
            let replicas = info["cluster"]["replicas"].as_array();
            let is_current = |replica: &serde_json::Value| replica["current"] == true;
            replicas.is_some_and(|all| all.len() == 2 && all.iter().all(is_current))
        });
    }

    /// Kills it as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            kill(&mut child);
        }
    }

    /// Stops it as a machine that hangs would: it takes connections, and answers nothing.
    pub(crate) fn freeze(&self) {
        if let Some(child) = &self.child {
            signal(child, Signal::STOP);
        }
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        if let Some(child) = &self.child {
            signal(child, Signal::CONT);
        }
    }

    /// Sends a request by the protocol of NATS itself, and returns the payload of the answer.
    #[track_caller]
    pub(crate) fn request(&self, subject: &str, payload: &str) -> String {
        self.try_request(subject, payload, SOON).unwrap()
    }

    /// The same, for a server that may not answer.
    fn try_request(&self, subject: &str, payload: &str, patience: Duration) -> io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port()))?;
        stream.set_read_timeout(Some(patience))?;
        let length = payload.len();
        let asked = format!(
            "CONNECT {{\"verbose\":false}}\r\nSUB answer 1\r\nPUB {subject} answer {length}\r\n{payload}\r\n"
        );
        stream.write_all(asked.as_bytes())?;
        let mut reader = BufReader::new(stream);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            if line.is_empty() || line.starts_with("-ERR") {
                return Err(io::Error::other(line));
            }
            if let Some(length) = line.strip_prefix("MSG answer 1 ") {
                let length = length.split_whitespace().last().unwrap();
                let mut answer = vec![0; length.parse().unwrap()];
                reader.read_exact(&mut answer)?;
                return Ok(String::from_utf8(answer).unwrap());
            }
        }
    }

    /// Returns the settings of a stream, and what it holds.
    #[track_caller]
    pub(crate) fn stream_info(&self, stream: &str) -> serde_json::Value {
        let info = self.request(&format!("$JS.API.STREAM.INFO.{stream}"), "");
        serde_json::from_str(&info).unwrap()
    }

    /// Returns the number of messages that a stream holds.
    #[track_caller]
    pub(crate) fn stream_messages(&self, stream: &str) -> u64 {
        self.stream_info(stream)["state"]["messages"]
            .as_u64()
            .expect(stream)
    }

    /// Whether keepers have written and acknowledged all that a stream had for them. Of a server that was killed, some of that may
    /// be in the stream again, where nobody gets it.
    pub(crate) fn is_written(&self, stream: &str) -> bool {
        let is_written =
            |lane: &serde_json::Value| lane["num_pending"] == 0 && lane["num_ack_pending"] == 0;
        self.lanes(stream).iter().all(is_written)
    }

    /// What JetStream says of the lanes of a stream. Without an answer it is null.
    pub(crate) fn lanes(&self, stream: &str) -> Vec<serde_json::Value> {
        let lane = |lane: u8| {
            let subject = format!("$JS.API.CONSUMER.INFO.{stream}.keep-{lane}");
            let info = self.try_request(&subject, "", SOON).unwrap_or_default();
            serde_json::from_str(&info).unwrap_or_default()
        };
        (0..8).map(lane).collect()
    }

    /// The URL of a subject or a stream.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("nats://127.0.0.1:{}/{name}", self.port())
    }

    /// The URL with a login.
    pub(crate) fn url_as(&self, login: &str, name: &str) -> String {
        format!("nats://{login}@127.0.0.1:{}/{name}", self.port())
    }

    pub(crate) fn folder(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.kill();
    }
}
