//! Fits the texts after the options to the terminal.
//!
//! They are written for 80 columns. clap would break their lines again on a narrower terminal, each by itself, so that every
//! other line ends early and tables lose their columns. So they are laid out here for the width that clap uses, and clap
//! finds nothing to break.

use clap::Command;
use terminal_size::{Width, terminal_size};

/// Columns of help texts at most: longer lines are hard to read.
const COLUMNS_MAX: usize = 80;

/// Columns of help texts at least, so that there is room beside an indentation.
const COLUMNS_MIN: usize = 30;

/// Columns that a description has at least beside what it describes; with less it stands below.
const DESCRIPTION_MIN: usize = 20;

/// Indentation of what continues an indented line.
const CONTINUED: usize = 6;

/// Returns the command with help texts that fit the terminal.
pub(super) fn fitted(command: Command) -> Command {
    // As clap: the terminal, else COLUMNS.
    let terminal = terminal_size().map(|(Width(columns), _)| columns.into());
    let columns = terminal.or_else(|| std::env::var("COLUMNS").ok()?.parse().ok());
    let columns = columns.map_or(COLUMNS_MAX, |columns: usize| {
        columns.clamp(COLUMNS_MIN, COLUMNS_MAX)
    });
    let fit = |command: Command| match command.get_after_help() {
        Some(text) => {
            let text = laid_out(&text.to_string(), columns);
            command.after_help(text)
        }
        None => command,
    };
    let fit_all = |command: Command| fit(command).mut_subcommands(fit);
    fit(command.term_width(columns)).mut_subcommands(fit_all)
}

/// Lays out a text: lines that are not indented are paragraphs, indented ones are rows of a table.
fn laid_out(text: &str, columns: usize) -> String {
    let mut lines = Vec::new();
    let mut paragraph = String::new();
    for line in text.lines() {
        if !line.is_empty() && !line.starts_with(' ') {
            paragraph += line;
            paragraph.push(' ');
            continue;
        }
        lines.extend(wrapped(&paragraph, 0, columns));
        paragraph.clear();
        if line.is_empty() {
            lines.push(String::new());
        } else {
            lines.extend(row(line, columns));
        }
    }
    lines.extend(wrapped(&paragraph, 0, columns));
    lines.join("\n")
}

/// Lays out `  term  description`: a description that does not fit goes on in its own column, or below the term.
fn row(line: &str, columns: usize) -> Vec<String> {
    if line.chars().count() <= columns {
        return vec![line.to_owned()];
    }
    let indent = line.len() - line.trim_start().len();
    let text = line.trim_start();
    let (term, description) = text.split_once("  ").unwrap_or((text, ""));
    let description = description.trim_start();
    let column = line.chars().count() - description.chars().count();
    if description.is_empty() || column + DESCRIPTION_MIN > columns {
        let mut lines = wrapped(term, indent, columns);
        for line in lines.iter_mut().skip(1) {
            *line = format!("{:CONTINUED$}{}", "", line.trim_start());
        }
        lines.extend(wrapped(description, CONTINUED, columns));
        return lines;
    }
    let mut lines = wrapped(description, column, columns);
    if let Some(first) = lines.first_mut() {
        let described = format!("{:indent$}{term}", "");
        *first = format!("{described:<column$}{}", first.trim_start());
    }
    lines
}

/// Breaks a text into indented lines of at most `columns` columns, unless a word alone is longer.
fn wrapped(text: &str, indent: usize, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("{:indent$}{word}", "")),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
A paragraph of the help, which is broken
into two lines.
  hex:ff00         bytes of the request
  echoic log -f    the same

Examples:
  echoic log --count svc:upper  number of
The end.";

    #[test]
    fn text_that_fits_is_unchanged_but_for_paragraphs() {
        let expected = TEXT.replace("broken\ninto", "broken into");
        assert_eq!(laid_out(TEXT, 80), expected);
    }

    #[test]
    fn rows_keep_their_columns() {
        assert_eq!(
            laid_out(TEXT, 39),
            "\
A paragraph of the help, which is
broken into two lines.
  hex:ff00         bytes of the request
  echoic log -f    the same

Examples:
  echoic log --count svc:upper
      number of
The end."
        );
        assert_eq!(
            row("  hex:ff00  bytes of the request, or of its reply", 34),
            [
                "  hex:ff00  bytes of the request,",
                "            or of its reply"
            ]
        );
        assert_eq!(
            row("  echoic bench :5000 --frame line", 24),
            ["  echoic bench :5000", "      --frame line"]
        );
    }
}
