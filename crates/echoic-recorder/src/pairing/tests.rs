//! Pairing at a spawned handler. Pairing at a client is tested with the client's exchanges.

use echoic_core::framing::Splitter;
use proptest::prelude::*;

use super::*;

type Row = (Outcome, Vec<(String, String)>);

/// A step of a conversation with a spawned handler.
#[derive(Clone, Debug)]
enum Step {
    Read(&'static str),
    Reply(&'static str),
    ReplyWith(&'static str, &'static [u32]),
}

use Step::{Read, Reply, ReplyWith};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns a recorded row as pairs of request and reply. A reply without a request is one pair.
fn row(paired: &Paired<'_>) -> Row {
    let mut replies = paired.replies.bytes();
    let pairs: Vec<_> = paired
        .requests
        .messages()
        .zip(paired.replies.lengths())
        .map(|(request, len)| {
            let (reply, rest) = replies.split_at(len as usize);
            replies = rest;
            (text(request.raw), text(reply))
        })
        .collect();
    if pairs.is_empty() {
        return (paired.outcome, vec![(String::new(), text(replies))]);
    }
    (paired.outcome, pairs)
}

fn play(framing: &str, steps: &[Step]) -> Vec<Row> {
    let framing: FramingPair = framing.parse().unwrap();
    let mut pairing = Pairing::new(PairingRules::of_handler(framing));
    let (mut rows, mut offset) = (Vec::new(), 0);
    let mut record = |paired: Paired<'_>| {
        assert_eq!(paired.reply_offset, offset);
        offset += paired.replies.bytes().len() as u64;
        rows.push(row(&paired));
    };
    let at = Instant::now();
    for step in steps {
        match step {
            Read(bytes) => {
                let mut spans = Vec::new();
                Splitter::new(framing.inbound, 1 << 20).split(bytes.as_bytes(), &mut spans);
                let run = Run::new(bytes.as_bytes(), &spans, 0);
                pairing.requests(at, 1, &run, &mut record);
            }
            Reply(bytes) => pairing.reply(at, bytes.as_bytes(), None, &mut record),
            ReplyWith(bytes, lengths) => {
                pairing.reply(at, bytes.as_bytes(), Some(lengths), &mut record);
            }
        }
    }
    pairing.end_of_input(false, &mut record);
    rows
}

fn ok(pairs: &[(&str, &str)]) -> Row {
    let pairs = pairs.iter().map(|(a, b)| ((*a).into(), (*b).into()));
    (Outcome::Ok, pairs.collect())
}

fn unanswered(request: &str) -> Row {
    (Outcome::Unanswered, vec![(request.into(), String::new())])
}

#[test]
fn replies_with_lengths_are_one_row() {
    let steps = [
        ReplyWith("hi\n", &[]),
        Read("a\nb\nc\nd\n"),
        ReplyWith("AAC\n", &[2, 0, 2]),
    ];
    let expected = [
        ok(&[("", "hi\n")]),
        ok(&[("a\n", "AA"), ("b\n", ""), ("c\n", "C\n")]),
        unanswered("d\n"),
    ];
    assert_eq!(play("line", &steps), expected);
}

#[test]
fn replies_without_lengths_are_divided_by_the_outbound_framing() {
    let steps = [
        Read("a\nb\n"),
        Reply("A\0B"),
        Reply("B\0!\0"),
        Read("c\n"),
        Reply("C"),
    ];
    let expected = [
        ok(&[("a\n", "A\0")]),
        ok(&[("b\n", "BB\0")]),
        ok(&[("", "!\0")]),
        ok(&[("c\n", "C")]),
    ];
    assert_eq!(play("line/nul", &steps), expected);
}

#[test]
fn chunk_reply_answers_all_reads_before_it() {
    let steps = [Read("a"), Read("b"), Reply("AB"), Reply("!"), Read("c")];
    let expected = [ok(&[("ab", "AB")]), ok(&[("", "!")]), unanswered("c")];
    assert_eq!(play("chunk", &steps), expected);
    let steps = [Read("a"), Read("b"), ReplyWith("AB", &[1, 1])];
    assert_eq!(play("chunk", &steps), [ok(&[("a", "A"), ("b", "B")])]);
}

#[test]
fn more_lengths_than_requests_answer_no_request() {
    let steps = [Read("a\n"), ReplyWith("AB", &[1, 1])];
    let expected = [ok(&[("a\n", "A")]), ok(&[("", "B")])];
    assert_eq!(play("line", &steps), expected);
}

#[test]
fn oldest_requests_beyond_the_bound_get_an_empty_reply() {
    let framing: FramingPair = "line".parse().unwrap();
    for lengths in [false, true] {
        let mut pairing = Pairing::new(PairingRules::of_handler(framing));
        let mut rows = Vec::new();
        let mut record = |paired: Paired<'_>| rows.push(row(&paired));
        let at = Instant::now();
        for i in 0..PENDING_MAX + 2 {
            pairing.request(at, 1, format!("{i}\n").as_bytes(), &mut record);
        }
        for i in 0..PENDING_MAX + 2 {
            let reply = format!("{i}\n");
            let length = [reply.len() as u32];
            let length = lengths.then_some(&length[..]);
            pairing.reply(at, reply.as_bytes(), length, &mut record);
        }
        pairing.end_of_input(false, &mut record);
        let given_up = [ok(&[("0\n", "")]), ok(&[("1\n", "")])];
        let late = [ok(&[("", "0\n")]), ok(&[("", "1\n")])];
        assert_eq!((&rows[..2], &rows[2..4]), (&given_up[..], &late[..]));
        let next = &rows[4..];
        assert!((2..).zip(next).all(|(i, row)| {
            let line = format!("{i}\n");
            *row == ok(&[(&line, &line)])
        }));
        assert_eq!(next.len(), PENDING_MAX);
    }
}

proptest! {
    /// Whatever a handler does, no byte is lost or recorded twice.
    #[test]
    fn pairing_loses_no_bytes(
        framing in prop::sample::select(vec!["chunk", "line", "line/chunk", "chunk/line", "u8", "line/netstring"]),
        steps in prop::collection::vec((0_u8..3, prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..20)), 0..40),
        cuts in prop::collection::vec(0_u32..5, 0..6),
    ) {
        let framing: FramingPair = framing.parse().unwrap();
        let mut pairing = Pairing::new(PairingRules::of_handler(framing));
        let (mut requests, mut replies) = (Vec::new(), Vec::new());
        let mut record = |paired: Paired<'_>| {
            requests.extend_from_slice(paired.requests.raw());
            replies.extend_from_slice(paired.replies.bytes());
        };
        let (mut requested, mut replied) = (Vec::new(), Vec::new());
        let at = Instant::now();
        for (kind, bytes) in &steps {
            match kind {
                0 => {
                    requested.extend_from_slice(bytes);
                    pairing.request(at, 1, bytes, &mut record);
                }
                1 => {
                    replied.extend_from_slice(bytes);
                    pairing.reply(at, bytes, None, &mut record);
                }
                _ => {
                    let mut left = bytes.len() as u32;
                    let mut lengths: Vec<u32> = cuts.iter().map(|cut| {
                        let cut = (*cut).min(left);
                        left -= cut;
                        cut
                    }).collect();
                    lengths.push(left);
                    replied.extend_from_slice(bytes);
                    pairing.reply(at, bytes, Some(&lengths), &mut record);
                }
            }
        }
        pairing.end_of_input(false, &mut record);
        prop_assert_eq!(requests, requested);
        prop_assert_eq!(replies, replied);
    }
}
