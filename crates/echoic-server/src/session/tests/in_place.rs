//! A run answered in place and the same run answered message by message give the same replies, counts and ending.

use proptest::prelude::*;
use std::ops::ControlFlow;
use tokio::{runtime::Builder, task::yield_now, time::sleep};

use super::*;

/// What the peer does next.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Sends this many of the bytes that are left, as one read.
    Send(usize),
    /// Takes this many more bytes.
    Grant(usize),
    /// Waits this long.
    Wait(Duration),
    /// Resets the connection.
    Reset,
    /// Stops the server.
    Stop,
}

/// A handler with or without its in-place function, that counts the calls of `answer`.
struct CountingHandler {
    handler: Box<dyn InlineHandler>,
    has_in_place: bool,
    answers: Arc<AtomicU64>,
}

impl InlineHandler for CountingHandler {
    fn open(&mut self, out: &mut Replies) -> ControlFlow<()> {
        self.handler.open(out)
    }

    fn answer(&mut self, run: &Run<'_>, out: &mut Replies) -> ControlFlow<()> {
        self.answers.fetch_add(1, Ordering::Relaxed);
        self.handler.answer(run, out)
    }

    fn in_place(&self) -> Option<InPlace> {
        self.handler.in_place().filter(|_| self.has_in_place)
    }

    fn input_ended(&mut self, out: &mut Replies) {
        self.handler.input_ended(out);
    }
}

/// A conversation of `service` in which the peer does `acts`.
#[derive(Clone, Debug)]
struct Script {
    service: &'static str,
    framing: Framing,
    message_bytes_max: usize,
    data: Vec<u8>,
    acts: Vec<Act>,
}

/// The result of a script.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    taken: Vec<u8>,
    ending: Ending,
    messages: u64,
    exchanges: u64,
    /// When the session ended its half.
    finished: Option<Duration>,
}

impl Script {
    /// Plays the script without recording. Also returns how often `answer` was called.
    fn play(&self, has_in_place: bool) -> (Outcome, u64) {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (link, peer) = wire(100);
            let (recorder, began) = (Recorder::none(), Instant::now());
            let (known, opened, journal) = conversation(&recorder, self.framing.into());
            let drain = Drain::default();
            let context = SessionContext {
                limits: Arc::new(Limits {
                    message_bytes_max: self.message_bytes_max,
                    ..Limits::default()
                }),
                endpoint: endpoint_of(&opened),
                drain: drain.clone(),
                journal,
                permit: None,
                totals: Arc::default(),
                control: Handle::current(),
            };
            let Handler::Inline(handler) = named(self.service, self.framing) else {
                unreachable!("{} is inline", self.service)
            };
            let answers = Arc::default();
            let counting = CountingHandler {
                handler,
                has_in_place,
                answers: Arc::clone(&answers),
            };
            let handler = Handler::Inline(Box::new(counting));
            let mut session = Session::new(link, handler, &known, opened, context);
            let serving = tokio::spawn(async move {
                let reason = session.serve().await;
                session.close(reason).await;
                let tally = &session.tally;
                (session.ending(), tally.messages, tally.exchanges)
            });
            self.act(&peer, &drain).await;
            let (ending, messages, exchanges) = serving.await.unwrap();
            let (taken, finished) = peer.look(|line| (line.taken.clone(), line.finished));
            let result = Outcome {
                taken,
                ending,
                messages,
                exchanges,
                finished: finished.map(|at| at - began),
            };
            (result, answers.load(Ordering::Relaxed))
        })
    }

    async fn act(&self, peer: &Peer, drain: &Drain) {
        let mut left = &self.data[..];
        for act in &self.acts {
            match *act {
                Act::Send(n) => {
                    let (now, later) = left.split_at(n.min(left.len()));
                    if !now.is_empty() {
                        peer.send(now);
                    }
                    left = later;
                }
                Act::Grant(n) => peer.grant(n),
                Act::Wait(time) => sleep(time).await,
                Act::Reset => peer.reset(),
                Act::Stop => drain.start(),
            }
            yield_now().await;
        }
        if !left.is_empty() {
            peer.send(left);
        }
        peer.finish();
        peer.grant(AMPLE);
    }
}

fn scripts() -> impl Strategy<Value = Script> {
    let act = prop_oneof![
        8 => (1_usize..60).prop_map(Act::Send),
        4 => (0_usize..200).prop_map(Act::Grant),
        2 => (0_u64..40_000).prop_map(|ms| Act::Wait(Duration::from_millis(ms))),
        1 => Just(Act::Reset),
        1 => Just(Act::Stop),
    ];
    let services = prop::sample::select(vec!["upper", "lower", "echo", "discard"]);
    let framings = prop::sample::select(vec![
        "chunk",
        "line",
        "crlf",
        "nul",
        "fixed:7",
        "delim:61",
        "delim:2d2d",
    ]);
    let text = "([a-zA-Z -]{0,9}|[ßΣσŉ]{0,1}|[\r\n\0]{1,2}|[x]{0,70}){0,40}";
    (
        services,
        framings,
        5_usize..300,
        text,
        prop::collection::vec(act, 0..30),
    )
        .prop_map(|(service, framing, message_bytes_max, text, acts)| Script {
            service,
            framing: framing.parse().unwrap(),
            message_bytes_max,
            data: text.into_bytes(),
            acts,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn in_place_path_equals_per_message_path(script in scripts()) {
        prop_assert_eq!(script.play(true).0, script.play(false).0);
    }
}

/// The cases of the property one by one, and that the in-place path is the one that is used.
#[test]
fn in_place_path_falls_back_in_each_known_case() {
    let line = |max: usize, data: &str, acts: &[Act]| {
        let script = Script {
            service: "upper",
            framing: Framing::Line,
            message_bytes_max: max,
            data: data.into(),
            acts: acts.to_vec(),
        };
        let (result, answers) = script.play(true);
        assert_eq!(result, script.play(false).0, "{data:?}");
        let taken = String::from_utf8(result.taken).unwrap();
        (taken, result.ending.reason, result.messages, answers)
    };
    let closed = CloseReason::PeerClosed;
    let expected =
        |text: &str, reason, messages, answers| (text.to_owned(), reason, messages, answers);
    let all = Act::Send(1000);
    assert_eq!(
        line(99, "a\nb\n\n", &[all]),
        expected("A\nB\n\n", closed, 3, 0)
    );
    // A last line without a terminator is answered by `answer` at the end of the stream.
    assert_eq!(line(99, "a\nbc", &[all]), expected("A\nBC", closed, 2, 1));
    // A letter beyond ASCII in the middle: the whole read is answered by `answer`.
    assert_eq!(
        line(99, "a\nß\nb\n", &[all]),
        expected("A\nSS\nB\n", closed, 3, 1)
    );
    // A message in the middle of a run is too long: the messages before it are answered.
    let too_long = "a\nb\nlong\nc\n";
    let answered = |answers| expected("A\nB\n", CloseReason::MessageTooLong, 2, answers);
    assert_eq!(line(3, too_long, &[all]), answered(1));
    // With these read boundaries the messages before it are answered in place.
    let cuts = [Act::Send(2), Act::Send(2), all];
    assert_eq!(line(3, too_long, &cuts), answered(0));
    // The peer takes a hundred bytes and resets: everything is answered, most of it unsent.
    let many = "ab\n".repeat(100);
    let (taken, reason, messages, answers) = line(999, &many, &[all, Act::Reset]);
    assert_eq!((taken.len(), reason), (100, CloseReason::PeerReset));
    assert_eq!((messages, answers), (100, 0));
}
