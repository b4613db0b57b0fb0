//! What a console is created with.

use std::sync::Arc;

use echoic_wire::TlsServer;

use crate::{password::Password, token::Token};

/// Configuration of a console.
#[derive(Clone, Debug)]
pub struct ConsoleConfig {
    /// The secret that every request but those of the open routes must present.
    pub token: Token,
    /// What people log in with, in place of the token. Scripts may use either.
    pub password: Option<Password>,
    /// TLS over each connection, with a certificate. `None` serves plain HTTP, which is for loopback alone. To have it read again, the
    /// program looks after it ([`TlsServer::reload`]).
    pub tls: Option<Arc<TlsServer>>,
    /// Whether nothing may be sent, closed, paused or labelled.
    pub readonly: bool,
    /// Version of the program.
    pub version: &'static str,
    /// The store, for people.
    pub store: StoreDescription,
    /// The limits in force, for people.
    pub limits: Vec<Limit>,
}

/// A store as the command line names it.
#[derive(Clone, Debug, Default)]
pub struct StoreDescription {
    /// Its location: `sqlite:echoic.db`, without a password.
    pub url: String,
    /// Its kind: `sqlite`, `postgres`, `memory`.
    pub kind: String,
    /// Its short name: `echoic.db`.
    pub name: String,
    /// The retention, as the command line takes it.
    pub retention: Option<String>,
    /// The durability, as the command line takes it.
    pub durability: Option<String>,
}

/// A limit in force.
#[derive(Clone, Debug)]
pub struct Limit {
    /// The option that sets it: `--max-message`.
    pub flag: String,
    /// Its value, as the option takes it.
    pub value: String,
    /// What it limits.
    pub meaning: String,
}
