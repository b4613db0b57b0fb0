//! Errors of the command line: shortened, and safe to print on a terminal.

use std::error::Error;

use clap::error::{ContextKind, ContextValue};

use super::flag_hints;
use crate::{
    exit::{CommandResult, Exit},
    term::{self, Payload},
};

/// Prints an error on standard error, or the help or version that was asked for on standard output. clap's own `exit` takes a
/// full device for success.
pub(super) fn print(error: &clap::Error) -> CommandResult {
    let text = error.render();
    if error.use_stderr() {
        term::draw(&text.ansi().to_string());
        return Ok(Exit::Usage);
    }
    let mut payload = Payload::new(false);
    let printed = payload.text(format_args!("{}", text.ansi()));
    term::done(printed.and_then(|()| payload.flush()))
}

/// Prepares a parse error for printing: with a hint for flags of netcat, without repetition, and escaped.
pub(super) fn prepared(error: clap::Error) -> clap::Error {
    sanitize(shorten(flag_hints::add_hint(error)))
}

/// Removes clap's own "invalid value" where the source error starts with "invalid" and names the value itself.
fn shorten(error: clap::Error) -> clap::Error {
    let reason = error.source().map(ToString::to_string);
    let Some(reason) = reason.filter(|reason| reason.starts_with("invalid ")) else {
        return error;
    };
    let flag = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(arg)) => arg.split(' ').next().filter(|arg| arg.starts_with('-')),
        _ => None,
    };
    let flag = flag.map_or(String::new(), |flag| format!("{flag}: "));
    let message = format!("{flag}{reason}\n\nFor more information, try '--help'.\n");
    clap::Error::raw(error.kind(), message)
}

/// Escapes terminal controls in the arguments that the error quotes: a script may have passed text of any origin.
fn sanitize(mut error: clap::Error) -> clap::Error {
    let sanitized: Vec<_> = error
        .context()
        .filter_map(|(kind, value)| {
            let sanitized = match value {
                ContextValue::String(text) => ContextValue::String(term::sanitize(text)),
                ContextValue::Strings(texts) => {
                    ContextValue::Strings(texts.iter().map(term::sanitize).collect())
                }
                _ => return None,
            };
            (sanitized != *value).then_some((kind, sanitized))
        })
        .collect();
    if !sanitized.is_empty() {
        // The suggestion repeats the argument unescaped, among colour codes.
        error.remove(ContextKind::Suggested);
    }
    for (kind, value) in sanitized {
        error.insert(kind, value);
    }
    // clap prints the source error as it is. If that has controls, print the whole error escaped and without colours.
    let has_controls = |source: &dyn Error| term::sanitize(source) != source.to_string();
    if error.source().is_some_and(has_controls) {
        let plain = term::sanitize(error.render());
        let plain = plain.strip_prefix("error: ").unwrap_or(&plain);
        return clap::Error::raw(error.kind(), plain);
    }
    error
}
