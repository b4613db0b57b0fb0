//! The services, which turn requests into replies, and the registry of their names.
//!
//! Each service is one file. To add one, write its file and add an entry to `SERVICES`.

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

pub use argument::ArgumentError;

/// An entry of the registry: the service's name and help, and how to create it from its argument.
struct Entry {
    name: &'static str,
    usage: &'static str,
    description: &'static str,
    create: fn(Option<&str>) -> Created,
}

type Created = Result<Arc<dyn Service>, ArgumentError>;

/// All services, in the order of the help.
const SERVICES: [Entry; 9] = [
    Entry {
        name: "upper",
        usage: "upper",
        description: "answers each message in upper case, all of Unicode",
        create: |argument| without_argument(argument, upper::Upper),
    },
    Entry {
        name: "lower",
        usage: "lower",
        description: "answers each message in lower case",
        create: |argument| without_argument(argument, lower::Lower),
    },
    Entry {
        name: "echo",
        usage: "echo",
        description: "answers each message with itself",
        create: |argument| without_argument(argument, echo::Echo),
    },
    Entry {
        name: "greet",
        usage: "greet[:TEXT|@FILE]",
        description: "sends TEXT (\"Thank you for connecting\") or the contents of FILE, and closes",
        create: |argument| Ok(Arc::new(greet::Greet::new(argument)?)),
    },
    Entry {
        name: "discard",
        usage: "discard",
        description: "reads everything and sends nothing",
        create: |argument| without_argument(argument, discard::Discard),
    },
    Entry {
        name: "time",
        usage: "time",
        description: "sends the time in 32 bits (RFC 868), and closes",
        create: |argument| without_argument(argument, clock::Clock::Time),
    },
    Entry {
        name: "daytime",
        usage: "daytime",
        description: "sends date and time as a line, and closes",
        create: |argument| without_argument(argument, clock::Clock::Daytime),
    },
    Entry {
        name: "chargen",
        usage: "chargen",
        description: "sends characters without end",
        create: |argument| without_argument(argument, chargen::Chargen),
    },
    Entry {
        name: "info",
        usage: "info",
        description: "answers each message with a line of JSON about it and its conversation",
        create: |argument| without_argument(argument, info::Info),
    },
];

/// A service of the registry, parsed from `NAME` or `NAME:ARGUMENT`. Conversations and endpoints may share it.
#[derive(Clone, Debug)]
pub struct NamedService(pub Arc<dyn Service>);

/// Reasons why a text does not name a service.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ServiceNameError {
    /// There is no service of that name.
    #[error("invalid service {}: expected {}", quoted(name), usages())]
    Unknown {
        /// The unknown name.
        name: String,
    },
    /// The service rejects its argument, the text after the colon.
    #[error("{name}: {source}")]
    Argument {
        /// The service.
        name: &'static str,
        /// The reason.
        source: ArgumentError,
    },
}

impl FromStr for NamedService {
    type Err = ServiceNameError;

    fn from_str(text: &str) -> Result<Self, ServiceNameError> {
        let (name, argument) = match text.split_once(':') {
            Some((name, argument)) => (name, Some(argument)),
            None => (text, None),
        };
        let entry = SERVICES.iter().find(|entry| entry.name == name);
        let Entry { name, create, .. } = entry.ok_or_else(|| ServiceNameError::Unknown {
            name: name.to_owned(),
        })?;
        create(argument)
            .map(Self)
            .map_err(|source| ServiceNameError::Argument { name, source })
    }
}

/// Returns the usage and a description of each service.
pub fn list() -> impl Iterator<Item = (&'static str, &'static str)> {
    SERVICES
        .iter()
        .map(|entry| (entry.usage, entry.description))
}

fn usages() -> String {
    SERVICES
        .iter()
        .map(|entry| entry.usage)
        .collect::<Vec<_>>()
        .join(", ")
}

fn without_argument(argument: Option<&str>, service: impl Service + 'static) -> Created {
    match argument {
        None => Ok(Arc::new(service)),
        Some(argument) => Err(ArgumentError::Unwanted(argument.to_owned())),
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
            assert_eq!(text.parse::<NamedService>().unwrap().0.name(), name);
        }
    }

    #[test]
    fn unknown_service_lists_the_known_ones() {
        let error = "uper".parse::<NamedService>().unwrap_err().to_string();
        assert_eq!(
            error,
            "invalid service uper: expected upper, lower, echo, greet[:TEXT|@FILE], discard, time, daytime, chargen, info"
        );
        let error = "echo:x".parse::<NamedService>().unwrap_err().to_string();
        assert_eq!(error, "echo: invalid argument \"x\": expected none");
    }
}
