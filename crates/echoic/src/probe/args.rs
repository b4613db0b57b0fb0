//! The command line of `echoic probe`, and the plan that it describes.

use std::{net::Ipv6Addr, sync::Arc, time::Duration};

use clap::Args;
use echoic_client::{
    Expected,
    probe::{ServiceCheck, TlsCheck},
};
use echoic_core::{
    endpoint::{Endpoint, Host},
    units::Span,
};
use echoic_wire::{ClientLayer, TlsClient, TlsClientOptions};

use crate::{
    cli::count,
    connect::{SendArgs, StartTlsArgs, TlsClientArgs},
    term::sanitize,
};

/// Check whether an endpoint can be reached, and if not, why
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ProbeArgs {
    /// Probe HOST (port 80), HOST:PORT, 5000 or :5000 (this machine), udp://HOST:PORT,
    /// tls://HOST:PORT or ./x.sock
    #[arg(value_name = "ENDPOINT", required = true)]
    endpoints: Vec<String>,

    /// Try every address on its own, instead of stopping at the first that connects
    #[arg(long)]
    all: bool,

    /// Connect N times and print min, median and max: to the address that answered, or to every one with --all
    #[arg(long, value_name = "N", default_value = "1", value_parser = count::<u32>(1..=1000))]
    count: u32,

    /// Allow this time for the name, and for each address; a plain number is seconds
    #[arg(short = 'w', long, value_name = "TIME", default_value = "5s")]
    timeout: Span,

    /// Require an answer that contains this, and exit with 7 if it does not come within --timeout; /.../ is a regular
    /// expression
    #[arg(long, value_name = "TEXT|/REGEX/", conflicts_with_all = ["all", "count"])]
    expect: Option<Expected>,

    #[command(flatten)]
    sends: SendArgs,

    /// Retry until it is reachable, and with --expect until it answers, for at most this time; a plain number is seconds
    #[arg(long, value_name = "TIME")]
    wait: Option<Span>,

    /// Print one JSON object per line for each endpoint
    #[arg(long)]
    json: bool,

    /// Print each socket call with its arguments and result on standard error
    #[arg(long)]
    explain: bool,

    #[command(flatten)]
    tls: TlsClientArgs,

    #[command(flatten)]
    starttls: StartTlsArgs,
}

const EXAMPLES: &str = "\
Examples:
  echoic probe :5000                          the echoic serve on this machine
  echoic probe example.test                   a name and its addresses, port 80
  echoic probe localhost:5000 --explain       with getaddrinfo, socket, connect
  echoic probe localhost:5000 --all           every address of the name
  echoic probe :5000 --count 10               how long a connection takes
  echoic probe --wait 30s :5000 && echo up    wait until the server is up
  echoic probe :5000 --wait 30s --send hi --expect HI   until it answers
  echoic probe udp://:5000 --timeout 1s       open, closed or silent
  echoic probe tls://example.com:443          certificates, version, days left
  echoic probe tls://:5443 --ca ca.pem        trusted by that file
  echoic probe tls://db.test:5432 --starttls postgres   TLS after plain text

The addresses of a name are tried by Happy Eyeballs (RFC 8305): IPv6 first, the
next after 250 ms, or at once when one fails. TCP and Unix sockets count as
reachable when they connect; nothing is sent. A proxy may accept connections
before its service is up: --expect requires an answer. Over UDP, probe sends a
line (a valid query on ports 53 and 123), and only a reply counts.

Over tls://, probe does the handshake, prints what was agreed on and every
certificate, and judges as a client that verifies would: exit code 0 or 8.

Exit codes: 0 connected, or replied; 2 usage; 3 name not resolved; 4 refused,
closed or unreachable; 5 timed out, filtered or silent; 7 reached, and --expect
not met; 8 TLS handshake failed, or certificate not trusted. With several
endpoints, the code of the first that failed.";

/// What the command line asks for.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) targets: Vec<Target>,
    pub(super) all: bool,
    pub(super) count: u32,
    pub(super) timeout: Duration,
    /// The answer that is required.
    pub(super) check: Option<ServiceCheck>,
    pub(super) wait: Option<Duration>,
    pub(super) json: bool,
    pub(super) explain: bool,
}

/// An endpoint to probe.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) endpoint: Endpoint,
    /// No port was given, so it is 80, as in the script of the tutorial.
    pub(super) port_assumed: bool,
    /// How to open TLS, for `tls://`.
    pub(super) tls: Option<TlsCheck>,
}

impl ProbeArgs {
    /// Returns the plan, or an error that names the argument at fault.
    pub(super) fn plan(&self) -> Result<Plan, String> {
        // The report has all that there is to see, and its verdict is that of a client that verifies.
        let tls = TlsClientOptions {
            insecure: true,
            ..self.tls.options()?
        };
        let any_tls = self.endpoints.iter().any(|text| text.starts_with("tls://"));
        let before = self.starttls.layer(any_tls)?;
        let targets = self
            .endpoints
            .iter()
            .map(|text| target(text, &tls, before.as_ref()));
        let targets: Vec<_> = targets.collect::<Result<_, _>>()?;
        if targets.iter().all(|target| target.tls.is_none()) {
            self.tls.refuse_without_tls()?;
        }
        let timeout = self.timeout.0;
        let sends = self.sends.bodies()?;
        if self.expect.is_none() && !sends.is_empty() {
            return Err(
                "--send needs --expect, which says what the answer must contain".to_owned(),
            );
        }
        if timeout.is_zero() {
            return Err(
                "--timeout 0 leaves no time for an answer; expected at least 1ms".to_owned(),
            );
        }
        Ok(Plan {
            targets,
            all: self.all,
            count: self.count,
            timeout,
            check: self
                .expect
                .clone()
                .map(|expected| ServiceCheck { sends, expected }),
            wait: self.wait.map(|wait| wait.0),
            json: self.json,
            explain: self.explain,
        })
    }
}

fn target(
    text: &str,
    tls: &TlsClientOptions,
    before: Option<&Arc<dyn ClientLayer>>,
) -> Result<Target, String> {
    let (endpoint, port_assumed) = match text.parse::<Endpoint>() {
        Ok(endpoint) => (endpoint, false),
        Err(error) => (with_port_80(text).ok_or_else(|| error.to_string())?, true),
    };
    match &endpoint {
        Endpoint::Tcp(at) | Endpoint::Udp(at) | Endpoint::Tls(at) if at.port == 0 => {
            Err("invalid port 0: expected the port of a server".to_owned())
        }
        Endpoint::Tcp(at) | Endpoint::Udp(at) | Endpoint::Tls(at) if at.host == Host::Any => {
            Err("invalid host *: it is for listening; expected the host to probe".to_owned())
        }
        Endpoint::Fd(_) => Err(
            "invalid endpoint fd: an inherited socket is for listening; expected an address to connect to"
                .to_owned(),
        ),
        _ => Ok(Target {
            tls: tls_check(&endpoint, tls, before.cloned())?,
            endpoint,
            port_assumed,
        }),
    }
}

/// Returns how to open TLS over a connection to `endpoint`; `None` without TLS.
fn tls_check(
    endpoint: &Endpoint,
    options: &TlsClientOptions,
    before: Option<Arc<dyn ClientLayer>>,
) -> Result<Option<TlsCheck>, String> {
    let Endpoint::Tls(at) = endpoint else {
        return Ok(None);
    };
    let client = TlsClient::new(at, options).map_err(sanitize)?;
    Ok(Some(TlsCheck {
        client: Arc::new(client),
        before,
    }))
}

/// Parses a host without a port as port 80; `None` if it is not one.
fn with_port_80(text: &str) -> Option<Endpoint> {
    let ip = text.split_once('%').map_or(text, |(ip, _)| ip);
    let is_bare_ipv6 = ip.parse::<Ipv6Addr>().is_ok();
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
    struct CommandLine {
        #[command(flatten)]
        args: ProbeArgs,
    }

    fn plan(words: &str) -> Result<Plan, String> {
        let words = std::iter::once("probe").chain(words.split(' '));
        let parsed = CommandLine::try_parse_from(words).map_err(|error| error.to_string())?;
        parsed.args.plan()
    }

    #[test]
    fn missing_port_defaults_to_80() {
        for (text, long, assumed) in [
            ("example.test", "tcp://example.test:80", true),
            ("tcp://example.test", "tcp://example.test:80", true),
            ("127.0.0.1", "tcp://127.0.0.1:80", true),
            ("::1", "tcp://[::1]:80", true),
            ("[::1]", "tcp://[::1]:80", true),
            ("fe80::1%eth0", "tcp://[fe80::1%eth0]:80", true),
            ("example.test:8080", "tcp://example.test:8080", false),
            ("5000", "tcp://:5000", false),
            ("./x.sock", "unix:./x.sock", false),
            ("unixgram:x", "unixgram:x", false),
            ("udp://[::1]:53", "udp://[::1]:53", false),
        ] {
            let Target {
                endpoint,
                port_assumed,
                ..
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
            ("fd:3", "for listening"),
            ("tcp://", "has no port"),
            ("localhost:", "has no port"),
            ("udp://localhost", "has no port"),
            ("localhost:http", "invalid port http: expected a number"),
            (":80 --timeout 0", "at least 1ms"),
            (":80 --send x", "--send needs --expect"),
            (":80 --expect x --all", "cannot be used with"),
            (":80 --expect /(/", "unclosed group"),
            (
                ":80 --count 0",
                "invalid count 0: expected at least 1 and at most 1000",
            ),
            (":80 --wait soon", "invalid duration soon: expected"),
            (":80 --ca a.pem", "--ca applies to tls:// only"),
            ("tls://:0", "port 0"),
            ("tls://:80 --client-cert a.pem", "needs --client-key"),
            ("tls://:80 --ca /nowhere.pem", "cannot read /nowhere.pem"),
        ] {
            let error = plan(words).unwrap_err();
            assert!(error.contains(why), "{words}: {error}");
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
