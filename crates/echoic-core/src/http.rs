//! Detects HTTP requests on ports that do not serve HTTP.
//!
//! A web page can make a visitor's browser send a request to any port of the visitor's machine, and the body can then
//! be commands for the service on that port (cross-protocol scripting). A message that begins with an HTTP request line
//! is therefore tagged `http` wherever it is shown.

use memchr::memchr;

/// Longest request line that is recognized, in bytes: the minimum that RFC 9112, section 3 recommends to support.
const LINE_BYTES_MAX: usize = 8000;

/// Longest method that is recognized, in bytes. `BASELINE-CONTROL`, the longest registered one, has 16.
const METHOD_BYTES_MAX: usize = 24;

/// Whether `bytes` begin with a request line: `METHOD target HTTP/1.1` (RFC 9112, section 3), or the connection
/// preface of HTTP/2 (RFC 9113, section 3.4), which has the same form.
pub fn begins_as_http(bytes: &[u8]) -> bool {
    let method = &bytes[..bytes.len().min(METHOD_BYTES_MAX + 1)];
    let Some(end) = memchr(b' ', method) else {
        return false;
    };
    let is_method = end > 0
        && method[..end]
            .iter()
            .all(|b| b.is_ascii_uppercase() || *b == b'-');
    if !is_method {
        return false;
    }
    let rest = &bytes[end + 1..bytes.len().min(LINE_BYTES_MAX)];
    let line = &rest[..memchr(b'\n', rest).unwrap_or(rest.len())];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let Some(target) = memchr(b' ', line) else {
        return false;
    };
    match &line[target + 1..] {
        [b'H', b'T', b'T', b'P', b'/', major, rest @ ..] => {
            target > 0 && major.is_ascii_digit() && matches!(rest, [] | [b'.', b'0'..=b'9'])
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_requests_are_detected_and_lookalikes_are_not() {
        let http: [&[u8]; 6] = [
            b"GET / HTTP/1.1\r\nHost: localhost:5000\r\n\r\n",
            b"POST /x?y=1 HTTP/1.0\n\nrm -rf",
            b"OPTIONS * HTTP/1.1",
            b"M-SEARCH * HTTP/1.1\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"CONNECT localhost:5000 HTTP/1.1\r\n",
        ];
        for bytes in http {
            assert!(begins_as_http(bytes), "{}", bytes.escape_ascii());
        }
        let other: [&[u8]; 10] = [
            b"",
            b"hello",
            b"GET",
            b"GET /",
            b"GET /\n HTTP/1.1",
            b"get / HTTP/1.1",
            b" / HTTP/1.1",
            b"GET  HTTP/1.1",
            b"GET / HTTP/1.1x\r\n",
            b"HTTP/1.1 200 OK\r\n",
        ];
        for bytes in other {
            assert!(!begins_as_http(bytes), "{}", bytes.escape_ascii());
        }
        assert!(!begins_as_http(&vec![b'A'; 100_000]));
    }
}
