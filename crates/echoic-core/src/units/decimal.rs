//! Decimal numbers, read exactly: no exponent, no sign, no infinity.

use super::error::Why;

/// Digits after the point that are read; more is no number anybody types.
const FRACTION_DIGITS_MAX: usize = 19;

/// More than any amount can be, and small enough to be multiplied by every unit.
const WHOLE_MAX: u128 = 1 << 64;

/// A number as it was typed: `1`, `1.5` or `.5`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decimal {
    /// Digits before the point; [`WHOLE_MAX`] stands for all above it.
    whole: u128,
    /// Digits after the point, as a number.
    fraction: u128,
    /// How many those are.
    pub(super) fraction_digits: u32,
}

impl Decimal {
    /// The number at the front of a text, and what follows it.
    pub(super) fn split(text: &str) -> Option<(Self, &str)> {
        let is_part = |c: char| c.is_ascii_digit() || c == '.';
        let (number, rest) = text.split_at(text.find(|c| !is_part(c)).unwrap_or(text.len()));
        let (whole, fraction) = match number.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (number, None),
        };
        let digits = |text: &str| text.bytes().all(|digit| digit.is_ascii_digit());
        let has_digits = match fraction {
            Some(fraction) => !fraction.is_empty() && fraction.len() <= FRACTION_DIGITS_MAX,
            None => !whole.is_empty(),
        };
        let fraction = fraction.unwrap_or("");
        if !has_digits || !digits(fraction) {
            return None;
        }
        let value = |text: &str| {
            text.bytes().fold(0_u128, |sum, digit| {
                (sum * 10 + u128::from(digit - b'0')).min(WHOLE_MAX)
            })
        };
        let number = Self {
            whole: value(whole),
            fraction: value(fraction),
            fraction_digits: fraction.len() as u32,
        };
        Some((number, rest))
    }

    /// The number in units of `factor`, to the nearest whole. What is not 0 does not become 0, and a whole is the
    /// smallest there is: `1.5` bytes are none.
    pub(super) fn times(self, factor: u64, smallest: &'static str) -> Result<u64, Why> {
        let (product, left, scale) = self.product(factor);
        let rounded = product + u128::from(left * 2 >= scale);
        if left > 0 && (factor == 1 || rounded == 0) {
            return Err(Why::Fraction(smallest));
        }
        u64::try_from(rounded).map_err(|_| Why::TooLarge)
    }

    /// The same where nothing is rounded.
    pub(super) fn times_exactly(self, factor: u64) -> Result<u64, Why> {
        match self.product(factor) {
            (product, 0, _) => u64::try_from(product).map_err(|_| Why::TooLarge),
            _ => Err(Why::Expected("a whole number")),
        }
    }

    /// The whole part of the product, and its fraction as a numerator and a denominator.
    fn product(self, factor: u64) -> (u128, u128, u128) {
        let scale = 10_u128.pow(self.fraction_digits);
        let fraction = self.fraction * u128::from(factor);
        let whole = self.whole * u128::from(factor);
        (whole + fraction / scale, fraction % scale, scale)
    }
}

/// A number written as digits, optionally with a decimal point.
pub fn decimal(text: &str) -> Option<f64> {
    match Decimal::split(text) {
        Some((_, "")) => text.parse().ok(),
        _ => None,
    }
}
