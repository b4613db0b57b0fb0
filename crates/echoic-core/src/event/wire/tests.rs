use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

use super::*;
use crate::{
    ending::{CloseReason, Ending},
    endpoint::UnixName,
    event::{
        Address, ClientCertificate, Ended, EndpointInfo, InvalidBatch, Mark, Marked, Opened,
        Outcome, Protocol, Role, RunMeta, ServerId, TlsInfo,
    },
    framing::{Framing, Splitter},
    left_over::LeftOver,
    message::{Replies, Run},
};

fn meta(n: u64) -> RunMeta {
    RunMeta {
        conversation: 3,
        n,
        at: -1,
        latency_ns: u64::MAX,
        reads: 2,
        reply_offset: 7,
    }
}

fn opened(role: Role, address: Address) -> Event {
    Event::Opened(Opened {
        conversation: 3,
        at: 1,
        remote: address.clone(),
        local: address,
        role,
        endpoint_info: Arc::new(EndpointInfo {
            name: "tcp:5000".into(),
            proto: Protocol::Unixgram,
            service: "greet:\"x\"".into(),
            framing: "u16be/line".parse().unwrap(),
        }),
        // Some fields are absent: a binary form must not leave them out.
        tls: Some(Arc::new(TlsInfo {
            version: Some("1.3".into()),
            sni: Some("a.example".into()),
            client: Some(ClientCertificate::default()),
            ..TlsInfo::default()
        })),
    })
}

fn ended(reason: CloseReason) -> Ended {
    Ended {
        conversation: 3,
        at: 1,
        ending: Ending {
            reason,
            received: 1,
            sent: 2,
            unsent: 3,
            discarded: 4,
            left_over: LeftOver::new(Framing::Line, b"rest"),
        },
    }
}

/// A batch with events of every kind.
fn batch(lines: &[Vec<u8>], answered: usize, reply: &[u8]) -> Batch {
    let stream: Vec<u8> = lines
        .iter()
        .flat_map(|line| [line, &b"\n"[..]].concat())
        .collect();
    let mut spans = Vec::new();
    Splitter::new(Framing::Line, 1 << 20).split(&stream, &mut spans);
    let run = Run::new(&stream, &spans, 0);
    let mut replies = Replies::default();
    replies.clear(Framing::Line.into());
    for message in run.messages().take(answered) {
        replies.reply(&message, |out| out.extend(message.body));
    }
    let mut batch = Batch {
        server: Arc::new(ServerInfo {
            id: ServerId(0xfe),
            name: "host:1".into(),
            started: 5,
        }),
        number: 9,
        ..Batch::default()
    };
    let addresses = [
        Address::Net("[::1]:5000".parse().unwrap()),
        Address::Unix(None),
        Address::Unix(Some(UnixName::Abstract("name".into()))),
        Address::Unix(Some(UnixName::Path("/tmp/a=b".into()))),
    ];
    for (role, address) in Role::ALL.iter().cycle().zip(addresses) {
        batch.events.push(opened(*role, address));
    }
    if !spans.is_empty() {
        batch.push_run(meta(1), &run, &replies);
    }
    batch.push_exchange(meta(2), Outcome::Unsent, reply, b"\x00\xff");
    for what in [
        Marked::HalfClosed { received: 1 },
        Marked::Gap {
            exchanges: 2,
            since: 3,
        },
        Marked::Dropped { datagrams: 4 },
        Marked::Silenced { for_us: 5 },
    ] {
        batch.events.push(Event::Mark(Mark {
            conversation: 0,
            at: 1,
            what,
        }));
    }
    batch.ended(ended(CloseReason::PeerReset));
    batch
}

#[test]
fn close_reason_is_serialised_as_its_word() {
    for reason in CloseReason::all() {
        assert_eq!(serde_json::to_value(reason).unwrap(), reason.word());
        assert_eq!(
            serde_json::from_value::<CloseReason>(reason.word().into()).unwrap(),
            reason
        );
    }
}

#[test]
fn batch_of_another_version_is_rejected() {
    let mut value = serde_json::to_value(batch(&[], 0, b"")).unwrap();
    value["version"] = json!(VERSION + 1);
    let rejected = serde_json::from_value::<Batch>(value).unwrap_err();
    assert_eq!(
        rejected.to_string(),
        format!("events of version {}: expected {VERSION}", VERSION + 1)
    );
}

#[test]
fn binary_batch_of_another_version_is_rejected_by_name() {
    let mut written = Vec::new();
    batch(&[], 0, b"").write_to(&mut written);
    assert_eq!(written[3], VERSION as u8);
    written[3] += 1;
    let rejected = Batch::read_from(&written).unwrap_err();
    assert_eq!(rejected, InvalidBatch::Version { found: VERSION + 1 });
    assert_eq!(Batch::read_from(b"{}"), Err(InvalidBatch::Foreign));
    let longer = [&written[..3], b"\x02", &written[4..], b"x"].concat();
    assert!(matches!(
        Batch::read_from(&longer),
        Err(InvalidBatch::Damaged(_))
    ));
}

/// Replaces the number with index `which` among all numbers of a batch.
fn replace_number(value: &mut Value, which: &mut usize, with: &Value) {
    match value {
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| replace_number(item, which, with)),
        Value::Object(map) => map
            .values_mut()
            .for_each(|item| replace_number(item, which, with)),
        Value::Number(_) => {
            if *which == 0 {
                *value = with.clone();
            }
            *which = which.wrapping_sub(1);
        }
        _ => {}
    }
}

proptest! {
    #[test]
    fn batch_survives_a_round_trip(
        lines in vec(vec(any::<u8>().prop_filter("one line", |byte| *byte != b'\n'), 0..9), 0..6),
        answered in 0..6_usize,
        reply in vec(any::<u8>(), 0..20),
    ) {
        let batch = batch(&lines, answered, &reply);
        let written = serde_json::to_vec(&batch).unwrap();
        let read: Batch = serde_json::from_slice(&written).unwrap();
        prop_assert_eq!(&read, &batch);
        prop_assert_eq!(read.exchanges(), batch.exchanges());
        check(&written);
        let mut written = b"before".to_vec();
        batch.write_to(&mut written);
        let read = Batch::read_from(&written[b"before".len()..]).unwrap();
        prop_assert_eq!(&read, &batch);
        prop_assert_eq!(read.size(), batch.size());
        check(&written[b"before".len()..]);
    }

    /// Any bit may be another one: the batch is valid or rejected.
    #[test]
    fn changed_binary_batch_is_valid_or_rejected(
        lines in vec(vec(Just(b'x'), 0..5), 1..5),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        len in any::<prop::sample::Index>(),
    ) {
        let mut written = Vec::new();
        batch(&lines, lines.len(), b"reply").write_to(&mut written);
        for (at, with) in changes {
            let at = at.index(written.len());
            written[at] = with;
        }
        check(&written);
        written.truncate(len.index(written.len()));
        check(&written);
    }

    /// Slices and lengths outside the batch are rejected, for any number.
    #[test]
    fn hostile_batch_is_valid_or_rejected(
        lines in vec(vec(Just(b'x'), 0..5), 1..5),
        changes in vec((0..120_usize, prop_oneof![
            (0..12_u64).prop_map(|number| json!(number)),
            Just(json!(u64::MAX)),
            Just(json!(u32::MAX)),
            Just(json!(-1)),
        ]), 1..4),
    ) {
        let mut value = serde_json::to_value(batch(&lines, lines.len(), b"reply")).unwrap();
        for (mut which, with) in changes {
            replace_number(&mut value, &mut which, &with);
        }
        check(&serde_json::to_vec(&value).unwrap());
    }

    #[test]
    fn any_bytes_are_a_batch_or_rejected(bytes in vec(any::<u8>(), 0..200)) {
        check(&bytes);
        // With the head and the version of a binary batch, the rest is read.
        check(&[b"eB\x01\x02", &bytes[..]].concat());
    }
}
