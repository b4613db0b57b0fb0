//! The probe report as a JSON object.

use std::{borrow::Cow, time::Duration};

use echoic_client::probe::{AttemptOutcome, DnsRecord, Report, Verdict};
use serde::Serialize;

use super::{
    tls::Handshake,
    words::{dns_status, failure},
};
use crate::exit::Exit;

/// The report for one endpoint. Times are in milliseconds since the start.
#[derive(Debug, Serialize)]
pub(super) struct JsonReport<'a> {
    endpoint: String,
    port_assumed: bool,
    state: &'static str,
    verdict: &'a str,
    exit: u8,
    took_ms: f64,
    rounds: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    waited_ms: Option<f64>,
    names: Vec<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns: Option<Dns<'a>>,
    tries: Vec<Tried>,
    addresses: Vec<AddressSummary>,
    untried: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tls: Vec<Handshake<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<ServiceAnswer<'a>>,
}

/// The answer to `--send` and `--expect`.
#[derive(Debug, Serialize)]
struct ServiceAnswer<'a> {
    expected: &'a str,
    met: bool,
    bytes: usize,
    took_ms: f64,
}

#[derive(Debug, Serialize)]
struct Name {
    family: String,
    at_ms: f64,
    addresses: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<String>,
}

#[derive(Debug, Serialize)]
struct Dns<'a> {
    servers: Vec<String>,
    answers: Vec<Answer<'a>>,
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    kind: &'static str,
    took_ms: f64,
    #[serde(rename = "says")]
    status: Cow<'a, str>,
    records: Vec<Record<'a>>,
}

#[derive(Debug, Serialize)]
struct Record<'a> {
    name: &'a str,
    kind: &'a str,
    ttl_s: u32,
    value: &'a str,
}

#[derive(Debug, Serialize)]
struct Tried {
    address: String,
    started_ms: f64,
    ended_ms: f64,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    local: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mss: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct AddressSummary {
    address: String,
    tries: usize,
    good: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    median_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_ms: Option<f64>,
}

impl<'a> JsonReport<'a> {
    pub(super) fn of(
        report: &'a Report,
        verdict: &'a Verdict,
        exit: Exit,
        port_assumed: bool,
    ) -> Self {
        Self {
            endpoint: report.endpoint.to_string(),
            port_assumed,
            state: verdict.state.word(),
            verdict: &verdict.sentence,
            exit: exit as u8,
            took_ms: ms(report.took),
            rounds: report.rounds,
            waited_ms: report.waited.map(ms),
            names: names(report),
            dns: dns(report),
            tries: tries(report),
            addresses: addresses(report),
            untried: report.untried.iter().map(ToString::to_string).collect(),
            tls: report.tls.iter().map(Handshake::of).collect(),
            answer: report.answer.as_ref().map(|answer| ServiceAnswer {
                expected: &answer.expected,
                met: answer.failure.is_none(),
                bytes: answer.bytes,
                took_ms: ms(answer.took),
            }),
        }
    }
}

fn names(report: &Report) -> Vec<Name> {
    let names = report.names.iter().map(|answer| Name {
        family: answer.family.to_string(),
        at_ms: ms(answer.at),
        addresses: answer
            .found
            .iter()
            .flatten()
            .map(|addr| addr.ip().to_string())
            .collect(),
        missing: answer.found.as_ref().err().map(ToString::to_string),
    });
    names.collect()
}

fn dns(report: &Report) -> Option<Dns<'_>> {
    let dns = report.dns.as_ref()?;
    let answers = dns.answers.iter().map(|answer| Answer {
        kind: answer.kind,
        took_ms: ms(answer.took),
        status: answer
            .found
            .as_ref()
            .map_or_else(dns_status, |_| "NOERROR".into()),
        records: answer.found.iter().flatten().map(record).collect(),
    });
    Some(Dns {
        servers: dns.servers.iter().map(ToString::to_string).collect(),
        answers: answers.collect(),
    })
}

fn record(record: &DnsRecord) -> Record<'_> {
    Record {
        name: &record.name,
        kind: &record.kind,
        ttl_s: record.ttl,
        value: &record.value,
    }
}

fn tries(report: &Report) -> Vec<Tried> {
    let tries = report.tries.iter().map(|tried| {
        let (outcome, local, bytes, error) = match &tried.outcome {
            AttemptOutcome::Connected { local, .. } => (
                "connected",
                local.as_ref().map(ToString::to_string),
                None,
                None,
            ),
            AttemptOutcome::Replied { bytes } => ("replied", None, Some(*bytes), None),
            AttemptOutcome::Failed(error) => (failure(error), None, None, Some(error.to_string())),
            AttemptOutcome::Silent => ("no answer", None, None, None),
            AttemptOutcome::Overtaken => ("overtaken", None, None, None),
        };
        let mss = match &tried.outcome {
            AttemptOutcome::Connected { mss, .. } => *mss,
            _ => None,
        };
        Tried {
            address: tried.address.to_string(),
            started_ms: ms(tried.started),
            ended_ms: ms(tried.ended),
            outcome,
            local,
            mss,
            bytes,
            error,
        }
    });
    tries.collect()
}

fn addresses(report: &Report) -> Vec<AddressSummary> {
    let summaries = report
        .by_address()
        .into_iter()
        .map(|summary| AddressSummary {
            address: summary.address.to_string(),
            tries: summary.tries.len(),
            good: summary.good,
            min_ms: summary.span.map(|span| ms(span.min)),
            median_ms: summary.span.map(|span| ms(span.median)),
            max_ms: summary.span.map(|span| ms(span.max)),
        });
    summaries.collect()
}

/// Converts to milliseconds with three decimals.
pub(super) fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1_000_000.0).round() / 1000.0
}
