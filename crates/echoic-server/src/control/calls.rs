//! The socket calls of single conversations, for "explain" of the console.
//!
//! Whether a conversation is explained is decided when it opens, so that all others pay one branch for each call at most:
//! their link has nobody to report to.

use std::{
    collections::VecDeque,
    os::fd::RawFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use echoic_core::{control::SocketCall, event::ConversationId};
use echoic_recorder::wall_clock_now;
use echoic_wire::{Call, Explain};

use crate::sources::lock;

/// Calls that are noted of a conversation: the first ones.
const CALLS_MAX: usize = 256;

/// Explained conversations that are kept: the newest ones.
const EXPLAINED_MAX: usize = 16;

/// The explained conversations of a server.
#[derive(Debug, Default)]
pub(crate) struct Explained {
    /// The next conversation that opens is explained.
    armed: AtomicBool,
    conversations: Mutex<VecDeque<Arc<CallNotes>>>,
}

/// The socket calls of one conversation.
#[derive(Debug)]
pub(crate) struct CallNotes {
    conversation: ConversationId,
    calls: Mutex<Vec<SocketCall>>,
}

impl Explained {
    pub(crate) fn arm(&self) {
        self.armed.store(true, Ordering::Relaxed);
    }

    /// Returns where to note the calls of a conversation that opens, if it is the one to be explained.
    #[inline]
    pub(crate) fn open(&self, conversation: ConversationId) -> Option<Arc<CallNotes>> {
        if !self.armed.load(Ordering::Relaxed) {
            return None;
        }
        self.take(conversation)
    }

    #[cold]
    fn take(&self, conversation: ConversationId) -> Option<Arc<CallNotes>> {
        if conversation == 0 || !self.armed.swap(false, Ordering::Relaxed) {
            return None;
        }
        let notes = Arc::new(CallNotes {
            conversation,
            calls: Mutex::default(),
        });
        let mut conversations = lock(&self.conversations);
        conversations.truncate(EXPLAINED_MAX - 1);
        conversations.push_front(Arc::clone(&notes));
        Some(notes)
    }

    /// The calls noted so far, oldest first; `None` if the conversation was not explained.
    pub(crate) fn calls(&self, conversation: ConversationId) -> Option<Vec<SocketCall>> {
        let conversations = lock(&self.conversations);
        let mut notes = conversations.iter();
        let notes = notes.find(|notes| notes.conversation == conversation)?;
        Some(lock(&notes.calls).clone())
    }
}

impl CallNotes {
    /// Notes the accept of the connection.
    pub(crate) fn note_accept(&self, listener: Option<RawFd>, connection: Option<RawFd>) {
        self.push(SocketCall {
            t_us: wall_clock_now(),
            call: ACCEPT,
            args: text(listener),
            result: text(connection),
        });
    }

    /// Notes a call on a socket.
    pub(crate) fn note(&self, fd: Option<RawFd>, call: &Call<'_>) {
        let Some(text) = call.in_c(fd) else {
            return; // a remark
        };
        self.push(SocketCall {
            t_us: wall_clock_now(),
            call: text.call,
            args: text.args,
            result: text.result,
        });
    }

    /// Returns a receiver that notes the calls of a link.
    pub(crate) fn explain(self: Arc<Self>, fd: Option<RawFd>) -> Explain {
        Explain::new(move |_, call| self.note(fd, &call))
    }

    fn push(&self, call: SocketCall) {
        let mut calls = lock(&self.calls);
        if calls.len() < CALLS_MAX {
            calls.push(call);
        }
    }
}

/// How the runtime accepts: with a flag that makes the connection non-blocking, where the system has it.
const ACCEPT: &str = if cfg!(target_os = "linux") {
    "accept4"
} else {
    "accept"
};

/// A file descriptor; a connection in memory has none.
fn text(fd: Option<RawFd>) -> String {
    fd.map_or_else(|| "-".to_owned(), |fd| fd.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_conversation_is_explained_for_each_request() {
        let explained = Explained::default();
        assert!(explained.open(1).is_none());
        explained.arm();
        explained.arm();
        assert!(explained.open(2).is_some());
        assert!(explained.open(3).is_none());
        assert_eq!(explained.calls(2), Some(vec![]));
        assert_eq!(explained.calls(3), None);
    }

    #[test]
    fn newest_conversations_and_first_calls_are_kept() {
        let explained = Explained::default();
        for conversation in 1..=20 {
            explained.arm();
            let notes = explained.open(conversation).expect("it is armed");
            for _ in 0..300 {
                notes.note_accept(Some(3), Some(4));
            }
        }
        let kept: Vec<_> = (1..=20)
            .filter_map(|conversation| explained.calls(conversation))
            .collect();
        assert_eq!(kept.len(), EXPLAINED_MAX);
        assert!(kept.iter().all(|calls| calls.len() == CALLS_MAX));
        assert!(explained.calls(20).is_some() && explained.calls(4).is_none());
    }
}
