//! The header of a chart: its title and legend. The library's own legend has samples too short to distinguish strokes,
//! and spreads them over the whole width.

use std::fmt::Write;

use crate::text::escaped;

/// An entry of the legend.
pub(crate) struct LegendEntry {
    pub(crate) name: String,
    pub(crate) colour: &'static str,
    pub(crate) shape: Shape,
}

/// The sample of a legend entry.
pub(crate) enum Shape {
    /// A line, with its dash array.
    Line(Option<String>),
    /// A filled area.
    Area,
    /// A dot on a line.
    Dot,
    /// A cross on a line.
    Cross,
}

const LEFT: f64 = 16.0;
const BASELINE: f64 = 26.0;
const SAMPLE_WIDTH: f64 = 28.0;
/// Width of a letter at 12 px. A generous estimate, since the reader's font is unknown.
const LETTER_WIDTH: f64 = 6.6;
const TITLE_LETTER_WIDTH: f64 = 8.4;

/// Returns the header as SVG.
pub(crate) fn header(title: &str, entries: &[LegendEntry]) -> String {
    let mut text = format!(
        "<text x=\"{LEFT}\" y=\"{BASELINE}\" font-size=\"14\" font-weight=\"600\">{}</text>",
        escaped(title)
    );
    let mut x = LEFT + width(title, TITLE_LETTER_WIDTH) + 24.0;
    for entry in entries {
        write_sample(&mut text, entry, x);
        x += SAMPLE_WIDTH + 6.0;
        let _ = write!(
            text,
            "<text x=\"{x:.0}\" y=\"{BASELINE}\" font-size=\"12\">{}</text>",
            escaped(&entry.name)
        );
        x += width(&entry.name, LETTER_WIDTH) + 18.0;
    }
    text
}

fn write_sample(text: &mut String, entry: &LegendEntry, x: f64) {
    let LegendEntry { colour, .. } = entry;
    let (y, end, middle) = (BASELINE - 4.0, x + SAMPLE_WIDTH, x + SAMPLE_WIDTH / 2.0);
    let _ = match &entry.shape {
        Shape::Line(dashes) => {
            let dashes = dashes.as_deref().unwrap_or("none");
            write!(
                text,
                "<line x1=\"{x:.0}\" y1=\"{y}\" x2=\"{end:.0}\" y2=\"{y}\" stroke=\"{colour}\" \
                 stroke-width=\"2\" stroke-dasharray=\"{dashes}\"/>"
            )
        }
        Shape::Area => write!(
            text,
            "<rect x=\"{:.0}\" y=\"{}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>",
            middle - 6.0,
            y - 6.0
        ),
        Shape::Dot => write!(
            text,
            "<circle cx=\"{middle:.0}\" cy=\"{y}\" r=\"5\" fill=\"{colour}\"/>"
        ),
        Shape::Cross => write!(
            text,
            "<path d=\"M{:.0} {}l10 10m0 -10l-10 10\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            middle - 5.0,
            y - 5.0
        ),
    };
}

fn width(text: &str, letter: f64) -> f64 {
    text.chars().count() as f64 * letter
}
