//! `time` and `daytime`: what the clock says, to each caller (RFC 868, RFC 867).

use std::ops::ControlFlow;
use std::time::{SystemTime, UNIX_EPOCH};

use echoic_core::{
    message::{Replies, Run},
    service::{Handler, InlineHandler, Peer, Service},
};
use jiff::{Timestamp, tz::TimeZone};

/// Seconds between 1900, where RFC 868 counts from, and 1970.
const SINCE_1900: u64 = 2_208_988_800;

/// Tells the time and closes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Clock {
    /// As 32 bits, most significant first: seconds since 1900. They run over in 2036, as the RFC has it.
    Time,
    /// As a line of text. RFC 867 leaves the form open; this is RFC 3339 in local time.
    Daytime,
}

impl Clock {
    fn say(self, out: &mut Vec<u8>) {
        match self {
            Self::Time => {
                let since = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default();
                let seconds = since.as_secs() + SINCE_1900;
                out.extend_from_slice(&(seconds as u32).to_be_bytes());
            }
            Self::Daytime => {
                let now = Timestamp::now().to_zoned(TimeZone::system());
                out.extend_from_slice(
                    now.strftime("%Y-%m-%dT%H:%M:%S%:z\r\n")
                        .to_string()
                        .as_bytes(),
                );
            }
        }
    }
}

impl Service for Clock {
    fn name(&self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Daytime => "daytime",
        }
    }

    fn handler(&self, _: &Peer) -> Handler {
        Handler::Inline(Box::new(*self))
    }

    fn amplifies(&self) -> bool {
        true
    }
}

impl InlineHandler for Clock {
    fn open(&mut self, out: &mut Replies) -> ControlFlow<()> {
        out.push_with(|bytes| self.say(bytes));
        ControlFlow::Break(())
    }

    /// Reached only where nothing opens a conversation but a message: over datagrams.
    fn answer(&mut self, run: &Run<'_>, out: &mut Replies) -> ControlFlow<()> {
        for message in run.messages() {
            out.reply(&message, |bytes| self.say(bytes));
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_seconds_since_1900() {
        let mut out = Vec::new();
        Clock::Time.say(&mut out);
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs()
            + SINCE_1900;
        let said = u32::from_be_bytes(out.try_into().unwrap());
        assert!((now as u32).wrapping_sub(said) < 2);
    }

    #[test]
    fn daytime_is_one_line_with_a_timestamp() {
        let mut out = Vec::new();
        Clock::Daytime.say(&mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.strip_suffix("\r\n")
                .unwrap()
                .parse::<Timestamp>()
                .is_ok(),
            "{text}"
        );
    }
}
