//! The programs in `examples/`, each run to its end.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet, error::Error, fs, path::Path, sync::mpsc, thread, time::Duration,
};

#[path = "../examples/embedded_server.rs"]
mod embedded_server;
#[path = "../examples/own_service.rs"]
mod own_service;

/// The `main` of an example.
type Main = fn() -> Result<(), Box<dyn Error>>;

/// Every example, by the name of its file.
const EXAMPLES: [(&str, Main); 2] = [
    ("embedded_server", embedded_server::main),
    ("own_service", own_service::main),
];

/// An example needs milliseconds.
const DEADLINE: Duration = Duration::from_secs(30);

#[test]
fn every_example_runs_to_its_end() {
    for (name, main) in EXAMPLES {
        let (result, results) = mpsc::sync_channel(1);
        thread::spawn(move || result.send(main().map_err(|error| error.to_string())));
        let ran = results
            .recv_timeout(DEADLINE)
            .unwrap_or_else(|why| panic!("{name} panicked or did not end in {DEADLINE:?}: {why}"));
        assert_eq!(ran, Ok(()), "{name}");
    }
}

#[test]
fn no_example_is_left_out() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let files: BTreeSet<String> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    let run = EXAMPLES.map(|(name, _)| format!("{name}.rs"));
    assert_eq!(files, BTreeSet::from(run));
}
