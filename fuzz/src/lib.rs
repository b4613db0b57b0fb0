//! What the fuzz targets need beside the oracles.

use std::sync::Arc;

use echoic_core::{
    endpoint::Endpoint,
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
            framing: Framing::Line,
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

/// Parsing and printing are inverse, and an error can be shown as it is.
pub fn check_endpoint(text: &str) {
    match text.parse::<Endpoint>() {
        Ok(endpoint) => assert_eq!(endpoint.to_string().parse(), Ok(endpoint)),
        Err(error) => assert!(!error.to_string().contains(char::is_control), "{error:?}"),
    }
}
