//! The filter language, which selects exchanges for `log` and `bench --from-store`.
//!
//! ```text
//! query := or {"THEN" or} or    := and {"OR" and}         and  := unary {["AND"] unary}
//! unary := ["-"|"!"] atom atom  := "(" query ")" | key ":" value | key "~" regex | word | "phrase"
//! value := item {"," item}   (any item)      item := text | n | n..m | >n | <n | address | time | size
//! ```
//!
//! | Key | Selects by | Key | Selects by |
//! |---|---|---|---|
//! | word, `"phrase"` | text in request or reply, ignoring case | `lat:>5ms` | latency, from read to write |
//! | `req:` `rep:` `any:` | text on that side | `size:1k..1M` | size of request and reply together |
//! | `req~` `rep~` `any~` | a regular expression on bytes | `since:10m` `after:` `before:` | time, relative or absolute |
//! | `hex:1b5b??6d` | bytes, `??` is any byte | `is:` | outcome or state ([`State`]) |
//! | `peer:10.0.0.0/8` | address of the peer | `end:` | how the conversation ended ([`EndClass`]) |
//! | `port:5000` | our port | `id:` `conv:` `n:` | id, conversation, number in the conversation |
//! | `ep:tcp:5000` `proto:` `svc:` | endpoint, protocol, service | `sort:-lat` `limit:20` | nothing: order and length of the list |
//! | `role:client` `server:` | role of the recorder; id or name of the server | `tag:` `note:` | tag; text in the note |
//!
//! A key ends at the first colon, so a value may contain colons. Any value may be quoted. Words and phrases may contain
//! the escapes of [`crate::escape`], so that escaped output can be searched for. A time of day may follow a date after a
//! space: `since:2026-08-01 13:55`. `fault:` and `msgs:` are reserved.
//!
//! `A THEN B` is a sequence within one conversation: it selects each exchange that `B` matches and that has an earlier
//! exchange of its conversation that `A` matches. With more steps each has an exchange of its own, in their order. `THEN`
//! binds weaker than `OR`, and is not allowed within parentheses. See [`Matcher`].

mod bounds;
mod bytes;
mod error;
mod expr;
mod hit;
mod key;
mod matcher;
mod number;
mod parse;
mod peer;
mod print;
mod ranges;
mod subject;
mod values;
mod when;

use std::ops::RangeInclusive;

pub use self::{
    bytes::{MASK_BYTES_MAX, Mask, Needle, Pattern},
    error::FilterError,
    expr::{Atom, EndClass, Expr, Side, Sort, SortKey, State, When},
    matcher::Matcher,
    peer::Peer,
    ranges::Ranges,
    subject::Subject,
};
use crate::event::Micros;

/// A parsed filter, which selects exchanges. The default selects all.
///
/// ```
/// # use echoic_core::filter::Filter;
/// let filter = Filter::parse("rep:ERROR -peer:10.0.0.0/8 lat:>5ms")?;
/// assert_eq!(filter.to_string().parse(), Ok(filter));
/// # Ok::<(), echoic_core::filter::FilterError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The steps of a sequence before the last.
    steps: Vec<Expr>,
    expr: Expr,
    sort: Option<Sort>,
    limit: Option<u64>,
}

impl Filter {
    /// Returns a filter that selects every exchange.
    pub fn all() -> Self {
        Self {
            steps: Vec::new(),
            expr: Expr::All,
            sort: None,
            limit: None,
        }
    }

    /// Whether it has a condition on the id, the state, the end or the labels of conversations, and none on exchanges alone.
    /// Conversations without exchanges can then match too ([`Filter::matches`]).
    pub fn is_about_conversations(&self) -> bool {
        let mut names_conversations = false;
        let none_of_exchanges = self.expr().all_atoms(&mut |atom| {
            let is_of_labels = matches!(atom, Atom::Tag(_) | Atom::Note(_));
            names_conversations |=
                is_of_labels || matches!(atom, Atom::Conversation(_) | Atom::End(_) | Atom::Is(_));
            is_of_labels || atom.is_of_conversation()
        });
        self.steps.is_empty() && none_of_exchanges && names_conversations
    }

    /// Returns a filter that has one more condition.
    #[must_use]
    pub fn and(&self, atom: Atom) -> Self {
        Self {
            expr: Expr::and([Expr::Atom(atom), self.expr.clone()]),
            ..self.clone()
        }
    }

    /// Returns its conditions on conversations: peer, endpoint, id, state and end; `after:` and `before:` then apply to
    /// the time they opened. Conditions on exchanges (text, latency, size) are left out, so the result matches every
    /// [`Conversation`](crate::exchange::Conversation) with a matching exchange, and possibly more.
    #[must_use]
    pub fn conversation_part(&self) -> Expr {
        let last = self.necessary(Atom::is_of_conversation);
        Expr::and([self.steps_of_conversation(), last])
    }

    /// Returns the conditions on the conversation, but not on times, that the steps before the last have.
    fn steps_of_conversation(&self) -> Expr {
        let is_time = |atom: &Atom| matches!(atom, Atom::After(_) | Atom::Before(_));
        let include = |atom: &Atom| atom.is_of_conversation() && !is_time(atom);
        Expr::and(self.steps.iter().map(|step| step.necessary(&include)))
    }

    /// Returns the steps before the last of a sequence (`A THEN B`); empty if it is none.
    pub fn steps(&self) -> &[Expr] {
        &self.steps
    }

    /// Returns its expression, for stores that translate it; of a sequence that of the last step.
    pub fn expr(&self) -> &Expr {
        &self.expr
    }

    /// Returns the order of the list; if `None`, the caller chooses.
    pub fn sort(&self) -> Option<Sort> {
        self.sort
    }

    /// Returns the largest number of exchanges to list, at least 1.
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Whether `subject` matches. Relative times such as `since:10m` count back from `now`. The caller applies order and
    /// limit. Of a sequence it is only the last step, which is necessary: whether the others came before is what a
    /// [`Matcher`] knows.
    pub fn matches(&self, subject: &impl Subject, now: Micros) -> bool {
        self.expr.matches(subject, now)
    }

    /// Returns a necessary condition that consists only of atoms for which `include` is true; see
    /// [`Expr::necessary`].
    #[must_use]
    pub fn necessary(&self, include: impl Fn(&Atom) -> bool) -> Expr {
        self.expr.necessary(&include)
    }

    /// Returns a superset of the exchange ids that can match.
    pub fn ids(&self) -> Ranges {
        self.expr.ids()
    }

    /// Returns a superset of the conversation ids that can match.
    pub fn conversations(&self) -> Ranges {
        self.expr.conversations()
    }

    /// Returns the range of times in which every matching exchange was read; `None` if nothing can match.
    pub fn times(&self, now: Micros) -> Option<RangeInclusive<Micros>> {
        self.expr.times(now)
    }
}

impl Default for Filter {
    fn default() -> Self {
        Self::all()
    }
}

/// Checks the invariants of filters for any text and any exchange; called by the property tests and by the fuzzer.
///
/// # Panics
/// If one does not hold.
#[doc(hidden)]
pub fn check(text: &str, subject: &impl Subject, now: Micros) {
    let filter = match Filter::parse(text) {
        Ok(filter) => filter,
        Err(error) => {
            let printed = error.to_string();
            assert_eq!(printed.lines().count(), 3, "message, text, mark: {printed}");
            assert!(
                printed.len() < 4096 && !error.message().contains('\n'),
                "{printed}"
            );
            assert!(
                (1..=text.chars().count() + 1).contains(&error.column()),
                "{printed}"
            );
            return;
        }
    };
    let printed = filter.to_string();
    assert_eq!(
        Filter::parse(&printed).as_ref(),
        Ok(&filter),
        "{text:?} printed as {printed:?}"
    );

    let is_match = filter.matches(subject, now);
    let negation = Expr::not(filter.expr.clone());
    assert_eq!(negation.matches(subject, now), !is_match);
    for expr in [&filter.expr, &negation] {
        if expr.matches(subject, now) {
            assert!(expr.ids().contains(subject.id()), "{expr}");
            assert!(
                expr.conversations().contains(subject.conversation().id),
                "{expr}"
            );
            assert!(
                expr.times(now)
                    .is_some_and(|times| times.contains(&subject.at())),
                "{expr}"
            );
            let part = expr.necessary(&|atom| !matches!(atom, Atom::Text(..) | Atom::Size(_)));
            assert!(part.matches(subject, now), "{part} is necessary for {expr}");
        }
    }
    let pushed_down = negation.necessary(&|_| true);
    let is_all = filter.expr == Expr::All;
    assert!(
        is_all || pushed_down.matches(subject, now) != is_match,
        "{negation} is not equivalent to {pushed_down}"
    );
}
