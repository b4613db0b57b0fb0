//! The scripts with a `cargo` that only prints, so that nothing is built.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Output, Stdio},
};

use super::root;

/// Runs `script` with a `cargo` that is this shell script. Standard error goes to a file that has a line already.
fn with_cargo(cargo: &str, script: &[&str], ci: bool) -> (Output, String) {
    let folder = tempfile::tempdir().unwrap();
    let fake = folder.path().join("cargo");
    fs::write(&fake, format!("#!/bin/sh\n{cargo}\n")).unwrap();
    fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
    let errors = folder.path().join("errors");
    fs::write(&errors, "written before\n").unwrap();
    let log = fs::File::options().append(true).open(&errors).unwrap();
    let path = format!("{}:{}", folder.path().display(), env!("PATH"));
    let mut command = Command::new(root().join("scripts").join(script[0]));
    command
        .args(&script[1..])
        .env("PATH", path)
        .env_remove("CI");
    if ci {
        command.env("CI", "true");
    }
    let ran = command.stdin(Stdio::null()).stderr(log).output().unwrap();
    (ran, fs::read_to_string(errors).unwrap())
}

/// A test run of three tests, one of which could not run here.
const ONE_SKIPPED: &str = r#"case $1 in test)
    echo "test b ... skipped test: b: no IPv6 here" >&2
    echo "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out" ;;
esac"#;

#[test]
fn summary_of_the_tests_counts_skips() {
    let last_line = |cargo| {
        let (ran, errors) = with_cargo(cargo, &["test", "fast"], false);
        assert!(ran.status.success(), "{ran:?} {errors}");
        let out = String::from_utf8(ran.stdout).unwrap();
        out.lines().last().unwrap().to_owned()
    };
    // Two calls of `cargo test`.
    assert_eq!(last_line(ONE_SKIPPED), "4 passed, 0 failed, 2 skipped");
    let all = ONE_SKIPPED.replace("skipped test", "ok");
    assert_eq!(last_line(&all), "6 passed, 0 failed");
}

#[test]
fn scripts_retain_a_redirected_log() {
    let (ran, errors) = with_cargo(ONE_SKIPPED, &["deep", "kill", "1"], false);
    assert!(ran.status.success(), "{ran:?} {errors}");
    assert!(errors.starts_with("written before\n"), "{errors}");
    assert_eq!(errors.matches("test result: ok. 3").count(), 2, "{errors}");
    // A name without a test must not pass.
    let none = ONE_SKIPPED.replace("3 passed", "0 passed");
    let (ran, errors) = with_cargo(&none, &["deep", "kill", "1"], false);
    assert!(!ran.status.success(), "{errors}");
    for script in fs::read_dir(root().join("scripts")).unwrap() {
        let path = script.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in (1..)
            .zip(text.lines())
            .filter(|(_, line)| !line.trim_start().starts_with('#'))
        {
            assert!(
                !line.contains("/dev/stderr") && !line.contains("/dev/stdout"),
                "{}:{number} opens the file that its output goes to, which truncates it: use >&2",
                path.display()
            );
        }
    }
}

#[test]
fn licences_are_checked_without_a_network_and_advisories_are_skipped_aloud() {
    let offline = "case \"$*\" in *fetch*) exit 1 ;; *advisories*) exit 9 ;; esac";
    let (ran, errors) = with_cargo(offline, &["deep", "deny"], false);
    assert!(ran.status.success(), "{errors}");
    assert!(
        errors.contains("skipped: deny has not looked at the advisories"),
        "{errors}"
    );
    let (ran, errors) = with_cargo(offline, &["deep", "deny"], true);
    assert!(!ran.status.success(), "{errors}");
    let not_installed =
        "case \"$*\" in *--version*) exit 1 ;; install*) exit 101 ;; *check*) exit 9 ;; esac";
    let (ran, errors) = with_cargo(not_installed, &["deep", "deny"], false);
    assert!(ran.status.success(), "{errors}");
    assert!(
        errors.contains("skipped: deny needs cargo-deny"),
        "{errors}"
    );
    for broken in ["*licenses*", "*advisories*"] {
        let cargo = format!("case \"$*\" in {broken}) exit 1 ;; esac");
        let (ran, errors) = with_cargo(&cargo, &["deep", "deny"], false);
        assert!(
            !ran.status.success() && !errors.contains("skipped"),
            "{errors}"
        );
    }
}
