//! Notices that the peer speaks TLS: it answered bytes that are no TLS with an alert.

/// The first bytes of a conversation in each direction.
#[derive(Debug, Default)]
pub(crate) struct FirstBytes {
    sent: Option<u8>,
    received: Vec<u8>,
}

/// Content types of a record (RFC 8446, section 5.1).
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;

/// Length of a record with an alert that is not encrypted: type, version, length 2, level, description.
const ALERT_BYTES: usize = 7;

impl FirstBytes {
    pub(crate) fn note_sent(&mut self, bytes: &[u8]) {
        self.sent = self.sent.or_else(|| bytes.first().copied());
    }

    pub(crate) fn note_received(&mut self, bytes: &[u8]) {
        let room = ALERT_BYTES - self.received.len();
        self.received
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Whether the peer began with a TLS alert although we did not begin a handshake.
    pub(crate) fn is_tls_alert(&self) -> bool {
        self.sent != Some(HANDSHAKE) && matches!(*self.received, [ALERT, 3, 0..=4, 0, 2, 1 | 2, _])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_alert(sent: &[u8], received: &[&[u8]]) -> bool {
        let mut first = FirstBytes::default();
        first.note_sent(sent);
        for bytes in received {
            first.note_received(bytes);
        }
        first.is_tls_alert()
    }

    #[test]
    fn alert_to_plain_text_shows_that_the_peer_speaks_tls() {
        // decode_error, as OpenSSL answers a line of text.
        assert!(is_alert(b"hello\n", &[b"\x15\x03\x01\0\x02\x02\x32"]));
        assert!(is_alert(
            b"x",
            &[b"\x15\x03", b"\x03\0\x02\x02\x0a and more"]
        ));
        assert!(!is_alert(b"\x16\x03\x01", &[b"\x15\x03\x01\0\x02\x02\x32"]));
        assert!(!is_alert(b"hello\n", &[b"\x15\x03\x01\0\x02\x02"]));
        assert!(!is_alert(b"hello\n", &[b"HELLO\n"]));
    }
}
