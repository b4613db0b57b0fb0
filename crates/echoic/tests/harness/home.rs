//! A place of one's own: a directory to work in, and an environment that knows nothing of ours.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use super::process::{Lines, Ran, run};

/// A directory with a record in it, as somebody has who uses the program.
#[derive(Debug)]
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Where the record is, unless told otherwise.
    pub(crate) fn store(&self) -> PathBuf {
        self.path().join("echoic.db")
    }

    /// The program, run here.
    pub(crate) fn echoic(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_echoic"));
        self.settle(&mut command);
        command.args(args);
        command
    }

    /// Another program, run here in the same environment.
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
            .stdin(Stdio::null());
    }

    /// Runs the program here to its end.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        run(&mut self.echoic(args), b"")
    }

    /// What `log --json` prints for these arguments, one value an exchange.
    #[track_caller]
    pub(crate) fn log(&self, filter: &[&str]) -> Vec<Value> {
        let text = self.run(&[&["log"], filter, &["--json"]].concat()).good();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// What `log --count` prints for these arguments.
    #[track_caller]
    pub(crate) fn count(&self, filter: &[&str]) -> u64 {
        let text = self.run(&[&["log", "--count"], filter].concat()).good();
        text.strip_suffix('\n').unwrap().parse().unwrap()
    }

    /// The program started here, with its output as it comes.
    pub(crate) fn start(&self, args: &[&str]) -> (std::process::Child, Lines) {
        let mut child = self.echoic(args).stdout(Stdio::piped()).spawn().unwrap();
        let lines = Lines::of(child.stdout.take().unwrap());
        (child, lines)
    }

    /// A sentence of SQL put to the record by a reader that is not ours, as it lies there now and whether or not it is
    /// being written; one line a row, `|` between columns. Not a copy: one made while the log of writes is being
    /// copied into the record is torn.
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
