//! Narrows a search to what has the tags and notes that its filter requires.

use echoic_core::filter::{Atom, Expr, Ranges};

/// Most labelled exchanges and conversations that a search for tags looks up. With more it reads the whole record, as for
/// any other condition.
pub(crate) const LOOKED_UP_MAX: usize = 20_000;

/// Ids that are at most this far apart are read as one range.
pub(crate) const NEAR: u64 = 64;

/// Returns the conditions on labels that `expr` requires.
pub(crate) fn conditions(expr: &Expr) -> Expr {
    expr.necessary(&|atom: &Atom| match atom {
        // An automatic tag is in no table.
        Atom::Tag(_) => !atom.needs_bytes(),
        Atom::Note(_) => true,
        _ => false,
    })
}

/// Whether nothing without a label matches `expr`, which is of conditions on labels.
pub(crate) fn requires(expr: &Expr) -> bool {
    match expr {
        Expr::All | Expr::Not(_) => false,
        Expr::Atom(_) => true,
        Expr::And(parts) => parts.iter().any(requires),
        Expr::Or(parts) => parts.iter().all(requires),
    }
}

/// Returns ids among which all exchanges are that `expr`, which is of conditions on labels, can match; `None` if it does not
/// narrow them. `labelled` returns those with a label that an atom requires; `None` if they are too many.
pub(crate) fn ids<E>(
    expr: &Expr,
    labelled: &mut impl FnMut(&Atom) -> Result<Option<Ranges>, E>,
) -> Result<Option<Ranges>, E> {
    Ok(match expr {
        Expr::All | Expr::Not(_) => None,
        Expr::Atom(atom) => labelled(atom)?,
        Expr::And(all) => {
            let mut narrowed: Option<Ranges> = None;
            for part in all {
                if let Some(part) = ids(part, labelled)? {
                    narrowed = Some(match narrowed {
                        Some(all) => all.intersection(&part),
                        None => part,
                    });
                }
            }
            narrowed
        }
        Expr::Or(any) => {
            let mut narrowed = Some(Ranges::none());
            for part in any {
                let part = ids(part, labelled)?;
                narrowed = narrowed.zip(part).map(|(any, part)| any.union(&part));
            }
            narrowed
        }
    })
}
