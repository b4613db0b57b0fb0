use std::sync::Arc;

use echoic_core::{
    ending::{CloseReason, Ending},
    event::{Address, EndpointInfo, Opened, Protocol},
    exchange::Conversation,
    framing::Framing,
    left_over::LeftOver,
    store::Labels,
};

use super::*;

fn framing() -> Framing {
    "u16be".parse().unwrap()
}

fn exchange(role: Role, request: &[u8], reply: &[u8]) -> Exchange {
    let opened = Opened {
        conversation: 7,
        at: 1,
        remote: Address::Unix(None),
        local: Address::Unix(None),
        role,
        endpoint_info: Arc::new(EndpointInfo {
            name: "unix".to_owned(),
            proto: Protocol::Unix,
            service: "upper".to_owned(),
            framing: framing().into(),
        }),
        tls: None,
    };
    let ending = Ending {
        reason: CloseReason::PeerClosed,
        received: 9,
        sent: 9,
        unsent: 0,
        discarded: 0,
        left_over: LeftOver::new(framing(), b"\xff\xffab"),
    };
    let conversation = Conversation {
        ended: Some((5, ending)),
        ..Conversation::new(opened, Arc::default())
    };
    Exchange {
        id: 3,
        conversation: Arc::new(conversation),
        n: 1,
        at: 2,
        latency_ns: 4,
        outcome: Outcome::Ok,
        reads: 2,
        request: request.to_vec(),
        reply: reply.to_vec(),
        labels: Labels {
            tags: vec!["bug".to_owned()],
            note: Some("why".to_owned()),
        },
    }
}

#[test]
fn object_is_that_of_the_log() {
    for role in [Role::Server, Role::Client] {
        for (request, reply) in [
            (&b"a"[..], &b"A"[..]),
            (b"", b"hi\xff"),
            (b"GET / HTTP/1.1\r\n\r\n", b"a\0b"),
        ] {
            let exchange = exchange(role, request, reply);
            let ours = ExchangeJson::new(&exchange, Preview::FULL).unwrap();
            assert_eq!(
                serde_json::to_value(&ours).unwrap(),
                serde_json::to_value(&exchange).unwrap()
            );
        }
    }
}

#[test]
fn preview_cuts_between_characters_and_says_so() {
    let part = |bytes: &[u8], most| PartJson::new(bytes, (Some(1), None), Preview(most));
    let cut = part("aß".as_bytes(), 2);
    assert_eq!(
        (cut.len, cut.text.as_deref(), cut.cut),
        (3, Some("a"), Some(true))
    );
    let whole = part("aß".as_bytes(), 3);
    assert_eq!((whole.text.as_deref(), whole.cut), (Some("aß"), None));
    let binary = part(b"\xff\xfe\xfd", 2);
    assert_eq!((binary.text, binary.b64.as_deref()), (None, Some("//4=")));
    let nothing = part(b"abc", 0);
    assert_eq!(
        (nothing.text.as_deref(), nothing.cut),
        (Some(""), Some(true))
    );
}
