//! Finds the conversation of a call in the server's own record.
//!
//! The server numbers the conversation, and the client does not learn the number. Both know the client's address: the server
//! records it when the conversation opens. A client of a Unix socket has no address; it is identified if no other client
//! connected to the endpoint meanwhile.

use std::time::Duration;

use echoic_core::event::{Address, ConversationId, Event, Opened, Role};
use echoic_recorder::{Seen, Watcher};
use tokio::{select, sync::oneshot, task::JoinHandle, time::sleep};

/// Time after the end of a call for the opening to be recorded. The search for an address ends with it, so that it may take long.
const RECORDED_WITHIN: Duration = Duration::from_secs(5);

/// The same for a client without an address. It passes each time, since another client may have connected.
const RECORDED_WITHIN_OF_MANY: Duration = Duration::from_secs(1);

/// Watches for the opening of a conversation at an endpoint. Made before the call connects.
pub(super) struct Identify {
    watcher: Watcher,
    endpoint: String,
}

/// A search for the conversation of a client's address.
pub(super) struct Search {
    searching: JoinHandle<Option<ConversationId>>,
    ended: oneshot::Sender<()>,
}

impl Identify {
    pub(super) fn new(watcher: Watcher, endpoint: String) -> Self {
        Self { watcher, endpoint }
    }

    /// Starts the search for the client with this address.
    pub(super) fn start(self, client: Option<Address>) -> Search {
        let (ended, end) = oneshot::channel();
        let client = client.unwrap_or(Address::Unix(None));
        Search {
            searching: tokio::spawn(search(self, client, end)),
            ended,
        }
    }
}

impl Search {
    /// Returns the conversation, once the call has ended. `None` if it is not recorded, or cannot be told from others.
    pub(super) async fn finish(self) -> Option<ConversationId> {
        drop(self.ended);
        self.searching.await.ok().flatten()
    }
}

async fn search(
    identify: Identify,
    client: Address,
    ended: oneshot::Receiver<()>,
) -> Option<ConversationId> {
    let Identify {
        mut watcher,
        endpoint,
    } = identify;
    let is_unique = client != Address::Unix(None);
    let mut found = Vec::new();
    let ended = async {
        let _ = ended.await;
        sleep(if is_unique {
            RECORDED_WITHIN
        } else {
            RECORDED_WITHIN_OF_MANY
        })
        .await;
    };
    let mut ended = std::pin::pin!(ended);
    let is_over = |found: &[_]| is_unique && !found.is_empty();
    while !is_over(&found) {
        let seen = select! {
            seen = watcher.next() => seen?,
            () = &mut ended => break,
        };
        let mut check = |opened: &Opened| {
            let is_ours = opened.role == Role::Server
                && opened.endpoint_info.name == endpoint
                && opened.remote == client;
            if is_ours {
                found.push(opened.conversation);
            }
        };
        match &seen {
            Seen::Batch { batch, .. } => {
                for event in &batch.events {
                    if let Event::Opened(opened) = event {
                        check(opened);
                    }
                }
            }
            Seen::Gap(missed) => missed.opened.iter().for_each(&mut check),
            Seen::RecorderStatus(_) => {}
        }
    }
    match found[..] {
        [conversation] => Some(conversation),
        _ => None,
    }
}
