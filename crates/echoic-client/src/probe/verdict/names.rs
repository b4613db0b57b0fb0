//! Explains why a name did not resolve.

use echoic_core::endpoint::{Endpoint, Host};
use echoic_wire::eyeballs::LookupFailure;

use crate::probe::{
    dns::{Dns, DnsFailure},
    report::{Report, figure},
};

/// Explains why there is no address. Answers of the name servers take precedence over those of the resolver, which cannot
/// tell a server that failed from one that does not answer.
pub(super) fn not_resolved(report: &Report) -> String {
    let host = match &report.endpoint {
        Endpoint::Tcp(at) | Endpoint::Udp(at) | Endpoint::Tls(at) => match &at.host {
            Host::Name(name) => name.as_str(),
            Host::Zoned(_, zone) => {
                return format!(
                    "not resolved: this machine has no interface {zone}; `ip link` lists them"
                );
            }
            _ => return "not resolved: there is no address to try".to_owned(),
        },
        endpoint => return format!("not resolved: {endpoint} cannot be probed"),
    };
    let timeout = figure(report.timeout);
    let server = report
        .dns
        .as_ref()
        .map_or_else(|| "the resolver".to_owned(), servers);
    match trouble(report) {
        Trouble::NoName => format!(
            "not resolved: there is no such name as {host} ({}); check the spelling, or add it to the DNS or \
             to /etc/hosts",
            if report.dns.is_some() {
                "NXDOMAIN"
            } else {
                "the resolver says"
            }
        ),
        Trouble::NoAddress => format!(
            "not resolved: {host} exists and has no address, neither AAAA nor A; check which name has one"
        ),
        Trouble::Failed(code) => format!(
            "not resolved: the resolver failed ({code} from {server}), which gives no information on {host} itself; try again \
             later, or ask another resolver"
        ),
        Trouble::Silent => format!(
            "not resolved: the resolver is silent, {server} gave no answer for {host} within {timeout}; look whether it \
             runs and whether UDP port 53 is let through (/etc/resolv.conf names it)"
        ),
        Trouble::Closed => format!(
            "not resolved: no name server listens at {server} (UDP port 53 is closed); start \
             it, or name another one in /etc/resolv.conf"
        ),
        Trouble::SilentOrFailed => format!(
            "not resolved: the resolver failed or got no answer for {host}; look whether the servers in \
             /etc/resolv.conf answer"
        ),
        Trouble::Hidden => format!(
            "not resolved: the DNS has addresses for {host}, but this machine's resolver gives none; look at the \
             line `hosts:` in /etc/nsswitch.conf"
        ),
        Trouble::Other(error) => format!("not resolved: {host}: {error}"),
    }
}

enum Trouble {
    NoName,
    NoAddress,
    Failed(String),
    Silent,
    Closed,
    SilentOrFailed,
    Hidden,
    Other(String),
}

fn trouble(report: &Report) -> Trouble {
    let missing = || {
        report
            .names
            .iter()
            .filter_map(|answer| answer.found.as_ref().err())
    };
    let known = missing()
        .all(|missing| matches!(missing, LookupFailure::NoName | LookupFailure::NoAddress(_)));
    match report.dns.as_ref().and_then(dns_trouble) {
        Some(Trouble::Hidden) if !known => return Trouble::SilentOrFailed,
        Some(trouble) => return trouble,
        None => {}
    }
    for missing in missing() {
        match missing {
            LookupFailure::Failed(error) => return Trouble::Other(error.to_string()),
            LookupFailure::TimedOut => return Trouble::Silent,
            LookupFailure::TryAgain => return Trouble::SilentOrFailed,
            LookupFailure::NoName | LookupFailure::NoAddress(_) => {}
        }
    }
    if report.names.is_empty() {
        Trouble::Silent
    } else if missing().any(|missing| matches!(missing, LookupFailure::NoName)) {
        Trouble::NoName
    } else {
        Trouble::NoAddress
    }
}

/// Determines the cause from the answers of the name servers.
fn dns_trouble(dns: &Dns) -> Option<Trouble> {
    if dns.answers.iter().any(|answer| answer.found.is_ok()) {
        return Some(Trouble::Hidden);
    }
    let mut failures: Vec<&DnsFailure> = dns
        .answers
        .iter()
        .filter_map(|answer| answer.found.as_ref().err())
        .collect();
    // The least reliable answer first: a server that failed on one question is not trusted on the other.
    let weight = |failure: &&DnsFailure| match failure {
        DnsFailure::Code(_) => 0,
        DnsFailure::Unasked(_) => 1,
        DnsFailure::Closed => 2,
        DnsFailure::Silent => 3,
        DnsFailure::NoName => 4,
        DnsFailure::NoRecord => 5,
    };
    failures.sort_by_key(weight);
    failures.first().map(|failure| match failure {
        DnsFailure::Code(why) | DnsFailure::Unasked(why) => Trouble::Failed(why.clone()),
        DnsFailure::Closed => Trouble::Closed,
        DnsFailure::Silent => Trouble::Silent,
        DnsFailure::NoName => Trouble::NoName,
        DnsFailure::NoRecord => Trouble::NoAddress,
    })
}

/// Formats the servers: the first, and the number of the others.
fn servers(dns: &Dns) -> String {
    match dns.servers.as_slice() {
        [] => "the resolver".to_owned(),
        [one] => one.to_string(),
        [first, others @ ..] => format!("{first} and {} more", others.len()),
    }
}
