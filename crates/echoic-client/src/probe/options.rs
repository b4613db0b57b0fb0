//! How to probe.

use std::time::Duration;

use echoic_wire::Explain;

/// How to probe.
#[derive(Clone, Debug)]
pub struct ProbeOptions {
    /// Time for the name, and then for each address.
    pub timeout: Duration,
    /// Every address is tried alone, instead of the race that other programs hold (RFC 8305).
    pub all: bool,
    /// How often: the winner of the race, or with `all` every address. At least once.
    pub count: u32,
    /// Try again until it is reachable, at most so long.
    pub wait: Option<Duration>,
    /// Told of every call.
    pub explain: Option<Explain>,
}

impl Default for ProbeOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            all: false,
            count: 1,
            wait: None,
            explain: None,
        }
    }
}
