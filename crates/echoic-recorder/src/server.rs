//! Identity of a recorder: an id for each start of a server, and a name for people.

use std::{
    collections::hash_map::RandomState,
    fs,
    hash::{BuildHasher, Hasher},
    process,
};

use echoic_core::event::{ServerId, ServerInfo};

use crate::clock::wall_clock_now;

/// Returns the identity of a process that starts: a random id, with `host:pid` as the name.
pub fn server() -> ServerInfo {
    // Linux only; on other systems the name is less informative.
    let host = fs::read_to_string("/proc/sys/kernel/hostname");
    let host = host.unwrap_or_else(|_| "host".to_owned());
    ServerInfo {
        // The standard library seeds the hasher at random for each process, and each state in it differently.
        id: ServerId(RandomState::new().build_hasher().finish().max(1)),
        name: format!("{}:{}", host.trim(), process::id()),
        started: wall_clock_now(),
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
