//! Checks a file: its tables, its keys, and each value by the parser of its flag.

use std::{error::Error as _, ops::Range};

use clap::{
    Arg, Command,
    builder::Resettable,
    error::{ContextKind, ContextValue, ErrorKind},
};
use echoic_core::units::quoted;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Problem, Setting, Value,
    key::{Form, built, exclude, form, keys, nearest, tables, word},
};

/// Returns the settings of a file in its order, or all of its problems.
pub(super) fn check(root: &Command, table: &DeTable<'_>) -> Result<Vec<Setting>, Vec<Problem>> {
    let built = built(root);
    let mut checker = Checker {
        root: &built,
        lenient: without_rules(root.clone()),
        settings: Vec::new(),
        problems: Vec::new(),
    };
    checker.table(&built, &[], table);
    checker.settings.sort_by_key(|setting| setting.at.start);
    if checker.problems.is_empty() {
        Ok(checker.settings)
    } else {
        Err(checker.problems)
    }
}

/// Returns the command and all below it such that only values are checked, and only those given.
fn without_rules(command: Command) -> Command {
    let without = |arg: Arg| {
        arg.env(Resettable::Reset)
            .requires(Resettable::Reset)
            .required(false)
    };
    command.mut_args(without).mut_subcommands(without_rules)
}

struct Checker<'a> {
    root: &'a Command,
    /// The root without rules between arguments.
    lenient: Command,
    settings: Vec<Setting>,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    fn problem(&mut self, at: Range<usize>, why: String) {
        self.problems.push(Problem { at, why });
    }

    /// Checks the table of a command; `path` is the command and its verb, nothing for the root.
    fn table(&mut self, command: &Command, path: &[&str], table: &DeTable<'_>) {
        let before = self.settings.len();
        for (name, value) in table {
            let at = name.span();
            let name = name.get_ref();
            let sub = tables(command).find(|sub| sub.get_name() == name);
            let key = keys(command).find(|arg| word(arg) == name);
            match (sub, key, value.get_ref()) {
                (Some(sub), _, DeValue::Table(table)) => {
                    self.table(sub, &[path, &[sub.get_name()]].concat(), table);
                }
                (Some(_), _, other) => {
                    let header = header(&[path, &[name]].concat());
                    let found = kind(other);
                    self.problem(at, format!("expected a table {header}, found {found}"));
                }
                (None, Some(arg), _) => self.key(path, arg, at, value),
                (None, None, DeValue::Table(_)) if path.is_empty() => {
                    self.problem(at, self.unknown_table(name));
                }
                (None, None, _) => self.problem(at, self.unknown_key(command, path, name)),
            }
        }
        self.exclusions(command, before);
    }

    fn unknown_table(&self, name: &str) -> String {
        let mut names = tables(self.root).map(Command::get_name);
        let what = format!("unknown table {}", quoted(name));
        if let Some(near) = nearest(name, &mut names) {
            return format!("{what}; did you mean [{near}]?");
        }
        let all: Vec<String> = tables(self.root)
            .map(|command| header(&[command.get_name()]))
            .collect();
        format!("{what}: expected a command, one of {}", all.join(" "))
    }

    fn unknown_key(&self, command: &Command, path: &[&str], name: &str) -> String {
        let (name, shown) = (name.trim_start_matches('-'), quoted(name));
        let users: Vec<String> = tables(self.root)
            .filter(|command| keys(command).any(|arg| word(arg) == name))
            .map(|command| header(&[command.get_name()]))
            .collect();
        let users = (!users.is_empty()).then(|| users.join(" "));
        let Some(verb) = path.last() else {
            return match users {
                Some(users) => format!("key {shown} is in no table: expected it in {users}"),
                None => format!("unknown key {shown}: expected a table of a command, as [serve]"),
            };
        };
        let what = format!("unknown key {shown} in {}", header(path));
        let words = keys(command).map(word);
        let words = words.chain(tables(command).map(Command::get_name));
        match (nearest(name, words), users) {
            (Some(near), _) => format!("{what}; did you mean {near}?"),
            (None, Some(users)) => format!("{what}: it is a key of {users}"),
            (None, None) => {
                let of = path[..path.len() - 1].iter().map(|word| format!("{word} "));
                let of: String = of.collect();
                format!(
                    "{what}: expected an option of `echoic {of}{verb} --help`, without its dashes"
                )
            }
        }
    }

    /// Checks a key with its value.
    fn key(&mut self, path: &[&str], arg: &Arg, at: Range<usize>, value: &Spanned<DeValue<'_>>) {
        let form = form(arg);
        let values = match (form, value.get_ref()) {
            (Form::Switch, DeValue::Boolean(false)) => return,
            (Form::Switch, DeValue::Boolean(true)) => Ok(Vec::new()),
            (Form::Switch, other) => Err((value.span(), other)),
            (Form::Many, DeValue::Array(items)) => items.iter().map(text).collect(),
            _ => text(value).map(|value| vec![value]),
        };
        let values = match values {
            Ok(values) => values,
            Err((at, found)) => {
                let expected = match form {
                    Form::Switch => "expected true or false",
                    Form::One => "expected a string or a number",
                    Form::Many => "expected a string, or an array of strings",
                };
                return self.problem(
                    at,
                    format!("{}: {expected}, found {}", word(arg), kind(found)),
                );
            }
        };
        let setting = Setting {
            command: path.iter().map(|word| (*word).to_owned()).collect(),
            id: arg.get_id().clone(),
            key: word(arg).to_owned(),
            form,
            is_positional: arg.is_positional(),
            values,
            at,
        };
        match self.refused(&setting) {
            Some((at, why)) => {
                let at = at.unwrap_or_else(|| value.span());
                self.problem(at, format!("{}: {why}", setting.key));
            }
            None => self.settings.push(setting),
        }
    }

    /// Has the flag's own parser check the values. Returns the range of the one it refuses, and why.
    fn refused(&self, setting: &Setting) -> Option<(Option<Range<usize>>, String)> {
        let end = setting.is_positional.then(|| "--".to_owned());
        let words = std::iter::once("echoic".to_owned())
            .chain(setting.command.iter().cloned())
            .chain(end)
            .chain(setting.words());
        let error = self.lenient.clone().try_get_matches_from(words).err()?;
        let refused = match error.get(ContextKind::InvalidValue) {
            Some(ContextValue::String(refused)) => refused.as_str(),
            _ => "",
        };
        let at = setting.values.iter().find(|(value, _)| value == refused);
        Some((at.map(|(_, at)| at.clone()), reason(&error, refused)))
    }

    /// Finds keys of a table that exclude each other, among the settings from `first` on.
    fn exclusions(&mut self, command: &Command, first: usize) {
        let arg = |setting: &Setting| keys(command).find(|arg| *arg.get_id() == setting.id);
        let settings = &self.settings[first..];
        let settings: Vec<(&Setting, &Arg)> = settings
            .iter()
            .filter_map(|setting| Some((setting, arg(setting)?)))
            .collect();
        let mut problems = Vec::new();
        for (index, (one, one_arg)) in settings.iter().enumerate() {
            for (other, other_arg) in &settings[index + 1..] {
                if !exclude(command, one_arg, other_arg) {
                    continue;
                }
                let (before, after) = if one.at.start < other.at.start {
                    (one, other)
                } else {
                    (other, one)
                };
                let why = format!(
                    "{} and {} exclude each other: omit one of them",
                    before.key, after.key
                );
                let at = after.at.clone();
                problems.push(Problem { at, why });
            }
        }
        self.problems.append(&mut problems);
    }
}

/// Returns a string or a number as it would be typed, with its range; else what it is.
fn text<'a, 'i>(value: &'a Spanned<DeValue<'i>>) -> Result<Value, (Range<usize>, &'a DeValue<'i>)> {
    let text = match value.get_ref() {
        DeValue::String(text) => text.clone().into_owned(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        other => return Err((value.span(), other)),
    };
    Ok((text, value.span()))
}

/// `a string`
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(true) => "true",
        DeValue::Boolean(false) => "false",
        DeValue::Datetime(_) => "a date or time (write it as a string)",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// `[log.wait]`
fn header(path: &[&str]) -> String {
    format!("[{}]", path.join("."))
}

/// Returns the reason of clap's error about a value, on one line.
fn reason(error: &clap::Error, refused: &str) -> String {
    let value = quoted(refused);
    match (error.kind(), error.source()) {
        (_, Some(source)) => {
            let source = source.to_string();
            if source.starts_with("invalid ") {
                source
            } else {
                format!("invalid value {value}: {source}")
            }
        }
        (ErrorKind::InvalidValue, None) => match error.get(ContextKind::ValidValue) {
            Some(ContextValue::Strings(valid)) if !valid.is_empty() => {
                format!("invalid value {value}: expected {}", valid.join(" or "))
            }
            _ => format!("invalid value {value}: expected one that is not empty"),
        },
        _ => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            line.trim_start_matches("error: ").to_owned()
        }
    }
}
