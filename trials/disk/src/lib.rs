//! What echoic does when the disk is full, slow, broken, or holds something else.
//!
//! A serve runs on a disk with something wrong, while peers talk; what they are answered, what is said meanwhile, and
//! what the record holds at last have to add up.

pub mod load;
pub mod record;
