//! The file: opening it, and setting it aside if it is damaged.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _};

/// The layout of the tables; a file of a later one is left alone.
const VERSION: i64 = 1;

/// How long one connection waits for another.
const PATIENCE: Duration = Duration::from_secs(5);

/// Damaged files that are kept.
const SET_ASIDE: usize = 3;

// Small numbers stand for rules and ends, so that a row takes some 30 bytes. 0 is an end that is not known, and no rule.
const TABLES: &str = "
    CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE ends (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL, address TEXT NOT NULL, UNIQUE (name, address)
    ) STRICT;
    INSERT INTO ends VALUES (0, '', '');
    CREATE TABLE rules (
        id INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL UNIQUE, number INTEGER NOT NULL, name TEXT, position TEXT,
        since INTEGER NOT NULL, in_force INTEGER NOT NULL, packets INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE days (day INTEGER PRIMARY KEY, looks INTEGER NOT NULL) STRICT;
    CREATE TABLE use_by_day (
        day INTEGER, rule INTEGER, source INTEGER, destination INTEGER, port INTEGER, protocol INTEGER, verdict INTEGER,
        count INTEGER NOT NULL, last INTEGER NOT NULL,
        PRIMARY KEY (day, rule, source, destination, port, protocol, verdict)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE use_in_all (
        rule INTEGER, source INTEGER, destination INTEGER, port INTEGER, protocol INTEGER, verdict INTEGER,
        count INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
        PRIMARY KEY (rule, source, destination, port, protocol, verdict)
    ) STRICT, WITHOUT ROWID;";

/// Why there is no history.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SQLite refused.
    #[error("{path}: {error}", path = .path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Its words.
        error: rusqlite::Error,
    },
    /// The file system did.
    #[error("{path}: {error}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Its words.
        error: io::Error,
    },
    /// It is no history, or not whole.
    #[error("{path}: {what}", path = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A later version wrote it.
    #[error("{path}: its layout is {found}, and this version knows {VERSION}; use the version that wrote it, or move it away", path = .path.display())]
    Later {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: i64,
    },
}

impl Error {
    /// Whether the file itself is at fault, so that a new one would do.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Refused { error, .. } => {
                let by_code = |code| matches!(code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase);
                error.sqlite_error_code().is_some_and(by_code)
            }
            Self::Damaged { .. } => true,
            Self::Io { .. } | Self::Later { .. } => false,
        }
    }
}

/// A damaged file that a new one has taken the place of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Where it is now.
    pub path: PathBuf,
    /// What was wrong with it.
    pub why: String,
}

/// The history of one node, to write to.
pub struct History {
    pub(crate) connection: Connection,
    pub(crate) path: PathBuf,
    /// Rules that were used in the batch before.
    pub(crate) used_before: HashSet<String>,
    /// When rules were used last, as far as it was asked for: s since the Unix epoch.
    pub(crate) last_used: HashMap<String, u64>,
}

impl History {
    /// Opens a node's history at a time (s since the Unix epoch), or begins one. A damaged one is set aside, and said.
    ///
    /// # Errors
    /// The disk or SQLite refuses, or a later version wrote it.
    pub fn open(path: &Path, node: &str, now: u64) -> Result<(Self, Option<SetAside>), Error> {
        match Self::open_whole(path, node) {
            Err(error) if error.is_damage() => {
                let moved = set_aside(path, now).map_err(|error| Error::Io { path: path.into(), error })?;
                let aside = SetAside { path: moved, why: error.to_string() };
                Ok((Self::open_whole(path, node)?, Some(aside)))
            }
            opened => Ok((opened?, None)),
        }
    }

    fn open_whole(path: &Path, node: &str) -> Result<Self, Error> {
        let refused = |error| Error::Refused { path: path.into(), error };
        let connection = Connection::open(path).map_err(refused)?;
        connection.busy_timeout(PATIENCE).map_err(refused)?;
        let damaged = |what: String| Error::Damaged { path: path.into(), what };
        let found: Option<String> = connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .optional()
            .map_err(refused)?;
        match found.as_deref() {
            Some("ok") => {}
            found => return Err(damaged(found.unwrap_or("it cannot be checked").to_owned())),
        }
        let tables = "SELECT count(*) FROM sqlite_schema WHERE type = 'table'";
        let is_new = connection.query_row(tables, [], |row| row.get::<_, i64>(0)).map_err(refused)? == 0;
        // Nothing is written to a file of another version.
        if !is_new {
            check_version(&connection, path)?;
        }
        prepare(&connection, node, is_new).map_err(refused)?;
        Ok(Self { connection, path: path.into(), used_before: HashSet::new(), last_used: HashMap::new() })
    }

    pub(crate) fn refused(&self) -> impl Fn(rusqlite::Error) -> Error + use<> {
        let path = self.path.clone();
        move |error| Error::Refused { path: path.clone(), error }
    }
}

/// Opens a file to read alone; what an agent writes meanwhile does no harm.
pub(crate) fn open_to_read(path: &Path) -> Result<Connection, Error> {
    let refused = |error| Error::Refused { path: path.into(), error };
    // Not read-only: a reader of a file with a write-ahead log shares memory with the writer. Nothing is created.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(refused)?;
    connection.busy_timeout(PATIENCE).map_err(refused)?;
    connection.pragma_update(None, "query_only", true).map_err(refused)?;
    check_version(&connection, path)?;
    Ok(connection)
}

fn check_version(connection: &Connection, path: &Path) -> Result<(), Error> {
    let ask = "SELECT value FROM about WHERE name = 'layout'";
    let found: Result<String, _> = connection.query_row(ask, [], |row| row.get(0));
    let found = found.map_err(|error| match error.sqlite_error_code() {
        // The table is missing, or its row: whoever wrote it did not finish, or it is another's database.
        None | Some(ErrorCode::Unknown) => Error::Damaged {
            path: path.into(),
            what: format!("it does not say which layout it has: {error}"),
        },
        Some(_) => Error::Refused { path: path.into(), error },
    })?;
    match found.parse() {
        Ok(VERSION) => Ok(()),
        found => Err(Error::Later { path: path.into(), found: found.unwrap_or(-1) }),
    }
}

fn prepare(connection: &Connection, node: &str, is_new: bool) -> rusqlite::Result<()> {
    if is_new {
        // Space of deleted days is given back: the file's size is bounded.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // A power cut loses the last minutes at most, and damages nothing.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    if is_new {
        let layout = format!("INSERT INTO about VALUES ('layout', '{VERSION}');");
        connection.execute_batch(&format!("BEGIN; {TABLES} {layout} COMMIT;"))?;
    }
    connection.execute("INSERT OR REPLACE INTO about VALUES ('node', ?1)", [node])?;
    Ok(())
}

/// Gives a damaged file another name, and with it what belongs to it.
fn set_aside(path: &Path, now: u64) -> io::Result<PathBuf> {
    let named = |end: &str| {
        let mut name = OsString::from(path);
        name.push(end);
        PathBuf::from(name)
    };
    let moved = named(&format!(".damaged-{now}"));
    fs::rename(path, &moved)?;
    for end in ["-wal", "-shm"] {
        match fs::rename(named(end), named(&format!(".damaged-{now}{end}"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    forget_oldest(path)?;
    Ok(moved)
}

/// A disk that damages again and again is not filled.
fn forget_oldest(path: &Path) -> io::Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let start = format!("{}.damaged-", name.to_string_lossy());
    let mut found: Vec<(u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let when = name.strip_prefix(&start).map(|rest| rest.split('-').next().unwrap_or(rest));
        if let Some(when) = when.and_then(|when| when.parse().ok()) {
            found.push((when, entry.path()));
        }
    }
    let mut times: Vec<u64> = found.iter().map(|(when, _)| *when).collect();
    times.sort_unstable();
    times.dedup();
    let keep = &times[times.len().saturating_sub(SET_ASIDE)..];
    found.iter().filter(|(when, _)| !keep.contains(when)).try_for_each(|(_, path)| fs::remove_file(path))
}
