//! An exchange: a message with its reply, as every view shows it.
//!
//! Events are what is stored; an exchange is what people and programs see. [`exchanges`] is the one place where
//! a run is taken apart into them, for the store, the terminal and the page alike.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{
    ending::Ending,
    event::{
        Address, Batch, ConversationId, EndpointInfo, ExchangeId, Micros, Opened, Outcome, Role,
        RunEvent, Server,
    },
    http::begins_as_http,
};

/// A conversation as far as it is known.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// Its name.
    pub id: ConversationId,
    /// Wall clock of its beginning.
    pub opened: Micros,
    /// The peer: who called, or was called.
    pub remote: Address,
    /// Our own end: where we were reached, or called from.
    pub local: Address,
    /// Whose record it is.
    pub role: Role,
    /// Who recorded it.
    pub server: Arc<Server>,
    /// The endpoint.
    pub endpoint_info: Arc<EndpointInfo>,
    /// When the peer ended its half of the stream, if it did.
    pub half_closed: Option<Micros>,
    /// How and when it ended; none while it is open.
    pub ended: Option<(Micros, Ending)>,
}

impl Conversation {
    /// Where the service is: here, or where we called.
    pub fn served_at(&self) -> &Address {
        match self.role {
            Role::Server => &self.local,
            Role::Client => &self.remote,
        }
    }
}

impl Conversation {
    /// As it is when it begins.
    pub fn new(opened: Opened, server: Arc<Server>) -> Self {
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

/// A message with its reply; either side may be empty (a greeting has no request).
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Its name in the store; 0 where nothing is stored.
    pub id: ExchangeId,
    /// The conversation it belongs to.
    pub conversation: Arc<Conversation>,
    /// Its number in the conversation, from 1.
    pub n: u64,
    /// Wall clock at the read.
    pub at: Micros,
    /// From read to write, nanoseconds. All exchanges of a run share it.
    pub latency_ns: u64,
    /// What became of it.
    pub outcome: Outcome,
    /// Reads that the side came in which our socket received: the request, or a client's reply.
    pub reads: u32,
    /// As it came.
    pub request: Vec<u8>,
    /// As it went.
    pub reply: Vec<u8>,
}

/// An exchange whose bytes lie in a batch: what [`Exchange`] owns, lent.
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
    /// What became of it.
    pub outcome: Outcome,
    /// See [`Exchange::reads`].
    pub reads: u32,
    /// As it came.
    pub request: &'a [u8],
    /// As it went.
    pub reply: &'a [u8],
}

/// Takes a run apart. `first_id` is that of its first exchange, 0 if it has none; `batch` is the one it lies in.
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

/// The same from the parts of a run as a store keeps them; the slices in `run` are not looked at.
pub fn split_run<'a>(
    run: &'a RunEvent,
    first_id: ExchangeId,
    mut requests: &'a [u8],
    mut replies: &'a [u8],
    lengths: &'a [u32],
    conversation: &'a Arc<Conversation>,
) -> impl Iterator<Item = ExchangeRef<'a>> {
    let role = conversation.role;
    // A reply that came to us did not have to leave.
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

/// Whichever of the two our socket received.
fn received<'a>(role: Role, request: &'a [u8], reply: &'a [u8]) -> &'a [u8] {
    match role {
        Role::Server => request,
        Role::Client => reply,
    }
}

impl ExchangeRef<'_> {
    /// Writes that our socket needed for its side: a reply of a server, a request of a client.
    pub fn writes(&self) -> u32 {
        let sent = match self.conversation.role {
            Role::Server => self.reply,
            Role::Client => self.request,
        };
        u32::from(!sent.is_empty())
    }

    /// The same on its own.
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
    /// What is striking about it, a word each: `http` where somebody spoke HTTP to a port that does not. A format:
    /// words are added, never changed.
    pub fn tags(&self) -> impl Iterator<Item = &'static str> {
        tags(&self.conversation, &self.request)
    }
}

fn tags(conversation: &Conversation, request: &[u8]) -> impl Iterator<Item = &'static str> + use<> {
    let astray = conversation.role == Role::Server && begins_as_http(request);
    astray.then_some("http").into_iter()
}

impl Exchange {
    /// The same, lent.
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
    /// The object of the REST interface, of `log --json` and of `serve --json`, one shape everywhere.
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

/// Bytes in JSON: as text where that loses nothing, else in base64.
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
        batch.exchange(meta, Outcome::Ok, request, reply);
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
        let called = exchange(Role::Client, b"a", b"A");
        assert_eq!(called["role"], "client");
        assert_eq!(
            (&called["req"]["writes"], &called["rep"]["reads"]),
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
