//! What fingers know from the netcats, and what is typed here instead.

use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

/// Letters that nc and ncat share, for which there is a word here.
const INSTEAD: [(&str, &str); 8] = [
    (
        "-l",
        "to listen, type: echoic serve ENDPOINT (as in: echoic serve 5000)",
    ),
    (
        "-k",
        "serve has one caller after the other, and many at once; --once is for one",
    ),
    ("-u", "UDP is said with the endpoint: udp://HOST:PORT"),
    ("-U", "a Unix socket is an endpoint: unix:PATH"),
    (
        "-z",
        "to see whether somebody answers, type: echoic probe HOST:PORT",
    ),
    (
        "-N",
        "the end of the input is the end of our half anyway; --hold leaves it open",
    ),
    ("-4", "an address says its family: 127.0.0.1:PORT"),
    ("-6", "an address says its family: [::1]:PORT"),
];

/// The same error, with that for a tip where it is about such a letter.
pub(super) fn hinted(mut error: Error) -> Error {
    if error.kind() != ErrorKind::UnknownArgument {
        return error;
    }
    let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let instead = INSTEAD.iter().find(|(letter, _)| letter == typed);
    if let Some((_, instead)) = instead {
        let tip = ContextValue::StyledStrs(vec![(*instead).into()]);
        error.insert(ContextKind::Suggested, tip);
    }
    error
}
