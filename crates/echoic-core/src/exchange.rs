//! Exchanges: a request with its reply, as every view shows it.
//!
//! Stores hold events; people and programs see exchanges. Only [`exchanges`] divides a run into exchanges, for the store,
//! the terminal and the console.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{
    client_hello::begins_as_tls,
    ending::Ending,
    event::{
        Address, Batch, ConversationId, EndpointInfo, ExchangeId, Micros, Opened, Outcome, Role,
        RunEvent, ServerInfo, TlsInfo,
    },
    http::begins_as_http,
    left_over::LeftOverJson,
    store::Labels,
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
    /// What its TLS handshake agreed on, if it has TLS.
    pub tls: Option<Arc<TlsInfo>>,
    /// When the peer ended its half of the stream, if it did.
    pub half_closed: Option<Micros>,
    /// When and how it ended; `None` while it is open.
    pub ended: Option<(Micros, Ending)>,
    /// Its tags and note, as far as a store has them: events have none.
    pub labels: Labels,
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
    /// Returns the bytes it received that made no message, as JSON.
    pub fn left_over(&self) -> Option<LeftOverJson<'_>> {
        let (_, ending) = self.ended.as_ref()?;
        let left_over = ending.left_over.as_deref()?;
        Some(LeftOverJson::new(
            left_over,
            self.endpoint_info.framing.inbound,
        ))
    }

    /// Creates a conversation that has just opened.
    pub fn new(opened: Opened, server: Arc<ServerInfo>) -> Self {
        let Opened {
            conversation: id,
            at,
            remote,
            local,
            role,
            endpoint_info,
            tls,
        } = opened;
        Self {
            id,
            opened: at,
            remote,
            local,
            role,
            server,
            endpoint_info,
            tls,
            half_closed: None,
            ended: None,
            labels: Labels::default(),
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
    /// Its own tags and note; those of its conversation are in [`Conversation::labels`].
    pub labels: Labels,
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
    /// See [`Exchange::labels`].
    pub labels: &'a Labels,
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
            labels: Labels::none(),
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

impl<'a> ExchangeRef<'a> {
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
            labels: self.labels.clone(),
        }
    }

    /// Returns its JSON object with at most `bytes_max` bytes of its request and of its reply; `cut` marks a side that is longer.
    pub fn preview(self, bytes_max: usize) -> ExchangePreview<'a> {
        ExchangePreview {
            exchange: self,
            bytes_max,
        }
    }

    /// See [`Exchange::tags`].
    pub fn tags(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        tags(self.conversation, self.request, self.labels)
    }
}

impl Exchange {
    /// Returns its tags: first one for each unusual property (`http` for an HTTP request to a port that does not serve HTTP,
    /// `tls` for a TLS handshake with one that does not speak TLS), then those of its labels. A format: tags are added, never changed.
    pub fn tags(&self) -> impl Iterator<Item = &str> {
        tags(&self.conversation, &self.request, &self.labels)
    }
}

/// Returns the tag for an unusual property.
pub(crate) fn automatic_tag(conversation: &Conversation, request: &[u8]) -> Option<&'static str> {
    match conversation.role {
        Role::Server if begins_as_http(request) => Some(TAG_HTTP),
        Role::Server if begins_as_tls(request) => Some(TAG_TLS),
        Role::Client | Role::Server => None,
    }
}

/// The tag of an HTTP request to a port that does not serve HTTP.
pub(crate) const TAG_HTTP: &str = "http";

/// The tag of a TLS handshake with a port that speaks plain TCP.
pub const TAG_TLS: &str = "tls";

fn tags<'a>(
    conversation: &Conversation,
    request: &[u8],
    labels: &'a Labels,
) -> impl Iterator<Item = &'a str> + use<'a> {
    let automatic = automatic_tag(conversation, request);
    let own = labels.tags.iter().map(String::as_str);
    automatic
        .into_iter()
        .chain(own.filter(move |tag| Some(*tag) != automatic))
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
            labels: &self.labels,
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
        self.preview(usize::MAX).serialize(serializer)
    }
}

/// The JSON object of an exchange, with at most so many bytes of its request and of its reply.
#[derive(Clone, Copy, Debug)]
pub struct ExchangePreview<'a> {
    exchange: ExchangeRef<'a>,
    bytes_max: usize,
}

impl Serialize for ExchangePreview<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (exchange, bytes_max) = (&self.exchange, self.bytes_max);
        let endpoint_info = &exchange.conversation.endpoint_info;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &exchange.id)?;
        map.serialize_entry("conv", &exchange.conversation.id)?;
        map.serialize_entry("n", &exchange.n)?;
        map.serialize_entry("ep", &endpoint_info.name)?;
        map.serialize_entry("proto", &endpoint_info.proto)?;
        map.serialize_entry("svc", &endpoint_info.service)?;
        map.serialize_entry("role", &exchange.conversation.role)?;
        map.serialize_entry("peer", &exchange.conversation.remote.to_string())?;
        if let Some(tls) = &exchange.conversation.tls {
            map.serialize_entry("tls", tls)?;
        }
        map.serialize_entry("t_us", &exchange.at)?;
        map.serialize_entry("lat_ns", &exchange.latency_ns)?;
        map.serialize_entry("outcome", &exchange.outcome)?;
        // Reserved for planned faults.
        map.serialize_entry("fault", &None::<&str>)?;
        let (reads, writes) = (("reads", exchange.reads), ("writes", exchange.writes()));
        let (of_request, of_reply) = match exchange.conversation.role {
            Role::Server => (reads, writes),
            Role::Client => (writes, reads),
        };
        let part = |bytes, counter| Part {
            bytes,
            counter,
            bytes_max,
        };
        map.serialize_entry("req", &part(exchange.request, of_request))?;
        map.serialize_entry("rep", &part(exchange.reply, of_reply))?;
        map.serialize_entry("tags", &exchange.tags().collect::<Vec<_>>())?;
        if let Some(left) = exchange.conversation.left_over() {
            map.serialize_entry("left", &left)?;
        }
        if let Some(note) = &exchange.labels.note {
            map.serialize_entry("note", note)?;
        }
        map.end()
    }
}

/// Bytes in JSON: as text if that is lossless, else in base64.
struct Part<'a> {
    bytes: &'a [u8],
    counter: (&'static str, u32),
    bytes_max: usize,
}

impl Serialize for Part<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let is_cut = self.bytes.len() > self.bytes_max;
        let bytes = &self.bytes[..self.bytes.len().min(self.bytes_max)];
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => Some(text),
            // A character that the preview cuts is left out.
            Err(error) if is_cut && error.error_len().is_none() => {
                std::str::from_utf8(&bytes[..error.valid_up_to()]).ok()
            }
            Err(_) => None,
        };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("len", &self.bytes.len())?;
        match text {
            Some(text) if !text.contains('\0') => map.serialize_entry("text", text)?,
            _ => map.serialize_entry("b64", &BASE64_STANDARD.encode(bytes))?,
        }
        map.serialize_entry(self.counter.0, &self.counter.1)?;
        if is_cut {
            map.serialize_entry("cut", &true)?;
        }
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

    fn opened(role: Role) -> Opened {
        let address = Address::Unix(None);
        Opened {
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
            tls: None,
        }
    }

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
        let conversation = Arc::new(Conversation::new(opened(role), Arc::default()));
        let mut all = exchanges(run, 9, &batch, &conversation);
        serde_json::to_value(all.next().unwrap()).unwrap()
    }

    #[test]
    fn preview_is_cut_between_characters() {
        let mut batch = Batch::default();
        let meta = RunMeta {
            conversation: 7,
            n: 1,
            at: 2,
            latency_ns: 3,
            reads: 4,
            reply_offset: 0,
        };
        batch.push_exchange(meta, Outcome::Ok, "aé".as_bytes(), b"AB");
        let Some(Event::Run(run)) = batch.events.first() else {
            panic!("a run");
        };
        let conversation = Arc::new(Conversation::new(opened(Role::Server), Arc::default()));
        let mut all = exchanges(run, 9, &batch, &conversation);
        let json = serde_json::to_value(all.next().unwrap().preview(2)).unwrap();
        assert_eq!(
            json["req"],
            serde_json::json!({"len": 3, "text": "a", "reads": 4, "cut": true})
        );
        assert_eq!(
            json["rep"],
            serde_json::json!({"len": 2, "text": "AB", "writes": 1})
        );
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
