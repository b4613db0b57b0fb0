//! `echoic limits` is true: each option exists and has the printed default.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may print what it saw"
)]

mod harness;

use std::collections::BTreeSet;

use echoic_core::{
    limits::Limits,
    units::{Bytes, Span},
};
use serde_json::Value;

use self::harness::Home;

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

/// Normalizes an amount, however it is written. `10m` is ten minutes here, not a size.
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
fn every_limit_is_in_the_table_with_its_default() {
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
fn limit_options_show_the_same_default_in_help() {
    let home = Home::new();
    let mut checked = 0;
    for limit in limits() {
        let (Some(command), Some(option)) = (limit["command"].as_str(), limit["option"].as_str())
        else {
            let fixed = ["linger_timeout", "handshake_timeout"];
            let name = limit["name"].as_str().unwrap();
            assert!(fixed.contains(&name), "{name} has no option");
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
fn printed_limits_table_matches_the_json() {
    let table = Home::new().run(&["limits"]).good();
    let shown = limits();
    let names: BTreeSet<&str> = shown
        .iter()
        .map(|limit| limit["name"].as_str().unwrap())
        .collect();
    assert_eq!(names.len(), shown.len(), "a name is there twice");
    for limit in &shown {
        let has = |key: &str| limit[key].as_str().unwrap_or_default();
        // A line contains an empty text in any case.
        for key in ["what", "default", "then"] {
            assert!(!has(key).is_empty(), "{limit} has no {key}");
        }
        let line = table.lines().find(|line| {
            line.contains(has("what"))
                && line.contains(has("default"))
                && line.contains(has("then"))
        });
        let line = line.unwrap_or_else(|| panic!("no line for {limit} in:\n{table}"));
        assert!(line.contains(has("option")), "{line}");
    }
}
