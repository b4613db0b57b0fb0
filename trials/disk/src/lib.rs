//! echoic when the disk is full, slow or broken, or has foreign files.
//!
//! A server runs on a faulty disk while peers talk to it. Their replies, the server's messages and the final record
//! must add up.

pub mod load;
pub mod record;
