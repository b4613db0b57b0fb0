//! Parses the output of strace into steps on the disk, and replies to peers.

use std::{collections::HashMap, path::Path, sync::Arc};

use anyhow::{Context, Result, bail, ensure};

/// The system calls that a trace must have.
pub const CALLS: &str = "openat,write,pwrite64,ftruncate,fsync,fdatasync,unlink,rename,sendto";

/// The longest string that is traced in full: SQLite writes pages of 16 KiB, a WAL that is overwritten is written in
/// pieces of 1 MiB, and replies are sent by the run.
pub const STRING_BYTES_MAX: usize = 1 << 20;

/// A step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Time, by the wall clock, in microseconds.
    pub at: u64,
    /// The change.
    pub what: What,
}

/// A change. File names are relative to the traced folder; the folder itself is the empty name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A file exists now, if it did not before.
    Create(String),
    /// A name was removed.
    Unlink(String),
    /// Bytes were written to a file.
    Write {
        /// The file.
        name: String,
        /// The offset.
        at: u64,
        /// The bytes.
        bytes: Arc<[u8]>,
    },
    /// A file has this length now.
    Truncate {
        /// The file.
        name: String,
        /// Its length in bytes.
        length: u64,
    },
    /// What had been done to a file (or, with the empty name, to names) before step `covers` is on the disk.
    Sync {
        /// The file, or the folder.
        name: String,
        /// Steps before this one are covered.
        covers: usize,
    },
    /// Such a sync failed: the system drops what it could not write, and does not retry or report it again.
    Unsynced {
        /// The file, or the folder.
        name: String,
        /// Steps before this one are concerned.
        covers: usize,
    },
    /// These lines were sent to peers.
    Sent(Vec<String>),
    /// No effect.
    Nothing,
}

/// Parses a trace; `from` is the number of steps before it.
pub fn read(text: &str, folder: &Path, from: usize) -> Result<Vec<Step>> {
    let mut reader = Reader {
        folder: folder.to_str().context("a folder named in UTF-8")?,
        from,
        steps: Vec::new(),
        begun: HashMap::new(),
        unfinished_lines: HashMap::new(),
    };
    for line in text.lines() {
        reader
            .line(line)
            .with_context(|| format!("in the trace: {}", &line[..line.len().min(200)]))?;
    }
    Ok(reader.steps)
}

struct Reader<'a> {
    folder: &'a str,
    from: usize,
    steps: Vec<Step>,
    /// Unfinished calls by thread: their text so far, and the step reserved for them.
    begun: HashMap<&'a str, (String, usize)>,
    /// Sent bytes that are not a whole line yet, by descriptor.
    unfinished_lines: HashMap<String, Vec<u8>>,
}

impl<'a> Reader<'a> {
    fn line(&mut self, line: &'a str) -> Result<()> {
        let (thread, rest) = line.split_once(' ').context("no thread")?;
        let (time, call) = rest.trim_start().split_once(' ').context("no time")?;
        let at = micros(time)?;
        if call.starts_with("---") || call.starts_with("+++") {
            return Ok(());
        }
        if let Some(begins) = call.strip_suffix(" <unfinished ...>") {
            // The peer may read the sent bytes from here on.
            let step = self.steps.len();
            self.push(at, What::Nothing);
            self.begun.insert(thread, (begins.to_owned(), step));
        } else if let Some((resumed, ends)) = call.split_once(" resumed>") {
            let (begins, step) = self
                .begun
                .remove(thread)
                .context("ends without beginning")?;
            // When a thread is killed, strace may report the end of a different call than the one that began. The
            // result of the first is then as unknown as if no end was reported.
            let name = resumed.trim_start_matches("<... ");
            if name_of(&begins) != name {
                self.push(at, What::Nothing);
                return Ok(());
            }
            let is_sent = begins.starts_with("sendto(") || begins.starts_with("write(");
            let what = self.call(&(begins + ends), self.from + step)?;
            if is_sent && matches!(what, What::Sent(_)) {
                self.steps[step].what = what;
            } else {
                self.push(at, what);
            }
        } else {
            let covers = self.from + self.steps.len();
            let what = self.call(call, covers)?;
            self.push(at, what);
        }
        Ok(())
    }

    fn push(&mut self, at: u64, what: What) {
        self.steps.push(Step { at, what });
    }

    /// A complete call with its result.
    fn call(&mut self, call: &str, covers: usize) -> Result<What> {
        let (name, rest) = call.split_once('(').context("no call")?;
        let (args, result) = rest.rsplit_once(" = ").context("no result")?;
        let args = args.trim_end().strip_suffix(')').context("no end")?;
        let result = result.split([' ', '<']).next().unwrap_or_default();
        // The effect of a call cut off by the exit of the process is unknown.
        let Ok(result) = result.parse::<i64>() else {
            return Ok(What::Nothing);
        };
        let first = args.split(", ").next().unwrap_or_default();
        if result < 0 {
            return Ok(match self.file(first)? {
                Some(name) if name_is_sync(name_of(call)) => What::Unsynced { name, covers },
                _ => What::Nothing,
            });
        }
        Ok(match name {
            "openat" => match self.inside(quoted(args)?.as_slice()) {
                Some(name) if args.contains("O_CREAT") => What::Create(name),
                _ => What::Nothing,
            },
            "unlink" => match self.inside(&quoted(args)?) {
                Some(name) => What::Unlink(name),
                None => What::Nothing,
            },
            "rename" => bail!("a rename, which nothing here does"),
            "pwrite64" => match self.file(first)? {
                Some(name) => {
                    let at = args.rsplit(", ").next().context("no offset")?.parse()?;
                    let bytes = sent(args, result)?.into();
                    What::Write { name, at, bytes }
                }
                None => What::Nothing,
            },
            "ftruncate" => match self.file(first)? {
                Some(name) => {
                    let length = args.rsplit(", ").next().context("no length")?.parse()?;
                    What::Truncate { name, length }
                }
                None => What::Nothing,
            },
            "fsync" | "fdatasync" => match self.file(first)? {
                Some(name) => What::Sync { name, covers },
                None => What::Nothing,
            },
            "sendto" => self.sent_lines(first, &sent(args, result)?),
            "write" if first.starts_with("1<") => self.sent_lines(first, &sent(args, result)?),
            _ => What::Nothing,
        })
    }

    /// Returns the name within the folder, if it is there; of a descriptor such as `5<\x2f...>`.
    fn file(&self, descriptor: &str) -> Result<Option<String>> {
        let Some((_, path)) = descriptor.split_once('<') else {
            return Ok(None);
        };
        let (path, after) = path.split_once('>').context("no end of a descriptor")?;
        // A file without a name cannot be found again.
        if after.starts_with("(deleted)") {
            return Ok(None);
        }
        Ok(self.inside(&unescaped(path)?))
    }

    fn inside(&self, path: &[u8]) -> Option<String> {
        let path = str::from_utf8(path).ok()?;
        if path == self.folder {
            return Some(String::new());
        }
        let name = path.strip_prefix(self.folder)?.strip_prefix('/')?;
        // The WAL index is memory, rebuilt at the next start; the lock file is empty.
        let ours = !name.ends_with("-shm") && !name.ends_with("-lock") && !name.contains('/');
        ours.then(|| name.to_owned())
    }

    fn sent_lines(&mut self, descriptor: &str, bytes: &[u8]) -> What {
        let stream = self
            .unfinished_lines
            .entry(descriptor.to_owned())
            .or_default();
        stream.extend_from_slice(bytes);
        let Some(end) = stream.iter().rposition(|byte| *byte == b'\n') else {
            return What::Nothing;
        };
        let rest = stream.split_off(end + 1);
        let lines = std::mem::replace(stream, rest);
        let lines = crate::tokens(&lines).map(str::to_owned).collect::<Vec<_>>();
        if lines.is_empty() {
            What::Nothing
        } else {
            What::Sent(lines)
        }
    }
}

fn name_of(call: &str) -> &str {
    call.split('(').next().unwrap_or_default()
}

fn name_is_sync(name: &str) -> bool {
    name == "fsync" || name == "fdatasync"
}

/// Returns the bytes of a call that transferred `taken` of them.
fn sent(args: &str, taken: i64) -> Result<Vec<u8>> {
    let mut bytes = quoted(args)?;
    let taken = usize::try_from(taken)?;
    ensure!(
        taken <= bytes.len(),
        "a string of the trace is shortened: {} of {taken} bytes",
        bytes.len()
    );
    bytes.truncate(taken);
    Ok(bytes)
}

/// Returns the first string in the arguments of a call.
fn quoted(args: &str) -> Result<Vec<u8>> {
    let mut parts = args.splitn(3, '"');
    let text = parts.nth(1).context("no string")?;
    unescaped(text)
}

fn unescaped(text: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4);
    let mut rest = text.as_bytes();
    while let [b'\\', b'x', high, low, after @ ..] = rest {
        bytes.push(digit(*high)? << 4 | digit(*low)?);
        rest = after;
    }
    // A descriptor that is not a file has a plain label: `socket:[123]`.
    bytes.extend_from_slice(rest);
    Ok(bytes)
}

fn digit(hex: u8) -> Result<u8> {
    match hex {
        b'0'..=b'9' => Ok(hex - b'0'),
        b'a'..=b'f' => Ok(hex - b'a' + 10),
        _ => bail!("no hex digit: {hex:?}"),
    }
}

/// Returns `1795666764.643113` in microseconds.
fn micros(time: &str) -> Result<u64> {
    let (seconds, micros) = time.split_once('.').context("no time")?;
    Ok(seconds.parse::<u64>()? * 1_000_000 + micros.parse::<u64>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> String {
        use std::fmt::Write;
        text.bytes().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "\\x{byte:02x}");
            hex
        })
    }

    #[test]
    fn sync_covers_only_writes_before_it_and_reply_counts_at_send() {
        let (db, socket) = (hex("/f/echoic.db"), hex("socket:[1]"));
        let reply = hex("K1-0 HI\nK1-1 ");
        let text = format!(
            "7 1.000001 openat(AT_FDCWD<{}>, \"{db}\", O_RDWR|O_CREAT|O_CLOEXEC, 0600) = 4<{db}> <0.000010>\n\
             7 1.000002 pwrite64(4<{db}>, \"{}\", 2, 8192) = 2 <0.000010>\n\
             7 1.000003 fsync(4<{db}> <unfinished ...>\n\
             8 1.000004 sendto(9<{socket}>, \"{reply}\", 13, MSG_NOSIGNAL, NULL, 0 <unfinished ...>\n\
             7 1.000005 <... fsync resumed>) = 0 <0.000010>\n\
             8 1.000006 <... sendto resumed>) = 13 <0.000010>\n\
             8 1.000007 sendto(9<{socket}>, \"{}\", 4, MSG_NOSIGNAL, NULL, 0) = 3 <0.000010>\n\
             7 1.000008 unlink(\"{}\") = -1 ENOENT (No such file or directory) <0.000010>\n\
             7 1.000009 fsync(4<{db}>) = ?\n\
             7 1.000010 --- SIGTERM {{si_signo=SIGTERM}} ---\n\
             7 1.000011 +++ killed by SIGKILL +++\n",
            hex("/"),
            hex("ab"),
            hex("HO\nx"),
            hex("/f/echoic.db-wal"),
        );
        let steps = read(&text, Path::new("/f"), 100).unwrap();
        let happened: Vec<_> = steps
            .into_iter()
            .filter(|step| step.what != What::Nothing)
            .map(|step| (step.at - 1_000_000, step.what))
            .collect();
        let name = || "echoic.db".to_owned();
        let expected = [
            (1, What::Create(name())),
            (
                2,
                What::Write {
                    name: name(),
                    at: 8192,
                    bytes: b"ab".as_slice().into(),
                },
            ),
            (4, What::Sent(vec!["K1-0".into()])),
            (
                5,
                What::Sync {
                    name: name(),
                    covers: 102,
                },
            ),
            (7, What::Sent(vec!["K1-1".into()])),
        ];
        assert_eq!(happened, expected);
    }
}
