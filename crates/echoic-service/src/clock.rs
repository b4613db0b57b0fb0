//! `time` and `daytime`: send the current time to each peer and close (RFC 868, RFC 867).

use std::ops::ControlFlow;
use std::time::{SystemTime, UNIX_EPOCH};

use echoic_core::{
    message::{Replies, Run},
    service::{Handler, InlineHandler, Peer, Service},
};
use jiff::{Timestamp, tz::TimeZone};

/// Seconds from 1900, the epoch of RFC 868, to 1970.
const SECONDS_1900_TO_1970: u64 = 2_208_988_800;

/// The services, and their handler.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Clock {
    /// Seconds since 1900 in 32 bits, big-endian. The number wraps in 2036, as in the RFC.
    Time,
    /// A line of text. RFC 867 leaves the format open; this is RFC 3339 in local time.
    Daytime,
}

impl Clock {
    fn write(self, out: &mut Vec<u8>) {
        match self {
            Self::Time => {
                let since_1970 = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default();
                let seconds = since_1970.as_secs() + SECONDS_1900_TO_1970;
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

    fn is_portable(&self) -> bool {
        true
    }
}

impl InlineHandler for Clock {
    fn open(&mut self, out: &mut Replies) -> ControlFlow<()> {
        out.push_with(|bytes| self.write(bytes));
        ControlFlow::Break(())
    }

    /// Only called for datagrams, which open a conversation by a message.
    fn answer(&mut self, run: &Run<'_>, out: &mut Replies) -> ControlFlow<()> {
        for message in run.messages() {
            out.reply(&message, |bytes| self.write(bytes));
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
        Clock::Time.write(&mut out);
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs()
            + SECONDS_1900_TO_1970;
        let sent = u32::from_be_bytes(out.try_into().unwrap());
        assert!((now as u32).wrapping_sub(sent) < 2);
    }

    #[test]
    fn daytime_is_one_line_with_a_timestamp() {
        let mut out = Vec::new();
        Clock::Daytime.write(&mut out);
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
