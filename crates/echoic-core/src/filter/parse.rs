//! From text to tree, by descent: one function a rule of the grammar in [`super`].

use std::{collections::BTreeSet, ops::Range, str::FromStr};

use super::{
    Filter, FilterError,
    bytes::{Mask, Needle, Pattern},
    error::Why,
    expr::{Atom, End, Expr, Side, Sort, State, When},
    key::{self, Key},
    number::Unit,
    peer::Peer,
    values::{At, Item, Values, limit, sort},
};
use crate::{
    escape,
    event::{Protocol, Role},
};

/// Longest filter, in bytes.
const TEXT_BYTES_MAX: usize = 64 << 10;
/// Deepest nesting of parentheses; the parser and whoever walks the tree recurse this far.
const DEPTH_MAX: usize = 64;
/// Most conditions; each costs a look at every exchange.
const ATOMS_MAX: usize = 256;
/// Most regular expressions; each may hold a mebibyte.
const REGEXES_MAX: usize = 32;
/// Most values in all lists together. Sets are searched faster than one by one, so there may be more of them.
const VALUES_MAX: usize = 4096;

impl Filter {
    /// Reads a filter; nothing but spaces selects all. Several arguments of a command line are joined by a space.
    ///
    /// At most 64 KiB, 64 parentheses deep, 256 questions, 32 regular expressions and 4096 values in lists are
    /// taken, so that a filter from a stranger costs little to read and to ask.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        parse(text)
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        Self::parse(text)
    }
}

fn parse(text: &str) -> Result<Filter, FilterError> {
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
        ..Parser::default()
    };
    parser.whole().map_err(|At { why, span }| FilterError {
        why,
        span,
        text: text.to_owned(),
    })
}

/// What a client recorded was once found by a service of this name.
fn service_names(values: &Values) -> Result<BTreeSet<String>, At> {
    match values.items.iter().find(|item| item.bytes == b"connect") {
        Some(item) => Err(Why::ServiceOfAClient.at(item.span.clone())),
        None => values.each(|text| Some(text.to_owned())),
    }
}

#[derive(Default)]
struct Parser<'a> {
    text: &'a str,
    /// Where reading goes on.
    at: usize,
    depth: usize,
    atoms: usize,
    regexes: usize,
    values: usize,
    sort: Option<Sort>,
    limit: Option<u64>,
}

impl<'a> Parser<'a> {
    fn whole(&mut self) -> Result<Filter, At> {
        let expr = self.or()?;
        match self.peek() {
            None => Ok(Filter {
                expr,
                sort: self.sort,
                limit: self.limit,
            }),
            Some(_) => Err(Why::Unopened.at(self.at..self.at + 1)),
        }
    }

    /// `and {"OR" and}`; nothing at all is everything.
    fn or(&mut self) -> Result<Expr, At> {
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
    fn and(&mut self) -> Result<Vec<Expr>, At> {
        let mut parts = Vec::new();
        let mut is_first = true;
        let mut waiting = None;
        loop {
            self.skip_space();
            if matches!(self.peek(), None | Some(')')) || self.sees("OR") {
                return match waiting {
                    Some(span) => Err(Why::Dangling { word: "AND" }.at(span)),
                    None => Ok(parts),
                };
            }
            if let Some(span) = self.keyword("AND") {
                if is_first || waiting.is_some() {
                    return Err(Why::Dangling { word: "AND" }.at(span));
                }
                waiting = Some(span);
                continue;
            }
            if let Some(span) = self.keyword("THEN") {
                return Err(Why::NotYet {
                    what: "THEN".to_owned(),
                }
                .at(span));
            }
            if let Some(span) = self.keyword("NOT") {
                return Err(Why::Not.at(span));
            }
            parts.extend(self.unary()?);
            (is_first, waiting) = (false, None);
        }
    }

    /// `["-"|"!"] atom`; none for `sort:` and `limit:`, which are taken note of.
    fn unary(&mut self) -> Result<Option<Expr>, At> {
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
    fn group(&mut self) -> Result<Expr, At> {
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

    /// A word before a colon or a tilde, and which of the two it is.
    fn head(&self) -> Option<(&'a str, char)> {
        let rest = &self.text[self.at..];
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let name = &rest[..rest.find(|c| !is_word(c))?];
        let mark = rest[name.len()..].chars().next()?;
        let is_head =
            name.starts_with(|c: char| c.is_ascii_alphabetic()) && matches!(mark, ':' | '~');
        is_head.then_some((name, mark))
    }

    /// `key ":" value`; none for what is about the whole list.
    fn keyed(&mut self, name: &str, negated: bool) -> Result<Option<Expr>, At> {
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
        let items = self.items(name, wants)?;
        self.question(key, Values { name, wants, items }, span)
    }

    /// What `key` asks of `values`. A list of texts is several questions; a list of anything else is a set.
    fn question(
        &mut self,
        key: Key,
        values: Values,
        span: Range<usize>,
    ) -> Result<Option<Expr>, At> {
        let own = |text: &str| Some(text.to_owned());
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
            Key::Hex => {
                self.count(values.items.len(), &span)?;
                let masks: Vec<Mask> = values.each(Mask::new)?;
                return Ok(Some(Expr::or(
                    masks.into_iter().map(|mask| Expr::Atom(Atom::Hex(mask))),
                )));
            }
            Key::Peer => Atom::Peer(values.each(Peer::new)?),
            Key::Port => Atom::Port(values.ranges(Unit::Count, u16::MAX.into())?),
            Key::Endpoint => Atom::Endpoint(values.each(own)?),
            Key::Protocol => Atom::Protocol(values.words(Protocol::ALL, Protocol::word)?),
            Key::Service => Atom::Service(service_names(&values)?),
            Key::Role => Atom::Role(values.words(Role::ALL, Role::word)?),
            Key::Server => Atom::Server(values.each(own)?),
            Key::Latency => Atom::Latency(values.ranges(Unit::Time, u64::MAX)?),
            Key::Size => Atom::Size(values.ranges(Unit::Bytes, u64::MAX)?),
            Key::After => Atom::After(values.one(When::new)?),
            Key::Before => Atom::Before(values.one(When::new)?),
            Key::Is => Atom::Is(values.words(State::ALL, State::word)?),
            Key::End => Atom::End(values.words(End::ALL, End::word)?),
            Key::Id => Atom::Id(values.ranges(Unit::Name, u64::MAX)?),
            Key::Conversation => Atom::Conversation(values.ranges(Unit::Name, u64::MAX)?),
            Key::Number => Atom::Number(values.ranges(Unit::Count, u64::MAX)?),
        };
        self.count(1, &span)?;
        Ok(Some(Expr::Atom(atom)))
    }

    fn phrase(&mut self, side: Side, item: Item) -> Result<Expr, At> {
        self.count(1, &item.span)?;
        match Needle::new(item.bytes) {
            Some(needle) => Ok(Expr::Atom(Atom::Text(side, needle))),
            None => Err(Why::EmptyPhrase.at(item.span)),
        }
    }

    /// `key "~" regex`. The expression keeps its own escapes; a list it has none.
    fn regex(&mut self, name: &str) -> Result<Expr, At> {
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
            Err(said) => Err(Why::Regex { said }.at(span)),
        }
    }

    /// `item {"," item}`, right after the colon.
    fn items(&mut self, key: &'static str, wants: &'static str) -> Result<Vec<Item>, At> {
        let mut items = Vec::new();
        loop {
            let item = self.item(true, key == "hex")?;
            if item.bytes.is_empty() {
                return Err(Why::Missing { key, wants }.at(item.span));
            }
            self.values += 1;
            if self.values > VALUES_MAX {
                return Err(Why::TooMany {
                    most: VALUES_MAX,
                    what: "values in lists",
                }
                .at(item.span));
            }
            items.push(item);
            if self.peek() != Some(',') {
                return Ok(items);
            }
            self.at += 1;
        }
    }

    /// A word or a quoted phrase, with the escapes of [`crate::escape`] resolved: what echoic shows can be searched.
    /// Single quotes stand for themselves in text; where bytes are written they quote as well.
    fn item(&mut self, in_list: bool, is_bytes: bool) -> Result<Item, At> {
        let span = match self.peek() {
            Some('"') => self.quoted('"', in_list)?,
            Some('\'') if is_bytes => self.quoted('\'', in_list)?,
            _ => self.bare(in_list, false),
        };
        match escape::parse(&self.text[span.clone()]) {
            Ok(bytes) => Ok(Item { bytes, span }),
            Err(error) => {
                let at = span.start + error.at;
                Err(Why::Escape {
                    said: error.to_string(),
                }
                .at(at..at + 1))
            }
        }
    }

    /// Up to a space, a comma in a list, or a parenthesis that closes one opened before: `f(x)` is one word.
    /// A backslash in a regular expression takes the next character with it.
    fn bare(&mut self, in_list: bool, has_escapes: bool) -> Range<usize> {
        let start = self.at;
        let mut open = 0_usize;
        let mut chars = self.text[start..].char_indices();
        self.at = self.text.len();
        while let Some((at, c)) = chars.next() {
            let ends = c.is_whitespace() || open == 0 && (c == ')' || in_list && c == ',');
            if ends {
                self.at = start + at;
                break;
            }
            match c {
                '(' => open += 1,
                ')' => open -= 1,
                '\\' if has_escapes => {
                    chars.next();
                }
                _ => {}
            }
        }
        start..self.at
    }

    /// What stands between this quotation mark and the next that has no backslash before it.
    fn quoted(&mut self, mark: char, in_list: bool) -> Result<Range<usize>, At> {
        let start = self.at + 1;
        let mut chars = self.text[start..].char_indices();
        let len = loop {
            match chars.next() {
                Some((at, c)) if c == mark => break at,
                Some((_, c)) => {
                    if c == '\\' {
                        chars.next();
                    }
                }
                None => return Err(Why::UnclosedQuote.at(self.at..start)),
            }
        };
        self.at = start + len + 1;
        match self.peek() {
            Some(c) if !c.is_whitespace() && c != ')' && !(in_list && c == ',') => {
                Err(Why::NoSpace.at(self.at - 1..self.at))
            }
            _ => Ok(start..start + len),
        }
    }

    fn count(&mut self, atoms: usize, span: &Range<usize>) -> Result<(), At> {
        self.atoms += atoms;
        match self.atoms {
            0..=ATOMS_MAX => Ok(()),
            _ => Err(Why::TooMany {
                most: ATOMS_MAX,
                what: "questions",
            }
            .at(span.clone())),
        }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn skip_space(&mut self) {
        self.at = self.text.len() - self.text[self.at..].trim_start().len();
    }

    /// Whether `word` comes next and ends there.
    fn sees(&self, word: &str) -> bool {
        let rest = self.text[self.at..].strip_prefix(word);
        rest.is_some_and(|rest| {
            rest.is_empty() || rest.starts_with(|c: char| c.is_whitespace() || "()".contains(c))
        })
    }

    fn keyword(&mut self, word: &str) -> Option<Range<usize>> {
        let start = self.at;
        self.sees(word).then(|| {
            self.at += word.len();
            start..self.at
        })
    }
}
