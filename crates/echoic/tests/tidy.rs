//! Project rules that no compiler checks: crate layers, sizes, links, words. Each failure message contains the remedy.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "tidy/names.rs"]
mod names;
#[path = "tidy/scripts.rs"]
mod scripts;
#[path = "tidy/words.rs"]
mod words;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// The crates of each layer, from the lowest. A crate may depend on the crates of lower layers, and on none of its own
/// layer.
const FLOORS: [&[&str]; 4] = [
    &["echoic-core", "echoic-plot"],
    &[
        "echoic-wire",
        "echoic-recorder",
        "echoic-store",
        "echoic-nats",
    ],
    &[
        "echoic-service",
        "echoic-server",
        "echoic-client",
        "echoic-console",
    ],
    &["echoic"],
];

/// Libraries whose use is confined, with the crates that may use them.
const ONE_PLACE: [(&str, &[&str]); 8] = [
    (
        "tokio",
        &[
            "echoic-wire",
            "echoic-recorder",
            // For its connections to PostgreSQL.
            "echoic-store",
            "echoic-nats",
            "echoic-server",
            "echoic-client",
            "echoic-console",
            "echoic",
        ],
    ),
    ("socket2", &["echoic-wire"]),
    ("async-nats", &["echoic-nats"]),
    ("rusqlite", &["echoic-store"]),
    ("tokio-postgres", &["echoic-store"]),
    ("kuva", &["echoic-plot"]),
    ("axum", &["echoic-console"]),
    ("clap", &["echoic"]),
];

const FUNCTION_LINES_MAX: usize = 70;

/// Functions that may be longer, `file: name`, and why.
const LONG_FUNCTIONS: [(&str, &str); 0] = [];

const FILE_LINES_MAX: usize = 600;

/// Files that may be longer, with the reason.
const LONG_FILES: [(&str, &str); 0] = [];

#[test]
fn crates_depend_only_on_lower_floors() {
    let floors = (0..).zip(FLOORS);
    let floors: BTreeMap<&str, usize> = floors
        .flat_map(|(floor, crates)| crates.iter().map(move |name| (*name, floor)))
        .collect();
    let dependencies = dependencies();
    for (name, known) in &dependencies {
        let floor = floors.get(name.as_str()).unwrap_or_else(|| {
            panic!("{name} has no floor: give it one in FLOORS (here) and in ARCHITECTURE.md")
        });
        for other in known.iter().filter(|other| other.starts_with("echoic")) {
            assert!(
                floors
                    .get(other.as_str())
                    .is_some_and(|below| below < floor),
                "{name} depends on {other}, which is not on a floor below it: \
                 move what both need down to echoic-core, or have the program (crates/echoic) bring them together"
            );
        }
        for (library, users) in ONE_PLACE {
            assert!(
                !known.contains(library) || users.contains(&name.as_str()),
                "{name} depends on {library}, which only {users:?} may use: do the work there, or move the file"
            );
        }
    }
    for name in floors.keys() {
        assert!(
            dependencies.contains_key(*name),
            "{name} is gone: take it out of FLOORS and ARCHITECTURE.md"
        );
    }
}

/// All other code holds `Arc<dyn Store>`.
#[test]
fn only_store_url_names_a_store() {
    let stores = ["echoic_store", "SqliteStore", "SqliteReader", "MemoryStore"];
    for (path, text) in sources() {
        let may =
            path.starts_with("crates/echoic-store/") || path == "crates/echoic/src/store_url.rs";
        let named = stores.into_iter().find(|store| text.contains(store));
        assert!(
            may || named.is_none(),
            "{path} names {named:?}: hold Arc<dyn Store>, and open it in crates/echoic/src/store_url.rs"
        );
    }
}

#[test]
fn functions_stay_below_the_line_limit() {
    let mut too_long = Vec::new();
    let mut excused = BTreeSet::new();
    for (path, text) in sources() {
        for (name, line, lines) in functions(&text) {
            let known = format!("{path}: {name}");
            if lines <= FUNCTION_LINES_MAX {
                continue;
            }
            if LONG_FUNCTIONS.iter().any(|(long, _)| *long == known) {
                excused.insert(known);
            } else {
                too_long.push(format!("{path}:{line}: {name} has {lines} lines"));
            }
        }
    }
    assert!(
        too_long.is_empty(),
        "functions of more than {FUNCTION_LINES_MAX} lines: move the work, not the decisions, into helpers; \
         or give the reason in LONG_FUNCTIONS (here)\n{}",
        too_long.join("\n")
    );
    for (long, _) in LONG_FUNCTIONS {
        assert!(
            excused.contains(long),
            "{long} is short now: take it out of LONG_FUNCTIONS (here)"
        );
    }
}

#[test]
fn files_stay_below_the_line_limit() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        let excused = LONG_FILES.iter().any(|(long, _)| *long == path);
        assert!(
            lines <= FILE_LINES_MAX || excused,
            "{path} has {lines} lines: divide it by the nouns in it, or give the reason in LONG_FILES (here)"
        );
        assert!(
            lines > FILE_LINES_MAX || !excused,
            "{path} is short now: take it out of LONG_FILES (here)"
        );
    }
}

#[test]
fn no_unfinished_markers_remain() {
    let unfinished = ["todo!", "unimplemented!", "FIXME", "TODO", "XXX"];
    for (path, text) in tracked() {
        if !is_code(&path) || path == this_file() {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            for word in unfinished {
                assert!(
                    !line.contains(word),
                    "{path}:{}: {word}: finish it, or leave it out and say so in docs/out-of-scope.md",
                    number + 1
                );
            }
        }
    }
}

#[test]
fn test_code_in_a_shipped_file_is_in_a_module_of_its_own() {
    for (path, text) in sources() {
        let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
        for (number, two) in lines.windows(2).enumerate() {
            let is_module = ["mod ", "pub(super) mod ", "#[path"]
                .iter()
                .any(|opening| two[1].starts_with(opening));
            assert!(
                two[0] != "#[cfg(test)]" || is_module,
                "{path}:{}: test code amid shipped code: move it into a `mod tests`, or have the test plant it from \
                 outside, in what the code is given",
                number + 1
            );
        }
    }
}

#[test]
fn libraries_do_not_print() {
    let printing = [
        "println!",
        "print!(",
        "eprintln!",
        "eprint!(",
        "dbg!(",
        "stdout()",
        "stderr()",
    ];
    for (path, text) in sources() {
        if path.starts_with("crates/echoic/") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for word in printing {
                assert!(
                    !code.contains(word),
                    "{path}:{}: {word}: a library returns values and errors, or logs with tracing; \
                     crates/echoic/src/term.rs prints",
                    number + 1
                );
            }
        }
    }
}

#[test]
fn every_page_is_linked_and_every_link_resolves() {
    let pages: BTreeMap<String, String> = tracked()
        .into_iter()
        .filter(|(path, _)| path.rsplit('.').next() == Some("md"))
        .collect();
    let maps = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"];
    let mut mapped = BTreeSet::new();
    for (page, text) in &pages {
        for target in links(text) {
            let path = resolve(page, target);
            assert!(
                root().join(&path).exists(),
                "{page} links to {target}, and {path} does not exist: correct the link or write the page"
            );
            if maps.contains(&page.as_str()) {
                mapped.insert(path);
            }
        }
    }
    for page in pages.keys().filter(|page| page.starts_with("docs/")) {
        assert!(
            mapped.contains(page),
            "{page} cannot be found: link it from one of {maps:?}"
        );
    }
}

/// A page is compiled where a library takes it in as documentation of its own, for doctests alone.
#[test]
fn rust_in_pages_is_compiled() {
    let (pages, code): (Vec<_>, Vec<_>) = tracked()
        .into_iter()
        .partition(|(path, _)| path.rsplit('.').next() == Some("md"));
    let mut compiled = BTreeSet::new();
    for (path, text) in code.iter().filter(|(path, _)| is_rust(path)) {
        let attributes = text.split("doc = include_str!(\"").skip(1);
        let pages = attributes.filter_map(|rest| rest.split('"').next());
        compiled.extend(pages.map(|page| resolve(path, page)));
    }
    for (page, text) in &pages {
        let fences = text.lines().map(str::trim_start);
        let rust: Vec<&str> = fences.filter(|line| line.starts_with("```rust")).collect();
        assert!(
            rust.is_empty() || compiled.contains(page),
            "{page} has Rust that is not compiled: add `#[cfg(doctest)] #[doc = include_str!(\"…/{page}\")]` to the \
             lib.rs of the crate that fits, or mark the block as text and say why"
        );
        assert!(
            rust.iter().all(|fence| !fence.contains("ignore")),
            "{page} has Rust that is ignored: make it compile, or mark the block as text and say why"
        );
    }
}

#[test]
fn every_crate_can_be_published() {
    for package in metadata()["packages"].as_array().unwrap() {
        let manifest = Path::new(package["manifest_path"].as_str().unwrap());
        let folder = manifest.parent().unwrap();
        if !folder.starts_with(root().join("crates")) {
            continue;
        }
        for key in ["description", "license", "readme", "keywords", "categories"] {
            assert!(
                !package[key].is_null(),
                "{}: {key} is missing: see the other crates",
                manifest.display()
            );
        }
        for file in ["README.md", "LICENSE-MIT", "LICENSE-APACHE"] {
            assert!(
                folder.join(file).is_file(),
                "{}: {file} is missing: the packaged crate needs it (a link to the one at the root will do)",
                folder.display()
            );
        }
    }
}

#[test]
fn files_named_in_pages_exist() {
    for (page, text) in tracked() {
        if page.rsplit('.').next() != Some("md") {
            continue;
        }
        for word in text.split('`').skip(1).step_by(2) {
            let is_path = ["crates/", "docs/", "scripts/", "bench/", "fuzz/", "trials/"]
                .iter()
                .any(|folder| word.starts_with(folder));
            let path = word.split([' ', ':']).next().unwrap_or_default();
            // A placeholder (`crates/echoic-service/src/NAME.rs`) names no file.
            let is_pattern = path.contains(['*', '<', '{', '…']) || path.contains("NAME");
            let is_made = ["bench/results", "fuzz/artifacts"].contains(&path.trim_end_matches('/'));
            assert!(
                !is_path || is_pattern || is_made || root().join(path).exists(),
                "{page} names `{word}`, and {path} does not exist: correct the page"
            );
        }
    }
}

#[test]
fn no_file_contains_an_absolute_path() {
    let here = root().display().to_string();
    let homes = ["/home/", "/root/", "/Users/"];
    for (path, text) in tracked() {
        if path == this_file() {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let home = homes.iter().find(|home| line.contains(**home));
            // A checkout at `/src` would be found everywhere.
            let ours = here.matches('/').count() > 1 && line.contains(&here);
            assert!(
                home.is_none() && !ours,
                "{path}:{}: an absolute path on one machine: make it relative to the checkout",
                number + 1
            );
        }
    }
}

#[test]
fn cargo_run_starts_echoic() {
    let metadata = metadata();
    let default = metadata["workspace_default_members"].as_array().unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let run = packages
        .iter()
        .filter(|package| default.contains(&package["id"]));
    let targets = run.flat_map(|package| package["targets"].as_array().unwrap());
    let programs: Vec<_> = targets
        .filter(|target| target["kind"][0] == "bin")
        .map(|target| &target["name"])
        .collect();
    assert_eq!(
        programs,
        ["echoic"],
        "the README says `cargo run`: keep other programs out of default-members in Cargo.toml"
    );
}

#[test]
fn readme_commands_exist() {
    let readme = read("README.md");
    assert!(
        readme.contains("cargo run --release -- serve") && readme.contains("scripts/test"),
        "README.md no longer shows how to run and how to test: one command each"
    );
    let mut verbs = BTreeSet::new();
    for line in blocks(&readme) {
        let command = line.split(" #").next().unwrap_or_default();
        let mut words = command.split_whitespace().skip_while(|word| *word == "$");
        match words.next() {
            Some("echoic") => check_call(words, &mut verbs),
            Some("cargo") if command.contains(" -- ") => {
                check_call(words.skip_while(|word| *word != "--").skip(1), &mut verbs);
            }
            Some(script) if script.starts_with("scripts/") => assert!(
                is_executable(&root().join(script)),
                "README.md calls {script}, which is not there or cannot be run"
            ),
            _ => {}
        }
    }
    assert!(
        verbs.contains("serve") && verbs.contains("connect"),
        "README.md shows {verbs:?} only: show serve and connect at least"
    );
}

/// Asserts that the program has the verb and the options of a command in the README.
fn check_call<'a>(words: impl Iterator<Item = &'a str>, verbs: &mut BTreeSet<String>) {
    let words: Vec<_> = words
        .take_while(|word| !matches!(*word, "|" | "<" | ">" | "&"))
        .collect();
    let Some((verb, words)) = words.split_first() else {
        return;
    };
    // The verbs of `log` have options of their own.
    let of_log = words.first().filter(|_| *verb == "log");
    let of_log = of_log.filter(|word| matches!(**word, "wait" | "tag" | "note" | "delete"));
    let help = Command::new(env!("CARGO_BIN_EXE_echoic"))
        .arg(verb)
        .args(of_log)
        .arg("--help")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&help.stdout);
    assert!(
        help.status.success(),
        "README.md calls `echoic {verb}`, and there is no such command"
    );
    for option in words.iter().filter(|word| word.starts_with("--")) {
        let name = option.split('=').next().unwrap_or_default();
        assert!(
            text.contains(name),
            "README.md calls `echoic {verb} {name}`, and {verb} has no such option"
        );
    }
    verbs.insert((*verb).to_owned());
}

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    root.expect("a crate two folders down").to_owned()
}

fn this_file() -> &'static str {
    "crates/echoic/tests/tidy.rs"
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|why| panic!("{path}: {why}"))
}

/// Every text file that is in the repository or about to be, with what is in it.
fn tracked() -> Vec<(String, String)> {
    let listed = Command::new("git")
        // The checkout may belong to another user.
        .args(["-c", "safe.directory=*", "ls-files", "-z"])
        .args(["--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git is there");
    assert!(
        listed.status.success(),
        "git ls-files: {}",
        String::from_utf8_lossy(&listed.stderr)
    );
    let paths = String::from_utf8(listed.stdout).expect("paths in UTF-8");
    let files = paths.split('\0').filter(|path| !path.is_empty());
    files
        .filter_map(|path| Some((path.to_owned(), fs::read_to_string(root().join(path)).ok()?)))
        .collect()
}

/// The shipped Rust files: not those of tests, which lie beside what they test.
fn sources() -> Vec<(String, String)> {
    let mut files = tracked();
    files.retain(|(path, _)| {
        let inside = path.split_once("/src/").map_or("", |(_, inside)| inside);
        let is_test = inside.split(['/', '.']).any(|part| part == "tests");
        path.starts_with("crates/") && is_rust(inside) && !is_test
    });
    assert!(files.len() > 20, "only {} sources found", files.len());
    files
}

fn is_rust(path: &str) -> bool {
    path.rsplit('.').next() == Some("rs")
}

fn is_code(path: &str) -> bool {
    let ending = path.rsplit(['.', '/']).next().unwrap_or_default();
    matches!(ending, "rs" | "py" | "sql" | "toml") || path.starts_with("scripts/")
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o111 != 0)
}

/// Returns the output of cargo metadata.
fn metadata() -> Value {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let asked = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo is there");
    serde_json::from_slice(&asked.stdout).expect("cargo metadata is JSON")
}

/// Returns the crates under crates/, each with its dependencies except dev-dependencies.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    let ours = packages.iter().filter(|package| {
        let manifest = package["manifest_path"].as_str().unwrap_or_default();
        manifest.contains("/crates/")
    });
    ours.map(|package| {
        let all = package["dependencies"].as_array().into_iter().flatten();
        let shipped = all.filter(|dependency| dependency["kind"] != "dev");
        let names = shipped.filter_map(|dependency| dependency["name"].as_str().map(str::to_owned));
        let name = package["name"].as_str().expect("a package has a name");
        (name.to_owned(), names.collect())
    })
    .collect()
}

/// Returns name, first line and length of each function with a body. Relies on rustfmt: a block ends at the next line
/// with the indentation of its first.
fn functions(text: &str) -> Vec<(String, usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let indentation = |line: &str| line.len() - line.trim_start().len();
    let mut found = Vec::new();
    for (first, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else {
            continue;
        };
        let depth = indentation(line);
        let is_end = |line: &&str| indentation(line) == depth && line.trim_start().starts_with('}');
        let is_bare = |line: &&str| indentation(line) == depth && line.ends_with(';');
        let rest = &lines[first..];
        let opens = rest
            .iter()
            .position(|line| line.ends_with('{') || line.ends_with('}') || is_bare(line));
        let Some(opens) = opens.filter(|at| rest[*at].ends_with('{')) else {
            continue;
        };
        if let Some(body) = rest[opens + 1..].iter().position(is_end) {
            found.push((name.to_owned(), first + 1, opens + body + 2));
        }
    }
    found
}

fn function_name(line: &str) -> Option<&str> {
    let mut words = line.trim_start();
    if words.starts_with("//") {
        return None;
    }
    while let Some((word, rest)) = words.split_once(' ') {
        match word {
            "fn" => {
                return rest
                    .split(|c: char| !(c.is_alphanumeric() || c == '_'))
                    .next();
            }
            "pub" | "pub(crate)" | "pub(super)" | "const" | "async" => words = rest,
            _ => return None,
        }
    }
    None
}

#[test]
fn function_lengths_are_measured_as_formatted() {
    let text = "\
trait T {
    fn bare(&self);
    fn long_and_bare(
        &self,
    ) -> u32;
    fn provided(&self) {}
}
pub(crate) async fn two<T>(
    a: T,
) -> u32
where
    T: Copy,
{
    if a {
        1
    }
}
";
    assert_eq!(functions(text), [("two".to_owned(), 8, 10)]);
}

/// The relative targets of a page's links, without anchors.
fn links(text: &str) -> Vec<&str> {
    let targets = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    let relative = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
    relative
        .map(|target| target.split('#').next().unwrap_or_default())
        .collect()
}

/// `target` as seen from `page`, from the root of the checkout.
fn resolve(page: &str, target: &str) -> String {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => _ = parts.pop(),
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

/// The lines within a page's fenced blocks.
fn blocks(text: &str) -> Vec<&str> {
    let fenced = text.split("```").skip(1).step_by(2);
    fenced.flat_map(|block| block.lines().skip(1)).collect()
}
