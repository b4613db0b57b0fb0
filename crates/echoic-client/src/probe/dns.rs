//! What the name servers say themselves: records with their time to live, and who said no.
//!
//! Beside the system's resolver, which is what other programs hear but which tells little: not for how long an answer
//! holds, nor a server that failed from one that is silent.

use std::{net::IpAddr, time::Duration};

/// The name servers' word on a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// Who was to be asked, as configured (resolv.conf(5)).
    pub servers: Vec<IpAddr>,
    /// For AAAA and for A.
    pub answers: Vec<DnsAnswer>,
}

/// The answer to one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsAnswer {
    /// What was asked for: `AAAA` or `A`.
    pub kind: &'static str,
    /// How long it took.
    pub took: Duration,
    /// The records, with the aliases on the way to them.
    pub found: Result<Vec<DnsRecord>, DnsFailure>,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsRecord {
    /// Whose it is. From the network: it may hold anything.
    pub name: String,
    /// `AAAA`, `A`, `CNAME`.
    pub kind: String,
    /// For how many seconds it may be kept.
    pub ttl: u32,
    /// What it says. From the network: it may hold anything.
    pub value: String,
}

/// Why there are no records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsFailure {
    /// There is no such name (NXDOMAIN).
    NoName,
    /// The name is there and has no such record.
    NoRecord,
    /// The server answered that it failed, or would not: its code, such as `SERVFAIL` or `REFUSED`.
    Code(String),
    /// No server answered in time.
    Silent,
    /// Nobody listens where the servers should be (ICMP port unreachable).
    Closed,
    /// The servers could not be asked.
    Unasked(String),
}

impl Dns {
    /// Of servers that are not there.
    pub(super) fn closed(servers: Vec<IpAddr>, took: Duration) -> Self {
        let answer = |kind| DnsAnswer {
            kind,
            took,
            found: Err(DnsFailure::Closed),
        };
        Self {
            servers,
            answers: vec![answer("AAAA"), answer("A")],
        }
    }
}

#[cfg(not(feature = "dns"))]
pub(super) fn servers() -> Vec<IpAddr> {
    vec![]
}

#[cfg(not(feature = "dns"))]
#[expect(clippy::unused_async, reason = "with the feature it asks")]
pub(super) async fn ask(_name: String, _within: Duration) -> Option<Dns> {
    None
}

#[cfg(feature = "dns")]
pub(super) use asking::{ask, servers};

#[cfg(feature = "dns")]
mod asking {
    use std::{net::IpAddr, time::Duration};

    use hickory_resolver::{
        TokioResolver,
        config::ResolveHosts,
        net::{DnsError, NetError, NoRecords, runtime::TokioRuntimeProvider},
        proto::{op::ResponseCode, rr::RecordType},
        system_conf::read_system_conf,
    };
    use tokio::time::{Instant, timeout};

    use super::{Dns, DnsAnswer, DnsFailure, DnsRecord};

    /// Who is to be asked (resolv.conf(5)).
    pub(in super::super) fn servers() -> Vec<IpAddr> {
        let Ok((config, _)) = read_system_conf() else {
            return vec![];
        };
        config
            .name_servers()
            .iter()
            .map(|server| server.ip)
            .collect()
    }

    /// Asks for AAAA and A. None if there is no configuration to tell whom to ask.
    pub(in super::super) async fn ask(name: String, within: Duration) -> Option<Dns> {
        let (config, mut options) = read_system_conf().ok()?;
        let servers = config
            .name_servers()
            .iter()
            .map(|server| server.ip)
            .collect();
        options.use_hosts_file = ResolveHosts::Never;
        options.preserve_intermediates = true;
        options.cache_size = 0;
        // Asked twice in the time there is: datagrams get lost.
        options.timeout = within / 2;
        options.attempts = 1;
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let resolver = builder.with_options(options).build().ok()?;
        let question = async |kind: &'static str, of: RecordType| {
            let began = Instant::now();
            let answer = timeout(within, resolver.lookup(name.as_str(), of)).await;
            let found = match answer {
                Ok(Ok(lookup)) => Ok(lookup.answers().iter().map(record).collect()),
                Ok(Err(error)) => Err(says(&error)),
                Err(_) => Err(DnsFailure::Silent),
            };
            DnsAnswer {
                kind,
                took: began.elapsed(),
                found,
            }
        };
        let (six, four) = tokio::join!(
            question("AAAA", RecordType::AAAA),
            question("A", RecordType::A)
        );
        Some(Dns {
            servers,
            answers: vec![six, four],
        })
    }

    fn record(record: &hickory_resolver::proto::rr::Record) -> DnsRecord {
        DnsRecord {
            name: record.name.to_string(),
            kind: record.record_type().to_string(),
            ttl: record.ttl,
            value: record.data.to_string(),
        }
    }

    fn says(error: &NetError) -> DnsFailure {
        match error {
            NetError::Dns(DnsError::NoRecordsFound(NoRecords { response_code, .. })) => {
                match *response_code {
                    ResponseCode::NXDomain => DnsFailure::NoName,
                    ResponseCode::NoError => DnsFailure::NoRecord,
                    code => DnsFailure::Code(word(code)),
                }
            }
            NetError::Dns(DnsError::ResponseCode(code)) => DnsFailure::Code(word(*code)),
            NetError::Timeout => DnsFailure::Silent,
            error => DnsFailure::Unasked(error.to_string()),
        }
    }

    /// As dig(1) writes it.
    fn word(code: ResponseCode) -> String {
        match code {
            ResponseCode::ServFail => "SERVFAIL".into(),
            ResponseCode::Refused => "REFUSED".into(),
            ResponseCode::FormErr => "FORMERR".into(),
            ResponseCode::NotImp => "NOTIMP".into(),
            code => code.to_string(),
        }
    }
}
