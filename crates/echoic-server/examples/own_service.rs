//! A service of one's own: it greets, adds up the numbers of each conversation, and ends the conversation on `quit`.
//!
//! `cargo run -p echoic-server --example own_service`
#![allow(clippy::print_stdout, reason = "an example shows what it did")]

use std::{error::Error, ops::ControlFlow, sync::Arc};

use echoic_core::{
    framing::Framing,
    limits::Limits,
    message::{Replies, Run},
    service::{Handler, InlineHandler, Peer, Service},
};
use echoic_recorder::Recorder;
use echoic_server::{EndpointConfig, Server};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Answers each number with the sum so far. One value serves all conversations of an endpoint.
#[derive(Debug)]
struct Sum;

/// The state of one conversation.
struct SumSoFar(i64);

impl Service for Sum {
    fn name(&self) -> &'static str {
        "sum"
    }

    fn handler(&self, _: &Peer) -> Handler {
        Handler::Inline(Box::new(SumSoFar(0)))
    }
}

impl InlineHandler for SumSoFar {
    /// Runs once, before the first read.
    fn open(&mut self, out: &mut Replies) -> ControlFlow<()> {
        out.push(b"one number per line, please\n");
        ControlFlow::Continue(())
    }

    /// Answers all messages that one read completed. It must not block: other conversations wait for it.
    fn answer(&mut self, run: &Run<'_>, out: &mut Replies) -> ControlFlow<()> {
        for message in run.messages() {
            if message.body == b"quit" {
                // The replies so far are sent, then the conversation ends.
                return ControlFlow::Break(());
            }
            let number: Option<i64> = str::from_utf8(message.body)
                .ok()
                .and_then(|text| text.trim().parse().ok());
            // `reply` frames the text as its message was framed: here it adds the newline.
            match number.and_then(|number| self.0.checked_add(number)) {
                Some(sum) => {
                    self.0 = sum;
                    out.reply(&message, |bytes| bytes.extend(sum.to_string().bytes()));
                }
                None => out.reply(&message, |bytes| bytes.extend(b"not a number")),
            }
        }
        ControlFlow::Continue(())
    }
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let mut server = Server::new(Recorder::none(), Limits::default());
    let config = EndpointConfig {
        framing: Framing::Line.into(),
        ..EndpointConfig::new("127.0.0.1:0".parse()?, Arc::new(Sum))
    };
    let address = server.open(config).await?.remove(0);
    let serving = tokio::spawn(server.run(std::future::pending()));

    let mut peer = TcpStream::connect(address.to_string()).await?;
    peer.write_all(b"20\n22\nforty\nquit\n").await?;
    let mut replies = String::new();
    peer.read_to_string(&mut replies).await?;
    print!("{replies}");
    assert_eq!(
        replies,
        "one number per line, please\n20\n42\nnot a number\n"
    );

    serving.abort();
    Ok(())
}
