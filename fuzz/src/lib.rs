//! What the fuzz targets need beside the oracles.

use std::sync::Arc;

use echoic_core::{
    event::{Place, Post},
    exchange::{Conversation, Exchange, Fate},
    framing::Framing,
};

/// An exchange to ask a filter about; only its bytes differ.
pub fn exchange(request: &[u8], reply: &[u8]) -> Exchange {
    let conversation = Conversation {
        id: 3,
        opened: 1,
        remote: Place::Net(([127, 0, 0, 1], 51_422).into()),
        local: Place::Net(([127, 0, 0, 1], 5000).into()),
        post: Arc::new(Post {
            name: "tcp:5000".to_owned(),
            proto: "tcp",
            service: "upper".to_owned(),
            framing: Framing::Line.into(),
        }),
        half_closed: None,
        ended: None,
    };
    Exchange {
        id: 7,
        conversation: Arc::new(conversation),
        n: 2,
        at: 2,
        latency_ns: 82_114,
        fate: Fate::Ok,
        reads: 1,
        request: request.to_vec(),
        reply: reply.to_vec(),
    }
}

/// A framing of each kind, by a number.
pub fn framing(number: u8) -> Framing {
    let all = [
        "chunk", "line", "crlf", "nul", "delim:0a0a", "fixed:3", "u8", "u16be", "u16le", "u32be", "u32le", "varint",
        "netstring", "content-length",
    ];
    let name = all[usize::from(number) % all.len()];
    name.parse().expect("invariant: a framing")
}
