//! Server-sent events as text.

use axum::body::Bytes;
use echoic_core::event::ExchangeId;
use serde::Serialize;
use serde_json::json;

use super::queue::{Message, Missed};

/// Keeps connections from being cut by what lies between, and detects those that are.
pub(super) const HEARTBEAT: &[u8] = b":\n\n";

/// The last event.
pub(super) const BYE: &[u8] = b"event: bye\ndata: {}\n\n";

/// Returns an event. `id` is the last exchange that the stream has reached, from which a subscriber can resume.
pub(super) fn event(name: &str, id: Option<ExchangeId>, data: &impl Serialize) -> Bytes {
    let mut text = Vec::with_capacity(256);
    if let Some(id) = id {
        text.extend_from_slice(format!("id: {id}\n").as_bytes());
    }
    text.extend_from_slice(format!("event: {name}\ndata: ").as_bytes());
    // The values of this crate can all be written as JSON, whose text has no line break.
    let _ = serde_json::to_writer(&mut text, data);
    text.extend_from_slice(b"\n\n");
    text.into()
}

/// Returns an event that a later one replaces.
pub(super) fn replaceable(name: &str, data: &impl Serialize) -> Message {
    Message {
        text: event(name, None, data),
        missed: None,
    }
}

/// Returns an event without which a subscriber has to read the record anew.
pub(super) fn needed(name: &str, data: &impl Serialize) -> Message {
    Message {
        text: event(name, None, data),
        missed: Some(Missed::default()),
    }
}

/// Returns the event that reports exchanges that were not sent.
pub(super) fn gap(missed: Missed) -> Message {
    let (from, to) = missed.ids.unzip();
    let data = Gap {
        from,
        to,
        n: missed.exchanges,
    };
    Message {
        text: event("gap", to, &data),
        missed: Some(missed),
    }
}

#[derive(Serialize)]
struct Gap {
    from: Option<ExchangeId>,
    to: Option<ExchangeId>,
    n: u64,
}

/// Exchanges as one event: a growing list of JSON.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The exchanges, with commas between.
    list: Vec<u8>,
    /// Number of exchanges in the list.
    pub(super) listed: u64,
    /// Number of exchanges that are not.
    pub(super) more: u64,
    /// Ids of all of these exchanges.
    ids: Option<(ExchangeId, ExchangeId)>,
}

/// Most exchanges in one event.
const LISTED_MAX: u64 = 100;

/// Bytes of each request and reply in an event.
const PREVIEW: usize = 256;

impl Batch {
    /// Whether another exchange would be counted, not listed.
    pub(super) fn is_full(&self) -> bool {
        self.listed >= LISTED_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_none()
    }

    /// Adds an exchange.
    pub(super) fn add(&mut self, exchange: echoic_core::exchange::ExchangeRef<'_>) {
        self.extend(exchange.id, exchange.id);
        if self.is_full() {
            self.more += 1;
            return;
        }
        if self.listed > 0 {
            self.list.push(b',');
        }
        let _ = serde_json::to_writer(&mut self.list, &exchange.preview(PREVIEW));
        self.listed += 1;
    }

    /// Counts exchanges without listing them.
    pub(super) fn add_more(&mut self, (first, last): (ExchangeId, ExchangeId), exchanges: u64) {
        self.extend(first, last);
        self.more += exchanges;
    }

    fn extend(&mut self, first: ExchangeId, last: ExchangeId) {
        let from = self.ids.map_or(first, |(from, _)| from);
        self.ids = Some((from, last));
    }

    /// Returns what a subscriber misses without the event.
    pub(super) fn missed(&self) -> Missed {
        Missed {
            ids: self.ids,
            exchanges: self.listed + self.more,
        }
    }

    /// Returns the event, and becomes empty. `position` is the last exchange that the stream has reached.
    pub(super) fn take(&mut self, position: ExchangeId) -> Message {
        let missed = self.missed();
        let (first, last) = self.ids.unwrap_or_default();
        let mut text = Vec::with_capacity(self.list.len() + 128);
        text.extend_from_slice(
            format!("id: {position}\nevent: batch\ndata: {{\"exchanges\":[").as_bytes(),
        );
        text.append(&mut self.list);
        let more = self.more;
        text.extend_from_slice(
            format!("],\"more\":{more},\"first\":{first},\"last\":{last}}}\n\n").as_bytes(),
        );
        self.clear();
        Message {
            text: text.into(),
            missed: Some(missed),
        }
    }

    /// Removes all exchanges.
    pub(super) fn clear(&mut self) {
        self.list.clear();
        (self.listed, self.more, self.ids) = (0, 0, None);
    }
}

/// Returns the first event of a stream, with the time after which to connect again.
pub(super) fn hello(
    position: ExchangeId,
    last: ExchangeId,
    version: &str,
    instance: &str,
    readonly: bool,
) -> Bytes {
    let data = json!({
        "v": 1, "seq": last, "version": version, "instance": instance, "readonly": readonly,
    });
    let mut text = b"retry: 1000\n".to_vec();
    text.extend_from_slice(&event("hello", Some(position), &data));
    text.into()
}
