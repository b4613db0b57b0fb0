//! Keeps old words out of the project: private ones everywhere, ordinary English ones as names of items.

use super::{is_rust, tracked};

/// The file with the words itself.
const WORDS: &str = "crates/echoic/tests/tidy/words.rs";

/// Private words of the first drafts, and what replaces each. None may stand anywhere, as a word or as a whole part of
/// an identifier.
const PRIVATE_WORDS: [(&str, &str); 39] = [
    ("aside_on", "control_runtime"),
    ("cut-short", "incomplete"),
    ("deaf", "read_paused, not accepting"),
    ("deaf_since", "read_paused_since"),
    ("fate", "outcome"),
    ("fates", "outcomes"),
    ("hall", "acceptor"),
    ("hang_up", "close_input"),
    ("heard_out", "input_drained"),
    ("hows", "close reasons"),
    ("hush", "stop_accepting"),
    ("limiting_sources", "source_limits"),
    ("not-closing", "linger-timeout"),
    ("not-reading", "write-timeout"),
    ("poll_bell", "poll_wakeup"),
    ("poll_hear", "poll_receive"),
    ("poll_utter", "poll_handler_output"),
    ("rung", "wakeup"),
    ("said_before", "reply_offset"),
    ("said_offset", "reply_offset"),
    ("tame", "sanitize"),
    ("told_of", "reported"),
    ("too-fast", "rate-limited"),
    ("turning_away", "max_rejecting"),
    ("unheard", "discarded"),
    ("unkept", "not yet committed"),
    ("utter", "produce"),
    ("utterance", "output"),
    ("utters", "produces"),
    ("when_behind", "when_full"),
    ("whenbehind", "WhenFull"),
    ("write_stall", "write_timeout"),
    ("--idle", "--idle-timeout"),
    ("--keep", "--retention"),
    ("--linger", "--linger-timeout"),
    ("--drain", "--drain-timeout"),
    ("--partial", "--message-timeout"),
    ("--when-behind", "--when-full"),
    ("--write-stall", "--write-timeout"),
];

/// Ordinary words, fine in a sentence, that say nothing as the name of an item, and what to use instead.
const VAGUE_NAMES: [(&str, &str); 35] = [
    ("apart", "spawned"),
    ("aside", "control_runtime, or what it is"),
    ("door", "listener"),
    ("guests", "access list"),
    ("hear", "receive"),
    ("heard", "request (of a message), received (of bytes)"),
    ("hears", "receives"),
    ("how", "reason"),
    ("keep", "retain, hold, commit or store"),
    ("keeps", "retains, holds, commits or stores"),
    ("kept", "retained, held, committed or stored"),
    ("means", "context"),
    ("meet", "handler"),
    ("news", "event"),
    ("only", "what it limits: stop_after, filter"),
    ("parting", "closing"),
    ("place", "address, offset or location"),
    ("post", "endpoint"),
    ("said", "reply (of a message), produced or sent (of bytes)"),
    ("say", "send, print or report"),
    ("says", "sends, prints or reports"),
    ("seat", "spawn_session"),
    ("shown", "escape, printed or displayed"),
    ("somebody", "what it is: peer, client, watcher"),
    ("speak", "send"),
    ("speaker", "active handler"),
    ("speaking", "spawned"),
    ("standing", "status"),
    ("stay", "permit"),
    ("tell", "report, notify or print"),
    ("tells", "reports, notifies or prints"),
    ("told", "what was reported: metadata, report, rows"),
    ("voice", "handler"),
    ("waits", "timeouts"),
    ("whoever", "what it is: peer, client, watcher"),
];

#[test]
fn old_words_stay_out() {
    let mut found = Vec::new();
    for (path, text) in tracked() {
        if path == WORDS {
            continue;
        }
        let mut old = private_words(&text);
        if is_rust(&path) {
            old.extend(vague_names(&text));
        }
        for (line, word, better) in old {
            found.push(format!("{path}:{line}: `{word}`: {better}"));
        }
    }
    assert!(
        found.is_empty(),
        "{} old words; use the word after the colon, or another that the field has (ARCHITECTURE.md has a glossary):\n{}",
        found.len(),
        found.join("\n")
    );
}

/// Line number, word and replacement of each of [`PRIVATE_WORDS`] in a text.
fn private_words(text: &str) -> Vec<(usize, String, &'static str)> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for word in line.split(|c| !is_part(c)).filter(|word| !word.is_empty()) {
            let parts = parts(word);
            let old = PRIVATE_WORDS.iter().find(|(old, _)| {
                word.eq_ignore_ascii_case(old) || parts.iter().any(|part| part == old)
            });
            if let Some((_, better)) = old {
                found.push((number + 1, word.to_owned(), *better));
            }
        }
    }
    found
}

/// The parts of an identifier, in lower case: of `read_paused` and of `ReadPaused` `read` and `paused`.
fn parts(identifier: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut after_lower = false;
    for c in identifier.chars() {
        if c == '_' || c == '-' || (c.is_uppercase() && after_lower) {
            parts.push(String::new());
        }
        if c.is_alphanumeric() {
            let last = parts.len() - 1;
            parts[last].extend(c.to_lowercase());
        }
        after_lower = c.is_lowercase();
    }
    parts
}

/// Line number, name and replacement of each item of a file that is called one of [`VAGUE_NAMES`].
fn vague_names(text: &str) -> Vec<(usize, String, &'static str)> {
    let vague = |name: &str| {
        let old = VAGUE_NAMES
            .iter()
            .find(|(old, _)| name.eq_ignore_ascii_case(old));
        old.map(|(_, better)| *better)
    };
    let items = item_names(text).into_iter();
    items
        .filter_map(|(line, name)| vague(name).map(|better| (line, name.to_owned(), better)))
        .collect()
}

/// Line number and name of each function, type, constant, module, trait, variant and field of a file. Relies on
/// rustfmt, as `functions` does.
fn item_names(text: &str) -> Vec<(usize, &str)> {
    const KEYWORDS: [&str; 8] = [
        "fn", "struct", "enum", "union", "static", "mod", "type", "trait",
    ];
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut names = Vec::new();
    // Indentation of the struct or enum that a line is in, and whether it is an enum.
    let mut within: Option<(usize, bool)> = None;
    for (number, line) in text.lines().enumerate() {
        let code = line.trim_start();
        let depth = line.len() - code.len();
        if code.starts_with("//") || code.starts_with('#') {
            continue;
        }
        if let Some((outer, is_enum)) = within {
            if depth == outer && code.starts_with('}') {
                within = None;
                continue;
            }
            let ends = code.match_indices(':').map(|(at, _)| at);
            let single =
                ends.filter(|at| !code[at + 1..].starts_with(':') && !code[..*at].ends_with(':'));
            let fields = single.filter_map(|at| code[..at].rsplit(|c| !is_name(c)).next());
            names.extend(fields.map(|name| (number + 1, name)));
            if is_enum && depth == outer + 4 {
                names.extend(
                    code.split(|c| !is_name(c))
                        .next()
                        .map(|name| (number + 1, name)),
                );
            }
            continue;
        }
        let mut words = code.split(|c: char| c.is_whitespace());
        let mut keyword = None;
        for word in words.by_ref() {
            let is_last = KEYWORDS.contains(&word);
            if is_last || !(word.starts_with("pub") || ["const", "async", "unsafe"].contains(&word))
            {
                keyword = Some(word).filter(|_| is_last);
                break;
            }
        }
        let constant = || {
            let rest = code.split_once("const ")?.1;
            code.starts_with("const ")
                .then_some(rest)
                .or_else(|| code.starts_with("pub").then_some(rest))
        };
        let rest = match keyword {
            Some(_) => words.next(),
            None => constant(),
        };
        if let Some(name) = rest.and_then(|rest| rest.split(|c| !is_name(c)).next()) {
            names.push((number + 1, name));
        }
        if matches!(keyword, Some("struct" | "enum" | "union")) && line.ends_with('{') {
            within = Some((depth, keyword == Some("enum")));
        }
    }
    names
}

#[test]
fn old_words_are_found_where_they_count() {
    let words: Vec<String> =
        private_words("The fate of DeafPeer, `--keep`, keep, is_tame; untamed --keep-going.")
            .into_iter()
            .map(|(_, word, _)| word)
            .collect();
    assert_eq!(words, ["fate", "DeafPeer", "--keep", "is_tame"]);
    let text = "\
// fn said() {}
pub(crate) async fn heard(how: How) -> Told {
    let said = 1;
}
const HOW: u8 = 1;
pub struct Shown {
    /// kept: no field
    pub kept: Vec<a::How>,
    how_many: usize,
}
enum Door {
    Told,
    Open { said: u8 },
}
pub mod news;
";
    let names: Vec<(usize, String)> = vague_names(text)
        .into_iter()
        .map(|(line, name, _)| (line, name))
        .collect();
    let names: Vec<(usize, &str)> = names.iter().map(|(line, name)| (*line, &**name)).collect();
    let expected = [
        (2, "heard"),
        (5, "HOW"),
        (6, "Shown"),
        (8, "kept"),
        (11, "Door"),
        (12, "Told"),
        (13, "said"),
        (15, "news"),
    ];
    assert_eq!(names, expected);
}
