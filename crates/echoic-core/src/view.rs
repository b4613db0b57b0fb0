//! Events as whoever follows them sees them: joined with their conversations, and as lines of JSON.
//!
//! An event names its conversation by number alone; what is known of it came with its opening. [`OpenConversations`]
//! joins the two. [`EventJson`] is the one shape of events in `serve --json` and in the console.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::RandomState;
use serde::Serialize;

use crate::{
    event::{ConversationId, Ended, Micros, Opened, Role, Server},
    exchange::{Conversation, ExchangeRef},
};

/// Version of [`EventJson`], the value of `v`.
pub const JSON_VERSION: u32 = 1;

/// The conversations that are open, by their numbers, each with something of the follower's own. Of one server. As large
/// as the number of conversations that are open there.
#[derive(Debug)]
pub struct OpenConversations<T = ()>(HashMap<ConversationId, (Arc<Conversation>, T), RandomState>);

impl<T> Default for OpenConversations<T> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<T> OpenConversations<T> {
    /// Adds a conversation that has begun, with what `own` makes of it.
    pub fn open<E>(
        &mut self,
        opened: &Opened,
        server: &Arc<Server>,
        own: impl FnOnce(&Conversation) -> Result<T, E>,
    ) -> Result<Arc<Conversation>, E> {
        let conversation = Arc::new(Conversation::new(opened.clone(), Arc::clone(server)));
        let own = own(&conversation)?;
        self.0
            .insert(opened.conversation, (Arc::clone(&conversation), own));
        Ok(conversation)
    }

    /// The conversation of that number. None if its opening was not recorded, or it has ended.
    pub fn get(&self, id: ConversationId) -> Option<(&Arc<Conversation>, &T)> {
        self.0
            .get(&id)
            .map(|(conversation, own)| (conversation, own))
    }

    /// Removes a conversation that has ended, and returns it with its ending; none if it was not known.
    pub fn end(&mut self, ended: &Ended) -> Option<Conversation> {
        let (conversation, _) = self.0.remove(&ended.conversation)?;
        Some(Conversation {
            ended: Some((ended.at, ended.ending.clone())),
            ..Arc::unwrap_or_clone(conversation)
        })
    }
}

/// An event as a line of JSON. A format: keys are added, never changed.
#[derive(Debug, Serialize)]
#[serde(tag = "ev", rename_all = "lowercase")]
pub enum EventJson<'a> {
    /// An endpoint is open.
    Listening {
        /// [`JSON_VERSION`].
        v: u32,
        /// Its short name.
        ep: &'a str,
        /// Its address.
        addr: String,
        /// The service that answers.
        svc: &'a str,
        /// What a message is there.
        frame: String,
    },
    /// A conversation began.
    Open {
        /// [`JSON_VERSION`].
        v: u32,
        /// Its number.
        conv: ConversationId,
        /// The endpoint's short name.
        ep: &'a str,
        /// The service that answers; empty for a client.
        svc: &'a str,
        /// Whose record it is.
        role: Role,
        /// The peer's address.
        peer: String,
        /// When.
        t_us: Micros,
    },
    /// A request and its reply.
    Exchange {
        /// [`JSON_VERSION`].
        v: u32,
        /// The exchange.
        #[serde(flatten)]
        exchange: ExchangeRef<'a>,
    },
    /// A conversation ended.
    End {
        /// [`JSON_VERSION`].
        v: u32,
        /// Its number.
        conv: ConversationId,
        /// The class of its close reason, as `end:` finds it.
        end: &'static str,
        /// Its close reason.
        reason: &'static str,
        /// Whose record it is.
        role: Role,
        /// Bytes read from the peer.
        received: u64,
        /// Bytes the kernel took for the peer.
        sent: u64,
        /// Bytes of replies that were not sent.
        unsent: u64,
        /// Bytes read after the end, and thrown away.
        discarded: u64,
        /// When.
        t_us: Micros,
    },
    /// Exchanges that are not shown.
    Gap {
        /// [`JSON_VERSION`].
        v: u32,
        /// How many.
        n: u64,
    },
    /// Datagrams that the kernel dropped.
    Dropped {
        /// [`JSON_VERSION`].
        v: u32,
        /// How many.
        n: u64,
        /// When it was noticed.
        t_us: Micros,
    },
    /// Nothing is being recorded. Exchanges shown from now on have the id 0.
    Failing {
        /// [`JSON_VERSION`].
        v: u32,
        /// What the store says.
        why: &'a str,
        /// Since when.
        since_us: Micros,
        /// Exchanges since then that are not stored.
        n: u64,
    },
    /// Recording continues.
    Recording {
        /// [`JSON_VERSION`].
        v: u32,
        /// Exchanges lost since the start.
        lost: u64,
        /// The first of the ids that exchanges have been given which were shown with the id 0, in their order.
        #[serde(skip_serializing_if = "Option::is_none")]
        first: Option<u64>,
        /// The last of them.
        #[serde(skip_serializing_if = "Option::is_none")]
        last: Option<u64>,
    },
}

impl<'a> EventJson<'a> {
    /// A conversation that began.
    pub fn open(conversation: &'a Conversation) -> Self {
        Self::Open {
            v: JSON_VERSION,
            conv: conversation.id,
            ep: &conversation.endpoint_info.name,
            svc: &conversation.endpoint_info.service,
            role: conversation.role,
            peer: conversation.remote.to_string(),
            t_us: conversation.opened,
        }
    }

    /// A conversation that ended; none if it has not.
    pub fn end(conversation: &Conversation) -> Option<Self> {
        let (at, ending) = conversation.ended.as_ref()?;
        Some(Self::End {
            v: JSON_VERSION,
            conv: conversation.id,
            end: ending.reason.class(),
            reason: ending.reason.word(),
            role: conversation.role,
            received: ending.received,
            sent: ending.sent,
            unsent: ending.unsent,
            discarded: ending.discarded,
            t_us: *at,
        })
    }

    /// An exchange.
    pub fn exchange(exchange: ExchangeRef<'a>) -> Self {
        Self::Exchange {
            v: JSON_VERSION,
            exchange,
        }
    }
}
