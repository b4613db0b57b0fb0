//! A PostgreSQL server for tests: in a temporary folder, on a free port, with an empty database for each test.
//!
//! It is stopped, and its folder removed, when the process ends that started it, in whatever way: a shell waits for the end of
//! a pipe that only that process holds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::missing_panics_doc, reason = "a test fails by panicking")]

use std::{
    fs::{self, Permissions},
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// The user of the server, and its password.
pub const USER: &str = "echoic";
/// See [`USER`].
pub const PASSWORD: &str = "a-secret-of-tests";

/// Time for the server to start on a busy machine.
const START: Duration = Duration::from_mins(2);

/// Runs the server until standard input ends. It prints the id of the server's process.
const SUPERVISE: &str = r#"
trap '' INT TERM HUP
as_user() { if [ "$(id -u)" = 0 ]; then exec setpriv --reuid=postgres --regid=postgres --init-groups "$@"; else exec "$@"; fi; }
as_user "$BIN/postgres" -D "$DIR/data" -p "$PORT" -k "$DIR" -c listen_addresses=127.0.0.1 -c fsync=off \
    -c full_page_writes=off -c shared_buffers=64MB -c max_connections=100 -c max_wal_size=256MB \
    -c log_min_messages=warning $OPTIONS </dev/null >"$DIR/log" 2>&1 3>&- &
server=$!
echo $server
cat >/dev/null
kill -CONT -- $(cat /proc/$server/task/$server/children 2>/dev/null) $server 2>/dev/null
kill -QUIT $server 2>/dev/null
wait $server
umount -l "$DIR" 2>/dev/null
rm -rf "$DIR"
"#;

/// Size of a small disk. The write-ahead log alone may take 256 MB.
const SMALL_DISK: &str = "size=600m";

/// A server that runs.
#[derive(Debug)]
pub struct Server {
    directory: PathBuf,
    port: u16,
    pid: u32,
    supervisor: Child,
    /// The server is stopped when this is closed.
    input: Option<ChildStdin>,
}

/// An empty database.
#[derive(Debug)]
pub struct Database {
    /// Its name.
    pub name: String,
    port: u16,
}

/// Returns a new database on the server of this process, which is started with the first. `None`, after saying that the test is
/// skipped, if PostgreSQL is not installed.
pub fn database() -> Option<Database> {
    static SHARED: OnceLock<Option<Server>> = OnceLock::new();
    let server = SHARED.get_or_init(|| programs().map(|_| Server::start("")));
    let Some(server) = server else {
        trials_skip::skip("PostgreSQL is not installed");
        return None;
    };
    Some(server.database())
}

/// Returns a server of its own, for a test that stops it.
pub fn server(options: &str) -> Option<Server> {
    if programs().is_none() {
        trials_skip::skip("PostgreSQL is not installed");
        return None;
    }
    Some(Server::start(options))
}

/// Returns a server with a small disk of its own, which [`Server::fill_disk`] fills. Only if [`can_mount`].
pub fn server_on_small_disk(options: &str) -> Option<Server> {
    if programs().is_none() {
        trials_skip::skip("PostgreSQL is not installed");
        return None;
    }
    let directory = new_directory();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", SMALL_DISK, "none"])
        .arg(&directory)
        .status()
        .unwrap();
    assert!(mounted.success(), "mount");
    Some(Server::start_in(&directory, options))
}

/// Whether this user may mount a disk.
pub fn can_mount() -> bool {
    let tried = Command::new("unshare")
        .args(["-m", "mount", "-t", "tmpfs", "none", "/mnt"])
        .stderr(Stdio::null())
        .status();
    is_root() && tried.is_ok_and(|status| status.success())
}

fn new_directory() -> PathBuf {
    TempDir::with_prefix("echoic-postgres-").unwrap().keep()
}

/// Returns the folder of PostgreSQL's programs. Debian has those of the server outside of the path.
pub fn programs() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"))
        .filter(|folder| folder.join("initdb").exists())
        .collect();
    found.sort();
    found.pop().or_else(|| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).find(|folder| folder.join("initdb").exists())
    })
}

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let of_user = |line: &&str| line.starts_with("Uid:");
    status
        .lines()
        .find(of_user)
        .and_then(|line| line.split_whitespace().nth(2))
        == Some("0")
}

/// Returns a command that runs as a user who may run a server: PostgreSQL refuses root.
fn command(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]);
    command.arg(program);
    command
}

impl Server {
    fn start(options: &str) -> Self {
        Self::start_in(&new_directory(), options)
    }

    fn start_in(directory: &Path, options: &str) -> Self {
        let programs = programs().expect("looked for before");
        fs::write(directory.join("password"), PASSWORD).unwrap();
        if is_root() {
            let (user, group) = ids_of_postgres();
            for path in [directory.to_owned(), directory.join("password")] {
                chown(&path, Some(user), Some(group)).unwrap();
            }
        }
        // The socket's folder: other users of the machine have no business in it.
        fs::set_permissions(directory, Permissions::from_mode(0o700)).unwrap();
        let made = command(&programs.join("initdb"))
            .arg("-D")
            .arg(directory.join("data"))
            .args(["-U", USER, "--auth=scram-sha-256", "--no-sync"])
            .args(["--locale=C", "--encoding=UTF8"])
            .arg("--pwfile")
            .arg(directory.join("password"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", text(&made.stderr));
        // Another program may take the port before the server does.
        for _ in 0..5 {
            if let Some(server) = Self::run(&programs, directory, options) {
                return server;
            }
        }
        let log = fs::read_to_string(directory.join("log")).unwrap_or_default();
        panic!("PostgreSQL does not start: {log}");
    }

    fn run(programs: &Path, directory: &Path, options: &str) -> Option<Self> {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        Self::run_at(programs, directory, options, port)
    }

    fn run_at(programs: &Path, directory: &Path, options: &str, port: u16) -> Option<Self> {
        let mut supervisor = Command::new("sh")
            .args(["-c", SUPERVISE])
            .env("BIN", programs)
            .env("DIR", directory)
            .env("PORT", port.to_string())
            .env("OPTIONS", options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let input = supervisor.stdin.take();
        let mut pid = String::new();
        let output = supervisor.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut pid).unwrap();
        let mut server = Self {
            directory: directory.to_owned(),
            port,
            pid: pid.trim().parse().unwrap(),
            supervisor,
            input,
        };
        if server.is_ready() {
            return Some(server);
        }
        // Without removing the folder: it is tried again.
        server.stop(true);
        None
    }

    /// Waits until it accepts connections. False if it has ended.
    fn is_ready(&self) -> bool {
        let began = Instant::now();
        loop {
            let state = fs::read_to_string(self.directory.join("data/postmaster.pid"));
            let state = state.unwrap_or_default();
            let is_ready = state
                .lines()
                .nth(7)
                .is_some_and(|line| line.trim() == "ready");
            if is_ready && state.starts_with(&self.pid.to_string()) {
                return true;
            }
            if !Path::new(&format!("/proc/{}", self.pid)).exists() || began.elapsed() > START {
                return false;
            }
            sleep(Duration::from_millis(20));
        }
    }

    /// Makes an empty database.
    pub fn database(&self) -> Database {
        static NAMES: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NAMES.fetch_add(1, Ordering::Relaxed));
        let database = Database {
            name,
            port: self.port,
        };
        let postgres = Database {
            name: "postgres".to_owned(),
            port: self.port,
        };
        postgres.psql(&format!("CREATE DATABASE {}", database.name));
        database
    }

    /// Writes a file into its data folder, readable for the server alone.
    pub fn install(&self, name: &str, content: &str) {
        let path = self.directory.join("data").join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        if is_root() {
            let (user, group) = ids_of_postgres();
            chown(&path, Some(user), Some(group)).unwrap();
        }
    }

    /// Stops it at once, as a crash of it would, and starts it again at the same port after `meanwhile`.
    pub fn restart(&mut self, options: &str, meanwhile: impl FnOnce()) {
        self.stop(true);
        meanwhile();
        let programs = programs().expect("looked for before");
        let began = Instant::now();
        while began.elapsed() < START {
            let started = Self::run_at(&programs, &self.directory, options, self.port);
            if let Some(mut started) = started {
                // The old one is stopped already.
                std::mem::swap(self, &mut started);
                started.input = None;
                return;
            }
        }
        panic!("PostgreSQL does not start again");
    }

    /// Fills its disk until `meanwhile` returns. It is started again if it has ended by then.
    pub fn fill_disk(&mut self, meanwhile: impl FnOnce()) {
        let ballast = self.directory.join("ballast");
        let mut file = fs::File::create(&ballast).unwrap();
        for block in [vec![0; 1 << 20], vec![0; 1 << 10]] {
            while file.write_all(&block).is_ok() {}
        }
        drop(file);
        meanwhile();
        fs::remove_file(&ballast).unwrap();
        // It recovers by itself, or could not and has ended.
        let began = Instant::now();
        while fs::read_link(format!("/proc/{}/exe", self.pid)).is_ok() && began.elapsed() < START {
            if self.is_answering() {
                return;
            }
            sleep(Duration::from_millis(50));
        }
        self.restart("", || {});
    }

    fn is_answering(&self) -> bool {
        let name = "postgres".to_owned();
        let port = self.port;
        Database { name, port }.try_psql("SELECT 1").is_ok()
    }

    /// Suspends all of its processes, or lets them go on.
    pub fn suspend(&self, suspended: bool) {
        let signal = if suspended { "-STOP" } else { "-CONT" };
        let children = format!("/proc/{0}/task/{0}/children", self.pid);
        let children = fs::read_to_string(children).unwrap_or_default();
        let mut kill = Command::new("kill");
        kill.arg(signal).arg(self.pid.to_string());
        kill.args(children.split_whitespace());
        kill.stderr(Stdio::null()).status().unwrap();
    }

    fn stop(&mut self, keeps: bool) {
        if keeps {
            Command::new("kill")
                .args(["-QUIT", &self.pid.to_string()])
                .status()
                .unwrap();
            let began = Instant::now();
            while Path::new(&format!("/proc/{}/exe", self.pid)).exists()
                && fs::read_link(format!("/proc/{}/exe", self.pid)).is_ok()
                && began.elapsed() < START
            {
                sleep(Duration::from_millis(10));
            }
            // The shell would remove the folder.
            self.supervisor.kill().unwrap();
        }
        drop(self.input.take());
        self.supervisor.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.input.is_some() {
            self.stop(false);
        }
    }
}

impl Database {
    /// Returns its URL, with the password.
    pub fn url(&self) -> String {
        self.url_of(USER, PASSWORD)
    }

    /// Returns its URL for another user.
    pub fn url_of(&self, user: &str, password: &str) -> String {
        let Self { name, port } = self;
        format!("postgres://{user}:{password}@127.0.0.1:{port}/{name}")
    }

    /// Returns the port of its server.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Executes SQL and returns what psql prints: columns separated by `|`.
    pub fn psql(&self, sql: &str) -> String {
        let done = self.try_psql(sql);
        done.unwrap_or_else(|why| panic!("{sql}: {why}"))
    }

    /// The same for a server that may be away.
    pub fn try_psql(&self, sql: &str) -> Result<String, String> {
        let run = Command::new("psql")
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"])
            .args(["-h", "127.0.0.1", "-U", USER, "-d", &self.name])
            .args(["-p", &self.port.to_string(), "-c", sql])
            .env("PGPASSWORD", PASSWORD)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        if !run.status.success() {
            return Err(text(&run.stderr));
        }
        Ok(text(&run.stdout).trim().to_owned())
    }
}

fn ids_of_postgres() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.starts_with("postgres:"));
    let mut ids = line.expect("the package makes it").split(':').skip(2);
    let mut next = || ids.next().unwrap().parse().unwrap();
    (next(), next())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_of_one_server_are_apart() {
        let (Some(one), Some(other)) = (database(), database()) else {
            return;
        };
        one.psql("CREATE TABLE a (b integer); INSERT INTO a VALUES (7)");
        assert_eq!(one.psql("SELECT b FROM a"), "7");
        assert_eq!(other.psql("SELECT to_regclass('a') IS NULL"), "t");
    }

    #[test]
    fn server_goes_on_after_a_restart_and_leaves_nothing() {
        let Some(mut server) = server("") else {
            return;
        };
        let database = server.database();
        database.psql("CREATE TABLE a (b integer)");
        server.restart("", || {});
        assert_eq!(database.psql("SELECT count(*) FROM a"), "0");
        let directory = server.directory.clone();
        drop(server);
        assert!(!directory.exists());
    }
}
