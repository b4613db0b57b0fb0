//! The options of `echoic bench` that choose what is sent, and the workload that they describe.

use std::{fs, path::PathBuf};

use clap::Args;
use echoic_client::bench::{
    Expect, MessageKind, Pace, Recorded, RecordedError, Sizes, Template, Workload, divide,
};
use echoic_core::{filter::Filter, framing::Framing};
use echoic_recorder::wall_clock_now;
use serde::Deserialize;
use tokio::runtime;

use crate::{local_time, store_url::StoreUrl};

/// Options for requests and expected replies.
#[derive(Debug, Args)]
#[command(next_help_heading = "Requests")]
pub(super) struct PayloadArgs {
    /// Send this text in each request [default: "hello {seq}", so that replies differ]
    #[arg(short = 'm', long, value_name = "TEXT", group = "payload")]
    message: Option<String>,

    /// Send the contents of this file in each request
    #[arg(short = 'f', long, value_name = "FILE", group = "payload")]
    file: Option<PathBuf>,

    /// Send the messages in this file in turn, divided by HOW: lines (the default), jsonl (a JSON string on each line) or
    /// a framing
    #[arg(long, value_name = "FILE[:HOW]", group = "payload")]
    corpus: Option<String>,

    /// Send this text with variables: {seq} {conn} {now} {rand:N} {rand:N:hex} {re:REGEX}
    #[arg(long, value_name = "TEXT", group = "payload")]
    template: Option<Template>,

    /// Send messages of this size, each with its number: 64, uniform:16..1k, normal:MEAN,DEVIATION, pareto:MIN,SHAPE
    #[arg(long, value_name = "SIZE", group = "payload")]
    size: Option<Sizes>,

    /// Send a weighted mix of messages: a file of JSON lines like {"weight":3,"template":"get {seq}","expect":"upper"}
    #[arg(long, value_name = "FILE", group = "payload")]
    mix: Option<PathBuf>,

    /// Send the recorded requests that this filter matches, oldest first; filters as for log
    #[arg(
        long,
        value_name = "FILTER",
        group = "payload",
        allow_hyphen_values = true
    )]
    pub(super) from_store: Option<String>,

    /// Read the requests for --from-store from this database
    #[arg(
        long,
        value_name = "FILE",
        default_value = "echoic.db",
        env = "ECHOIC_STORE",
        hide_env_values = true
    )]
    store: StoreUrl,

    /// Send recorded requests at this pace: real (as recorded), 2x (twice as fast) or max (each when the previous reply
    /// has arrived)
    #[arg(
        long,
        value_name = "PACE",
        default_value = "real",
        requires = "from_store",
        conflicts_with = "rate"
    )]
    pace: Pace,

    /// Check each reply: upper, lower, echo, exact:TEXT, regex:RE, len:N, any, or none to wait for no reply [default: a
    /// test request decides between upper, lower, echo and any]
    #[arg(long, value_name = "WHAT")]
    pub(super) expect: Option<Expect>,

    /// Seed the random numbers
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) seed: u64,
}

/// A line of `--mix`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MixLine {
    #[serde(default = "one")]
    weight: u32,
    message: Option<String>,
    template: Option<String>,
    expect: Option<String>,
}

fn one() -> u32 {
    1
}

impl PayloadArgs {
    /// Reads the recorded requests that `--from-store` matches; `None` without it.
    pub(super) fn recorded(&self, framing: Framing) -> Result<Option<Recorded>, String> {
        let Some(filter) = &self.from_store else {
            return Ok(None);
        };
        let filter =
            Filter::parse_at(filter, &local_time::now()).map_err(|error| error.to_string())?;
        let store = self.store.open_to_read().map_err(|error| error.why)?;
        let runtime = runtime::Builder::new_current_thread().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let read = Recorded::read(&*store, &filter, wall_clock_now(), framing, self.pace);
        match runtime.block_on(read) {
            Ok(recorded) => Ok(Some(recorded)),
            Err(error @ RecordedError::Nothing(_)) => {
                Err(format!("{error}; list them with `echoic log`"))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Returns the workload for messages under `framing`.
    pub(super) fn workload(&self, framing: Framing) -> Result<Workload, String> {
        if let Some(text) = &self.message {
            return Ok(Workload::one(Template::literal(text.as_bytes())));
        }
        if let Some(path) = &self.file {
            return Ok(Workload::one(Template::literal(read(path)?)));
        }
        if let Some(corpus) = &self.corpus {
            return corpus_workload(corpus);
        }
        if let Some(template) = &self.template {
            return Ok(Workload::one(template.clone()));
        }
        if let Some(sizes) = self.size {
            return Ok(Workload::one(Template::sized(sizes, self.seed)));
        }
        if let Some(path) = &self.mix {
            return mix_workload(path);
        }
        let message = match framing {
            Framing::Fixed(bytes) => {
                let sizes: Sizes = bytes
                    .to_string()
                    .parse()
                    .map_err(|error| format!("{error}"))?;
                Template::sized(sizes, self.seed)
            }
            _ => "hello {seq}".parse().map_err(|error| format!("{error}"))?,
        };
        Ok(Workload::one(message))
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// Reads `FILE[:HOW]`. The part after the last colon is HOW if it names a way to divide, and else part of the file's name.
fn corpus_workload(corpus: &str) -> Result<Workload, String> {
    let (path, how) = match corpus.rsplit_once(':') {
        Some((path, "lines" | "line")) => (path, Division::Framed(Framing::Line)),
        Some((path, "jsonl")) => (path, Division::Json),
        Some((path, how)) => match how.parse() {
            Ok(framing) => (path, Division::Framed(framing)),
            Err(_) => (corpus, Division::Framed(Framing::Line)),
        },
        None => (corpus, Division::Framed(Framing::Line)),
    };
    let bytes = read(&path.into())?;
    let messages = match how {
        Division::Framed(framing) => divide(&bytes, framing)
            .map_err(|undivided| format!("invalid corpus: it is {undivided}")),
        Division::Json => bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.trim_ascii().is_empty())
            .map(|line| serde_json::from_slice::<String>(line).map(String::into_bytes))
            .collect::<Result<_, _>>()
            .map_err(|error| {
                format!("invalid corpus {path}: expected a JSON string on every line: {error}")
            }),
    }?;
    if messages.is_empty() {
        return Err(format!(
            "invalid corpus {path}: expected at least one message"
        ));
    }
    Ok(Workload::in_turn(
        messages.into_iter().map(Template::literal),
    ))
}

/// How a corpus is divided into messages.
enum Division {
    Framed(Framing),
    Json,
}

fn mix_workload(path: &PathBuf) -> Result<Workload, String> {
    let text = String::from_utf8(read(path)?).map_err(|_| {
        format!(
            "invalid mix {}: expected UTF-8; escape other bytes as in JSON",
            path.display()
        )
    })?;
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    let kinds = lines.map(|(index, line)| {
        kind(line).map_err(|why| format!("{}:{}: {why}", path.display(), index + 1))
    });
    let kinds: Vec<MessageKind> = kinds.collect::<Result<_, _>>()?;
    if kinds.iter().all(|kind| kind.weight == 0) {
        return Err(format!(
            "invalid mix {}: expected at least one weight above 0",
            path.display()
        ));
    }
    Ok(Workload::mixed(kinds))
}

fn kind(line: &str) -> Result<MessageKind, String> {
    let line: MixLine = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let message = match (line.message, line.template) {
        (Some(text), None) => Template::literal(text.into_bytes()),
        (None, Some(text)) => text.parse().map_err(|error| format!("{error}"))?,
        _ => return Err("expected either \"message\" or \"template\"".to_owned()),
    };
    let expect = line
        .expect
        .map(|text| text.parse().map_err(|error| format!("{error}")));
    Ok(MessageKind {
        message,
        expect: expect.transpose()?,
        weight: line.weight,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_mixture_line_gives_a_reason() {
        let kind = |line| kind(line).map(|kind| (kind.message.to_string(), kind.weight));
        assert_eq!(
            kind(r#"{"template":"get {seq}"}"#),
            Ok(("get {seq}".to_owned(), 1))
        );
        assert_eq!(
            kind(r#"{"message":"{}","weight":3}"#),
            Ok(("{}".to_owned(), 3))
        );
        for (line, why) in [
            ("{}", "expected either"),
            (r#"{"message":"a","template":"b"}"#, "expected either"),
            (
                r#"{"message":"a","expect":"x"}"#,
                "invalid expectation x: expected upper",
            ),
            (r#"{"mesage":"a"}"#, "unknown field"),
        ] {
            assert!(kind(line).unwrap_err().contains(why), "{line}");
        }
    }
}
