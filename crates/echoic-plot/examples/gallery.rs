//! Every chart, from made-up figures, into a folder: `cargo run -p echoic-plot --example gallery -- FOLDER`.

#![allow(clippy::cast_sign_loss, reason = "made-up figures, all above zero")]

use std::{env, fs, io, path::PathBuf};

use echoic_plot::{
    Bounds, Fate, Line, Slice, Step, Svg, Tone, fates, heat, latencies, percentiles, rates, steps,
};

fn main() -> io::Result<()> {
    let folder = PathBuf::from(env::args().nth(1).unwrap_or_else(|| ".".to_owned()));
    for chart in charts() {
        let file = folder.join(chart.name()).with_extension("svg");
        fs::write(file, chart.to_string())?;
    }
    Ok(())
}

fn charts() -> Vec<Svg> {
    let frozen = |second: i32| second == 12;
    let rate = vec![
        line("asked", Tone::Quiet, |_| 20_000.0),
        line("done", Tone::Main, |second| match second {
            12 => 9_000.0,
            13 => 31_000.0,
            _ => 19_990.0,
        }),
    ];
    let latency = vec![
        line("p50", Tone::Main, |second| 110.0 + f64::from(second % 7)),
        line("p99", Tone::Other, move |second| {
            if frozen(second) { 880e3 } else { 410.0 }
        }),
        line("max", Tone::Quiet, move |second| {
            if frozen(second) { 1e6 } else { 2_700.0 }
        }),
    ];
    let fate = |name, count, tone| Fate { name, count, tone };
    let bounds = Bounds {
        judged: "p99".to_owned(),
        below_us: Some(5_000.0),
        found: Some(93_400.0),
    };
    let all = [
        rates(rate),
        latencies(latency),
        percentiles(vec![
            curve("from due", Tone::Main, 4.5),
            curve("from sent", Tone::Other, 7.0),
        ]),
        heat(1.0, &(0..30).map(slice).collect::<Vec<_>>()),
        steps(&trials(), &bounds),
        fates(
            500_000,
            499_209,
            &[
                fate("lost", 771, Tone::Bad),
                fate("late", 17, Tone::Other),
                fate("duplicate", 0, Tone::Other),
                fate("reordered", 3, Tone::Other),
            ],
        ),
    ];
    all.into_iter().flatten().collect()
}

fn line(name: &str, tone: Tone, value: impl Fn(i32) -> f64) -> Line {
    Line {
        name: name.to_owned(),
        tone,
        points: (1..=30)
            .map(|second| (f64::from(second), value(second)))
            .collect(),
    }
}

fn curve(name: &str, tone: Tone, slope: f64) -> Line {
    let point = |halves: f64| {
        (
            1.0 - 0.5_f64.powf(halves),
            100.0 + 2_f64.powf(halves * 4.0 / slope),
        )
    };
    Line {
        name: name.to_owned(),
        tone,
        points: (0..60).map(|at| point(f64::from(at) / 4.0)).collect(),
    }
}

fn slice(second: i32) -> Slice {
    let spread = (1..=40).map(|at| {
        let distance = f64::from(at - 8) / 4.0;
        let count = 3_000.0 * (-distance * distance / 4.0).exp();
        (60.0 * f64::from(at).powf(0.6), count.round() as u64)
    });
    let late = (1..=20).map(|at| (f64::from(at) * 45e3, if second == 12 { 90 } else { 0 }));
    spread.chain(late).collect()
}

fn trials() -> [Step; 8] {
    let trial = |asked, median_us, judged_us, passed| Step {
        asked,
        median_us,
        judged_us,
        passed,
    };
    [
        trial(4_000.0, 110.0, 260.0, true),
        trial(8_000.0, 120.0, 300.0, true),
        trial(16_000.0, 150.0, 600.0, true),
        trial(32_000.0, 200.0, 900.0, true),
        trial(64_000.0, 310.0, 1_900.0, true),
        trial(93_400.0, 700.0, 4_610.0, true),
        trial(107_600.0, 50e3, 100e3, false),
        trial(128_000.0, 412e3, 880e3, false),
    ]
}
