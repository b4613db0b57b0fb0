//! `info`: answers each message with a line of JSON about the message and its conversation.

use echoic_core::{
    endpoint::Shape,
    escape,
    message::{Message, Replies, Run},
    service::{Handler, InlineHandler, Peer, Service},
};
use echoic_wire::host_name;
use serde_json::json;
use std::ops::ControlFlow;

/// The service.
#[derive(Debug)]
pub(crate) struct Info;

#[derive(Debug)]
struct InfoHandler {
    peer: Peer,
    /// This machine's name, which distinguishes several servers; `None` if the system has none.
    host: Option<String>,
}

impl Service for Info {
    fn name(&self) -> &'static str {
        "info"
    }

    fn handler(&self, peer: &Peer) -> Handler {
        Handler::Inline(Box::new(InfoHandler {
            peer: peer.clone(),
            host: host_name().ok(),
        }))
    }

    fn amplifies(&self) -> bool {
        true
    }

    fn is_portable(&self) -> bool {
        true
    }
}

impl InfoHandler {
    fn describe(&self, message: &Message<'_>) -> Vec<u8> {
        let Peer {
            conversation,
            remote,
            local,
            framing,
            shape,
        } = &self.peer;
        let description = json!({
            "conv": conversation,
            "peer": remote.to_string(),
            "local": local.to_string(),
            "frame": match shape {
                Shape::Stream => framing.to_string(),
                Shape::Datagrams => "datagram".to_owned(),
                Shape::Messages => "message".to_owned(),
            },
            "message": {
                "n": message.index + 1,
                "len": message.body.len(),
                "utf8": str::from_utf8(message.body).is_ok(),
                "shown": escape::text_up_to(message.body, 200).to_string(),
            },
            "host": self.host,
            "echoic": env!("CARGO_PKG_VERSION"),
        });
        description.to_string().into_bytes()
    }
}

impl InlineHandler for InfoHandler {
    fn answer(&mut self, run: &Run<'_>, out: &mut Replies) -> ControlFlow<()> {
        let append_newline = !self.peer.framing.outbound.is_declared();
        for message in run.messages() {
            out.reply(&message, |bytes| {
                bytes.extend(self.describe(&message));
                if append_newline {
                    bytes.push(b'\n');
                }
            });
        }
        ControlFlow::Continue(())
    }
}
