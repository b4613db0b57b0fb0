//! The programs in the documentation work: each is run as it is printed, against the servers that the page starts, and
//! must print the documented output.
//!
//! The info string of a fenced block selects its use: `sh serve` and `python serve` are servers left running, `sh run`
//! and `python run` are programs; an `input` block after one is its standard input, and an `output` block its standard
//! output, with `…` for parts that vary.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and may print what it saw"
)]

mod harness;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use self::harness::{Home, Lines, Serve, free_ports, kill, run, tool};

/// A fenced block of a page: its first line number, its info string, and its text.
#[derive(Debug)]
struct Block {
    line: usize,
    is: String,
    text: String,
}

fn page(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap();
    fs::read_to_string(root.join(name)).unwrap()
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut within = false;
    for (number, line) in page.lines().enumerate() {
        if let Some(is) = line.strip_prefix("```") {
            within = !within;
            if within {
                blocks.push(Block {
                    line: number + 1,
                    is: is.to_owned(),
                    text: String::new(),
                });
            }
        } else if within {
            let block = blocks.last_mut().unwrap();
            block.text += line;
            block.text.push('\n');
        }
    }
    assert!(!within, "a block is not closed");
    blocks
}

/// Whether `printed` matches `shown`, where `…` matches anything.
fn is_shown(printed: &str, shown: &str) -> bool {
    let parts: Vec<&str> = shown.split('…').collect();
    let [first, between @ .., last] = parts.as_slice() else {
        return printed == shown;
    };
    let Some(mut rest) = printed.strip_prefix(first) else {
        return false;
    };
    for part in between {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Replaces the page's ports by free ones, so that pages and other programs on this machine do not collide.
#[derive(Debug, Default)]
struct Ports(BTreeMap<&'static str, u16>);

impl Ports {
    fn new() -> Self {
        let shown = ["5000", "5001", "5002", "12345", "12346"];
        Self(shown.into_iter().zip(free_ports::<5>()).collect())
    }

    /// Whole numbers only: a free port may contain the digits of another.
    fn put_into(&self, text: &str) -> String {
        let (mut put, mut rest) = (String::new(), text);
        while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
            let (before, digits) = rest.split_at(at);
            let end = digits
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(digits.len());
            let (number, after) = digits.split_at(end);
            put += before;
            match self.0.get(number) {
                Some(free) => put += &free.to_string(),
                None => put += number,
            }
            rest = after;
        }
        put + rest
    }
}

/// A run of a page: the servers left running, and the directory.
struct Reader {
    home: Arc<Home>,
    ports: Ports,
    serves: Vec<Serve>,
    pythons: Vec<Child>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.pythons.iter_mut().for_each(kill);
    }
}

impl Reader {
    fn does(&mut self, block: &Block, input: &str) -> Option<String> {
        let text = self.ports.put_into(&block.text);
        match block.is.as_str() {
            "sh serve" => {
                self.serve(text.trim());
                None
            }
            "sh run" => Some(Self::run(self.shell(&text), input, block)),
            "python run" => Some(Self::run(self.python(&text), input, block)),
            "python serve" => {
                let mut server = self.python(&text).stdout(Stdio::piped()).spawn().unwrap();
                Lines::of(server.stdout.take().unwrap()).wait_for("listening");
                self.pythons.push(server);
                None
            }
            _ => None,
        }
    }

    fn serve(&mut self, line: &str) {
        // With default ports only, the tutorial's servers would collide with others on this machine.
        let line = match line {
            "echoic serve" => self
                .ports
                .put_into("echoic serve upper=:5000 upper=udp://:5000 greet=:12345"),
            line => line.to_owned(),
        };
        let line = format!("{line} --print");
        let words: Vec<&str> = line.split(' ').skip(2).collect();
        let command = self.shell(&format!("exec {line}"));
        self.serves.push(Serve::from(&self.home, &words, command));
    }

    fn run(mut command: Command, input: &str, block: &Block) -> String {
        let ran = run(&mut command, input.as_bytes());
        assert_eq!(ran.code, Some(0), "line {}: {ran:?}", block.line);
        String::from_utf8(ran.out).unwrap()
    }

    fn shell(&self, line: &str) -> Command {
        let mut shell = Command::new("sh");
        self.settle(&mut shell);
        shell.args(["-c", line]);
        shell
    }

    fn python(&self, text: &str) -> Command {
        let mut python = tool("python3", "python3");
        self.settle(&mut python);
        python.args(["-c", text]);
        python
    }

    /// Returns a command in the page's directory, with echoic on the path.
    fn settle(&self, command: &mut Command) {
        self.home.settle(command);
        let bin = Path::new(env!("CARGO_BIN_EXE_echoic")).parent().unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", bin.display()));
    }
}

#[test]
fn tutorial_programs_print_what_the_page_shows() {
    let blocks = blocks(&page("docs/tutorial.md"));
    let mut reader = Reader {
        home: Arc::new(Home::new()),
        ports: Ports::new(),
        serves: Vec::new(),
        pythons: Vec::new(),
    };
    let mut programs = 0;
    for (at, block) in blocks.iter().enumerate() {
        let next = |ahead: usize| blocks.get(at + ahead).map_or("", |block| block.is.as_str());
        let (input, output) = if next(1) == "input" {
            (Some(at + 1), at + 2)
        } else {
            (None, at + 1)
        };
        let input = input.map_or("", |at| blocks[at].text.as_str());
        let Some(printed) = reader.does(block, input) else {
            continue;
        };
        programs += 1;
        let shown = blocks.get(output).filter(|block| block.is == "output");
        let shown = shown.map_or(String::new(), |block| reader.ports.put_into(&block.text));
        assert!(
            is_shown(&printed, &shown),
            "docs/tutorial.md, line {}: it printed\n{printed}\nand the page shows\n{shown}",
            block.line
        );
    }
    assert!(programs >= 20, "only {programs} programs were found");
}

#[test]
fn every_tutorial_block_has_a_known_kind() {
    let known = [
        "sh serve",
        "python serve",
        "sh run",
        "python run",
        "input",
        "output",
        "mermaid",
    ];
    for Block { line, is, .. } in blocks(&page("docs/tutorial.md")) {
        assert!(
            known.contains(&is.as_str()),
            "line {line}: a block is {is:?}, not one of {known:?}"
        );
    }
}

#[test]
fn server_of_a_test_ends_with_its_standard_input() {
    let page = page("docs/how-to-run-a-server.md");
    let (_, program) = page.split_once("```python\n").unwrap();
    let (program, _) = program.split_once("```").unwrap();
    let reader = Reader {
        home: Arc::new(Home::new()),
        ports: Ports::default(),
        serves: Vec::new(),
        pythons: Vec::new(),
    };
    let printed = run(&mut reader.python(program), b"").good();
    assert_eq!(printed, "HELLO\ncode 0\n");
}

#[test]
fn output_comparison_supports_ellipsis() {
    for (printed, shown) in [
        ("a\n", "a\n"),
        ("1 ms x\n", "… ms x\n"),
        ("ab", "a…b"),
        ("a1b2c", "a…b…c"),
        ("", "…"),
    ] {
        assert!(is_shown(printed, shown), "{printed:?} {shown:?}");
    }
    for (printed, shown) in [
        ("a\n", ""),
        ("", "a\n"),
        ("ab", "a…c"),
        ("ba", "a…b"),
        ("a", "a…a"),
    ] {
        assert!(!is_shown(printed, shown), "{printed:?} {shown:?}");
    }
}

/// The names of test files, without extension.
fn tests(dir: &Path, found: &mut BTreeMap<String, Vec<PathBuf>>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            found.entry(name).or_default().push(path);
        }
    }
}

#[test]
fn tests_named_in_the_tutorial_exist() {
    let mut files = BTreeMap::new();
    tests(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"),
        &mut files,
    );
    let page = page("docs/tutorial.md");
    let mut named = 0;
    for (file, test) in page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|code| code.split_once("::"))
    {
        let Some(paths) = files.get(file) else {
            continue;
        };
        named += 1;
        let has = |path: &PathBuf| {
            fs::read_to_string(path)
                .unwrap()
                .contains(&format!("fn {test}()"))
        };
        assert!(
            paths.iter().any(has),
            "docs/tutorial.md names {file}::{test}, which is not there"
        );
    }
    assert!(named >= 20, "only {named} tests are named");
}
