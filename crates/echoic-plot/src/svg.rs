//! A finished chart, and what makes it safe to hand on: nothing in it is run, fetched, or anybody else's markup.

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
    header::{Sign, header},
    palette::{INK, style},
    text::escaped,
};

/// A chart as a document in SVG: no script, no link, no font from elsewhere; a title and a description for those who
/// do not see it. The same figures give the same bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Svg {
    name: &'static str,
    width: f64,
    height: f64,
    title: String,
    description: String,
    /// The drawing: what is between the root's tags.
    body: String,
}

/// What is said of a chart besides its drawing.
#[derive(Clone, Debug)]
pub(crate) struct Caption {
    /// A word for files and anchors: letters and hyphens.
    pub(crate) name: &'static str,
    pub(crate) title: String,
    /// What one would tell somebody who cannot see the chart, in a sentence or two.
    pub(crate) description: String,
}

impl Svg {
    /// Has `plots` drawn below a header of the title and the signs.
    pub(crate) fn draw(caption: Caption, signs: &[Sign], plots: Vec<Plot>, layout: Layout) -> Self {
        let mut scene = render_multiple(plots, layout);
        scene.elements.iter_mut().for_each(drop_unseen);
        let drawn = SvgBackend::new().render_scene(&scene);
        let clip = format!("{}-area", caption.name);
        let header = header(&caption.title, signs);
        Self {
            name: caption.name,
            width: scene.width,
            height: scene.height,
            title: caption.title,
            description: caption.description,
            body: rename_clips(inside(&drawn), &clip) + &header,
        }
    }

    /// A word for the chart, fit for the name of a file.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What the chart shows, in a few words.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// What the chart says, in a sentence or two.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// As a part of an HTML page, which brings the [`style`] itself, once.
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

/// As a file of its own.
impl fmt::Display for Svg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let style = format!("<style>{}</style>", style());
        f.write_str(&self.element(&style))
    }
}

/// Takes the cells of a heat map away that have no colour: most of it.
fn drop_unseen(drawn: &mut Primitive) {
    if let Primitive::RectBatch { x, y, w, h, fills } = drawn {
        let seen: Vec<bool> = fills.iter().map(|fill| *fill != Color::None).collect();
        let keep = |figures: &mut Vec<f64>| {
            let mut seen = seen.iter();
            figures.retain(|_| *seen.next().unwrap_or(&true));
        };
        [x, y, w, h].into_iter().for_each(keep);
        fills.retain(|fill| *fill != Color::None);
    }
}

/// What the library drew, without its root, which says too little, and the comment that names its version.
fn inside(drawn: &str) -> &str {
    let (_, rest) = drawn
        .split_once("-->")
        .or_else(|| drawn.split_once('>'))
        .unwrap_or_default();
    rest.trim_end().trim_end_matches("</svg>")
}

/// The library numbers clip paths through the whole process: two drawings of the same would differ, and what is drawn
/// in one process may meet what was drawn in another on one page.
fn rename_clips(body: &str, name: &str) -> String {
    let mut named = String::with_capacity(body.len());
    let mut rest = body;
    while let Some((before, after)) = rest.split_once("kuva-clip-") {
        named.push_str(before);
        named.push_str(name);
        rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    named.push_str(rest);
    named
}
