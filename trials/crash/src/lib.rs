//! What a crash at any moment leaves of echoic's record.
//!
//! The real program runs under strace while peers talk to it. From the trace follows, for every moment, what a disk may
//! hold after a crash then, and what peers had been told by then. Each such state is opened, by SQLite and by echoic,
//! and has to be sound and to hold what was promised. So it is for kill -9, for power loss with all unsynced writes
//! gone, and for power loss with a random half of them there, torn into sectors.
//!
//! The same with `synchronous=OFF`, and with a disk that lies about syncing, must be caught: else all this proves
//! nothing.

pub mod control;
pub mod disk;
pub mod program;
pub mod round;
pub mod sweep;
pub mod tale;
pub mod trace;
pub mod verdict;
pub mod visit;

/// What peers say to be answered in upper case: the number of a message, and something to fill pages.
pub fn message(peer: &str, number: u64, filling: usize) -> String {
    format!("{peer}-{number} {}\n", "abcdefgh ".repeat(filling / 9))
}

/// The numbers of the replies in what was said: `K3-17`.
pub fn tokens(said: &[u8]) -> impl Iterator<Item = &str> {
    let lines = said.split(|byte| *byte == b'\n');
    lines.filter_map(|line| {
        let word = line.split(|byte| *byte == b' ').next()?;
        let word = str::from_utf8(word).ok()?;
        let (peer, number) = word.split_once('-')?;
        let is_ours = peer.starts_with('K') && number.parse::<u64>().is_ok();
        is_ours.then_some(word)
    })
}
