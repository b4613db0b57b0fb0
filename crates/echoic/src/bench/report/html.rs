//! A builder for HTML that cannot confuse markup with text: markup is `&'static str`, and everything else is escaped.

use std::fmt::{Display, Write};

use echoic_plot::escaped;

/// A page under construction.
#[derive(Debug, Default)]
pub(super) struct Html(String);

impl Html {
    /// Appends markup, which must be a literal of the program.
    pub(super) fn markup(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Appends text, escaped.
    pub(super) fn text(&mut self, text: impl Display) -> &mut Self {
        self.0.push_str(&escaped(&text.to_string()));
        self
    }

    /// Appends a chart with its description as the caption.
    pub(super) fn figure(&mut self, chart: &echoic_plot::Svg) -> &mut Self {
        self.markup("<figure>");
        self.0.push_str(&chart.inline());
        self.element("figcaption", chart.description())
            .markup("</figure>\n")
    }

    /// Appends the style sheet of the charts.
    pub(super) fn chart_style(&mut self) -> &mut Self {
        self.0.push_str(&echoic_plot::style());
        self
    }

    /// Appends an element with a text; a class may follow its name after a dot: `td.figure`.
    pub(super) fn element(&mut self, name: &'static str, text: impl Display) -> &mut Self {
        let (tag, class) = name.split_once('.').unwrap_or((name, ""));
        let text = escaped(&text.to_string());
        let _ = match class {
            "" => write!(self.0, "<{tag}>{text}</{tag}>"),
            class => write!(self.0, "<{tag} class=\"{class}\">{text}</{tag}>"),
        };
        self
    }

    /// Appends a row of a table: a heading, then cells.
    pub(super) fn row<T: Display>(
        &mut self,
        name: impl Display,
        cells: impl IntoIterator<Item = T>,
    ) -> &mut Self {
        self.markup("<tr>").cells(name, cells)
    }

    /// Appends the cells of a row whose `<tr>` is already written, and ends the row.
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

    /// Begins a table with its caption and the names of its columns.
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

    /// Ends a table.
    pub(super) fn table_end(&mut self) -> &mut Self {
        self.markup("</tbody></table></div>\n")
    }

    /// Returns the page.
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
