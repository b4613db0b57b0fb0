//! `info`: what the server sees of its caller, as a line of JSON.

use echoic_core::{
    endpoint::Shape,
    escape,
    message::{Message, Replies, Run},
    service::{Handler, InlineHandler, Peer, Service},
};
use echoic_wire::host_name;
use serde_json::json;
use std::ops::ControlFlow;

/// Answers each message with what it was, and what its caller looks like from here.
#[derive(Debug)]
pub(crate) struct Info;

#[derive(Debug)]
struct Telling {
    peer: Peer,
    /// This machine, so that one of several servers can be told from the others; nothing if it has no name.
    host: Option<String>,
}

impl Service for Info {
    fn name(&self) -> &'static str {
        "info"
    }

    fn handler(&self, peer: &Peer) -> Handler {
        Handler::Inline(Box::new(Telling {
            peer: peer.clone(),
            host: host_name().ok(),
        }))
    }

    fn amplifies(&self) -> bool {
        true
    }
}

impl Telling {
    fn about(&self, message: &Message<'_>) -> Vec<u8> {
        let Peer {
            conversation,
            remote,
            local,
            framing,
            shape,
        } = &self.peer;
        let seen = json!({
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
        seen.to_string().into_bytes()
    }
}

impl InlineHandler for Telling {
    fn answer(&mut self, run: &Run<'_>, out: &mut Replies) -> ControlFlow<()> {
        let unframed = !self.peer.framing.outbound.is_declared();
        for message in run.messages() {
            out.reply(&message, |bytes| {
                bytes.extend(self.about(&message));
                if unframed {
                    bytes.push(b'\n');
                }
            });
        }
        ControlFlow::Continue(())
    }
}
