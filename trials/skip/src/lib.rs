//! How a test says that it cannot run here.
//!
//! The test harness knows only passed and failed, and hides the output of what passed. So a skip is written past it, where
//! `scripts/test` counts it; and with `CI=true`, where everything is expected to be there, it is a failure.

use std::{
    env,
    ffi::OsStr,
    fmt::Display,
    io::{self, Write},
    thread,
};

/// Says on standard error that the calling test is skipped, and why. The test returns after this.
///
/// # Panics
///
/// With `CI=true`.
#[track_caller]
pub fn skip(why: impl Display) {
    let line = line(env::var_os("CI").as_deref(), thread::current().name(), why);
    // Not by `eprintln!`, which the test harness captures. In one call, so that lines of other threads do not divide it.
    let _ = io::stderr().write_all(line.as_bytes());
}

/// Returns the line to print.
#[track_caller]
fn line(ci: Option<&OsStr>, test: Option<&str>, why: impl Display) -> String {
    assert!(
        ci != Some(OsStr::new("true")),
        "with CI=true no test may be skipped: {why}"
    );
    format!("skipped test: {}: {why}\n", test.unwrap_or("unnamed"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn skip_names_the_test_and_the_reason() {
        let said = line(None, Some("a::test"), "no IPv6 here");
        assert_eq!(said, "skipped test: a::test: no IPv6 here\n");
        assert_eq!(
            line(Some(OsStr::new("false")), None, "x"),
            "skipped test: unnamed: x\n"
        );
    }

    #[test]
    #[should_panic(expected = "no test may be skipped: no IPv6 here")]
    fn skip_is_a_failure_in_ci() {
        line(Some(OsStr::new("true")), Some("a::test"), "no IPv6 here");
    }
    /// Runs the next test in a process of its own: what it prints must not be captured.
    #[test]
    fn skip_is_printed_past_the_test_harness() {
        let inner = "tests::test_that_skips_itself";
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--ignored", "--exact", inner]);
        let mut run = |ci: &str| command.env("CI", ci).output().unwrap();
        let [plain, ci] = ["", "true"].map(&mut run);
        let said = String::from_utf8(plain.stderr).unwrap();
        assert!(plain.status.success(), "{said}");
        assert_eq!(said, format!("skipped test: {inner}: as planned\n"));
        assert!(!ci.status.success(), "{ci:?}");
    }

    #[test]
    #[ignore = "run by skip_is_printed_past_the_test_harness"]
    fn test_that_skips_itself() {
        skip("as planned");
    }
}
