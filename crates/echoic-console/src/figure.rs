//! Figures that a process counts about itself, for its metrics.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

use crate::routes::metrics::encode_version;

/// A metric of Prometheus with its values. Names get the prefix `echoic_`, and the suffix of the unit and of counters.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    unit: Option<FigureUnit>,
    samples: Vec<Sample>,
}

/// The unit of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FigureUnit {
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Sample {
    label: Option<(&'static str, &'static str)>,
    value: Value,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Value {
    Whole(u64),
    Real(f64),
}

impl From<u64> for FigureValue {
    fn from(value: u64) -> Self {
        Self(Value::Whole(value))
    }
}

impl From<f64> for FigureValue {
    fn from(value: f64) -> Self {
        Self(Value::Real(value))
    }
}

/// The value of a figure: a whole number, or a real one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FigureValue(Value);

impl Figure {
    /// Creates a figure that only grows.
    pub fn counter(name: &'static str, help: &'static str, value: impl Into<FigureValue>) -> Self {
        Self::new(Kind::Counter, name, help).with(None, value.into())
    }

    /// Creates a figure that grows and falls.
    pub fn gauge(name: &'static str, help: &'static str, value: impl Into<FigureValue>) -> Self {
        Self::new(Kind::Gauge, name, help).with(None, value.into())
    }

    /// Creates a figure that only grows, with one value for each of a fixed set of words.
    pub fn counters(
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: &[(&'static str, u64)],
    ) -> Self {
        let figure = Self::new(Kind::Counter, name, help);
        values.iter().fold(figure, |figure, (word, value)| {
            figure.with(Some((label, word)), (*value).into())
        })
    }

    /// Sets the unit.
    #[must_use]
    pub fn in_unit(self, unit: FigureUnit) -> Self {
        Self {
            unit: Some(unit),
            ..self
        }
    }

    fn new(kind: Kind, name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            help,
            kind,
            unit: None,
            samples: Vec::new(),
        }
    }

    fn with(mut self, label: Option<(&'static str, &'static str)>, value: FigureValue) -> Self {
        let FigureValue(value) = value;
        self.samples.push(Sample { label, value });
        self
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
        };
        let unit = self.unit.map(|unit| match unit {
            FigureUnit::Bytes => Unit::Bytes,
            FigureUnit::Seconds => Unit::Seconds,
        });
        let mut metric = encoder.encode_descriptor(self.name, self.help, unit.as_ref(), kind)?;
        for Sample { label, value } in &self.samples {
            let labels: Vec<_> = label.iter().copied().collect();
            let family = metric.encode_family(&labels)?;
            match (self.kind, *value) {
                (Kind::Counter, Value::Whole(value)) => ConstCounter::new(value).encode(family)?,
                (Kind::Counter, Value::Real(value)) => ConstCounter::new(value).encode(family)?,
                (Kind::Gauge, Value::Whole(value)) => ConstGauge::new(value).encode(family)?,
                (Kind::Gauge, Value::Real(value)) => ConstGauge::new(value).encode(family)?,
            }
        }
        Ok(())
    }
}

/// The figures of a process, with its version.
#[derive(Debug)]
pub(crate) struct FigureSet {
    pub(crate) version: &'static str,
    pub(crate) figures: Vec<Figure>,
}

impl Collector for FigureSet {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        encode_version(&mut encoder, self.version)?;
        let mut figures = self.figures.iter();
        figures.try_for_each(|figure| figure.encode(&mut encoder))
    }
}
