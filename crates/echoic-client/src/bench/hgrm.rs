//! The `.hgrm` text format of histograms, which other tools plot.

use std::fmt::Write;

use hdrhistogram::Histogram;

/// Percentile steps per halving of the remaining distance to 100 %, as other writers of the format use.
const STEPS_PER_HALVING: u32 = 5;
const NANOS_PER_MILLI: f64 = 1e6;

/// Formats the percentiles of a histogram of nanoseconds in the four columns of HdrHistogram's plotter, wrk2 and vegeta;
/// values are milliseconds. The format is that of `outputPercentileDistribution` in HdrHistogram's Java library.
pub fn hgrm(of: &Histogram<u64>) -> String {
    let mut text = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    let mut seen = 0;
    for step in of.iter_quantiles(STEPS_PER_HALVING) {
        seen += step.count_since_last_iteration();
        let value = step.value_iterated_to() as f64 / NANOS_PER_MILLI;
        let quantile = step.quantile_iterated_to();
        let _ = write!(text, "{value:12.6} {quantile:1.12} {seen:10}");
        let _ = match quantile {
            1.0.. => writeln!(text),
            _ => writeln!(text, " {:14.2}", 1.0 / (1.0 - quantile)),
        };
    }
    let [mean, spread] = [of.mean(), of.stdev()].map(|nanos| nanos / NANOS_PER_MILLI);
    let max = of.max() as f64 / NANOS_PER_MILLI;
    let parts = 2 * 10_u64.pow(of.sigfig().into());
    let _ = write!(
        text,
        "#[Mean    = {mean:12.3}, StdDeviation   = {spread:12.3}]\n\
         #[Max     = {max:12.3}, Total count    = {count:12}]\n\
         #[Buckets = {buckets:12}, SubBuckets     = {parts:12}]\n",
        count = of.len(),
        buckets = of.buckets(),
        parts = parts.next_power_of_two(),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses the text as the plotters do: rows of numbers, without the header and the lines that start with `#`.
    fn read(text: &str) -> Vec<Vec<f64>> {
        let lines = text.lines().skip(1);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines
            .map(|line| {
                line.split_whitespace()
                    .map(|word| word.parse().unwrap())
                    .collect()
            })
            .collect()
    }

    #[test]
    fn hgrm_columns_can_be_read_back() {
        let mut of = super::super::figures::latencies();
        for micros in 1..=10_000_u64 {
            of.record(micros * 1_000).unwrap();
        }
        of.record(880_000_000).unwrap();
        let text = hgrm(&of);
        let head: Vec<_> = text.lines().next().unwrap().split_whitespace().collect();
        assert_eq!(
            head,
            ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]
        );
        let rows = read(&text);
        let (last, rows) = rows.split_last().unwrap();
        assert_eq!(last.len(), 3, "the last row has no fourth column: {last:?}");
        assert_eq!((last[1], last[2]), (1.0, 10_001.0));
        assert!((last[0] - 880.0).abs() < 1.0, "{last:?}");
        for row in rows {
            let [value, quantile, count, tail] = row[..] else {
                panic!("{row:?}")
            };
            #[allow(clippy::cast_sign_loss, reason = "a latency is not below zero")]
            let within = of.count_between(0, (value * 1e6).round() as u64);
            assert!((count - within as f64).abs() < 0.5, "{row:?}");
            assert!((tail * (1.0 - quantile) - 1.0).abs() < 0.01, "{row:?}");
        }
        let ascending = |rows: &[Vec<f64>]| rows.is_sorted_by(|a, b| a[0] <= b[0] && a[1] <= b[1]);
        assert!(ascending(rows));
        let closing: Vec<_> = text.lines().rev().take(3).collect();
        assert_eq!(
            closing[1],
            "#[Max     =      880.280, Total count    =        10001]"
        );
        assert!(closing[0].starts_with("#[Buckets =           ") && closing[0].ends_with("2048]"));
        assert!(closing[2].starts_with("#[Mean    =        5.088, StdDeviation   ="));
    }

    #[test]
    fn empty_histogram_has_no_rows() {
        let text = hgrm(&super::super::figures::latencies());
        assert_eq!(read(&text), Vec::<Vec<f64>>::new());
        assert!(text.contains("Total count    =            0]"));
    }
}
