//! The colours of charts, each for light and for dark pages.
//!
//! A chart is drawn in the light colours. Its style sheet replaces them with the dark ones if the reader's system asks
//! for that (`prefers-color-scheme`). A viewer without style sheets shows the light chart.

use std::fmt::Write;

/// A colour on light pages, and its replacement on dark ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Colour {
    pub(crate) light: &'static str,
    pub(crate) dark: &'static str,
}

const fn colour(light: &'static str, dark: &'static str) -> Colour {
    Colour { light, dark }
}

/// The meaning of a line or a bar. Each tone has a colour and a stroke, so that colour is never the only distinction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// The subject of the chart.
    Main,
    /// A comparison.
    Other,
    /// A desired result.
    Good,
    /// An undesired result.
    Bad,
    /// Context: the requested rate, a known value.
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
/// The background.
pub(crate) const PAPER: Colour = colour("#ffffff", "#0d1117");
/// Axes and their ticks.
pub(crate) const AXIS: Colour = colour("#8c959f", "#6e7681");
/// Grid lines.
pub(crate) const GRID: Colour = colour("#e4e8ec", "#21262d");

/// Colours of the heat map, from few to many. Many is dark on a light page and bright on a dark one.
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

/// Returns the style sheet with the dark colours. A page of several charts needs it once.
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

    /// The style sheet replaces colours by value, so the light ones have to differ.
    #[test]
    fn palette_colours_are_distinct() {
        let tones = TONES.map(Tone::colour);
        let all = [INK, PAPER, AXIS, GRID];
        let all = all.iter().chain(&tones).chain(&HEAT);
        let light: BTreeSet<_> = all.clone().map(|colour| colour.light).collect();
        assert_eq!(light.len(), all.count());
    }
}
