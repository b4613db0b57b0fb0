//! Requests to the web console.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
};

use serde_json::Value;

use super::SOON;

/// A console that runs somewhere.
#[derive(Clone, Debug)]
pub(crate) struct ConsoleAt {
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
}

/// The answer to a request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    /// Returns the body as JSON; panics unless the status is 200.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        serde_json::from_str(&self.body).unwrap()
    }
}

impl ConsoleAt {
    /// Reads the URL with its token: `http://ADDR/#t=TOKEN`.
    #[track_caller]
    pub(crate) fn of(url: &str) -> Self {
        let (address, token) = url
            .strip_prefix("http://")
            .and_then(|rest| rest.split_once("/#t="))
            .unwrap_or_else(|| panic!("no URL with a token: {url}"));
        Self {
            address: address.parse().unwrap(),
            token: token.to_owned(),
        }
    }

    /// Sends a request and reads the answer to its end.
    #[track_caller]
    pub(crate) fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let mut stream = self.send(method, path, body);
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = if head
            .to_ascii_lowercase()
            .contains("transfer-encoding: chunked")
        {
            dechunked(body)
        } else {
            body.to_owned()
        };
        Answer { status, body }
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, None)
    }

    /// Whether it answers a request for this path well. It may be away.
    pub(crate) fn answers(&self, path: &str) -> bool {
        let asked = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(self.address)?;
            stream.set_read_timeout(Some(SOON))?;
            let Self { address, token } = self;
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
            );
            stream.write_all(request.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        asked().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 "))
    }

    #[track_caller]
    pub(crate) fn submit(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, Some(body))
    }

    /// Opens a stream of events.
    #[track_caller]
    pub(crate) fn events(&self) -> BufReader<TcpStream> {
        let mut reader = BufReader::new(self.send("GET", "/api/v1/events", None));
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            assert!(reader.read_line(&mut line).unwrap() > 0, "no answer");
        }
        reader
    }

    #[track_caller]
    fn send(&self, method: &str, path: &str, body: Option<&Value>) -> TcpStream {
        let Self { address, token } = self;
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let body = body.map(ToString::to_string);
        let head = match &body {
            Some(body) => format!(
                "Content-Type: application/json\r\nContent-Length: {}\r\n",
                body.len()
            ),
            None => String::new(),
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n{head}\r\n{}",
            body.unwrap_or_default()
        );
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }
}

fn dechunked(body: &str) -> String {
    let (mut text, mut rest) = (String::new(), body);
    while let Some((length, after)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        text += &after[..length];
        rest = after[length..].strip_prefix("\r\n").unwrap_or_default();
    }
    text
}
