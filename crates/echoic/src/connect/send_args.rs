//! `--send` and `--send-hex`: the messages to send, in the order of the command line.

use std::{fs::File, io::Read, path::Path};

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Args, Command, FromArgMatches};
use echoic_core::escape;

use super::command;

/// The values of `--send` and `--send-hex`.
#[derive(Clone, Debug, Default)]
pub(crate) struct SendArgs(Vec<SendArg>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum SendArg {
    /// Text with escapes, or `@` and the path of a file.
    Text(String),
    Hex(String),
}

/// The argument group of both options, for `requires` of others.
const GROUP: &str = "SENDS";

/// Largest file that is sent as one message.
const FILE_BYTES_MAX: u64 = 64 << 20;

impl SendArgs {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the bodies of the messages. Reads the files.
    pub(crate) fn bodies(&self) -> Result<Vec<Vec<u8>>, String> {
        self.0.iter().map(SendArg::body).collect()
    }
}

impl SendArg {
    fn body(&self) -> Result<Vec<u8>, String> {
        match self {
            Self::Hex(digits) => {
                command::parse_hex(digits).map_err(|error| format!("--send-hex: {error}"))
            }
            Self::Text(text) => match text.strip_prefix('@') {
                Some(path) => {
                    read(Path::new(path)).map_err(|error| format!("--send {text}: {error}"))
                }
                None => escape::parse(text).map_err(|error| format!("--send {text}: {error}")),
            },
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err("the file is larger than 64 MiB; send it through a pipe".to_owned());
    }
    Ok(bytes)
}

/// Written by hand, since clap's derive cannot collect two options into one ordered list.
impl Args for SendArgs {
    fn augment_args(command: Command) -> Command {
        let send = Arg::new("send")
            .long("send")
            .value_name("TEXT|@FILE")
            .help("Send this message. Escapes: \\n, \\x00; \\x40 for a leading @. May be repeated")
            .action(ArgAction::Append)
            .allow_hyphen_values(true);
        let send_hex = Arg::new("send_hex")
            .long("send-hex")
            .value_name("HEX")
            .help("Send these bytes, like --send: 0d0a, 0x0d0a, 0d:0a or '0d 0a'")
            .action(ArgAction::Append);
        let sends = ArgGroup::new(GROUP)
            .args(["send", "send_hex"])
            .multiple(true);
        command.arg(send).arg(send_hex).group(sends)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SendArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let of = |id, variant: fn(String) -> SendArg| {
            let values = matches.get_many::<String>(id).into_iter().flatten();
            let indices = matches.indices_of(id).into_iter().flatten();
            indices.zip(values.map(move |value| variant(value.clone())))
        };
        let mut all: Vec<_> = of("send", SendArg::Text)
            .chain(of("send_hex", SendArg::Hex))
            .collect();
        all.sort_by_key(|(index, _)| *index);
        Ok(Self(all.into_iter().map(|(_, arg)| arg).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        sends: SendArgs,
    }

    fn bodies(words: &[&str]) -> Result<Vec<Vec<u8>>, String> {
        let words = std::iter::once(&"connect").chain(words);
        CommandLine::try_parse_from(words).unwrap().sends.bodies()
    }

    #[test]
    fn sends_keep_the_order_typed() {
        let words = [
            "--send",
            "a\\n",
            "--send-hex",
            "00 ff",
            "--send=-b",
            "--send-hex",
            "01",
        ];
        assert_eq!(
            bodies(&words).unwrap(),
            [&b"a\n"[..], &[0, 0xff], b"-b", &[1]]
        );
        assert!(bodies(&[]).unwrap().is_empty());
    }

    #[test]
    fn file_is_sent_as_one_message() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("message");
        std::fs::write(&path, b"\\n is not an escape here").unwrap();
        let arg = format!("@{}", path.display());
        assert_eq!(
            bodies(&["--send", &arg]).unwrap(),
            [b"\\n is not an escape here"]
        );
        assert!(
            bodies(&["--send", "@/nowhere/at/all"])
                .unwrap_err()
                .contains("/nowhere")
        );
        assert_eq!(bodies(&["--send", "\\x40at"]).unwrap(), [b"@at"]);
    }

    #[test]
    fn invalid_send_gives_a_reason() {
        for (words, why) in [
            (["--send", "\\q"], "--send \\q"),
            (["--send-hex", "0"], "pairs"),
        ] {
            let error = bodies(&words).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
