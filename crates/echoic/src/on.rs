//! What `--on` of `serve`, `console` and `status` names: a NATS server.

use std::str::FromStr;

use clap::{ArgMatches, error::ErrorKind, parser::ValueSource};
use echoic_nats::{NatsServer, NatsServerError};

use crate::cli::usage_error;

/// A NATS server. The variable `ECHOIC_ON` may have a subject after it, which is for `echoic work`, and is ignored here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct On {
    server: NatsServer,
    has_subject: bool,
}

impl On {
    /// Returns the server.
    pub(crate) fn server(&self) -> &NatsServer {
        &self.server
    }

    /// Checks that no subject is named on the command line, where it would be a mistake.
    pub(crate) fn check(matches: &ArgMatches) -> Result<(), clap::Error> {
        let Some((verb, matches)) = matches.subcommand() else {
            return Ok(());
        };
        let Ok(Some(Self {
            has_subject: true, ..
        })) = matches.try_get_one("on")
        else {
            return Ok(());
        };
        if matches.value_source("on") != Some(ValueSource::CommandLine) {
            return Ok(());
        }
        let why = "invalid value for '--on <URL>': invalid NATS URL: a name after the host has no use here; expected \
            nats://HOST:PORT";
        Err(usage_error(verb, ErrorKind::ValueValidation, why))
    }
}

impl FromStr for On {
    type Err = NatsServerError;

    fn from_str(text: &str) -> Result<Self, NatsServerError> {
        let (scheme, rest) = text.split_at(text.find("://").map_or(0, |at| at + 3));
        let (host, subject) = rest.split_once('/').unwrap_or((rest, ""));
        Ok(Self {
            server: format!("{scheme}{host}").parse()?,
            has_subject: !subject.is_empty(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subject_after_the_server_is_noted() {
        for (text, server, has_subject) in [
            ("nats://db", "nats://db:4222", false),
            ("nats://me:hidden@db/", "nats://db:4222", false),
            ("nats://a,b:7/upper", "nats://a:4222,b:7", true),
            ("nats://db/record?replicas=3", "nats://db:4222", true),
        ] {
            let on: On = text.parse().unwrap();
            assert_eq!(
                (&*on.server().to_string(), on.has_subject),
                (server, has_subject)
            );
        }
        for wrong in ["db:4222", "nats://", "/x", "nats://db?replicas=3"] {
            let error = wrong.parse::<On>().unwrap_err().to_string();
            assert!(error.ends_with("expected nats://HOST:PORT"), "{error}");
        }
    }
}
