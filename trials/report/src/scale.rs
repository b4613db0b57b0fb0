//! How large a trial is run.

use std::env;

use serde::{Deserialize, Serialize};

/// The environment variable that asks for a size: `test` (also where it is not set) or `full`.
pub const SCALE: &str = "TRIALS_SCALE";

/// How large a trial is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// As large as `scripts/test` can carry: seconds.
    Test,
    /// As large as the page says: minutes.
    Full,
}

impl Scale {
    /// The size that [`SCALE`] asks for.
    ///
    /// # Panics
    ///
    /// If it says something else, so that a slip of the pen does not pass for a small run.
    pub fn asked() -> Self {
        match env::var(SCALE).as_deref() {
            Err(_) | Ok("test") => Self::Test,
            Ok("full") => Self::Full,
            Ok(other) => panic!("{SCALE}={other}: it is `test` or `full`"),
        }
    }

    /// `test` or `full`, whichever this is.
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
