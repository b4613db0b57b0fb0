//! Properties of all charts: valid XML without scripts or references, a description, deterministic output, and no
//! failure for any figures.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use echoic_plot::{
    Bounds, Line, OutcomeCount, Step, Svg, Tone, escaped, heat, latencies, outcomes, percentiles,
    rates, steps, style,
};
use proptest::prelude::*;

const SVG: &str = "http://www.w3.org/2000/svg";

/// A hostile name, as a peer or a command line might give it.
const HOSTILE: &str =
    "</text><script>alert(1)</script> \" onload='x' & $\\sum$ \u{1b}[2J \u{202e}\0 ]]>";

/// Panics unless the chart is an inert image.
fn check(chart: &Svg) {
    let text = chart.to_string();
    let document =
        roxmltree::Document::parse(&text).unwrap_or_else(|error| panic!("{error}:\n{text}"));
    let root = document.root_element();
    assert!(root.has_tag_name((SVG, "svg")));
    for node in document.descendants().filter(roxmltree::Node::is_element) {
        let name = node.tag_name().name();
        let allowed = [
            "svg", "title", "desc", "style", "defs", "clipPath", "g", "rect", "circle", "line",
            "polyline", "path", "text",
        ];
        assert!(allowed.contains(&name), "unexpected element <{name}>");
        for attribute in node.attributes() {
            let (name, value) = (attribute.name(), attribute.value());
            assert!(
                !name.starts_with("on") && !name.contains("href"),
                "{name}={value:?}"
            );
            let inner = value.replace(&format!("url(#{}-area)", chart.name()), "");
            assert!(!inner.contains("url("), "{name}={value:?} has a reference");
            assert!(
                !value.contains("NaN") && !value.contains("inf"),
                "{name}={value:?}"
            );
        }
        if name == "style" {
            assert_eq!(node.text().unwrap(), style());
        }
    }
    for (tag, text) in [("title", chart.title()), ("desc", chart.description())] {
        let element = root
            .children()
            .find(|node| node.has_tag_name((SVG, tag)))
            .unwrap();
        assert!(!text.is_empty());
        assert_eq!(element.text().unwrap_or_default(), xml_text(text));
        let id = element.attribute("id").unwrap();
        assert!(root.attribute("aria-labelledby").unwrap().contains(id));
    }
    assert!(
        chart.inline().len() < 512 << 10,
        "{} bytes",
        chart.inline().len()
    );
}

/// Returns a text as a reader of the XML gets it.
fn xml_text(text: &str) -> String {
    let wrapped = format!("<t>{}</t>", escaped(text));
    let parsed = roxmltree::Document::parse(&wrapped).unwrap();
    parsed.root_element().text().unwrap_or_default().to_owned()
}

fn line(name: &str, points: &[(f64, f64)]) -> Line {
    Line {
        name: name.to_owned(),
        tone: Tone::Main,
        points: points.to_vec(),
    }
}

/// Draws every chart of these figures.
fn all_charts(name: &str, points: &[(f64, f64)], counts: &[u64]) -> Vec<Svg> {
    let cells: Vec<_> = points
        .iter()
        .map(|point| point.1)
        .zip(counts.iter().copied())
        .collect();
    let trials = points.iter().map(|(asked, latency)| Step {
        asked: *asked,
        median_us: *latency / 2.0,
        judged_us: *latency,
        passed: *latency < 100.0,
    });
    let bounds = Bounds {
        judged: name.to_owned(),
        below_us: points.first().map(|point| point.1),
        found: points.last().map(|point| point.0),
    };
    let named = counts.iter().map(|count| OutcomeCount {
        name: "lost",
        count: *count,
        tone: Tone::Bad,
    });
    let charts = [
        rates(vec![line(name, points), line("asked", points)]),
        latencies(vec![line(name, points)]),
        percentiles(vec![line(name, points)]),
        heat(1.0, &[cells.clone(), vec![], cells]),
        steps(&trials.collect::<Vec<_>>(), &bounds),
        outcomes(
            counts.iter().fold(0, |total, count| total | count),
            7,
            &named.collect::<Vec<_>>(),
        ),
    ];
    charts.into_iter().flatten().collect()
}

const POINTS: [(f64, f64); 4] = [(0.0, 80.0), (0.5, 120.0), (0.9, 450.0), (0.999, 880_000.0)];

#[test]
fn every_chart_is_an_inert_image() {
    let charts = all_charts("from due", &POINTS, &[1, 20, 300, 4]);
    let names: Vec<_> = charts.iter().map(Svg::name).collect();
    assert_eq!(
        names,
        [
            "rate",
            "latency",
            "percentiles",
            "heat",
            "steps",
            "outcomes"
        ]
    );
    charts.iter().for_each(check);
}

#[test]
fn chart_names_are_escaped() {
    for chart in all_charts(HOSTILE, &POINTS, &[1, 20, 300, 4]) {
        check(&chart);
    }
    let chart = rates(vec![line(HOSTILE, &POINTS)]).unwrap().to_string();
    assert!(chart.contains("&lt;/text&gt;&lt;script&gt;alert(1)"));
    // Without escaping the name would be an element, so the check above can fail.
    let unguarded = chart.replace("&lt;", "<").replace("&gt;", ">");
    assert!(roxmltree::Document::parse(&unguarded).is_err());
}

#[test]
fn charts_are_deterministic() {
    let [one, two] = [(); 2].map(|()| all_charts("p99", &POINTS, &[1, 20, 300, 4]));
    assert_eq!(one, two);
    let texts = |charts: Vec<Svg>| charts.iter().map(Svg::to_string).collect::<Vec<_>>();
    assert_eq!(texts(one), texts(two));
}

#[test]
fn empty_data_gives_no_chart() {
    assert_eq!(all_charts("p99", &[], &[]), []);
    let none = [(f64::NAN, f64::INFINITY), (f64::NEG_INFINITY, -1.0)];
    assert_eq!(all_charts("p99", &none, &[0]), []);
}

#[test]
fn long_run_does_not_enlarge_the_chart() {
    let day: Vec<_> = (1..=86_400)
        .map(|second| (f64::from(second), 100.0))
        .collect();
    let slices = vec![(1..=200).map(|at| (f64::from(at) * 50.0, 9)).collect(); 86_400];
    for chart in [
        rates(vec![line("done", &day)]),
        latencies(vec![line("p99", &day)]),
        heat(1.0, &slices),
    ] {
        check(&chart.unwrap());
    }
}

#[test]
fn worst_second_survives_thinning() {
    let mut day: Vec<_> = (1..=86_400)
        .map(|second| (f64::from(second), 100.0))
        .collect();
    day[40_000].1 = 2e6;
    let chart = latencies(vec![line("max", &day)]).unwrap();
    assert!(
        chart.description().contains("2 s"),
        "{}",
        chart.description()
    );
}

#[test]
fn charts_have_colours_for_dark_pages() {
    let chart = rates(vec![line("done", &POINTS)]).unwrap();
    let (whole, part) = (chart.to_string(), chart.inline());
    assert!(whole.contains("prefers-color-scheme: dark"));
    assert!(
        !part.contains("<style"),
        "the page includes the style sheet"
    );
    let painted = whole.split("fill=\"#").chain(whole.split("stroke=\"#"));
    for colour in painted.skip(1).filter_map(|rest| rest.get(..6)) {
        assert!(
            colour.chars().any(|c| !c.is_ascii_hexdigit())
                || style().contains(&format!("\"#{colour}\"")),
            "#{colour} has no dark replacement"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_figures_can_be_drawn(
        name in "\\PC{0,80}|[\\x00-\\x1f$\\\\]{0,9}",
        points in prop::collection::vec((figure(), figure()), 0..20),
        counts in prop::collection::vec(prop_oneof![Just(0), Just(u64::MAX / 64), 0..1_000_u64], 0..20),
    ) {
        for chart in all_charts(&name, &points, &counts) {
            check(&chart);
        }
    }
}

fn figure() -> impl Strategy<Value = f64> {
    prop_oneof![
        0.0..1.0_f64,
        1.0..1e9_f64,
        prop::num::f64::ANY,
        Just(0.0),
        Just(f64::MIN_POSITIVE),
        Just(f64::MAX),
    ]
}
