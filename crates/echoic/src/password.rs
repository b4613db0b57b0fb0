//! Passwords of databases that a URL does not contain: from the environment, or from a password file, as psql finds them.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::term;

/// What a password belongs to.
#[derive(Clone, Copy)]
pub(crate) struct Login<'a> {
    /// Name of the host, or the folder of its Unix socket.
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    pub(crate) database: Option<&'a str>,
    pub(crate) user: Option<&'a str>,
}

/// Returns the password of `PGPASSWORD`, or of the password file (`PGPASSFILE`, else `~/.pgpass`).
pub(crate) fn of(login: Login<'_>) -> Option<String> {
    let given = env::var("PGPASSWORD").ok();
    let given = given.filter(|password| !password.is_empty());
    given.or_else(|| in_file(login))
}

fn in_file(login: Login<'_>) -> Option<String> {
    let named = env::var_os("PGPASSFILE").map(PathBuf::from);
    let path = named.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".pgpass")))?;
    found(&read(&path)?, login)
}

/// Reads the file. One that others may read is ignored, with a warning, as psql ignores it.
fn read(path: &Path) -> Option<String> {
    const OTHERS: u32 = 0o077;
    let mode = fs::metadata(path).ok()?.permissions().mode();
    if mode & OTHERS != 0 {
        let path = path.display();
        term::note(&format!(
            "echoic: {path} is ignored, since others may read it: chmod 600 {path}"
        ));
        return None;
    }
    fs::read_to_string(path).ok()
}

/// Returns the password of the first line that matches: `host:port:database:user:password`, where `*` matches anything and a
/// backslash precedes a colon or a backslash.
fn found(text: &str, login: Login<'_>) -> Option<String> {
    let port = login.port.to_string();
    let wanted = [Some(login.host), Some(&port), login.database, login.user];
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .find_map(|line| {
            let fields = fields(line);
            let [of_login @ .., password] = fields.as_slice() else {
                return None;
            };
            let matches = |(field, wanted): (&String, Option<&str>)| {
                field == "*" || wanted.is_some_and(|wanted| field == wanted)
            };
            let all = of_login.len() == 4 && of_login.iter().zip(wanted).all(matches);
            all.then(|| password.clone())
        })
}

fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut chars) = (vec![String::new()], line.chars());
    while let Some(c) = chars.next() {
        let is_last = fields.len() == 5;
        let field = fields.last_mut().expect("invariant: never empty");
        match c {
            '\\' => field.extend(chars.next()),
            ':' if !is_last => fields.push(String::new()),
            c => field.push(c),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_file_gives_the_password_of_the_first_matching_line() {
        let login = |host: &'static str, user: &'static str| Login {
            host,
            port: 5432,
            database: Some("echoic"),
            user: Some(user),
        };
        let text = "# a comment\nother:*:*:me:no\ndb:5432:echoic:me:a\\:b\\\\c:d\n*:*:*:you:yours\nbad line\n";
        assert_eq!(found(text, login("db", "me")).as_deref(), Some("a:b\\c:d"));
        assert_eq!(
            found(text, login("elsewhere", "you")).as_deref(),
            Some("yours")
        );
        assert_eq!(found(text, login("elsewhere", "me")), None);
        assert_eq!(found("db:5432:echoic", login("db", "me")), None);
    }
}
