//! Clients over TLS, by the library.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use echoic_core::endpoint::Endpoint;
use echoic_wire::{DialOptions, Link, TlsClient, TlsClientOptions, dial};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, split},
    runtime::{Builder, Runtime},
    time::timeout,
};

use crate::harness::{SOON, until};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

async fn open(directory: &Path, port: u16) -> Link {
    let endpoint: Endpoint = format!("tls://localhost:{port}").parse().unwrap();
    let options = TlsClientOptions {
        ca: Some(directory.join("ca.pem")),
        ..TlsClientOptions::default()
    };
    let client = TlsClient::new(endpoint.host_port().unwrap(), &options).unwrap();
    let options = DialOptions {
        layers: vec![Arc::new(client)],
        timeout: SOON,
        handshake_timeout: SOON,
        ..DialOptions::default()
    };
    dial(&endpoint, &options).await.unwrap().link
}

/// An open connection, one line at a time.
pub(crate) struct Open {
    runtime: Runtime,
    link: Link,
}

impl Open {
    pub(crate) fn to(directory: &Path, port: u16) -> Self {
        let runtime = runtime();
        let link = runtime.block_on(open(directory, port));
        Self { runtime, link }
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, request: &str, expected: &str) {
        let mut reply = vec![0; expected.len() + 1];
        let asking = async {
            self.link
                .write_all(format!("{request}\n").as_bytes())
                .await?;
            self.link.read_exact(&mut reply).await
        };
        let done = self.runtime.block_on(async { timeout(SOON, asking).await });
        done.unwrap().unwrap();
        assert_eq!(reply, format!("{expected}\n").as_bytes());
    }

    /// Closes it in order.
    pub(crate) fn end(mut self) {
        self.runtime.block_on(async {
            self.link.shutdown().await.unwrap();
            let mut rest = Vec::new();
            timeout(SOON, self.link.read_to_end(&mut rest))
                .await
                .unwrap()
                .unwrap();
            assert_eq!(rest, b"");
        });
    }
}

/// Clients that send lines without waiting, until the server ends the connection.
pub(crate) struct Load {
    replies: Arc<AtomicU64>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn start(directory: &Path, port: u16, clients: usize) -> Self {
        let replies = Arc::<AtomicU64>::default();
        let clients = (0..clients).map(|client| {
            let (directory, replies) = (directory.to_owned(), Arc::clone(&replies));
            thread::spawn(move || runtime().block_on(pipelined(&directory, port, client, &replies)))
        });
        Self {
            clients: clients.collect(),
            replies,
        }
    }

    pub(crate) fn wait_for(&self, replies: u64) {
        until("replies arrive", || {
            self.replies.load(Ordering::Relaxed) >= replies
        });
    }

    /// Waits until the server has ended all connections; returns the number of replies.
    pub(crate) fn end(self) -> u64 {
        for client in self.clients {
            client.join().unwrap();
        }
        self.replies.load(Ordering::Relaxed)
    }
}

/// Checks that the replies are those to the first lines, each once and in order.
async fn pipelined(directory: &Path, port: u16, client: usize, replies: &AtomicU64) {
    let (mut reader, mut writer) = split(open(directory, port).await);
    let writing = async {
        for n in 0.. {
            if writer
                .write_all(format!("client {client} line {n}\n").as_bytes())
                .await
                .is_err()
            {
                break;
            }
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
    };
    let reading = async {
        let (mut text, mut buffer, mut next) = (Vec::new(), vec![0; 64 << 10], 0);
        loop {
            let n = timeout(SOON, reader.read(&mut buffer))
                .await
                .unwrap()
                .unwrap();
            text.extend_from_slice(&buffer[..n]);
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                assert_eq!(line, format!("CLIENT {client} LINE {next}\n").as_bytes());
                next += 1;
                replies.fetch_add(1, Ordering::Relaxed);
            }
            if n == 0 {
                assert_eq!(text, b"", "a reply is whole");
                return;
            }
        }
    };
    tokio::select! {
        () = reading => {}
        () = writing => panic!("the server ended without a close_notify"),
    }
}

/// Sends so many bytes to an echo while it reads them back; returns how many came.
pub(crate) fn both_ways(directory: &Path, port: u16, bytes: usize) -> usize {
    runtime().block_on(async {
        let (mut reader, mut writer) = split(open(directory, port).await);
        let block: Vec<u8> = (0..64_u32 << 10).map(|i| (i * 31 % 251) as u8).collect();
        let sending = async {
            for _ in 0..bytes / block.len() {
                writer.write_all(&block).await.unwrap();
            }
            writer.shutdown().await.unwrap();
        };
        let receiving = async {
            let (mut buffer, mut received) = (vec![0; 64 << 10], 0);
            loop {
                let n = timeout(SOON, reader.read(&mut buffer))
                    .await
                    .unwrap()
                    .unwrap();
                let expected = (received..received + n).map(|i| block[i % block.len()]);
                assert!(buffer[..n].iter().copied().eq(expected));
                received += n;
                if n == 0 {
                    return received;
                }
            }
        };
        tokio::join!(sending, receiving).1
    })
}
