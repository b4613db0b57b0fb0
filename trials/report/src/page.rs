//! The generated page: the observed results, and what is not promised.

use std::fmt::Write as _;

use crate::{Row, Scale, Setting};

const HEAD: &str = "\
# Reliability: what goes wrong, and what echoic does then

Made by `scripts/deep reliability` of what the trials in `trials/` saw; nothing here is typed by hand. `scripts/test`
runs the same trials at a smaller size. The control is what the same load does where nothing guards against it: it
shows that the trial can fail, and must.
";

/// The closing section, the same every time.
const NOT_PROMISED: &str = include_str!("../not-promised.md");

/// Returns the page in Markdown. The `rows` are in the order given; `failed` are the names of trials that failed, which
/// may have reported no row.
pub fn page(rows: &[Row], failed: &[String], setting: &Setting) -> String {
    let Setting {
        date,
        commit,
        machine,
        busy,
    } = setting;
    let mut page = String::from(HEAD);
    let _ = write!(
        page,
        "\nOn {date}, commit {commit}. {machine}; mean load over a quarter of an hour {busy}.\n\n"
    );
    let full = rows.iter().filter(|row| row.scale == Scale::Full).count();
    if full < rows.len() {
        let _ = write!(
            page,
            "{} of {} at the size of `scripts/test`, marked so.\n\n",
            rows.len() - full,
            rows.len()
        );
    }
    if !failed.is_empty() {
        let _ = write!(
            page,
            "**Trials that failed**, each of which has a row below that says so, or has come to no end and has none: `{}`.\n\n",
            failed.join("`, `")
        );
    }
    page.push_str("| # | hazard | load | observed | limit | control | pass |\n");
    page.push_str("|---|---|---|---|---|---|---|\n");
    for row in rows {
        let Row { row: number, .. } = row;
        let size = match row.scale {
            Scale::Full => String::new(),
            Scale::Test => format!(" ({})", Scale::Test.word()),
        };
        let [hazard, load, observed, limit, control] = [
            &row.hazard,
            &row.load,
            &row.observed,
            &row.limit,
            &row.control,
        ]
        .map(|text| cell(text));
        let pass = if row.pass { "yes" } else { "**no**" };
        let _ = writeln!(
            page,
            "| {number} | {hazard} | {load}{size} | {observed} | {limit} | {control} | {pass} |"
        );
    }
    page.push('\n');
    page.push_str(NOT_PROMISED);
    page
}

/// Escapes text so that it stays within its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_row_is_one_line() {
        let row = Row {
            row: 8,
            hazard: "a|b".into(),
            load: "one\ntwo".into(),
            observed: "3".into(),
            limit: "2".into(),
            control: "9".into(),
            pass: false,
            scale: Scale::Test,
        };
        let setting = Setting {
            date: "2026-01-02".into(),
            commit: "abc".into(),
            machine: "a machine".into(),
            busy: "0.50".into(),
        };
        let failed = ["memory::never".to_owned(), "other".to_owned()];
        let page = page(&[row], &failed, &setting);
        assert!(page.contains("`memory::never`, `other`."), "{page}");
        assert!(
            page.contains("\n| 8 | a\\|b | one two (test) | 3 | 2 | 9 | **no** |\n"),
            "{page}"
        );
        assert!(
            page.contains("1 of 1 at the size of `scripts/test`"),
            "{page}"
        );
        assert!(page.contains("## What is not promised"), "{page}");
    }
}
