//! Words for outcomes, the same for people and for programs.

use std::{borrow::Cow, io};

use echoic_client::probe::DnsSays;

/// The server's answer in the words of dig(1); what is no answer is said in ours.
pub(super) fn says(says: &DnsSays) -> Cow<'_, str> {
    match says {
        DnsSays::NoName => "NXDOMAIN".into(),
        DnsSays::NoRecord => "no record".into(),
        DnsSays::Code(code) => code.into(),
        DnsSays::Silent => "no answer".into(),
        DnsSays::Closed => "nobody there".into(),
        DnsSays::Unasked(why) => why.into(),
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
