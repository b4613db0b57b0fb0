//! `--send` and `--send-hex`: what is to be said, in the order in which it was typed.

use std::{fs::File, io::Read, path::Path};

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Args, Command, FromArgMatches};
use echoic_core::escape;

use super::typed;

/// What `--send` and `--send-hex` say.
#[derive(Clone, Debug, Default)]
pub(super) struct Sends(Vec<Sent>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Sent {
    /// Text with escapes, or `@` and a file.
    Text(String),
    Hex(String),
}

/// What other options call both.
const GROUP: &str = "SENDS";

/// The largest file that can be one message.
const FILE_BYTES_MAX: u64 = 64 << 20;

impl Sends {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bodies of the messages.
    pub(super) fn bodies(&self) -> Result<Vec<Vec<u8>>, String> {
        self.0.iter().map(Sent::body).collect()
    }
}

impl Sent {
    fn body(&self) -> Result<Vec<u8>, String> {
        match self {
            Self::Hex(digits) => typed::hex(digits).map_err(|why| format!("--send-hex: {why}")),
            Self::Text(text) => match text.strip_prefix('@') {
                Some(path) => read(Path::new(path)).map_err(|why| format!("--send {text}: {why}")),
                None => escape::parse(text).map_err(|why| format!("--send {text}: {why}")),
            },
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    let taken = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    taken.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err("the file is larger than 64 MiB; send it through a pipe".to_owned());
    }
    Ok(bytes)
}

/// Two options in one list, which the derived form has no way to say.
impl Args for Sends {
    fn augment_args(command: Command) -> Command {
        let send = Arg::new("send")
            .long("send")
            .value_name("TEXT|@FILE")
            .help("Say this message and, after all of them, end our half; \\n, \\x00 … as escapes, \\x40 for a first @")
            .action(ArgAction::Append)
            .allow_hyphen_values(true);
        let send_hex = Arg::new("send_hex")
            .long("send-hex")
            .value_name("HEX")
            .help("The same with its bytes in hexadecimal: 0d0a, 0x0d0a, 0d:0a or '0d 0a'")
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

impl FromArgMatches for Sends {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let of = |id, sent: fn(String) -> Sent| {
            let values = matches.get_many::<String>(id).into_iter().flatten();
            let addresses = matches.indices_of(id).into_iter().flatten();
            addresses.zip(values.map(move |value| sent(value.clone())))
        };
        let mut all: Vec<_> = of("send", Sent::Text)
            .chain(of("send_hex", Sent::Hex))
            .collect();
        all.sort_by_key(|(address, _)| *address);
        Ok(Self(all.into_iter().map(|(_, sent)| sent).collect()))
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
    struct Typed {
        #[command(flatten)]
        sends: Sends,
    }

    fn bodies(words: &[&str]) -> Result<Vec<Vec<u8>>, String> {
        let words = std::iter::once(&"connect").chain(words);
        Typed::try_parse_from(words).unwrap().sends.bodies()
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
        let typed = format!("@{}", path.display());
        assert_eq!(
            bodies(&["--send", &typed]).unwrap(),
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
            let said = bodies(&words).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }
}
