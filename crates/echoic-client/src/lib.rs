//! The other end: connect.
