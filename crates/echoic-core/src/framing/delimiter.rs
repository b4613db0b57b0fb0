//! Bytes that end a message, of any length.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Mutex, PoisonError},
};

/// What ends a message under `delim:HEX`. At least one byte.
///
/// Interned: the bytes live as long as the process, so that a framing is a small value that can be copied, as every
/// conversation and every record does. A process sees as many of them as somebody typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Delimiter(&'static [u8]);

static KNOWN: Mutex<BTreeSet<&'static [u8]>> = Mutex::new(BTreeSet::new());

impl Delimiter {
    /// These bytes; none if there is none.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return None;
        }
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let interned = match known.get(bytes) {
            Some(interned) => interned,
            None => {
                let leaked: &'static [u8] = Box::leak(bytes.into());
                known.insert(leaked);
                leaked
            }
        };
        Some(Self(interned))
    }

    /// The bytes.
    pub fn bytes(&self) -> &'static [u8] {
        self.0
    }
}

impl fmt::Display for Delimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
