//! The size of a trial.

use std::env;

use serde::{Deserialize, Serialize};

/// The environment variable that sets the size: `test` (the default) or `full`.
pub const SCALE: &str = "TRIALS_SCALE";

/// The size of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// Small enough for `scripts/test`: seconds.
    Test,
    /// The size stated on the page: minutes.
    Full,
}

impl Scale {
    /// Returns the size that [`SCALE`] sets.
    ///
    /// # Panics
    ///
    /// If the variable has another value, so that a typing error does not pass for a small run.
    pub fn asked() -> Self {
        match env::var(SCALE).as_deref() {
            Err(_) | Ok("test") => Self::Test,
            Ok("full") => Self::Full,
            Ok(other) => panic!("{SCALE}={other}: it is `test` or `full`"),
        }
    }

    /// Returns `test` or `full`.
    pub fn pick<T>(self, test: T, full: T) -> T {
        match self {
            Self::Test => test,
            Self::Full => full,
        }
    }

    pub(crate) fn word(self) -> &'static str {
        self.pick("test", "full")
    }
}
