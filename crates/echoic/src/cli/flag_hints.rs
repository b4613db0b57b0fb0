//! Hints for flags of `nc` and `ncat` that echoic does not have: each names the echoic equivalent.

use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

/// Flags that nc and ncat share, each with its equivalent.
const HINTS: [(&str, &str); 8] = [
    (
        "-l",
        "to listen, use: echoic serve ENDPOINT (as in: echoic serve 5000)",
    ),
    (
        "-k",
        "serve accepts any number of connections; --once stops after one",
    ),
    ("-u", "for UDP, use a URL: udp://HOST:PORT"),
    ("-U", "for a Unix socket, use: unix:PATH"),
    ("-z", "to check a port, use: echoic probe HOST:PORT"),
    (
        "-N",
        "connect shuts down its sending side at the end of input; --hold prevents that",
    ),
    ("-4", "for IPv4, use an address: 127.0.0.1:PORT"),
    ("-6", "for IPv6, use an address: [::1]:PORT"),
];

/// Adds the hint as a tip to an error about one of these flags; returns other errors unchanged.
pub(super) fn add_hint(mut error: Error) -> Error {
    if error.kind() != ErrorKind::UnknownArgument {
        return error;
    }
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let hint = HINTS.iter().find(|(known, _)| known == flag);
    if let Some((_, hint)) = hint {
        let tip = ContextValue::StyledStrs(vec![(*hint).into()]);
        error.insert(ContextKind::Suggested, tip);
    }
    error
}
