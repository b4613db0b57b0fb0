//! Commands for a running task: a conversation, the task of a datagram socket, the acceptor.
//!
//! A task that nobody commands pays one load for each wake-up: [`Mailbox::is_pending`]. The lock is taken once when the task
//! registers its waker, and for each command.

use std::{
    fmt,
    future::poll_fn,
    mem,
    ops::Deref,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, Waker},
};

use echoic_core::{
    control::{CloseHow, ControlError},
    event::ConversationId,
};
use tokio::sync::oneshot;

use crate::{drain::Drain, sources::lock};

/// Bytes to be sent that may wait in a conversation: for the peer, or for its task to take the command.
pub(crate) const UNSENT_MAX: usize = 1 << 20;

/// Commands that may wait for a task.
const COMMANDS_MAX: usize = 64;

/// What a task is asked to do.
#[derive(Debug)]
pub(crate) enum Action {
    /// Send these bytes to the peer.
    Send(Vec<u8>),
    /// Close the conversation.
    Close(CloseHow),
    /// Look at the state of the endpoint, which has changed.
    Look,
    /// The drain timeout has passed: end the conversation at once.
    Cut,
}

/// A command with its conversation, which the task of a datagram socket needs, and where to tell what became of it.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) conversation: ConversationId,
    pub(crate) action: Action,
    done: Option<oneshot::Sender<Result<(), ControlError>>>,
}

impl Command {
    /// Tells what became of the command.
    pub(crate) fn reply(&mut self, result: Result<(), ControlError>) {
        if let Some(done) = self.done.take() {
            let _ = done.send(result); // nobody may wait any more
        }
    }

    /// Whether whoever gave the command no longer waits for it, and may give it again.
    fn is_abandoned(&self) -> bool {
        self.done.as_ref().is_some_and(oneshot::Sender::is_closed)
    }

    fn bytes(&self) -> usize {
        match &self.action {
            Action::Send(bytes) => bytes.len(),
            _ => 0,
        }
    }
}

/// The commands for one task.
pub(crate) struct Mailbox {
    /// Whether there are commands.
    pending: AtomicBool,
    /// The drain of the conversation, by which [`super::endpoint::ServedEndpoint::cut`] finds it.
    drain: Option<Drain>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waker: Option<Waker>,
    commands: Vec<Command>,
    is_closed: bool,
}

/// Why a command was not put into a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// The task has ended.
    Closed,
    /// Too much waits for it.
    Full,
}

impl Mailbox {
    /// Returns the mailbox of a task, for the task.
    pub(crate) fn open(drain: Option<Drain>) -> MailboxOwner {
        MailboxOwner(Arc::new(Self {
            pending: AtomicBool::new(false),
            drain,
            state: Mutex::default(),
        }))
    }

    /// Whether there are commands. The wake-up that follows a command orders memory, so the load need not.
    #[inline]
    pub(crate) fn is_pending(&self) -> bool {
        self.pending.load(Ordering::Relaxed)
    }

    /// Whether the task has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.state().is_closed
    }

    /// Whether its conversation ends when this drain starts.
    pub(crate) fn drains_with(&self, drain: &Drain) -> bool {
        self.drain.as_ref().is_some_and(|own| own.is(drain))
    }

    /// Whether the timeout of its drain has passed.
    pub(crate) fn is_overdue(&self) -> bool {
        self.drain.as_ref().is_some_and(Drain::is_overdue)
    }

    /// Adds a command and wakes the task. Returns where the task tells what became of it.
    pub(crate) fn command(
        &self,
        conversation: ConversationId,
        action: Action,
    ) -> Result<oneshot::Receiver<Result<(), ControlError>>, NotTaken> {
        let (done, result) = oneshot::channel();
        let command = Command {
            conversation,
            action,
            done: Some(done),
        };
        let mut state = self.state();
        state.commands.retain(|waiting| !waiting.is_abandoned());
        let bytes: usize = state.commands.iter().map(Command::bytes).sum();
        if state.is_closed {
            return Err(NotTaken::Closed);
        }
        if state.commands.len() >= COMMANDS_MAX || bytes + command.bytes() > UNSENT_MAX {
            return Err(NotTaken::Full);
        }
        self.push(state, command);
        Ok(result)
    }

    /// Ends the conversation at once, however much waits.
    pub(crate) fn cut(&self) {
        let cut = Command {
            conversation: 0,
            action: Action::Cut,
            done: None,
        };
        self.push(self.state(), cut);
    }

    fn push(&self, mut state: MutexGuard<'_, State>, command: Command) {
        if state.is_closed {
            return;
        }
        state.commands.push(command);
        self.pending.store(true, Ordering::Relaxed);
        let waker = state.waker.clone();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Has commands wake this task from now on. Commands given before are pending.
    pub(crate) fn register(&self, waker: &Waker) {
        self.state().waker = Some(waker.clone());
    }

    /// As [`Self::register`], of the task that this is awaited in.
    pub(crate) async fn register_task(&self) {
        poll_fn(|cx| {
            self.register(cx.waker());
            Poll::Ready(())
        })
        .await;
    }

    /// Takes the commands that somebody still waits for, oldest first.
    pub(crate) fn take(&self) -> Vec<Command> {
        let mut state = self.state();
        self.pending.store(false, Ordering::Relaxed);
        let mut commands = mem::take(&mut state.commands);
        drop(state);
        commands.retain(|command| !command.is_abandoned());
        commands
    }

    /// Refuses commands from now on, and drops those that wait.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        state.waker = None;
        let dropped = mem::take(&mut state.commands);
        drop(state);
        drop(dropped);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox")
            .field("pending", &self.is_pending())
            .finish_non_exhaustive()
    }
}

/// The mailbox of the task that holds this; closed when it is dropped.
#[derive(Debug)]
pub(crate) struct MailboxOwner(Arc<Mailbox>);

impl MailboxOwner {
    /// Returns the mailbox for those who give commands.
    pub(crate) fn share(&self) -> Arc<Mailbox> {
        Arc::clone(&self.0)
    }
}

impl Deref for MailboxOwner {
    type Target = Mailbox;

    fn deref(&self) -> &Mailbox {
        &self.0
    }
}

impl Drop for MailboxOwner {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(bytes: usize) -> Action {
        Action::Send(vec![b'x'; bytes])
    }

    #[test]
    fn command_that_nobody_waits_for_is_not_taken() {
        let mailbox = Mailbox::open(None);
        let waiting = mailbox.command(1, note(1)).unwrap();
        drop(mailbox.command(1, note(2)).unwrap());
        assert!(mailbox.is_pending());
        let commands = mailbox.take();
        assert!(
            matches!(&commands[..], [Command { action: Action::Send(bytes), .. }] if bytes.len() == 1)
        );
        assert!(!mailbox.is_pending());
        drop((waiting, commands));
    }

    #[test]
    fn command_is_refused_if_too_much_waits_or_the_task_has_ended() {
        let mailbox = Mailbox::open(None);
        let shared = mailbox.share();
        let many: Vec<_> = (0..COMMANDS_MAX)
            .map(|_| mailbox.command(1, note(1)).unwrap())
            .collect();
        assert_eq!(mailbox.command(1, note(1)).unwrap_err(), NotTaken::Full);
        drop(many);
        let long = mailbox.command(1, note(UNSENT_MAX)).unwrap();
        assert_eq!(mailbox.command(1, note(1)).unwrap_err(), NotTaken::Full);
        drop(mailbox);
        assert_eq!(
            long.blocking_recv().map(|_| ()).unwrap_err().to_string(),
            "channel closed"
        );
        assert_eq!(shared.command(1, note(1)).unwrap_err(), NotTaken::Closed);
    }
}
