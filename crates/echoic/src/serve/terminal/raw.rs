//! The mode of the terminal while keys are read: each key at once and without echo. Signals of the keyboard (Ctrl-C, Ctrl-Z) and
//! the layout of output stay as they are.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::{
    io::Errno,
    process::getpgrp,
    termios::{
        LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcsetattr,
    },
};

/// The terminal at standard input.
pub(super) struct Terminal {
    original: Termios,
    keys: Termios,
    is_entered: AtomicBool,
}

impl Terminal {
    /// Notes the mode of the terminal, and changes nothing.
    pub(super) fn open() -> io::Result<Self> {
        let original = tcgetattr(io::stdin())?;
        let mut keys = original.clone();
        keys.local_modes
            .remove(LocalModes::ICANON | LocalModes::ECHO);
        // A read returns what is there, and never waits.
        keys.special_codes[SpecialCodeIndex::VMIN] = 0;
        keys.special_codes[SpecialCodeIndex::VTIME] = 0;
        Ok(Self {
            original,
            keys,
            is_entered: AtomicBool::new(false),
        })
    }

    /// Whether this process may use the terminal: in the background a shell owns it, and the kernel would stop the process.
    pub(super) fn is_foreground() -> bool {
        match tcgetpgrp(io::stdin()) {
            Ok(foreground) => foreground == getpgrp(),
            // It controls no session, so no shell does either.
            Err(error) => error == Errno::NOTTY,
        }
    }

    /// Whether keys come one by one.
    pub(super) fn is_entered(&self) -> bool {
        self.is_entered.load(Ordering::SeqCst)
    }

    /// Changes the mode, unless in the background. Returns whether keys come one by one.
    pub(super) fn enter(&self) -> bool {
        if !Self::is_foreground() {
            return false;
        }
        let is_entered = tcsetattr(io::stdin(), OptionalActions::Now, &self.keys).is_ok();
        self.is_entered.store(is_entered, Ordering::SeqCst);
        is_entered
    }

    /// Restores the mode.
    pub(super) fn leave(&self) {
        if self.is_entered.swap(false, Ordering::SeqCst) && Self::is_foreground() {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.original);
        }
    }
}
