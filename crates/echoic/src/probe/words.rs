//! Words for outcomes, the same for people and for programs.

use std::{borrow::Cow, io};

use echoic_client::probe::DnsFailure;

/// The server's answer in the words of dig(1); what is no answer is said in ours.
pub(super) fn says(says: &DnsFailure) -> Cow<'_, str> {
    match says {
        DnsFailure::NoName => "NXDOMAIN".into(),
        DnsFailure::NoRecord => "no record".into(),
        DnsFailure::Code(code) => code.into(),
        DnsFailure::Silent => "no answer".into(),
        DnsFailure::Closed => "nobody there".into(),
        DnsFailure::Unasked(why) => why.into(),
    }
}

/// A word for an error that has one.
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
