//! Prints filters in a form that parses to the same filter.

use std::fmt::{self, Display, Write};

use super::{
    Filter,
    bytes::{Mask, Pattern},
    expr::{Atom, Expr, Side},
    number::Unit,
};
use crate::escape;

impl Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut gap = "";
        if self.expr != Expr::All {
            for step in &self.steps {
                write!(f, "{step} THEN ")?;
            }
            write!(f, "{}", self.expr)?;
            gap = " ";
        }
        if let Some(sort) = self.sort {
            let sign = if sort.descending { "-" } else { "" };
            write!(f, "{gap}sort:{sign}{}", sort.key.word())?;
            gap = " ";
        }
        if let Some(limit) = self.limit {
            write!(f, "{gap}limit:{limit}")?;
        }
        Ok(())
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => Ok(()),
            Self::And(parts) => write_parts(f, parts, " ", |part| matches!(part, Self::Or(_))),
            Self::Or(parts) => write_parts(f, parts, " OR ", |_| false),
            Self::Not(part) if matches!(**part, Self::Atom(_)) => write!(f, "-{part}"),
            Self::Not(part) => write!(f, "-({part})"),
            Self::Atom(atom) => write!(f, "{atom}"),
        }
    }
}

/// Writes `parts` with a separator, with parentheses around those that need them.
fn write_parts(
    f: &mut fmt::Formatter<'_>,
    parts: &[Expr],
    separator: &str,
    needs_parentheses: impl Fn(&Expr) -> bool,
) -> fmt::Result {
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            f.write_str(separator)?;
        }
        if needs_parentheses(part) {
            write!(f, "({part})")?;
        } else {
            write!(f, "{part}")?;
        }
    }
    Ok(())
}

impl Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges = |f: &mut fmt::Formatter<'_>, key, unit: Unit, ranges| {
            f.write_str(key)?;
            unit.write(f, ranges)
        };
        match self {
            Self::Text(Side::Any, needle) => f.write_str(&word(needle.bytes(), false)),
            Self::Text(side, needle) => write!(f, "{}:{}", side.word(), word(needle.bytes(), true)),
            Self::Regex(side, pattern) => write!(f, "{}~{pattern}", side.word()),
            Self::Hex(mask) => write!(f, "hex:{mask}"),
            Self::Peer(peers) => list(f, "peer:", peers),
            Self::Port(ports) => ranges(f, "port:", Unit::Count, ports),
            Self::Endpoint(names) => list(
                f,
                "ep:",
                names.iter().map(|name| word(name.as_bytes(), true)),
            ),
            Self::Protocol(protocols) => list(f, "proto:", protocols.iter().map(|p| p.word())),
            Self::Role(roles) => list(f, "role:", roles),
            Self::Server(names) => list(
                f,
                "server:",
                names.iter().map(|name| word(name.as_bytes(), true)),
            ),
            Self::Sni(names) => list(
                f,
                "sni:",
                names.iter().map(|name| word(name.as_bytes(), true)),
            ),
            Self::Tls(words) => list(
                f,
                "tls:",
                words.iter().map(|name| word(name.as_bytes(), true)),
            ),
            Self::Service(names) => list(
                f,
                "svc:",
                names.iter().map(|name| word(name.as_bytes(), true)),
            ),
            Self::Latency(times) => ranges(f, "lat:", Unit::Time, times),
            Self::Size(sizes) => ranges(f, "size:", Unit::Bytes, sizes),
            Self::After(when) => write!(f, "since:{when}"),
            Self::Before(when) => write!(f, "before:{when}"),
            Self::Is(states) => list(f, "is:", states.iter().map(|state| state.word())),
            Self::End(ends) => list(f, "end:", ends.iter().map(|end| end.word())),
            Self::Id(ids) => ranges(f, "id:", Unit::Name, ids),
            Self::Conversation(ids) => ranges(f, "conv:", Unit::Name, ids),
            Self::Number(numbers) => ranges(f, "n:", Unit::Count, numbers),
            Self::Tag(tags) => list(f, "tag:", tags.iter().map(|tag| word(tag.as_bytes(), true))),
            Self::Note(needle) => write!(f, "note:{}", word(needle.bytes(), true)),
        }
    }
}

impl Side {
    fn word(self) -> &'static str {
        match self {
            Self::Request => "req",
            Self::Reply => "rep",
            Self::Any => "any",
        }
    }
}

fn list<T: Display>(
    f: &mut fmt::Formatter<'_>,
    key: &str,
    items: impl IntoIterator<Item = T>,
) -> fmt::Result {
    f.write_str(key)?;
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            f.write_char(',')?;
        }
        write!(f, "{item}")?;
    }
    Ok(())
}

/// Formats a word, in quotes if the parser would read anything in it as syntax. After a key, colons are plain
/// (`colons`).
fn word(bytes: &[u8], colons: bool) -> String {
    let escaped = escape::text(bytes).to_string();
    let is_plain =
        |c: char| c.is_alphanumeric() || "-._/@%+=#$&*<>?!".contains(c) || c == ':' && colons;
    let is_keyword = matches!(&escaped[..], "AND" | "OR" | "THEN" | "NOT");
    if escaped.chars().all(is_plain) && !escaped.starts_with(['-', '!']) && !is_keyword {
        escaped
    } else {
        format!("\"{}\"", escaped.replace('"', "\\\""))
    }
}

impl Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = self.source();
        if !source.contains(|c: char| c.is_whitespace() || "()\"".contains(c)) {
            return f.write_str(source);
        }
        f.write_char('"')?;
        // The source has no escaped quotation marks (see `Pattern::source`), so escape each of them.
        f.write_str(&source.replace('"', "\\\""))?;
        f.write_char('"')
    }
}

impl Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes().iter().try_for_each(|byte| match byte {
            Some(byte) => write!(f, "{byte:02x}"),
            None => f.write_str("??"),
        })
    }
}
