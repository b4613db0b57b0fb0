//! What follows the colon of a service's name.

use thiserror::Error;

/// What can be wrong with a service's argument.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Argument {
    /// It takes none.
    #[error("it takes no argument, {0:?} is left over")]
    Unwanted(String),
    /// A file that cannot be read.
    #[error("{path}: {why}")]
    File {
        /// Where it should be.
        path: String,
        /// What the system said.
        why: String,
    },
    /// An escape that is none.
    #[error("{0:?} is no escape; there are \\n \\r \\t \\0 \\\\ and \\xNN")]
    Escape(String),
}
