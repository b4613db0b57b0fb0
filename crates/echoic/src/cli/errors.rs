//! Errors of the command line: shortened, and safe to print on a terminal.

use std::{error::Error, ffi::OsString};

use clap::{
    CommandFactory,
    error::{ContextKind, ContextValue},
};

use super::{Cli, flag_hints};
use crate::{
    exit::{CommandResult, Exit},
    term::{self, Payload},
};

/// Prints an error on standard error, or the help or version that was asked for on standard output. clap's own `exit` takes a
/// full device for success.
pub(super) fn print(error: &clap::Error) -> CommandResult {
    let text = error.render();
    if error.use_stderr() {
        term::draw(&term::without_logins(&text.ansi().to_string()));
        return Ok(Exit::Usage);
    }
    let mut payload = Payload::new(false);
    let printed = payload.text(format_args!("{}", text.ansi()));
    term::done(printed.and_then(|()| payload.flush()))
}

/// Prepares a parse error for printing: with a hint for flags of netcat, without repetition, and escaped.
/// `args` is the command line.
pub(super) fn prepared(error: clap::Error, args: &[OsString]) -> clap::Error {
    sanitize(shorten(flag_hints::add_hint(error), args))
}

/// Removes clap's own "invalid value" where the source error starts with "invalid" and names the value itself.
fn shorten(error: clap::Error, args: &[OsString]) -> clap::Error {
    let reason = error.source().map(ToString::to_string);
    let Some(reason) = reason.filter(|reason| reason.starts_with("invalid ")) else {
        return error;
    };
    let flag = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(arg)) => arg.split(' ').next().filter(|arg| arg.starts_with('-')),
        _ => None,
    };
    let source = flag.map(|flag| variable_of(flag, args).unwrap_or_else(|| flag.to_owned()));
    let flag = source.map_or(String::new(), |source| format!("{source}: "));
    let message = format!("{flag}{reason}\n\nFor more information, try '--help'.\n");
    clap::Error::raw(error.kind(), message)
}

/// Returns the environment variable that gave the value of `flag`; `None` if the command line did.
fn variable_of(flag: &str, args: &[OsString]) -> Option<String> {
    let is_given = args.iter().any(|arg| {
        arg.to_string_lossy()
            .strip_prefix(flag)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    });
    let command = Cli::command();
    let verb = command.find_subcommand(args.get(1)?)?;
    let arg = verb
        .get_arguments()
        .find(|arg| arg.get_long() == flag.strip_prefix("--"))?;
    let variable = arg.get_env().filter(|_| !is_given)?;
    Some(variable.to_string_lossy().into_owned())
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
