//! A client of HTTP/1.1 that sends what it is told, also what is wrong.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use echoic_core::endpoint::{Host, HostPort};
use echoic_wire::{ClientLayer, Link, TlsClient, TlsClientOptions};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream},
    net::TcpStream,
    time::timeout,
};

const DEADLINE: Duration = Duration::from_mins(1);

/// Sends requests with a token, each over a connection of its own.
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
    /// The certificate of the server, for TLS.
    pub(crate) ca: Option<PathBuf>,
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The body of an answer with this status.
    pub(crate) fn ok(&self, status: u16) -> Value {
        assert_eq!(
            self.status,
            status,
            "{}",
            String::from_utf8_lossy(&self.body)
        );
        if self.body.is_empty() {
            Value::Null
        } else {
            self.json()
        }
    }

    /// The text of an error with this status.
    pub(crate) fn problem(&self, status: u16) -> String {
        let problem = self.ok(status);
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json")
        );
        assert_eq!(problem["status"], status);
        problem["detail"].as_str().unwrap().to_owned()
    }
}

impl Client {
    pub(crate) fn new(address: SocketAddr, token: &str) -> Self {
        Self {
            address,
            token: token.to_owned(),
            ca: None,
        }
    }

    pub(crate) async fn request(&self, method: &str, target: &str, body: Option<&str>) -> Reply {
        let token = format!("Authorization: Bearer {}", self.token);
        let mut headers = vec![token.as_str()];
        if body.is_some() {
            headers.push("Content-Type: application/json");
        }
        self.with(method, target, &headers, body).await
    }

    /// Sends a request with these headers alone, beside Host.
    pub(crate) async fn with(
        &self,
        method: &str,
        target: &str,
        headers: &[&str],
        body: Option<&str>,
    ) -> Reply {
        let host = format!("Host: {}", self.address);
        let mut all = vec![host.as_str(), "Connection: close"];
        all.extend(headers);
        let raw = raw(method, target, &all, body);
        let mut connection = self.connect().await;
        connection.send(raw.as_bytes()).await;
        connection.receive(method).await
    }

    /// Opens a connection, over TLS if the server speaks it.
    pub(crate) async fn connect(&self) -> Connection {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let link = self.open(Link::tcp(stream, None), &[]).await.unwrap();
        Connection::over(link)
    }

    /// Does the handshake of TLS with these application protocols over a link, if the server speaks TLS.
    pub(crate) async fn open(&self, link: Link, alpn: &[&str]) -> io::Result<Link> {
        let Some(ca) = self.ca.clone() else {
            return Ok(link);
        };
        let at = HostPort {
            host: Host::Name("localhost".to_owned()),
            port: self.address.port(),
        };
        let options = TlsClientOptions {
            ca: Some(ca),
            alpn: alpn.iter().map(|name| (*name).to_owned()).collect(),
            ..TlsClientOptions::default()
        };
        TlsClient::new(&at, &options).unwrap().connect(link).await
    }
}

/// Returns a request as it is sent.
pub(crate) fn raw(method: &str, target: &str, headers: &[&str], body: Option<&str>) -> String {
    let mut raw = format!("{method} {target} HTTP/1.1\r\n");
    for header in headers {
        raw.push_str(header);
        raw.push_str("\r\n");
    }
    if let Some(body) = body {
        raw.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    raw.push_str("\r\n");
    raw.push_str(body.unwrap_or_default());
    raw
}

/// A connection for several requests.
pub(crate) struct Connection(BufStream<Link>);

impl Connection {
    pub(crate) async fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        Self::over(Link::tcp(stream, None))
    }

    pub(crate) fn over(link: Link) -> Self {
        Self(BufStream::new(link))
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// Receives the answer to a request of this method.
    pub(crate) async fn receive(&mut self, method: &str) -> Reply {
        timeout(DEADLINE, self.read(method)).await.unwrap()
    }

    async fn read(&mut self, method: &str) -> Reply {
        let line = self.line().await;
        let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("{line:?}"));
        let status: u16 = status.parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let line = self.line().await;
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut reply = Reply {
            status,
            headers,
            body: Vec::new(),
        };
        if method == "HEAD" || matches!(status, 204 | 304) {
            return reply;
        }
        if reply.header("transfer-encoding") == Some("chunked") {
            loop {
                let size = usize::from_str_radix(&self.line().await, 16).unwrap();
                let mut chunk = vec![0; size + 2];
                self.0.read_exact(&mut chunk).await.unwrap();
                if size == 0 {
                    return reply;
                }
                reply.body.extend_from_slice(&chunk[..size]);
            }
        }
        let length = reply.header("content-length").unwrap_or("0");
        reply.body = vec![0; length.parse().unwrap()];
        self.0.read_exact(&mut reply.body).await.unwrap();
        reply
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).await.unwrap();
        line.trim_end().to_owned()
    }
}
