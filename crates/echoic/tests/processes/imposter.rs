//! What answers as a process of echoic, and is none of this version.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    thread,
};

use super::harness::Nats;

/// Answers each question to all processes with some payloads, by the protocol of NATS itself.
pub(super) struct Imposter(TcpStream);

impl Imposter {
    /// Subscribes, and returns when that is done.
    #[track_caller]
    pub(super) fn answer(nats: &Nats, payloads: &[&[u8]]) -> Self {
        let url = nats.url("");
        let address = url.trim_start_matches("nats://").trim_end_matches('/');
        let stream = TcpStream::connect(address).unwrap();
        let mut writing = stream.try_clone().unwrap();
        let hello = "CONNECT {\"verbose\":false}\r\nSUB echoic.processes 1\r\nPING\r\n";
        writing.write_all(hello.as_bytes()).unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        while lines.next().unwrap().unwrap() != "PONG" {}
        let payloads: Vec<Vec<u8>> = payloads.iter().map(|it| it.to_vec()).collect();
        thread::spawn(move || {
            while let Some(Ok(line)) = lines.next() {
                // MSG SUBJECT SID REPLY LENGTH
                let words: Vec<_> = line.split_whitespace().collect();
                let ["MSG", _, _, reply, _] = words[..] else {
                    continue;
                };
                for payload in &payloads {
                    let head = format!("PUB {reply} {}\r\n", payload.len());
                    let message = [head.as_bytes(), payload, b"\r\n"].concat();
                    if writing.write_all(&message).is_err() {
                        return;
                    }
                }
            }
        });
        Self(stream)
    }
}

impl Drop for Imposter {
    fn drop(&mut self) {
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }
}
