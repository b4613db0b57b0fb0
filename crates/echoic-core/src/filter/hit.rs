//! Finds what a filter matches within the bytes of an exchange.

use std::ops::Range;

use super::{
    Filter,
    expr::{Atom, Expr, Side},
};

impl Filter {
    /// Returns where in the request or the reply (`side`) a condition on bytes matches first, so that a list can show a long
    /// message around it. `None` if no such condition matches there, or `side` is [`Side::Any`].
    pub fn hit(&self, side: Side, bytes: &[u8]) -> Option<Range<usize>> {
        self.expr.hit(side, bytes)
    }
}

impl Expr {
    fn hit(&self, side: Side, bytes: &[u8]) -> Option<Range<usize>> {
        match self {
            Self::And(parts) | Self::Or(parts) => parts
                .iter()
                .filter_map(|part| part.hit(side, bytes))
                .min_by_key(|hit| hit.start),
            Self::Atom(atom) => atom.hit(side, bytes),
            // A negated condition says what is not there.
            Self::All | Self::Not(_) => None,
        }
    }
}

impl Atom {
    fn hit(&self, side: Side, bytes: &[u8]) -> Option<Range<usize>> {
        let concerns = |of: &Side| *of == Side::Any || *of == side;
        match self {
            Self::Text(of, needle) if concerns(of) => needle.find(bytes),
            Self::Regex(of, pattern) if concerns(of) => pattern.find(bytes),
            Self::Hex(mask) => mask.find(bytes),
            _ => None,
        }
    }
}
