//! Which exchanges are meant: the one query language of `log`, `replay`, `serve --print` and the page.
//!
//! ```text
//! query := or             or    := and {"OR" and}         and  := unary {["AND"] unary}
//! unary := ["-"|"!"] atom atom  := "(" query ")" | key ":" value | key "~" regex | word | "phrase"
//! value := item {"," item}   any of them     item := text | n | n..m | >n | <n | address | time | size
//! ```
//!
//! | Key | Asks | Key | Asks |
//! |---|---|---|---|
//! | word, `"phrase"` | text in request or reply, whatever its case | `lat:>5ms` | from read to write |
//! | `req:` `rep:` `any:` | text on that side | `size:1k..1M` | request and reply together |
//! | `req~` `rep~` `any~` | a regular expression on bytes | `since:10m` `after:` `before:` | how long ago, or when (UTC) |
//! | `hex:1b5b??6d` | bytes, `??` being any | `is:` | what became of it ([`State`]) |
//! | `peer:10.0.0.0/8` | who called | `end:` | how its conversation ended ([`End`]) |
//! | `port:5000` | the port here | `id:` `conv:` `n:` | its name, its conversation, its number there |
//! | `ep:tcp:5000` `proto:` `svc:` | endpoint, protocol, service | `sort:-lat` `limit:20` | nothing: how to list |
//! | `role:client` `server:` | whose record it is: role, id or name of the server | | |
//!
//! A key ends at the first colon, so values may hold more of them. Any value may stand in quotes. In words and
//! phrases the escapes of [`crate::escape`] work: what echoic shows can be searched for. `THEN`, `tag:`, `note:`,
//! `fault:` and `msgs:` are reserved.

mod bounds;
mod bytes;
mod error;
mod expr;
mod key;
mod number;
mod parse;
mod peer;
mod print;
mod ranges;
mod subject;
mod values;

use std::ops::RangeInclusive;

pub use self::{
    bytes::{MASK_BYTES_MAX, Mask, Needle, Pattern},
    error::FilterError,
    expr::{Atom, End, Expr, Side, Sort, SortKey, State, When},
    peer::Peer,
    ranges::Ranges,
    subject::Subject,
};
use crate::event::Micros;

/// Selects exchanges. The default selects all.
///
/// ```
/// # use echoic_core::filter::Filter;
/// let filter = Filter::parse("rep:ERROR -peer:10.0.0.0/8 lat:>5ms")?;
/// assert_eq!(filter.to_string().parse(), Ok(filter));
/// # Ok::<(), echoic_core::filter::FilterError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    expr: Expr,
    sort: Option<Sort>,
    limit: Option<u64>,
}

impl Filter {
    /// Selects every exchange.
    pub fn all() -> Self {
        Self {
            expr: Expr::All,
            sort: None,
            limit: None,
        }
    }

    /// Whether it asks how conversations end or stand, and nothing of an exchange: then one without exchanges may be
    /// meant too.
    pub fn asks_of_conversations_alone(&self) -> bool {
        let mut asks_state = false;
        let alone = self.expr().all_atoms(&mut |atom| {
            asks_state |= matches!(atom, Atom::End(_) | Atom::Is(_));
            atom.is_of_conversation()
        });
        alone && asks_state
    }

    /// What it asks of conversations: peer, endpoint, number, how they end or stand; `after:` and `before:` are about
    /// when they opened. Whatever is asked of exchanges (text, latency, size) is left out, so this selects every
    /// conversation that could be meant, perhaps more. Ask it of a [`Conversation`](crate::exchange::Conversation).
    #[must_use]
    pub fn conversation_part(&self) -> Expr {
        self.necessary(Atom::is_of_conversation)
    }

    /// What it asks, for stores that translate it.
    pub fn expr(&self) -> &Expr {
        &self.expr
    }

    /// The order asked for; without one, the asker's own.
    pub fn sort(&self) -> Option<Sort> {
        self.sort
    }

    /// The most exchanges asked for, at least 1.
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Whether `subject` is meant; `now` is the moment that `since:10m` is reckoned from. Order and limit are the
    /// asker's business.
    pub fn matches(&self, subject: &impl Subject, now: Micros) -> bool {
        self.expr.matches(subject, now)
    }

    /// A condition that everything meant fulfils, made only of the atoms that `keep` takes; see
    /// [`Expr::necessary`].
    #[must_use]
    pub fn necessary(&self, keep: impl Fn(&Atom) -> bool) -> Expr {
        self.expr.necessary(&keep)
    }

    /// The ids that can be meant, perhaps more.
    pub fn ids(&self) -> Ranges {
        self.expr.ids()
    }

    /// The conversations that can be meant, perhaps more.
    pub fn conversations(&self) -> Ranges {
        self.expr.conversations()
    }

    /// The moments between which everything meant was read; none if nothing can be meant.
    pub fn times(&self, now: Micros) -> Option<RangeInclusive<Micros>> {
        self.expr.times(now)
    }
}

impl Default for Filter {
    fn default() -> Self {
        Self::all()
    }
}

/// What must hold for any text and any exchange; called by the property tests and by the fuzzer.
///
/// # Panics
/// If it does not hold.
#[doc(hidden)]
pub fn check(text: &str, subject: &impl Subject, now: Micros) {
    let filter = match Filter::parse(text) {
        Ok(filter) => filter,
        Err(error) => {
            let said = error.to_string();
            assert_eq!(said.lines().count(), 3, "what, where, mark: {said}");
            assert!(
                said.len() < 4096 && !error.message().contains('\n'),
                "{said}"
            );
            assert!(
                (1..=text.chars().count() + 1).contains(&error.column()),
                "{said}"
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

    let is_meant = filter.matches(subject, now);
    let contrary = Expr::not(filter.expr.clone());
    assert_eq!(contrary.matches(subject, now), !is_meant);
    for expr in [&filter.expr, &contrary] {
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
            let kept = expr.necessary(&|atom| !matches!(atom, Atom::Text(..) | Atom::Size(_)));
            assert!(kept.matches(subject, now), "{expr} needs {kept}");
        }
    }
    let inwards = contrary.necessary(&|_| true);
    let is_all = filter.expr == Expr::All;
    assert!(
        is_all || inwards.matches(subject, now) != is_meant,
        "{contrary} is not {inwards}"
    );
}
