//! Events for watchers: joined with their conversations, and as lines of JSON.
//!
//! An event has only the id of its conversation; the opening event has its properties. [`OpenConversations`] joins the
//! two. [`EventJson`] is the format of events in `serve --json` and in the console.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::RandomState;
use serde::Serialize;

use crate::{
    event::{ConversationId, Ended, Micros, Opened, Role, ServerInfo, TlsInfo},
    exchange::{Conversation, ExchangeRef},
    left_over::LeftOverJson,
};

/// Version of [`EventJson`], the value of `v`.
pub const JSON_VERSION: u32 = 1;

/// The open conversations of one server by id, each with a value of the watcher. Its size is bounded by the number of
/// conversations open there.
#[derive(Debug)]
pub struct OpenConversations<T = ()>(HashMap<ConversationId, (Arc<Conversation>, T), RandomState>);

impl<T> Default for OpenConversations<T> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<T> OpenConversations<T> {
    /// Adds a conversation that has opened, with the value that `own` returns for it.
    pub fn open<E>(
        &mut self,
        opened: &Opened,
        server: &Arc<ServerInfo>,
        own: impl FnOnce(&Conversation) -> Result<T, E>,
    ) -> Result<Arc<Conversation>, E> {
        let conversation = Arc::new(Conversation::new(opened.clone(), Arc::clone(server)));
        let own = own(&conversation)?;
        self.0
            .insert(opened.conversation, (Arc::clone(&conversation), own));
        Ok(conversation)
    }

    /// Returns a conversation by id; `None` if its opening was not recorded, or it has ended.
    pub fn get(&self, id: ConversationId) -> Option<(&Arc<Conversation>, &T)> {
        self.0
            .get(&id)
            .map(|(conversation, own)| (conversation, own))
    }

    /// Removes a conversation that has ended, and returns it with its ending; `None` if it is unknown.
    pub fn end(&mut self, ended: &Ended) -> Option<Conversation> {
        let (conversation, _) = self.0.remove(&ended.conversation)?;
        Some(Conversation {
            ended: Some((ended.at, ended.ending.clone())),
            ..Arc::unwrap_or_clone(conversation)
        })
    }
}

/// A certificate of an endpoint that speaks TLS.
#[derive(Clone, Debug, Serialize)]
pub struct CertificateJson {
    /// The PEM file that has it.
    pub file: String,
    /// SHA-256 of the certificate (DER), 64 hexadecimal digits.
    pub sha256: String,
}

/// An event as a line of JSON. A format: keys are added, never changed.
#[derive(Debug, Serialize)]
#[serde(tag = "ev", rename_all = "lowercase")]
pub enum EventJson<'a> {
    /// An endpoint listens.
    Listening {
        /// [`JSON_VERSION`].
        v: u32,
        /// Its short name.
        ep: &'a str,
        /// Its address.
        addr: String,
        /// The service that answers.
        svc: &'a str,
        /// Its framing.
        frame: String,
        /// The certificate (CA) that clients verify the endpoint by, if echoic made it.
        #[serde(skip_serializing_if = "Option::is_none")]
        ca: Option<&'a CertificateJson>,
        /// The endpoint's own certificate, if it speaks TLS.
        #[serde(skip_serializing_if = "Option::is_none")]
        cert: Option<&'a CertificateJson>,
    },
    /// The web console answers.
    Console {
        /// [`JSON_VERSION`].
        v: u32,
        /// Its URL; with the token if the command line names its address, unless there is a password.
        url: String,
        /// The file that has the token, if there is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        token_file: Option<String>,
    },
    /// A conversation opened.
    Open {
        /// [`JSON_VERSION`].
        v: u32,
        /// Its id.
        conv: ConversationId,
        /// The endpoint's short name.
        ep: &'a str,
        /// The service that answers; empty for a client.
        svc: &'a str,
        /// Role of the recording side.
        role: Role,
        /// The peer's address.
        peer: String,
        /// Wall-clock time.
        t_us: Micros,
        /// What its TLS handshake agreed on.
        #[serde(skip_serializing_if = "Option::is_none")]
        tls: Option<&'a TlsInfo>,
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
        /// Its id.
        conv: ConversationId,
        /// The class of its close reason, as `end:` finds it.
        end: &'static str,
        /// Its close reason.
        reason: &'static str,
        /// Role of the recording side.
        role: Role,
        /// Bytes read from the peer.
        received: u64,
        /// Bytes that the kernel accepted for the peer.
        sent: u64,
        /// Bytes of replies that were not sent.
        unsent: u64,
        /// Bytes read after the end and discarded.
        discarded: u64,
        /// Wall-clock time.
        t_us: Micros,
        /// Bytes that made no message.
        #[serde(skip_serializing_if = "Option::is_none")]
        left: Option<LeftOverJson<'a>>,
    },
    /// Exchanges that were not received by this watcher.
    Gap {
        /// [`JSON_VERSION`].
        v: u32,
        /// Their number.
        n: u64,
    },
    /// Datagrams that the kernel dropped.
    Dropped {
        /// [`JSON_VERSION`].
        v: u32,
        /// Their number.
        n: u64,
        /// Time at which the loss was detected.
        t_us: Micros,
    },
    /// The store fails. Exchanges are published with the id 0 from now on.
    Failing {
        /// [`JSON_VERSION`].
        v: u32,
        /// The error of the store.
        why: &'a str,
        /// Time of the first failure.
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
        /// First id of the exchanges that were published with the id 0, in their order.
        #[serde(skip_serializing_if = "Option::is_none")]
        first: Option<u64>,
        /// Last id of these.
        #[serde(skip_serializing_if = "Option::is_none")]
        last: Option<u64>,
    },
}

impl<'a> EventJson<'a> {
    /// Returns the event of an opened conversation.
    pub fn open(conversation: &'a Conversation) -> Self {
        Self::Open {
            v: JSON_VERSION,
            conv: conversation.id,
            ep: &conversation.endpoint_info.name,
            svc: &conversation.endpoint_info.service,
            role: conversation.role,
            peer: conversation.remote.to_string(),
            t_us: conversation.opened,
            tls: conversation.tls.as_deref(),
        }
    }

    /// Returns the event of an ended conversation; `None` if it is open.
    pub fn end(conversation: &'a Conversation) -> Option<Self> {
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
            left: conversation.left_over(),
        })
    }

    /// Returns the event of an exchange.
    pub fn exchange(exchange: ExchangeRef<'a>) -> Self {
        Self::Exchange {
            v: JSON_VERSION,
            exchange,
        }
    }
}
