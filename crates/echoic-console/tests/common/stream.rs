//! Reads a stream of server-sent events.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout, timeout_at},
};

use super::{TOKEN, client::raw};

const DEADLINE: Duration = Duration::from_secs(30);

/// An open stream.
pub(crate) struct EventStream {
    connection: BufReader<TcpStream>,
    /// Decoded bytes that are not yet an event.
    text: Vec<u8>,
    until: Instant,
    /// The last id.
    pub(crate) id: Option<u64>,
}

/// An event of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) data: Value,
}

impl Event {
    pub(crate) fn count(&self, key: &str) -> u64 {
        self.data[key].as_u64().unwrap()
    }

    /// Ids of the exchanges of a batch.
    pub(crate) fn ids(&self) -> Vec<u64> {
        let list = self.data["exchanges"].as_array().unwrap();
        list.iter().map(|one| one["id"].as_u64().unwrap()).collect()
    }
}

impl EventStream {
    /// Opens a stream: `query` begins with `?`. Returns once the head of the answer is read.
    pub(crate) async fn open(address: SocketAddr, query: &str, last: Option<u64>) -> Self {
        let (host, token) = (
            format!("Host: {address}"),
            format!("Authorization: Bearer {TOKEN}"),
        );
        let last = last.map(|id| format!("Last-Event-ID: {id}"));
        let mut headers = vec![host.as_str(), token.as_str()];
        headers.extend(last.as_deref());
        let request = raw("GET", &format!("/api/v1/events{query}"), &headers, None);
        let socket = TcpSocket::new_v4().unwrap();
        // So small that a stream that is not read is full soon.
        socket.set_recv_buffer_size(32 << 10).unwrap();
        let mut connection = BufReader::new(socket.connect(address).await.unwrap());
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = timeout(DEADLINE, connection.read_line(&mut head)).await;
            assert!(read.unwrap().unwrap() > 0, "{head}");
        }
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(head.contains("text/event-stream"), "{head}");
        Self {
            connection,
            text: Vec::new(),
            until: Instant::now() + DEADLINE,
            id: None,
        }
    }

    /// Returns the next event; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.parse() {
                return Some(event);
            }
            if !timeout_at(self.until, self.chunk())
                .await
                .expect("the events that the test waits for do not come")
            {
                return None;
            }
        }
    }

    /// Returns the next event with this name.
    pub(crate) async fn next_named(&mut self, name: &str) -> Event {
        loop {
            let event = self.next().await.expect("the stream has ended");
            if event.name == name {
                return event;
            }
        }
    }

    /// Returns the next event with this name that meets a condition.
    pub(crate) async fn until(&mut self, name: &str, mut is: impl FnMut(&Event) -> bool) -> Event {
        loop {
            let event = self.next_named(name).await;
            if is(&event) {
                return event;
            }
        }
    }

    /// Reads one chunk of the body. Returns false at its end.
    async fn chunk(&mut self) -> bool {
        let mut size = String::new();
        if self.connection.read_line(&mut size).await.unwrap_or(0) == 0 {
            return false;
        }
        let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        if self.connection.read_exact(&mut chunk).await.is_err() || size == 0 {
            return false;
        }
        self.text.extend_from_slice(&chunk[..size]);
        true
    }

    fn parse(&mut self) -> Option<Event> {
        loop {
            let end = self.text.windows(2).position(|two| two == b"\n\n")?;
            let text: Vec<u8> = self.text.drain(..end + 2).collect();
            let text = String::from_utf8(text).unwrap();
            let mut event = Event {
                name: String::new(),
                data: Value::Null,
            };
            for line in text.lines() {
                match line.split_once(": ") {
                    Some(("id", id)) => self.id = Some(id.parse().unwrap()),
                    Some(("event", name)) => name.clone_into(&mut event.name),
                    Some(("data", data)) => event.data = serde_json::from_str(data).unwrap(),
                    _ => {}
                }
            }
            if !event.name.is_empty() {
                return Some(event);
            }
        }
    }
}
