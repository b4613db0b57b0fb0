//! Commands of the prompt that wait until the peer has taken the lines before them.

use std::collections::VecDeque;

use super::command::Command;

/// A queue of commands, bounded in bytes by its user ([`Self::is_full`]).
#[derive(Debug, Default)]
pub(super) struct Deferred {
    commands: VecDeque<Command>,
    bytes: usize,
}

/// Once more waits, no more is read from the terminal.
const BYTES_MAX: usize = 1 << 20;

impl Deferred {
    pub(super) fn push(&mut self, command: Command) {
        self.bytes += cost(&command);
        self.commands.push_back(command);
    }

    pub(super) fn first(&self) -> Option<&Command> {
        self.commands.front()
    }

    pub(super) fn pop(&mut self) -> Option<Command> {
        let command = self.commands.pop_front()?;
        self.bytes -= cost(&command);
        Some(command)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes > BYTES_MAX
    }

    /// Returns the number of lines and messages.
    pub(super) fn messages(&self) -> usize {
        let sends = |command: &&Command| matches!(command, Command::Line(_) | Command::Send(_));
        self.commands.iter().filter(sends).count()
    }
}

/// Returns the memory that a command takes, about.
fn cost(command: &Command) -> usize {
    let text = match command {
        Command::Line(line) => line.len(),
        Command::Send(bytes) => bytes.len(),
        Command::File(path) | Command::Save(path) => path.as_os_str().len(),
        _ => 0,
    };
    size_of::<Command>() + text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_leave_in_order_and_are_full_at_a_mebibyte() {
        let mut deferred = Deferred::default();
        deferred.push(Command::Line("x".repeat(BYTES_MAX / 2)));
        deferred.push(Command::Stat);
        assert!(!deferred.is_full());
        deferred.push(Command::Send(vec![0; BYTES_MAX / 2]));
        assert!(deferred.is_full());
        assert_eq!(deferred.messages(), 2);
        assert!(matches!(deferred.pop(), Some(Command::Line(_))));
        assert!(!deferred.is_full());
        assert_eq!(deferred.pop(), Some(Command::Stat));
        assert!(matches!(deferred.first(), Some(Command::Send(_))));
        deferred.pop();
        assert!(deferred.is_empty());
        assert_eq!(deferred.bytes, 0);
    }
}
