//! Datagrams without a reply, at the prompt: they may be lost, or nothing may listen, and UDP gives no error.

use std::time::Duration;

use echoic_client::Counts;
use tokio::time::Instant;

/// The datagrams whose replies are awaited.
#[derive(Debug, Default)]
pub(super) struct Unanswered {
    /// When the last datagram was sent; `None` once each has a reply or its absence was reported.
    since: Option<Instant>,
    /// Datagrams whose replies were reported as missing.
    reported: u64,
}

/// Time without a reply after which it is reported as missing.
const REPLY_WITHIN: Duration = Duration::from_secs(1);

impl Unanswered {
    pub(super) fn note_sent(&mut self, at: Instant) {
        self.since = Some(at);
    }

    pub(super) fn note_received(&mut self, counts: &Counts) {
        // A late reply may be one that was reported.
        self.reported = self.reported.min(missing(counts));
        if missing(counts) == self.reported {
            self.since = None;
        }
    }

    /// Returns when missing replies are to be reported.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.since.map(|since| since + REPLY_WITHIN)
    }

    /// Returns a report of the replies that are missing now, once each.
    pub(super) fn report(&mut self, counts: &Counts, now: Instant) -> Option<String> {
        self.deadline().filter(|deadline| *deadline <= now)?;
        self.since = None;
        let unreported = missing(counts).saturating_sub(self.reported);
        self.reported += unreported;
        Some(match unreported {
            1 => "◂ (no reply in 1 s)".to_owned(),
            n => format!("◂ (no reply to {n} datagrams in 1 s)"),
        })
    }
}

fn missing(counts: &Counts) -> u64 {
    counts.sent.chunks.saturating_sub(counts.received.chunks)
}

#[cfg(test)]
mod tests {
    use echoic_client::Flow;

    use super::*;

    fn counts(sent: u64, received: u64) -> Counts {
        let flow = |chunks| Flow {
            chunks,
            ..Flow::default()
        };
        Counts {
            sent: flow(sent),
            received: flow(received),
            unanswered: 0,
        }
    }

    #[test]
    fn each_missing_reply_is_reported_once_and_a_late_one_is_no_other() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut unanswered = Unanswered::default();
        unanswered.note_sent(start);
        unanswered.note_received(&counts(3, 1));
        assert_eq!(unanswered.report(&counts(3, 1), start), None);
        let report = unanswered.report(&counts(3, 1), start + second);
        assert!(report.unwrap().contains("2 datagrams"));
        assert_eq!(unanswered.deadline(), None);
        // One comes after all.
        unanswered.note_received(&counts(3, 2));
        unanswered.note_sent(start + second);
        let report = unanswered.report(&counts(4, 2), start + second * 2);
        assert_eq!(report.as_deref(), Some("◂ (no reply in 1 s)"));
        unanswered.note_sent(start + second * 2);
        unanswered.note_received(&counts(5, 3));
        assert_eq!(unanswered.deadline(), None);
    }
}
