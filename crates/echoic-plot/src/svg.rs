//! A finished chart as SVG that is safe to embed: it has no scripts, no external references, and no markup from names.

use std::fmt;

use kuva::{
    backend::svg::SvgBackend,
    render::{
        color::Color,
        layout::Layout,
        plots::Plot,
        render::{Primitive, render_multiple},
    },
};

use crate::{
    header::{LegendEntry, header},
    palette::{INK, style},
    text::escaped,
};

/// A chart as an SVG document, without scripts, links or external fonts. It has a title and a description for screen
/// readers. The same figures give the same bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Svg {
    name: &'static str,
    width: f64,
    height: f64,
    title: String,
    description: String,
    /// The content of the root element.
    body: String,
}

/// The texts of a chart.
#[derive(Clone, Debug)]
pub(crate) struct Caption {
    /// A name for files and anchors: letters and hyphens.
    pub(crate) name: &'static str,
    pub(crate) title: String,
    /// The chart's content in a sentence or two, for screen readers.
    pub(crate) description: String,
}

impl Svg {
    /// Draws `plots` below a header of the title and the legend.
    pub(crate) fn draw(
        caption: Caption,
        legend: &[LegendEntry],
        plots: Vec<Plot>,
        layout: Layout,
    ) -> Self {
        let mut scene = render_multiple(plots, layout);
        scene.elements.iter_mut().for_each(remove_uncoloured);
        let document = SvgBackend::new().render_scene(&scene);
        let clip = format!("{}-area", caption.name);
        let header = header(&caption.title, legend);
        Self {
            name: caption.name,
            width: scene.width,
            height: scene.height,
            title: caption.title,
            description: caption.description,
            body: rename_clips(content(&document), &clip) + &header,
        }
    }

    /// Returns the chart's name, usable as a file name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the title.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Returns the chart's content in a sentence or two.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Returns the chart as a part of an HTML page, without the [`style`] sheet, which the page includes once.
    pub fn inline(&self) -> String {
        self.element("")
    }

    fn element(&self, style: &str) -> String {
        let Self {
            name,
            width,
            height,
            body,
            ..
        } = self;
        let title = escaped(&self.title);
        let description = escaped(&self.description);
        let ink = INK.light;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" role=\"img\" \
             aria-labelledby=\"{name}-title {name}-description\" \
             font-family=\"system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif\" fill=\"{ink}\">\
             <title id=\"{name}-title\">{title}</title>\
             <desc id=\"{name}-description\">{description}</desc>{style}{body}</svg>\n"
        )
    }
}

/// Prints the chart as a file, with its style sheet.
impl fmt::Display for Svg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let style = format!("<style>{}</style>", style());
        f.write_str(&self.element(&style))
    }
}

/// Removes the cells of a heat map that have no colour, which are most of them.
fn remove_uncoloured(document: &mut Primitive) {
    if let Primitive::RectBatch { x, y, w, h, fills } = document {
        let coloured: Vec<bool> = fills.iter().map(|fill| *fill != Color::None).collect();
        let retain_coloured = |figures: &mut Vec<f64>| {
            let mut coloured = coloured.iter();
            figures.retain(|_| *coloured.next().unwrap_or(&true));
        };
        [x, y, w, h].into_iter().for_each(retain_coloured);
        fills.retain(|fill| *fill != Color::None);
    }
}

/// Returns the content of the library's document: without its root element, which lacks a title and a class, and without
/// the comment with its version.
fn content(document: &str) -> &str {
    let (_, rest) = document
        .split_once("-->")
        .or_else(|| document.split_once('>'))
        .unwrap_or_default();
    rest.trim_end().trim_end_matches("</svg>")
}

/// Gives clip paths a fixed name. The library numbers them within the process, so that two drawings of the same figures
/// would differ, and charts of two processes on one page could clash.
fn rename_clips(body: &str, name: &str) -> String {
    let mut renamed = String::with_capacity(body.len());
    let mut rest = body;
    while let Some((before, after)) = rest.split_once("kuva-clip-") {
        renamed.push_str(before);
        renamed.push_str(name);
        rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    renamed.push_str(rest);
    renamed
}
