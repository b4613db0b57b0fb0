//! A line typed at the prompt, and what it asks for.

use std::path::PathBuf;

use echoic_core::{
    framing::FramingPair,
    units::{Hex, UnitError},
};

use super::args::Newline;

/// What a typed line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// To be sent.
    Line(String),
    Hex(bool),
    /// Exactly these bytes are to be sent.
    Send(Vec<u8>),
    File(PathBuf),
    Frame(FramingPair),
    Newline(Newline),
    Fin,
    Rst,
    Stat,
    Save(PathBuf),
    Help,
    Quit,
}

/// Every command, for `:help` and for who misspells one.
pub(super) const HELP: &str = "\
:hex on|off          show what comes as hex
:send 00 ff 1b       send exactly these bytes
:file PATH           send a file as it is
:frame F             what one message is: line, chunk, u16be … or IN/OUT
:newline lf|crlf|off what a typed line ends with
:fin                 end our half of the stream (Ctrl-D); the peer can still talk
:rst                 reset the connection and leave
:stat                what went each way so far
:save PATH           write down what was said, into a new file
:q                   quit (q too)
\\q sends q, \\:x sends :x, Ctrl-C clears the line and twice quits";

/// Reads a typed line; the error is a sentence for who typed it.
pub(super) fn read(line: &str, q_quits: bool) -> Result<Typed, String> {
    if let Some(command) = line.strip_prefix(':') {
        return read_command(command.trim());
    }
    if q_quits && line == "q" {
        return Ok(Typed::Quit);
    }
    // One backslash comes off what would mean something else without it, and off that with more of them.
    let bare = line.trim_start_matches('\\');
    let escaped = bare.len() < line.len() && (bare.starts_with(':') || (q_quits && bare == "q"));
    let sent = if escaped { &line[1..] } else { line };
    Ok(Typed::Line(sent.to_owned()))
}

fn read_command(command: &str) -> Result<Typed, String> {
    let (name, rest) = command
        .split_once(char::is_whitespace)
        .unwrap_or((command, ""));
    let rest = rest.trim();
    let path = || match rest {
        "" => Err(format!(":{name} wants the path of a file")),
        path => Ok(PathBuf::from(path)),
    };
    let typed = match name {
        "hex" => Typed::Hex(on_or_off(rest).ok_or(":hex is on or off")?),
        "send" => Typed::Send(hex(rest)?),
        "file" => return path().map(Typed::File),
        "save" => return path().map(Typed::Save),
        "frame" => Typed::Frame(rest.parse().map_err(|error| format!("{error}"))?),
        "newline" => Typed::Newline(newline(rest)?),
        "fin" => Typed::Fin,
        "rst" => Typed::Rst,
        "stat" => Typed::Stat,
        "help" | "h" | "?" => Typed::Help,
        "q" | "quit" => Typed::Quit,
        _ => {
            return Err(format!(
                "there is no :{name}; there are :hex :send :file :frame :newline :fin :rst :stat :save :q :help, \
                 and \\: sends a colon"
            ));
        }
    };
    let takes_nothing = matches!(
        typed,
        Typed::Fin | Typed::Rst | Typed::Stat | Typed::Help | Typed::Quit
    );
    if takes_nothing && !rest.is_empty() {
        return Err(format!(":{name} takes nothing; {rest:?} is left over"));
    }
    Ok(typed)
}

fn on_or_off(word: &str) -> Option<bool> {
    match word {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

fn newline(word: &str) -> Result<Newline, String> {
    match word {
        "lf" | "on" => Ok(Newline::Lf),
        "crlf" => Ok(Newline::Crlf),
        "off" | "none" => Ok(Newline::None),
        _ => Err(":newline is lf, crlf or off".to_owned()),
    }
}

/// Bytes in hexadecimal.
pub(super) fn hex(text: &str) -> Result<Vec<u8>, String> {
    let bytes: Result<Hex, UnitError> = text.parse();
    bytes
        .map(|Hex(bytes)| bytes)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sends(line: &str) -> Option<String> {
        match read(line, true) {
            Ok(Typed::Line(sent)) => Some(sent),
            _ => None,
        }
    }

    #[test]
    fn q_quits_and_can_be_escaped() {
        assert_eq!(read("q", true), Ok(Typed::Quit));
        assert_eq!(sends("\\q").as_deref(), Some("q"));
        assert_eq!(sends("\\\\q").as_deref(), Some("\\q"));
        assert_eq!(sends(" q").as_deref(), Some(" q"));
        assert_eq!(sends("quit").as_deref(), Some("quit"));
        assert_eq!(read("q", false), Ok(Typed::Line("q".into())));
        assert_eq!(read("\\q", false), Ok(Typed::Line("\\q".into())));
    }

    #[test]
    fn colon_starts_a_command_and_can_be_escaped() {
        assert_eq!(read(":hex on", true), Ok(Typed::Hex(true)));
        assert_eq!(read(": stat ", true), Ok(Typed::Stat));
        assert_eq!(
            read(":send 00 ff1B", true),
            Ok(Typed::Send(vec![0, 0xff, 0x1b]))
        );
        assert_eq!(
            read(":file a b.txt", true),
            Ok(Typed::File("a b.txt".into()))
        );
        assert_eq!(
            read(":frame u8/crlf", true),
            Ok(Typed::Frame("u8/crlf".parse().unwrap()))
        );
        assert_eq!(
            read(":frame chunk", true),
            Ok(Typed::Frame("chunk".parse().unwrap()))
        );
        assert_eq!(
            read(":newline off", true),
            Ok(Typed::Newline(Newline::None))
        );
        assert_eq!(sends("\\:hex").as_deref(), Some(":hex"));
        assert_eq!(sends("\\n stays").as_deref(), Some("\\n stays"));
    }

    #[test]
    fn invalid_command_gives_a_reason() {
        for (line, why) in [
            (":foo", ":send :file"),
            (":hex", "on or off"),
            (":send", "invalid bytes \"\": expected pairs"),
            (":send 0", "invalid bytes 0: expected pairs"),
            (":send xy", "invalid bytes xy: expected pairs"),
            (":file", "path"),
            (":frame zip", "invalid framing zip: expected chunk, line"),
            (":fin now", "takes nothing"),
        ] {
            let said = read(line, true).unwrap_err();
            assert!(said.contains(why), "{line}: {said}");
        }
    }

    proptest! {
        /// Whatever is to be sent can be typed: as it is, or with one backslash before it.
        #[test]
        fn every_line_can_be_sent(line in prop_oneof!["\\\\{0,3}(q|:[a-z]{0,3})", ".{0,10}"], q_quits: bool) {
            let as_is = read(&line, q_quits) == Ok(Typed::Line(line.clone()));
            let escaped = read(&format!("\\{line}"), q_quits) == Ok(Typed::Line(line));
            prop_assert!(as_is || escaped);
        }
    }
}
