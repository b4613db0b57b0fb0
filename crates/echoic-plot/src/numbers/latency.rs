//! Latencies over time: a heat map with the lines of p50 and p99.

use super::{
    Chart, Frame,
    axes::{Area, Log},
    path::Path,
};
use crate::units;

/// Height of a cell in pixels, about.
const CELL: f64 = 10.0;

/// Steps of the colour scale, from few to many.
const LEVELS: usize = 5;

/// Latencies of one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LatencyStep {
    /// Ranges of latencies in nanoseconds, each with the number of exchanges.
    pub counts: Vec<(u64, u64, u64)>,
    /// The latency that half of the exchanges do not exceed; `None` if there is no exchange.
    pub p50_ns: Option<u64>,
    /// The latency that 99 of 100 exchanges do not exceed.
    pub p99_ns: Option<u64>,
}

/// Draws latencies over time. A cell is darker the more exchanges it has.
pub fn latency(frame: &Frame, steps: &[LatencyStep]) -> Chart {
    let area = Area::new(frame);
    let all = || steps.iter().flat_map(|step| &step.counts);
    let low = all().map(|(from, ..)| *from).min().unwrap_or(10_000);
    let high = all().map(|(_, to, _)| *to).max().unwrap_or(10_000_000);
    let scale = Log::new(area, low as f64, high as f64);
    let mut body = String::new();
    scale.grid(&mut body);
    area.times(frame, &mut body);
    area.baseline(&mut body);
    heat(frame, &area, &scale, steps, &mut body);
    let line = |of: fn(&LatencyStep) -> Option<u64>| {
        let mut path = Path::new();
        for (n, step) in steps.iter().enumerate() {
            match of(step) {
                Some(ns) => {
                    let y = scale.y(ns as f64);
                    path.to(area.x(frame, n), y);
                    path.to(area.x(frame, n + 1), y);
                }
                None => path.lift(),
            }
        }
        path
    };
    let (p50, p99) = (line(|step| step.p50_ns), line(|step| step.p99_ns));
    p50.draw("halo", &mut body);
    p99.draw("halo", &mut body);
    p50.draw("l1", &mut body);
    p99.draw("l2", &mut body);
    Chart {
        width: frame.width,
        height: frame.height,
        name: "latency",
        title: "Latency",
        sentence: describe(frame, steps),
        body,
    }
}

fn heat(frame: &Frame, area: &Area, scale: &Log, steps: &[LatencyStep], body: &mut String) {
    let rows = (area.height() / CELL).floor().max(1.0) as usize;
    let row_height = area.height() / rows as f64;
    let columns: Vec<Vec<u64>> = steps.iter().map(|step| column(step, scale, rows)).collect();
    let most = columns.iter().flatten().copied().max().unwrap_or(0);
    let mut levels: [Path; LEVELS] = std::array::from_fn(|_| Path::new());
    for row in 0..rows {
        let level_at = |n: usize| columns.get(n).and_then(|column| level(column[row], most));
        let y = area.bottom - row_height * (row + 1) as f64;
        let mut n = 0;
        while n < columns.len() {
            let Some(level) = level_at(n) else {
                n += 1;
                continue;
            };
            // Neighbours of one level are one rectangle.
            let first = n;
            while level_at(n) == Some(level) {
                n += 1;
            }
            let (left, right) = (area.x(frame, first), area.x(frame, n));
            levels[level].rectangle(left, y, right - left, row_height);
        }
    }
    for (level, path) in levels.iter().enumerate() {
        path.draw(&format!("h{}", level + 1), body);
    }
}

/// Returns the number of exchanges in each row.
fn column(step: &LatencyStep, scale: &Log, rows: usize) -> Vec<u64> {
    let mut column = vec![0; rows];
    for (from, to, count) in &step.counts {
        let middle = *from as f64 + to.saturating_sub(*from) as f64 / 2.0;
        let row = (scale.share(middle) * rows as f64) as usize;
        column[row.min(rows - 1)] += count;
    }
    column
}

/// Returns the level of a count: by its root, so that few beside many are seen.
fn level(count: u64, most: u64) -> Option<usize> {
    if count == 0 {
        return None;
    }
    let share = (count as f64 / most.max(1) as f64).sqrt();
    Some(((share * LEVELS as f64).ceil() as usize).clamp(1, LEVELS) - 1)
}

fn describe(frame: &Frame, steps: &[LatencyStep]) -> String {
    let worst = steps.iter().enumerate().max_by_key(|(_, step)| step.p99_ns);
    let Some((worst, p99)) = worst.and_then(|(n, step)| Some((n, step.p99_ns?))) else {
        return "No exchanges in this time.".to_owned();
    };
    let mut medians: Vec<_> = steps.iter().filter_map(|step| step.p50_ns).collect();
    medians.sort_unstable();
    let time = |ns: Option<&u64>| units::time(ns.copied().unwrap_or(0) as f64 / 1e3);
    format!(
        "The median of a step is {} to {}; p99 was largest at {}, with {}.",
        time(medians.first()),
        time(medians.last()),
        frame.clock(worst),
        time(Some(&p99)),
    )
}
