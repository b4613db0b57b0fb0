//! A pseudo-terminal with the program on it.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    process::Child,
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Instant,
};

use rustix::{
    fs::{Mode, OFlags, open},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Termios, tcgetattr},
};

use crate::{SOON, echoic, ended};

/// `echoic connect` on a terminal.
pub(crate) struct Pty {
    process: Child,
    master: File,
    terminal: OwnedFd,
    before: Termios,
    screen: Arc<Screen>,
    /// Length of the output that has been waited for.
    seen: usize,
    /// The state directory (`XDG_STATE_HOME`).
    pub(crate) state: tempfile::TempDir,
}

#[derive(Default)]
struct Screen {
    bytes: Mutex<Vec<u8>>,
    more: Condvar,
}

impl Pty {
    /// Starts the program, and waits for the prompt.
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut pty = Self::start_with(args, &[]);
        pty.wait_for("▸ ");
        pty
    }

    pub(crate) fn start_with(args: &[&str], environment: &[(&str, &str)]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let terminal = open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        let before = tcgetattr(&terminal).unwrap();
        let state = tempfile::tempdir().unwrap();
        let end = || terminal.try_clone().unwrap();
        let process = echoic()
            .args(args)
            .env("TERM", "xterm")
            .env("XDG_STATE_HOME", state.path())
            .envs(environment.iter().copied())
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let master = File::from(master);
        let shown = Arc::new(Screen::default());
        let (mut reader, output) = (master.try_clone().unwrap(), Arc::clone(&shown));
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut buffer) {
                output.bytes.lock().unwrap().extend_from_slice(&buffer[..n]);
                output.more.notify_all();
            }
        });
        Self {
            process,
            master,
            terminal,
            before,
            screen: shown,
            seen: 0,
            state,
        }
    }

    /// Types these keys.
    pub(crate) fn press(&mut self, keys: &str) {
        self.press_bytes(keys.as_bytes());
    }

    /// Types these bytes, which need not be UTF-8.
    pub(crate) fn press_bytes(&mut self, bytes: &[u8]) {
        self.master.write_all(bytes).unwrap();
    }

    /// Waits for `text` in the output after what was waited for before.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + SOON;
        let mut bytes = self.screen.bytes.lock().unwrap();
        loop {
            let found = bytes[self.seen..]
                .windows(text.len())
                .position(|window| window == text.as_bytes());
            if let Some(at) = found {
                self.seen += at + text.len();
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "{text:?} was not shown; what was is:\n{}",
                String::from_utf8_lossy(&bytes)
            );
            bytes = self.screen.more.wait_timeout(bytes, left).unwrap().0;
        }
    }

    /// Waits for `text`, and for the prompt below it: keys typed earlier would find no line to edit.
    #[track_caller]
    pub(crate) fn wait_for_prompt_after(&mut self, text: &str) {
        self.wait_for(text);
        self.wait_for("▸ ");
    }

    /// Returns the whole output so far.
    pub(crate) fn output(&self) -> Vec<u8> {
        self.screen.bytes.lock().unwrap().clone()
    }

    /// Whether the terminal echoes and edits by itself, as a shell leaves it.
    fn is_cooked(&self) -> bool {
        let now = tcgetattr(&self.terminal).unwrap();
        now.local_modes == self.before.local_modes
            && now.input_modes == self.before.input_modes
            && now
                .local_modes
                .contains(LocalModes::ICANON | LocalModes::ECHO)
    }

    /// Sends the program a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for the exit; asserts that the terminal is restored, and returns the code.
    #[track_caller]
    pub(crate) fn code(&mut self) -> Option<i32> {
        let code = ended(&mut self.process).code();
        assert!(self.is_cooked(), "the terminal was not given back");
        code
    }

    /// Waits for the exit; asserts that the terminal is restored, and returns the signal that ended the program.
    #[track_caller]
    pub(crate) fn ended_by_signal(&mut self) -> Option<i32> {
        let status = ended(&mut self.process);
        assert!(self.is_cooked(), "the terminal was not given back");
        std::os::unix::process::ExitStatusExt::signal(&status)
    }

    /// Whether the program has the terminal in raw mode now.
    pub(crate) fn is_raw(&self) -> bool {
        !self.is_cooked()
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
