//! A record with exchanges at times of our choice.

use std::sync::Arc;

use crate::harness::{Home, Serve, Talk, python};

/// Records these lines as exchanges of `upper`, one after the other.
pub(crate) fn of_lines(lines: &[&str]) -> Arc<Home> {
    let serve = Serve::start(&["upper=:0", "--frame", "line"]);
    let home = serve.home.clone();
    let mut talk = Talk::to(serve.at[0]);
    for line in lines {
        talk.ask(format!("{line}\n"), format!("{}\n", line.to_uppercase()));
    }
    drop(talk.finish());
    serve.stop();
    home
}

/// Records an exchange for each time, in microseconds since 1970. The request is its number, from 1.
pub(crate) fn at_times(times: &[i64]) -> Arc<Home> {
    const WRITER: &str = "
import sqlite3, sys
record = sqlite3.connect(sys.argv[1])
for id, at in enumerate(sys.argv[2:], 1):
    assert record.execute('UPDATE run SET at = ? WHERE id = ?', (int(at), id)).rowcount == 1
record.execute('UPDATE conversation SET opened = ?', (int(sys.argv[2]),))
record.commit()
";
    let lines: Vec<String> = (1..=times.len()).map(|n| n.to_string()).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let home = of_lines(&lines);
    let store = home.store();
    let store = store.display();
    let mut args: Vec<&dyn std::fmt::Display> = vec![&store];
    args.extend(times.iter().map(|at| at as &dyn std::fmt::Display));
    python(WRITER, &args, "").good();
    home
}
