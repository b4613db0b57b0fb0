//! The program under trial.

use std::{env, fs, path::PathBuf, time::SystemTime};

/// Returns the path of program `name` of this workspace, as built in the profile of the calling test.
///
/// # Panics
///
/// If it does not exist, or is older than its sources: the result would not be true of the sources.
pub fn program(name: &str) -> PathBuf {
    let test = env::current_exe().expect("a test knows where it is");
    let folder = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST");
    let program = folder.join(name);
    let advice = format!("build it first, in the profile of this test: cargo build -p {name}");
    let built =
        modified(&program).unwrap_or_else(|| panic!("there is no {}: {advice}", program.display()));
    // Beside a program cargo writes `program: source source …`, with spaces in a name escaped.
    let made_of = fs::read_to_string(program.with_extension("d")).unwrap_or_default();
    let sources = made_of.split_once(": ").map_or("", |(_, sources)| sources);
    for source in sources.replace("\\ ", "\0").split_whitespace() {
        let source = PathBuf::from(source.replace('\0', " "));
        assert!(
            modified(&source).is_none_or(|changed| changed <= built),
            "{} is older than {}: {advice}",
            program.display(),
            source.display()
        );
    }
    program
}

fn modified(path: &PathBuf) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}
