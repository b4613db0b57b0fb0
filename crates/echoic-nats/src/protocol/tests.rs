use echoic_core::framing::{FramingPair, Splitter};
use echoic_service::NamedService;
use proptest::{collection::vec, prelude::*};

use super::*;

fn peer(framing: FramingPair) -> Peer {
    Peer {
        conversation: 7,
        remote: "127.0.0.1:9".parse().unwrap(),
        local: "[::1]:5000".parse().unwrap(),
        framing,
        shape: Shape::Stream,
    }
}

fn service(name: &str) -> std::sync::Arc<dyn Service> {
    name.parse::<NamedService>().unwrap().0
}

/// What a conversation produced: replies, the length of each, and whether the service ended the stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Produced {
    bytes: Vec<u8>,
    lengths: Vec<u32>,
    closes: bool,
}

/// The runs that the reads complete; the last is at the end of the stream.
fn runs(framing: FramingPair, reads: &[Vec<u8>]) -> Vec<RequestRun> {
    let mut splitter = Splitter::new(framing.inbound, 1 << 20);
    let (mut held, mut first, mut runs) = (Vec::new(), 0, Vec::new());
    for read in reads {
        held.extend_from_slice(read);
        let mut spans = Vec::new();
        let consumed = splitter.split(&held, &mut spans).consumed;
        let run = Run::new(&held, &spans, first);
        first += run.len() as u64;
        runs.push(RequestRun::from(&run));
        held.drain(..consumed);
    }
    let mut spans = Vec::new();
    splitter.end_of_input(&held, &mut spans);
    runs.push(RequestRun::from(&Run::new(&held, &spans, first)));
    runs
}

/// The same handler answers all runs, as in the loop of a conversation.
fn by_one_handler(service: &dyn Service, peer: &Peer, runs: &[RequestRun]) -> Produced {
    let Handler::Inline(mut handler) = service.handler(peer) else {
        panic!("{} is spawned", service.name());
    };
    let (mut produced, mut replies) = (Produced::default(), Replies::default());
    replies.clear(peer.framing);
    let mut flow = handler.open(&mut replies);
    for (number, run) in runs.iter().enumerate() {
        produced.bytes.extend_from_slice(replies.bytes());
        produced.lengths.extend(replies.lengths());
        if flow.is_break() {
            break;
        }
        replies.clear(peer.framing);
        if !run.as_run().is_empty() {
            flow = handler.answer(&run.as_run(), &mut replies);
        }
        if flow.is_continue() {
            replies.fill_empty(run.as_run().len());
            if number + 1 == runs.len() {
                handler.input_ended(&mut replies);
            }
        }
    }
    if flow.is_continue() {
        produced.bytes.extend_from_slice(replies.bytes());
        produced.lengths.extend(replies.lengths());
    }
    produced.closes = flow.is_break();
    produced
}

/// A new handler answers each run, as when each goes to another worker. `forgets` loses the state between them.
fn by_many_workers(
    service: &dyn Service,
    peer: &Peer,
    runs: &[RequestRun],
    forgets: bool,
) -> Produced {
    let form = PeerForm::of(peer);
    let (mut produced, mut state) = (Produced::default(), Vec::new());
    for number in 0..=runs.len() {
        let mut gathered = GatheredRun::default();
        if let Some(run) = number.checked_sub(1).map(|at| &runs[at]) {
            gathered.push(run);
        }
        let mut request = gathered.request(&form, &state);
        (request.opens, request.ends) = (number == 0, number == runs.len() && number > 0);
        let request = write(&request);
        let (answered, _) = answer(service, &request).unwrap();
        // Answered twice, it is the same.
        assert_eq!(answer(service, &request).unwrap().0, answered);
        let answered: RunAnswer<'_> = read(&answered).unwrap();
        produced.bytes.extend_from_slice(answered.replies);
        produced.lengths.extend(&answered.lengths);
        produced.closes = answered.closes;
        if produced.closes {
            break;
        }
        state = answered.state.to_vec();
        if forgets {
            state.clear();
        }
    }
    produced
}

const PORTABLE: [&str; 5] = ["upper", "lower", "echo", "discard", "greet:hi"];

proptest! {
    /// Whichever workers answer the runs of a conversation, its replies are those of one handler.
    #[test]
    fn workers_answer_as_one_handler_does(
        name in prop::sample::select(&PORTABLE[..]),
        framing in prop::sample::select(vec!["chunk", "line", "crlf", "nul", "u8", "netstring", "line/nul"]),
        reads in vec(prop_oneof![
            vec(any::<u8>(), 0..6),
            "[a-zß\u{fb03}ΑΣσ\n]{0,4}".prop_map(String::into_bytes),
            vec(prop::sample::select(b"\xc3\x9f\xce\xa3\n\0\r3:,ab".to_vec()), 0..5),
        ], 1..8),
    ) {
        let (service, peer) = (service(name), peer(framing.parse().unwrap()));
        let runs = runs(peer.framing, &reads);
        let one = by_one_handler(&*service, &peer, &runs);
        prop_assert_eq!(by_many_workers(&*service, &peer, &runs, false), one);
    }

    #[test]
    fn any_bytes_are_a_question_a_run_or_nothing(bytes in vec(any::<u8>(), 0..80)) {
        let bytes = [&[VERSION], &bytes[..]].concat();
        let _ = read::<Question<'_>>(&bytes);
        let _ = read::<Answer<'_>>(&bytes);
        let _ = read::<RunAnswer<'_>>(&bytes);
        let _ = answer(&*service("upper"), &bytes);
    }

    /// A run with any byte changed is answered or refused, whatever its lengths claim.
    #[test]
    fn changed_run_is_answered_or_refused(
        at in any::<prop::sample::Index>(),
        with in any::<u8>(),
        framing in prop::sample::select(vec!["chunk", "line", "u8"]),
    ) {
        let peer = peer(framing.parse().unwrap());
        let mut gathered = GatheredRun::default();
        for run in runs(peer.framing, &[b"\x02ab\n\x01c\n".to_vec(), b"\xc3".to_vec()]) {
            gathered.push(&run);
        }
        let mut request = write(&gathered.request(&PeerForm::of(&peer), b"\xc3"));
        let at = at.index(request.len());
        request[at] = with;
        for name in ["upper", "lower", "info"] {
            let _ = answer(&*service(name), &request);
        }
    }
}

/// The failing twin: without the state, a character that two reads divide is lost.
#[test]
fn state_is_needed_where_a_read_divides_a_character() {
    let peer = peer(FramingPair::default());
    let runs = runs(peer.framing, &[b"stra\xc3".to_vec(), b"\x9fe".to_vec()]);
    for (name, expected) in [("upper", "STRASSE"), ("lower", "straße")] {
        let produced = |forgets| by_many_workers(&*service(name), &peer, &runs, forgets).bytes;
        assert_eq!(produced(false), expected.as_bytes());
        assert_ne!(produced(true), expected.as_bytes());
    }
}

#[test]
fn state_of_another_service_is_refused() {
    let peer = peer(FramingPair::default());
    let (gathered, form) = (GatheredRun::default(), PeerForm::of(&peer));
    for (name, state) in [
        ("echo", &b"x"[..]),
        ("upper", b"x"),
        ("upper", b"\xff"),
        ("upper", b"\xf0\x90\x8d\x88"),
        ("lower", b"ab"),
    ] {
        let request = write(&gathered.request(&form, state));
        let refused = answer(&*service(name), &request).unwrap_err();
        assert!(refused.contains("state"), "{name}: {refused}");
    }
}

#[test]
fn payload_of_another_version_is_none() {
    let mut payload = write(&Question::Hello);
    assert_eq!(read(&payload), Some(Question::Hello));
    payload[0] += 1;
    assert_eq!(read::<Question<'_>>(&payload), None);
    assert_eq!(read::<Question<'_>>(b""), None);
}

#[test]
fn spawned_service_is_not_portable() {
    assert!(!service("chargen").is_portable());
    for name in PORTABLE.iter().chain(&["time", "daytime", "info"]) {
        assert!(service(name).is_portable(), "{name}");
    }
}
