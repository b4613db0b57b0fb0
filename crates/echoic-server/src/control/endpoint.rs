//! An endpoint while it is served: its state, its counts, and the way to its conversations.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
};

use echoic_core::{
    control::{EndpointId, EndpointState, EndpointStatus, Requested},
    event::{Address, ConversationId, EndpointInfo},
    service::Service,
};

use super::mailbox::{Mailbox, MailboxOwner};
use crate::{drain::Drain, sources::lock};

/// What the acceptor, the conversations and the control share of one endpoint.
#[derive(Debug)]
pub(crate) struct ServedEndpoint {
    id: EndpointId,
    pub(crate) info: Arc<EndpointInfo>,
    addresses: Vec<Address>,
    service: Arc<dyn Service>,
    /// An [`EndpointState`], as asked for: [`Self::state`] tells how far it is.
    asked: AtomicU8,
    counts: EndpointCounts,
    /// The drain of the conversations that open now. Each drain of the endpoint has its own, so that conversations opened
    /// after it are not affected.
    drain: Mutex<Drain>,
    /// The conversations that can be commanded, with the mailboxes of their tasks.
    conversations: Mutex<HashMap<ConversationId, Arc<Mailbox>>>,
    /// The tasks of its datagram sockets.
    tasks: Mutex<Vec<Arc<Mailbox>>>,
}

/// Counts of the conversations of an endpoint.
#[derive(Debug, Default)]
struct EndpointCounts {
    accepted: AtomicU64,
    rejected: AtomicU64,
    /// Accepted, not rejected, and not over yet.
    open: AtomicU64,
}

/// Room in the table of conversations that an endpoint without conversations keeps.
const TABLE_KEPT: usize = 1024;

const OPEN: u8 = 0;
const PAUSED: u8 = 1;
const DRAINING: u8 = 2;

impl ServedEndpoint {
    pub(crate) fn new(
        id: EndpointId,
        info: Arc<EndpointInfo>,
        addresses: Vec<Address>,
        service: Arc<dyn Service>,
    ) -> Self {
        Self {
            id,
            info,
            addresses,
            service,
            asked: AtomicU8::new(OPEN),
            counts: EndpointCounts::default(),
            drain: Mutex::default(),
            conversations: Mutex::default(),
            tasks: Mutex::default(),
        }
    }

    pub(crate) fn id(&self) -> EndpointId {
        self.id
    }

    /// Whether connections are accepted and datagrams received.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.asked.load(Ordering::Acquire) == OPEN
    }

    /// The state. A drain is over when no conversation is open: the endpoint is then paused.
    pub(crate) fn state(&self) -> EndpointState {
        match self.asked.load(Ordering::Acquire) {
            OPEN => EndpointState::Open,
            DRAINING if self.counts.open.load(Ordering::Relaxed) > 0 => EndpointState::Draining,
            _ => EndpointState::Paused,
        }
    }

    /// Whether a drain was asked for, be it over or not.
    pub(crate) fn is_drained(&self) -> bool {
        self.asked.load(Ordering::Acquire) == DRAINING
    }

    pub(crate) fn status(&self) -> EndpointStatus {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        EndpointStatus {
            id: self.id,
            info: Arc::clone(&self.info),
            addresses: self.addresses.clone(),
            state: self.state(),
            open: count(&self.counts.open),
            accepted: count(&self.counts.accepted),
            rejected: count(&self.counts.rejected),
            failing: self.service.failing(),
            server: None,
        }
    }

    /// Notes what is asked for. Returns the drain to be started once nothing more is accepted. Pausing an endpoint that
    /// drains changes nothing: its conversations have been told to end.
    pub(crate) fn ask(&self, requested: Requested) -> Option<Drain> {
        let mut drain = lock(&self.drain);
        let asked = match requested {
            Requested::Open => {
                if drain.has_started() {
                    *drain = Drain::default();
                }
                OPEN
            }
            Requested::Paused if self.is_drained() => DRAINING,
            Requested::Paused => PAUSED,
            Requested::Draining => DRAINING,
        };
        self.asked.store(asked, Ordering::Release);
        let starts = requested == Requested::Draining && !drain.has_started();
        starts.then(|| drain.clone())
    }

    /// Starts a drain that [`Self::ask`] returned, unless the endpoint was opened again meanwhile. Returns whether it did.
    pub(crate) fn start_drain(&self, drain: &Drain) -> bool {
        let current = lock(&self.drain);
        let starts = self.is_drained() && current.is(drain) && !drain.has_started();
        if starts {
            drain.start_for_endpoint();
        }
        starts
    }

    /// Has conversations that open from now on unaffected by earlier drains.
    pub(crate) fn renew_drain(&self) {
        let mut drain = lock(&self.drain);
        if drain.has_started() {
            *drain = Drain::default();
        }
    }

    /// The drain of the conversations that open now.
    pub(crate) fn drain(&self) -> Drain {
        lock(&self.drain).clone()
    }

    /// Ends the conversations of `drain` that are not over: its timeout has passed.
    pub(crate) fn cut(&self, drain: &Drain) {
        drain.set_overdue();
        for mailbox in lock(&self.conversations).values() {
            if mailbox.drains_with(drain) {
                mailbox.cut();
            }
        }
    }

    /// The mailbox of the task of a conversation.
    pub(crate) fn mailbox(&self, conversation: ConversationId) -> Option<Arc<Mailbox>> {
        lock(&self.conversations).get(&conversation).cloned()
    }

    /// The mailboxes of the tasks of its datagram sockets.
    pub(crate) fn tasks(&self) -> Vec<Arc<Mailbox>> {
        lock(&self.tasks).clone()
    }

    pub(crate) fn add_task(&self, mailbox: Arc<Mailbox>) {
        lock(&self.tasks).push(mailbox);
    }

    /// Counts a conversation; one that is not rejected counts as open until the returned value is dropped.
    pub(crate) fn count(self: &Arc<Self>, is_accepted: bool) -> Option<OpenCount> {
        if !is_accepted {
            self.counts.rejected.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.counts.accepted.fetch_add(1, Ordering::Relaxed);
        self.counts.open.fetch_add(1, Ordering::Relaxed);
        Some(OpenCount(Arc::clone(self)))
    }

    /// Makes a conversation known until the returned value is dropped. One without an id, 0, cannot be commanded.
    pub(crate) fn register(
        self: &Arc<Self>,
        conversation: ConversationId,
        mailbox: &MailboxOwner,
    ) -> Registration {
        if conversation > 0 {
            lock(&self.conversations).insert(conversation, mailbox.share());
            if mailbox.is_overdue() {
                mailbox.cut(); // a drain that began before it has timed out
            }
        }
        Registration {
            endpoint: Arc::clone(self),
            conversation,
        }
    }
}

/// One open conversation in the counts of its endpoint.
#[derive(Debug)]
pub(crate) struct OpenCount(Arc<ServedEndpoint>);

impl Drop for OpenCount {
    fn drop(&mut self) {
        self.0.counts.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A conversation that is known to its endpoint.
#[derive(Debug)]
pub(crate) struct Registration {
    endpoint: Arc<ServedEndpoint>,
    conversation: ConversationId,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut conversations = lock(&self.endpoint.conversations);
        conversations.remove(&self.conversation);
        if conversations.is_empty() && conversations.capacity() > TABLE_KEPT {
            *conversations = HashMap::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use echoic_core::{event::Protocol, framing::FramingPair};
    use echoic_service::NamedService;

    use super::*;

    fn endpoint() -> Arc<ServedEndpoint> {
        let info = EndpointInfo {
            name: "tcp:5000".to_owned(),
            proto: Protocol::Tcp,
            service: "upper".to_owned(),
            framing: FramingPair::default(),
        };
        let service = "upper".parse::<NamedService>().expect("a service");
        Arc::new(ServedEndpoint::new(
            1,
            Arc::new(info),
            Vec::new(),
            service.0,
        ))
    }

    #[test]
    fn drain_ends_by_itself_and_each_has_its_own_signal() {
        let endpoint = endpoint();
        let open = endpoint.count(true);
        let first = endpoint.ask(Requested::Draining).expect("not started yet");
        assert!(endpoint.start_drain(&first) && !endpoint.start_drain(&first));
        assert!(endpoint.ask(Requested::Paused).is_none());
        assert_eq!(endpoint.state(), EndpointState::Draining);
        drop(open);
        assert_eq!(endpoint.state(), EndpointState::Paused);
        assert!(endpoint.ask(Requested::Open).is_none());
        assert_eq!(endpoint.state(), EndpointState::Open);
        assert!(!endpoint.drain().has_started() && !endpoint.drain().is(&first));
    }

    #[test]
    fn drain_is_not_started_if_the_endpoint_was_opened_meanwhile() {
        let endpoint = endpoint();
        let drain = endpoint.ask(Requested::Draining).expect("not started yet");
        endpoint.ask(Requested::Open);
        assert!(!endpoint.start_drain(&drain) && !drain.has_started());
    }

    #[test]
    fn cut_reaches_the_conversations_of_its_drain_alone_and_late_ones() {
        let endpoint = endpoint();
        let old = endpoint.ask(Requested::Draining).expect("not started yet");
        assert!(endpoint.start_drain(&old));
        endpoint.ask(Requested::Open);
        let [before, other, late] =
            [old.clone(), endpoint.drain(), old.clone()].map(|drain| Mailbox::open(Some(drain)));
        let _before = endpoint.register(1, &before);
        let other_one = endpoint.register(2, &other);
        endpoint.cut(&old);
        let _late = endpoint.register(3, &late);
        assert!(before.is_pending() && late.is_pending() && !other.is_pending());
        assert!(endpoint.mailbox(2).is_some());
        drop(other_one);
        assert!(endpoint.mailbox(2).is_none());
    }
}
