//! The short way of a run, in place, and the long one by each message: what is said, counted and ended is the same.

use proptest::prelude::*;
use std::ops::ControlFlow;
use tokio::{runtime::Builder, task::yield_now, time::sleep};

use super::*;

/// What the peer does next.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Sends so much of what is left, as one read.
    Send(usize),
    /// Takes so many bytes more.
    Grant(usize),
    /// Lets this pass.
    Wait(Duration),
    /// Resets the connection.
    Reset,
    /// Tells the server to stop.
    Stop,
}

/// A service with its short way or without, that counts how often it went the long one.
struct Watched {
    handler: Box<dyn InlineHandler>,
    short: bool,
    answers: Arc<AtomicU64>,
}

impl InlineHandler for Watched {
    fn open(&mut self, out: &mut Replies) -> ControlFlow<()> {
        self.handler.open(out)
    }

    fn answer(&mut self, run: &Run<'_>, out: &mut Replies) -> ControlFlow<()> {
        self.answers.fetch_add(1, Ordering::Relaxed);
        self.handler.answer(run, out)
    }

    fn in_place(&self) -> Option<InPlace> {
        self.handler.in_place().filter(|_| self.short)
    }

    fn finish(&mut self, out: &mut Replies) {
        self.handler.finish(out);
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

/// What one comes to.
#[derive(Debug, PartialEq, Eq)]
struct Came {
    taken: Vec<u8>,
    ending: Ending,
    messages: u64,
    exchanges: u64,
    /// When our half was ended.
    finished: Option<Duration>,
}

impl Script {
    /// Plays it, without recording; says too how often the long way was taken.
    fn play(&self, short: bool) -> (Came, u64) {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (link, peer) = wire(100);
            let (recorder, began) = (Recorder::none(), Instant::now());
            let (known, opened, journal) = somebody(&recorder, self.framing);
            let drain = Drain::default();
            let context = SessionContext {
                limits: Arc::new(Limits {
                    message_bytes_max: self.message_bytes_max,
                    ..Limits::default()
                }),
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
            let watched = Watched {
                handler,
                short,
                answers: Arc::clone(&answers),
            };
            let handler = Handler::Inline(Box::new(watched));
            let mut session = Session::new(link, handler, &known, opened, context);
            let talking = tokio::spawn(async move {
                let reason = session.serve().await;
                session.close(reason).await;
                let tally = &session.tally;
                (
                    tally.ending(session.phase.reason()),
                    tally.messages,
                    tally.exchanges,
                )
            });
            self.act(&peer, &drain).await;
            let (ending, messages, exchanges) = talking.await.unwrap();
            let (taken, finished) = peer.look(|line| (line.taken.clone(), line.finished));
            let came = Came {
                taken,
                ending,
                messages,
                exchanges,
                finished: finished.map(|at| at - began),
            };
            (came, answers.load(Ordering::Relaxed))
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

/// What the property is about, one by one, and that the short way is the one that is taken.
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
        let (came, long_ways) = script.play(true);
        assert_eq!(came, script.play(false).0, "{data:?}");
        let taken = String::from_utf8(came.taken).unwrap();
        (taken, came.ending.reason, came.messages, long_ways)
    };
    let closed = CloseReason::PeerClosed;
    let came =
        |text: &str, reason, messages, long_ways| (text.to_owned(), reason, messages, long_ways);
    let all = Act::Send(1000);
    assert_eq!(line(99, "a\nb\n\n", &[all]), came("A\nB\n\n", closed, 3, 0));
    // A last line without its end waits, and is answered the long way when no end can come any more.
    assert_eq!(line(99, "a\nbc", &[all]), came("A\nBC", closed, 2, 1));
    // A letter beyond ASCII in the middle: the whole read goes the long way.
    assert_eq!(
        line(99, "a\nß\nb\n", &[all]),
        came("A\nSS\nB\n", closed, 3, 1)
    );
    // One that is too long in the middle of a run: what was before it is answered.
    let too_long = "a\nb\nlong\nc\n";
    let answered = |long_ways| came("A\nB\n", CloseReason::MessageTooLong, 2, long_ways);
    assert_eq!(line(3, too_long, &[all]), answered(1));
    // Cut so that the short way can be gone until there.
    let cuts = [Act::Send(2), Act::Send(2), all];
    assert_eq!(line(3, too_long, &cuts), answered(0));
    // The peer takes a hundred bytes and is gone: all was answered, most of it is unsent.
    let many = "ab\n".repeat(100);
    let (taken, reason, messages, long_ways) = line(999, &many, &[all, Act::Reset]);
    assert_eq!((taken.len(), reason), (100, CloseReason::PeerReset));
    assert_eq!((messages, long_ways), (100, 0));
}
