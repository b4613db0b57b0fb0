//! A benchmark of a server that closes, refuses, or never answers: it ends in its time, and its verdict says what the
//! server did.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    cell::OnceCell,
    io::{BufRead, BufReader, Read, Write},
    iter,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use echoic_client::bench::{
    Arrivals, Attempt, BenchError, Benchmark, BenchmarkError, Expect, Length, Limit, Load,
    Measured, Observer, Plan, ProgressReader, Run, Runs, Stall, StopSwitch, Template, Warmup,
    Workload, guess,
};
use socket2::{Domain, Socket, Type};

/// Time for a whole benchmark; it is one of these tests' own if this passes.
const SOON: Duration = Duration::from_secs(30);
const WINDOW: Duration = Duration::from_millis(400);

struct Unobserved;

impl Observer for Unobserved {
    fn follow_run(&self, _: &Plan, _: &Run, _: &ProgressReader, _: &Receiver<()>) {}
    fn attempt_finished(&self, _: usize, _: &Attempt) {}
    fn first_look(&self, _: f64, _: u32) {}
}

/// Starts a server that treats each connection as `serve` does.
fn server(serve: fn(&TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    thread::spawn(move || {
        for peer in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || serve(&peer));
        }
    });
    at
}

/// Answers `count` lines as `answer` does, then closes.
fn lines(peer: &TcpStream, count: usize, answer: impl Fn(&str) -> String) {
    let mut writer = peer;
    let lines = BufReader::new(peer).lines().map_while(Result::ok);
    for line in lines.take(count) {
        if writer
            .write_all(format!("{}\n", answer(&line)).as_bytes())
            .is_err()
        {
            return;
        }
    }
}

fn closes_at_once(_: &TcpStream) {}

fn greets_and_closes(mut peer: &TcpStream) {
    let _ = peer.write_all(b"Thank you for connecting\n");
}

fn closes_when_asked(mut peer: &TcpStream) {
    let _ = peer.read(&mut [0; 100]);
}

fn closes_after_three(peer: &TcpStream) {
    lines(peer, 3, str::to_uppercase);
}

fn never_answers(mut peer: &TcpStream) {
    let _ = peer.read_to_end(&mut Vec::new());
}

fn sends_without_end(mut peer: &TcpStream) {
    while peer.write_all(&[b'#'; 1000]).is_ok() {}
}

fn answers_garbage(peer: &TcpStream) {
    lines(peer, usize::MAX, |line| format!("{}?", line.len()));
}

/// A listener whose queue is full: it takes no connection. The sockets keep it so.
fn full_listener() -> (SocketAddr, Vec<Socket>) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    listener.bind(&any.into()).unwrap();
    listener.listen(0).unwrap();
    let at = listener.local_addr().unwrap();
    let mut sockets = vec![listener];
    for _ in 0..4 {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        let _ = socket.connect(&at);
        sockets.push(socket);
    }
    thread::sleep(Duration::from_millis(100));
    (at.as_socket().unwrap(), sockets)
}

fn plan(endpoint: &str) -> Plan {
    let workload = Workload::one("hello {seq}".parse().unwrap());
    Plan {
        timeout: WINDOW,
        drain_timeout: WINDOW,
        give_up: WINDOW,
        connect_within: WINDOW,
        ..Plan::new(endpoint.parse().unwrap(), "line".parse().unwrap(), workload)
    }
}

fn once(load: Load, length: Length) -> Runs {
    Runs::Once {
        load,
        length,
        warmup: Warmup::For(Duration::ZERO),
    }
}

fn open(rate: f64) -> Load {
    let arrivals = Arrivals::Constant;
    Load::Open { rate, arrivals }
}

/// Makes a benchmark, which must end soon. `stop` is triggered after `stopped_after`.
fn measured(
    plan: Plan,
    runs: Runs,
    stopped_after: Option<Duration>,
) -> Result<Measured, BenchmarkError> {
    let benchmark = Benchmark {
        plan,
        guesses: true,
        measures_floor: false,
        arrivals: Arrivals::Constant,
        runs,
        slo: None,
        assert: None,
    };
    let stops = Arc::new(StopSwitch::default());
    let (done, result) = sync_channel(1);
    let stop = Arc::clone(&stops);
    thread::spawn(move || drop(done.send(benchmark.run(&stop, &Unobserved))));
    let stopped_after = stopped_after.unwrap_or(SOON);
    match result.recv_timeout(stopped_after) {
        Err(RecvTimeoutError::Timeout) => stops.stop(),
        result => return result.unwrap(),
    }
    let grace = SOON
        .saturating_sub(stopped_after)
        .max(Duration::from_secs(5));
    result.recv_timeout(grace).expect("the benchmark ends")
}

/// Returns what a benchmark measured that the machine left alone, out of five: a generator that did not run for half a second
/// reports that and nothing of the server, and one that is stopped before its run has begun has no result.
fn undisturbed(benchmark: impl FnMut() -> Result<Measured, BenchmarkError>) -> Measured {
    let made = iter::repeat_with(benchmark).take(5);
    let mut measured = made.filter_map(|made| match made {
        Err(BenchmarkError::Stopped) => None,
        made => Some(made.unwrap()),
    });
    let stood_still = |measured: &Measured| measured.figures.generator.standstill.is_some();
    let found = measured.find(|measured| !stood_still(measured));
    found.expect("each of five was stopped too early, or stood still")
}

#[test]
fn run_against_a_server_that_fails_its_clients_ends_in_time() {
    for (what, serve) in [
        ("closes at once", closes_at_once as fn(&TcpStream)),
        ("greets and closes", greets_and_closes),
        ("closes when asked", closes_when_asked),
        ("never answers", never_answers),
        ("sends without end", sends_without_end),
        ("answers garbage", answers_garbage),
        ("closes after three", closes_after_three),
    ] {
        let endpoint = server(serve).to_string();
        for (load, length) in [
            (Load::Closed, Length::For(WINDOW)),
            (open(100.0), Length::For(WINDOW)),
            (Load::Closed, Length::Count(30)),
            (open(100.0), Length::Count(30)),
        ] {
            let begun = Instant::now();
            let runs = once(load.clone(), length);
            let measured = measured(plan(&endpoint), runs, None);
            let what = format!("{what}, {load:?}, {length:?}: {measured:?}");
            let figures = measured.unwrap_or_else(|_| panic!("{what}")).figures;
            assert!(begun.elapsed() < SOON / 2, "{:?}, {what}", begun.elapsed());
            assert_eq!(figures.asked, figures.sent + figures.unsent, "{what}");
            let answered = figures.ok + figures.wrong + figures.late + figures.lost;
            assert_eq!(figures.sent, answered, "{what}");
        }
    }
}

#[test]
fn run_with_a_request_count_gives_up_on_a_silent_server() {
    let endpoint = server(never_answers).to_string();
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let datagrams = format!("udp://{}", silent.local_addr().unwrap());
    for endpoint in [endpoint, datagrams] {
        let plan = Plan {
            timeout: WINDOW / 2,
            ..plan(&endpoint)
        };
        let measured = undisturbed(|| {
            let begun = Instant::now();
            let runs = once(Load::Closed, Length::Count(100));
            let measured = measured(plan.clone(), runs, None);
            // A hundred timeouts are twenty seconds.
            assert!(begun.elapsed() < Duration::from_secs(10), "{measured:?}");
            measured
        });
        assert!((1..20).contains(&measured.figures.asked), "{measured:?}");
        assert_eq!(measured.verdict.limit, Limit::Server);
        assert_eq!(measured.verdict.why, "nothing was answered");
    }
}

#[test]
fn verdict_names_a_server_that_closes_each_connection() {
    let endpoint = server(closes_at_once).to_string();
    let measured = undisturbed(|| {
        let runs = once(Load::Closed, Length::For(WINDOW));
        measured(plan(&endpoint), runs, None)
    });
    assert_eq!(measured.verdict.limit, Limit::Server);
    let why = &measured.verdict.why;
    assert!(
        why.starts_with("nothing was answered (connections "),
        "{why}"
    );
    // A connection that was closed before it was used is dialled again after 100 ms; each of the others took a request.
    let failures = &measured.figures.failures;
    let unused = (failures.closed + failures.reset).saturating_sub(measured.figures.sent);
    assert!(failures.closed + failures.reset > 0, "{failures:?}");
    assert!(unused <= 6, "{failures:?}");
}

#[test]
fn server_that_closes_after_some_replies_is_measured() {
    let endpoint = server(closes_after_three).to_string();
    let measured = measured(plan(&endpoint), once(Load::Closed, Length::Count(30)), None).unwrap();
    assert_eq!(measured.plan.expect.to_string(), "upper");
    let figures = &measured.figures;
    assert!(figures.ok >= 15 && figures.wrong == 0, "{figures:?}");
    assert!(figures.failures.reconnects >= 5, "{figures:?}");
}

#[test]
fn server_that_takes_no_connection_is_told_within_the_limit() {
    let (at, _queue) = full_listener();
    let begun = Instant::now();
    let runs = once(Load::Closed, Length::For(WINDOW));
    let ended = measured(plan(&at.to_string()), runs, None);
    let error = ended.unwrap_err();
    assert!(
        matches!(error, BenchmarkError::Bench(BenchError::Dial(_))),
        "{error:?}"
    );
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn stop_ends_a_benchmark_that_cannot_connect_or_gets_no_answer() {
    let (full, _queue) = full_listener();
    let patient = |endpoint: SocketAddr| Plan {
        timeout: Duration::from_hours(1),
        drain_timeout: Duration::from_hours(1),
        give_up: Duration::from_hours(1),
        connect_within: Duration::from_hours(1),
        ..plan(&endpoint.to_string())
    };
    let stopped = |plan: Plan| {
        // So many that a greeting taken for a reply now and then does not end the run.
        let runs = once(Load::Closed, Length::Count(1_000_000));
        measured(plan, runs, Some(Duration::from_millis(1_500)))
    };
    let unconnected = stopped(patient(full)).unwrap_err();
    assert!(
        matches!(unconnected, BenchmarkError::Stopped),
        "{unconnected:?}"
    );
    let ramp = Plan {
        connections: 100,
        connects_per_s: Some(1.0),
        ..patient(server(never_answers))
    };
    assert!(stopped(ramp).is_err());
    for serve in [never_answers as fn(&TcpStream), greets_and_closes] {
        let measured = undisturbed(|| stopped(patient(server(serve))));
        assert!(measured.is_cut, "{measured:?}");
        assert_eq!(measured.verdict.limit, Limit::Server);
    }
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("udp://{}", silent.local_addr().unwrap());
    let datagrams = Plan {
        endpoint: endpoint.parse().unwrap(),
        ..patient(silent.local_addr().unwrap())
    };
    assert!(undisturbed(|| stopped(datagrams.clone())).is_cut);
}

/// Starts a server that ends each of its connections early, and listens no more once it has had a few.
fn server_that_goes() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    thread::spawn(move || {
        // The request that finds out what is answered, then the two of the generator.
        for peer in listener.incoming().map_while(Result::ok).take(4) {
            thread::spawn(move || {
                let ends = peer.try_clone().unwrap();
                thread::spawn(move || {
                    thread::sleep(WINDOW / 2);
                    let _ = ends.shutdown(std::net::Shutdown::Both);
                });
                lines(&peer, usize::MAX, str::to_uppercase);
            });
        }
    });
    at
}

#[test]
fn steps_go_on_after_the_server_has_gone() {
    // The server goes within the first.
    let measured = undisturbed(|| {
        let steps = Runs::Steps {
            rates: vec![100.0, 200.0, 300.0],
            each: WINDOW * 2,
        };
        measured(plan(&server_that_goes().to_string()), steps, None)
    });
    assert_eq!(measured.tries.len(), 3, "{measured:?}");
    assert!(measured.tries[0].done_per_s > 0.0, "{measured:?}");
    assert!(measured.figures.failures.refused > 0, "{measured:?}");
    assert_eq!(measured.verdict.limit, Limit::Server);
}

#[test]
fn search_and_warmup_end_soon_if_nothing_is_answered() {
    let endpoint = server(never_answers).to_string();
    let search = Runs::Search {
        trial: WINDOW,
        confirm: Duration::from_secs(10),
        within: 0.05,
    };
    let searched = measured(plan(&endpoint), search, None).unwrap();
    assert_eq!(searched.tries.len(), 1, "{searched:?}");
    assert!(!searched.holds());
    let begun = Instant::now();
    let automatic = Runs::Once {
        load: Load::Closed,
        length: Length::For(WINDOW),
        warmup: Warmup::Auto,
    };
    let patient = Plan {
        timeout: SOON,
        drain_timeout: Duration::from_secs(3),
        ..plan(&endpoint)
    };
    measured(patient, automatic, None).unwrap();
    // A second finds out what is answered; the warm-up and the run each wait for three. A second sample would too.
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn stall_of_seconds_is_measured_and_named() {
    fn stalls(peer: &TcpStream) {
        let first = OnceCell::new();
        let hold = Duration::from_millis(300)..Duration::from_millis(1_800);
        lines(peer, usize::MAX, |line| {
            let begun = first.get_or_init(Instant::now);
            if hold.contains(&begun.elapsed()) {
                thread::sleep(hold.end.saturating_sub(begun.elapsed()));
            }
            line.to_uppercase()
        });
    }
    let endpoint = server(stalls).to_string();
    for (load, connections) in [(Load::Closed, 1), (open(100.0), 2)] {
        let plan = Plan {
            connections,
            threads: connections,
            timeout: SOON,
            drain_timeout: SOON,
            ..plan(&endpoint)
        };
        let length = Length::For(Duration::from_secs(3));
        let measured = || undisturbed(|| measured(plan.clone(), once(load.clone(), length), None));
        // On a busy machine a stall may begin before the server's, and end after it.
        let stalled = (0..5).map(|_| measured()).find(|measured| {
            let stall = measured.figures.stall;
            stall.is_some_and(|Stall { start, length }| {
                (200..1_000).contains(&start.as_millis())
                    && (1_300..2_500).contains(&length.as_millis())
            })
        });
        let measured = stalled.expect("a stall of 1.5 s after 0.3 s, in one of five");
        let (verdict, stall) = (measured.verdict, measured.figures.stall.unwrap());
        assert_eq!(verdict.limit, Limit::Server);
        assert!(verdict.why.contains(&stall.to_string()), "{verdict:?}");
    }
}

#[test]
fn what_the_server_answers_is_found_out_with_both_cases() {
    fn upper(peer: &TcpStream) {
        lines(peer, usize::MAX, str::to_uppercase);
    }
    fn lower(peer: &TcpStream) {
        lines(peer, usize::MAX, str::to_lowercase);
    }
    fn echo(peer: &TcpStream) {
        lines(peer, usize::MAX, ToOwned::to_owned);
    }
    fn redis(peer: &TcpStream) {
        lines(peer, usize::MAX, |line| {
            if line == "PING" {
                line.to_owned()
            } else {
                "?".to_owned()
            }
        });
    }
    fn closes_then_upper(peer: &TcpStream) {
        lines(peer, 1, str::to_uppercase);
    }
    let guessed = |serve: fn(&TcpStream), message: &str, frames: &str| {
        let endpoint = server(serve).to_string();
        let workload = Workload::one(Template::literal(message));
        let plan = Plan::new(endpoint.parse().unwrap(), frames.parse().unwrap(), workload);
        let (done, found) = sync_channel(1);
        thread::spawn(move || done.send(guess(&plan)));
        let found: Expect = found.recv_timeout(SOON).expect("it ends").unwrap();
        found.to_string()
    };
    for message in ["hello", "PING", "42", "Hello 42"] {
        assert_eq!(guessed(upper, message, "line"), "upper", "{message}");
        assert_eq!(guessed(lower, message, "line"), "lower", "{message}");
        assert_eq!(guessed(echo, message, "line"), "echo", "{message}");
        assert_eq!(
            guessed(closes_then_upper, message, "line"),
            "upper",
            "{message}"
        );
        for other in [
            never_answers as fn(&TcpStream),
            closes_at_once,
            answers_garbage,
        ] {
            assert_eq!(guessed(other, message, "line"), "any", "{message}");
        }
    }
    assert_eq!(guessed(redis, "PING", "line"), "any");
    // The server answers lines; a message of eleven bytes and no line end gets no reply.
    assert_eq!(guessed(echo, "42", "fixed:2"), "any");
}

/// A server that takes 30 ms for a request, asked a hundred times a second over one connection: the wait grows by 20 ms a
/// request, and the server's own time does not.
#[test]
fn latency_counts_from_when_a_request_was_due() {
    const SERVICE: Duration = Duration::from_millis(30);
    fn slow(peer: &TcpStream) {
        lines(peer, usize::MAX, |line| {
            thread::sleep(SERVICE);
            line.to_uppercase()
        });
    }
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = datagrams.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 100];
        while let Ok((bytes, peer)) = datagrams.recv_from(&mut buffer) {
            thread::sleep(SERVICE);
            let _ = datagrams.send_to(&buffer[..bytes], peer);
        }
    });
    for endpoint in [server(slow).to_string(), format!("udp://{at}")] {
        let plan = Plan {
            timeout: SOON,
            drain_timeout: SOON,
            connect_within: SOON,
            give_up: SOON,
            ..plan(&endpoint)
        };
        let measured = measured(plan, once(open(100.0), Length::Count(20)), None).unwrap();
        let figures = &measured.figures;
        let last = Duration::from_nanos(figures.due.max());
        // The last one was due at 190 ms and answered after twenty times 30 ms.
        assert!(last >= Duration::from_millis(350), "{endpoint}: {last:?}");
        let [due, service] = [&figures.due, &figures.service]
            .map(|of| Duration::from_nanos(of.value_at_quantile(0.5)));
        assert!(due >= service * 3, "{endpoint}: {due:?}, {service:?}");
    }
}
