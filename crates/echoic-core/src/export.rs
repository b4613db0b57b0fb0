//! Exchanges as lines of JSON or as CSV, for files and for downloads.

use std::{fmt, path::Path, str::FromStr};

use jiff::Timestamp;
use serde::Serialize;
use thiserror::Error;

use crate::{
    escape,
    event::{ExchangeId, Micros},
    exchange::Exchange,
    filter::Filter,
    store::{Order, Page, Store, StoreError},
};

/// Exchanges per page of an export: its memory is that of one page.
const PAGE: usize = 500;

/// The form of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExportFormat {
    /// A line of JSON for each exchange, the object of `log --json`.
    JsonLines,
    /// Comma-separated values (RFC 4180) with a line of names, for spreadsheets. Bytes are escaped as a list shows them.
    Csv,
}

/// Error of a form that is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected .jsonl or .csv")]
pub struct UnknownExportFormat;

impl FromStr for ExportFormat {
    type Err = UnknownExportFormat;

    fn from_str(word: &str) -> Result<Self, UnknownExportFormat> {
        match word {
            "jsonl" => Ok(Self::JsonLines),
            "csv" => Ok(Self::Csv),
            _ => Err(UnknownExportFormat),
        }
    }
}

impl fmt::Display for ExportFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::JsonLines => "jsonl",
            Self::Csv => "csv",
        })
    }
}

impl ExportFormat {
    /// Returns the form that the name of a file asks for.
    pub fn of_path(path: &Path) -> Result<Self, UnknownExportFormat> {
        let extension = path.extension().and_then(|extension| extension.to_str());
        extension.unwrap_or_default().to_ascii_lowercase().parse()
    }

    /// Returns its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::JsonLines => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8",
        }
    }

    /// Returns what stands before the first exchange.
    pub fn head(self) -> &'static str {
        match self {
            Self::JsonLines => "",
            Self::Csv => CSV_HEAD,
        }
    }

    /// Appends an exchange.
    pub fn push(self, out: &mut Vec<u8>, exchange: &Exchange) {
        match self {
            Self::JsonLines => {
                let line = WithTime {
                    exchange,
                    time: time(exchange.at),
                };
                // Writing to memory cannot fail, and no key of the object can.
                let _ = serde_json::to_writer(&mut *out, &line);
                out.push(b'\n');
            }
            Self::Csv => push_row(out, exchange),
        }
    }
}

/// The exchanges that a filter selects, oldest first, as text in parts of one page each: so the memory is that of a page, and
/// nothing of the store is held while the reader of the output is slow.
#[derive(Debug)]
pub struct Export {
    format: ExportFormat,
    filter: Filter,
    page: Page,
    left: u64,
    exported: u64,
    /// `None` once everything has been returned.
    head: Option<&'static str>,
}

impl Export {
    /// Exports at most `limit` exchanges. Relative times such as `since:10m` count back from `now`.
    pub fn new(format: ExportFormat, filter: Filter, limit: u64, now: Micros) -> Self {
        Self {
            format,
            filter,
            page: Page {
                order: Order::OldestFirst,
                beyond: None,
                until: None,
                limit: PAGE,
                now,
            },
            left: limit,
            exported: 0,
            head: Some(format.head()),
        }
    }

    /// Begins after the exchange with this id.
    #[must_use]
    pub fn after(mut self, id: Option<ExchangeId>) -> Self {
        self.page.beyond = id;
        self
    }

    /// Returns the number of exchanges exported so far.
    pub fn exported(&self) -> u64 {
        self.exported
    }

    /// Returns the next part, or `None` at the end. A part may be empty.
    pub async fn next(&mut self, store: &dyn Store) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(head) = self.head else {
            return Ok(None);
        };
        self.page.limit = PAGE.min(usize::try_from(self.left).unwrap_or(PAGE));
        let found = store.find(&self.filter, self.page).await?;
        let mut out = head.as_bytes().to_vec();
        for exchange in &found.exchanges {
            self.format.push(&mut out, exchange);
        }
        let number = found.exchanges.len() as u64;
        self.exported += number;
        self.left = self.left.saturating_sub(number);
        self.page.beyond = found.next;
        self.head = found.next.filter(|_| self.left > 0).map(|_| "");
        Ok(Some(out))
    }
}

/// The object of an exchange with its time in the form of RFC 3339, in UTC.
#[derive(Serialize)]
struct WithTime<'a> {
    #[serde(flatten)]
    exchange: &'a Exchange,
    time: String,
}

fn time(at: Micros) -> String {
    let at_time = Timestamp::from_microsecond(at);
    at_time.map_or_else(|_| at.to_string(), |time| format!("{time:.6}"))
}

const CSV_HEAD: &str = "id,time,conv,n,ep,proto,svc,role,peer,t_us,lat_ns,outcome,req_len,rep_len,req,rep,tags,note\r\n";

fn push_row(out: &mut Vec<u8>, exchange: &Exchange) {
    let conversation = &exchange.conversation;
    let endpoint_info = &conversation.endpoint_info;
    let outcome = exchange.outcome.word();
    let tags: Vec<&str> = exchange.tags().collect();
    let cells = [
        exchange.id.to_string(),
        time(exchange.at),
        conversation.id.to_string(),
        exchange.n.to_string(),
        endpoint_info.name.clone(),
        endpoint_info.proto.to_string(),
        endpoint_info.service.clone(),
        conversation.role.to_string(),
        conversation.remote.to_string(),
        exchange.at.to_string(),
        exchange.latency_ns.to_string(),
        outcome.to_owned(),
        exchange.request.len().to_string(),
        exchange.reply.len().to_string(),
        escape::text(&exchange.request).to_string(),
        escape::text(&exchange.reply).to_string(),
        tags.join(" "),
        exchange.labels.note.clone().unwrap_or_default(),
    ];
    for (i, cell) in cells.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        push_cell(out, cell);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a cell, in quotes where it needs them. A spreadsheet runs a cell that begins like a formula, which a peer could send:
/// it gets an apostrophe in front.
fn push_cell(out: &mut Vec<u8>, cell: &str) {
    let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let is_quoted = cell.contains([',', '"', '\r', '\n']);
    if is_quoted {
        out.push(b'"');
    }
    if is_formula {
        out.push(b'\'');
    }
    out.extend_from_slice(cell.replace('"', "\"\"").as_bytes());
    if is_quoted {
        out.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(text: &str) -> String {
        let mut out = Vec::new();
        push_cell(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn cell_is_quoted_and_no_formula() {
        for (text, expected) in [
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@x", "'@x"),
            ("\tx", "'\tx"),
            (
                "=HYPERLINK(\"http://x\",1)",
                "\"'=HYPERLINK(\"\"http://x\"\",1)\"",
            ),
        ] {
            assert_eq!(cell(text), expected);
        }
    }

    #[test]
    fn format_follows_the_name_of_the_file() {
        let of = |path: &str| ExportFormat::of_path(Path::new(path));
        assert_eq!(of("a.jsonl"), Ok(ExportFormat::JsonLines));
        assert_eq!(of("dir.csv/a.CSV"), Ok(ExportFormat::Csv));
        for path in ["a", "a.json", "csv", ".csv"] {
            assert_eq!(of(path), Err(UnknownExportFormat), "{path}");
        }
    }

    #[test]
    fn time_is_utc_with_microseconds() {
        assert_eq!(time(1_795_349_046_998_113), "2026-11-22T12:04:06.998113Z");
        assert_eq!(time(0), "1970-01-01T00:00:00.000000Z");
    }
}
