//! The keys that a table may have, from clap's definition of the command.

use clap::{Arg, ArgAction, Command};
use strsim::osa_distance;

use super::CONFIG;

/// Commands without a table: they only print.
const WITHOUT_TABLE: [&str; 3] = ["completions", "man", "help"];

/// What the value of a key looks like in TOML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `true` or `false`.
    Switch,
    /// A string or a number.
    One,
    /// An array of these, or one of them.
    Many,
}

/// Returns the command as clap completes it: only then groups have their arguments.
pub(super) fn built(root: &Command) -> Command {
    let mut built = root.clone();
    built.build();
    built
}

/// Whether a command takes options from a file.
pub(super) fn is_configurable(command: &Command) -> bool {
    !WITHOUT_TABLE.contains(&command.get_name())
}

/// Returns the commands, or verbs of a command, that may have a table.
pub(super) fn tables(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|sub| is_configurable(sub))
}

/// Returns the arguments of a command that may be keys of its table.
pub(super) fn keys(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| {
        let is_help = matches!(
            arg.get_action(),
            ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version
        );
        !is_help && !arg.is_hide_set() && arg.get_id() != CONFIG
    })
}

/// The word of an argument in a file: its flag without dashes, or the name of a positional argument.
pub(super) fn word(arg: &Arg) -> &str {
    arg.get_long().unwrap_or_else(|| arg.get_id().as_str())
}

/// Returns what the value of an argument looks like.
pub(super) fn form(arg: &Arg) -> Form {
    let takes_many = arg.get_num_args().is_some_and(|num| num.max_values() > 1);
    match arg.get_action() {
        action if !action.takes_values() => Form::Switch,
        ArgAction::Append => Form::Many,
        _ if takes_many => Form::Many,
        _ => Form::One,
    }
}

/// Whether two arguments of a command exclude each other.
pub(super) fn exclude(command: &Command, one: &Arg, other: &Arg) -> bool {
    let names = |one: &Arg, other: &Arg| {
        let excluded = command.get_arg_conflicts_with(one);
        excluded.iter().any(|arg| arg.get_id() == other.get_id())
    };
    let mut groups = command.get_groups();
    names(one, other)
        || names(other, one)
        || groups.any(|group| {
            let has = |arg: &Arg| group.get_args().any(|id| id == arg.get_id());
            has(one) && has(other) && !group.clone().is_multiple()
        })
}

/// Returns the word that differs least from `name`, in less than half of its characters.
pub(super) fn nearest<'a>(name: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase().replace('_', "-");
    words
        .map(|word| (osa_distance(&name, word), word))
        .filter(|(distance, word)| 2 * distance < word.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}
