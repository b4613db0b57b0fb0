//! The colours, each for a light and for a dark page.
//!
//! A chart is drawn in the light ones. A style sheet that a chart carries exchanges them for the dark ones where the
//! reader's system asks for that; a viewer that knows no style sheets shows the light chart, which is whole as it is.

use std::fmt::Write;

/// A colour on a light page, and what takes its place on a dark one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Colour {
    pub(crate) light: &'static str,
    pub(crate) dark: &'static str,
}

const fn colour(light: &'static str, dark: &'static str) -> Colour {
    Colour { light, dark }
}

/// What a line or a bar stands for. Colour is never the only sign: each tone has its own stroke as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// What it is about.
    Main,
    /// What it is compared with.
    Other,
    /// As it should be.
    Good,
    /// Not as it should be.
    Bad,
    /// Asked for, known beforehand, beside the point.
    Quiet,
}

impl Tone {
    pub(crate) const fn colour(self) -> Colour {
        match self {
            Self::Main => colour("#0969da", "#58a6ff"),
            Self::Other => colour("#bc4c00", "#f0883e"),
            Self::Good => colour("#1a7f37", "#3fb950"),
            Self::Bad => colour("#cf222e", "#ff7b72"),
            Self::Quiet => colour("#6e7781", "#8b949e"),
        }
    }
}

const TONES: [Tone; 5] = [Tone::Main, Tone::Other, Tone::Good, Tone::Bad, Tone::Quiet];

/// Text.
pub(crate) const INK: Colour = colour("#1f2328", "#e6edf3");
/// What the chart lies on.
pub(crate) const PAPER: Colour = colour("#ffffff", "#0d1117");
/// Axes and their ticks.
pub(crate) const AXIS: Colour = colour("#8c959f", "#6e7681");
/// Lines across the chart.
pub(crate) const GRID: Colour = colour("#e4e8ec", "#21262d");

/// Few to many. On a dark page many is bright, on a light one dark.
pub(crate) const HEAT: [Colour; 8] = [
    colour("#dbe9f6", "#0f2741"),
    colour("#bad6eb", "#123a63"),
    colour("#89bedc", "#175088"),
    colour("#539ecd", "#1f69b0"),
    colour("#2b7bba", "#3787d6"),
    colour("#0b559f", "#62a7ee"),
    colour("#083a7a", "#9acafb"),
    colour("#061f4a", "#d8ecff"),
];

/// The style sheet that gives charts the reader's colours. One is enough for a page of many charts.
pub fn style() -> String {
    let fixed = [INK, PAPER, AXIS, GRID];
    let tones = TONES.map(Tone::colour);
    let mut style = String::from("@media (prefers-color-scheme: dark) {");
    for Colour { light, dark } in fixed.iter().chain(&tones).chain(&HEAT) {
        for paint in ["fill", "stroke"] {
            let _ = write!(
                style,
                ".chart[{paint}=\"{light}\"],.chart [{paint}=\"{light}\"]{{{paint}:{dark}}}"
            );
        }
    }
    style.push('}');
    style
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Exchanging colours works by their values: two that are alike could not be told apart.
    #[test]
    fn palette_colours_are_distinct() {
        let tones = TONES.map(Tone::colour);
        let all = [INK, PAPER, AXIS, GRID];
        let all = all.iter().chain(&tones).chain(&HEAT);
        let light: BTreeSet<_> = all.clone().map(|colour| colour.light).collect();
        assert_eq!(light.len(), all.count());
    }
}
