//! The command line of this process, quoted for a shell, so that a run can be repeated.

use std::{borrow::Cow, env};

/// Returns the arguments of this process, quoted for a POSIX shell, after the word `echoic`.
pub(super) fn line() -> String {
    let args = env::args_os().skip(1);
    let args = args.map(|word| word.to_string_lossy().into_owned());
    let words = args.map(|word| quoted(&word).into_owned());
    let words: Vec<_> = ["echoic".to_owned()].into_iter().chain(words).collect();
    words.join(" ")
}

/// Quotes a word if the shell would change it.
fn quoted(word: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', r"'\''")).into()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn quoted_words_survive_a_shell() {
        let words = [
            "a b", "", "it's", "$HOME", "*", "p99<5ms", ":5000", "--frame", "\\", "a\nb", "straße",
            "~",
        ];
        let quoted: Vec<_> = words.iter().map(|word| quoted(word)).collect();
        let script = format!("printf '%s\\0' {}", quoted.join(" "));
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        let back = String::from_utf8(output.stdout).unwrap();
        let back: Vec<_> = back.trim_end_matches('\0').split('\0').collect();
        assert_eq!(back, words);
        assert_eq!(quoted[6], ":5000");
    }
}
