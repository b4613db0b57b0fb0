//! What is said: from the options that say so to a workload.

use std::{fs, path::PathBuf};

use clap::Args;
use echoic_client::bench::{
    Expect, MessageKind, Pace, Recorded, RecordedError, Sizes, Template, Workload, divide,
};
use echoic_core::{filter::Filter, framing::Framing};
use echoic_recorder::wall;
use serde::Deserialize;
use tokio::runtime;

use crate::store_url::StoreUrl;

/// What is said, and what has to come back.
#[derive(Debug, Args)]
#[command(next_help_heading = "What is said")]
pub(super) struct SaidArgs {
    /// Say this text, always the same [default: "hello {seq}", which tells replies apart]
    #[arg(short = 'm', long, value_name = "TEXT", group = "said")]
    message: Option<String>,

    /// Say what is in this file, always the same
    #[arg(short = 'f', long, value_name = "FILE", group = "said")]
    file: Option<PathBuf>,

    /// Say what is in this file, one after the other. HOW: lines (as without it), jsonl (a JSON string in each line), or a
    /// framing that divides it
    #[arg(long, value_name = "FILE[:HOW]", group = "said")]
    corpus: Option<String>,

    /// Say this, with blanks to be filled in: {seq} {conn} {now} {rand:N} {rand:N:hex} {re:REGEX}
    #[arg(long, value_name = "TEXT", group = "said")]
    template: Option<Template>,

    /// Say messages of this size, each with its number: 64, uniform:16..1k, normal:MEAN,DEVIATION, pareto:MIN,SHAPE
    #[arg(long, value_name = "SIZE", group = "said")]
    size: Option<Sizes>,

    /// Say a mixture: a file of JSON lines like {"weight":3,"template":"get {seq}","expect":"upper"}
    #[arg(long, value_name = "FILE", group = "said")]
    mix: Option<PathBuf>,

    /// Say again what was recorded: the requests of the exchanges that this filter selects, oldest first, as with `log`
    #[arg(
        long,
        value_name = "FILTER",
        group = "said",
        allow_hyphen_values = true
    )]
    pub(super) from_store: Option<String>,

    /// The record that --from-store reads
    #[arg(
        long,
        value_name = "FILE",
        default_value = "echoic.db",
        env = "ECHOIC_STORE",
        hide_env = true,
        requires = "from_store"
    )]
    store: StoreUrl,

    /// When recorded requests are due: real (as they came), 2x (twice as fast), or max (each connection asks again when its
    /// reply has come)
    #[arg(
        long,
        value_name = "PACE",
        default_value = "real",
        requires = "from_store",
        conflicts_with = "rate"
    )]
    pace: Pace,

    /// What has to come back: upper, lower, echo, exact:TEXT, regex:RE, len:N, any, or none (no reply is waited for)
    /// [default: what one request beforehand shows, of upper, lower and echo; else any]
    #[arg(long, value_name = "WHAT")]
    pub(super) expect: Option<Expect>,

    /// What all that is random comes from
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

impl SaidArgs {
    /// What is said again, if anything is.
    pub(super) fn recorded(&self, framing: Framing) -> Result<Option<Recorded>, String> {
        let Some(filter) = &self.from_store else {
            return Ok(None);
        };
        let filter = Filter::parse(filter).map_err(|error| error.to_string())?;
        let store = self.store.open_to_read().map_err(|failed| failed.why)?;
        let runtime = runtime::Builder::new_current_thread().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let read = Recorded::read(&*store, &filter, wall(), framing, self.pace);
        match runtime.block_on(read) {
            Ok(recorded) => Ok(Some(recorded)),
            Err(error @ RecordedError::Nothing(_)) => {
                Err(format!("{error}; `echoic log` lists what there is"))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// What was typed means this, under that framing.
    pub(super) fn workload(&self, framing: Framing) -> Result<Workload, String> {
        if let Some(text) = &self.message {
            return Ok(Workload::one(Template::literal(text.as_bytes())));
        }
        if let Some(path) = &self.file {
            return Ok(Workload::one(Template::literal(read(path)?)));
        }
        if let Some(corpus) = &self.corpus {
            return in_turn(corpus);
        }
        if let Some(template) = &self.template {
            return Ok(Workload::one(template.clone()));
        }
        if let Some(sizes) = self.size {
            return Ok(Workload::one(Template::sized(sizes, self.seed)));
        }
        if let Some(path) = &self.mix {
            return mixed(path);
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

/// The messages of a corpus. What follows the last colon is how it is divided, if that is a way to divide.
fn in_turn(corpus: &str) -> Result<Workload, String> {
    let (path, how) = match corpus.rsplit_once(':') {
        Some((path, "lines" | "line")) => (path, Divided::Framed(Framing::Line)),
        Some((path, "jsonl")) => (path, Divided::Json),
        Some((path, how)) => match how.parse() {
            Ok(framing) => (path, Divided::Framed(framing)),
            Err(_) => (corpus, Divided::Framed(Framing::Line)),
        },
        None => (corpus, Divided::Framed(Framing::Line)),
    };
    let bytes = read(&path.into())?;
    let messages = match how {
        Divided::Framed(framing) => {
            divide(&bytes, framing).map_err(|undivided| format!("the corpus is {undivided}"))
        }
        Divided::Json => bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.trim_ascii().is_empty())
            .map(|line| serde_json::from_slice::<String>(line).map(String::into_bytes))
            .collect::<Result<_, _>>()
            .map_err(|error| format!("{path} is not a JSON string in every line: {error}")),
    }?;
    if messages.is_empty() {
        return Err(format!("{path} has no message in it"));
    }
    Ok(Workload::in_turn(
        messages.into_iter().map(Template::literal),
    ))
}

enum Divided {
    Framed(Framing),
    Json,
}

fn mixed(path: &PathBuf) -> Result<Workload, String> {
    let text = String::from_utf8(read(path)?)
        .map_err(|_| format!("{} is not UTF-8; escape bytes as JSON does", path.display()))?;
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    let kinds = lines.map(|(index, line)| {
        kind(line).map_err(|why| format!("{}:{}: {why}", path.display(), index + 1))
    });
    let kinds: Vec<MessageKind> = kinds.collect::<Result<_, _>>()?;
    if kinds.iter().all(|kind| kind.weight == 0) {
        return Err(format!("{} has no message with a weight", path.display()));
    }
    Ok(Workload::mixed(kinds))
}

fn kind(line: &str) -> Result<MessageKind, String> {
    let line: MixLine = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let message = match (line.message, line.template) {
        (Some(text), None) => Template::literal(text.into_bytes()),
        (None, Some(text)) => text.parse().map_err(|error| format!("{error}"))?,
        _ => return Err("either \"message\" or \"template\" is needed".to_owned()),
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
            ("{}", "is needed"),
            (r#"{"message":"a","template":"b"}"#, "is needed"),
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
