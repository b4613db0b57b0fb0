//! What `log` is asked for: its filter, and how many exchanges.

use std::{fs, path::Path};

use echoic_core::{
    filter::{Filter, Sort, SortKey},
    units::Hex,
};

use crate::{exit::CliError, local_time, term};

/// Exchanges listed on a terminal unless the command line says how many.
const LISTED_DEFAULT: u64 = 50;

/// How many exchanges are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// `-n N`: matches before the last N are not looked at.
    pub(super) last: Option<u64>,
    /// At most so many matches are listed; the last ones, unless `sort:` has another order.
    pub(super) listed: u64,
    /// `limit:N`: the list and what follows it have together at most so many.
    pub(super) in_all: u64,
    /// Nobody asked for a limit.
    pub(super) is_default: bool,
}

impl Limits {
    /// `last` is of `-n`, and `limit` of `limit:`.
    pub(super) fn new(last: Option<u64>, limit: Option<u64>, is_list_on_terminal: bool) -> Self {
        let asked = last.into_iter().chain(limit).min();
        Self {
            last,
            listed: match asked {
                Some(listed) => listed,
                None if is_list_on_terminal => LISTED_DEFAULT,
                None => u64::MAX,
            },
            in_all: limit.unwrap_or(u64::MAX),
            is_default: asked.is_none(),
        }
    }

    /// Returns how many more may be listed after `printed`; a default limits exchanges alone.
    pub(super) fn left(&self, printed: u64) -> u64 {
        if self.is_default {
            u64::MAX
        } else {
            self.listed.saturating_sub(printed)
        }
    }
}

/// Parses the words of the filter.
pub(super) fn filter(words: &[String]) -> Result<Filter, CliError> {
    Filter::parse_at(&joined(words), &local_time::now()).map_err(|error| {
        let redirected = error.key_without_range().and_then(|key| {
            let file = output_file()?;
            Some(format!(
                "\nstandard output is the file {file}: if it was to be '{key}:>{file}', quote it like this"
            ))
        });
        CliError::usage(format!("{error}{}", redirected.unwrap_or_default()))
    })
}

/// Checks that a list in this order can go on.
pub(super) fn check_follow(filter: &Filter) -> Result<(), CliError> {
    match filter.sort() {
        None
        | Some(Sort {
            key: SortKey::Id | SortKey::Time,
            descending: false,
        }) => Ok(()),
        Some(_) => Err(CliError::usage(
            "sort: needs the last exchange first, and -f waits for more: leave out one of them",
        )),
    }
}

/// Joins the arguments to one filter. A shell removes the quotes of `hex:'ff fe'`; an argument that is all bytes gets them
/// back.
fn joined(words: &[String]) -> String {
    let is_bytes = |word: &str| {
        let bytes = word.trim_start_matches(['-', '!']).strip_prefix("hex:");
        bytes.is_some_and(|bytes| bytes.contains(' ') && bytes.parse::<Hex>().is_ok())
    };
    let quoted = words.iter().map(|word| match word.split_once(':') {
        Some((key, bytes)) if is_bytes(word) => format!("{key}:'{bytes}'"),
        _ => word.clone(),
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// Returns the name of the file that standard output goes to; `None` if it goes elsewhere.
fn output_file() -> Option<String> {
    let output = Path::new("/proc/self/fd/1");
    let is_file = fs::metadata(output).ok()?.is_file();
    let path = fs::read_link(output).ok().filter(|_| is_file)?;
    Some(term::sanitize(path.file_name()?.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_get_their_quotes_back() {
        let filter = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
            Filter::parse(&joined(&words)).unwrap().to_string()
        };
        assert_eq!(filter(&["hex:ff fe", "end:rst"]), "hex:fffe end:rst");
        assert_eq!(filter(&["hex:'ff fe'"]), "hex:fffe");
        assert_eq!(filter(&["-hex:0xff 0xfe"]), "-hex:fffe");
        assert_eq!(filter(&["hex:ff", "fe"]), "hex:ff fe");
        assert_eq!(filter(&["hex:ff hello"]), "hex:ff hello");
    }

    #[test]
    fn smaller_of_two_limits_holds() {
        let listed = |last, limit, terminal| Limits::new(last, limit, terminal).listed;
        assert_eq!(listed(None, None, true), LISTED_DEFAULT);
        assert_eq!(listed(None, None, false), u64::MAX);
        assert_eq!(listed(Some(100), None, true), 100);
        assert_eq!(listed(Some(3), Some(5), false), 3);
        assert_eq!(listed(Some(7), Some(5), false), 5);
        assert_eq!(Limits::new(Some(3), Some(5), false).in_all, 5);
    }

    #[test]
    fn default_limits_exchanges_and_an_asked_one_conversations_too() {
        let default = Limits::new(None, None, true);
        assert_eq!(default.left(LISTED_DEFAULT), u64::MAX);
        let asked = Limits::new(Some(3), None, true);
        assert_eq!((asked.left(1), asked.left(3), asked.left(9)), (2, 0, 0));
    }
}
