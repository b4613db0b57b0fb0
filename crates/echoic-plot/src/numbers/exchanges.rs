//! Exchanges a second, those without a reply apart.

use super::{
    Chart, Frame,
    axes::{Area, Linear},
    path::Path,
};
use crate::units;

/// Exchanges of one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExchangeStep {
    /// Number of all exchanges.
    pub exchanges: u64,
    /// Number of those whose request was not answered, or whose reply was not sent.
    pub failed: u64,
}

/// Draws exchanges a second: a bar for each step, with its failed part at the bottom. The bar of a step that is not over is pale and
/// has no edge: it would look like a fall.
pub fn exchanges(frame: &Frame, steps: &[ExchangeStep]) -> Chart {
    let area = Area::new(frame);
    let rate = |count: u64| count as f64 / frame.step_s();
    let most = steps.iter().map(|step| step.exchanges).max().unwrap_or(0);
    let scale = Linear::new(area, rate(most));
    let mut body = String::new();
    scale.grid(false, &mut body);
    area.times(frame, &mut body);
    area.baseline(&mut body);

    let (mut bars, mut edge, mut failed) = (Path::new(), Path::new(), Path::new());
    let mut growing = Path::new();
    let over = frame.steps_over();
    for (n, step) in steps.iter().enumerate() {
        let (left, right) = (area.x(frame, n), area.x(frame, n + 1));
        let y = scale.y(rate(step.exchanges));
        if step.exchanges > 0 {
            let bars = if n < over { &mut bars } else { &mut growing };
            bars.rectangle(left, y, right - left, area.bottom - y);
        }
        if n < over {
            edge.to(left, y);
            edge.to(right, y);
        }
        if step.failed > 0 {
            // A single one is seen, too.
            let height = (area.bottom - scale.y(rate(step.failed))).max(3.0);
            failed.rectangle(left, area.bottom - height, right - left, height);
        }
    }
    bars.draw("area", &mut body);
    growing.draw("h1", &mut body);
    edge.draw("edge", &mut body);
    failed.draw("badfill", &mut body);
    Chart {
        width: frame.width,
        height: frame.height,
        name: "exchanges",
        title: "Exchanges a second",
        sentence: describe(frame, steps),
        body,
    }
}

fn describe(frame: &Frame, steps: &[ExchangeStep]) -> String {
    let all: u64 = steps.iter().map(|step| step.exchanges).sum();
    let failed: u64 = steps.iter().map(|step| step.failed).sum();
    if all == 0 {
        return "No exchanges in this time.".to_owned();
    }
    let average = all as f64 / frame.passed_s();
    let peak = steps
        .iter()
        .enumerate()
        .max_by_key(|(_, step)| step.exchanges);
    let (peak, most) = peak.map_or((0, 0), |(n, step)| (n, step.exchanges));
    let figures = format!(
        "{} a second on average, at most {} at {}",
        units::count(average),
        units::count(most as f64 / frame.step_s()),
        frame.clock(peak),
    );
    if failed == 0 {
        return format!("{figures}; all {} were answered.", units::whole(all));
    }
    let worst = steps.iter().enumerate().max_by_key(|(_, step)| step.failed);
    let worst = frame.clock(worst.map_or(0, |(n, _)| n));
    format!(
        "{figures}; {} of {} were not answered, most of them at {worst}.",
        units::whole(failed),
        units::whole(all)
    )
}
