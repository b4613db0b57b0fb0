//! Divides bytes into the messages of a framing.

use echoic_core::framing::{Framing, Splitter};
use thiserror::Error;

/// Bytes remain that are not a complete message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not divided by {framing} to its end: {left} bytes are left over")]
pub struct Undivided {
    /// The framing.
    pub framing: Framing,
    /// Number of remaining bytes.
    pub left: usize,
}

/// Returns the bodies of the messages in `bytes`. The last one may lack its terminator.
///
/// ```
/// # use echoic_client::bench::divide;
/// let messages = divide(b"a\nb", "line".parse()?)?;
/// assert_eq!(messages, [b"a", b"b"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn divide(bytes: &[u8], framing: Framing) -> Result<Vec<Vec<u8>>, Undivided> {
    let mut spans = Vec::new();
    let mut splitter = Splitter::new(framing, usize::MAX);
    let split = splitter.split(bytes, &mut spans);
    let mut messages: Vec<_> = spans
        .iter()
        .map(|span| bytes[span.body_start as usize..span.body_end as usize].to_vec())
        .collect();
    let rest = &bytes[split.consumed..];
    let is_complete = split.violation.is_none()
        && (framing.terminator().is_some() && !framing.has_length() || rest.is_empty());
    if !is_complete {
        return Err(Undivided {
            framing,
            left: rest.len(),
        });
    }
    if !rest.is_empty() {
        messages.push(rest.to_vec());
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_divided_and_nothing_of_them_lost() {
        assert_eq!(
            divide(b"a\nb", Framing::Line),
            Ok(vec![b"a".to_vec(), b"b".to_vec()])
        );
        let framing = "u8".parse().unwrap();
        assert_eq!(
            divide(b"\x01a\x01b", framing),
            Ok(vec![b"a".to_vec(), b"b".to_vec()])
        );
        let undivided = divide(b"\x01a\x02b", framing).unwrap_err();
        assert!(undivided.to_string().contains("2 bytes"), "{undivided}");
    }
}
