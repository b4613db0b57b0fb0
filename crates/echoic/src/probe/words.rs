//! Words for outcomes, the same in text and JSON.

use std::{borrow::Cow, io};

use echoic_client::probe::DnsSays;

/// Returns the status of a DNS answer, in the words of dig(1) where it has one.
pub(super) fn dns_status(status: &DnsSays) -> Cow<'_, str> {
    match status {
        DnsSays::NoName => "NXDOMAIN".into(),
        DnsSays::NoRecord => "no record".into(),
        DnsSays::Code(code) => code.into(),
        DnsSays::Silent => "no answer".into(),
        DnsSays::Closed => "nobody there".into(),
        DnsSays::Unasked(why) => why.into(),
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
