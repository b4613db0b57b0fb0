//! What is said in plain text before TLS, on a port where a connection begins without it: [`StartTls`].

use std::{error::Error, fmt, future::poll_fn, io, str::FromStr};

use echoic_core::{service::BoxFuture, units::quoted};
use tokio::io::AsyncWriteExt;

use crate::{link::Link, transport::ClientLayer};

/// Longest line of a server, in bytes; SMTP allows 512 (RFC 5321, 4.5.3.1.5), IMAP names no limit.
const LINE_BYTES_MAX: usize = 8 << 10;

/// Most lines of one answer.
const LINES_MAX: usize = 100;

/// The request for TLS of PostgreSQL: its length, and a number in place of a version (`SSLRequest`).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// A protocol whose servers change to TLS when they are asked to. As a layer it asks; the layer of TLS comes after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartTls {
    /// Mail, usually on port 25 or 587 (RFC 3207).
    Smtp,
    /// Mailboxes, usually on port 143 (RFC 9051, 6.2.1).
    Imap,
    /// PostgreSQL, usually on port 5432 (its manual, "SSL Session Encryption").
    Postgres,
}

/// Why a server did not change to TLS. The text has the server's answer: escape it where it is shown.
#[derive(Debug)]
pub struct StartTlsError {
    why: String,
}

impl Error for StartTlsError {}

impl fmt::Display for StartTlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl fmt::Display for StartTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Smtp => "smtp",
            Self::Imap => "imap",
            Self::Postgres => "postgres",
        })
    }
}

impl FromStr for StartTls {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "smtp" => Ok(Self::Smtp),
            "imap" => Ok(Self::Imap),
            "postgres" => Ok(Self::Postgres),
            _ => Err(format!(
                "invalid protocol {}: expected smtp, imap or postgres",
                quoted(text)
            )),
        }
    }
}

impl StartTls {
    async fn ask(self, link: Link) -> io::Result<Link> {
        let mut dialog = Dialog {
            link,
            unread: Vec::new(),
        };
        match self {
            Self::Smtp => smtp(&mut dialog).await?,
            Self::Imap => imap(&mut dialog).await?,
            Self::Postgres => postgres(&mut dialog).await?,
        }
        // Whoever sits in between can send plain bytes ahead of the handshake, which a client would take for the server's
        // once it is encrypted (CVE-2011-0411, CVE-2021-23222).
        if !dialog.unread.is_empty() {
            return Err(failed(
                "the server sent more in plain text after it had agreed to TLS, which somebody in between may have put there",
            ));
        }
        dialog
            .link
            .report_step(&format!("STARTTLS: the server agreed to TLS ({self})"));
        Ok(dialog.link)
    }
}

impl ClientLayer for StartTls {
    fn connect(&self, link: Link) -> BoxFuture<'_, io::Result<Link>> {
        Box::pin(self.ask(link))
    }
}

async fn smtp(dialog: &mut Dialog) -> io::Result<()> {
    dialog.smtp_reply("220", "greeting").await?;
    dialog.send(b"EHLO localhost\r\n").await?;
    let offers = dialog.smtp_reply("250", "answer to EHLO").await?;
    let is_offered = |line: &String| {
        let word = line.get(4..).unwrap_or_default();
        word.trim().eq_ignore_ascii_case("STARTTLS")
    };
    if !offers.iter().any(is_offered) {
        return Err(failed("the server does not offer STARTTLS"));
    }
    dialog.send(b"STARTTLS\r\n").await?;
    dialog.smtp_reply("220", "answer to STARTTLS").await?;
    Ok(())
}

async fn imap(dialog: &mut Dialog) -> io::Result<()> {
    let greeting = dialog.line().await?;
    if !begins(&greeting, "* OK") {
        return Err(unexpected("greeting", &greeting));
    }
    dialog.send(b"a1 STARTTLS\r\n").await?;
    for _ in 0..LINES_MAX {
        let line = dialog.line().await?;
        if begins(&line, "a1 OK") {
            return Ok(());
        }
        if !begins(&line, "* ") {
            return Err(unexpected("answer to STARTTLS", &line));
        }
    }
    Err(failed("the server does not end its answer to STARTTLS"))
}

async fn postgres(dialog: &mut Dialog) -> io::Result<()> {
    dialog.send(&SSL_REQUEST).await?;
    dialog.more().await?;
    match dialog.unread.remove(0) {
        b'S' => Ok(()),
        b'N' => Err(failed(
            "the server does not offer TLS: it answered the request with N (ssl = off)",
        )),
        b'E' => Err(failed(
            "the server answered the request for TLS with an error",
        )),
        byte => Err(failed(&format!(
            "the server does not speak the protocol of PostgreSQL: it answered the request for TLS with {byte:#04x}"
        ))),
    }
}

/// A conversation in lines.
struct Dialog {
    link: Link,
    /// Received, and not yet looked at.
    unread: Vec<u8>,
}

impl Dialog {
    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.link.write_all(bytes).await
    }

    /// Reads at least one byte more.
    async fn more(&mut self) -> io::Result<()> {
        let mut buffer = [0; 1024];
        let link = &mut self.link;
        match poll_fn(|cx| link.poll_read(cx, &mut buffer)).await? {
            0 => Err(failed("the server closed the connection before TLS began")),
            n => {
                self.unread.extend_from_slice(&buffer[..n]);
                Ok(())
            }
        }
    }

    /// Reads a line, and returns it without its end.
    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                return Ok(line.trim_end().to_owned());
            }
            if self.unread.len() > LINE_BYTES_MAX {
                return Err(failed("the server sends a line that does not end"));
            }
            self.more().await?;
        }
    }

    /// Reads a reply of SMTP: lines that begin with its code, `250-` before the last one, `250 ` in it.
    async fn smtp_reply(&mut self, code: &str, what: &str) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        while lines.len() < LINES_MAX {
            let line = self.line().await?;
            if !line.starts_with(code) {
                return Err(unexpected(what, &line));
            }
            let is_last = line.as_bytes().get(3) != Some(&b'-');
            lines.push(line);
            if is_last {
                return Ok(lines);
            }
        }
        Err(failed("the server does not end its reply"))
    }
}

fn begins(line: &str, with: &str) -> bool {
    let start = line.get(..with.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(with))
}

fn failed(why: &str) -> io::Error {
    let why = why.to_owned();
    io::Error::new(io::ErrorKind::InvalidData, StartTlsError { why })
}

fn unexpected(what: &str, line: &str) -> io::Error {
    let told = &line[..line.floor_char_boundary(200)];
    failed(&format!(
        "the server sent no {what} that allows TLS, but \"{told}\""
    ))
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll};

    use super::*;
    use crate::transport::Transport;

    /// A server that sends `answers` whatever it is asked, `piece` bytes at a time, and keeps what it was asked.
    #[derive(Debug)]
    struct Script {
        answers: Vec<u8>,
        piece: usize,
    }

    impl Transport for Script {
        fn poll_read(&mut self, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
            let n = self.piece.min(self.answers.len()).min(buffer.len());
            buffer[..n].copy_from_slice(&self.answers[..n]);
            self.answers.drain(..n);
            Poll::Ready(Ok(n))
        }

        fn poll_write(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn abort(&mut self) {}
    }

    async fn asked(protocol: StartTls, answers: &[u8], piece: usize) -> Result<(), String> {
        let answers = answers.to_vec();
        let link = Link::layered(Box::new(Script { answers, piece }));
        let result = protocol.connect(link).await;
        result.map(drop).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn servers_that_agree_are_understood_however_they_are_cut() {
        for (protocol, answers) in [
            (
                StartTls::Smtp,
                &b"220-hello\r\n220 there\r\n250-a\r\n250-StartTLS\r\n250 SIZE 1\r\n220 go\r\n"[..],
            ),
            (StartTls::Imap, b"* OK ready\r\n* NOOP\r\na1 ok begin\r\n"),
            (StartTls::Postgres, b"S"),
        ] {
            for piece in [1, 2, 7] {
                assert_eq!(asked(protocol, answers, piece).await, Ok(()), "{protocol}");
            }
        }
    }

    #[tokio::test]
    async fn servers_that_do_not_agree_are_told_apart() {
        let endless = [b"220-x\r\n".repeat(200), b"y".repeat(20_000)];
        for (protocol, answers, part) in [
            (
                StartTls::Smtp,
                &b"220 a\r\n250 SIZE 1\r\n"[..],
                "does not offer STARTTLS",
            ),
            (
                StartTls::Smtp,
                b"220 a\r\n250 STARTTLS\r\n454 later\r\n",
                "\"454 later\"",
            ),
            (
                StartTls::Smtp,
                b"554 go away\r\n",
                "no greeting that allows TLS, but \"554 go away\"",
            ),
            (StartTls::Smtp, b"220 a\r\n", "closed the connection"),
            (StartTls::Smtp, &endless[0], "does not end its reply"),
            (StartTls::Smtp, &endless[1], "a line that does not end"),
            (StartTls::Imap, b"* PREAUTH x\r\n", "\"* PREAUTH x\""),
            (StartTls::Imap, b"* OK\r\na1 BAD no\r\n", "\"a1 BAD no\""),
            (StartTls::Postgres, b"N", "does not offer TLS"),
            (StartTls::Postgres, b"E", "with an error"),
            (StartTls::Postgres, b"2", "0x32"),
        ] {
            let why = asked(protocol, answers, 1024).await.unwrap_err();
            assert!(why.contains(part), "{protocol}: {why}");
        }
    }

    #[tokio::test]
    async fn plain_bytes_ahead_of_the_handshake_are_refused() {
        for (protocol, answers) in [
            (
                StartTls::Smtp,
                &b"220 a\r\n250 STARTTLS\r\n220 go\r\n250 injected\r\n"[..],
            ),
            (StartTls::Imap, b"* OK\r\na1 OK\r\n* injected\r\n"),
            (StartTls::Postgres, b"Sx"),
        ] {
            let why = asked(protocol, answers, 1024).await.unwrap_err();
            assert!(why.contains("somebody in between"), "{protocol}: {why}");
        }
    }
}
