//! Messages to replies: the services, one a file, and the registry that knows their names.
//!
//! To add one: write its file, and add a line to `SERVICES`.

mod argument;
mod ascii;
pub mod casing;
mod chargen;
mod clock;
mod discard;
mod echo;
mod greet;
mod info;
#[doc(hidden)]
pub mod lower;
mod upper;

use std::{fmt, str::FromStr, sync::Arc};

use echoic_core::{service::Service, units::quoted};
use thiserror::Error;

pub use argument::Argument;

/// How a service is written on the command line, and how it is made from what follows its name.
struct Entry {
    name: &'static str,
    usage: &'static str,
    what: &'static str,
    make: fn(Option<&str>) -> Made,
}

type Made = Result<Arc<dyn Service>, Argument>;

/// Every service there is.
const SERVICES: [Entry; 9] = [
    Entry {
        name: "upper",
        usage: "upper",
        what: "answers each message in upper case, all of Unicode",
        make: |argument| without(argument, upper::Upper),
    },
    Entry {
        name: "lower",
        usage: "lower",
        what: "answers each message in lower case",
        make: |argument| without(argument, lower::Lower),
    },
    Entry {
        name: "echo",
        usage: "echo",
        what: "answers each message with itself",
        make: |argument| without(argument, echo::Echo),
    },
    Entry {
        name: "greet",
        usage: "greet[:TEXT|@FILE]",
        what: "says TEXT (\"Thank you for connecting\"), or what is in FILE, to each caller and closes",
        make: |argument| Ok(Arc::new(greet::Greet::new(argument)?)),
    },
    Entry {
        name: "discard",
        usage: "discard",
        what: "hears everything and says nothing",
        make: |argument| without(argument, discard::Discard),
    },
    Entry {
        name: "time",
        usage: "time",
        what: "says the time in 32 bits (RFC 868) and closes",
        make: |argument| without(argument, clock::Clock::Time),
    },
    Entry {
        name: "daytime",
        usage: "daytime",
        what: "says date and time as a line and closes",
        make: |argument| without(argument, clock::Clock::Daytime),
    },
    Entry {
        name: "chargen",
        usage: "chargen",
        what: "says characters without end",
        make: |argument| without(argument, chargen::Chargen),
    },
    Entry {
        name: "info",
        usage: "info",
        what: "tells each caller what it looks like from here, as JSON",
        make: |argument| without(argument, info::Info),
    },
];

/// A service that can be shared by all conversations of its endpoints. Parsed from `NAME` or `NAME:ARGUMENT`.
#[derive(Clone, Debug)]
pub struct Chosen(pub Arc<dyn Service>);

/// Why a text names no service.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ServiceNameError {
    /// There is none of that name.
    #[error("invalid service {}: expected {}", quoted(name), usages())]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// What follows the colon does not fit the service.
    #[error("{name}: {what}")]
    Argument {
        /// The service.
        name: &'static str,
        /// What is wrong with it.
        what: Argument,
    },
}

impl FromStr for Chosen {
    type Err = ServiceNameError;

    fn from_str(text: &str) -> Result<Self, ServiceNameError> {
        let (name, argument) = match text.split_once(':') {
            Some((name, argument)) => (name, Some(argument)),
            None => (text, None),
        };
        let entry = SERVICES.iter().find(|entry| entry.name == name);
        let Entry { name, make, .. } = entry.ok_or_else(|| ServiceNameError::Unknown {
            name: name.to_owned(),
        })?;
        make(argument)
            .map(Self)
            .map_err(|what| ServiceNameError::Argument { name, what })
    }
}

/// Each service as it is written, with a line on what it does.
pub fn list() -> impl Iterator<Item = (&'static str, &'static str)> {
    SERVICES.iter().map(|entry| (entry.usage, entry.what))
}

fn usages() -> String {
    SERVICES
        .iter()
        .map(|entry| entry.usage)
        .collect::<Vec<_>>()
        .join(", ")
}

fn without(argument: Option<&str>, service: impl Service + 'static) -> Made {
    match argument {
        None => Ok(Arc::new(service)),
        Some(left) => Err(Argument::Unwanted(left.to_owned())),
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.usage)
    }
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/how-to-add-a-service.md")]
struct HowToAddAService;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_is_found_by_name() {
        for (text, name) in [
            ("upper", "upper"),
            ("echo", "echo"),
            ("greet:hi", "greet"),
            ("greet", "greet"),
        ] {
            assert_eq!(text.parse::<Chosen>().unwrap().0.name(), name);
        }
    }

    #[test]
    fn unknown_service_lists_the_known_ones() {
        let said = "uper".parse::<Chosen>().unwrap_err().to_string();
        assert_eq!(
            said,
            "invalid service uper: expected upper, lower, echo, greet[:TEXT|@FILE], discard, time, daytime, chargen, info"
        );
        let said = "echo:x".parse::<Chosen>().unwrap_err().to_string();
        assert_eq!(said, "echo: it takes no argument, \"x\" is left over");
    }
}
