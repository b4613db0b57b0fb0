//! `--open`: shows the console in the browser of the desktop.

use std::{
    fmt::Display,
    process::{Command, Stdio},
    thread,
};

use super::secret::PASSWORD;
use crate::term;

/// What opens a URL with the user's browser (xdg-utils).
const OPENER: &str = "xdg-open";

/// Opens the URL, without a shell. A failure is reported, with `named` for the URL, and does not stop the console.
pub(super) fn open(url: &str, named: String) {
    let spawned = Command::new(OPENER)
        .arg(url)
        .env_remove(PASSWORD)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut opener = match spawned {
        Ok(opener) => opener,
        Err(error) => return report(&error, &named),
    };
    // It may last as long as the browser.
    let waiting = thread::Builder::new()
        .name("open".to_owned())
        .spawn(move || match opener.wait() {
            Ok(status) if status.success() => {}
            Ok(status) => report(&status, &named),
            Err(error) => report(&error, &named),
        });
    if let Err(error) = waiting {
        tracing::debug!("{OPENER} is not waited for: {error}");
    }
}

fn report(why: &dyn Display, named: &str) {
    term::note(&format!("{OPENER}: {why}; open {named} in a browser"));
}
