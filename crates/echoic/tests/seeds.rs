//! Runs the inputs in `fuzz/seeds` through the bodies of the fuzz targets, without libFuzzer, so on every compiler.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and may print what it saw"
)]

#[path = "../../../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "there it is a library")]
mod bodies;

use std::{collections::BTreeSet, fs, path::PathBuf};

use bodies::{TARGETS, body};

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz")
        .join(name)
}

/// Returns the file names in a directory, without extension.
fn names(name: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(folder(name)).unwrap();
    entries
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect()
}

#[test]
fn every_seed_passes_its_fuzz_target() {
    for (target, body) in TARGETS {
        let seeds = folder("seeds").join(target);
        let mut count = 0;
        for seed in fs::read_dir(&seeds).unwrap() {
            let seed = seed.unwrap().path();
            // A panic shows the input, not the file name.
            eprintln!("{}", seed.display());
            body(&fs::read(&seed).unwrap());
            count += 1;
        }
        assert!(count >= 5, "{target} has {count} seeds");
    }
}

#[test]
fn every_fuzz_target_has_a_file_seeds_and_a_body() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names("fuzz_targets"), targets);
    assert_eq!(names("seeds"), targets);
    let listed = fs::read_to_string(folder("Cargo.toml")).unwrap();
    assert!(
        targets
            .iter()
            .all(|target| listed.contains(&format!("fuzz_targets/{target}.rs")))
    );
}

#[test]
#[should_panic(expected = "invariant: a target")]
fn unknown_fuzz_target_has_no_body() {
    body("nothing");
}
