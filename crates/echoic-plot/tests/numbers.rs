//! Properties of the console's charts for any figures: well formed, inert, within their size, the same figures the same bytes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use echoic_plot::numbers::{
    Chart, ExchangeStep, Frame, LatencyStep, OpenStep, Quantile, conversations, exchanges, latency,
    percentiles,
};
use proptest::prelude::*;

/// Panics unless the chart leaves its style to the page, and has finite numbers alone.
fn check(chart: &Chart) {
    let text = chart.to_string();
    let document =
        roxmltree::Document::parse(&text).unwrap_or_else(|error| panic!("{error}:\n{text}"));
    assert!(!chart.sentence().is_empty() && chart.sentence().ends_with('.'));
    for node in document.descendants().filter(roxmltree::Node::is_element) {
        let name = node.tag_name().name();
        let allowed = ["svg", "title", "desc", "path", "text", "circle"];
        assert!(allowed.contains(&name), "{name}");
        for attribute in node.attributes() {
            let allowed = [
                "class",
                "viewBox",
                "width",
                "height",
                "role",
                "aria-labelledby",
                "id",
                "d",
                "x",
                "y",
                "cx",
                "cy",
                "r",
                "fill",
                "text-anchor",
            ];
            assert!(allowed.contains(&attribute.name()), "{}", attribute.name());
            if ["d", "x", "y", "cx", "cy"].contains(&attribute.name()) {
                let value = attribute.value();
                assert!(!value.contains("NaN") && !value.contains("inf"), "{value}");
            }
        }
    }
}

fn frame(steps: usize, step_us: i64, (width, height): (u32, u32), from_us: i64) -> Frame {
    Frame {
        width,
        height,
        from_us,
        step_us,
        steps,
        now_us: i64::MAX,
        offset_s: 3600,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn charts_are_inert_for_any_figures(
        counts in prop::collection::vec((any::<u32>(), any::<u32>()), 0..40),
        ns in prop::collection::vec((any::<u64>(), 0..1000_u64), 0..40),
        step_us in 1..90_000_000_000_i64,
        size in (160..4000_u32, 80..2000_u32),
        from_us in 0..(1_i64 << 53),
    ) {
        let frame_of = |steps| frame(steps, step_us, size, from_us);
        let steps: Vec<_> = counts
            .iter()
            .map(|(all, failed)| ExchangeStep { exchanges: u64::from(*all), failed: u64::from(*failed.min(all)) })
            .collect();
        let chart = exchanges(&frame_of(steps.len()), &steps);
        check(&chart);
        prop_assert_eq!(&chart, &exchanges(&frame_of(steps.len()), &steps));
        let steps: Vec<_> = counts
            .iter()
            .map(|(open, other)| {
                (other % 3 > 0).then_some(OpenStep { open: u64::from(*open), opened: 1, ended: 2, reset: u64::from(*other) })
            })
            .collect();
        check(&conversations(&frame_of(steps.len()), &steps));
        let steps: Vec<_> = ns
            .iter()
            .map(|(ns, count)| LatencyStep {
                counts: vec![(*ns, ns.saturating_add(ns / 16 + 1), *count)],
                p50_ns: (*count > 0).then_some(*ns),
                p99_ns: (*count > 0).then_some(*ns),
            })
            .collect();
        check(&latency(&frame_of(steps.len()), &steps));
        let mut all: Vec<_> = ns.iter().map(|(ns, _)| *ns).collect();
        all.sort_unstable();
        let quantiles: Vec<_> = all
            .iter()
            .enumerate()
            .map(|(n, ns)| Quantile { part: n as f64 / all.len() as f64, ns: *ns })
            .collect();
        check(&percentiles(&frame_of(1), all.len() as u64, &quantiles));
    }
}

#[test]
fn sentence_says_when_most_were_not_answered() {
    let mut steps = [ExchangeStep {
        exchanges: 100,
        failed: 0,
    }; 30];
    steps[3].failed = 12;
    // 2026-11-29 11:00:00 UTC.
    let frame = frame(30, 10_000_000, (600, 180), 1_795_950_000_000_000);
    let chart = exchanges(&frame, &steps);
    assert_eq!(
        chart.sentence(),
        "10 a second on average, at most 10 at 12:04:50; 12 of 3,000 were not answered, most of them at 12:00:30."
    );
    assert!(chart.to_string().contains("class=\"badfill\""));
    let nothing = exchanges(&frame, &[]);
    assert_eq!(nothing.sentence(), "No exchanges in this time.");
}

#[test]
fn few_exchanges_tell_no_high_percentile() {
    let frame = frame(30, 10_000_000, (600, 180), 1_795_950_000_000_000);
    let known = [(0.5, 52_000), (0.9, 84_000), (0.95, 1_000_000)];
    let quantiles = known.map(|(part, ns)| Quantile { part, ns });
    let chart = percentiles(&frame, 10, &quantiles);
    assert_eq!(
        chart.sentence(),
        "Of 10 exchanges half are answered within 52 µs, 90 % within 84 µs, and all within 1 ms."
    );
    let labels = [">p50</text>", ">max</text>"];
    let text = chart.to_string();
    assert!(labels.iter().all(|label| text.contains(label)), "{text}");
}

#[test]
fn step_that_is_not_over_is_no_fall() {
    let steps = [ExchangeStep {
        exchanges: 100,
        failed: 0,
    }; 4];
    let mut frame = frame(4, 10_000_000, (600, 180), 1_795_950_000_000_000);
    assert!(
        !exchanges(&frame, &steps)
            .to_string()
            .contains("class=\"h1\"")
    );
    frame.now_us = frame.from_us + 30_000_000;
    let begun = ExchangeStep {
        exchanges: 0,
        failed: 0,
    };
    let chart = exchanges(&frame, &[steps[0], steps[1], steps[2], begun]);
    assert!(
        chart.sentence().starts_with("10 a second on average"),
        "{}",
        chart.sentence()
    );
    let edge = |chart: &Chart| {
        let text = chart.to_string();
        let (_, edge) = text.split_once("class=\"edge\" d=\"").unwrap();
        edge.split_once('"').unwrap().0.matches('L').count()
    };
    assert_eq!(edge(&chart), 5, "three steps have an edge");
    let chart = exchanges(&frame, &steps);
    assert!(
        chart.to_string().contains("class=\"h1\""),
        "the bar is pale"
    );
}

#[test]
fn unknown_steps_of_open_conversations_are_left_empty() {
    let frame = frame(4, 10_000_000, (600, 180), 1_795_950_000_000_000);
    let known = Some(OpenStep {
        open: 3,
        opened: 1,
        ..OpenStep::default()
    });
    let part = conversations(&frame, &[None, None, known, known]);
    assert_eq!(
        part.sentence(),
        "3 open at the end; 2 opened and 0 ended, 0 of them by a reset. \
         There are too many conversations to tell how many were open before."
    );
    // The middle of the area, which is 60 to 592 pixels wide.
    assert!(
        part.to_string().contains("class=\"edge\" d=\"M326 "),
        "{part}"
    );
    let none = conversations(&frame, &[None; 4]);
    assert!(!none.to_string().contains("class=\"area\""));
    assert!(none.sentence().starts_with("There are too many"));
}
