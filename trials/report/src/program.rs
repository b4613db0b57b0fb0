//! The program under trial.

use std::{
    collections::HashMap,
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

/// Environment variable by which `scripts/test` says that this `cargo test` has built all programs of the workspace, so that
/// they need not be built a second time, with the features of their package alone.
const BUILT: &str = "TRIALS_PROGRAMS_ARE_BUILT";

/// Returns the path of program `name` of this workspace, built from the present sources in the profile of the calling
/// test. `cargo test` builds the programs of the tested package only, so an old one may lie there. If nothing has changed,
/// cargo finds that out within a second.
///
/// # Panics
///
/// If it cannot be built: an old program would prove nothing about the sources.
pub fn program(name: &str) -> PathBuf {
    static FOUND: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);
    let mut built = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    let built = built.get_or_insert_default();
    if let Some(path) = built.get(name) {
        return path.clone();
    }
    let test = env::current_exe().expect("a test knows where it is");
    let path = if env::var_os(BUILT).is_some() {
        beside(&test, name)
    } else {
        build(name, profile(&test))
    };
    built.insert(name.to_owned(), path.clone());
    path
}

/// Returns the program that was built with the test.
fn beside(test: &Path, name: &str) -> PathBuf {
    let folder = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST");
    let program = folder.join(name);
    assert!(
        program.exists(),
        "{BUILT} is set, and there is no {}",
        program.display()
    );
    program
}

/// Returns the profile of a test from its path, `target/PROFILE/deps/TEST`.
fn profile(test: &Path) -> &str {
    let folder = test.ancestors().nth(2).and_then(Path::file_name);
    let folder = folder.and_then(|name| name.to_str());
    match folder.expect("target/PROFILE/deps/TEST") {
        "debug" => "dev",
        other => other,
    }
}

/// Has cargo build the program, and returns the path that cargo names.
fn build(name: &str, profile: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut command = Command::new(env!("CARGO"));
    command.args(["build", "--locked", "--profile", profile, "--package", name]);
    command.args(["--bin", name, "--message-format", "json-render-diagnostics"]);
    let done = command.current_dir(root).output();
    let done = done.unwrap_or_else(|why| panic!("cargo cannot be run to build {name}: {why}"));
    let messages = String::from_utf8_lossy(&done.stdout);
    let path = messages.lines().find_map(|line| executable(line, name));
    path.filter(|_| done.status.success()).unwrap_or_else(|| {
        let errors = String::from_utf8_lossy(&done.stderr);
        panic!("{name} cannot be built, so that there is nothing to try:\n{errors}")
    })
}

/// Returns the path of the program if a message of cargo tells that it was built.
fn executable(message: &str, name: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let is_ours = message["reason"] == "compiler-artifact" && message["target"]["name"] == name;
    let path = message["executable"].as_str().filter(|_| is_ours)?;
    Some(path.into())
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use super::*;

    /// Regression: `cargo test -p trials-crash` alone tried whatever program was there.
    #[test]
    fn program_is_built_from_the_present_sources() {
        // A source of the smallest program: cargo goes by the time of a change.
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/main.rs");
        let name = "trials-report";
        let test = env::current_exe().unwrap();
        let first = build(name, profile(&test));
        let built = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
        let before = built(&first);
        std::thread::sleep(Duration::from_millis(20));
        let file = fs::File::options().append(true).open(&source).unwrap();
        file.set_modified(std::time::SystemTime::now()).unwrap();
        let second = build(name, profile(&test));
        assert_eq!(first, second);
        assert!(built(&second) > before, "it was not built again");
        assert_eq!(build(name, profile(&test)), first);
    }

    #[test]
    #[should_panic(expected = "cannot be built")]
    fn program_that_cannot_be_built_is_refused() {
        build("trials-nothing", "dev");
    }

    #[test]
    #[should_panic(expected = "there is no /x/target/debug/echoic")]
    fn program_that_is_said_to_be_built_and_is_not_there_is_refused() {
        beside(Path::new("/x/target/debug/deps/t-1"), "echoic");
    }

    #[test]
    fn profile_is_that_of_the_test() {
        let of = |path| profile(Path::new(path)).to_owned();
        assert_eq!(of("/x/target/debug/deps/t-1"), "dev");
        assert_eq!(of("/x/target/release/deps/t-1"), "release");
        assert_eq!(
            of("/x/target/aarch64-unknown-linux-gnu/dist/deps/t-1"),
            "dist"
        );
    }
}
