//! What the other commands keep to: a filter, `connect`, `bench`.

use std::time::Duration;

use echoic_client::bench::{SAMPLE_BYTES_MAX, SAMPLES_MAX, SIZE_MAX};
use echoic_core::filter::MASK_BYTES_MAX;

use super::{
    Amount::{Count, Time, Unbounded},
    Limit,
    Then::Otherwise,
    bytes, count,
};

pub(super) fn filter() -> Vec<Limit> {
    let refused = Otherwise("refused, exit code 2");
    vec![
        Limit::new("filter_bytes_max", "its text", bytes(64 << 10)).then(refused),
        Limit::new(
            "filter_depth_max",
            "parentheses within parentheses",
            Count(64),
        )
        .then(refused),
        Limit::new("filter_conditions_max", "conditions", Count(256)).then(refused),
        Limit::new("filter_regexes_max", "regular expressions", Count(32)).then(refused),
        Limit::new(
            "filter_regex_bytes_max",
            "one of them, compiled",
            bytes(1 << 20),
        )
        .then(refused),
        Limit::new(
            "filter_hex_bytes_max",
            "a hex: sequence",
            bytes(MASK_BYTES_MAX),
        )
        .then(refused),
        Limit::new(
            "filter_values_max",
            "values in lists, together",
            Count(4096),
        )
        .then(refused),
    ]
}

pub(super) fn connect() -> Vec<Limit> {
    let connect = |flag| Some(("connect", flag));
    let second = Duration::from_secs;
    vec![
        Limit::new(
            "connect_timeout",
            "to resolve and be answered",
            Time(second(10)),
        )
        .set_by(connect("--connect-timeout"))
        .then(Otherwise("exit code 5 (3 while resolving)")),
        Limit::new(
            "connect_linger",
            "silence after the end of the input",
            Time(second(5)),
        )
        .set_by(connect("--linger-timeout"))
        .then(Otherwise("exit code 0 if everything was answered, else 5")),
        Limit::new(
            "connect_idle",
            "silence in both directions",
            Unbounded("never"),
        )
        .set_by(connect("--idle-timeout"))
        .then(Otherwise("exit code 5")),
        Limit::new(
            "connect_write_stall",
            "the peer takes nothing",
            Time(second(10)),
        )
        .set_by(connect("--write-timeout"))
        .then(Otherwise("exit code 5")),
        Limit::new(
            "connect_held_bytes_max",
            "held back until its terminator comes",
            bytes(64 << 10),
        )
        .then(Otherwise("shown in pieces")),
    ]
}

pub(super) fn bench() -> Vec<Limit> {
    let bench = |flag| Some(("bench", flag));
    let host = "refused, exit code 2; the option says that the host is yours to load";
    vec![
        Limit::new(
            "bench_timeout",
            "a reply; that of a datagram",
            Unbounded("10s, 1s"),
        )
        .set_by(bench("--timeout"))
        .then(Otherwise("lost, and in the latencies with this time")),
        Limit::new(
            "bench_drain",
            "replies after the end",
            Unbounded("--timeout"),
        )
        .set_by(bench("--drain-timeout"))
        .then(Otherwise("lost")),
        Limit::new(
            "bench_beyond_rate_max",
            "requests a second, to another machine",
            Count(1000),
        )
        .set_by(bench("--allow-load"))
        .then(Otherwise(host)),
        Limit::new(
            "bench_beyond_connections_max",
            "connections, to another machine",
            Count(100),
        )
        .set_by(bench("--allow-load"))
        .then(Otherwise(host)),
        Limit::new("bench_size_max", "a request of --size", bytes(SIZE_MAX))
            .then(Otherwise("refused, exit code 2")),
        Limit::new("bench_reply_bytes_max", "a reply", bytes(64 << 20)).then(Otherwise(
            "its connection is cut, what is out on it is lost",
        )),
        Limit::new(
            "bench_recorded_max",
            "requests of --from-store",
            Count(1_000_000),
        )
        .then(Otherwise("only the oldest so many are said")),
        Limit::new("bench_steps_max", "steps of --steps", Count(1000))
            .then(Otherwise("refused, exit code 2")),
        Limit::new("bench_trials_max", "tries of --find", Count(60))
            .then(Otherwise("it ends with what it has found")),
        Limit::new(
            "bench_seconds_max",
            "seconds told one by one",
            Count(86_400),
        )
        .then(Otherwise("what comes later counts as the last one's")),
        Limit::new(
            "bench_samples_max",
            "wrong replies that are kept",
            count(SAMPLES_MAX),
        )
        .then(Otherwise("the rest are counted")),
        Limit::new(
            "bench_sample_bytes_max",
            "of one of them",
            bytes(SAMPLE_BYTES_MAX),
        )
        .then(Otherwise("cut")),
    ]
}
