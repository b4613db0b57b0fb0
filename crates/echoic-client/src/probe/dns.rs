//! Direct queries to the name servers: records with their TTL, and response codes.
//!
//! The system's resolver, which other programs use, reports neither TTLs nor whether a server failed or did not answer.

use std::{net::IpAddr, time::Duration};

/// Answers of the name servers for a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// The configured name servers (resolv.conf(5)).
    pub servers: Vec<IpAddr>,
    /// The answers for AAAA and A.
    pub answers: Vec<DnsAnswer>,
}

/// The answer to one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsAnswer {
    /// The record type in the question: `AAAA` or `A`.
    pub kind: &'static str,
    /// Time until the answer.
    pub took: Duration,
    /// The records, including the CNAMEs that lead to them.
    pub found: Result<Vec<DnsRecord>, DnsFailure>,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsRecord {
    /// The owner name. Untrusted: it may contain any bytes.
    pub name: String,
    /// `AAAA`, `A`, `CNAME`.
    pub kind: String,
    /// Time to live in seconds.
    pub ttl: u32,
    /// The record data as text. Untrusted: it may contain any bytes.
    pub value: String,
}

/// Why there are no records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsFailure {
    /// The name does not exist (NXDOMAIN).
    NoName,
    /// The name exists but has no such record.
    NoRecord,
    /// The server returned an error code, such as `SERVFAIL` or `REFUSED`.
    Code(String),
    /// No server answered in time.
    Silent,
    /// No server listens at the configured addresses (ICMP port unreachable).
    Closed,
    /// The query could not be sent.
    Unasked(String),
}

impl Dns {
    /// Creates the result for servers whose ports are closed.
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
#[expect(clippy::unused_async, reason = "async with the feature")]
pub(super) async fn query(_name: String, _within: Duration) -> Option<Dns> {
    None
}

#[cfg(feature = "dns")]
pub(super) use queries::{query, servers};

#[cfg(feature = "dns")]
mod queries {
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

    /// Returns the configured name servers (resolv.conf(5)).
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

    /// Queries AAAA and A in parallel. `None` if there is no resolver configuration.
    pub(in super::super) async fn query(name: String, within: Duration) -> Option<Dns> {
        let (config, mut options) = read_system_conf().ok()?;
        let servers = config
            .name_servers()
            .iter()
            .map(|server| server.ip)
            .collect();
        options.use_hosts_file = ResolveHosts::Never;
        options.preserve_intermediates = true;
        options.cache_size = 0;
        // One retransmission within the time limit: datagrams get lost.
        options.timeout = within / 2;
        options.attempts = 1;
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let resolver = builder.with_options(options).build().ok()?;
        let question = async |kind: &'static str, of: RecordType| {
            let began = Instant::now();
            let answer = timeout(within, resolver.lookup(name.as_str(), of)).await;
            let found = match answer {
                Ok(Ok(lookup)) => Ok(lookup.answers().iter().map(record).collect()),
                Ok(Err(error)) => Err(failure(&error)),
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

    fn failure(error: &NetError) -> DnsFailure {
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

    /// Formats the code as dig(1) does.
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
