//! Exchanges: a request with its reply, as every view shows it.
//!
//! Stores hold events; people and programs see exchanges. Only [`exchanges`] divides a run into exchanges, for the store,
//! the terminal and the console.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{
    ending::Ending,
    event::{
        Address, Batch, ConversationId, EndpointInfo, ExchangeId, Micros, Opened, Outcome, Role,
        RunEvent, ServerInfo,
    },
    http::begins_as_http,
};

/// A conversation, as far as it is recorded.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// Its id.
    pub id: ConversationId,
    /// Wall-clock time of its opening.
    pub opened: Micros,
    /// The peer's address.
    pub remote: Address,
    /// Our own address.
    pub local: Address,
    /// Role of the recording side.
    pub role: Role,
    /// The server that recorded it.
    pub server: Arc<ServerInfo>,
    /// The endpoint.
    pub endpoint_info: Arc<EndpointInfo>,
    /// When the peer ended its half of the stream, if it did.
    pub half_closed: Option<Micros>,
    /// When and how it ended; `None` while it is open.
    pub ended: Option<(Micros, Ending)>,
}

impl Conversation {
    /// Returns the server's address: ours, or in a client's record the peer's.
    pub fn served_at(&self) -> &Address {
        match self.role {
            Role::Server => &self.local,
            Role::Client => &self.remote,
        }
    }
}

impl Conversation {
    /// Creates a conversation that has just opened.
    pub fn new(opened: Opened, server: Arc<ServerInfo>) -> Self {
        let Opened {
            conversation: id,
            at,
            remote,
            local,
            role,
            endpoint_info,
        } = opened;
        Self {
            id,
            opened: at,
            remote,
            local,
            role,
            server,
            endpoint_info,
            half_closed: None,
            ended: None,
        }
    }
}

/// A request with its reply; either may be empty (a greeting has no request).
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Its id in the store; 0 if it is not stored.
    pub id: ExchangeId,
    /// The conversation it belongs to.
    pub conversation: Arc<Conversation>,
    /// Its number in the conversation, from 1.
    pub n: u64,
    /// Wall-clock time of the read.
    pub at: Micros,
    /// Time from read to write, in nanoseconds. All exchanges of a run share it.
    pub latency_ns: u64,
    /// Its outcome.
    pub outcome: Outcome,
    /// Number of reads of the side that our socket received: the request, or in a client's record the reply.
    pub reads: u32,
    /// Bytes of the request.
    pub request: Vec<u8>,
    /// Bytes of the reply.
    pub reply: Vec<u8>,
}

/// An exchange that borrows its bytes from a batch.
#[derive(Clone, Copy, Debug)]
pub struct ExchangeRef<'a> {
    /// See [`Exchange::id`].
    pub id: ExchangeId,
    /// The conversation it belongs to.
    pub conversation: &'a Arc<Conversation>,
    /// See [`Exchange::n`].
    pub n: u64,
    /// See [`Exchange::at`].
    pub at: Micros,
    /// See [`Exchange::latency_ns`].
    pub latency_ns: u64,
    /// Its outcome.
    pub outcome: Outcome,
    /// See [`Exchange::reads`].
    pub reads: u32,
    /// Bytes of the request.
    pub request: &'a [u8],
    /// Bytes of the reply.
    pub reply: &'a [u8],
}

/// Divides a run of `batch` into exchanges. `first_id` is the id of the first one; 0 if it is not stored.
pub fn exchanges<'a>(
    run: &'a RunEvent,
    first_id: ExchangeId,
    batch: &'a Batch,
    conversation: &'a Arc<Conversation>,
) -> impl Iterator<Item = ExchangeRef<'a>> {
    split_run(
        run,
        first_id,
        batch.bytes(run.request),
        batch.bytes(run.reply),
        batch.lengths(run.lengths),
        conversation,
    )
}

/// Divides a run whose bytes and lengths a store has separately; the slices in `run` are ignored.
pub fn split_run<'a>(
    run: &'a RunEvent,
    first_id: ExchangeId,
    mut requests: &'a [u8],
    mut replies: &'a [u8],
    lengths: &'a [u32],
    conversation: &'a Arc<Conversation>,
) -> impl Iterator<Item = ExchangeRef<'a>> {
    let role = conversation.role;
    // Only a server sends replies.
    let ended = conversation.ended.as_ref();
    let ended = ended.filter(|_| role == Role::Server);
    let sent = ended.map(|(_, ending)| ending.sent);
    let mut reply_end = run.reply_offset;
    (0..run.count).map(move |i| {
        let (request_len, reply_len) = match lengths.get(2 * i as usize..2 * i as usize + 2) {
            Some(pair) => (pair[0] as usize, pair[1] as usize),
            None => (requests.len(), replies.len()),
        };
        let (request, reply);
        (request, requests) = requests.split_at(request_len.min(requests.len()));
        (reply, replies) = replies.split_at(reply_len.min(replies.len()));
        reply_end += reply.len() as u64;
        ExchangeRef {
            id: match first_id {
                0 => 0,
                first => first + u64::from(i),
            },
            conversation,
            n: run.n + u64::from(i),
            at: run.at,
            latency_ns: run.latency_ns,
            outcome: match run.outcome {
                Outcome::Ok if !reply.is_empty() && sent.is_some_and(|sent| sent < reply_end) => {
                    Outcome::Unsent
                }
                outcome => outcome,
            },
            reads: if received(role, request, reply).is_empty() {
                0
            } else if i == 0 {
                run.reads
            } else {
                1
            },
            request,
            reply,
        }
    })
}

/// Returns the side that our socket received.
fn received<'a>(role: Role, request: &'a [u8], reply: &'a [u8]) -> &'a [u8] {
    match role {
        Role::Server => request,
        Role::Client => reply,
    }
}

impl ExchangeRef<'_> {
    /// Returns the number of writes of the side that our socket sent: the reply of a server, the request of a client.
    pub fn writes(&self) -> u32 {
        let sent = match self.conversation.role {
            Role::Server => self.reply,
            Role::Client => self.request,
        };
        u32::from(!sent.is_empty())
    }

    /// Returns a copy that owns its bytes.
    pub fn into_owned(self) -> Exchange {
        Exchange {
            id: self.id,
            conversation: Arc::clone(self.conversation),
            n: self.n,
            at: self.at,
            latency_ns: self.latency_ns,
            outcome: self.outcome,
            reads: self.reads,
            request: self.request.to_vec(),
            reply: self.reply.to_vec(),
        }
    }

    /// See [`Exchange::tags`].
    pub fn tags(&self) -> impl Iterator<Item = &'static str> + use<> {
        tags(self.conversation, self.request)
    }
}

impl Exchange {
    /// Returns tags for unusual properties: `http` for an HTTP request to a port that does not serve HTTP. A format: tags
    /// are added, never changed.
    pub fn tags(&self) -> impl Iterator<Item = &'static str> {
        tags(&self.conversation, &self.request)
    }
}

fn tags(conversation: &Conversation, request: &[u8]) -> impl Iterator<Item = &'static str> + use<> {
    let is_misdirected = conversation.role == Role::Server && begins_as_http(request);
    is_misdirected.then_some("http").into_iter()
}

impl Exchange {
    /// Returns a borrowed form.
    pub fn borrow(&self) -> ExchangeRef<'_> {
        ExchangeRef {
            id: self.id,
            conversation: &self.conversation,
            n: self.n,
            at: self.at,
            latency_ns: self.latency_ns,
            outcome: self.outcome,
            reads: self.reads,
            request: &self.request,
            reply: &self.reply,
        }
    }
}

impl Serialize for Exchange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.borrow().serialize(serializer)
    }
}

impl Serialize for ExchangeRef<'_> {
    /// Writes the JSON object of `log --json` and `serve --json`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let endpoint_info = &self.conversation.endpoint_info;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("conv", &self.conversation.id)?;
        map.serialize_entry("n", &self.n)?;
        map.serialize_entry("ep", &endpoint_info.name)?;
        map.serialize_entry("proto", &endpoint_info.proto)?;
        map.serialize_entry("svc", &endpoint_info.service)?;
        map.serialize_entry("role", &self.conversation.role)?;
        map.serialize_entry("peer", &self.conversation.remote.to_string())?;
        map.serialize_entry("t_us", &self.at)?;
        map.serialize_entry("lat_ns", &self.latency_ns)?;
        map.serialize_entry("outcome", &self.outcome)?;
        // Reserved for planned faults.
        map.serialize_entry("fault", &None::<&str>)?;
        let (reads, writes) = (("reads", self.reads), ("writes", self.writes()));
        let (of_request, of_reply) = match self.conversation.role {
            Role::Server => (reads, writes),
            Role::Client => (writes, reads),
        };
        map.serialize_entry(
            "req",
            &Part {
                bytes: self.request,
                counter: of_request,
            },
        )?;
        map.serialize_entry(
            "rep",
            &Part {
                bytes: self.reply,
                counter: of_reply,
            },
        )?;
        map.serialize_entry("tags", &self.tags().collect::<Vec<_>>())?;
        map.end()
    }
}

/// Bytes in JSON: as text if that is lossless, else in base64.
struct Part<'a> {
    bytes: &'a [u8],
    counter: (&'static str, u32),
}

impl Serialize for Part<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("len", &self.bytes.len())?;
        match std::str::from_utf8(self.bytes) {
            Ok(text) if !text.contains('\0') => map.serialize_entry("text", text)?,
            _ => map.serialize_entry("b64", &BASE64_STANDARD.encode(self.bytes))?,
        }
        map.serialize_entry(self.counter.0, &self.counter.1)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{Event, Protocol, RunMeta},
        framing::FramingPair,
    };

    fn exchange(role: Role, request: &[u8], reply: &[u8]) -> serde_json::Value {
        let mut batch = Batch::default();
        let meta = RunMeta {
            conversation: 7,
            n: 1,
            at: 2,
            latency_ns: 3,
            reads: 4,
            reply_offset: 0,
        };
        batch.push_exchange(meta, Outcome::Ok, request, reply);
        let Some(Event::Run(run)) = batch.events.first() else {
            panic!("a run");
        };
        let address = Address::Unix(None);
        let opened = Opened {
            conversation: 7,
            at: 1,
            remote: address.clone(),
            local: address,
            role,
            endpoint_info: Arc::new(EndpointInfo {
                name: "unix".to_owned(),
                proto: Protocol::Unix,
                service: String::new(),
                framing: FramingPair::default(),
            }),
        };
        let conversation = Arc::new(Conversation::new(opened, Arc::default()));
        let mut all = exchanges(run, 9, &batch, &conversation);
        serde_json::to_value(all.next().unwrap()).unwrap()
    }

    #[test]
    fn reads_are_of_the_side_that_was_received() {
        let served = exchange(Role::Server, b"a", b"A");
        assert_eq!(
            (&served["role"], &served["id"]),
            (&"server".into(), &9.into())
        );
        assert_eq!(
            (&served["req"]["reads"], &served["rep"]["writes"]),
            (&4.into(), &1.into())
        );
        let dialed = exchange(Role::Client, b"a", b"A");
        assert_eq!(dialed["role"], "client");
        assert_eq!(
            (&dialed["req"]["writes"], &dialed["rep"]["reads"]),
            (&1.into(), &4.into())
        );
        let greeted = exchange(Role::Client, b"", b"hi");
        assert_eq!(
            (&greeted["req"]["writes"], &greeted["rep"]["reads"]),
            (&0.into(), &4.into())
        );
        let ignored = exchange(Role::Client, b"a", b"");
        assert_eq!(
            (&ignored["req"]["writes"], &ignored["rep"]["reads"]),
            (&1.into(), &0.into())
        );
    }
}
