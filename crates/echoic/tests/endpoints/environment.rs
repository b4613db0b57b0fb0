//! The variables `ECHOIC_*`.

use std::{collections::BTreeSet, fs, path::Path};

use crate::harness::{Home, Ran, Serve, run};

fn with(home: &Home, variable: (&str, &str), args: &[&str]) -> Ran {
    run(home.echoic(args).env(variable.0, variable.1), b"")
}

#[test]
fn variable_that_does_not_apply_is_ignored() {
    let serve = Serve::start(&[
        "upper=udp://127.0.0.1:0",
        "upper=unixgram:./g.sock",
        "upper=:0",
    ]);
    let home = &serve.home;
    let frame = ("ECHOIC_FRAME", "u8");
    let udp = format!("udp://{}", serve.at[0]);
    for endpoint in [&*udp, "unixgram:./g.sock"] {
        with(
            home,
            frame,
            &["connect", endpoint, "--send", "hi", "--expect", "/^HI$/"],
        )
        .good();
        let bench = [
            "bench",
            endpoint,
            "-n",
            "5",
            "-q",
            "--no-floor",
            "--warmup",
            "0",
        ];
        let quiet = with(home, frame, &bench);
        assert!(!quiet.err.contains("does not apply"), "{quiet:?}");
        quiet.good();
        let words = bench.iter().copied().filter(|word| *word != "-q");
        let words: Vec<&str> = words.chain(["--frame", "u8"]).collect();
        let told = home.run(&words);
        assert!(told.err.contains("--frame does not apply"), "{told:?}");
        told.good();
        with(home, frame, &["probe", endpoint]).good();
        let given = home.run(&["connect", endpoint, "--send", "hi", "--frame", "u8"]);
        assert!(given.err.contains("--frame does not apply"), "{given:?}");
        given.good();
    }
    let tcp = serve.at[serve.at.len() - 1].to_string();
    let bench = [
        "bench",
        &*tcp,
        "-n",
        "5",
        "-q",
        "--no-floor",
        "--warmup",
        "0",
    ];
    with(home, ("ECHOIC_STORE", "./elsewhere.db"), &bench).good();
    let mut server = home.echoic(&["serve", "udp://127.0.0.1:0", "--once"]);
    let ran = run(server.env("ECHOIC_FRAME", "line"), b"");
    assert!(!ran.err.contains("does not apply"), "{ran:?}");
}

#[test]
fn wrong_variable_is_named() {
    let home = Home::new();
    for (variable, value, args, why) in [
        (
            "ECHOIC_FRAME",
            "lines",
            &["connect", ":9"][..],
            "invalid framing lines",
        ),
        (
            "ECHOIC_FRAME",
            "lines",
            &["bench", ":9"],
            "invalid framing lines",
        ),
        (
            "ECHOIC_FRAME",
            "lines",
            &["serve", ":0"],
            "invalid framing lines",
        ),
        ("ECHOIC_AS", "uper", &["serve", ":0"], "uper"),
        (
            "ECHOIC_DURABILITY",
            "very",
            &["serve", ":0"],
            "invalid durability very",
        ),
        ("ECHOIC_RETENTION", "soon", &["serve", ":0"], "soon"),
        ("ECHOIC_LOG", "a=b=c", &["limits", "--json"], "a=b=c"),
    ] {
        let ran = with(&home, (variable, value), args);
        assert!(ran.err.contains(&format!("{variable}: ")), "{ran:?}");
        assert!(ran.err.contains(why), "{ran:?}");
        // An option comes first, and is then the one to blame.
        if variable == "ECHOIC_FRAME" {
            let both = [args, &["--frame", "wrong"]].concat();
            let ran = with(&home, (variable, value), &both);
            assert!(
                ran.err.contains("--frame: invalid framing wrong"),
                "{ran:?}"
            );
        }
    }
}

/// Every name like `ECHOIC_STORE` in `text`.
fn variables(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| {
            word.strip_prefix("ECHOIC_")
                .is_some_and(|rest| !rest.is_empty())
        })
        .map(str::to_owned)
        .collect()
}

fn variables_of_sources(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            variables_of_sources(&entry.path(), found);
        } else {
            found.extend(variables(&fs::read_to_string(entry.path()).unwrap()));
        }
    }
}

#[test]
fn every_variable_is_in_the_help_and_the_readme() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = BTreeSet::new();
    variables_of_sources(&package.join("src"), &mut all);
    assert!(all.len() >= 6, "{all:?}");
    let home = Home::new();
    assert_eq!(variables(&home.run(&["--help"]).good()), all);
    let readme = fs::read_to_string(package.join("../../README.md")).unwrap();
    assert_eq!(variables(&readme), all);
    // Each command lists its own.
    for (command, own) in [
        (
            "serve",
            &[
                "AS",
                "CONFIG",
                "CONSOLE",
                "DURABILITY",
                "FRAME",
                "HEALTH",
                "ON",
                "PASSWORD",
                "RETENTION",
                "STORE",
                "TOKEN",
            ][..],
        ),
        ("connect", &["CONFIG", "FRAME"]),
        ("bench", &["CONFIG", "FRAME", "STORE"]),
        ("log", &["CONFIG", "STORE"]),
    ] {
        let own: BTreeSet<String> = own.iter().map(|name| format!("ECHOIC_{name}")).collect();
        assert_eq!(
            variables(&home.run(&[command, "--help"]).good()),
            own,
            "{command}"
        );
    }
}
