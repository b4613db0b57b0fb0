//! A working directory of its own, and an environment without our variables.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use super::process::{Lines, Ran, run};

/// A directory with a database in it, as a user of the program has.
#[derive(Debug)]
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// The path of the database, unless an option overrides it.
    pub(crate) fn store(&self) -> PathBuf {
        self.path().join("echoic.db")
    }

    /// Returns the command `echoic ARGS`, run in this directory.
    pub(crate) fn echoic(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_echoic"));
        self.settle(&mut command);
        command.args(args);
        command
    }

    /// Sets the directory and environment of another program in the same way.
    pub(crate) fn settle(&self, command: &mut Command) {
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if ["ECHOIC_", "XDG_", "CLICOLOR", "NO_COLOR"]
                .iter()
                .any(|begin| text.starts_with(begin))
            {
                command.env_remove(&name);
            }
        }
        command
            .current_dir(self.path())
            .env("HOME", self.path())
            .env("TERM", "xterm")
            // The tests of the console say where it is.
            .env("ECHOIC_CONSOLE", "off")
            .stdin(Stdio::null());
    }

    /// Runs the program here to its end.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        run(&mut self.echoic(args), b"")
    }

    /// Returns what `log --json` prints for these arguments, one value an exchange.
    #[track_caller]
    pub(crate) fn log(&self, filter: &[&str]) -> Vec<Value> {
        let text = self.run(&[&["log"], filter, &["--json"]].concat()).good();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Returns what `log --count` prints for these arguments.
    #[track_caller]
    pub(crate) fn count(&self, filter: &[&str]) -> u64 {
        let text = self.run(&[&["log", "--count"], filter].concat()).good();
        text.strip_suffix('\n').unwrap().parse().unwrap()
    }

    /// Starts the program here; its output is available as it comes.
    pub(crate) fn start(&self, args: &[&str]) -> (std::process::Child, Lines) {
        let mut child = self.echoic(args).stdout(Stdio::piped()).spawn().unwrap();
        let lines = Lines::of(child.stdout.take().unwrap());
        (child, lines)
    }

    /// Runs a SQL query on the database with a foreign reader (Python), even while it is being written; returns one
    /// line a row, with `|` between columns. It does not copy the file: a copy made during a checkpoint is torn.
    #[track_caller]
    pub(crate) fn sql(&self, sentence: &str) -> Vec<String> {
        const READER: &str = "
import pathlib, sqlite3, sys
record = sqlite3.connect(pathlib.Path(sys.argv[1]).as_uri() + '?mode=ro', uri=True)
for row in record.execute(sys.argv[2]):
    print('|'.join(str(column) for column in row))
";
        let store = self.store();
        super::python(READER, &[&store.display(), &sentence], "")
            .good()
            .lines()
            .map(str::to_owned)
            .collect()
    }
}
