//! Delimiters of any length, interned.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Mutex, PoisonError},
};

/// The bytes that end a message under `delim:HEX`, at least one.
///
/// Interned: the bytes are leaked once, so that a framing stays a small `Copy` value in every conversation and record.
/// The number of delimiters is bounded by the framings configured for the process and found in its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Delimiter(&'static [u8]);

static INTERNED: Mutex<BTreeSet<&'static [u8]>> = Mutex::new(BTreeSet::new());

impl Delimiter {
    /// Interns the bytes; `None` if there are none.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return None;
        }
        let mut interned = INTERNED.lock().unwrap_or_else(PoisonError::into_inner);
        let delimiter = match interned.get(bytes) {
            Some(delimiter) => delimiter,
            None => {
                let leaked: &'static [u8] = Box::leak(bytes.into());
                interned.insert(leaked);
                leaked
            }
        };
        Some(Self(delimiter))
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> &'static [u8] {
        self.0
    }
}

impl fmt::Display for Delimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
