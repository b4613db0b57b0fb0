//! A whole benchmark by value: which runs it makes, what it reports to its observer, and when it ends.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::{Mutex, mpsc::Receiver},
    thread,
    time::Duration,
};

use echoic_client::bench::{
    Arrivals, Attempt, Benchmark, BenchmarkError, Length, Load, Observer, Plan, ProgressReader,
    Purpose, Run, Runs, StopSwitch, Template, Warmup, Workload,
};

/// The reports to an observer, in order.
#[derive(Default)]
struct Recorder(Mutex<Vec<(usize, Purpose, Option<f64>)>>);

impl Observer for Recorder {
    fn follow_run(&self, _: &Plan, _: &Run, _: &ProgressReader, is_done: &Receiver<()>) {
        // Until the run is over.
        assert!(is_done.recv().is_err());
    }

    fn attempt_finished(&self, number: usize, attempt: &Attempt) {
        let report = (number, attempt.purpose, attempt.asked_per_s);
        self.0.lock().unwrap().push(report);
    }

    fn first_look(&self, _: f64, _: u32) {
        panic!("no first look was requested");
    }
}

/// An echo server, and a benchmark of it.
fn benchmark(runs: Runs) -> Benchmark {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for mut peer in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(n @ 1..) = peer.read(&mut buffer) {
                    if peer.write_all(&buffer[..n]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    let workload = Workload::one(Template::literal("hello"));
    Benchmark {
        plan: Plan::new(endpoint.parse().unwrap(), "line".parse().unwrap(), workload),
        guesses: true,
        measures_floor: false,
        arrivals: Arrivals::Constant,
        runs,
        slo: None,
        assert: Some("errors=0".parse().unwrap()),
    }
}

#[test]
fn steps_are_made_in_order_and_the_last_one_is_the_result() {
    let each = Duration::from_millis(100);
    let measure = |_| {
        let rates = vec![200.0, 100.0];
        let observer = Recorder::default();
        let benchmark = benchmark(Runs::Steps { rates, each });
        let measured = benchmark.run(&StopSwitch::default(), &observer).unwrap();
        let tried = [
            (1, Purpose::Step, Some(200.0)),
            (2, Purpose::Step, Some(100.0)),
        ];
        assert_eq!(*observer.0.lock().unwrap(), tried);
        assert_eq!(measured.figures.rate, Some(100.0));
        // A fifth is not counted.
        assert_eq!(measured.run.length, Length::For(each * 4 / 5));
        assert!(measured.is_guessed && !measured.is_cut);
        assert_eq!(measured.plan.expect.to_string(), "echo");
        measured.holds()
    };
    // A pause of the machine as long as a step leaves requests unsent.
    assert!((0..10).any(measure), "no run was without errors");
}

#[test]
fn stopped_search_has_no_result() {
    let stops = StopSwitch::default();
    stops.stop();
    let runs = Runs::Search {
        trial: Duration::from_secs(2),
        confirm: Duration::from_secs(10),
        within: 0.05,
    };
    let ended = benchmark(runs).run(&stops, &Recorder::default());
    assert!(matches!(ended, Err(BenchmarkError::Stopped)), "{ended:?}");
}

#[test]
fn stopped_benchmark_ends_its_run_early_and_says_so() {
    let stops = StopSwitch::default();
    let runs = Runs::Once {
        load: Load::Closed,
        length: Length::For(Duration::from_mins(1)),
        warmup: Warmup::For(Duration::ZERO),
    };
    let measured = thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(200));
            stops.stop();
        });
        benchmark(runs).run(&stops, &Recorder::default()).unwrap()
    });
    assert!(measured.is_cut && measured.figures.seconds < 30.0);
}

#[test]
fn requests_due_after_a_stop_were_not_asked() {
    let stops = StopSwitch::default();
    let runs = Runs::Once {
        load: Load::Open {
            rate: 100.0,
            arrivals: Arrivals::Constant,
        },
        length: Length::For(Duration::from_mins(1)),
        warmup: Warmup::For(Duration::ZERO),
    };
    let measured = thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(200));
            stops.stop();
        });
        benchmark(runs).run(&stops, &Recorder::default()).unwrap()
    });
    let asked = measured.figures.asked;
    assert!(measured.is_cut && asked < 3_000, "{asked} of 6000");
}

#[test]
fn replies_that_cannot_be_distinguished_are_refused_before_any_run() {
    let mut benchmark = benchmark(Runs::FirstLook {
        warmup: Warmup::Auto,
    });
    benchmark.guesses = false;
    benchmark.plan.pipeline = 2;
    benchmark.plan.frames = "chunk".parse().unwrap();
    let refused = benchmark.run(&StopSwitch::default(), &Recorder::default());
    let refused = refused.unwrap_err();
    assert!(matches!(refused, BenchmarkError::Indivisible(_)));
    let text = refused.to_string();
    assert!(
        text.contains("any is expected") && !text.contains("--"),
        "{text}"
    );
}
