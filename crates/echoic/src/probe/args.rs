//! What is typed after `echoic probe`, and what it means.

use std::{net::Ipv6Addr, time::Duration};

use clap::Args;
use echoic_core::{
    endpoint::{Endpoint, Host},
    units::Span,
};

use crate::cli::count;

/// Can it be reached, and if not, why
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ProbeArgs {
    /// What to reach: HOST (port 80), HOST:PORT, 5000 or :5000 (this machine), udp://HOST:PORT, ./x.sock
    #[arg(value_name = "ENDPOINT", required = true)]
    endpoints: Vec<String>,

    /// Try every address alone, not only until one answers
    #[arg(long)]
    all: bool,

    /// Try so often, for min, median and max: the address that answered, or with --all every one
    #[arg(long, value_name = "N", default_value = "1", value_parser = count::<u32>(1..=1000))]
    count: u32,

    /// Time for the name, and then for each address; a plain number is seconds
    #[arg(short = 'w', long, value_name = "TIME", default_value = "5s")]
    timeout: Span,

    /// Try again until it is reachable, at most so long; a plain number is seconds
    #[arg(long, value_name = "TIME")]
    wait: Option<Span>,

    /// Print one JSON object for each endpoint
    #[arg(long)]
    json: bool,

    /// Tell of each socket call as it happens
    #[arg(long)]
    explain: bool,
}

const EXAMPLES: &str = "\
Examples:
  echoic probe :5000                          does `echoic serve` answer on this machine
  echoic probe example.test                   a name, its addresses, port 80
  echoic probe localhost:5000 --explain       shows getaddrinfo, socket, connect
  echoic probe localhost:5000 --all           every address of the name, each alone
  echoic probe :5000 --count 10               how long a connection takes
  echoic probe --wait 30s :5000 && echo up    waits until a server is there
  echoic probe udp://:5000 --timeout 1s          open, closed or silent: only a reply is a yes

A name's addresses are called as programs with Happy Eyeballs do (RFC 8305): IPv6 first, the next
after 250 ms or at once when one fails. An address counts as reached when it connects; nothing is
said over TCP and Unix sockets. Over UDP a line is sent (a proper question on ports 53 and 123).

Exit codes: 0 an address connects (or replied), 2 usage, 3 name not resolved, 4 refused, closed or
unreachable, 5 timed out, filtered or silent; with several endpoints that of the first that could
not be reached.";

/// What is to be done.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) targets: Vec<Target>,
    pub(super) all: bool,
    pub(super) count: u32,
    pub(super) timeout: Duration,
    pub(super) wait: Option<Duration>,
    pub(super) json: bool,
    pub(super) explain: bool,
}

/// Something to reach.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) endpoint: Endpoint,
    /// Whether the port is the tutorial's 80, since none was given.
    pub(super) port_assumed: bool,
}

impl ProbeArgs {
    /// What was typed means this.
    pub(super) fn plan(&self) -> Result<Plan, String> {
        let targets = self
            .endpoints
            .iter()
            .map(|text| target(text))
            .collect::<Result<_, _>>()?;
        let timeout = self.timeout.0;
        if timeout.is_zero() {
            return Err(
                "--timeout 0 leaves no time for an answer; give it at least 1ms".to_owned(),
            );
        }
        Ok(Plan {
            targets,
            all: self.all,
            count: self.count,
            timeout,
            wait: self.wait.map(|wait| wait.0),
            json: self.json,
            explain: self.explain,
        })
    }
}

fn target(text: &str) -> Result<Target, String> {
    let (endpoint, port_assumed) = match text.parse::<Endpoint>() {
        Ok(endpoint) => (endpoint, false),
        Err(error) => (at_port_80(text).ok_or_else(|| error.to_string())?, true),
    };
    match &endpoint {
        Endpoint::Tcp(at) | Endpoint::Udp(at) if at.port == 0 => {
            Err("nobody can be called at port 0; it means \"any free port\" to a server".to_owned())
        }
        Endpoint::Tcp(at) | Endpoint::Udp(at) if at.host == Host::Any => Err(
            "* is every address of this machine, for listening; name a host to probe".to_owned(),
        ),
        Endpoint::Fd(_) => {
            Err("fd: is a socket handed to a server; there is nothing to call".to_owned())
        }
        _ => Ok(Target {
            endpoint,
            port_assumed,
        }),
    }
}

/// A host without a port, at the port of the tutorial's script.
fn at_port_80(text: &str) -> Option<Endpoint> {
    let is_bare_ipv6 = text.parse::<Ipv6Addr>().is_ok();
    let with_port = if is_bare_ipv6 {
        format!("[{text}]:80")
    } else {
        format!("{text}:80")
    };
    let endpoint = with_port.parse().ok()?;
    let has_host = matches!(&endpoint, Endpoint::Tcp(at) if at.host != Host::Loopback);
    has_host.then_some(endpoint)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        args: ProbeArgs,
    }

    fn plan(words: &str) -> Result<Plan, String> {
        let words = std::iter::once("probe").chain(words.split(' '));
        let typed = Typed::try_parse_from(words).map_err(|error| error.to_string())?;
        typed.args.plan()
    }

    #[test]
    fn missing_port_defaults_to_80() {
        for (text, long, assumed) in [
            ("example.test", "tcp://example.test:80", true),
            ("tcp://example.test", "tcp://example.test:80", true),
            ("127.0.0.1", "tcp://127.0.0.1:80", true),
            ("::1", "tcp://[::1]:80", true),
            ("[::1]", "tcp://[::1]:80", true),
            ("example.test:8080", "tcp://example.test:8080", false),
            ("5000", "tcp://:5000", false),
            ("./x.sock", "unix:./x.sock", false),
            ("unixgram:x", "unixgram:x", false),
            ("udp://[::1]:53", "udp://[::1]:53", false),
        ] {
            let Target {
                endpoint,
                port_assumed,
            } = &plan(text).unwrap().targets[0];
            assert_eq!(
                (endpoint.to_string().as_str(), *port_assumed),
                (long, assumed)
            );
        }
    }

    #[test]
    fn invalid_probe_arguments_are_rejected_with_a_reason() {
        for (words, why) in [
            ("*:80", "for listening"),
            ("*", "for listening"),
            (":0", "port 0"),
            ("fd:3", "handed to a server"),
            ("tcp://", "has no port"),
            ("localhost:", "has no port"),
            ("udp://localhost", "has no port"),
            ("localhost:http", "invalid port http: expected a number"),
            (":80 --timeout 0", "at least 1ms"),
            (
                ":80 --count 0",
                "invalid count 0: expected at least 1 and at most 1000",
            ),
            (":80 --wait soon", "invalid duration soon: expected"),
        ] {
            let said = plan(words).unwrap_err();
            assert!(said.contains(why), "{words}: {said}");
        }
    }

    #[test]
    fn plain_number_is_seconds() {
        let plan = plan("--wait 30 -w 2 :80 :81").unwrap();
        assert_eq!(
            (plan.wait, plan.timeout),
            (Some(Duration::from_secs(30)), Duration::from_secs(2))
        );
        assert_eq!(plan.targets.len(), 2);
    }
}
