//! Checks what a crash at any moment leaves of echoic's record.
//!
//! The real program runs under strace while peers talk to it. The trace gives, for every moment, the possible contents
//! of the disk after a crash, and the replies that peers had received by then. Each such state is opened, by SQLite and
//! by echoic, and must be sound and contain what was promised. The crashes are kill -9, power loss that loses all
//! unsynced writes, and power loss that leaves a random half of them, torn into sectors.
//!
//! The controls, `synchronous=OFF` and a disk that ignores syncs, must be detected: otherwise the trial would prove
//! nothing.

pub mod control;
pub mod disk;
pub mod history;
pub mod program;
pub mod round;
pub mod sweep;
pub mod trace;
pub mod verdict;
pub mod visit;

/// A request line of the peers: the number of the message, and padding to fill pages.
pub fn message(peer: &str, number: u64, filling: usize) -> String {
    format!("{peer}-{number} {}\n", "abcdefgh ".repeat(filling / 9))
}

/// Returns the numbers of the replies in sent bytes: `K3-17`.
pub fn tokens(sent: &[u8]) -> impl Iterator<Item = &str> {
    let lines = sent.split(|byte| *byte == b'\n');
    lines.filter_map(|line| {
        let word = line.split(|byte| *byte == b' ').next()?;
        let word = str::from_utf8(word).ok()?;
        let (peer, number) = word.split_once('-')?;
        let is_ours = peer.starts_with('K') && number.parse::<u64>().is_ok();
        is_ours.then_some(word)
    })
}
