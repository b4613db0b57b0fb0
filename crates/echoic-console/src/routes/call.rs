//! Sending to an endpoint as a client.

use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State};
use base64::{Engine, prelude::BASE64_STANDARD};
use echoic_core::{
    control::{Call, CallReply, Target},
    units::Span,
};
use memchr::memmem;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::actions;
use crate::{extract, json::BytesJson, problem::Problem, state::App};

/// Most messages of a call, repetitions included.
const MESSAGES_MAX: usize = 10_000;

/// Most bytes of a call, repetitions included.
const BYTES_MAX: usize = 8 << 20;

/// Longest wait for a reply.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// Longest time that the pauses between messages may take together.
const PAUSES_MAX: Duration = Duration::from_mins(5);

/// Messages to send to an endpoint, over a connection of their own.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CallJson {
    /// The endpoint, by its number.
    #[schema(example = 1)]
    endpoint: Option<u32>,
    /// Another target, which `--console-send` allows, by its number: the `id` of one of `targets` in `GET /api/v1/info`.
    target: Option<u32>,
    /// The messages, without terminators or headers: the framing adds them.
    messages: Vec<BytesJson>,
    /// Framing; by default that of the endpoint.
    #[schema(example = "line")]
    frame: Option<String>,
    /// How often to send the messages, by default once.
    #[schema(minimum = 1)]
    repeat: Option<usize>,
    /// Pause between two messages: `0ms`.
    #[schema(example = "10ms")]
    every: Option<String>,
    /// Longest wait for a reply: `1s`.
    #[schema(example = "1s")]
    wait: Option<String>,
    /// Bytes that one of the replies is expected to contain.
    expect: Option<BytesJson>,
    /// Whether `{n}` in text is replaced with the number of the message, from 1.
    counter: Option<bool>,
}

/// What became of a call.
#[derive(Serialize, ToSchema)]
pub(super) struct CallResultJson {
    /// Its conversation in the store; null if it is not recorded.
    conv: Option<u64>,
    /// Each message with what was received in answer to it.
    replies: Vec<ReplyJson>,
    /// How it ended: a close reason, or an error.
    end: String,
    /// Whether a reply contains the expected bytes, if some were expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    expected: Option<bool>,
}

/// A message and its reply.
#[derive(Serialize, ToSchema)]
pub(super) struct ReplyJson {
    /// Bytes sent, framing included.
    req: OutBytes,
    /// Bytes received.
    rep: OutBytes,
    /// Time from the write to the read, in nanoseconds; null if no reply came.
    lat_ns: Option<u64>,
}

/// Bytes: as text if that is lossless, else in base64.
#[derive(Serialize, ToSchema)]
pub(super) struct OutBytes {
    /// Their number.
    len: usize,
    /// As text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    text: Option<String>,
    /// In base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    b64: Option<String>,
}

impl From<Vec<u8>> for OutBytes {
    fn from(bytes: Vec<u8>) -> Self {
        let text = std::str::from_utf8(&bytes).ok();
        let text = text.filter(|text| !text.contains('\0')).map(str::to_owned);
        Self {
            len: bytes.len(),
            b64: text.is_none().then(|| BASE64_STANDARD.encode(&bytes)),
            text,
        }
    }
}

impl CallJson {
    fn target(&self) -> Result<Target, Problem> {
        match (self.endpoint, self.target) {
            (Some(endpoint), None) => Ok(Target::Endpoint(endpoint)),
            (None, Some(target)) => Ok(Target::Allowed(target)),
            _ => Err(Problem::invalid(
                "expected endpoint or target: GET /api/v1/info has their numbers",
            )),
        }
    }

    /// Returns all messages, in order.
    fn messages(&self) -> Result<Vec<Vec<u8>>, Problem> {
        let repeat = self.repeat.unwrap_or(1);
        let count = self.messages.len().saturating_mul(repeat);
        if !(1..=MESSAGES_MAX).contains(&count) {
            return Err(Problem::invalid(format!(
                "invalid messages: expected 1 to {MESSAGES_MAX}, repetitions included"
            )));
        }
        // Once each: a repetition must not cost the decoding.
        let decoded: Result<Vec<_>, _> = self.messages.iter().map(BytesJson::decode).collect();
        let decoded = decoded?;
        let counted: Vec<_> = self.messages.iter().map(|one| self.counted(one)).collect();
        let mut all: Vec<Vec<u8>> = Vec::with_capacity(count);
        let mut bytes = 0;
        for _ in 0..repeat {
            for (decoded, counted) in decoded.iter().zip(&counted) {
                let message = match counted {
                    Some(text) => text
                        .replace("{n}", &(all.len() + 1).to_string())
                        .into_bytes(),
                    None => decoded.clone(),
                };
                bytes += message.len();
                if bytes > BYTES_MAX {
                    return Err(Problem::invalid(format!(
                        "the messages have more than {BYTES_MAX} bytes, repetitions included"
                    )));
                }
                all.push(message);
            }
        }
        Ok(all)
    }

    /// Returns the text of a message that has the number of the message in it.
    fn counted<'a>(&self, message: &'a BytesJson) -> Option<&'a str> {
        let text = message.text.as_deref();
        text.filter(|text| self.counter == Some(true) && text.contains("{n}"))
    }
}

/// Parses a duration.
fn time(
    name: &str,
    text: Option<&str>,
    default: Duration,
    most: Duration,
) -> Result<Duration, Problem> {
    let Some(text) = text else { return Ok(default) };
    let parsed = text.parse::<Span>();
    match parsed.map_err(|error| Problem::invalid(format!("{name}: {error}")))? {
        Span(time) if time <= most => Ok(time),
        _ => Err(Problem::invalid(format!(
            "invalid {name} {text}: expected at most {}",
            Span(most)
        ))),
    }
}

/// Whether one of the replies contains these bytes. In linear time: both may be long, and alike.
fn is_in_a_reply(expected: &[u8], replies: &[CallReply]) -> bool {
    let finder = memmem::Finder::new(expected);
    let mut replies = replies.iter();
    expected.is_empty() || replies.any(|one| finder.find(&one.reply).is_some())
}

/// Connect to an endpoint, send messages and wait for their replies
#[utoipa::path(post, path = "/api/v1/send", tag = "server", request_body = CallJson,
    extensions(("x-example" = json!("POST /api/v1/send {\"endpoint\":1,\"messages\":[{\"text\":\"hello\"}]}"))), responses(
    (status = 200, description = "what became of it", body = CallResultJson),
    (status = 400, description = "a mistake in the request", body = Problem),
    (status = 403, description = "this console is read-only", body = Problem),
    (status = 404, description = "there is no such target", body = Problem),
    (status = 409, description = "this console runs no server", body = Problem),
    (status = 502, description = "the target could not be reached", body = Problem)))]
pub(super) async fn call(
    State(app): State<Arc<App>>,
    extract::Json(call): extract::Json<CallJson>,
) -> Result<Json<CallResultJson>, Problem> {
    let control = app.acting("send")?;
    let messages = call.messages()?;
    let every = time(
        "every",
        call.every.as_deref(),
        Duration::ZERO,
        Duration::from_secs(10),
    )?;
    if every.saturating_mul(messages.len() as u32) > PAUSES_MAX {
        let most = Span(PAUSES_MAX);
        return Err(Problem::invalid(format!(
            "the pauses between the messages take more than {most}: send fewer"
        )));
    }
    let expect = call.expect.as_ref().map(BytesJson::decode).transpose()?;
    let result = control
        .call(Call {
            target: call.target()?,
            framing: actions::framing(call.frame.as_deref())?,
            messages,
            every,
            wait: time(
                "wait",
                call.wait.as_deref(),
                Duration::from_secs(1),
                WAIT_MAX,
            )?,
        })
        .await?;
    let expected = expect.map(|expect| is_in_a_reply(&expect, &result.replies));
    let replies = result.replies.into_iter().map(|one| ReplyJson {
        req: one.request.into(),
        rep: one.reply.into(),
        lat_ns: one.latency_ns,
    });
    Ok(Json(CallResultJson {
        conv: result.conversation,
        replies: replies.collect(),
        end: result.end,
        expected,
    }))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn call(json: &str) -> CallJson {
        serde_json::from_str(json).unwrap()
    }

    fn reply(bytes: Vec<u8>) -> CallReply {
        CallReply {
            request: Vec::new(),
            reply: bytes,
            latency_ns: None,
        }
    }

    #[test]
    fn expected_bytes_are_found_in_linear_time() {
        let replies = [reply(b"HELLO".to_vec()), reply(vec![b'a'; 2 << 20])];
        assert!(is_in_a_reply(b"LL", &replies) && is_in_a_reply(b"", &[]));
        let mut expected = vec![b'a'; 1 << 20];
        expected.push(b'b');
        let started = Instant::now();
        assert!(!is_in_a_reply(&expected, &replies));
        assert!(started.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn repetitions_are_decoded_once_and_counted() {
        let hex = "00".repeat(1 << 19);
        let long = call(&format!(
            r#"{{"messages":[{{"hex":"{hex}"}}],"repeat":10}}"#
        ));
        assert_eq!(long.messages().unwrap().len(), 10);
        let more = "x".repeat(1 << 20);
        let more = call(&format!(
            r#"{{"messages":[{{"text":"{more}"}}],"repeat":10}}"#
        ));
        assert!(more.messages().is_err());
        let counted = call(
            r#"{"messages":[{"text":"{n}{n}"},{"b64":"e259"},{"text":"a"}],"repeat":2,"counter":true}"#,
        );
        let expected: [&[u8]; 6] = [b"11", b"{n}", b"a", b"44", b"{n}", b"a"];
        assert_eq!(counted.messages().unwrap(), expected);
        let plain = call(r#"{"messages":[{"text":"{n}"}]}"#);
        assert_eq!(plain.messages().unwrap(), [b"{n}"]);
    }
}
