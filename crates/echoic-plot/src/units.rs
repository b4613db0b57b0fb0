//! Formats figures for people: short, with a unit.

/// Formats a time in microseconds with a suitable unit: `82 µs`, `1.2 ms`, `3 s`.
pub fn time(micros: f64) -> String {
    let (value, unit) = match micros {
        value if !value.is_finite() => return "–".to_owned(),
        value if value < 1.0 && value > 0.0 => (value * 1e3, "ns"),
        value if value < 999.5 => (value, "µs"),
        value if value < 999.5e3 => (value / 1e3, "ms"),
        value => (value / 1e6, "s"),
    };
    format!("{} {unit}", short(value))
}

/// Formats a number with an SI suffix: `950`, `20k`, `1.25M`.
pub fn count(value: f64) -> String {
    let (value, suffix) = match value.abs() {
        size if !size.is_finite() => return "–".to_owned(),
        size if size < 999.5 => (value, ""),
        size if size < 999.5e3 => (value / 1e3, "k"),
        size if size < 999.5e6 => (value / 1e6, "M"),
        _ => (value / 1e9, "G"),
    };
    format!("{}{suffix}", short(value))
}

/// Formats an integer with separated thousands: `1,234,567`.
pub fn whole(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats a share of one in percent, with enough digits to distinguish nearly all from all and little from none:
/// `99.842 %`, `13.29 %`, `0.0021 %`.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let text = match percent.abs() {
        size if !size.is_finite() => return "–".to_owned(),
        size if size == 0.0 || (size - 100.0).abs() < 1e-9 => format!("{percent:.0}"),
        size if (1.0..99.0).contains(&size) => trim_zeros(&format!("{percent:.2}")),
        size if size >= 0.01 => trim_zeros(&format!("{percent:.3}")),
        size => {
            let digits = (1.0 - size.log10().floor()).clamp(3.0, 12.0) as usize;
            trim_zeros(&format!("{percent:.digits$}"))
        }
    };
    format!("{text} %")
}

/// Formats with three significant digits, without trailing zeros.
fn short(value: f64) -> String {
    let text = match value.abs() {
        size if size >= 99.95 => return format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    };
    trim_zeros(&text)
}

fn trim_zeros(text: &str) -> String {
    let text = text.trim_end_matches('0').trim_end_matches('.');
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_print_short_with_a_unit() {
        assert_eq!(time(0.0), "0 µs");
        assert_eq!(time(0.25), "250 ns");
        assert_eq!(time(82.0), "82 µs");
        assert_eq!(time(999.9), "1 ms");
        assert_eq!(time(1_234.0), "1.23 ms");
        assert_eq!(time(880_000.0), "880 ms");
        assert_eq!(time(61_000_000.0), "61 s");
        assert_eq!(time(f64::NAN), "–");
        assert_eq!(count(0.0), "0");
        assert_eq!(count(950.0), "950");
        assert_eq!(count(20_000.0), "20k");
        assert_eq!(count(93_400.0), "93.4k");
        assert_eq!(count(999_960.0), "1M");
        assert_eq!(count(1.25e6), "1.25M");
        assert_eq!(whole(7), "7");
        assert_eq!(whole(1_234_567), "1,234,567");
        assert_eq!(percent(0.0), "0 %");
        assert_eq!(percent(1.0), "100 %");
        assert_eq!(percent(0.132_88), "13.29 %");
        assert_eq!(percent(0.998_424), "99.842 %");
        assert_eq!(percent(0.000_02), "0.002 %");
    }
}
