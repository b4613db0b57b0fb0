//! Markup and text, kept apart by their types: markup is what is written here in the program, everything else is text.

use std::fmt::{Display, Write};

use echoic_plot::escaped;

/// A page, or a part of one.
#[derive(Debug, Default)]
pub(super) struct Html(String);

impl Html {
    /// Markup: only what stands in the program can be it.
    pub(super) fn markup(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Text, whatever it holds.
    pub(super) fn text(&mut self, text: impl Display) -> &mut Self {
        self.0.push_str(&escaped(&text.to_string()));
        self
    }

    /// A chart, which is a picture and nothing else, and what it says in words.
    pub(super) fn figure(&mut self, chart: &echoic_plot::Svg) -> &mut Self {
        self.markup("<figure>");
        self.0.push_str(&chart.inline());
        self.element("figcaption", chart.description())
            .markup("</figure>\n")
    }

    /// The colours that charts have on the reader's page.
    pub(super) fn chart_style(&mut self) -> &mut Self {
        self.0.push_str(&echoic_plot::style());
        self
    }

    /// An element around a text; a class may follow its name after a dot: `td.figure`.
    pub(super) fn element(&mut self, name: &'static str, text: impl Display) -> &mut Self {
        let (tag, class) = name.split_once('.').unwrap_or((name, ""));
        let text = escaped(&text.to_string());
        let _ = match class {
            "" => write!(self.0, "<{tag}>{text}</{tag}>"),
            class => write!(self.0, "<{tag} class=\"{class}\">{text}</{tag}>"),
        };
        self
    }

    /// A row of a table: a heading, then cells.
    pub(super) fn row<T: Display>(
        &mut self,
        name: impl Display,
        cells: impl IntoIterator<Item = T>,
    ) -> &mut Self {
        self.markup("<tr>").cells(name, cells)
    }

    /// The rest of a row that has been begun.
    pub(super) fn cells<T: Display>(
        &mut self,
        name: impl Display,
        cells: impl IntoIterator<Item = T>,
    ) -> &mut Self {
        let name = escaped(&name.to_string());
        let _ = write!(self.0, "<th scope=\"row\">{name}</th>");
        for cell in cells {
            self.element("td", cell);
        }
        self.markup("</tr>\n")
    }

    /// The head of a table: its caption and the names of its columns.
    pub(super) fn table_head(
        &mut self,
        caption: &'static str,
        columns: &[&'static str],
    ) -> &mut Self {
        self.markup("<div class=\"scroll\"><table>")
            .element("caption", caption)
            .markup("<thead><tr>");
        for column in columns {
            self.markup("<th scope=\"col\">")
                .text(column)
                .markup("</th>");
        }
        self.markup("</tr></thead>\n<tbody>\n")
    }

    /// Its end.
    pub(super) fn table_end(&mut self) -> &mut Self {
        self.markup("</tbody></table></div>\n")
    }

    /// What has been written.
    pub(super) fn finish(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_never_markup() {
        let mut html = Html::default();
        html.table_head("numbers", &["a"])
            .row("<b>", ["</td><script>alert('1')</script>"])
            .table_end()
            .element("p.note", "\"&\u{1b}[31m");
        let page = html.finish();
        assert!(page.contains("<th scope=\"row\">&lt;b&gt;</th>"), "{page}");
        assert!(
            !page.contains("<script") && !page.contains("</td><s"),
            "{page}"
        );
        assert!(
            page.ends_with("<p class=\"note\">&quot;&amp;\u{fffd}[31m</p>"),
            "{page}"
        );
    }
}
