//! The result of a trial, and the report file.

use std::{
    env, fs,
    fs::OpenOptions,
    io::{self, Write},
    path::Path,
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::Scale;

/// The environment variable that names the file to which rows are appended, a line of JSON each.
pub const REPORT: &str = "TRIALS_REPORT";

/// A row of the table: a hazard, and the observed result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The number of the hazard. Several rows may have the same.
    pub row: u16,
    /// What may go wrong.
    pub hazard: String,
    /// What was done to provoke it.
    pub load: String,
    /// The observed result, with figures.
    pub observed: String,
    /// The limit on the result, or the required result.
    pub limit: String,
    /// What the same load does without a guard: to a naive server, to a build with the guard switched off, to a planted
    /// bug. It shows that the trial can fail.
    pub control: String,
    /// Whether the result is within the limit, and the control was not.
    pub pass: bool,
    /// The size of the trial.
    pub scale: Scale,
}

impl Row {
    /// Adds the row to the report, and fails the test unless it passed.
    ///
    /// # Panics
    ///
    /// If it did not pass, or could not be written.
    pub fn hold(&self) {
        self.report()
            .unwrap_or_else(|why| panic!("the file that {REPORT} names: {why}"));
        self.check();
    }

    fn check(&self) {
        assert!(
            self.pass,
            "row {}, {}: {}\n  observed: {}\n  limit:    {}\n  control:  {}",
            self.row, self.hazard, self.load, self.observed, self.limit, self.control
        );
    }

    /// Appends the row to the file that [`REPORT`] names; without one, does nothing.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn report(&self) -> io::Result<()> {
        match env::var_os(REPORT) {
            Some(file) => self.append(Path::new(&file)),
            None => Ok(()),
        }
    }

    /// Appends in one write, so that concurrent trials do not divide each other's lines.
    fn append(&self, file: &Path) -> io::Result<()> {
        let mut line = serde_json::to_string(self)?;
        line.push('\n');
        let mut file = OpenOptions::new().create(true).append(true).open(file)?;
        file.write_all(line.as_bytes())
    }
}

/// Returns the rows of a report file, by hazard; of rows with the same hazard and load, the last.
///
/// # Errors
///
/// If the file cannot be read, or contains anything else.
pub fn read(file: &Path) -> anyhow::Result<Vec<Row>> {
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let mut rows: Vec<Row> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let row: Row = serde_json::from_str(line)
            .with_context(|| format!("{}, line {}", file.display(), number + 1))?;
        let same = |earlier: &Row| {
            (earlier.row, &earlier.hazard, &earlier.load) == (row.row, &row.hazard, &row.load)
        };
        match rows.iter_mut().find(|earlier| same(earlier)) {
            Some(earlier) => *earlier = row,
            None => rows.push(row),
        }
    }
    rows.sort_by_key(|row| row.row);
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(row: u16, load: &str, observed: &str) -> Row {
        Row {
            row,
            hazard: "a hazard".into(),
            load: load.into(),
            observed: observed.into(),
            limit: String::new(),
            control: String::new(),
            pass: true,
            scale: Scale::Test,
        }
    }

    #[test]
    fn rows_are_sorted_by_hazard_and_the_last_entry_counts() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("rows");
        let written = [
            row(4, "b", "first"),
            row(2, "a", "2\n|"),
            row(4, "a", ""),
            row(4, "b", "last"),
        ];
        for row in &written {
            row.append(&file).expect("a line");
        }
        let [_, two, four_a, four_b] = written;
        assert_eq!(read(&file).expect("rows"), [two, four_b, four_a]);
    }

    #[test]
    fn invalid_row_is_rejected_with_its_position() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("rows");
        row(1, "a", "b").append(&file).expect("a line");
        let mut text = fs::read_to_string(&file).expect("text");
        text.push_str("{}\n");
        fs::write(&file, text).expect("written");
        let why = format!("{:#}", read(&file).expect_err("no row"));
        assert!(why.contains("rows, line 2"), "{why}");
    }

    #[test]
    #[should_panic(expected = "observed: 17 KiB")]
    fn failing_row_fails_its_test() {
        Row {
            pass: false,
            ..row(1, "a", "17 KiB")
        }
        .check(); // without `hold`, which would report it
    }
}
