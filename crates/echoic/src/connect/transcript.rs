//! The transcript of a conversation at the prompt, for `:save`.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::Duration,
};

use echoic_core::escape;

/// The latest messages in both directions.
#[derive(Debug, Default)]
pub(super) struct Transcript {
    lines: VecDeque<String>,
    bytes: usize,
    dropped: u64,
}

/// Most text that is held, in bytes; beyond it the oldest lines are dropped and counted.
const BYTES_MAX: usize = 4 << 20;

impl Transcript {
    /// Adds `bytes`, which were sent or received (`mark`) at this time after the start. They are escaped, so each entry is
    /// one line and reversible.
    pub(super) fn add(&mut self, at: Duration, mark: &str, bytes: &[u8]) {
        let line = format!(
            "{:>10.6} {mark} {}\n",
            at.as_secs_f64(),
            escape::text(bytes)
        );
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.bytes > BYTES_MAX {
            let Some(oldest) = self.lines.pop_front() else {
                break;
            };
            self.bytes -= oldest.len();
            self.dropped += 1;
        }
    }

    /// Writes the transcript into a new file of mode 0600, and returns the number of lines. Fails if the file exists.
    pub(super) fn save(&self, path: &Path) -> io::Result<usize> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        let mut text = String::with_capacity(self.bytes);
        if self.dropped > 0 {
            let _ = writeln!(text, "# {} earlier lines were dropped", self.dropped);
        }
        text.extend(self.lines.iter().map(String::as_str));
        file.write_all(text.as_bytes())?;
        Ok(self.lines.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transcript_keeps_the_latest_part_and_never_overwrites() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("talk");
        let mut transcript = Transcript::default();
        transcript.add(Duration::from_millis(1500), "▸", b"hi\n\x1b[2J");
        assert_eq!(transcript.save(&path).unwrap(), 1);
        let saved = std::fs::read_to_string(&path).unwrap();
        assert_eq!(saved, "  1.500000 ▸ hi\\n\\x1b[2J\n");
        let error = transcript.save(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);

        for _ in 0..100 {
            transcript.add(Duration::ZERO, "◂", &vec![b'x'; 100_000]);
        }
        assert!(transcript.bytes <= BYTES_MAX);
        assert!(transcript.dropped > 50);
    }
}
