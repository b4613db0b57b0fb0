//! A whole server in another program's test: on a free port, with a record in memory that the test reads at the end.
//!
//! `cargo run -p echoic-server --example embedded_server`
#![allow(clippy::print_stdout, reason = "an example shows what it did")]

use std::{error::Error, sync::Arc, time::Duration};

use echoic_core::{
    filter::Filter,
    framing::Framing,
    limits::Limits,
    store::{Order, Page, Store},
};
use echoic_recorder::{Recorder, RecorderOptions};
use echoic_server::{EndpointConfig, Server};
use echoic_service::NamedService;
use echoic_store::MemoryStore;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
};

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    // The record: a store of at most 1 MiB, and a recorder that writes to it. Without a record, `Recorder::none()`.
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(1 << 20));
    let (recorder, task) =
        Recorder::new(Some(Arc::clone(&store)), RecorderOptions::default()).await?;
    let recording = tokio::spawn(task.run());

    // The server: one endpoint on loopback. Port 0 is a free port, and `open` returns the address that it got.
    let mut server = Server::new(recorder.clone(), Limits::default());
    let service = "upper".parse::<NamedService>()?.0;
    let config = EndpointConfig {
        framing: Framing::Line.into(),
        ..EndpointConfig::new("127.0.0.1:0".parse()?, service)
    };
    let address = server.open(config).await?.remove(0);
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(server.run(async {
        let _ = stopped.await;
    }));

    // The program under test: it sends two lines and ends its half of the connection.
    let mut peer = TcpStream::connect(address.to_string()).await?;
    peer.write_all(b"hello\nworld\n").await?;
    peer.shutdown().await?;
    let mut replies = String::new();
    peer.read_to_string(&mut replies).await?;
    assert_eq!(replies, "HELLO\nWORLD\n");

    // The stop: every message that was received is answered and recorded before `run` and `close` return.
    let _ = stop.send(());
    let drained = serving.await?;
    assert_eq!(drained.served, 2);
    recorder.close(recording, Duration::from_secs(5)).await;

    // The record, by the filter language of `echoic log`.
    let page = Page {
        order: Order::OldestFirst,
        beyond: None,
        until: None,
        limit: 10,
        now: 0, // only for filters such as `since:10m`
    };
    let found = store.find(&Filter::parse("svc:upper")?, page).await?;
    for exchange in &found.exchanges {
        let text = String::from_utf8_lossy;
        println!(
            "{:?} -> {:?}",
            text(&exchange.request),
            text(&exchange.reply)
        );
    }
    let requests = found.exchanges.iter().map(|exchange| &exchange.request[..]);
    assert!(requests.eq([&b"hello\n"[..], b"world\n"]));
    Ok(())
}
