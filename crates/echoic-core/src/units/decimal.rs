//! Decimal numbers, parsed exactly: no exponent, no sign, no infinity.

use super::error::Why;

/// Most digits after the point, so that the fraction times any unit fits into 128 bits.
const FRACTION_DIGITS_MAX: usize = 19;

/// Larger than any amount, and small enough to be multiplied by every unit in 128 bits.
const WHOLE_MAX: u128 = 1 << 64;

/// A decimal number: `1`, `1.5` or `.5`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decimal {
    /// Digits before the point as a number, at most [`WHOLE_MAX`].
    whole: u128,
    /// Digits after the point as a number.
    fraction: u128,
    /// Number of digits after the point.
    pub(super) fraction_digits: u32,
}

impl Decimal {
    /// Splits a text into the number at its start and the rest.
    pub(super) fn split(text: &str) -> Option<(Self, &str)> {
        let is_part = |c: char| c.is_ascii_digit() || c == '.';
        let (number, rest) = text.split_at(text.find(|c| !is_part(c)).unwrap_or(text.len()));
        let (whole, fraction) = match number.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (number, None),
        };
        let are_digits = |text: &str| text.bytes().all(|digit| digit.is_ascii_digit());
        let has_digits = match fraction {
            Some(fraction) => !fraction.is_empty() && fraction.len() <= FRACTION_DIGITS_MAX,
            None => !whole.is_empty(),
        };
        let fraction = fraction.unwrap_or("");
        if !has_digits || !are_digits(fraction) {
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

    /// Multiplies by `factor` and rounds to the nearest integer. Fails for a fraction of the smallest unit, such as
    /// `1.5` bytes, and if a number other than 0 would become 0.
    pub(super) fn times(self, factor: u64, smallest: &'static str) -> Result<u64, Why> {
        let (product, remainder, scale) = self.product(factor);
        let rounded = product + u128::from(remainder * 2 >= scale);
        if remainder > 0 && (factor == 1 || rounded == 0) {
            return Err(Why::Fraction(smallest));
        }
        u64::try_from(rounded).map_err(|_| Why::TooLarge)
    }

    /// Like [`Self::times`], but fails if the product is not an integer.
    pub(super) fn times_exactly(self, factor: u64) -> Result<u64, Why> {
        match self.product(factor) {
            (product, 0, _) => u64::try_from(product).map_err(|_| Why::TooLarge),
            _ => Err(Why::Expected("a whole number")),
        }
    }

    /// Returns the integer part of the product, and its fraction as numerator and denominator.
    fn product(self, factor: u64) -> (u128, u128, u128) {
        let scale = 10_u128.pow(self.fraction_digits);
        let fraction = self.fraction * u128::from(factor);
        let whole = self.whole * u128::from(factor);
        (whole + fraction / scale, fraction % scale, scale)
    }
}

/// Parses digits, optionally with a decimal point.
pub fn decimal(text: &str) -> Option<f64> {
    match Decimal::split(text) {
        Some((_, "")) => text.parse().ok(),
        _ => None,
    }
}
