//! Tests that the loop does not allocate per message.

use std::{
    io::{Read, Write},
    net::TcpListener,
    thread,
};

use allocation_counter::measure;
use echoic_core::framing::Framing;
use echoic_wire::DialOptions;
use tokio::runtime::Builder;

use super::*;
use crate::bench::{
    Expect, Load, StopHandle, Workload, connection::Shared, live::Live, workload::PreparedWorkload,
};

/// Starts an echo server and returns its address.
fn start_echo_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
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
    address
}

/// A generator allocates only at its start, not per message.
#[test]
fn generated_message_allocates_nothing() {
    for (load, pipeline) in [
        (Load::Closed, 1),
        (Load::Closed, 16),
        (
            Load::Open {
                rate: 20_000.0,
                arrivals: crate::bench::Arrivals::Constant,
            },
            16,
        ),
    ] {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let _entered = runtime.enter();
        let workload = Workload::one("hello {seq}".parse().unwrap());
        let shared = Shared {
            endpoint: start_echo_server().parse().unwrap(),
            dialling: DialOptions {
                timeout: Duration::from_secs(10),
                ..DialOptions::default()
            },
            workload: PreparedWorkload::new(&workload, &Expect::Echo, Some(Framing::Line), 1),
            pipeline,
            churn: None,
            timeout: 10_000_000_000,
            connections: 4,
        };
        let live = Arc::new(Live::default());
        let worker = Worker::new(shared, 0..4, Some(Framing::Line), false, live);
        let mut worker = worker.unwrap();
        let stop = StopHandle::default();
        runtime
            .block_on(worker.open(Duration::ZERO, &stop))
            .unwrap();
        let mut allocated = |count| {
            let config = RunConfig {
                clock: Clock::starting(Duration::ZERO),
                schedule: Schedule::new(&load, 1, 0, 1),
                from_ns: 0,
                until_ns: u64::MAX,
                count: Some(count),
                drain_timeout_ns: 10_000_000_000,
                give_up_ns: 10_000_000_000,
                stop: Arc::default(),
            };
            let mut done = 0;
            let allocations = measure(|| {
                done = runtime.block_on(run(&mut worker, config)).unwrap().tally.ok;
            });
            assert_eq!(done, count, "{load:?}");
            allocations.count_total
        };
        allocated(2_000);
        let (few, many) = (allocated(500), allocated(5_000));
        // A histogram grows when it sees a longer latency than any before, a list of seconds with time.
        assert!(many <= few + 45, "{load:?}: {few}, then {many}");
    }
}
