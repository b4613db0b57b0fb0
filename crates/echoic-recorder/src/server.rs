//! The name of this start of a recorder.

use std::{
    collections::hash_map::RandomState,
    fs,
    hash::{BuildHasher, Hasher},
    process,
};

use echoic_core::event::{Server, ServerId};

use crate::clock::wall;

/// A fresh id, and host and process as the name for people.
pub(crate) fn server() -> Server {
    // Linux; elsewhere the name is less telling, and the id as good.
    let host = fs::read_to_string("/proc/sys/kernel/hostname");
    let host = host.unwrap_or_else(|_| "host".to_owned());
    Server {
        // Keyed at random by the system for each process, and differently for each state in it.
        id: ServerId(RandomState::new().build_hasher().finish().max(1)),
        name: format!("{}:{}", host.trim(), process::id()),
        started: wall(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_start_has_an_id_of_its_own() {
        let (one, other) = (server(), server());
        assert_ne!(one.id, other.id);
        assert!(
            one.name.ends_with(&format!(":{}", process::id())),
            "{}",
            one.name
        );
    }
}
