//! How long messages are.

use std::{fmt, str::FromStr};

use echoic_core::units::{Bytes, decimal, quoted};
use rand::{RngExt, rngs::SmallRng};
use rand_distr::{Distribution, Normal, Pareto};
use thiserror::Error;

use super::clock::whole;

/// Lengths of messages: always the same, or drawn from a distribution.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Fixed(usize),
    Uniform(usize, usize),
    Normal(Normal<f64>, u64, u64),
    Pareto(Pareto<f64>, u64, f64),
}

/// Longest message that a distribution may come up with, in bytes; its tail is cut there.
pub const SIZE_MAX: usize = 16 << 20;

/// A text that is no size of messages.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid message size {}: {why}", quoted(text))]
pub struct NoSizes {
    text: String,
    why: String,
}

const SIZES: &str = "expected a size up to 16M, for example 64, or uniform:16..1k, normal:MEAN,DEVIATION or pareto:MIN,SHAPE";

impl Sizes {
    /// A length, at least 0 and at most [`SIZE_MAX`].
    pub fn draw(&self, random: &mut SmallRng) -> usize {
        let drawn = match &self.kind {
            Kind::Fixed(bytes) => return *bytes,
            Kind::Uniform(least, most) => return random.random_range(*least..=*most),
            Kind::Normal(normal, ..) => normal.sample(random),
            Kind::Pareto(pareto, ..) => pareto.sample(random),
        };
        // Saturates where it is out of bounds.
        (whole(drawn.round()) as usize).min(SIZE_MAX)
    }

    /// The one length there is, if there is only one.
    pub fn fixed(&self) -> Option<usize> {
        match &self.kind {
            Kind::Fixed(bytes) => Some(*bytes),
            _ => None,
        }
    }

    /// The shortest there may be.
    pub fn least(&self) -> usize {
        match &self.kind {
            Kind::Fixed(bytes) => *bytes,
            Kind::Uniform(least, _) => *least,
            Kind::Normal(..) => 0,
            Kind::Pareto(_, least, _) => *least as usize,
        }
    }
}

impl FromStr for Sizes {
    type Err = NoSizes;

    fn from_str(text: &str) -> Result<Self, NoSizes> {
        parse(text)
            .map(|kind| Self { kind })
            .map_err(|why| NoSizes {
                text: text.to_owned(),
                why,
            })
    }
}

fn parse(text: &str) -> Result<Kind, String> {
    let size = |text: &str| {
        let bytes = Bytes::within(text.trim(), 0..=SIZE_MAX as u64);
        bytes.map_err(|error| error.to_string())
    };
    let wrong = || SIZES.to_owned();
    let Some((shape, arguments)) = text.split_once(':') else {
        return match size(text) {
            Ok(bytes) => Ok(Kind::Fixed(bytes as usize)),
            Err(_) => Err(wrong()),
        };
    };
    match &*shape.to_ascii_lowercase() {
        "uniform" => {
            let (least, most) = arguments.split_once("..").ok_or_else(wrong)?;
            let (least, most) = (size(least)? as usize, size(most)? as usize);
            if least > most {
                return Err("the smaller size comes first".to_owned());
            }
            Ok(Kind::Uniform(least, most))
        }
        "normal" => {
            let (mean, deviation) = arguments.split_once(',').ok_or_else(wrong)?;
            let (mean, deviation) = (size(mean)?, size(deviation)?);
            let normal = Normal::new(mean as f64, deviation as f64);
            Ok(Kind::Normal(normal.map_err(|_| wrong())?, mean, deviation))
        }
        "pareto" => {
            let (least, shape) = arguments.split_once(',').ok_or_else(wrong)?;
            let (least, shape) = (size(least)?, decimal(shape.trim()).ok_or_else(wrong)?);
            let pareto = Pareto::new(least as f64, shape);
            let pareto = pareto.map_err(|_| "both numbers must be above 0".to_owned())?;
            Ok(Kind::Pareto(pareto, least, shape))
        }
        _ => Err(wrong()),
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Fixed(bytes) => write!(f, "{bytes}"),
            Kind::Uniform(least, most) => write!(f, "uniform:{least}..{most}"),
            Kind::Normal(_, mean, deviation) => write!(f, "normal:{mean},{deviation}"),
            Kind::Pareto(_, least, shape) => write!(f, "pareto:{least},{shape}"),
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
        // The mean of Pareto is least * shape / (shape - 1).
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
            let said = text.parse::<Sizes>().unwrap_err().to_string();
            assert!(said.starts_with("invalid message size "), "{text}: {said}");
            let fits = ["uniform:16..1k", "comes first", "above 0"];
            assert!(
                fits.iter().any(|fits| said.contains(fits)),
                "{text}: {said}"
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
