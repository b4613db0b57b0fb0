//! What was said, kept: SQLite and memory behind one Store.
