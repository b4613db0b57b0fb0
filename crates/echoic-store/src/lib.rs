//! What was said, kept: SQLite and memory behind one [`Store`](echoic_core::store::Store).
//!
//! A store is handed events and asked for exchanges. Both stores here tell the same story; `tests/contract.rs`
//! is that story, and a third one has only to pass it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use echoic_core::{
    event::{Address, Batch, ConversationId, EndpointInfo, Event},
    exchange::Conversation,
    framing::FramingPair,
    store::StoreErrorKind,
};

mod memory;
mod sqlite;

pub use memory::MemoryStore;
#[doc(hidden)]
pub use sqlite::oracle;
pub use sqlite::{SqliteReader, SqliteStore};

/// Refuses batches whose runs have no ids, or not increasing ones: pages go by id, and would skip some.
fn in_order(batches: &[Arc<Batch>]) -> Result<(), StoreErrorKind> {
    let mut last = 0;
    for event in batches.iter().flat_map(|batch| &batch.events) {
        if let Event::Run(run) = event {
            if run.id <= last || run.count == 0 {
                let what = format!("run {} of {} came after exchange {last}", run.id, run.count);
                return Err(StoreErrorKind::Failed { what });
            }
            last = run.id + u64::from(run.count) - 1;
        }
    }
    Ok(())
}

/// Stands for a conversation whose beginning was not recorded, since recording was interrupted then.
fn unknown(id: ConversationId) -> Conversation {
    let nowhere = Address::Net(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
    let endpoint_info = EndpointInfo {
        name: "unknown".into(),
        proto: "unknown",
        service: "unknown".into(),
        framing: FramingPair::default(),
    };
    Conversation {
        id,
        opened: 0,
        remote: nowhere.clone(),
        local: nowhere,
        endpoint_info: Arc::new(endpoint_info),
        half_closed: None,
        ended: None,
    }
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/how-to-add-a-store.md")]
struct HowToAddAStore;
