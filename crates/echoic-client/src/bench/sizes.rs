//! Lengths of messages.

use std::{fmt, str::FromStr};

use echoic_core::units::{Bytes, decimal, quoted};
use rand::{RngExt, rngs::SmallRng};
use rand_distr::{Distribution, Normal, Pareto};
use thiserror::Error;

use super::clock::saturating_nanos;

/// Distribution of message lengths.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    distribution: SizeDistribution,
}

#[derive(Clone, Copy, Debug)]
enum SizeDistribution {
    Fixed(usize),
    Uniform(usize, usize),
    Normal(Normal<f64>, u64, u64),
    Pareto(Pareto<f64>, u64, f64),
}

/// Longest message in bytes; the tail of a distribution is cut here.
pub const SIZE_MAX: usize = 16 << 20;

/// Error from parsing message sizes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid message size {}: {why}", quoted(text))]
pub struct InvalidSizes {
    text: String,
    why: String,
}

const EXPECTED: &str = "expected a size up to 16M, for example 64, or uniform:16..1k, normal:MEAN,DEVIATION or pareto:MIN,SHAPE";

impl Sizes {
    /// Draws a length from 0 to [`SIZE_MAX`].
    pub fn draw(&self, random: &mut SmallRng) -> usize {
        let drawn = match &self.distribution {
            SizeDistribution::Fixed(bytes) => return *bytes,
            SizeDistribution::Uniform(min, max) => return random.random_range(*min..=*max),
            SizeDistribution::Normal(normal, ..) => normal.sample(random),
            SizeDistribution::Pareto(pareto, ..) => pareto.sample(random),
        };
        // The conversion saturates.
        (saturating_nanos(drawn.round()) as usize).min(SIZE_MAX)
    }

    /// Returns the length if it is constant.
    pub fn fixed(&self) -> Option<usize> {
        match &self.distribution {
            SizeDistribution::Fixed(bytes) => Some(*bytes),
            _ => None,
        }
    }

    /// Returns the minimum length.
    pub fn min(&self) -> usize {
        match &self.distribution {
            SizeDistribution::Fixed(bytes) => *bytes,
            SizeDistribution::Uniform(min, _) => *min,
            SizeDistribution::Normal(..) => 0,
            SizeDistribution::Pareto(_, min, _) => *min as usize,
        }
    }
}

impl FromStr for Sizes {
    type Err = InvalidSizes;

    fn from_str(text: &str) -> Result<Self, InvalidSizes> {
        parse(text)
            .map(|distribution| Self { distribution })
            .map_err(|why| InvalidSizes {
                text: text.to_owned(),
                why,
            })
    }
}

fn parse(text: &str) -> Result<SizeDistribution, String> {
    let size = |text: &str| {
        let bytes = Bytes::within(text.trim(), 0..=SIZE_MAX as u64);
        bytes.map_err(|error| error.to_string())
    };
    let expected = || EXPECTED.to_owned();
    let Some((shape, arguments)) = text.split_once(':') else {
        return match size(text) {
            Ok(bytes) => Ok(SizeDistribution::Fixed(bytes as usize)),
            Err(_) => Err(expected()),
        };
    };
    match &*shape.to_ascii_lowercase() {
        "uniform" => {
            let (min, max) = arguments.split_once("..").ok_or_else(expected)?;
            let (min, max) = (size(min)? as usize, size(max)? as usize);
            if min > max {
                return Err("the smaller size comes first".to_owned());
            }
            Ok(SizeDistribution::Uniform(min, max))
        }
        "normal" => {
            let (mean, deviation) = arguments.split_once(',').ok_or_else(expected)?;
            let (mean, deviation) = (size(mean)?, size(deviation)?);
            let normal = Normal::new(mean as f64, deviation as f64);
            Ok(SizeDistribution::Normal(
                normal.map_err(|_| expected())?,
                mean,
                deviation,
            ))
        }
        "pareto" => {
            let (min, shape) = arguments.split_once(',').ok_or_else(expected)?;
            let (min, shape) = (size(min)?, decimal(shape.trim()).ok_or_else(expected)?);
            let pareto = Pareto::new(min as f64, shape);
            let pareto = pareto.map_err(|_| "both numbers must be above 0".to_owned())?;
            Ok(SizeDistribution::Pareto(pareto, min, shape))
        }
        _ => Err(expected()),
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.distribution {
            SizeDistribution::Fixed(bytes) => write!(f, "{bytes}"),
            SizeDistribution::Uniform(min, max) => write!(f, "uniform:{min}..{max}"),
            SizeDistribution::Normal(_, mean, deviation) => write!(f, "normal:{mean},{deviation}"),
            SizeDistribution::Pareto(_, min, shape) => write!(f, "pareto:{min},{shape}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn drawn(text: &str) -> Vec<usize> {
        let sizes: Sizes = text.parse().unwrap();
        let mut random = SmallRng::seed_from_u64(1);
        (0..10_000).map(|_| sizes.draw(&mut random)).collect()
    }

    #[test]
    fn drawn_sizes_follow_the_distribution() {
        assert!(drawn("64").iter().all(|size| *size == 64));
        let uniform = drawn("uniform:16..1k");
        assert!(uniform.iter().all(|size| (16..=1024).contains(size)));
        assert!(uniform.contains(&16) && uniform.contains(&1024));
        let mean = |of: &[usize]| of.iter().sum::<usize>() / of.len();
        assert!((508..=516).contains(&mean(&drawn("normal:512,64"))));
        // The mean of Pareto is min * shape / (shape - 1).
        assert!(
            (195..=205).contains(&mean(&drawn("pareto:100,2")))
                || mean(&drawn("pareto:100,3")) == 150
        );
        assert!(
            drawn("pareto:100,0.1")
                .iter()
                .all(|size| (100..=SIZE_MAX).contains(size))
        );
    }

    #[test]
    fn invalid_sizes_list_the_valid_forms() {
        for text in [
            "",
            "x",
            "17M",
            "uniform:5",
            "uniform:9..3",
            "normal:5",
            "pareto:0,1",
            "pareto:5,0",
            "zipf:1",
            "pareto:5,nan",
        ] {
            let error = text.parse::<Sizes>().unwrap_err().to_string();
            assert!(
                error.starts_with("invalid message size "),
                "{text}: {error}"
            );
            let fits = ["uniform:16..1k", "comes first", "above 0"];
            assert!(
                fits.iter().any(|fits| error.contains(fits)),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn printed_sizes_parse_back() {
        for text in ["64", "uniform:16..1024", "normal:512,64", "pareto:100,1.5"] {
            assert_eq!(text.parse::<Sizes>().unwrap().to_string(), text);
        }
    }
}
