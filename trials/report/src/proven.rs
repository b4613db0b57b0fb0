//! Rows that tests of the crates prove: runs those tests and reports the result.

use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::{Row, Scale};

/// A row of `trials/proven.md`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    row: Row,
    /// The cargo arguments that select the test binary, and the names of the tests.
    target: Vec<String>,
    tests: Vec<String>,
}

/// Parses the table of `trials/proven.md`.
///
/// # Errors
///
/// If a line of it is not a row.
pub fn proven(page: &str) -> anyhow::Result<Vec<Proven>> {
    let rows = page.lines().filter(|line| line.starts_with("| ")).skip(1);
    rows.map(|line| Proven::parse(line).with_context(|| line.to_owned()))
        .collect()
}

impl Proven {
    fn parse(line: &str) -> anyhow::Result<Self> {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [number, hazard, load, limit, control, target, tests] = cells[..] else {
            anyhow::bail!("{} cells, expected 7", cells.len());
        };
        let words = |cell: &str| -> Vec<String> {
            let bare = cell.trim_matches('`');
            bare.split_whitespace().map(str::to_owned).collect()
        };
        let (target, tests) = (words(target), words(tests));
        ensure!(!target.is_empty() && !tests.is_empty(), "names no test");
        Ok(Self {
            row: Row {
                row: number.parse()?,
                hazard: hazard.to_owned(),
                load: load.to_owned(),
                observed: String::new(),
                limit: limit.to_owned(),
                control: control.to_owned(),
                pass: false,
                scale: Scale::Full,
            },
            target,
            tests,
        })
    }

    /// Runs its tests, as `scripts/test` builds them, and returns the row with the result.
    ///
    /// # Errors
    ///
    /// If cargo cannot be run.
    pub fn run(&self) -> anyhow::Result<Row> {
        let ran = Command::new("cargo")
            .args(["test", "--locked", "-p"])
            .args(&self.target)
            .args(["--", "--exact"])
            .args(&self.tests)
            // A test that skips itself proves nothing: with this it fails.
            .env("CI", "true")
            .output()
            .context("cargo")?;
        let output = String::from_utf8_lossy(&ran.stdout);
        let pass = ran.status.success() && all_passed(&output, self.tests.len());
        let names = self.tests.join("`, `");
        let verdict = if pass { "passed" } else { "failed, or missing" };
        Ok(Row {
            observed: format!(
                "the tests `{names}` of `{}`: {verdict}",
                self.target.join(" ")
            ),
            pass,
            ..self.row.clone()
        })
    }
}

/// Whether this many tests passed: a name without a test must not pass.
fn all_passed(output: &str, tests: usize) -> bool {
    output.contains(&format!("test result: ok. {tests} passed;"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proven_table_is_parsed() {
        let page = "# Rows\n\n| # | a | b | c | d | e | f |\n|---|---|\n\
            | 14 | hazard | load | limit | control | `echoic --test stop` | `one two` |\n";
        let [row] = &proven(page).expect("a table")[..] else {
            panic!("one row");
        };
        assert_eq!((row.row.row, &*row.row.control), (14, "control"));
        assert_eq!(row.target, ["echoic", "--test", "stop"]);
        assert_eq!(row.tests, ["one", "two"]);
        assert!(proven("| # |\n| 14 | a |\n").is_err());
    }

    #[test]
    fn missing_test_does_not_pass() {
        let output = |passed: usize| {
            format!("running {passed} tests\ntest result: ok. {passed} passed; 0 failed;")
        };
        assert!(all_passed(&output(2), 2));
        assert!(!all_passed(&output(1), 2) && !all_passed(&output(0), 2) && !all_passed("", 2));
    }
}
