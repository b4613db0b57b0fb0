//! Words for outcomes, the same in text and JSON.

use std::{borrow::Cow, io};

use echoic_client::probe::DnsFailure;

/// Returns the status of a DNS answer, in the words of dig(1) where it has one.
pub(super) fn dns_status(status: &DnsFailure) -> Cow<'_, str> {
    match status {
        DnsFailure::NoName => "NXDOMAIN".into(),
        DnsFailure::NoRecord => "no record".into(),
        DnsFailure::Code(code) => code.into(),
        DnsFailure::Silent => "no answer".into(),
        DnsFailure::Closed => "no server there".into(),
        DnsFailure::Unasked(why) => why.into(),
    }
}

/// Returns the word for a connection error.
pub(super) fn failure(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "refused",
        io::ErrorKind::NetworkUnreachable => "no network",
        io::ErrorKind::HostUnreachable => "no route",
        io::ErrorKind::PermissionDenied => "forbidden",
        io::ErrorKind::NotFound => "not there",
        _ => "failed",
    }
}
