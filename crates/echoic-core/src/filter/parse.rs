//! A recursive-descent parser: one function per rule of the grammar in [`super`].

mod words;

use std::{collections::BTreeSet, ops::Range, str::FromStr};

use jiff::Zoned;

use super::{
    Filter, FilterError,
    bytes::{Mask, Needle, Pattern},
    error::Why,
    expr::{Atom, EndClass, Expr, Side, Sort, State},
    key::{self, Key},
    number::Unit,
    peer::Peer,
    values::{Fault, Item, Values, limit, sort},
};
use crate::event::{Protocol, Role};

/// Longest filter, in bytes.
const TEXT_BYTES_MAX: usize = 64 << 10;
/// Deepest nesting of parentheses. The parser and all functions on the tree recurse to this depth.
const DEPTH_MAX: usize = 64;
/// Most conditions. Each may be evaluated for every exchange.
const ATOMS_MAX: usize = 256;
/// Most regular expressions. Each may take 1 MiB of memory.
const REGEXES_MAX: usize = 32;

impl Filter {
    /// Parses a filter. An empty one selects all. The caller joins several arguments of a command line by spaces.
    ///
    /// The limits are 64 KiB, 64 nested parentheses, 256 conditions, 32 regular expressions and 4096 values in lists.
    /// They bound the cost of a filter from an untrusted client.
    ///
    /// Times without a zone are in UTC, and `since:today` and `since:13:55` are errors: see [`Self::parse_at`].
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        parse(text, None)
    }

    /// Parses a filter that somebody has typed at `now`. Times without a zone are in that of `now`, and `today`, `yesterday`
    /// and `13:55` count from its day, once and for all: `since:today` does not move on at midnight.
    ///
    /// A time that the clock of the zone skips is read as if the clock had not been set yet, and one that it shows twice is
    /// the first of the two.
    pub fn parse_at(text: &str, now: &Zoned) -> Result<Self, FilterError> {
        parse(text, Some(now))
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        Self::parse(text)
    }
}

fn parse(text: &str, now: Option<&Zoned>) -> Result<Filter, FilterError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(FilterError {
            why: Why::TooLong {
                found: text.len(),
                most: TEXT_BYTES_MAX,
            },
            span: 0..0,
            text: text.chars().take(80).collect(),
        });
    }
    let mut parser = Parser {
        text,
        now,
        ..Parser::default()
    };
    parser.filter().map_err(|Fault { why, span }| FilterError {
        why,
        span,
        text: text.to_owned(),
    })
}

/// What a client recorded was once found by a service of this name.
fn service_names(values: &Values) -> Result<BTreeSet<String>, Fault> {
    match values.items.iter().find(|item| item.bytes == b"connect") {
        Some(item) => Err(Why::ServiceOfAClient.at(item.span.clone())),
        None => values.each(|text| Some(text.to_owned())),
    }
}

#[derive(Default)]
struct Parser<'a> {
    text: &'a str,
    /// The time that local times refer to.
    now: Option<&'a Zoned>,
    /// The position in `text`, in bytes.
    at: usize,
    /// The number of open parentheses.
    depth: usize,
    /// Counts for the limits.
    atoms: usize,
    regexes: usize,
    values: usize,
    sort: Option<Sort>,
    limit: Option<u64>,
}

impl<'a> Parser<'a> {
    fn filter(&mut self) -> Result<Filter, Fault> {
        let (steps, expr) = self.steps()?;
        match self.peek() {
            None => Ok(Filter {
                steps,
                expr,
                sort: self.sort,
                limit: self.limit,
            }),
            Some(_) => Err(Why::Unopened.at(self.at..self.at + 1)),
        }
    }

    /// `or {"THEN" or}`. Returns the last one apart.
    fn steps(&mut self) -> Result<(Vec<Expr>, Expr), Fault> {
        let mut steps = Vec::new();
        let mut before = None;
        loop {
            let step = self.or()?;
            let after = self.keyword("THEN");
            match before.or_else(|| after.clone()) {
                Some(span) if step == Expr::All => {
                    return Err(Why::Dangling { word: "THEN" }.at(span));
                }
                _ if after.is_none() => return Ok((steps, step)),
                _ => steps.push(step),
            }
            before = after;
        }
    }

    /// `and {"OR" and}`; an empty query selects all.
    fn or(&mut self) -> Result<Expr, Fault> {
        let mut branches = Vec::new();
        let mut before = None;
        loop {
            let branch = self.and()?;
            let after = self.keyword("OR");
            match (branch.is_empty(), before.or_else(|| after.clone())) {
                (true, Some(span)) => return Err(Why::Dangling { word: "OR" }.at(span)),
                (true, None) => return Ok(Expr::All),
                (false, _) => branches.push(Expr::and(branch)),
            }
            if after.is_none() {
                return Ok(Expr::or(branches));
            }
            before = after;
        }
    }

    /// `unary {["AND"] unary}`, possibly none.
    fn and(&mut self) -> Result<Vec<Expr>, Fault> {
        let mut parts = Vec::new();
        let mut is_first = true;
        let mut pending_and = None;
        loop {
            self.skip_space();
            let is_at_end = matches!(self.peek(), None | Some(')'))
                || self.is_at_keyword("OR")
                || self.depth == 0 && self.is_at_keyword("THEN");
            if is_at_end {
                return match pending_and {
                    Some(span) => Err(Why::Dangling { word: "AND" }.at(span)),
                    None => Ok(parts),
                };
            }
            if let Some(span) = self.keyword("AND") {
                if is_first || pending_and.is_some() {
                    return Err(Why::Dangling { word: "AND" }.at(span));
                }
                pending_and = Some(span);
                continue;
            }
            if let Some(span) = self.keyword("THEN") {
                return Err(Why::ThenInside.at(span));
            }
            if let Some(span) = self.keyword("NOT") {
                return Err(Why::Not.at(span));
            }
            parts.extend(self.unary()?);
            (is_first, pending_and) = (false, None);
        }
    }

    /// `["-"|"!"] atom`; `None` for `sort:` and `limit:`, which are stored in the parser.
    fn unary(&mut self) -> Result<Option<Expr>, Fault> {
        let start = self.at;
        let negated = self.peek().is_some_and(|c| matches!(c, '-' | '!'));
        if negated {
            self.at += 1;
            match self.peek() {
                Some('-' | '!') => return Err(Why::TwoSigns.at(start..self.at + 1)),
                Some(c) if c != ')' && !c.is_whitespace() => {}
                _ => return Err(Why::NothingNegated.at(start..self.at)),
            }
        }
        let expr = match (self.peek(), self.head()) {
            (Some('('), _) => self.group()?,
            (_, Some((name, ':'))) => match self.keyed(name, negated)? {
                Some(expr) => expr,
                None => return Ok(None),
            },
            (_, Some((name, _))) if key::find(name).is_some() => self.regex(name)?,
            _ => {
                let item = self.item(false, false)?;
                self.phrase(Side::Any, item)?
            }
        };
        Ok(Some(if negated { Expr::not(expr) } else { expr }))
    }

    /// `"(" query ")"`
    fn group(&mut self) -> Result<Expr, Fault> {
        let start = self.at;
        if self.depth == DEPTH_MAX {
            return Err(Why::TooDeep { most: DEPTH_MAX }.at(start..start + 1));
        }
        self.depth += 1;
        self.at += 1;
        let expr = self.or()?;
        self.depth -= 1;
        match self.peek() {
            Some(_) if expr == Expr::All => Err(Why::EmptyGroup.at(start..self.at + 1)),
            Some(_) => {
                self.at += 1;
                Ok(expr)
            }
            None => Err(Why::Unclosed.at(start..start + 1)),
        }
    }

    /// Returns the word before a colon or a tilde, and which of the two follows it.
    fn head(&self) -> Option<(&'a str, char)> {
        let rest = &self.text[self.at..];
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let name = &rest[..rest.find(|c| !is_word(c))?];
        let mark = rest[name.len()..].chars().next()?;
        let is_head =
            name.starts_with(|c: char| c.is_ascii_alphabetic()) && matches!(mark, ':' | '~');
        is_head.then_some((name, mark))
    }

    /// `key ":" value`; `None` for keys that apply to the whole list.
    fn keyed(&mut self, name: &str, negated: bool) -> Result<Option<Expr>, Fault> {
        let start = self.at;
        self.at += name.len() + 1;
        let span = start..self.at;
        let Some((name, key, wants)) = key::find(name) else {
            let nearest = key::nearest(name);
            return Err(Why::UnknownKey {
                key: name.to_owned(),
                nearest,
            }
            .at(span));
        };
        let Some(key) = key else {
            return Err(Why::NotYet {
                what: format!("{name}:"),
            }
            .at(span));
        };
        if matches!(key, Key::Sort | Key::Limit) && (negated || self.depth > 0) {
            return Err(Why::Inside { key: name }.at(span));
        }
        let mut items = self.items(name, wants)?;
        if let (Key::After | Key::Before, [date]) = (key, &mut items[..]) {
            self.time_after(date);
        }
        self.condition(key, Values { name, wants, items }, span)
    }

    /// Returns the condition of `key` with `values`. Each text of a list is a condition of its own; other lists are one
    /// condition with a set.
    fn condition(
        &mut self,
        key: Key,
        values: Values,
        span: Range<usize>,
    ) -> Result<Option<Expr>, Fault> {
        let owned = |text: &str| Some(text.to_owned());
        let twice = Why::Twice { key: values.name };
        let atom = match key {
            Key::Sort => {
                let before = self.sort.replace(values.one(sort)?);
                return before.map_or(Ok(None), |_| Err(twice.at(span)));
            }
            Key::Limit => {
                let before = self.limit.replace(values.one(limit)?);
                return before.map_or(Ok(None), |_| Err(twice.at(span)));
            }
            Key::Text(side) => {
                let texts = values.items.into_iter().map(|item| self.phrase(side, item));
                return Ok(Some(Expr::or(texts.collect::<Result<Vec<_>, _>>()?)));
            }
            Key::Note => {
                let notes = values.items.into_iter().map(|item| self.note(item));
                return Ok(Some(Expr::or(notes.collect::<Result<Vec<_>, _>>()?)));
            }
            Key::Hex => {
                self.count(values.items.len(), &span)?;
                let masks: Vec<Mask> = values.each(Mask::new)?;
                return Ok(Some(Expr::or(
                    masks.into_iter().map(|mask| Expr::Atom(Atom::Hex(mask))),
                )));
            }
            Key::Peer => Atom::Peer(values.each(Peer::new)?),
            Key::Port => Atom::Port(values.ranges(Unit::Count, u16::MAX.into())?),
            Key::Endpoint => Atom::Endpoint(values.each(owned)?),
            Key::Protocol => Atom::Protocol(values.words(Protocol::ALL, Protocol::word)?),
            Key::Service => Atom::Service(service_names(&values)?),
            Key::Role => Atom::Role(values.words(Role::ALL, Role::word)?),
            Key::Server => Atom::Server(values.each(owned)?),
            Key::Sni => Atom::Sni(values.each(|name| Some(name.to_ascii_lowercase()))?),
            Key::Tls => Atom::Tls(values.each(owned)?),
            Key::Latency => Atom::Latency(values.ranges(Unit::Time, u64::MAX)?),
            Key::Size => Atom::Size(values.ranges(Unit::Bytes, u64::MAX)?),
            Key::After => Atom::After(values.time(self.now)?),
            Key::Before => Atom::Before(values.time(self.now)?),
            Key::Is => Atom::Is(values.words(State::ALL, State::word)?),
            Key::End => Atom::End(values.words(EndClass::ALL, EndClass::word)?),
            Key::Id => Atom::Id(values.ranges(Unit::Name, u64::MAX)?),
            Key::Conversation => Atom::Conversation(values.ranges(Unit::Name, u64::MAX)?),
            Key::Tag => Atom::Tag(values.each(owned)?),
            Key::Number => Atom::Number(values.ranges(Unit::Count, u64::MAX)?),
        };
        self.count(1, &span)?;
        Ok(Some(Expr::Atom(atom)))
    }

    fn phrase(&mut self, side: Side, item: Item) -> Result<Expr, Fault> {
        self.count(1, &item.span)?;
        match Needle::new(item.bytes) {
            Some(needle) => Ok(Expr::Atom(Atom::Text(side, needle))),
            None => Err(Why::EmptyPhrase.at(item.span)),
        }
    }

    fn note(&mut self, item: Item) -> Result<Expr, Fault> {
        self.count(1, &item.span)?;
        match Needle::new(item.bytes) {
            Some(needle) => Ok(Expr::Atom(Atom::Note(needle))),
            None => Err(Why::EmptyPhrase.at(item.span)),
        }
    }

    /// `key "~" regex`. Escapes belong to the expression; there are no lists.
    fn regex(&mut self, name: &str) -> Result<Expr, Fault> {
        let start = self.at;
        self.at += name.len() + 1;
        let head = start..self.at;
        let Some((name, Some(Key::Text(side)), _)) = key::find(name) else {
            let key = key::find(name).map_or("", |(name, ..)| name);
            return Err(Why::NoRegex { key }.at(head));
        };
        let span = match self.peek() {
            Some('"') => self.quoted('"', false)?,
            _ => self.bare(false, true),
        };
        if span.is_empty() {
            return Err(Why::MissingRegex { key: name }.at(head));
        }
        self.count(1, &span)?;
        self.regexes += 1;
        if self.regexes > REGEXES_MAX {
            return Err(Why::TooMany {
                most: REGEXES_MAX,
                what: "regular expressions",
            }
            .at(span));
        }
        match Pattern::new(&self.text[span.clone()]) {
            Ok(pattern) => Ok(Expr::Atom(Atom::Regex(side, pattern))),
            Err(reason) => Err(Why::Regex { reason }.at(span)),
        }
    }

    /// Counts conditions against the limit.
    fn count(&mut self, atoms: usize, span: &Range<usize>) -> Result<(), Fault> {
        self.atoms += atoms;
        match self.atoms {
            0..=ATOMS_MAX => Ok(()),
            _ => Err(Why::TooMany {
                most: ATOMS_MAX,
                what: "conditions",
            }
            .at(span.clone())),
        }
    }
}
