//! Charts for a terminal: lines of text with block characters, without colours or control sequences.

use crate::units;

const EIGHTHS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The scale of heights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Height {
    /// Linear, from zero to the maximum.
    Linear,
    /// Logarithmic, from the minimum to the maximum: for latencies, which have outliers.
    Log,
}

/// Draws the last `width` values, one character each: `▂▂▂▃▂▇▂▂`. A value that is not finite is a gap.
pub fn sparkline(values: &[f64], width: usize, height: Height) -> String {
    let values = &values[values.len().saturating_sub(width)..];
    let scaled = |value: f64| match height {
        Height::Linear => value.max(0.0),
        Height::Log => value.max(f64::MIN_POSITIVE).ln(),
    };
    let finite = || values.iter().copied().filter(|value| value.is_finite());
    let high = finite().map(scaled).fold(f64::NEG_INFINITY, f64::max);
    let low = match height {
        Height::Linear => 0.0,
        Height::Log => finite().map(scaled).fold(f64::INFINITY, f64::min),
    };
    let character = |value: &f64| {
        if !value.is_finite() {
            return ' ';
        }
        let share = (scaled(*value) - low) / (high - low);
        // Equal values divide zero by zero (all zero, or on the logarithmic scale): draw the lowest character.
        let share = if share.is_finite() { share } else { 0.0 };
        EIGHTHS[(share * 7.0).round().clamp(0.0, 7.0) as usize]
    };
    values.iter().map(character).collect()
}

/// Draws a histogram of latencies, one line a bucket: its lower bound, a bar, and its share in percent. `cells` are
/// microseconds and counts, in any order. The last bucket has all latencies above the 99.9th percentile.
pub fn histogram(cells: &[(f64, u64)], rows: usize, width: usize) -> Vec<String> {
    let mut cells: Vec<_> = cells.to_vec();
    cells.retain(|(micros, count)| micros.is_finite() && *micros > 0.0 && *count > 0);
    cells.sort_by(|a, b| a.0.total_cmp(&b.0));
    let Some((low, _)) = cells.first().copied() else {
        return Vec::new();
    };
    let total: u64 = cells.iter().map(|cell| cell.1).sum();
    let high = quantile(&cells, total, 0.999).max(low * 1.001);
    let rows = rows.max(2);
    let step = (high / low).ln() / (rows - 1) as f64;
    let mut counts = vec![0_u64; rows];
    for (micros, count) in &cells {
        let row = ((micros / low).ln() / step) as usize;
        counts[row.min(rows - 1)] += count;
    }
    let max = counts.iter().copied().max().unwrap_or(1).max(1);
    let lines = counts.iter().enumerate().map(|(row, count)| {
        let bound = units::time(low * (step * row as f64).exp());
        let more = if row + 1 == rows { "+" } else { " " };
        let bar = bar(*count as f64 / max as f64, width);
        let share = *count as f64 / total as f64 * 100.0;
        format!("{bound:>8}{more} ▏{bar:<width$}│ {share:5.1} %")
    });
    lines.collect()
}

/// Draws percentiles as bars on a logarithmic scale, with their values: `p99  ┤██████▏ 1.9 ms`.
pub fn percentiles(named: &[(&str, f64)], width: usize) -> Vec<String> {
    let drawable = || {
        named
            .iter()
            .filter(|(_, micros)| micros.is_finite() && *micros > 0.0)
    };
    let high = drawable().map(|named| named.1).fold(0.0, f64::max);
    // The scale starts at a tenth of the minimum, so that the minimum has a bar.
    let low = drawable().map(|named| named.1).fold(high, f64::min) / 10.0;
    let name_width = named.iter().map(|(name, _)| name.chars().count()).max();
    let name_width = name_width.unwrap_or(0);
    let lines = drawable().map(|(name, micros)| {
        let share = (micros / low).ln() / (high / low).ln();
        let bar = bar(share, width);
        let value = units::time(*micros);
        format!("{name:>name_width$} ┤{bar:<width$} {value}")
    });
    lines.collect()
}

/// Draws a bar of a share of `width` characters, rounded to an eighth, and at least an eighth if it is not zero.
fn bar(share: f64, width: usize) -> String {
    let eighths = (share.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
    let eighths = if share > 0.0 { eighths.max(1) } else { 0 };
    let mut bar = "█".repeat(eighths / 8);
    let rest = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    bar.push_str(rest[eighths % 8]);
    bar
}

fn quantile(sorted: &[(f64, u64)], total: u64, share: f64) -> f64 {
    let rank = (total as f64 * share).ceil() as u64;
    let mut cumulated = 0;
    for (micros, count) in sorted {
        cumulated += count;
        if cumulated >= rank {
            return *micros;
        }
    }
    sorted.last().map_or(0.0, |cell| cell.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparkline_shows_the_last_values() {
        let up: Vec<f64> = (0..8).map(f64::from).collect();
        assert_eq!(sparkline(&up, 8, Height::Linear), "▁▂▃▄▅▆▇█");
        assert_eq!(sparkline(&up, 3, Height::Linear), "▆▇█");
        assert_eq!(sparkline(&[1.0, f64::NAN, 1000.0], 8, Height::Log), "▁ █");
        assert_eq!(sparkline(&[7.0, 7.0], 8, Height::Linear), "██");
        assert_eq!(sparkline(&[0.0, 0.0], 8, Height::Linear), "▁▁");
        assert_eq!(sparkline(&[7.0, 7.0], 8, Height::Log), "▁▁");
        assert_eq!(sparkline(&[], 8, Height::Linear), "");
    }

    #[test]
    fn histogram_counts_every_value_once() {
        let cells = [(100.0, 900), (200.0, 99), (90_000.0, 1)];
        let lines = histogram(&cells, 8, 20);
        assert_eq!(lines.len(), 8);
        assert_eq!(lines[0], "  100 µs  ▏████████████████████│  90.0 %");
        assert_eq!(lines[7], "  200 µs+ ▏██▎                 │  10.0 %");
        let shares = lines.iter().map(|line| {
            let share = line.rsplit('│').next().unwrap().trim_end_matches('%');
            share.trim().parse::<f64>().unwrap()
        });
        assert!((shares.sum::<f64>() - 100.0).abs() < 0.5);
        assert_eq!(histogram(&[], 8, 20), Vec::<String>::new());
        assert_eq!(histogram(&[(5.0, 1)], 4, 4).len(), 4);
    }

    #[test]
    fn percentile_bars_are_logarithmic() {
        let lines = percentiles(&[("p50", 100.0), ("p99", 1_000.0), ("max", f64::NAN)], 10);
        assert_eq!(lines, ["p50 ┤█████      100 µs", "p99 ┤██████████ 1 ms"]);
    }
}
