//! Errors of a service's argument, the text after the colon of its name.

use thiserror::Error;

/// Reasons why a service rejects its argument.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ArgumentError {
    /// The service takes no argument.
    #[error("invalid argument {0:?}: expected none")]
    Unwanted(String),
    /// The file cannot be read.
    #[error("cannot read {path}: {error}")]
    File {
        /// The file's path.
        path: String,
        /// The system's error.
        error: String,
    },
    /// An unknown escape sequence.
    #[error("invalid escape {0:?}: expected \\n, \\r, \\t, \\0, \\\\ or \\xNN")]
    Escape(String),
}
