//! Charts of a terminal: block characters in lines of text, no colours, no control sequences.

use crate::units;

const EIGHTHS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// How heights come of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Height {
    /// From zero to the highest.
    Even,
    /// From the lowest to the highest by powers: for latencies, of which a few are far out.
    Tenfold,
}

/// One character a value, the last `width` of them; what is no number is a gap: `▂▂▂▃▂▇▂▂`.
pub fn sparkline(values: &[f64], width: usize, height: Height) -> String {
    let values = &values[values.len().saturating_sub(width)..];
    let measure = |value: f64| match height {
        Height::Even => value.max(0.0),
        Height::Tenfold => value.max(f64::MIN_POSITIVE).ln(),
    };
    let finite = || values.iter().copied().filter(|value| value.is_finite());
    let high = finite().map(measure).fold(f64::NEG_INFINITY, f64::max);
    let low = match height {
        Height::Even => 0.0,
        Height::Tenfold => finite().map(measure).fold(f64::INFINITY, f64::min),
    };
    let character = |value: &f64| {
        if !value.is_finite() {
            return ' ';
        }
        let share = (measure(*value) - low) / (high - low);
        // All alike: the lowest that is seen, unless it is from zero, where alike means all highest.
        let share = if share.is_finite() { share } else { 0.0 };
        EIGHTHS[(share * 7.0).round().clamp(0.0, 7.0) as usize]
    };
    values.iter().map(character).collect()
}

/// How latencies are spread, one line a step: its lower bound, a bar, and the share of all in percent.
/// `cells` are microseconds and counts, in any order. The last line takes all that is further out than 999 of 1,000.
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
    let most = counts.iter().copied().max().unwrap_or(1).max(1);
    let lines = counts.iter().enumerate().map(|(row, count)| {
        let bound = units::time(low * (step * row as f64).exp());
        let more = if row + 1 == rows { "+" } else { " " };
        let bar = bar(*count as f64 / most as f64, width);
        let share = *count as f64 / total as f64 * 100.0;
        format!("{bound:>8}{more} ▏{bar:<width$}│ {share:5.1} %")
    });
    lines.collect()
}

/// Percentiles as bars by powers, with their values: `p99  ┤██████▏ 1.9 ms`.
pub fn percentiles(named: &[(&str, f64)], width: usize) -> Vec<String> {
    let known = || {
        named
            .iter()
            .filter(|(_, micros)| micros.is_finite() && *micros > 0.0)
    };
    let high = known().map(|named| named.1).fold(0.0, f64::max);
    // A tenth of the lowest has no bar, so that the lowest has one.
    let low = known().map(|named| named.1).fold(high, f64::min) / 10.0;
    let name_width = named.iter().map(|(name, _)| name.chars().count()).max();
    let name_width = name_width.unwrap_or(0);
    let lines = known().map(|(name, micros)| {
        let share = (micros / low).ln() / (high / low).ln();
        let bar = bar(share, width);
        let value = units::time(*micros);
        format!("{name:>name_width$} ┤{bar:<width$} {value}")
    });
    lines.collect()
}

/// A bar of a share of `width` characters, to an eighth of one. What is not zero is seen.
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
    let mut seen = 0;
    for (micros, count) in sorted {
        seen += count;
        if seen >= rank {
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
        assert_eq!(sparkline(&up, 8, Height::Even), "▁▂▃▄▅▆▇█");
        assert_eq!(sparkline(&up, 3, Height::Even), "▆▇█");
        assert_eq!(
            sparkline(&[1.0, f64::NAN, 1000.0], 8, Height::Tenfold),
            "▁ █"
        );
        assert_eq!(sparkline(&[7.0, 7.0], 8, Height::Even), "██");
        assert_eq!(sparkline(&[0.0, 0.0], 8, Height::Even), "▁▁");
        assert_eq!(sparkline(&[7.0, 7.0], 8, Height::Tenfold), "▁▁");
        assert_eq!(sparkline(&[], 8, Height::Even), "");
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
