//! Conversations that opened, were half-closed or ended since the last flush.

use std::{cell::OnceCell, sync::Arc};

use echoic_core::{exchange::Conversation, filter::Expr, store::MessageBytes};
use serde::Serialize;
use serde_json::{json, value::RawValue};

use super::{message, queue::Message};
use crate::json::ConversationJson;

/// Most conversations of each kind in one event.
const LISTED_MAX: usize = 50;

/// Most changes of each kind that are held until the flush. More are counted.
const HELD_MAX: usize = 1000;

/// Changes of conversations since the last flush.
#[derive(Debug, Default)]
pub(super) struct Changes {
    opened: Vec<Change>,
    half: Vec<Change>,
    ended: Vec<Change>,
    /// Changes that are in none of the lists.
    more: u64,
}

#[derive(Debug)]
struct Change {
    conversation: Arc<Conversation>,
    exchanges: u64,
    /// Its JSON, once a group needs it.
    json: OnceCell<Option<Box<RawValue>>>,
}

#[derive(Serialize)]
struct Event<'a> {
    opened: Vec<&'a RawValue>,
    half: Vec<serde_json::Value>,
    ended: Vec<&'a RawValue>,
    more: u64,
}

impl Change {
    /// Bytes of its messages: none at its opening, and unknown afterwards.
    fn so_far(&self) -> Option<MessageBytes> {
        (self.exchanges == 0 && self.conversation.ended.is_none()).then(MessageBytes::default)
    }

    fn json(&self) -> Option<&RawValue> {
        let json = self.json.get_or_init(|| {
            let json =
                ConversationJson::of(&self.conversation, self.exchanges, self.so_far()).ok()?;
            serde_json::value::to_raw_value(&json).ok()
        });
        json.as_deref()
    }
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.opened.is_empty() && self.half.is_empty() && self.ended.is_empty() && self.more == 0
    }

    pub(super) fn opened(&mut self, conversation: Arc<Conversation>) {
        let change = Change::new(conversation, 0);
        self.more += push(&mut self.opened, change);
    }

    pub(super) fn half_closed(&mut self, conversation: Arc<Conversation>) {
        let change = Change::new(conversation, 0);
        self.more += push(&mut self.half, change);
    }

    pub(super) fn ended(&mut self, conversation: Arc<Conversation>, exchanges: u64) {
        let change = Change::new(conversation, exchanges);
        self.more += push(&mut self.ended, change);
    }

    /// Counts a change of a conversation that is not known.
    pub(super) fn missed(&mut self) {
        self.more += 1;
    }

    /// Returns the event with the changes of conversations that meet a condition, if there is one.
    pub(super) fn message(&self, condition: &Expr) -> Option<Message> {
        let mut more = self.more;
        let mut listed = |changes| {
            let (listed, rest) = select(changes, condition);
            more += rest;
            listed
        };
        let (opened, half, ended) = (
            listed(&self.opened),
            listed(&self.half),
            listed(&self.ended),
        );
        let half = half.iter().map(|change| {
            let Conversation {
                id, half_closed, ..
            } = &*change.conversation;
            json!({"conv": id, "t_us": half_closed})
        });
        let event = Event {
            opened: opened.iter().filter_map(|change| change.json()).collect(),
            half: half.collect(),
            ended: ended.iter().filter_map(|change| change.json()).collect(),
            more,
        };
        let is_empty = event.opened.is_empty() && event.half.is_empty() && event.ended.is_empty();
        (!is_empty || more > 0).then(|| message::needed("conversations", &event))
    }

    pub(super) fn clear(&mut self) {
        self.opened.clear();
        self.half.clear();
        self.ended.clear();
        self.more = 0;
    }
}

impl Change {
    fn new(conversation: Arc<Conversation>, exchanges: u64) -> Self {
        Self {
            conversation,
            exchanges,
            json: OnceCell::new(),
        }
    }
}

/// Returns the changes to list, and the number of others that meet the condition. It has no relative time.
fn select<'a>(changes: &'a [Change], condition: &Expr) -> (Vec<&'a Change>, u64) {
    let met = changes
        .iter()
        .filter(|change| condition.matches(&*change.conversation, 0));
    let mut listed: Vec<_> = met.collect();
    let more = listed.len().saturating_sub(LISTED_MAX);
    listed.truncate(LISTED_MAX);
    (listed, more as u64)
}

/// Adds a change if there is room. Returns how many are not in the list.
fn push(changes: &mut Vec<Change>, change: Change) -> u64 {
    if changes.len() < HELD_MAX {
        changes.push(change);
        return 0;
    }
    1
}
