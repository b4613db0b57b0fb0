//! The commands of the prompt: parses a line that the user typed.

use std::path::PathBuf;

use echoic_core::{
    framing::FramingPair,
    units::{Hex, UnitError},
};

use super::args::Newline;

/// A line typed at the prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Send this line.
    Line(String),
    Hex(bool),
    /// Send exactly these bytes.
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

/// The output of `:help`.
pub(super) const HELP: &str = "\
:hex on|off           show replies in hex, or as text
:send 00 ff 1b        send exactly these bytes
:file PATH            send the contents of a file
:frame FRAMING        set the framing: line, chunk, u16be, ... or IN/OUT
:newline lf|crlf|off  set the end of typed lines
:fin                  shut down the sending side (Ctrl-D); replies still arrive
:rst                  reset the connection and quit
:stat                 show what was sent and received so far
:save PATH            write a transcript to a new file
:q                    quit (q too)
\\q sends q, \\:x sends :x; Ctrl-C clears the line, twice it quits";

/// Parses a typed line. The error is a sentence for the user.
pub(super) fn parse(line: &str, q_quits: bool) -> Result<Command, String> {
    if let Some(command) = line.strip_prefix(':') {
        return parse_command(command.trim());
    }
    if q_quits && line == "q" {
        return Ok(Command::Quit);
    }
    // Remove one backslash where the rest, after any further backslashes, would be a command.
    let bare = line.trim_start_matches('\\');
    let escaped = bare.len() < line.len() && (bare.starts_with(':') || (q_quits && bare == "q"));
    let sent = if escaped { &line[1..] } else { line };
    Ok(Command::Line(sent.to_owned()))
}

fn parse_command(command: &str) -> Result<Command, String> {
    let (name, rest) = command
        .split_once(char::is_whitespace)
        .unwrap_or((command, ""));
    let rest = rest.trim();
    let path = || match rest {
        "" => Err(format!("invalid :{name}: expected the path of a file")),
        path => Ok(PathBuf::from(path)),
    };
    let command = match name {
        "hex" => Command::Hex(on_or_off(rest).ok_or("invalid :hex: expected on or off")?),
        "send" => Command::Send(parse_hex(rest)?),
        "file" => return path().map(Command::File),
        "save" => return path().map(Command::Save),
        "frame" => Command::Frame(rest.parse().map_err(|error| format!("{error}"))?),
        "newline" => Command::Newline(newline(rest)?),
        "fin" => Command::Fin,
        "rst" => Command::Rst,
        "stat" => Command::Stat,
        "help" | "h" | "?" => Command::Help,
        "q" | "quit" => Command::Quit,
        _ => {
            return Err(format!(
                "invalid command :{name}: expected :hex :send :file :frame :newline :fin :rst :stat :save :q or :help; \
                 \\: sends a colon"
            ));
        }
    };
    let takes_no_argument = matches!(
        command,
        Command::Fin | Command::Rst | Command::Stat | Command::Help | Command::Quit
    );
    if takes_no_argument && !rest.is_empty() {
        return Err(format!("invalid :{name} {rest}: expected no argument"));
    }
    Ok(command)
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
        _ => Err("invalid :newline: expected lf, crlf or off".to_owned()),
    }
}

/// Parses bytes in hexadecimal.
pub(super) fn parse_hex(text: &str) -> Result<Vec<u8>, String> {
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
        match parse(line, true) {
            Ok(Command::Line(sent)) => Some(sent),
            _ => None,
        }
    }

    #[test]
    fn q_quits_and_can_be_escaped() {
        assert_eq!(parse("q", true), Ok(Command::Quit));
        assert_eq!(sends("\\q").as_deref(), Some("q"));
        assert_eq!(sends("\\\\q").as_deref(), Some("\\q"));
        assert_eq!(sends(" q").as_deref(), Some(" q"));
        assert_eq!(sends("quit").as_deref(), Some("quit"));
        assert_eq!(parse("q", false), Ok(Command::Line("q".into())));
        assert_eq!(parse("\\q", false), Ok(Command::Line("\\q".into())));
    }

    #[test]
    fn colon_starts_a_command_and_can_be_escaped() {
        assert_eq!(parse(":hex on", true), Ok(Command::Hex(true)));
        assert_eq!(parse(": stat ", true), Ok(Command::Stat));
        assert_eq!(
            parse(":send 00 ff1B", true),
            Ok(Command::Send(vec![0, 0xff, 0x1b]))
        );
        assert_eq!(
            parse(":file a b.txt", true),
            Ok(Command::File("a b.txt".into()))
        );
        assert_eq!(
            parse(":frame u8/crlf", true),
            Ok(Command::Frame("u8/crlf".parse().unwrap()))
        );
        assert_eq!(
            parse(":frame chunk", true),
            Ok(Command::Frame("chunk".parse().unwrap()))
        );
        assert_eq!(
            parse(":newline off", true),
            Ok(Command::Newline(Newline::None))
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
            (":fin now", "expected no argument"),
        ] {
            let error = parse(line, true).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
    }

    proptest! {
        /// Whatever is to be sent can be typed: as it is, or with one backslash before it.
        #[test]
        fn every_line_can_be_sent(line in prop_oneof!["\\\\{0,3}(q|:[a-z]{0,3})", ".{0,10}"], q_quits: bool) {
            let as_is = parse(&line, q_quits) == Ok(Command::Line(line.clone()));
            let escaped = parse(&format!("\\{line}"), q_quits) == Ok(Command::Line(line));
            prop_assert!(as_is || escaped);
        }
    }
}
