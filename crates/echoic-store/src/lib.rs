//! The stores: SQLite, PostgreSQL and memory behind one trait, [`Store`](echoic_core::store::Store).
//!
//! A store appends events and finds exchanges. `tests/contract.rs` states what every store must do; a new store must pass
//! it too.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use echoic_core::{
    event::{Address, Batch, ConversationId, EndpointInfo, Event, Protocol, Role},
    exchange::Conversation,
    framing::FramingPair,
    store::{Labels, StoreErrorKind},
};

mod batches;
mod change;
mod labelled;
mod memory;
mod positions;
mod postgres;
mod scan;
mod sequence;
mod sqlite;

pub use change::{FileChange, OnFileChange};
pub use memory::MemoryStore;
pub use postgres::{Login, PostgresMode, PostgresStore, PostgresUrl, UrlError};
#[doc(hidden)]
pub use sqlite::oracle;
pub use sqlite::{SqliteReader, SqliteStore};

/// Rejects runs without exchanges: they would share an id with the next run.
fn check(batches: &[Arc<Batch>]) -> Result<(), StoreErrorKind> {
    for event in batches.iter().flat_map(|batch| &batch.events) {
        if let Event::Run(run) = event
            && run.count == 0
        {
            let what = format!(
                "a run of conversation {} has no exchanges",
                run.conversation
            );
            return Err(StoreErrorKind::Failed { what });
        }
    }
    Ok(())
}

/// Returns a placeholder for a conversation whose opening was not recorded because recording was interrupted.
fn unknown(id: ConversationId) -> Conversation {
    let unspecified = Address::Net(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
    let endpoint_info = EndpointInfo {
        name: "unknown".into(),
        proto: Protocol::Unknown,
        service: "unknown".into(),
        framing: FramingPair::default(),
    };
    Conversation {
        id,
        opened: 0,
        remote: unspecified.clone(),
        local: unspecified,
        role: Role::Server,
        server: Arc::default(),
        endpoint_info: Arc::new(endpoint_info),
        half_closed: None,
        ended: None,
        labels: Labels::default(),
        tls: None,
    }
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/how-to-add-a-store.md")]
struct HowToAddAStore;
