//! Which exchanges are meant.

/// Selects exchanges.
#[derive(Clone, Debug)]
pub struct Filter;
