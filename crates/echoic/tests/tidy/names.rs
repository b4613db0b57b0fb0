//! Identifiers that pages name must be in the code, as members of the type that the page says.

use std::collections::BTreeSet;

use super::{is_rust, tracked};

#[test]
fn identifiers_named_in_docs_exist() {
    let files = tracked();
    let code: Vec<&str> = files
        .iter()
        .filter(|(path, _)| is_rust(path))
        .map(|(_, text)| text.as_str())
        .collect();
    let known: BTreeSet<&str> = code
        .iter()
        .flat_map(|text| text.split(|c| !is_name_char(c)))
        .collect();
    for (page, text) in files.iter().filter(|(path, _)| is_page(path)) {
        for word in text.split('`').skip(1).step_by(2) {
            let Some((of, name)) = word.rsplit_once("::") else {
                continue;
            };
            let mut parts = of.split("::").chain([name]);
            if !parts.clone().all(is_identifier) {
                continue;
            }
            let unknown = parts.find(|part| !known.contains(part));
            assert!(
                unknown.is_none(),
                "{page} names `{word}`, and {unknown:?} is not in the code: correct the page"
            );
            let of = of.rsplit("::").next().unwrap_or(of);
            // Modules, tests and types of other libraries (`str::to_uppercase`) are only looked up by name.
            let is_type = of.starts_with(|c: char| c.is_ascii_uppercase());
            // A superseded decision names what there was.
            let is_superseded = text.contains("\nSuperseded by ");
            assert!(
                !is_type || is_superseded || code.iter().any(|text| has_member(text, of, name)),
                "{page} names `{word}`, and no file that defines or implements {of} has a function, a variant or a \
                 field {name}: correct the page"
            );
        }
    }
}

fn is_page(path: &str) -> bool {
    let is_readme = path.starts_with("crates/") && path.ends_with("/README.md");
    path.starts_with("docs/") || is_readme || ["ARCHITECTURE.md", "README.md"].contains(&path)
}

/// Whether a file defines or implements the type and has a function, a variant or a field of that name.
fn has_member(code: &str, of: &str, name: &str) -> bool {
    let is_home = code.lines().any(|line| {
        let mut words = line.split(|c| !is_name_char(c));
        let is_definition = words.any(|word| ["impl", "enum", "struct", "trait"].contains(&word));
        is_definition && words.any(|word| word == of)
    });
    is_home && code.lines().any(|line| is_member(line, name))
}

/// Whether a line declares it: `pub async fn name(`, `Name,`, `Name(`, `pub name: `.
fn is_member(line: &str, name: &str) -> bool {
    let mut words = line.split(|c| !is_name_char(c)).filter(|w| !w.is_empty());
    if words.any(|word| word == "fn") {
        return words.next() == Some(name);
    }
    let line = line.trim_start();
    let visible = ["pub(crate) ", "pub(super) ", "pub "];
    let declared = visible
        .iter()
        .find_map(|visibility| line.strip_prefix(visibility))
        .unwrap_or(line);
    declared.strip_prefix(name).is_some_and(|rest| {
        rest.is_empty()
            || rest.starts_with([',', '(', ':']) && !rest.starts_with("::")
            || rest.starts_with(" {")
    })
}

fn is_identifier(part: &str) -> bool {
    !part.is_empty() && part.chars().all(is_name_char)
}

fn is_name_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[test]
fn members_are_recognized() {
    let code = "impl Link {\n    pub(crate) async fn close(&mut self) {\n    }\n}\nenum Phase {\n    Open,\n}\n";
    assert!(has_member(code, "Link", "close"));
    assert!(has_member(code, "Phase", "Open"));
    assert!(!has_member(code, "Link", "part"));
    assert!(!has_member(code, "Session", "close"));
}
