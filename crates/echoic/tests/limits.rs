//! `echoic limits` tells the truth: each option is there and has that default, and each bound is the one in force.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may say what it saw"
)]

mod harness;

use std::{collections::BTreeSet, fs, path::Path};

use echoic_core::{
    limits::Limits,
    units::{Bytes, Span},
};
use serde_json::Value;

use self::harness::Home;

/// Bounds that a crate keeps to itself: name in the table, file, and the line that sets it.
const KEPT_INSIDE: [(&str, &str, &str); 27] = [
    (
        "linger_timeout_all",
        "echoic-server/src/session/parting.rs",
        "LINGER_STRETCH: u32 = 10;",
    ),
    (
        "header_bytes_max",
        "echoic-core/src/framing/head.rs",
        "HEADERS_MAX: usize = 8 << 10;",
    ),
    (
        "turned_away_max",
        "echoic-server/src/accept.rs",
        "TURNED_AWAY_MAX: usize = 64;",
    ),
    (
        "apart_read_bytes_max",
        "echoic-server/src/session/speaking.rs",
        "APART_READ_MAX: usize = 4 << 10;",
    ),
    (
        "sources_max",
        "echoic-server/src/sources.rs",
        "SOURCES_MAX: usize = 65_536;",
    ),
    (
        "last_calls_max",
        "echoic-server/src/accept.rs",
        "LAST_CALLS_MAX: usize = 4096;",
    ),
    (
        "read_bytes",
        "echoic-server/src/inbox.rs",
        "ROOM: usize = 68 << 10;",
    ),
    (
        "unsent_bytes_max",
        "echoic-server/src/session/speaking.rs",
        "UNSENT_MAX: usize = 64 << 10;",
    ),
    (
        "pending_max",
        "echoic-server/src/apart.rs",
        "PENDING_MAX: usize = 256;",
    ),
    (
        "pending_bytes_max",
        "echoic-server/src/apart.rs",
        "PENDING_BYTES_MAX: usize = 1 << 20;",
    ),
    (
        "drain_bytes_max",
        "echoic-server/src/session.rs",
        "DRAIN_BYTES_MAX: u64 = 8 << 20;",
    ),
    (
        "datagram_bytes",
        "echoic-server/src/datagrams.rs",
        "ROOM: usize = 64 << 10;",
    ),
    (
        "peers_max",
        "echoic-server/src/datagrams/peers.rs",
        "PEERS_MAX: usize = 4096;",
    ),
    (
        "same_max",
        "echoic-server/src/datagrams/guard.rs",
        "SAME_MAX: u32 = 7;",
    ),
    (
        "datagrams_unsent_max",
        "echoic-server/src/datagrams/outgoing.rs",
        "UNSENT_MAX: usize = 256;",
    ),
    (
        "datagrams_unsent_bytes_max",
        "echoic-server/src/datagrams/outgoing.rs",
        "UNSENT_BYTES_MAX: usize = 1 << 20;",
    ),
    (
        "watcher_behind_bytes_max",
        "echoic-server/src/feed.rs",
        "BEHIND_BYTES_MAX: usize = 32 << 20;",
    ),
    (
        "filter_bytes_max",
        "echoic-core/src/filter/parse.rs",
        "TEXT_BYTES_MAX: usize = 64 << 10;",
    ),
    (
        "filter_depth_max",
        "echoic-core/src/filter/parse.rs",
        "DEPTH_MAX: usize = 64;",
    ),
    (
        "filter_conditions_max",
        "echoic-core/src/filter/parse.rs",
        "ATOMS_MAX: usize = 256;",
    ),
    (
        "filter_regexes_max",
        "echoic-core/src/filter/parse.rs",
        "REGEXES_MAX: usize = 32;",
    ),
    (
        "filter_values_max",
        "echoic-core/src/filter/parse.rs",
        "VALUES_MAX: usize = 4096;",
    ),
    (
        "bench_beyond_connections_max",
        "echoic/src/bench/target.rs",
        "BEYOND_CONNECTIONS_MAX: u32 = 100;",
    ),
    (
        "bench_reply_bytes_max",
        "echoic-client/src/bench/stream.rs",
        "REPLY_BYTES_MAX: usize = 64 << 20;",
    ),
    (
        "bench_recorded_max",
        "echoic/src/bench/recorded.rs",
        "MESSAGES_MAX: usize = 1_000_000;",
    ),
    (
        "bench_steps_max",
        "echoic-client/src/bench/steps.rs",
        "STEPS_MAX: usize = 1000;",
    ),
    (
        "bench_seconds_max",
        "echoic-client/src/bench/tally.rs",
        "SECONDS_MAX: usize = 86_400;",
    ),
];

fn limits() -> Vec<Value> {
    let printed = Home::new().run(&["limits", "--json"]).good();
    printed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[track_caller]
fn named(limits: &[Value], name: &str) -> Value {
    let found = limits.iter().find(|limit| limit["name"] == name);
    found
        .unwrap_or_else(|| panic!("{name} is not in the table"))
        .clone()
}

/// The same amount, however it is written. `10m` is ten minutes here, not a size.
fn amount(text: &str) -> String {
    let bytes = text.parse::<Bytes>().map(|bytes| bytes.to_string());
    let span = text.parse::<Span>().map(|span| span.to_string());
    let amount = if text.ends_with('m') {
        span
    } else {
        bytes.or(span)
    };
    amount.unwrap_or_else(|_| text.to_owned())
}

#[test]
fn each_field_of_the_limits_is_in_the_table_with_its_default() {
    let shown = limits();
    let fields = format!("{:#?}", Limits::default());
    let fields: Vec<(&str, &str)> = fields
        .lines()
        .filter_map(|line| line.trim().split_once(": "))
        .collect();
    assert!(fields.len() >= 7, "{fields:?}");
    for (field, default) in fields {
        let limit = named(&shown, field);
        let default = default.trim_end_matches(',');
        assert_eq!(
            amount(limit["default"].as_str().unwrap()),
            amount(default),
            "{field}"
        );
    }
}

#[test]
fn each_option_is_in_the_help_with_that_default() {
    let home = Home::new();
    let mut checked = 0;
    for limit in limits() {
        let (Some(command), Some(option)) = (limit["command"].as_str(), limit["option"].as_str())
        else {
            continue;
        };
        let help = home.run(&[command, "--help"]).good();
        let words = help.split_once(&format!("{option} <"));
        let (_, after) = words.unwrap_or_else(|| panic!("{command} has no {option}"));
        let its_own = after.split("\n\n      --").next().unwrap();
        if let Some((_, default)) = its_own.split_once("[default: ")
            && limit["value"].is_number()
            && option != "--when-full"
            && option != "--durability"
        {
            let default = default.split([']', ',']).next().unwrap();
            assert_eq!(
                amount(default),
                amount(limit["default"].as_str().unwrap()),
                "{option}"
            );
            checked += 1;
        }
    }
    assert!(checked >= 9, "only {checked} options show a default");
}

#[test]
fn what_a_crate_keeps_to_itself_is_told_as_it_is() {
    let shown = limits();
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for (name, file, line) in KEPT_INSIDE {
        let text = fs::read_to_string(crates.join(file)).unwrap();
        assert!(
            text.contains(&format!("const {line}")),
            "{file} no longer says {line}: mend crates/echoic/src/limits.rs and this test"
        );
        let expression = line.split_once("= ").unwrap().1.trim_end_matches(';');
        let number = match expression.split_once(" << ") {
            Some((n, shift)) => n.parse::<u64>().unwrap() << shift.parse::<u32>().unwrap(),
            None => expression.replace('_', "").parse().unwrap(),
        };
        let told = named(&shown, name)["value"].as_u64().unwrap();
        let unit = if name == "linger_timeout_all" {
            Limits::default().linger_timeout.as_millis() as u64
        } else {
            1
        };
        assert_eq!(told, number * unit, "{name}");
    }
}

#[test]
fn for_people_it_is_the_same_table() {
    let table = Home::new().run(&["limits"]).good();
    let shown = limits();
    let names: BTreeSet<&str> = shown
        .iter()
        .map(|limit| limit["name"].as_str().unwrap())
        .collect();
    assert_eq!(names.len(), shown.len(), "a name is there twice");
    for limit in &shown {
        let has = |key: &str| limit[key].as_str().unwrap_or_default();
        assert!(!has("then").is_empty(), "{limit} does not say what happens");
        let line = table.lines().find(|line| {
            line.contains(has("what"))
                && line.contains(has("default"))
                && line.contains(has("then"))
        });
        let line = line.unwrap_or_else(|| panic!("no line for {limit} in:\n{table}"));
        assert!(line.contains(has("option")), "{line}");
    }
}
